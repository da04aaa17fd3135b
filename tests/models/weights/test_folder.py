"""Folders of transformers: what they describe is what we build, and what we write is what they load."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tubelet
from tubelet.errors import CheckpointError, ConfigError
from tubelet.models import create_model, find_card, load_weights
from tubelet.models.weights.folder import plan_folder, read_folder, write_folder
from tubelet.models.weights.source import WeightFiles, find_weights
from tubelet.transforms.preparation import fit, normalize
from tubelet.video.spec import InputSpec

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

KINDS = {
    "vivit": ("Vivit", {"tubelet_size": [2, 8, 8], "image_size": 24, "num_frames": 6}),
    "vivit_wide": ("Vivit", {"tubelet_size": [3, 8, 4], "image_size": 40, "num_frames": 9, "layer_norm_eps": 1e-3}),
    "vivit_exact": (
        "Vivit",
        {"tubelet_size": [1, 6, 6], "image_size": 30, "num_frames": 3, "hidden_act": "gelu", "qkv_bias": False},
    ),
    "vivit_cropped": ("Vivit", {"tubelet_size": [2, 8, 8], "image_size": 27, "num_frames": 7, "num_channels": 1}),
    "timesformer": ("Timesformer", {"patch_size": 8, "image_size": 24, "num_frames": 5}),
    "timesformer_joint": (
        "Timesformer",
        {
            "patch_size": 8,
            "image_size": 24,
            "num_frames": 5,
            "attention_type": "joint_space_time",
            "layer_norm_eps": 1e-2,
        },
    ),
    "videomae": ("VideoMAE", {"tubelet_size": 2, "patch_size": 8, "image_size": 24, "num_frames": 6}),
    "videomae_first": (
        "VideoMAE",
        {
            "tubelet_size": 3,
            "patch_size": 8,
            "image_size": 32,
            "num_frames": 9,
            "use_mean_pooling": False,
            "layer_norm_eps": 1e-2,
        },
    ),
}
SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80}


def make_other(kind):
    """A model of transformers whose every weight says something."""
    transformers = pytest.importorskip("transformers", reason="the dev extra installs transformers")
    family, settings = KINDS[kind]
    labels = {index: f"class {index}" for index in range(5)}
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SMALL, **settings, id2label=labels)
    other = getattr(transformers, f"{family}ForVideoClassification")(config).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return other


def draw_clips(model, count=2):
    config = model.config
    torch.manual_seed(1)
    return torch.randn(count, config.channels, config.frames, config.height, config.width)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_the_logits_of_transformers_and_goes_back(kind, tmp_path):
    other = make_other(kind)
    other.save_pretrained(tmp_path / "theirs")
    with pytest.warns(UserWarning, match="states no preprocessing"):
        found = read_folder(find_weights(tmp_path / "theirs"))
    assert found.classes == tuple(f"class {index}" for index in range(5))
    assert (found.report.fresh, found.report.unused, found.report.resized) == ((), (), ())
    clips = draw_clips(found.model)
    with torch.no_grad():
        expected = other(clips.transpose(1, 2)).logits
        assert expected.std() > 0.1
        assert (found.model(clips) - expected).abs().max() <= 1e-5
    write_folder(found.model, found.input_spec, found.classes, tmp_path / "ours")
    again = type(other).from_pretrained(tmp_path / "ours").eval()
    assert again.config.id2label == other.config.id2label
    with torch.no_grad():
        assert (again(clips.transpose(1, 2)).logits - expected).abs().max() <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["vivit_nano_joint", "timesformer_nano_divided", "timesformer_nano_joint", "videomae_nano", "vjepa2_nano"],
)
def test_our_own_models_go_to_transformers_and_come_back(name, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the dev extra installs transformers")
    changes = {
        "vivit": {"pooling": "token"},
        "videomae": {"final_eps": 1e-5},
        "vjepa2": {"pooler_eps": 1e-6, "pooler_mlp_dim": 384},
    }
    changes = changes.get(name.split("_")[0], {})
    torch.manual_seed(0)
    model = create_model(name, 3, **changes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    spec = InputSpec(frames=model.config.frames, height=model.config.height, width=model.config.width)
    write_folder(model, spec, ("a", "b", "c"), tmp_path / "folder")
    other = transformers.AutoModelForVideoClassification.from_pretrained(tmp_path / "folder").eval()
    clips = draw_clips(model)
    with torch.no_grad():
        expected = model(clips)
        assert expected.std() > 0.01
        assert (other(clips.transpose(1, 2)).logits - expected).abs().max() <= 1e-5
    back = tubelet.load(tmp_path / "folder", device="cpu")
    assert (back.classes, back.input_spec.mean) == (("a", "b", "c"), (0.5, 0.5, 0.5))
    with torch.no_grad():
        assert torch.equal(back.model(clips), expected)


PREPROCESSORS = {
    "VideoMAEImageProcessor": ("videomae_base", {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}),
    "VivitImageProcessor": ("vivit_base_joint", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PREPROCESSORS)
@pytest.mark.parametrize("size", [(40, 60), (60, 33)])
def test_preprocessing_gives_the_values_of_transformers(name, size, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the dev extra installs transformers")
    model, settings = PREPROCESSORS[name]
    shapes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 24, "width": 24}}
    processor = getattr(transformers, name)(**shapes, **settings)
    processor.save_pretrained(tmp_path)
    stated = json.loads((tmp_path / "preprocessor_config.json").read_text())
    config = type(find_card(model).config)(
        **{**find_card(model).config.__dict__, "num_classes": 5, "frames": 2, "height": 24, "width": 24}
        | ({"tubelet": (2, 8, 8)})
    )
    files = WeightFiles("here", (tmp_path / "model.safetensors",), {}, stated)
    from tubelet.models.weights.folder import read_input

    spec = read_input(files, find_card(model), config)
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    expected = processor(list(frames), return_tensors="pt")["pixel_values"][0]
    found = normalize(fit(frames, spec)[None], spec)[0].transpose(0, 1)
    # Pillow rounds after each direction and we after both. Where an odd number of pixels is cut off, transformers'
    # processors differ among themselves; sizes here leave an even number.
    assert (found - expected).abs().mean() < 0.02
    assert (found - expected).abs().max() < 0.2


def write_tiny(folder, **changes):
    """A folder of a tiny VideoMAE, without transformers' help."""
    settings = {
        "model_type": "videomae",
        "architectures": ["VideoMAEForVideoClassification"],
        "image_size": 16,
        "patch_size": 8,
        "num_frames": 4,
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "id2label": {"0": "run", "1": "walk"},
    }
    model = create_model(
        "videomae_base",
        2,
        frames=4,
        height=16,
        width=16,
        tubelet=(2, 8, 8),
        dim=24,
        depth=1,
        heads=2,
        mlp_dim=32,
        eps=1e-12,
        final_eps=1e-5,
    )
    write_folder(model, InputSpec(frames=4, height=16, width=16), ("run", "walk"), folder)
    (folder / "config.json").write_text(json.dumps({**settings, **changes}))
    return model.eval()


def test_load_takes_a_folder_of_transformers_and_predicts(tmp_path, capsys):
    model = write_tiny(tmp_path / "folder")
    loaded = tubelet.load(tmp_path / "folder", device="cpu")
    assert loaded.classes == ("run", "walk")
    clips = draw_clips(model)
    with torch.no_grad():
        assert torch.equal(loaded.model(clips), model(clips))
    frames = np.zeros((9, 20, 30, 3), np.uint8)
    assert loaded.predict(frames).label in ("run", "walk")
    loaded.save_for_transformers(tmp_path / "again")
    again = tubelet.load(tmp_path / "again", device="cpu")
    assert again.input_spec == loaded.input_spec
    with torch.no_grad():
        assert torch.equal(again.model(clips), model(clips))


def test_the_precision_of_a_folder_is_followed(tmp_path):
    write_tiny(tmp_path / "folder", dtype="bfloat16")
    loaded = tubelet.load(tmp_path / "folder", device="cpu")
    assert loaded.dtype == torch.bfloat16
    assert loaded.predict(np.zeros((9, 20, 30, 3), np.uint8)).score > 0


def test_a_preprocessor_that_normalizes_twice_is_noticed_only_where_it_was_not_trained_so(tmp_path):
    twice = {"do_rescale": True, "rescale_factor": 1 / 127.5, "offset": True, "do_normalize": True}
    settings = {"model_type": "vivit", "num_labels": 400}
    files = WeightFiles("here", (tmp_path / "model.safetensors",), settings, twice)
    with pytest.warns(UserWarning, match=r"normalizes twice.*mean=\(0\.75,\), std=\(0\.25,\)"):
        spec = plan_folder(files).input_spec
    assert (spec.mean, spec.std) == ((0.5,), (0.5,))
    files = WeightFiles("here", (tmp_path / "model.safetensors",), {**settings, "num_labels": 7}, twice)
    spec = plan_folder(files).input_spec
    assert (spec.mean, spec.std) == (pytest.approx((0.75,)), pytest.approx((0.25,)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "videomea"}, "did you mean 'videomae'"),
        ({"hidden_act": "relu"}, "found relu"),
        ({"hidden_size": "wide"}, "dim must be"),
        ({"hidden_size": 48}, r"should be \(48, 384\), found \(24, 384\)"),
        ({"id2label": {"0": "a", "7": "b"}}, "should name classes 0 to 1"),
        ({"num_hidden_layers": 2}, "blocks.1"),
    ],
)
def test_folders_that_contradict_themselves_are_refused(tmp_path, changes, message):
    write_tiny(tmp_path / "folder", **changes)
    with pytest.raises(CheckpointError, match=message):
        tubelet.load(tmp_path / "folder", device="cpu")


def test_a_model_that_transformers_does_not_have_is_not_written(tmp_path):
    model = create_model("vivit_nano_factorized_encoder", 2)
    with pytest.raises(ConfigError, match="form=factorized_encoder"):
        write_folder(model, InputSpec(), ("a", "b"), tmp_path / "folder")
    model = create_model("i3d_nano", 2)
    with pytest.raises(ConfigError, match="transformers has no i3d"):
        write_folder(model, InputSpec(), ("a", "b"), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 10**6}, "parameters, found"),
        ({"hidden_size": 10**9}, "asks for sizes that no model has"),
        ({"hidden_size": 10**30}, "asks for sizes that no model has"),
        ({"num_hidden_layers": 10**9}, "asks for 1,000,000,000 blocks"),
        ({"num_frames": 10**9}, "asks for clips of"),
        ({"image_size": [16]}, "a size must be one whole number or two"),
        ({"image_size": None}, "a size must be"),
        ({"hidden_act": []}, "hidden_act must be one of"),
        ({"layer_norm_eps": float("nan")}, "eps must be a finite number"),
        ({"id2label": {}, "num_labels": 10**9}, "num_labels must be"),
    ],
)
def test_configurations_beyond_their_weights_are_refused_before_anything_is_built(tmp_path, changes, message):
    write_tiny(tmp_path / "folder", **changes)
    with pytest.raises(CheckpointError, match=message):
        tubelet.load(tmp_path / "folder", device="cpu")


@pytest.mark.parametrize("changes", [{"image_size": "wide"}, {"image_size": []}, {"hidden_act": {}}])
def test_wrong_values_are_refused_where_only_weights_are_wanted(tmp_path, changes):
    model = write_tiny(tmp_path / "folder", **changes)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_weights(model, tmp_path / "folder")


@pytest.mark.parametrize(
    "changes",
    [
        {"size": "wide"},
        {"size": {"shortest_edge": 10**9}},
        {"size": {"shortest_edge": 0}},
        {"crop_size": [2]},
        {"image_mean": "dark"},
        {"image_mean": [None]},
        {"image_mean": float("nan")},
        {"image_std": 0},
        {"rescale_factor": 0},
        {"rescale_factor": None},
    ],
)
def test_preprocessing_that_cannot_be_is_refused_by_the_file_name(tmp_path, changes):
    write_tiny(tmp_path / "folder")
    path = tmp_path / "folder" / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError, match="its preprocessor configuration says"):
        tubelet.load(tmp_path / "folder", device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_resize": False}, "does not scale frames"),
        ({"size": {"shortest_edge": 8}}, "pads frames of 8 px"),
        ({"size": {"height": 20, "width": 20}}, "before it crops"),
        ({"resample": 3}, "scales with filter 3"),
        ({"crop_size": 12}, r"crops to \(12, 12\)"),
    ],
)
def test_preprocessing_that_is_not_followed_is_named(tmp_path, changes, message):
    write_tiny(tmp_path / "folder")
    path = tmp_path / "folder" / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.warns(UserWarning, match=message):
        tubelet.load(tmp_path / "folder", device="cpu")


def test_double_precision_survives_loading(tmp_path):
    write_tiny(tmp_path / "folder", dtype="float64")
    weights = load_file(tmp_path / "folder" / "model.safetensors")
    weights["classifier.bias"] = torch.full((2,), 1 / 3, dtype=torch.float64)
    save_file(weights, tmp_path / "folder" / "model.safetensors")
    loaded = tubelet.load(tmp_path / "folder", device="cpu")
    assert torch.equal(loaded.model.head.bias.detach(), weights["classifier.bias"])


@pytest.mark.parametrize(
    ("family", "name", "settings"),
    [
        ("Vivit", "vivit_nano_joint", {"pooling": "token", "tubelet": (2, 8, 8)}),
        ("Timesformer", "timesformer_nano_divided", {"patch": 8}),
        ("VideoMAE", "videomae_nano", {"tubelet": (2, 8, 8)}),
    ],
)
def test_bodies_without_a_head_start_a_training_but_classify_nothing(family, name, settings, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the dev extra installs transformers")
    patches = {"tubelet_size": [2, 8, 8]} if family == "Vivit" else {"patch_size": 8}
    config = getattr(transformers, f"{family}Config")(**SMALL, **patches, image_size=24, num_frames=4)
    other = getattr(transformers, f"{family}Model")(config).eval()
    other.save_pretrained(tmp_path / "body")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(CheckpointError, match="holds no classifier"):
            tubelet.load(tmp_path / "body", device="cpu")
    sizes = {"frames": 4, "height": 24, "width": 24, "dim": 48, "depth": 2, "heads": 4, "mlp_dim": 80}
    model = create_model(name, 3, **sizes, **settings)
    report = load_weights(model, tmp_path / "body")
    norm = ("norm.weight", "norm.bias") if family == "VideoMAE" else ()
    assert sorted(report.fresh) == sorted(("head.weight", "head.bias", *norm))
    assert not [key for key in report.unused if "pooler" not in key]


def test_a_model_with_other_settings_than_the_folder_is_warned_of(tmp_path):
    write_tiny(tmp_path / "folder")
    sizes = {"frames": 4, "height": 16, "width": 16, "tubelet": (2, 8, 8), "dim": 24, "depth": 1, "mlp_dim": 32}
    model = create_model("videomae_base", 2, **sizes, heads=3, eps=1e-12, final_eps=1e-5)
    with pytest.warns(UserWarning, match=r"was made with heads 2 \(here 3\)"):
        load_weights(model, tmp_path / "folder")


@pytest.mark.parametrize("stated", [{"window": (-1000.0, 400.0)}, {"spacing_mm": (2.0, 1.0, 1.0)}])
def test_a_model_of_volumes_shown_in_its_own_way_is_not_written_for_transformers(tmp_path, stated):
    sizes = {"frames": 4, "height": 16, "width": 16, "tubelet": (2, 8, 8), "dim": 24, "depth": 1, "heads": 2}
    model = create_model("videomae_base", 2, **sizes, mlp_dim=32, final_eps=1e-5)
    with pytest.raises(ConfigError, match="no preprocessing of volumes"):
        write_folder(model, InputSpec(frames=4, height=16, width=16, **stated), ("a", "b"), tmp_path / "folder")


def test_the_short_side_of_a_crop_that_is_no_square_goes_there_and_back(tmp_path):
    sizes = {"frames": 4, "height": 16, "width": 24, "tubelet": (2, 8, 8), "dim": 24, "depth": 1, "heads": 2}
    model = create_model("videomae_base", 2, **sizes, mlp_dim=32, final_eps=1e-5)
    spec = InputSpec(frames=4, height=16, width=24)
    with pytest.raises(ConfigError, match=r"just far enough to cover 16 x 24"):
        write_folder(model, spec, ("run", "walk"), tmp_path / "folder")
    for short in (24, 30):
        write_folder(model, replace(spec, short_side=short), ("run", "walk"), tmp_path / "folder")
        assert tubelet.load(tmp_path / "folder", device="cpu").input_spec.short_side == short
