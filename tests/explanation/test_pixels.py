"""Hold what is done to pixels to models whose answer is known: one that reads a single tube, and sums of pixels."""

import pytest
import torch
from torch import nn

from tubelet.classifier import Classifier
from tubelet.errors import ConfigError
from tubelet.explanation.faithfulness import measure_faithfulness
from tubelet.explanation.gradients import activate_classes, integrate_gradients
from tubelet.explanation.occlusion import occlude, plan_tubes
from tubelet.explanation.question import ask, compute_log_odds
from tubelet.models import create_model
from tubelet.models.contract import VideoModel, find_card
from tubelet.shapes import Size3
from tubelet.video.spec import InputSpec

SPEC = InputSpec(frames=8, height=16, width=24)
GRID = plan_tubes(Size3(8, 16, 24))  # 8 x 4 x 6 tubes of 1 x 4 x 4 pixels


class OneTube(VideoModel):
    """Read the brightness of one tube, at moment 3, row 2 and column 4; or its change from the moment before."""

    def __init__(self, reads_change: bool = False):
        super().__init__(find_card("i3d_nano").config, 1)
        self.reads_change = reads_change
        self.reset_head(2)
        self.head.weight = nn.Parameter(torch.tensor([[0.0], [4.0]]))

    def features(self, clips):
        patches = clips[:, :, 2:4, 8:12, 16:20].mean(dim=(1, 3, 4))
        return patches[:, 1:] - (patches[:, :1] if self.reads_change else 0)

    def tokens(self, clips):
        return clips.movedim(1, -1)


def make_question(model, *, flashes: bool, label: int = 1):
    clip = torch.full((8, 16, 24, 3), 60, dtype=torch.uint8)
    clip[3 if flashes else slice(None), 8:12, 16:20] = 250
    return ask(Classifier(model.eval(), SPEC, ("dark", "bright")), clip, label)


def test_occlusion_finds_the_one_tube_that_is_read():
    question = make_question(OneTube(), flashes=True)
    assert question.fill == "still"
    expected = torch.zeros(GRID)
    expected[3, 2, 4] = 4 * (250 - 60) / 127.5
    torch.testing.assert_close(occlude(question), expected)
    # What speaks against a class is no part of its map.
    assert not occlude(make_question(OneTube(), flashes=True, label=0)).any()


def test_what_a_still_picture_shows_is_blurred_and_what_happens_is_stilled():
    assert make_question(OneTube(), flashes=False).fill == "blurred"
    assert make_question(OneTube(reads_change=True), flashes=True).fill == "still"
    saliency = occlude(make_question(OneTube(), flashes=False))
    assert saliency.argmax() == saliency.numel() * 3 // 8 + 2 * 6 + 4


def test_integrated_gradients_of_a_linear_model_are_its_weights_times_the_change():
    question = make_question(OneTube(), flashes=True)
    found = integrate_gradients(question)
    expected = torch.zeros(GRID)
    expected[3, 2, 4] = 4 * (250 - 60) / 127.5 / 16  # of the mean pixel: 16 of them make the tube
    torch.testing.assert_close(found, expected)


def test_grad_cam_of_i3d_weighs_channels_as_its_head_does():
    torch.manual_seed(0)
    model = create_model("i3d_nano", num_classes=1).eval()
    nn.init.uniform_(model.head.weight, -0.8, 1)
    clip = torch.randint(256, (8, 64, 64, 3), dtype=torch.uint8)
    clip[:, :32] //= 4
    question = ask(Classifier(model, InputSpec(frames=8, height=64, width=64), ("a",)), clip, 0)
    found = activate_classes(question)
    with torch.no_grad():
        expected = (model.tokens(question.prepare())[0] @ model.head.weight[0]).clamp(min=0)
    assert found.shape == expected.shape
    assert expected.any()
    torch.testing.assert_close(found / found.max(), expected / expected.max())


@pytest.mark.parametrize("name", ["cnn_gru_nano", "frame_transformer_nano"])
def test_grad_cam_sees_frames_of_hybrids_one_by_one(name):
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, frames=8).eval()
    nn.init.normal_(model.head.weight)
    side = model.config.height
    clip = torch.randint(256, (8, side, side, 3), dtype=torch.uint8)
    question = ask(Classifier(model, InputSpec(frames=8, height=side, width=side), ("a", "b", "c")), clip, 0)
    found = activate_classes(question)
    assert found.shape == (8, side // 8, side // 8)
    assert found.any()


def test_grad_cam_of_a_transformer_is_refused():
    model = create_model("vivit_nano_joint", num_classes=2).eval()
    clip = torch.zeros(16, 48, 48, 3, dtype=torch.uint8)
    question = ask(Classifier(model, InputSpec(frames=16, height=48, width=48), ("a", "b")), clip, 0)
    with pytest.raises(ConfigError, match="ViViT has none that is known - use method 'occlusion'"):
        activate_classes(question)


def test_a_true_map_beats_random_ones_and_its_opposite_does_not():
    question = make_question(OneTube(), flashes=True)
    saliency = torch.zeros(GRID)
    saliency[3, 2, 4] = 1
    true, false = (measure_faithfulness(question, each) for each in (saliency, -saliency))
    # A lot that takes the tube in its first step does as well.
    assert true.is_better
    assert min(true.deletion_wins, true.insertion_wins) >= 8
    assert (false.is_better, false.deletion_wins, false.insertion_wins) == (False, 0, 0)
    scores = question.classifier.score(torch.stack([question.clip, question.make_empty()]))[:, 1].tolist()
    assert (true.deletion_curve[0], true.deletion_curve[-1]) == pytest.approx(tuple(scores))
    assert (true.insertion_curve[-1], true.insertion_curve[0]) == pytest.approx(tuple(scores))
    # The tube is gone after the first of ten steps, and stays gone.
    high, low = scores
    assert true.deletion == pytest.approx(low + (high - low) / 20, abs=1e-6)
    assert true.describe().startswith("better than random maps")
    assert "do not believe it" in false.describe()


def test_log_odds_are_those_of_the_probabilities():
    logits = torch.randn(5, 4)
    probability = logits.softmax(1)[:, 2]
    expected = (probability / (1 - probability)).log()
    torch.testing.assert_close(compute_log_odds(logits, 2, "classification"), expected)
    assert torch.equal(compute_log_odds(logits, 2, "multilabel"), logits[:, 2])
