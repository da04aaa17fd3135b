"""`tubelet calibrate`: how far can a model's answers be trusted?"""

__all__ = ["calibrate_model"]


def calibrate_model(
    model: str,
    data: str | None = None,
    *,
    split: str = "val",
    decoder: str = "pyav",
    workers: int = 2,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Measure on labelled clips how far a model can be trusted, and keep it in the model's folder for `predict`.

    Parameters
    ----------
    model: str
        Run, or model folder that tubelet wrote.
    data: str
        Labelled clips that the model has not seen; the data the run was trained on where none is named.
    split: str
        val, test or train.
    decoder: str
        pyav, torchcodec or decord.
    workers: int
        Processes that decode.
    device: str
        auto, cpu, cuda, cuda:1 or mps.
    json: bool
        Print one JSON object instead of text.
    """
    from tubelet.cli.tables import print_calibration, track
    from tubelet.evaluation.calibrate import calibrate

    with track("calibrating", quiet=json) as on_step:
        found = calibrate(
            model, data, split=split, decoder=decoder, workers=workers, device=device, on_step=on_step
        )  # fmt: skip
    print_calibration(found, as_json=json)
