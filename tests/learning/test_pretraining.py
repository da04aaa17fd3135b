"""Hold that an encoder learns motion from clips without labels: a linear probe reads it out of frozen features."""

import os

import numpy as np
import pytest
import torch

from tubelet.data.catalogue import open_data
from tubelet.model_folder import read_model
from tubelet.models import create_model
from tubelet.models.videomae_pretraining import create_pretraining
from tubelet.recipes.resolution import resolve_pretraining
from tubelet.training.pretraining import pretrain
from tubelet.training.session import list_sizes
from tubelet.transforms.preparation import fit, normalize
from tubelet.video.source import Video
from tubelet.video.synthetic import make_world

SEED = 1


def read_clips(manifest, split, count, spec):
    samples = manifest.select(split)[:count]
    clips = []
    for sample in samples:
        with Video(sample.source) as video:
            clips.append(fit(video.frames().pixels, spec))
    return torch.stack(clips), torch.tensor([manifest.label_index(sample) for sample in samples])


@torch.no_grad()
def pool_slots(model, clips, spec):
    """Average the tokens of each moment and put the moments one after the other: a vector a clip."""
    rows = [model.tokens(normalize(part, spec)).mean(dim=(2, 3)).flatten(1) for part in clips.split(100)]
    return torch.cat(rows).double()


def measure_probe(model, learned, held_out, spec):
    """Fit a multinomial logistic regression on frozen features; return its accuracy on other clips."""
    features, labels = pool_slots(model, learned[0], spec), learned[1]
    mean, std = features.mean(0), features.std(0) + 1e-6
    weight = torch.zeros(features.shape[1] + 1, int(labels.max()) + 1, dtype=torch.float64, requires_grad=True)

    def score(rows):
        return ((rows - mean) / std) @ weight[1:] + weight[0]

    optimizer = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def close():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(score(features), labels) + 1e-3 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(close)
    return float((score(pool_slots(model, held_out[0], spec)).argmax(1) == held_out[1]).double().mean())


@pytest.mark.slow
@pytest.mark.timeout(1200)  # two minutes of one core
def test_a_linear_probe_reads_20_points_more_from_pretrained_features_than_from_random_ones(tmp_path):
    world = make_world("moving-shapes", tmp_path / "world", clips={"train": 1200, "val": 64, "test": 320})
    recipe = resolve_pretraining("moving-shapes", None, {"training.epochs": 16, "training.seed": SEED})
    result = pretrain(os.fspath(world), recipe=recipe, name="seen", runs=tmp_path)
    manifest, spec = open_data(world), recipe.input
    description, weights, _ = read_model(result.folder / "model")
    hyper_parameters = {key: value for key, value in description["model"].items() if key not in ("name", "num_classes")}
    pretrained = create_pretraining("videomae_nano", **hyper_parameters)
    pretrained.load_state_dict(weights)
    torch.manual_seed(SEED)
    model = create_model("videomae_nano", len(manifest.classes), **list_sizes(spec)).eval()
    learned = read_clips(manifest, "train", 800, spec)
    held_out = read_clips(manifest, "test", 320, spec)
    by_chance = measure_probe(model, learned, held_out, spec)
    model.load_encoder(pretrained.encoder_state())
    accuracy = measure_probe(model, learned, held_out, spec)
    print(f"probe on random features {by_chance:.3f}, on pre-trained ones {accuracy:.3f}")
    assert np.isfinite(result.val_loss)
    assert accuracy >= by_chance + 0.20
    assert accuracy > 0.75
