"""`tubelet data`: look after clips."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

__all__ = ["data_app"]

data_app = App(name="data", help="Look after data: list and get what is known by name, check your own.")


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
    data: str, *, group_by: str | None = None, workers: int = 2, full: bool = False, json: bool = False
) -> int:
    """Check labels, open every clip and decode two frames of each; exit status 1 where something is wrong.

    Parameters
    ----------
    data: str
        Folder of class folders, CSV/TSV/JSONL manifest, .npz file or known name.
    group_by: str
        Column whose values must not be spread over splits.
    workers: int
        Processes that open clips.
    full: bool
        Decode every frame of every clip: slow, and finds damage anywhere.
    json: bool
        Print one JSON object.
    """
    from tubelet.cli.tables import print_health, track
    from tubelet.data.health import check_health

    with track("checking", quiet=json) as on_step:
        health = check_health(data, group_by=group_by, workers=workers, full=full, on_step=on_step)
    return print_health(health, as_json=json)
