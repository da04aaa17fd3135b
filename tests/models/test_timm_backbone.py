"""Hold how a network of timm's becomes a backbone. timm itself is not installed where these tests run: its absence is
tested as it is, and its presence with a module of the same name, put on the path, that answers as timm documents
(`create_model(name, pretrained=, num_classes=0, in_chans=)`, `num_features`). That the real one does is not shown here.
"""

import importlib.util
import json
import sys

import pytest
import torch

from tubelet.errors import ConfigError, MissingExtra
from tubelet.models import create_model

CHANGES = {"frames": 4, "height": 16, "width": 16, "backbone": "timm:tiny"}
FAKE = """
import torch
from torch import nn

asked = []


class Tiny(nn.Module):
    num_features = 7

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 7, 3)
        self.norm = nn.BatchNorm2d(7)
        self.dense = nn.Linear(7, 7)

    def forward(self, frames):
        return self.dense(self.norm(self.conv(frames)).mean(dim=(2, 3)))


def create_model(name, *, pretrained, num_classes, in_chans):
    if name != "tiny":
        raise RuntimeError(f"Unknown model ({name})")
    asked.append((name, pretrained, num_classes, in_chans))
    model = Tiny(in_chans)
    if pretrained:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0.5)
    return model
"""


@pytest.fixture
def timm(tmp_path, monkeypatch):
    """Return the module that stands in for timm."""
    (tmp_path / "timm.py").write_text(FAKE)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("timm")
    sys.modules.pop("timm", None)


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_without_the_extra_the_error_names_it_and_another_backbone_that_works():
    with pytest.raises(MissingExtra, match=r"pip install 'tubelet\[timm\]', or use backbone=small"):
        create_model("cnn_gru_nano", 3, **CHANGES)
    create_model("cnn_gru_nano", 3, **{**CHANGES, "backbone": "small"})


@pytest.mark.parametrize("name", ["cnn_gru_nano", "cnn_lstm_nano", "cnn_transformer_nano", "cnn_gru"])
def test_frames_go_through_the_network_that_timm_makes(timm, name):
    model = create_model(name, 3, **CHANGES, channels=6).eval()
    assert timm.asked == [("tiny", False, 0, 6)]
    assert (model.takes, model.vector) == ("pixels", 7)
    clips = torch.randn(2, 6, 4, 16, 16)
    assert model(clips).shape == (2, 3)
    with torch.no_grad():
        vectors = model.embed(clips)
        torch.testing.assert_close(vectors[1, 2], model.backbone.body(clips[1:, :, 2])[0])


def test_published_weights_stay_as_they_came_and_are_fetched_once(timm):
    model = create_model("cnn_transformer_nano", 3, **CHANGES, backbone_pretrained=True)
    assert all((parameter == 0.5).all() for parameter in model.backbone.parameters())
    assert (timm.asked[-1][1], model.config.backbone_pretrained) == (True, False)
    rebuilt = create_model(**json.loads(json.dumps(model.config.to_dict())))
    rebuilt.load_state_dict(model.state_dict())
    assert [row[1] for row in timm.asked] == [True, False]


def test_a_frozen_network_keeps_its_weights_and_its_running_statistics(timm):
    model = create_model("cnn_gru_nano", 3, **CHANGES, frozen=True).train()
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    model(torch.randn(2, 3, 4, 16, 16)).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in model.backbone.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    trained = create_model("cnn_gru_nano", 3, **CHANGES).train()
    trained(torch.randn(2, 3, 4, 16, 16))
    assert trained.backbone.body.norm.num_batches_tracked == 1
    assert all(parameter.requires_grad for parameter in trained.backbone.parameters())


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "timm:tinny"}, r"cannot make the backbone 'timm:tinny' - timm says: Unknown model \(tinny\)"),
        ({"backbone": "timm:"}, "backbone must be none, small or timm:NAME - found 'timm:'"),
        ({"backbone": "smal"}, "did you mean 'small'"),
        (
            {"backbone": "small", "backbone_pretrained": True},
            "backbone_pretrained=True needs a backbone .* - found backbone=small",
        ),
    ],
)
def test_a_backbone_that_cannot_be_made_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        create_model("cnn_gru_nano", 3, **{**CHANGES, **changes})
