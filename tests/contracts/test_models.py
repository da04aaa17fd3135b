"""What every registered model must hold, whoever wrote it. A new model is tested by being registered.

Large models are shrunk by the changes of their architecture below; a new architecture adds its row.
"""

import copy
import inspect
import io
import json
from dataclasses import fields

import pytest
import torch

from tubelet.errors import ConfigError, UnknownName
from tubelet.models import create_model, find_card, list_models, register_model
from tubelet.models.card import ModelConfig

SHRINK = {
    "vivit": {
        "frames": 8,
        "height": 32,
        "width": 48,
        "tubelet": (2, 16, 16),
        "dim": 48,
        "depth": 2,
        "heads": 4,
        "mlp_dim": 64,
    },
    "timesformer": {
        "frames": 8,
        "height": 32,
        "width": 48,
        "patch": 16,
        "dim": 48,
        "depth": 2,
        "heads": 4,
        "mlp_dim": 64,
    },
    "frame_transformer": {"frames": 8, "height": 32, "width": 48, "hidden": 32, "dim": 32, "mlp_dim": 64},
    "cnn_gru": {"frames": 8},
    "cnn_lstm": {"frames": 8},
    "cnn_transformer": {"frames": 8, "dim": 48},
    "videomae": {
        "frames": 8,
        "height": 32,
        "width": 48,
        "tubelet": (2, 16, 16),
        "dim": 48,
        "depth": 2,
        "heads": 3,
        "mlp_dim": 64,
    },
    "vjepa2": {
        "frames": 8,
        "height": 32,
        "width": 48,
        "tubelet": (2, 16, 16),
        "dim": 48,
        "depth": 2,
        "heads": 4,
        "mlp_dim": 64,
        "pooler_depth": 1,
        "pooler_heads": 3,
        "pooler_mlp_dim": 64,
    },
    "i3d": {"frames": 9, "height": 32, "width": 48, "scale": 0.125},
}
OWN_SIZE = ("vivit_organ",)
AVERAGING = ("space_only",)  # forms that score each frame by itself
NUM_CLASSES = 5


def shrink(name):
    card = find_card(name)
    changes = {} if name in OWN_SIZE else dict(SHRINK[card.architecture])
    if getattr(card.config, "temporal_depth", 0) > 1:
        changes["temporal_depth"] = 1
    known = {field.name for field in fields(card.config)}
    off = {key: 0.0 for key in ("dropout", "input_dropout", "attention_dropout", "drop_path") if key in known}
    return {**off, **changes}


def make(name, **changes):
    """A small model; its head, and what else starts at zero, is given weights so that logits and gradients speak."""
    torch.manual_seed(0)
    model = create_model(name, NUM_CLASSES, **{**shrink(name), **changes})
    torch.nn.init.normal_(model.head.weight, std=0.5)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def make_clips(model, batch=2, **sizes):
    config = model.config
    size = {key: sizes.get(key, getattr(config, key)) for key in ("channels", "frames", "height", "width")}
    return torch.randn(batch, *size.values(), generator=torch.Generator().manual_seed(1))


def find_batch_norms(model):
    return [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]


NAMES = list_models()


def find_distinct():
    """One name for each way of being built: another size or another start makes no new path through the code."""
    distinct = {}
    for name in sorted(NAMES, key=lambda name: "nano" not in name):
        config = find_card(name).config.to_dict()
        same = {key for key, value in config.items() if isinstance(value, int | float) and not isinstance(value, bool)}
        kind = [str(value) for key, value in config.items() if key not in same | {"name", "tubelet", "init"}]
        distinct.setdefault((find_card(name).architecture, *kind), name)
    return list(distinct.values())


DISTINCT = find_distinct()
every_card = pytest.mark.parametrize("name", NAMES)
FAST = {name for name in DISTINCT if "nano" in name or name in OWN_SIZE}
FASTEST = {
    "vivit_nano_factorized_encoder",
    "timesformer_nano_divided",
    "videomae_nano",
    "frame_transformer_nano",
}
"""What is exported each time; exporting takes seconds."""


def mark(names, fast=FAST):
    """The small cards of every family run each time, the others in the slow lane."""
    return [pytest.param(name, marks=[] if name in fast else [pytest.mark.slow]) for name in names]


distinct_model = pytest.mark.parametrize("name", mark(DISTINCT))
every_model = pytest.mark.parametrize("name", mark(NAMES))


@every_model
def test_logits_are_finite_and_shaped_as_documented(name):
    model = make(name)
    clips = make_clips(model)
    with torch.no_grad():
        logits, features, tokens = model(clips), model.features(clips), model.tokens(clips)
    assert logits.shape == (2, NUM_CLASSES)
    assert features.shape == (2, model.head.in_features)
    assert tokens.shape[0] == 2
    assert all(torch.isfinite(found).all() for found in (logits, features, tokens))
    torch.testing.assert_close(model.head(features), logits)


@every_model
def test_evaluating_twice_is_bit_equal_and_training_without_dropout_is_the_same(name):
    model = make(name)
    clips = make_clips(model)
    with torch.no_grad():
        first = model(clips)
        assert torch.equal(model(clips), first)
        model.train()
        if model.uses_batch_statistics:
            # Exempt, and in this only: with the running statistics all is as in evaluation.
            for module in find_batch_norms(model):
                module.eval()
        torch.testing.assert_close(model(clips), first, atol=1e-5, rtol=1e-5)


@every_model
def test_a_batch_of_two_is_two_batches_of_one(name):
    model = make(name)
    clips = make_clips(model)
    with torch.no_grad():
        alone = torch.cat([model(clips[:1]), model(clips[1:])])
        torch.testing.assert_close(model(clips), alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=1e-4)


@every_model
def test_every_parameter_gets_a_gradient(name):
    model = make(name).train()
    model(make_clips(model)).square().sum().backward()
    without = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert not without


@every_card
def test_documented_parameter_count_is_true(name):
    card = find_card(name)
    with torch.device("meta"):
        model = create_model(name, card.config.num_classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == card.parameters
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@distinct_model
def test_other_channels_are_taken_at_creation_and_wrong_ones_refused(name):
    model = make(name, channels=6)
    assert model(make_clips(model)).shape == (2, NUM_CLASSES)
    with pytest.raises(ConfigError, match=r"channels=2"):
        model(make_clips(model, channels=2))


@distinct_model
@pytest.mark.parametrize("scale", [(2, 1, 1), (1, 2, 1), (1, 1, 2), (0.5, 1, 1), (2, 2, 2)])
def test_other_lengths_and_sizes_are_taken_at_run_time(name, scale):
    model = make(name)
    config = model.config
    sizes = {key: int(getattr(config, key) * s) for key, s in zip(("frames", "height", "width"), scale, strict=True)}
    with torch.no_grad():
        logits = model(make_clips(model, **sizes))
    assert logits.shape == (2, NUM_CLASSES)
    assert torch.isfinite(logits).all()


@distinct_model
def test_a_size_that_does_not_fit_names_one_that_does(name):
    model = make(name)
    if getattr(model.config, "edges", "strict") == "crop":
        pytest.skip("this model drops what does not fit")
    # Patches of single frames fit clips of any length.
    axis = "height" if hasattr(model.config, "patch") else "frames"
    good = getattr(model.config, axis)
    if not hasattr(model.config, "plan_grid") or getattr(model.config, "edges", "strict") == "pad":
        assert torch.isfinite(model(make_clips(model, **{"height": 31, "width": 33, axis: good + 1}))).all()
        return
    with pytest.raises(ConfigError, match=f"{axis}={good}"):
        model(make_clips(model, **{axis: good + 1}))
    assert model(make_clips(model, **{axis: good})).shape == (2, NUM_CLASSES)


STEPPED = (
    *("cnn_gru_nano", "cnn_transformer_nano", "frame_transformer_nano"),
    *("timesformer_nano_space_only", "vivit_nano_factorized_encoder"),
)
"""Some of the models whose first stage sees a step at a time."""


@every_model
def test_steps_are_encoded_by_themselves_and_fused_to_the_same_logits(name):
    model = make(name)
    clips = make_clips(model)
    if model.step_frames is None:
        assert name not in STEPPED
        with pytest.raises(ConfigError, match="encode_steps"):
            model.encode_steps(clips)
        with pytest.raises(ConfigError, match="fuse_steps"):
            model.fuse_steps(torch.zeros(1, 4, 8))
        return
    length = model.step_frames
    with torch.no_grad():
        steps = model.encode_steps(clips)
        torch.testing.assert_close(model.head(model.fuse_steps(steps)), model(clips), atol=1e-6, rtol=1e-6)
        for place in range(steps.shape[1]):
            alone = model.encode_steps(clips[:, :, place * length : (place + 1) * length])
            torch.testing.assert_close(alone, steps[:, place : place + 1], atol=1e-5, rtol=1e-5)
    if model.drops_tokens:
        model.keep_tokens(0.5)
        assert model.step_frames is None


@every_model
def test_reset_head_keeps_the_body_and_changes_the_classes(name):
    model = make(name)
    clips = make_clips(model)
    with torch.no_grad():
        before = model.features(clips)
        model.reset_head(NUM_CLASSES + 2)
        assert torch.equal(model.features(clips), before)
        assert model(clips).shape == (2, NUM_CLASSES + 2)
    assert model.num_classes == model.config.num_classes == NUM_CLASSES + 2
    with pytest.raises(ConfigError, match="at least 1"):
        model.reset_head(0)


@every_model
def test_a_model_is_rebuilt_from_its_config_and_its_weights(name):
    model = make(name)
    clips = make_clips(model)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    rebuilt = create_model(**json.loads(json.dumps(model.config.to_dict()))).eval()
    assert rebuilt.config == model.config
    assert rebuilt.card is find_card(name)
    rebuilt.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        assert torch.equal(rebuilt(clips), model(clips))


@distinct_model
def test_a_model_on_the_meta_device_takes_weights_and_runs(name):
    model = make(name)
    clips = make_clips(model)
    with torch.device("meta"):
        empty = create_model(**model.config.to_dict()).eval()
    empty.load_state_dict(model.state_dict(), assign=True)
    with torch.no_grad():
        assert torch.equal(empty(clips), model(clips))


@pytest.mark.parametrize("name", mark(DISTINCT, FASTEST))
def test_exported_program_gives_the_same_logits_at_any_batch(name):
    model = make(name)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (make_clips(model),), dynamic_shapes={"clips": {0: batch}})
    clips = make_clips(model, batch=3)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(clips), model(clips), atol=1e-5, rtol=1e-5)


@distinct_model
def test_bfloat16_is_near_float32(name):
    model = make(name)
    clips = make_clips(model)
    with torch.no_grad():
        exact = model(clips)
        near = copy.deepcopy(model).bfloat16()(clips.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(clips)
    assert near.dtype == torch.bfloat16
    for found in (near.float(), mixed.float()):
        assert (found - exact).norm() / exact.norm() < 0.05


@every_model
def test_the_model_sees_time_unless_it_averages_frames(name):
    model = make(name)
    clips = make_clips(model)
    with torch.no_grad():
        difference = (model(clips.flip(2)) - model(clips)).abs().max()
    assert difference < 1e-5 if getattr(model.config, "form", None) in AVERAGING else difference > 1e-3


@every_card
def test_the_card_agrees_with_itself(name):
    card = find_card(name)
    spec, config = card.input_spec, card.config
    assert (card.name, config.name) == (name, name)
    assert f"{name}_".startswith(f"{card.architecture}_")
    assert (spec.frames, spec.height, spec.width) == (config.frames, config.height, config.width)
    assert spec.input_channels == config.channels


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'vivit_base_joint'"):
        create_model("vivit_bse_joint", 5)


def test_a_name_can_be_registered_only_once():
    card = find_card(NAMES[0])
    with pytest.raises(ValueError, match="registered already"):
        register_model(card)(lambda config: None)


def test_names_are_listed_by_glob_in_order():
    assert list_models("vivit_*") == [name for name in NAMES if name.startswith("vivit_")]
    assert list_models("nothing_*") == []


def test_every_hyper_parameter_is_documented():
    for config in {type(find_card(name).config) for name in NAMES}:
        for cls in (config, ModelConfig):
            lines = [line.strip() for line in inspect.getsource(cls).splitlines()]
            for field in cls.__annotations__:
                index = next(i for i, line in enumerate(lines) if line.startswith(f"{field}: "))
                assert lines[index + 1].startswith('"""'), f"{cls.__name__}.{field} has no string under it"
