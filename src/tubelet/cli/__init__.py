"""Run tubelet from a terminal: one file a group of commands, each command a few lines around a function.

Exit status: 0 all well, 1 something failed (a message says what), 2 the command was not understood.
"""

import os
import select
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from cyclopts import App, CycloptsError
from rich.console import Console

from tubelet import __version__
from tubelet.cli.audit import audit_model
from tubelet.cli.benchmark import benchmark_model
from tubelet.cli.calibrate import calibrate_model
from tubelet.cli.compare import compare_runs
from tubelet.cli.data import data_app
from tubelet.cli.doctor import report_doctor
from tubelet.cli.embed import embed_clips
from tubelet.cli.evaluate import evaluate_model
from tubelet.cli.explain import explain_source
from tubelet.cli.export import export_model
from tubelet.cli.launching import launch, take_devices
from tubelet.cli.models import show_models, weights_app
from tubelet.cli.predict import predict_sources
from tubelet.cli.pretrain import pretrain_model
from tubelet.cli.push import push_model
from tubelet.cli.recipe import recipe_app
from tubelet.cli.replay import replay_failure
from tubelet.cli.serve import serve_models
from tubelet.cli.stream import stream_source
from tubelet.cli.teach import teach_model
from tubelet.cli.train import train_model
from tubelet.cli.tune import tune_recipe
from tubelet.errors import ConfigError, Interrupted, TubeletError, UnknownName
from tubelet.registry import load_plugin

__all__ = ["app", "main"]

app = App(
    name="tubelet",
    help=(
        "Video classification with transformers: train, evaluate, predict.\n\n"
        "Every command takes --plugin FILE.py, as often as needed: a Python file of yours that registers models. "
        "'train' and 'pretrain' take --devices N: that many processes, one for each GPU."
    ),
    version=__version__,
    version_flags=["--version"],
)
app.command(train_model, name="train")
app.command(pretrain_model, name="pretrain")
app.command(tune_recipe, name="tune")
app.command(replay_failure, name="replay")
app.command(evaluate_model, name="evaluate")
app.command(audit_model, name="audit")
app.command(compare_runs, name="compare")
app.command(calibrate_model, name="calibrate")
app.command(predict_sources, name="predict")
app.command(stream_source, name="stream")
app.command(explain_source, name="explain")
app.command(benchmark_model, name="benchmark")
app.command(export_model, name="export")
app.command(serve_models, name="serve")
app.command(embed_clips, name="embed")
app.command(teach_model, name="teach")
app.command(push_model, name="push")
app.command(show_models, name="models")
app.command(weights_app)
app.command(data_app)
app.command(recipe_app)
app.command(report_doctor, name="doctor")

BROKEN_PIPE = 128 + 13
"""Exit status as if SIGPIPE had ended the program, which Python ignores: other tools leave so where nobody reads on."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit status."""
    console = Console(stderr=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # File names need not be text; JSON understands this escape.
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _execute(_load_plugins(_spread(sys.argv[1:] if arguments is None else list(arguments))), console)
    except CycloptsError as error:
        _print_failure(console, error)
        console.print("'tubelet --help' and 'tubelet COMMAND --help' list what there is.", highlight=False)
        sys.exit(2)
    except Interrupted as error:
        _print_failure(console, error)
        sys.exit(error.status)
    except TubeletError as error:
        _print_failure(console, error)
        sys.exit(2 if isinstance(error, ConfigError | UnknownName) else 1)
    except OSError as error:
        sys.exit(_explain_refusal(console, error))
    except KeyboardInterrupt:
        console.print(
            "tubelet: stopped; --resume --name RUN goes on with an interrupted 'tubelet train' or 'tubelet pretrain'."
        )
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _execute(arguments: list[str], console: Console) -> object:
    """Run the command and return what it returns."""
    try:
        status = app(
            arguments, exit_on_error=False, print_error=False, error_console=console, result_action="return_value"
        )
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # so rich ends a program whose reader left, with status 1
            sys.exit(BROKEN_PIPE)
        raise
    sys.stdout.flush()
    return status


def _spread(arguments: list[str]) -> list[str]:
    """Leave the command to several processes where --devices asks for them, else return its arguments."""
    devices, rest = take_devices(arguments)
    if devices > 1:
        sys.exit(launch(devices, rest))
    return rest


def _load_plugins(arguments: list[str]) -> list[str]:
    """Load the files that --plugin names, and return the other arguments."""
    rest: list[str] = []
    queue = iter(arguments)
    for argument in queue:
        option, equals, path = argument.partition("=")
        if argument == "--":
            return [*rest, argument, *queue]
        if option != "--plugin":
            rest.append(argument)
            continue
        load_plugin(path if equals else next(queue, ""))
    return rest


def _print_failure(console: Console, message: object) -> None:
    console.print(f"tubelet: {message}", style="red", markup=False, highlight=False, soft_wrap=True)


def _explain_refusal(console: Console, error: OSError) -> int:
    """Say what the system refused, and return the exit status; a reader who left (`| head`) needs no message."""
    if isinstance(error, BrokenPipeError) and _has_reader_left():
        return BROKEN_PIPE
    if error.filename is None:
        _print_failure(console, error)
    else:
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename)
        _print_failure(console, f"cannot use {name!r} - {error.strerror} - check the path and its permissions.")
    return 1


def _has_reader_left() -> bool:
    """Say whether nobody reads our output any more, and if so send the rest of it nowhere.

    A broken pipe may also be one to a process of our own that died, which must not be passed over in silence.
    """
    try:
        output = sys.stdout.fileno()
    except OSError:  # no file at all, such as under a test
        return False
    if hasattr(select, "poll"):
        watch = select.poll()
        watch.register(output, 0)
        if not watch.poll(0):
            return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, output)
    os.close(nowhere)
    return True
