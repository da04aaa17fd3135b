"""Hold that things which end a process are told from processes that cannot begin."""

import os
from functools import partial

import pytest

from tubelet.data import processes
from tubelet.errors import ConfigError


def test_processes_that_cannot_begin_are_no_fault_of_the_things(monkeypatch):
    monkeypatch.setattr(processes, "_watch_parent", partial(os._exit, 1))
    with pytest.raises(ConfigError, match="__main__"):
        list(processes.map_in_processes(abs, [1, 2], 2, lambda _thing: -1))
