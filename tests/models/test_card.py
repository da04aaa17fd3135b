"""Cards and strict changes."""

from dataclasses import replace

import pytest

from tubelet.errors import ConfigError
from tubelet.models import find_card
from tubelet.models.card import change_config


def test_changes_take_lists_for_tuples_and_whole_numbers_for_shares():
    config = find_card("vivit_base_joint").config
    changed = change_config(config, {"tubelet": [4, 16, 16], "dropout": 0})
    assert changed == replace(config, tubelet=(4, 16, 16), dropout=0.0)
    assert isinstance(changed.dropout, float)


def test_a_config_keeps_the_name_it_was_made_from():
    with pytest.raises(ConfigError, match="no hyper-parameter 'name'"):
        change_config(find_card("vivit_base_joint").config, {"name": "other"})


def test_an_unknown_key_is_answered_with_the_nearest_and_with_all():
    with pytest.raises(ConfigError, match=r"'drop_pth'; did you mean 'drop_path'\? It takes num_classes, frames, .*"):
        change_config(find_card("vivit_base_joint").config, {"drop_pth": 0.1})
