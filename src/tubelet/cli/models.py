"""`tubelet models`: what can be trained."""

__all__ = ["show_models"]


def show_models(pattern: str = "*", *, json: bool = False) -> None:
    """List the models whose names match a pattern such as 'vivit_*_joint'.

    Parameters
    ----------
    pattern: str
        Glob over names.
    json: bool
        Print one JSON object a line.
    """
    from tubelet.cli.tables import print_models

    print_models(pattern, as_json=json)
