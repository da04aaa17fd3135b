"""`tubelet models` and `tubelet weights`: what can be trained, what it is made of, what was published for it."""

from pathlib import Path

from cyclopts import App

__all__ = ["show_models", "weights_app"]

weights_app = App(name="weights", help="Published weights: verify that they give the figures of their authors.")


def show_models(pattern: str = "*", *, plot: Path | None = None, json: bool = False) -> None:
    """List the models whose names match a pattern such as 'vivit_*_joint', with parameters, cost and published weights.

    Parameters
    ----------
    pattern: str
        Glob over names.
    plot: Path
        Draw the one model of that name as a diagram, with shapes and parameters of its parts, into this file.
    json: bool
        Print one JSON object a line.
    """
    from tubelet.cli.model_tables import print_models, print_plot

    if plot is not None:
        print_plot(pattern, plot)
    else:
        print_models(pattern, as_json=json)


@weights_app.command(name="verify")
def verify_weights(pattern: str = "*", *, json: bool = False) -> int:
    """Fetch published weights and compare their logits on a public clip with those of their authors.

    Parameters
    ----------
    pattern: str
        Glob over names with tags, such as 'videomae_base.*'.
    json: bool
        Print one JSON object a line.
    """
    from tubelet.cli.model_tables import print_verifications
    from tubelet.prediction.verification import verify_published

    return print_verifications(verify_published(pattern), as_json=json)
