"""Run a command of the program as a user runs it, inside this process."""

import pytest

from tubelet.cli import main


def run(*arguments, capsys):
    """Run one command in this process; return (exit status, stdout, stderr)."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return left.value.code, printed.out, printed.err
