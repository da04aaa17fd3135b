"""Devices: which are there, and what they compute in."""

import platform
import subprocess
import sys

import pytest
import torch

from tubelet.prediction.devices import choose_precision


@pytest.mark.parametrize(("has_units", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_computes_in_bfloat16_where_it_has_units_for_it(monkeypatch, has_units, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_units)
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu) == expected
    assert choose_precision("fp32", cpu) == torch.float32
    assert choose_precision("bf16", cpu) == torch.bfloat16


FAULTS = """
import resource, sys
import torch
from tubelet.prediction.devices import choose_device

if sys.argv[1] == "chosen":
    choose_device("cpu")
faults = []
for turn in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2, 10_000_000).add(1)  # 80 MB each
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))  # the heap may still grow in some turns, where small blocks came to lie in the way
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep what was freed")
def test_memory_that_was_freed_is_used_again(monkeypatch):
    for name in ("MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "MALLOC_ARENA_MAX"):
        monkeypatch.delenv(name, raising=False)

    def count(way: str) -> int:
        return int(subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, check=True).stdout)

    assert count("chosen") < 100 < count("not chosen")
