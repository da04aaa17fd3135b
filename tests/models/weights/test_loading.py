"""Weights from anywhere: they fit and say what they did, or they are refused and nothing has changed."""

import argparse
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tubelet.errors import CheckpointError, ConfigError, UnknownName
from tubelet.models import create_model, load_weights
from tubelet.models.videomae_pretraining import create_pretraining
from tubelet.models.weights.archive import read_tensors

SIZES = {"frames": 8, "height": 32, "width": 32}


def make_model(name="vivit_nano_joint", num_classes=3, seed=0, **changes):
    torch.manual_seed(seed)
    return create_model(name, num_classes, **{**SIZES, **changes})


def shake(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def draw_clips(model, frames=None):
    config = model.config
    torch.manual_seed(1)
    return torch.randn(2, config.channels, frames or config.frames, config.height, config.width)


@pytest.mark.parametrize("form", ["safetensors", "torch", "old_torch", "checkpoint", "wrapped"])
def test_every_format_gives_the_same_model(tmp_path, form):
    model, path = shake(make_model()), tmp_path / "weights"
    state = model.state_dict()
    if form == "safetensors":
        save_file(state, path)
    elif form == "torch":
        torch.save(state, path)
    elif form == "old_torch":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif form == "checkpoint":
        torch.save({"epoch": 3, "model": state, "args": argparse.Namespace(lr=1.0), "optimizer": {"state": {}}}, path)
    else:
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    fresh = make_model(seed=5).eval()
    report = load_weights(fresh, path)
    clips = draw_clips(model)
    assert torch.equal(fresh(clips), model(clips))
    assert (report.loaded, report.fresh, report.unused) == (len(state), (), ())
    assert str(path) in str(report)


def test_positions_are_stretched_and_a_head_for_other_classes_is_left(tmp_path):
    save_file(shake(make_model()).state_dict(), tmp_path / "weights.safetensors")
    other = make_model(num_classes=5, frames=16, height=48)
    report = load_weights(other, tmp_path / "weights.safetensors")
    assert report.fresh == report.unused == ("head.weight", "head.bias")
    assert report.resized == ("encoder.positions.grid (2, 4, 4, 96) -> (4, 6, 4, 96)",)
    assert not other.head.weight.any()


def test_a_head_for_other_names_is_left(tmp_path):
    from tubelet.classifier import Classifier
    from tubelet.video.spec import InputSpec

    model = shake(make_model())
    Classifier(model, InputSpec(**SIZES), ("run", "walk", "sit")).save(tmp_path / "mine")
    same, other = make_model(), make_model()
    assert load_weights(same, tmp_path / "mine", classes=("run", "walk", "sit")).fresh == ()
    assert load_weights(other, tmp_path / "mine", classes=("cut", "bend", "sew")).fresh == ("head.weight", "head.bias")
    assert torch.equal(same.head.weight, model.head.weight)


@pytest.mark.parametrize(("channels", "expect"), [(1, "sum"), (6, "zeros"), (4, "repeated")])
@pytest.mark.parametrize("name", ["vivit_nano_joint", "i3d_nano"])
def test_other_channels_are_adapted(name, channels, expect):
    model = shake(make_model(name, frames=16))
    other = shake(make_model(name, channels=channels, frames=16))
    report = load_weights(other, model.state_dict())
    assert len(report.resized) == 1
    clips = draw_clips(model)
    with torch.no_grad():
        if expect == "sum":
            gray = clips[:, :1]
            torch.testing.assert_close(other(gray), model(gray.expand(-1, 3, -1, -1, -1)), atol=1e-5, rtol=1e-4)
        elif expect == "zeros":
            doubled = torch.cat([clips, torch.randn_like(clips)], dim=1)
            torch.testing.assert_close(other(doubled), model(clips), atol=1e-5, rtol=1e-4)
        else:
            gray = clips[:, :1]
            torch.testing.assert_close(
                other(gray.expand(-1, 4, -1, -1, -1)), model(gray.expand(-1, 3, -1, -1, -1)), atol=1e-5, rtol=1e-4
            )


@pytest.mark.parametrize("first", [0x80, 0x50])
def test_a_header_of_any_length_is_read(tmp_path, first):
    """The first byte of a safetensors file is part of a length, and may be that of another format."""
    state, path = {"weight": torch.arange(3.0)}, tmp_path / "weights.safetensors"
    for padding in range(600):
        save_file(state, path, metadata={"padding": "x" * padding})
        if path.read_bytes()[0] == first:
            break
    assert path.read_bytes()[0] == first
    assert torch.equal(read_tensors([path])["weight"], state["weight"])


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("form", ["new", "old", "pickle", "npz"])
def test_a_file_with_code_is_refused_and_nothing_of_it_runs(tmp_path, form):
    path, mark = tmp_path / "weights.pth", tmp_path / "executed"
    content = {"head.weight": torch.zeros(3, 96), "extra": Bomb(mark)}
    if form == "npz":
        with path.open("wb") as stream:
            np.savez(stream, weights=np.array([Bomb(mark)], dtype=object))
    elif form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "new")
    model = make_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"cannot read weights from .*weights\.pth"):
        load_weights(model, path)
    assert not mark.exists()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_message_about_code_says_what_was_found(tmp_path):
    torch.save({"head.weight": torch.zeros(1), "extra": Bomb(tmp_path / "x")}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"nothing of it was executed.*open.*safetensors"):
        read_tensors([tmp_path / "w.pth"])


def damage_safetensors(path):
    content = bytearray(path.read_bytes())
    content[20] = 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "damaged"),
        (damage_safetensors, "damaged"),
        (lambda path: path.write_bytes(b""), "no safetensors, PyTorch or .npz"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "no safetensors, PyTorch or .npz"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        (lambda path: path.unlink(), "there is no such file"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + b"0" * 100), "damaged"),
        (lambda path: torch.save([1, 2, 3], path), "holds no weights by name: a list"),
        (lambda path: torch.save({"epoch": 3}, path), "holds no weights by name"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "no safetensors, PyTorch or .npz"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, damage, message):
    path = tmp_path / "weights.safetensors"
    save_file(make_model().state_dict(), path)
    damage(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_weights(make_model(), path)
    assert "weights.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("encoder.norm.weight"), r"'encoder\.norm\.weight' should be \(96,\), found nothing"),
        (lambda s: s.update({"encoder.more": torch.zeros(2)}), r"'encoder\.more' of shape \(2,\) belongs to no part"),
        (
            lambda s: s.update({"encoder.norm.weight": torch.zeros(5)}),
            r"'encoder\.norm\.weight' should be \(96,\), found \(5,\)",
        ),
        (lambda s: s.update({"head.weight": torch.zeros(3, 5)}), r"'head\.weight' should be \(3, 96\), found \(3, 5\)"),
    ],
)
def test_a_key_that_does_not_fit_is_named_with_expected_and_found(change, message):
    model = make_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = dict(before)
    change(state)
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_weights_of_another_architecture_are_named():
    official = {"time_embed": torch.zeros(1, 8, 96), "cls_token": torch.zeros(1, 1, 96)}
    with pytest.raises(CheckpointError, match="those of the official TimeSformer"):
        load_weights(make_model("videomae_nano", frames=16), official)
    with pytest.raises(CheckpointError, match="of no program known here"):
        load_weights(make_model(), {"layer1.weight": torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r"of another architecture|of no program"):
        load_weights(make_model(), make_model("i3d_nano", frames=16).state_dict())


def test_a_model_without_published_weights_says_so():
    with pytest.raises(ConfigError, match="vivit_nano_joint has no default weights"):
        load_weights(make_model(), "default")
    with pytest.raises(ConfigError, match="has no default weights"):
        create_model("vivit_nano_joint", 3, pretrained=True)
    with pytest.raises(ConfigError, match="did you mean 'kinetics400'"):
        create_model("videomae_base.kinetics40", 3)


def test_a_pretraining_of_ours_starts_a_classifier_with_a_fresh_norm():
    from tubelet.models.videomae_pretraining import create_pretraining

    torch.manual_seed(0)
    source = create_pretraining("videomae_nano")
    with torch.no_grad():
        source.norm.weight.fill_(7.0)
    model = create_model("videomae_nano", 4)
    report = load_weights(model, source.state_dict())
    assert set(report.fresh) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    assert any(key.startswith("decoder.") for key in report.unused)
    assert torch.equal(model.norm.weight, torch.ones(model.config.dim))
    for key, value in source.encoder_state().items():
        assert torch.equal(model.state_dict()[key], value)


def test_official_vivit_arrays_are_read_in_every_form(tmp_path):
    """Write our own weights under the official names, by a map of its own, and read them back."""
    for form in ("joint", "factorized_encoder", "factorized_attention"):
        pooling = {} if form == "factorized_attention" else {"pooling": "token"}
        model = shake(make_model(f"vivit_nano_{form}", **pooling))
        arrays = name_officially(model)
        np.savez(tmp_path / f"{form}.npz", **{f"opt/target/{key}": value for key, value in arrays.items()})
        fresh = make_model(f"vivit_nano_{form}", seed=4, **pooling).eval()
        report = load_weights(fresh, tmp_path / f"{form}.npz")
        assert (report.fresh, report.unused, report.origin) == ((), (), "the official ViViT")
        assert torch.equal(fresh(draw_clips(model)), model(draw_clips(model)))


def name_officially(model):  # noqa: C901
    """Name every weight as the official code does, by looping over modules instead of rules."""
    config, arrays = model.config, {}
    head = model.head
    arrays["output_projection/kernel"], arrays["output_projection/bias"] = head.weight.T, head.bias
    kt, kh, kw = config.tubelet
    kernel = model.embedding.project.weight.reshape(config.dim, config.channels, kt, kh, kw)
    arrays["embedding/kernel"], arrays["embedding/bias"] = kernel.permute(2, 3, 4, 1, 0), model.embedding.project.bias
    factorized = config.form == "factorized_encoder"
    encoders = {"SpatialTransformer" if factorized else "Transformer": model.encoder}
    if factorized:
        encoders["TemporalTransformer"] = model.temporal_encoder
    for name, encoder in encoders.items():
        if config.pooling == "token":
            arrays[f"cls_{name}" if factorized else "cls"] = encoder.class_token[None, None]
        places = encoder.positions.grid.flatten(0, 2)
        if config.pooling == "token":
            places = torch.cat([encoder.positions.token[None], places])
        arrays[f"{name}/posembed_input/pos_embedding"] = places[None]
        arrays[f"{name}/encoder_norm/scale"], arrays[f"{name}/encoder_norm/bias"] = (
            encoder.norm.weight,
            encoder.norm.bias,
        )
        for index, block in enumerate(encoder.blocks):
            stem = f"{name}/encoderblock_{index}"
            divided = config.form == "factorized_attention"
            attentions = {"_space": block.space, "_time": block.time} if divided else {"_0": block.attention}
            for suffix, attention in attentions.items():
                arrays[f"{stem}/LayerNorm{suffix}/scale"] = attention.norm.weight
                arrays[f"{stem}/LayerNorm{suffix}/bias"] = attention.norm.bias
                own = f"{stem}/MultiHeadDotProductAttention{suffix}"
                size = config.dim // config.heads
                for part, weight, bias in zip(
                    ("query", "key", "value"), attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True
                ):
                    arrays[f"{own}/{part}/kernel"] = weight.T.reshape(config.dim, config.heads, size)
                    arrays[f"{own}/{part}/bias"] = bias.reshape(config.heads, size)
                arrays[f"{own}/out/kernel"] = attention.out.weight.T.reshape(config.heads, size, config.dim)
                arrays[f"{own}/out/bias"] = attention.out.bias
            arrays[f"{stem}/LayerNorm_{'mlp' if divided else '1'}/scale"] = block.mlp.norm.weight
            arrays[f"{stem}/LayerNorm_{'mlp' if divided else '1'}/bias"] = block.mlp.norm.bias
            mlp = f"{stem}/MlpBlock{'' if divided else '_0'}"
            for place, layer in enumerate((block.mlp.widen, block.mlp.narrow)):
                arrays[f"{mlp}/Dense_{place}/kernel"], arrays[f"{mlp}/Dense_{place}/bias"] = layer.weight.T, layer.bias
    return {key: value.detach().numpy() for key, value in arrays.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: {}, "holds no tensors"),
        (lambda state: {**state, 1: torch.zeros(1)}, "Tensor under 1"),
        (lambda state: {**state, "head.bias": [0.0, 0.0, 0.0]}, "list under 'head.bias'"),
        (lambda state: {**state, "head.weight": state["head.weight"].to("meta")}, "'head.weight', a tensor that"),
        (lambda state: {**state, "head.weight": state["head.weight"].to_sparse()}, "'head.weight', a tensor that"),
        (lambda state: {**state, "head.weight": state["head.weight"].int()}, "'head.weight' .* float32, found int32"),
        (lambda state: {**state, "head.bias": state["head.bias"].to(torch.complex64)}, "float32, found complex64"),
        (lambda state: {**state, "head.bias": torch.tensor([0.0, float("nan"), 0.0])}, "'head.bias' .* found NaN"),
        (lambda state: {**state, "head.bias": torch.full((3,), 1e300, dtype=torch.float64)}, "'head.bias' .*infinity"),
        (
            lambda state: {**state, "embedding.project.weight": torch.zeros(1).expand(96, 10**8)},
            r"'embedding.project.weight' of shape \(96, 100000000\), without that many values",
        ),
    ],
)
def test_what_is_no_plain_finite_tensor_is_refused_by_its_name(change, message):
    model = shake(make_model())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, change(model.state_dict()))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_classifier_is_refused_by_a_pretraining_with_a_message():
    pretraining = create_pretraining("videomae_nano", **SIZES)
    with pytest.raises(CheckpointError, match="belongs to no part of the model"):
        load_weights(pretraining, make_model("videomae_nano").state_dict())


def test_archives_that_would_fill_the_memory_are_refused(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as file,
    ):
        for _ in range(300):
            file.write(bytes(2**20))
    with pytest.raises(CheckpointError, match=r"unpack to 314,572,800"):
        read_tensors([tmp_path / "bomb.npz"])


@pytest.mark.parametrize(
    "content",
    [
        b"garbage",
        b"\x93NUMPY\x01\x00\x0a\x00{'desc bad",
        b"\x93NUMPY\x01\x00\x50\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 10000000), }".ljust(79)
        + b"\n1234",
    ],
)
def test_arrays_with_damaged_headers_are_refused(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "weights.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(CheckpointError, match="cannot read weights from"):
        read_tensors([tmp_path / "weights.npz"])


def test_a_mistyped_model_with_a_tag_is_told_by_its_name():
    with pytest.raises(UnknownName, match="did you mean 'videomae_base'"):
        create_model("videomae_bas.ssv2")
