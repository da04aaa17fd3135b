"""`tubelet compare`: which of these models is better, and what does it cost?"""

from pathlib import Path

__all__ = ["compare_runs"]


def compare_runs(
    *runs: str,
    data: str | None = None,
    split: str = "test",
    output: Path | None = None,
    decoder: str = "pyav",
    workers: int = 2,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Compare models: a table of what each reaches and costs, and for each two whether the difference is chance.

    Exit status 1 where two models could not be compared clip by clip.

    Parameters
    ----------
    runs: str
        Runs, model folders, folders of transformers, hf://owner/repo, or published weights.
    data: str
        Labelled clips for all of them; each is judged on the data it was trained on where none is named.
    split: str
        test, val or train.
    output: Path
        Folder for comparison.md, comparison.csv, comparison.json and pictures of clips that flipped.
    decoder: str
        pyav, torchcodec or decord.
    workers: int
        Processes that decode.
    device: str
        auto, cpu, cuda, cuda:1 or mps.
    json: bool
        Print comparison.json instead of text.
    """
    from tubelet.cli.comparison_tables import print_comparison
    from tubelet.cli.tables import track
    from tubelet.data.loader import LoaderOptions
    from tubelet.evaluation.compare import compare

    options = LoaderOptions(workers=workers, decoder=decoder)
    with track("evaluating", quiet=json) as on_step:
        found = compare(runs, data, split=split, output=output, options=options, device=device, on_step=on_step)
    print_comparison(found, output, as_json=json)
    return 1 if found.refused else 0
