"""Models taken apart: every parameter is in one part, and cost counted by running agrees with the closed form."""

import pytest
import torch

from tubelet.models import create_model, find_card, list_models
from tubelet.models.anatomy import count_macs, list_parts

NANO = list_models("*_nano*")
QUICK = [name for name in list_models() if find_card(name).parameters < 10_000_000]


@pytest.mark.parametrize("name", NANO)
def test_the_parts_hold_every_parameter_once(name):
    with torch.device("meta"):
        model = create_model(name, 7)
    parts = list_parts(model)
    assert sum(part.parameters for part in parts) == sum(parameter.numel() for parameter in model.parameters())
    assert parts[-1].output == (1, 7) or parts[-2].output == (1, 7)
    assert len({part.name for part in parts}) == len(parts)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in list_models()]
)
def test_the_card_states_the_cost_within_a_hundredth(name):
    card = find_card(name)
    assert card.macs == pytest.approx(count_macs(card.config), rel=0.01)
