"""`tubelet push`: publish a model on the Hugging Face hub."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tubelet.prediction.publishing import Package

__all__ = ["push_model"]


def push_model(
    model: str,
    repo: str,
    *,
    private: bool = False,
    license: str | None = None,  # noqa: A002
    report: bool = True,
    dry_run: Path | None = None,
) -> None:
    """Publish a model with a generated card on the Hugging Face hub; 'tubelet predict hf://owner/repo' uses it then.

    The token is that of the hub's own tools: run 'hf auth login' once, or set HF_TOKEN.

    Parameters
    ----------
    model: str
        Run or model folder.
    repo: str
        owner/repo; made where there is none.
    private: bool
        Make a repository that only its owner sees.
    license: str
        License of the weights, as the hub calls it: apache-2.0, cc-by-nc-4.0, ...; none is stated without.
    report: bool
        Publish report.json and report.html of the run, which name and show clips, and put their figures into the card.
    dry_run: Path
        Write what would be uploaded into this folder instead.
    """
    from tubelet.prediction.publishing import pack, push

    package = pack(model, repo, license=license, report=report)
    if dry_run is not None:
        package.write(dry_run)
        _print_package(package, f"written to {dry_run}; nothing was uploaded")
    else:
        _print_package(package, f"uploading to {package.repo}")
        print(push(package, private=private))  # noqa: T201


def _print_package(package: "Package", conclusion: str) -> None:
    """List the files with their sizes, and say what strangers would see in them."""
    from rich.console import Console

    from tubelet.prediction.publishing import REPORTS

    console = Console(highlight=False, soft_wrap=True)
    sizes = package.list_sizes()
    for name, size_bytes in {**sizes, "in all": sum(sizes.values())}.items():
        console.print(f"{size_bytes:>16,} bytes  {name}", markup=False)
    shown = [name for name in REPORTS if name in sizes]
    if shown:
        console.print(
            f"{' and '.join(shown)}: with names, paths and pictures of clips; --no-report leaves them out",
            style="yellow",
        )
    console.print(conclusion, markup=False)
