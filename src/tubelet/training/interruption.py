"""Stop a run where it can go on from: between two steps, with a checkpoint, when somebody asks it to.

Ctrl-C (SIGINT)                       -> the step is finished, a checkpoint written, exit status 130
SIGTERM, SIGUSR1 (a cluster's notice) -> the same, exit status 143
the same signal once more             -> at once, as if nothing were here; the last checkpoint stays whole
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from tubelet.errors import Interrupted

__all__ = ["Interruption"]

_STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 143}
"""Signals that ask a run to stop, with the exit status that says so; Windows lacks the last."""


class Interruption:
    """Note a signal that asks the run to stop, while the `with` block lasts.

    Only the main thread of a program hears signals: elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self._asked: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for name in _STATUS:
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    @property
    def is_asked(self) -> bool:
        """Tell whether the run was asked to stop."""
        return self._asked is not None

    def ask(self, name: str) -> None:
        """Ask the run to stop as a signal would: because another process of it was asked."""
        self._asked = self._asked or name

    def raise_if_asked(self, run: str) -> None:
        """End the run, whose checkpoint is written, if somebody asked for it.

        Raises:
            Interrupted: with the exit status.
        """
        if self._asked is not None:
            raise Interrupted(
                f"run {run!r} was stopped by {self._asked} - its last step is in a checkpoint - go on with --resume.",
                _STATUS[self._asked],
            )

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._asked = signal.Signals(number).name
        # A second time, the signal does what it did before: nobody has to wait for a slow step.
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
