"""Find samples that show the same pixels and say different things about them."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from tubelet.data.sample import Problem, Sample

__all__ = ["compare_parts"]


def compare_parts(samples: Sequence[Sample]) -> Iterator[Problem]:
    """Name samples that share pixels and differ in label or split."""
    by_pixels: dict[str, list[Sample]] = {}
    for sample in samples:
        by_pixels.setdefault(sample.video, []).append(sample)
    for parts in by_pixels.values():
        if len(parts) == 1:
            continue
        # In order of their beginnings, only a part that ends late can reach into those after it: keep the latest.
        ordered = sorted(parts, key=lambda sample: (sample.span_s, sample.line or 0))
        latest = ordered[0]
        for before, sample in pairwise(ordered):
            if before is not latest and before.span_s == sample.span_s:  # both lie within the latest, unlike it
                yield from _compare(before, sample)
            if sample.span_s[0] < latest.span_s[1]:
                yield from _compare(latest, sample)
            if sample.span_s[1] > latest.span_s[1]:
                latest = sample


def _compare(one: Sample, other: Sample) -> Iterator[Problem]:
    first, second = sorted((one, other), key=lambda sample: sample.line or 0)
    where = f" (line {first.line})" if first.line else ""
    names = (second.name, first.name)
    if first.label != second.label:
        yield Problem(
            f"'{second.name}' is '{second.label}' and also '{first.label}'{where} - keep one label.",
            second.line,
            "other_label",
            names,
        )
    if first.split != second.split:
        yield Problem(
            f"'{second.name}' is in split '{second.split}' and also in '{first.split}'{where} - keep one split, "
            "or the model is judged on what it was trained on.",
            second.line,
            "other_split",
            names,
        )
    if (first.label, first.split, first.span_s) == (second.label, second.split, second.span_s):
        yield Problem(f"'{second.name}' is listed twice{where} - remove one.", second.line, "listed_twice", names)
