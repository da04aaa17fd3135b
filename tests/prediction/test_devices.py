"""Devices: which are there, and what they compute in."""

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
