"""Hold what a training says on the terminal, and that it is never silent for long."""

import pytest

import tubelet.cli.progress as progress
from small_run import make_tiny_recipe
from tubelet.cli.progress import Countdown, Terminal
from tubelet.training.loop import Totals


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now_s = 1000.0

        def monotonic(self):
            return self.now_s

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_the_time_left_goes_by_what_this_process_did(clock):
    countdown = Countdown(make_tiny_recipe("", epochs=10, accumulate=2))
    assert countdown.estimate() == ""
    # A run that goes on with the second half of its third epoch.
    for done in (12, 14, 16, 18, 20):
        clock.now_s += 10
        countdown.note(2, done, 20)
    assert countdown.estimate() == "12 min left"  # 50 s for half an epoch, seven to go
    countdown.note(9, 20, 20)
    assert countdown.estimate() == ""


def test_a_long_epoch_says_something_twice_a_minute_where_no_line_can_move(clock, capsys):
    terminal = Terminal()
    terminal.countdown = Countdown(make_tiny_recipe("", epochs=2))
    totals = Totals()
    with terminal:
        for done in range(1, 101):
            clock.now_s += 1
            totals.add(0.5, 8, 6)
            terminal.on_step(0, done, 1000, totals)
    said = [line for line in capsys.readouterr().out.splitlines() if line]
    assert said == [
        "epoch 1  30/1000  loss 0.500  top-1 75.0%  33 min left",
        "epoch 1  60/1000  loss 0.500  top-1 75.0%  32 min left",
        "epoch 1  90/1000  loss 0.500  top-1 75.0%  32 min left",
    ]
