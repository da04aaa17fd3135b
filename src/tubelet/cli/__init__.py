"""Run tubelet from a terminal: one file a group of commands, each command a few lines around a function.

Exit status: 0 all well, 1 something failed (a message says what), 2 the command was not understood.
"""

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError
from rich.console import Console

from tubelet import __version__
from tubelet.cli.data import data_app
from tubelet.cli.doctor import report_doctor
from tubelet.cli.evaluate import evaluate_model
from tubelet.cli.models import show_models
from tubelet.cli.predict import predict_sources
from tubelet.cli.train import train_model
from tubelet.errors import ConfigError, TubeletError, UnknownName

__all__ = ["app", "main"]

app = App(
    name="tubelet",
    help="Video classification with transformers: train, evaluate, predict.",
    version=__version__,
    version_flags=["--version"],
)
app.command(train_model, name="train")
app.command(evaluate_model, name="evaluate")
app.command(predict_sources, name="predict")
app.command(show_models, name="models")
app.command(data_app)
app.command(report_doctor, name="doctor")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit status."""
    console = Console(stderr=True)
    try:
        status = app(
            sys.argv[1:] if arguments is None else list(arguments),
            exit_on_error=False,
            print_error=False,
            error_console=console,
            result_action="return_value",
        )
    except CycloptsError as error:
        console.print(f"tubelet: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        console.print("'tubelet --help' and 'tubelet COMMAND --help' list what there is.", highlight=False)
        sys.exit(2)
    except TubeletError as error:
        console.print(f"tubelet: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, ConfigError | UnknownName) else 1)
    except KeyboardInterrupt:
        console.print("tubelet: stopped; 'tubelet train --resume --name RUN' goes on with an interrupted training.")
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)
