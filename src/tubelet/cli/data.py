"""`tubelet data`: look after clips."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from tubelet.cli.prepare import prepare_data

if TYPE_CHECKING:
    from tubelet.data.manifest import Manifest

__all__ = ["data_app"]

data_app = App(
    name="data", help="Look after data: get what is known by name; check, divide, show and prepare your own."
)
data_app.command(prepare_data, name="prepare")


@dataclass(frozen=True)
class CheckOptions:
    """Hold the options of `tubelet data check`."""

    group_by: str | None = None
    """Column whose values must not be spread over splits."""
    workers: int = 2
    """Processes that open clips."""
    full: bool = False
    """Decode every frame of every clip: slow, and finds damage anywhere."""
    frames: int = 1
    """Frames that a model will take; clips that have fewer are named."""
    output: Path | None = None
    """Folder for health.html, with pictures, and health.json."""
    overwrite: bool = False
    """Replace a table of clean clips that is there already."""
    write_clean: Path | None = None
    """Write the clips without a problem into this .csv table, or .npz file for rows of arrays."""

    def to_arguments(self) -> dict[str, Any]:
        """Give what `check_health` takes."""
        return {
            "group_by": self.group_by,
            "workers": self.workers,
            "full": self.full,
            "least_frames": self.frames,
        }


@dataclass(frozen=True)
class SplitOptions:
    """Hold the options of `tubelet data split`."""

    group_by: str | None = None
    """Column whose values stay together."""
    val: float = 0.15
    """Share for choosing the best epoch."""
    test: float = 0.15
    """Share for the final figure."""
    folds: int = 0
    """Make this many parts of equal size in place of val and test: a column 'fold' says where a clip is tested."""
    fold: int | None = None
    """Write the splits of this one fold, 0 to folds - 1: it is tested, val is taken out of the others."""
    seed: int = 42
    """Another seed gives another, equally good division."""
    overwrite: bool = False
    """Replace an output that is there already."""
    files: bool = False
    """Write a folder: train.csv, val.csv, test.csv; with --folds fold0.csv, fold1.csv ... with all splits of each."""

    def divide(self, manifest: "Manifest", fold: int | None) -> "Manifest":
        """Divide as the options say, or as one fold; splits that the data states are given up."""
        from dataclasses import replace

        from tubelet.data.splits import fold_manifest, split_manifest

        if fold is not None:
            folded = fold_manifest(manifest, self.folds, fold, seed=self.seed)
            return split_manifest(folded, val=self.val, test=0.0, seed=self.seed)
        samples = tuple(replace(sample, split=None) for sample in manifest.samples)
        return split_manifest(replace(manifest, samples=samples), val=self.val, test=self.test, seed=self.seed)

    def write(self, manifest: "Manifest", output: Path) -> "list[tuple[Manifest, Path]]":
        """Divide and write; return what was written where."""
        from dataclasses import replace

        from tubelet.data.division import check_output, write_division, write_parts
        from tubelet.data.splits import choose_folds
        from tubelet.errors import ConfigError

        if self.fold is not None and not self.folds:
            raise ConfigError(f"cannot take fold {self.fold} - of how many was not said - add --folds 5, say.")
        check_output(manifest, output, is_folder=self.files)
        if self.files and self.folds:
            chosen = range(self.folds) if self.fold is None else [self.fold]
            parts = [(self.divide(manifest, fold), output / f"fold{fold}.csv") for fold in chosen]
            for part, path in parts:
                write_division(part, path)
            return parts
        if self.folds and self.fold is None:
            samples = tuple(replace(sample, split=None) for sample in manifest.samples)
            folds = [str(fold) for fold in choose_folds(manifest, self.folds, seed=self.seed)]
            undivided = replace(manifest, samples=samples)
            write_division(undivided, output, {"fold": folds})
            return [(undivided, output)]
        divided = self.divide(manifest, self.fold)
        if self.files:
            write_parts(divided, output)
        else:
            write_division(divided, output)
        return [(divided, output)]


@data_app.command(name="list")
def list_datasets(*, json: bool = False) -> None:
    """List the data sets that are known by name, and what of them is on this machine.

    Parameters
    ----------
    json: bool
        Print one JSON object a line, with the citation and the page that states the terms.
    """
    from tubelet.cli.tables import print_datasets

    print_datasets(as_json=json)


@data_app.command(name="download")
def download_dataset(
    name: str,
    *,
    fold: int = 1,
    classes: Annotated[list[str] | None, Parameter(negative="")] = None,
    mirror: str | None = None,
    archive: Path | None = None,
    json: bool = False,
) -> None:
    """Get a data set that is known by name, or look at it again; what is there already is not fetched again.

    Parameters
    ----------
    name: str
        A name that 'tubelet data list' shows.
    fold: int
        Official split whose table is printed at the end; all are made.
    classes: list[str]
        Only this class; repeat it for more. The last call decides which classes the table holds.
    mirror: str
        Fetch from here instead: the address of a file, or of a folder (ending in /) laid out as the official host is.
    archive: Path
        Use this archive, or this folder of clips and lists, which stays where it is.
    json: bool
        Print one JSON object at the end.
    """
    from tubelet.cli.tables import print_download, track_bytes
    from tubelet.data.catalogue import Request, open_data

    with track_bytes(name, quiet=json) as (on_progress, on_remark):
        request = Request(
            fold=fold,
            classes=tuple(classes or ()),
            mirror=mirror,
            archive=archive,
            refresh=True,
            on_progress=on_progress,
            on_remark=on_remark,
        )
        manifest = open_data(name, split_if_missing=False, request=request)
    print_download(name, manifest, as_json=json)


@data_app.command(name="check")
def check_data(
    data: str, *, options: Annotated[CheckOptions, Parameter(name="*")] = CheckOptions(), json: bool = False
) -> int:
    """Check labels, open every clip, compare all with all; exit status 1 where something cannot be used as it is.

    Parameters
    ----------
    data: str
        Folder of class folders, CSV/TSV/JSONL manifest, .npz file or known name.
    json: bool
        Print one JSON object.
    """

    from tubelet.cli.data_tables import print_health
    from tubelet.cli.tables import track
    from tubelet.data.catalogue import Request, find_data
    from tubelet.data.division import check_ending, check_free, write_selection
    from tubelet.data.health import check_health
    from tubelet.data.health_report import write_report

    if options.write_clean is not None:
        check_ending(find_data(data, Request(offline=True)), options.write_clean)
        check_free(options.write_clean, overwrite=options.overwrite)
    with track("checking", quiet=json) as on_step:
        checkup = check_health(data, on_step=on_step, lint=_lint, **options.to_arguments())
    if options.output is not None:
        write_report(checkup, options.output)
    if options.write_clean is not None:
        write_selection(checkup.manifest, checkup.list_clean(), options.write_clean)
    return print_health(checkup.health, as_json=json, output=options.output)


def _lint(classes: tuple[str, ...]) -> list[str]:
    from tubelet.transforms.policy import Augmentation, warn_of_mirrors

    return warn_of_mirrors(Augmentation(), classes)


@data_app.command(name="split")
def split_data(
    data: str, output: Path, *, options: Annotated[SplitOptions, Parameter(name="*")] = SplitOptions()
) -> None:
    """Divide clips into train, val and test, or into folds: whole groups, each class in proportion.

    Parameters
    ----------
    data: str
        Folder of class folders, CSV/TSV/JSONL manifest, .npz file or known name.
    output: Path
        The table to write, a .csv file with a column 'split'; an .npz file for arrays; a folder with --files.
    """
    from tubelet.cli.data_tables import print_split
    from tubelet.data.catalogue import open_data
    from tubelet.data.division import check_free

    check_free(output, overwrite=options.overwrite)
    manifest = open_data(data, group_by=options.group_by, split_if_missing=False)
    for divided, path in options.write(manifest, output):
        print_split(divided, path)


@data_app.command(name="stats")
def show_stats(data: str, output: Path, *, group_by: str | None = None, clips: int = 3, workers: int = 2) -> None:
    """Draw what a set holds: clips of each class, lengths, sizes, rates, and a contact sheet.

    Parameters
    ----------
    data: str
        Folder of class folders, CSV/TSV/JSONL manifest, .npz file or known name.
    output: Path
        Folder for the pictures and stats.json.
    group_by: str
        Column whose values belong together.
    clips: int
        Clips of each class on the contact sheet.
    workers: int
        Processes that open clips.
    """
    from tubelet.cli.tables import track
    from tubelet.data.statistics import write_statistics

    with track("reading") as on_step:
        print(write_statistics(data, output, group_by=group_by, shown=clips, workers=workers, on_step=on_step))  # noqa: T201
