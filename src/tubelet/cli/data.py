"""`tubelet data`: look after clips."""

from cyclopts import App

__all__ = ["data_app"]

data_app = App(name="data", help="Look after data: list what is known by name, check your own.")


@data_app.command(name="list")
def list_datasets(*, json: bool = False) -> None:
    """List the data sets that are known by name.

    Parameters
    ----------
    json: bool
        Print one JSON object a line.
    """
    from tubelet.cli.tables import print_datasets

    print_datasets(as_json=json)


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
