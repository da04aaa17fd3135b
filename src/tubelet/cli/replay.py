"""`tubelet replay`: look into a step whose loss was no number."""

from pathlib import Path

__all__ = ["replay_failure"]


def replay_failure(run: Path, *, precision: str | None = None, device: str = "auto", json: bool = False) -> int:
    """Take the step that a run failed at once more, and say where the first number that is none came from.

    Exit status 1 where it fails again.

    Parameters
    ----------
    run: Path
        Folder of the run.
    precision: str
        fp32, bf16 or fp16 in place of the recipe's: is it the number format?
    device: str
        auto, cpu, cuda, cuda:1 or mps.
    json: bool
        Print one JSON object.
    """
    from tubelet.cli.tables import print_replay
    from tubelet.training.replay import replay

    return print_replay(replay(run, precision=precision, device=device), as_json=json)
