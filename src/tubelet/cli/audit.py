"""`tubelet audit`: does the model use time?"""

from pathlib import Path

__all__ = ["audit_model"]


def audit_model(
    model: str,
    data: str | None = None,
    *,
    split: str = "test",
    output: Path | None = None,
    decoder: str = "pyav",
    workers: int = 2,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Measure a model on clips shuffled, backward, frozen and at other rates, and say in words what it needs of time.

    Exit status 1 where some clips could not be read.

    Parameters
    ----------
    model: str
        Run, model folder, folder of transformers, hf://owner/repo, or published weights: videomae_base.kinetics400.
    data: str
        Labelled clips; the data the run was trained on where none is named.
    split: str
        test, val or train.
    output: Path
        Folder for audit.json and audit.png.
    decoder: str
        pyav, torchcodec or decord.
    workers: int
        Processes that decode.
    device: str
        auto, cpu, cuda, cuda:1 or mps.
    json: bool
        Print audit.json instead of text.
    """
    from tubelet.cli.comparison_tables import print_audit
    from tubelet.cli.tables import track
    from tubelet.data.loader import LoaderOptions
    from tubelet.evaluation.audit import audit

    options = LoaderOptions(batch=8, workers=workers, decoder=decoder)
    with track("auditing", quiet=json) as on_step:
        found = audit(model, data, split=split, output=output, options=options, device=device, on_step=on_step)
    print_audit(found, output, as_json=json)
    return 1 if found.n_failed else 0
