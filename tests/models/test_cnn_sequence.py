"""The CNN hybrids against independent writings: Keras' recurrences in numpy, torch's own layers, plain loops."""

import math

import numpy as np
import pytest
import torch

from tubelet.errors import ConfigError
from tubelet.models import create_model
from tubelet.models.cnn_sequence import FramePositions, PostNormBlock
from tubelet.models.cnn_sequence_config import CnnTransformerConfig
from tubelet.models.recurrence import Recurrence, TwoWayRecurrence

FEATURES = {"frames": 6, "channels": 12}
TINY = {"frames": 6, "height": 16, "width": 16, "backbone_width": 16}
MASKABLE = ("cnn_gru", "cnn_transformer", "cnn_gru_nano", "cnn_lstm_nano", "cnn_transformer_nano")


def make(name, num_classes=5, **changes):
    """A small model in which every parameter, the head's too, has a say."""
    torch.manual_seed(0)
    size = TINY if name.endswith("nano") else FEATURES
    dim = {"dim": 16} if "transformer" in name else {}
    model = create_model(name, num_classes, **{**size, **dim, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def make_clips(model, batch=3, frames=6):
    config = model.config
    return torch.randn(batch, config.channels, frames, config.height, config.width)


@pytest.mark.parametrize(
    ("name", "changes", "count"),
    [
        ("cnn_gru", {}, 99_909),
        ("cnn_gru", {"num_classes": 101}, 100_773),
        # Keras' LSTM(16) and LSTM(8): four products each, one bias; then dense 8 -> 8 -> 5.
        ("cnn_gru", {"cell": "lstm"}, 4 * (2048 + 16 + 1) * 16 + 4 * (16 + 8 + 1) * 8 + 72 + 45),
        ("cnn_gru", {"cell": "rnn"}, (2048 + 16 + 1) * 16 + (16 + 8 + 1) * 8 + 72 + 45),
        ("cnn_transformer", {}, 4_237_321),
    ],
)
def test_parameter_counts_are_those_of_keras(name, changes, count):
    with torch.device("meta"):
        model = create_model(name, **{"num_classes": 5, **changes})
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def split_gates(layer, order):
    """Kernels and biases in Keras' order and layout, (inputs, gates * units), from a layer's weights."""
    units = layer.units
    pick = np.concatenate([np.arange(gate * units, (gate + 1) * units) for gate in order])
    kernel, recurrent, bias = layer.read.weight, layer.recur.weight, layer.read.bias
    found = [kernel.T, recurrent.T, bias] + ([layer.recur.bias] if layer.recur.bias is not None else [])
    return [value.detach().numpy()[..., pick] for value in found]


def run_keras_gru(layer, rows, mask):
    """Keras' GRU(reset_after=True, return_sequences=True) for one row: gates z, r, h; a masked step keeps the state."""
    kernel, recurrent, input_bias, recurrent_bias = split_gates(layer, (1, 0, 2))
    state, states = np.zeros(layer.units), []
    for vector, real in zip(rows, mask, strict=True):
        x_z, x_r, x_h = np.split(vector @ kernel + input_bias, 3)
        h_z, h_r, h_h = np.split(state @ recurrent + recurrent_bias, 3)
        update, reset = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
        candidate = np.tanh(x_h + reset * h_h)
        state = update * state + (1 - update) * candidate if real else state
        states.append(state)
    return np.stack(states)


def run_keras_lstm(layer, rows, mask):
    """Keras' LSTM: gates i, f, c, o."""
    kernel, recurrent, bias = split_gates(layer, (0, 1, 2, 3))
    state = carry = np.zeros(layer.units)
    states = []
    for vector, real in zip(rows, mask, strict=True):
        i, f, c, o = np.split(vector @ kernel + state @ recurrent + bias, 4)
        new_carry = sigmoid(f) * carry + sigmoid(i) * np.tanh(c)
        new_state = sigmoid(o) * np.tanh(new_carry)
        state, carry = (new_state, new_carry) if real else (state, carry)
        states.append(state)
    return np.stack(states)


def run_keras_rnn(layer, rows, mask):
    """Keras' SimpleRNN."""
    kernel, recurrent, bias = split_gates(layer, (0,))
    state, states = np.zeros(layer.units), []
    for vector, real in zip(rows, mask, strict=True):
        state = np.tanh(vector @ kernel + state @ recurrent + bias) if real else state
        states.append(state)
    return np.stack(states)


KERAS = {"gru": run_keras_gru, "lstm": run_keras_lstm, "rnn": run_keras_rnn}


@pytest.mark.parametrize("cell", KERAS)
def test_masked_logits_are_those_of_keras_recurrences(cell):
    model = make("cnn_gru", cell=cell, units=(7, 4)).double()
    clips = make_clips(model).double()
    lengths = torch.tensor([6, 4, 1])
    with torch.no_grad():
        found = model(clips, lengths)
    head = {name: value.detach().numpy() for name, value in model.named_parameters() if "recurrence" not in name}
    for clip, length, logits in zip(clips, lengths.tolist(), found, strict=True):
        rows, mask = clip[:, :, 0, 0].T.numpy(), np.arange(6) < length
        for layer in model.recurrence:
            rows = KERAS[cell](layer, rows, mask)
        hidden = np.maximum(rows[-1] @ head["dense.weight"].T + head["dense.bias"], 0)
        expected = hidden @ head["head.weight"].T + head["head.bias"]
        np.testing.assert_allclose(logits.numpy(), expected, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize(("cell", "theirs"), [("gru", torch.nn.GRU), ("lstm", torch.nn.LSTM), ("rnn", torch.nn.RNN)])
def test_a_recurrence_is_that_of_torch(cell, theirs):
    torch.manual_seed(0)
    own = Recurrence(cell, 5, 4).double()
    other = theirs(5, 4, batch_first=True).double()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        other.weight_ih_l0.copy_(own.read.weight)
        other.weight_hh_l0.copy_(own.recur.weight)
        other.bias_ih_l0.copy_(own.read.bias)
        other.bias_hh_l0.copy_(own.recur.bias if own.recur.bias is not None else torch.zeros(()))
        rows = torch.randn(3, 9, 5, dtype=torch.float64)
        torch.testing.assert_close(own(rows), other(rows)[0], atol=1e-13, rtol=1e-12)


@pytest.mark.parametrize("cell", KERAS)
@pytest.mark.parametrize("summary", ["last", "mean"])
def test_masked_logits_of_two_readings_are_those_of_keras_recurrences(cell, summary):
    """Keras' Bidirectional: the second layer of cells reads the clip without its padding backward, then is turned."""
    model = make("cnn_gru", cell=cell, units=(7, 4), bidirectional=True, summary=summary).double()
    clips = make_clips(model).double()
    lengths = torch.tensor([6, 4, 1])
    with torch.no_grad():
        found = model(clips, lengths)
    head = {name: value.detach().numpy() for name, value in model.named_parameters() if "recurrence" not in name}
    for clip, length, logits in zip(clips, lengths.tolist(), found, strict=True):
        rows, real = clip[:, :length, 0, 0].T.numpy(), [True] * length
        for layer in model.recurrence:
            there, back = KERAS[cell](layer.onward, rows, real), KERAS[cell](layer.homeward, rows[::-1], real)
            rows = np.concatenate([there, back[::-1]], axis=1)
        scored = rows.mean(axis=0) if summary == "mean" else np.concatenate([there[-1], back[-1]])
        hidden = np.maximum(scored @ head["dense.weight"].T + head["dense.bias"], 0)
        expected = hidden @ head["head.weight"].T + head["head.bias"]
        np.testing.assert_allclose(logits.numpy(), expected, atol=1e-12, rtol=1e-10)


def test_two_readings_are_torch_s_bidirectional_layer():
    torch.manual_seed(0)
    own, other = TwoWayRecurrence("gru", 5, 4).double(), torch.nn.GRU(5, 4, batch_first=True, bidirectional=True)
    for suffix, layer in (("", own.onward), ("_reverse", own.homeward)):
        for name, part in (("ih", layer.read), ("hh", layer.recur)):
            torch.nn.init.normal_(part.bias)
            for kind in ("weight", "bias"):
                getattr(other, f"{kind}_{name}_l0{suffix}").data = getattr(part, kind).data
    rows, lengths = torch.randn(3, 9, 5, dtype=torch.float64), torch.tensor([9, 4, 1])
    packed = torch.nn.utils.rnn.pack_padded_sequence(rows, lengths, batch_first=True)
    with torch.no_grad():
        expected, _ = torch.nn.utils.rnn.pad_packed_sequence(other(packed)[0], batch_first=True)
        found = own(rows, lengths)
        torch.testing.assert_close(own(rows), other(rows)[0], atol=1e-13, rtol=1e-12)
    for row, wished, length in zip(found, expected, lengths.tolist(), strict=True):
        torch.testing.assert_close(row[:length], wished[:length], atol=1e-13, rtol=1e-12)


def test_an_lstm_starts_by_remembering():
    layer = Recurrence("lstm", 5, 4)
    assert layer.read.bias.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
    model = create_model("cnn_gru", 5, cell="lstm", units=(4, 4), bidirectional=True)
    for way in (model.recurrence[1].onward, model.recurrence[1].homeward):
        assert way.read.bias[4:8].tolist() == [1.0] * 4
        product = way.recur.weight.T @ way.recur.weight
        torch.testing.assert_close(product, torch.eye(4), atol=1e-5, rtol=1e-5)


def normalize(vector, norm):
    return (vector - vector.mean()) / torch.sqrt(vector.var(unbiased=False) + 1e-3) * norm.weight + norm.bias


def run_transformer(model, clip, length):
    """One clip of features through loops over frames and heads; padded frames are never looked at."""
    heads = model.config.heads
    vectors = [clip[:, index].mean(dim=(1, 2)) for index in range(length)]
    if not isinstance(model.project, torch.nn.Identity):
        vectors = [model.project.weight @ vector + model.project.bias for vector in vectors]
    vectors = [vector + model.positions.table[index] for index, vector in enumerate(vectors)]
    size = model.config.dim // heads
    for block in model.blocks:
        projected = [(block.qkv.weight @ vector + block.qkv.bias).split(model.config.dim) for vector in vectors]
        mixed = []
        for query, _, _ in projected:
            parts = []
            for head in range(heads):
                own = slice(head * size, (head + 1) * size)
                scores = torch.stack([query[own] @ key[own] / math.sqrt(size) for _, key, _ in projected])
                weights = scores.exp() / scores.exp().sum()
                parts.append(sum(w * value[own] for w, (_, _, value) in zip(weights, projected, strict=True)))
            mixed.append(block.out.weight @ torch.cat(parts) + block.out.bias)
        seen = [normalize(v + m, block.attention_norm) for v, m in zip(vectors, mixed, strict=True)]
        vectors = []
        for vector in seen:
            wide = block.widen.weight @ vector + block.widen.bias
            wide = wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))
            vectors.append(normalize(vector + block.narrow.weight @ wide + block.narrow.bias, block.mlp_norm))
    largest = torch.stack([torch.stack([v[feature] for v in vectors]).max() for feature in range(model.config.dim)])
    return model.head.weight @ largest + model.head.bias


@pytest.mark.parametrize(("dim", "heads", "depth"), [(12, 1, 1), (16, 4, 2)])
def test_masked_logits_of_the_transformer_are_those_of_plain_loops(dim, heads, depth):
    model = make("cnn_transformer", dim=dim, heads=heads, depth=depth).double()
    clips = make_clips(model).double()
    lengths = torch.tensor([6, 4, 1])
    with torch.no_grad():
        expected = torch.stack(
            [run_transformer(model, clip, length) for clip, length in zip(clips, lengths.tolist(), strict=True)]
        )
        torch.testing.assert_close(model(clips, lengths), expected, atol=1e-11, rtol=1e-11)


READINGS = [
    {"bidirectional": bidirectional, "summary": summary}
    for bidirectional in (False, True)
    for summary in ("last", "mean")
]
NOTHING = dict[str, object]()


@pytest.mark.parametrize(
    ("name", "changes"), [*((name, NOTHING) for name in MASKABLE), *(("cnn_gru", reading) for reading in READINGS[1:])]
)
@pytest.mark.parametrize("longest", [6, 9])
def test_neither_what_nor_how_much_padding_changes_a_logit(name, changes, longest):
    model = make(name, **changes)
    lengths = torch.tensor([4, 1, longest])
    clips = make_clips(model, frames=longest)
    with torch.no_grad():
        found = model(clips, lengths)
        noisy = clips.clone()
        for clip, length in zip(noisy, lengths.tolist(), strict=True):
            clip[:, length:] = 1e3
        torch.testing.assert_close(model(noisy, lengths), found, atol=1e-5, rtol=1e-5)
        more = torch.cat([noisy, torch.full_like(noisy[:, :, :5], 7.0)], dim=2)
        torch.testing.assert_close(model(more, lengths), found, atol=1e-5, rtol=1e-5)
        for clip, length, logits in zip(clips, lengths.tolist(), found, strict=True):
            torch.testing.assert_close(model(clip[None, :, :length])[0], logits, atol=1e-5, rtol=1e-5)
        assert (model(noisy) - found).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("name", "changes"),
    [*(("cnn_gru", {"head_dim": 64, **reading}) for reading in READINGS), ("cnn_transformer", {})],
)
def test_padding_gets_no_gradient(name, changes):
    model = make(name, **changes)
    clips = make_clips(model).requires_grad_()
    model(clips, torch.tensor([4, 6, 1])).square().sum().backward()
    used = clips.grad.abs().amax(dim=(1, 3, 4)) > 0
    assert used.tolist() == [[True] * 4 + [False] * 2, [True] * 6, [True] + [False] * 5]


@pytest.mark.parametrize("lengths", [[0, 6, 6], [6, 7, 6]])
def test_a_length_that_no_clip_has_is_refused(lengths):
    model = make("cnn_gru")
    for call in (model, model.features, model.tokens):
        with pytest.raises(ConfigError, match=f"found {min(lengths)} to {max(lengths)}"):
            call(make_clips(model), torch.tensor(lengths))


def test_positions_of_longer_clips_are_those_of_torch_s_stretching():
    torch.manual_seed(0)
    positions = FramePositions(6, 4)
    rows = torch.zeros(2, 15, 4)
    expected = torch.nn.functional.interpolate(positions.table.T[None], size=15, mode="linear")[0].T
    with torch.no_grad():
        found = positions(rows, torch.tensor([15, 6]))
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1, :6], positions.table.detach())


def test_features_before_pooling_are_pooled():
    model = make("cnn_gru")
    maps = torch.randn(2, 12, 6, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(model(maps), model(maps.mean(dim=(3, 4), keepdim=True)))


@pytest.mark.parametrize("name", ["cnn_gru_nano", "cnn_lstm_nano", "cnn_transformer_nano"])
def test_a_frozen_backbone_stays_while_the_rest_learns(name):
    model = make(name, frozen=True).train()
    before = {key: value.clone() for key, value in model.named_parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model(make_clips(model)).square().sum().backward()
    torch.optim.SGD(trained, lr=0.1).step()
    moved = {key.split(".")[0] for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert "backbone" not in moved
    assert {"head", "recurrence" if "transformer" not in name else "blocks"} <= moved


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cnn_gru", {"frozen": True}, "needs a backbone"),
        ("cnn_gru", {"dropout": 1.0}, "dropout must lie in 0 to below 1 - found 1.0"),
        ("cnn_gru", {"units": (16, 0)}, r"units must be positive - found \(16, 0\)"),
        ("cnn_gru", {"cell": "gre"}, "gru"),
        ("cnn_gru", {"summary": "max"}, "mean"),
        ("cnn_gru_nano", {"backbone_width": 40}, "backbone_width=32|backbone_width=48"),
        ("cnn_transformer", {"dim": 30, "heads": 4}, "dim=32"),
    ],
)
def test_a_wrong_hyper_parameter_is_refused_with_a_remedy(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        create_model(name, 5, **changes)


def test_attention_dropout_acts_in_training_alone():
    torch.manual_seed(0)
    config = CnnTransformerConfig("any", 5, 6, 1, 1, 16, dim=16, attention_dropout=0.5)
    block, rows = PostNormBlock(config), torch.randn(2, 6, 16)
    assert not torch.equal(block(rows, None), block(rows, None))
    block.eval()
    assert torch.equal(block(rows, None), block(rows, None))
