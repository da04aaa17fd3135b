"""Run a part of a job of predictions, and say where the job stands."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from tubelet.cli.parts import parse_part
from tubelet.cli.tables import track
from tubelet.errors import ConfigError
from tubelet.prediction.predict import PredictionOptions
from tubelet.prediction.shards import ShardReport, predict_shard
from tubelet.scorer import Scorer

__all__ = ["run_job"]


def run_job(
    classifier: Scorer,
    sources: Sequence[str],
    folder: str | None,
    part: str | None,
    options: Mapping[str, Any],
    *,
    as_json: bool,
) -> int:
    """Do a part; errors of sources stand in its rows and are no failure of the job, which must not be given again."""
    if folder is None:
        raise ConfigError(f"--shard {part} is a part of a job - no folder for it was named - add --output FOLDER/.")
    if not sources:
        raise ConfigError("cannot predict - no source was named - give files, folders or patterns.")
    shard, shards = parse_part(part)
    with track(f"shard {shard}/{shards}", quiet=as_json) as on_step:
        report = predict_shard(
            classifier, sources, folder, shard=shard, shards=shards, options=PredictionOptions(**options),
            on_step=on_step,
        )  # fmt: skip
    if as_json:
        print(json.dumps(asdict(report)))  # noqa: T201
    else:
        Console(highlight=False, soft_wrap=True).print(_describe(report), markup=False)
    return 0


def _describe(report: ShardReport) -> str:
    text = f"shard {report.shard}/{report.shards}: {report.sources:,} sources, {report.done:,} of them done now"
    if report.failed:
        text += f", {report.failed:,} of these could not be read"
    return f"{text}; {report.table or 'other shards are not done yet'}"
