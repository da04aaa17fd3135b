import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from tubelet.shapes import Box, Size
from tubelet.transforms import Augmentation
from tubelet.transforms.mixing import Mix, draw_mix, mix_batch, mix_clips, mix_targets

BOTH = Augmentation(mixup=0.8, cutmix=1.0)


def make_batch(rows=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (rows, 2, 8, 10, 3), dtype=torch.uint8, generator=generator)


def test_mixup_blends_each_clip_with_its_partner_within_half_a_level():
    clips = make_batch(5)
    expected = 0.7 * clips.double() + 0.3 * clips.flip(0).double()
    assert (mix_clips(clips, Mix(0.7)).double() - expected).abs().max() <= 0.5 + 1e-4


def test_cutmix_sets_the_rectangle_of_the_partner_into_every_frame():
    clips = make_batch()
    before = clips.clone()
    mixed = mix_clips(clips, Mix(1 - 12 / 80, Box(2, 5, 3, 4)))
    assert torch.equal(mixed[:, :, 2:5, 5:9], clips.flip(0)[:, :, 2:5, 5:9])
    kept = torch.ones(8, 10, dtype=torch.bool)
    kept[2:5, 5:9] = False
    assert torch.equal(mixed[:, :, kept], clips[:, :, kept])
    assert torch.equal(clips, before)


def test_targets_share_as_the_clips_do_and_smoothing_is_timms():
    labels, logits = torch.tensor([0, 2, 1]), torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    targets = mix_targets(one_hot(labels, 4).float(), Mix(0.7))
    torch.testing.assert_close(targets[0], torch.tensor([0.7, 0.3, 0.0, 0.0]))
    on, off = 1 - 0.1 + 0.1 / 4, 0.1 / 4
    hot = torch.full((3, 4), off).scatter_(1, labels[:, None], on)
    theirs = -(0.7 * hot + 0.3 * hot.flip(0)).mul(logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(cross_entropy(logits, targets, label_smoothing=0.1), theirs)


def test_clips_of_many_classes_share_all_of_them():
    labels = torch.tensor([[True, False, True], [False, True, True]])
    targets = mix_targets(labels.float(), Mix(0.75))
    torch.testing.assert_close(targets, torch.tensor([[0.75, 0.25, 1.0], [0.25, 0.75, 1.0]]))
    assert mix_batch(make_batch(2), labels, 3, BOTH, np.random.default_rng(0))[1].shape == (2, 3)


def test_shares_boxes_and_switches_are_drawn_as_asked():
    generator, size = np.random.default_rng(0), Size(80, 120)
    policy = Augmentation(mixup=0.8, cutmix=1.0, mixing=0.6, cutmix_share=0.25)
    mixes = [draw_mix(policy, size, generator) for _ in range(4000)]
    assert np.mean([mix.share == 1 and mix.box is None for mix in mixes]) == pytest.approx(0.4, abs=0.03)
    cuts = [mix for mix in mixes if mix.box]
    assert len(cuts) / 4000 == pytest.approx(0.6 * 0.25, abs=0.03)
    for mix in cuts:
        box = mix.box
        assert 0 <= box.top <= box.top + box.height <= 80
        assert 0 <= box.left <= box.left + box.width <= 120
        assert mix.share == pytest.approx(1 - box.height * box.width / 9600)
    blends = np.array([mix.share for mix in mixes if mix.share < 1 and not mix.box])
    beta = np.random.default_rng(1).beta(0.8, 0.8, 20000)
    np.testing.assert_allclose(
        np.quantile(blends, [0.25, 0.5, 0.75]), np.quantile(np.maximum(beta, 1 - beta), [0.25, 0.5, 0.75]), atol=0.02
    )


def test_one_of_the_two_alone_is_always_that_one_and_none_leaves_the_batch_alone():
    generator = np.random.default_rng(0)
    assert all(draw_mix(Augmentation(mixup=0.4), Size(9, 9), generator).box is None for _ in range(50))
    assert all(draw_mix(Augmentation(cutmix=0.4), Size(9, 9), generator).box for _ in range(50))
    clips = make_batch()
    same, targets = mix_batch(clips, torch.tensor([0, 1, 1, 0]), 2, Augmentation(), generator)
    assert same is clips
    assert targets.tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]


def test_equal_generators_mix_equally():
    labels = torch.tensor([0, 1, 2, 3])
    one, other, third = (mix_batch(make_batch(), labels, 4, BOTH, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], third[0])
