"""Compare the clips of a set with each other: what is doubled, what is torn over splits, what does not fit the rest."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher

from tubelet.data.examination import Examination, Problem
from tubelet.data.fingerprints import find_near_duplicates
from tubelet.data.manifest import UNSPLIT, Manifest
from tubelet.data.sample import Sample, quote_some

__all__ = ["compare_channels", "compare_content", "compare_groups", "doubt_classes"]

FEW_CLIPS = 5
IMBALANCE = 10
_ALIKE = 0.8
"""Least likeness of two class names, from 0 to 1, for the rarer one to be called a misspelling."""
_TYPO_CLIPS = 3
"""Most clips of a class whose name may be a misspelling of one with three times as many."""
_TYPO_SHARE = 0.1
"""Or its most clips as a share of those of the other."""
_RECORDINGS = ("source", "source_video", "video", "video_id", "recording", "patient", "subject", "person", "scene")
"""Columns that usually name what must not be spread over splits."""


def compare_channels(examinations: Sequence[Examination]) -> Iterator[Problem]:
    """Name the clips that no model could take together with most of the others."""
    found = [(own.source, own.info.channels) for own in examinations if own.info is not None]
    usual = Counter(channels for _, channels in found).most_common(1)
    for source, channels in found:
        if channels != usual[0][0]:
            message = f"cannot use {source!r} - it has {channels} channels, most clips have {usual[0][0]}"
            yield Problem(source, "channels", f"{message} - convert it, or keep it in a set of its own.")


def compare_content(samples: Sequence[Sample], examinations: Sequence[Examination]) -> Iterator[Problem]:
    """Name clips that show the same: an error where they are in different splits or classes, else odd.

    Each clip is named once, with the earlier one that makes it worst.
    """
    first: dict[str, int] = {}
    exact = set()
    for index, own in enumerate(examinations):
        earlier = first.setdefault(own.digest, index) if own.digest else index
        if earlier != index and not _share_pixels(samples[earlier], samples[index]):
            exact.add(index)
            yield _compare_pair(samples[earlier], samples[index], "duplicate", "is the same as")
    known = [index for index, own in enumerate(examinations) if own.fingerprint is not None and index not in exact]
    prints = [own.fingerprint for own in (examinations[index] for index in known) if own.fingerprint is not None]
    worst: dict[int, Problem] = {}
    kinds = [(samples[index].split, samples[index].label) for index in known]
    for a, b in find_near_duplicates(prints, kinds):
        if _share_pixels(samples[known[a]], samples[known[b]]):
            continue
        problem = _compare_pair(samples[known[a]], samples[known[b]], "near_duplicate", "shows the same pictures as")
        if b not in worst or (problem.is_error and not worst[b].is_error):
            worst[b] = problem
    yield from (worst[index] for index in sorted(worst))


def _share_pixels(one: Sample, other: Sample) -> bool:
    """Tell whether two samples are parts of one video, or one row: what contradicts itself there is named elsewhere."""
    return one.video == other.video


def _compare_pair(earlier: Sample, later: Sample, code: str, what: str) -> Problem:
    reasons: list[str] = []
    endings: list[str] = []
    dropped: tuple[str, ...] = (later.name,)
    if earlier.split != later.split:
        reasons.append(f"one is in {earlier.split or UNSPLIT}, the other in {later.split or UNSPLIT}")
        endings.append("across_splits")
    if earlier.label != later.label:
        reasons.append(f"one is called '{earlier.label}', the other '{later.label}'")
        endings.append("with_other_label")
        dropped = (earlier.name, later.name)
    advice = "keep the one that is labelled right" if earlier.label != later.label else "keep one of them"
    reason = " and ".join(reasons) or "it counts twice"
    message = f"{later.name!r} {what} {earlier.name!r}: {reason} - {advice}."
    name = "_".join([code, *endings[:1]])
    return Problem(later.name, name, message, bool(reasons), (earlier.name,), dropped if reasons else ())


def compare_groups(manifest: Manifest) -> Iterator[Problem]:
    """Name the groups, and the videos of which parts are labelled, that are torn over splits."""
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in manifest.samples:
        if sample.group is not None:
            groups.setdefault(("group", sample.group), []).append(sample)
        if sample.row is None:
            groups.setdefault(("video", sample.video), []).append(sample)
    for (kind, name), members in groups.items():
        counts = Counter(sample.split for sample in members)
        if len(counts) == 1 or len({sample.name for sample in members}) == 1:
            continue
        home = counts.most_common(1)[0][0]
        strays = tuple(sample.name for sample in members if sample.split != home)
        held = ", ".join(f"{count} in {split or UNSPLIT}" for split, count in sorted(counts.items(), key=str))
        message = f"the clips of {kind} '{name}' are torn over splits ({held}): what is tested was learned"
        advice = "'tubelet data split' keeps groups together"
        others = tuple(sample.name for sample in members if sample.split == home)[:1]
        yield Problem(strays[0], f"{kind}_leak", f"{message} - {advice}.", True, others, strays)


def doubt_classes(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Name what is odd about class names, their counts and unused columns, as (code, text)."""
    totals = Counter(label for sample in manifest.samples for label in sample.labels)
    largest, smallest = totals.most_common(1)[0], totals.most_common()[-1]
    few = [f"{name} ({count})" for name, count in sorted(totals.items()) if count < FEW_CLIPS]
    if few:
        yield "few_clips", f"{len(few)} classes have fewer than {FEW_CLIPS} clips, too few to learn: {quote_some(few)}."
    if largest[1] >= IMBALANCE * smallest[1]:
        yield (
            "imbalance",
            f"'{largest[0]}' has {largest[1]:,} clips, {largest[1] / smallest[1]:.0f} times those of '{smallest[0]}': "
            "read macro F1, not accuracy.",
        )
    yield from (("label_typo", text) for text in _find_typos(totals))
    for name in _find_torn_columns(manifest):
        yield (
            "unused_group",
            f"values of the column '{name}' are in several splits; if they name recordings, '--group-by {name}'.",
        )


def _find_typos(totals: "Counter[str]") -> Iterator[str]:
    """Name classes whose names are those of others but for what people leave out, or rare and nearly the same."""
    names = sorted(totals, key=lambda name: (-totals[name], name))
    for place, name in enumerate(names):
        for usual in names[:place]:
            if _squeeze(name) == _squeeze(usual) or _is_misspelt(name, usual, totals):
                yield f"class '{name}' ({totals[name]} clips) may be a misspelling of '{usual}' ({totals[usual]})."
                break


def _is_misspelt(name: str, usual: str, totals: Mapping[str, int]) -> bool:
    rare = totals[name] <= _TYPO_SHARE * totals[usual] or (
        totals[name] <= _TYPO_CLIPS and totals[usual] >= 3 * totals[name]
    )
    # Names that differ in a number mean it: level1, level2.
    if not rare or re.sub(r"\d", "", name) == re.sub(r"\d", "", usual):
        return False
    first, second = _squeeze(name), _squeeze(usual)
    if any(one in (f"no{other}", f"non{other}", f"not{other}") for one, other in ((first, second), (second, first))):
        return False  # the opposite is meant
    swapped = len(first) == len(second) > 3 and sorted(first) == sorted(second)
    if swapped and sum(a != b for a, b in zip(first, second, strict=True)) == 2:
        return True
    return SequenceMatcher(None, first, second, autojunk=False).ratio() > _ALIKE


def _squeeze(name: str) -> str:
    """Take from a name what people leave out or change without meaning another class, a plural's last s included."""
    plain = re.sub(r"[^\w]|_", "", unicodedata.normalize("NFKC", name).casefold())
    return re.sub(r"(?<=[^s\W\d])s$", "", plain) if len(plain) > 3 else plain


def _find_torn_columns(manifest: Manifest) -> Iterator[str]:
    """Name the columns that look like recordings, were not grouped by, and have values in several splits."""
    for name in _RECORDINGS:
        splits: dict[str, set[str | None]] = {}
        for sample in manifest.samples:
            value = sample.metadata.get(name)
            if value and sample.group != value:
                splits.setdefault(value, set()).add(sample.split)
        if any(len(own) > 1 for own in splits.values()):
            yield name
