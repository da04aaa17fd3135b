"""Say which samples belong together: cut from one recording, taken of one patient, made of one shape."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tubelet.data.sample import Problem, Sample, quote_some
from tubelet.errors import DataError, name_nearest

__all__ = ["find_ungrouped", "group_samples"]

_UCF101_NAME = re.compile(r"v_(?P<group>.+_g\d+)_c\d+$")


def group_samples(path: Path, samples: Sequence[Sample], group_by: str | None) -> Iterator[Sample]:
    """Give each sample its group: from the column asked for, its own, or a name as in UCF101."""
    if group_by is None or group_by == "group":
        if group_by and not any(sample.group for sample in samples):
            raise DataError(f"cannot group '{path}' by 'group' - no sample has one - name another column.")
        for sample in samples:
            match = None if sample.group else _UCF101_NAME.match(Path(sample.member or sample.source).stem)
            yield replace(sample, group=match["group"]) if match else sample
        return
    columns = {name: None for sample in samples for name in sample.metadata}
    if group_by not in columns:
        near = name_nearest(group_by, columns) or f"; there are {quote_some(list(columns)) or 'no further columns'}."
        raise DataError(f"cannot group '{path}' by '{group_by}' - there is no such column{near}")
    for sample in samples:
        yield replace(sample, group=sample.metadata.get(group_by) or None)


def find_ungrouped(samples: Sequence[Sample], group_by: str | None) -> Iterator[Problem]:
    """Name the samples whose group was asked for and is not stated."""
    if group_by not in (None, "group"):
        for sample in samples:
            if sample.group is None:
                text = f"'{group_by}' of '{sample.name}' is empty - fill it in to group by it."
                yield Problem(text, sample.line, "no_group", (sample.name,))
