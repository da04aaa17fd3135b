"""Divide samples into train, val and test: whole groups, each class in proportion, the same on every machine.

    samples -> groups (one recording each) -> spread over splits, largest first -> single moves until none helps

A group is never torn, and neither is a video of which parts are labelled: clips of one recording look alike, and a
model that has seen one of them in training recognizes the others without having learned the class. Where parts of one
video are in different groups, those groups are joined. The result depends on the names, groups and seed alone; not on
the order of the rows, the folder they lie in, or the version of a random generator.

Clips of several classes count in each of them, by the same greedy search and moves. Iterative stratification (Sechidis
et al. 2011) places single clips, rarest label first; here a group brings many labels at once.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample, quote_some
from tubelet.errors import ConfigError, DataError

__all__ = ["choose_folds", "fold_manifest", "split_manifest"]

_MAX_PASSES = 20
_CLIP = ""
"""Counts clips among the labels, so that parts keep their share of clips as of each class; no class is called so."""


def split_manifest(manifest: Manifest, *, val: float = 0.15, test: float = 0.15, seed: int = 42) -> Manifest:
    """Give every sample a split; splits that the data states are kept.

    - No split stated: all three are chosen.
    - `train` stated, `val` not: `val` is taken out of `train` (the share counts from `train`); `test` stays as stated,
      empty where it is not.
    - `train` and `val` stated, or no `train`: nothing changes. A missing `test` stays empty: taking it out of what
      others have trained or tuned on would make it worthless.

    Args:
        manifest: with a split for all samples or for none.
        val: share for choosing the best epoch, 0 to below 1; 0 for none.
        test: share for the final figure; only used where no split is stated.
        seed: gives other, equally good splits.

    Raises:
        ConfigError: shares below 0, or together 1 or more.
        DataError: a split for some samples only, or too few groups to fill the splits.

    Cost: about 3 s for 100,000 samples.
    """
    if val < 0 or test < 0 or val + test >= 1:
        raise ConfigError(f"val + test must stay below 1 - found {val} + {test} - leave some samples to train on.")
    stated = {sample.split for sample in manifest.samples}
    if None in stated and len(stated) > 1:
        undecided = sum(sample.split is None for sample in manifest.samples)
        raise DataError(
            f"cannot split '{manifest.origin}' - {undecided} of {len(manifest.samples)} samples have no split, the "
            "others do - state it for all, or for none."
        )
    if stated == {None}:
        shares = {"train": 1.0 - val - test, "val": val, "test": test}
        return _divide(manifest, manifest.samples, shares, seed)
    if "train" in stated and "val" not in stated and val > 0:
        return _divide(manifest, manifest.select("train"), {"train": 1.0 - val, "val": val}, seed)
    return manifest


def fold_manifest(manifest: Manifest, folds: int, fold: int, *, seed: int = 42) -> Manifest:
    """Make one fold of a cross-validation over groups: one part in `folds` is `test`, the rest `train`.

    Splits that the data states are given up: every sample is tested once over all folds. Where validation is wanted,
    `split_manifest` takes it out of `train`.

    Args:
        manifest: all samples are used.
        folds: how many parts, 2 or more.
        fold: which part is tested, 0 to folds - 1.
        seed: gives other parts; the same for all folds of one cross-validation.

    Raises:
        ConfigError: a number of folds below 2, or a fold that is not there.
        DataError: fewer groups than folds.
    """
    if folds < 2 or not 0 <= fold < folds:
        raise ConfigError(f"fold must be 0 to folds - 1, folds 2 or more - found fold {fold} of {folds}.")
    chosen = choose_folds(manifest, folds, seed=seed)
    samples = tuple(
        replace(sample, split="test" if own == fold else "train")
        for sample, own in zip(manifest.samples, chosen, strict=True)
    )
    return replace(manifest, samples=samples)


def choose_folds(manifest: Manifest, folds: int, *, seed: int = 42) -> tuple[int, ...]:
    """Choose for each sample the fold of a cross-validation in which it is tested, 0 to folds - 1.

    Raises:
        ConfigError: a number of folds below 2.
        DataError: fewer groups than folds.
    """
    if folds < 2:
        raise ConfigError(f"folds must be 2 or more - found {folds} - ask for 5, say.")
    parts = {str(index): 1.0 / folds for index in range(folds)}
    chosen = _assign(manifest, manifest.samples, parts, seed)
    return tuple(int(chosen[_group_of(manifest, sample)]) for sample in manifest.samples)


def _divide(manifest: Manifest, samples: Sequence[Sample], shares: Mapping[str, float], seed: int) -> Manifest:
    """Give these samples new splits; the others keep theirs."""
    wanted = {split: share for split, share in shares.items() if share > 0}
    chosen = _assign(manifest, samples, wanted, seed)
    former = samples[0].split
    divided = tuple(
        replace(sample, split=chosen[_group_of(manifest, sample)]) if sample.split == former else sample
        for sample in manifest.samples
    )
    notes = [*_report(manifest, samples, len(wanted)), *_report_shares(samples, chosen, manifest, wanted)]
    return replace(manifest, samples=divided, notes=(*manifest.notes, *notes))


def _report_shares(
    samples: Sequence[Sample], chosen: Mapping[str, str], manifest: Manifest, wanted: Mapping[str, float]
) -> list[str]:
    """Name the splits that are far from their share because no group is torn."""
    groups = Counter(_group_of(manifest, sample) for sample in samples)
    held: Counter[str] = Counter()
    for name, count in groups.items():
        held[chosen[name]] += count
    largest, count = groups.most_common(1)[0]
    if count == 1:
        return []
    return [
        f"'{split}' has {held[split] / len(samples):.0%} of the clips in place of {share:.0%}, because groups are "
        f"never torn; the largest, {largest}, has {count}"
        for split, share in wanted.items()
        if abs(held[split] / len(samples) - share) > 0.5 * share
    ]


def _report(manifest: Manifest, samples: Sequence[Sample], parts: int) -> list[str]:
    """Name the classes that no division into so many parts could bring into each of them."""
    united = _unite(manifest, samples)
    groups: dict[str, set[str]] = {}
    for sample in samples:
        for label in sample.labels:
            groups.setdefault(label, set()).add(united[_group_of(manifest, sample)])
    few = [name for name in manifest.classes if 0 < len(groups.get(name, ())) < parts]
    if not few:
        return []
    return [
        f"{len(few)} of {len(groups)} classes have too few groups to be in each of {parts} splits: {quote_some(few)}"
    ]


def _group_of(manifest: Manifest, sample: Sample) -> str:
    """Name what the sample itself says that it must stay together with: its group, else its video."""
    return _video_of(manifest, sample) if sample.group is None else f"group {sample.group}"


def _video_of(manifest: Manifest, sample: Sample) -> str:
    """Name the video, or the row of an array file, that the sample is a part of."""
    whole = sample if sample.start_s is None and sample.end_s is None else replace(sample, start_s=None, end_s=None)
    return f"source {manifest.short_name(whole)}"


def _unite(manifest: Manifest, samples: Sequence[Sample]) -> dict[str, str]:
    """Join groups that hold parts of one video: each group's own name to the name that all joined groups share.

    The shared name is the first of theirs, so that it depends on the names alone.

    Source: disjoint sets with path halving, Tarjan and van Leeuwen 1984, doi:10.1145/62.2160.
    """
    parents: dict[str, str] = {}

    def find(name: str) -> str:
        parents.setdefault(name, name)
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    for sample in samples:
        first, second = sorted((find(_group_of(manifest, sample)), find(_video_of(manifest, sample))))
        parents[second] = first
    return {name: find(name) for name in parents}


def _assign(manifest: Manifest, samples: Sequence[Sample], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Choose a part for each group so that each class has its share in each part."""
    united = _unite(manifest, samples)
    groups: dict[str, Counter[str]] = {}
    # In the order of labels: sums of the same numbers in another order may differ in the last digit, and decide a tie.
    for sample in sorted(samples, key=lambda sample: sample.label):
        groups.setdefault(united[_group_of(manifest, sample)], Counter()).update((_CLIP, *sample.labels))
    if len(groups) < len(shares):
        kind = "groups" if any(sample.group is not None for sample in samples) else "videos"
        raise DataError(
            f"cannot divide '{manifest.origin}' into {len(shares)} parts - there are {len(samples)} samples in "
            f"{len(groups)} {kind}, and no group is torn - give more, or another column to group by."
        )
    # A hash in place of a random generator: the order of equals stays the same across versions and added samples.
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{seed} {name}".encode("utf-8", "replace")).digest())
    totals: Counter[str] = Counter()
    for content in groups.values():
        totals.update(content)
    balance = _Balance(totals, shares)
    chosen: dict[str, str] = {}
    for name in sorted(order, key=lambda name: -groups[name].total()):
        chosen[name] = min(shares, key=lambda part: balance.change(part, groups[name], 1))
        balance.move(chosen[name], groups[name], 1)
    balance.demand_all(len(samples))
    for _ in range(_MAX_PASSES):
        if not sum([_improve(name, groups[name], chosen, balance) for name in order]):
            break
    return {name: chosen[shared] for name, shared in united.items()}


def _improve(name: str, content: "Counter[str]", chosen: dict[str, str], balance: "_Balance") -> bool:
    """Move a group to where it helps most; say whether it moved."""
    here = chosen[name]
    leaving = balance.change(here, content, -1)
    gains = {part: leaving + balance.change(part, content, 1) for part in balance.shares if part != here}
    best = min(gains, key=gains.__getitem__, default=here)
    # The margin keeps rounding errors from moving equals back and forth.
    if best == here or gains[best] > -1e-9:
        return False
    balance.move(here, content, -1)
    balance.move(best, content, 1)
    chosen[name] = best
    return True


class _Balance:
    """Measure how far the parts are from their shares: squared distance by class and in all, and missing classes."""

    def __init__(self, totals: "Counter[str]", shares: Mapping[str, float]) -> None:
        self.shares = shares
        self._totals = totals
        self._held = {part: Counter[str]() for part in shares}
        self._penalties = dict.fromkeys(shares, 0.0)

    def demand_all(self, count: int) -> None:
        """Let a class missing in a part outweigh any imbalance: in `train` most, then in `test`, then in `val`."""
        weights = {"train": 1000.0, "test": 2.0}
        most = 10.0 * count / min(self.shares.values())
        self._penalties = {part: most * weights.get(part, 1.0) for part in self.shares}

    def move(self, part: str, content: "Counter[str]", sign: int) -> None:
        """Put a group into a part (sign 1) or take it out (sign -1)."""
        for label, count in content.items():
            self._held[part][label] += sign * count

    def change(self, part: str, content: "Counter[str]", sign: int) -> float:
        """Return how much worse the balance gets by that."""
        share, held = self.shares[part], self._held[part]
        change = 0.0
        for label, count in content.items():
            now, then = held[label], held[label] + sign * count
            change += _squares(now, sign * count, share, self._totals[label])
            if label != _CLIP:
                change += self._penalties[part] * ((then == 0) - (now == 0))
        return change


def _squares(held: int, added: int, share: float, total: int) -> float:
    """Return by how much the squared distance from `share * total` grows, relative to that."""
    return added * (2.0 * (held - share * total) + added) / (share * total)
