"""ViViT against two independent writings: plain loops over tubelets, and transformers."""

import math

import pytest
import torch

from tubelet.models import create_model

SMALL = {"frames": 8, "height": 32, "width": 48, "dim": 48, "depth": 2, "heads": 4, "mlp_dim": 96}


def make_small(form, num_classes=7, **changes):
    """A small model whose head has weights, so that its logits say something."""
    torch.manual_seed(0)
    extra = {"temporal_depth": 1} if form == "factorized_encoder" else {}
    model = create_model(f"vivit_base_{form}", num_classes, **{**SMALL, **extra, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def normalize(vector, norm):
    return (vector - vector.mean()) / torch.sqrt(vector.var(unbiased=False) + 1e-6) * norm.weight + norm.bias


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attend(attention, vectors, groups_of_head):
    """Plain loops: `groups_of_head[head][i]` lists the tokens that token i sees with that head."""
    dim, heads = vectors[0].shape[0], attention.heads
    size = dim // heads
    normed = torch.stack([normalize(vector, attention.norm) for vector in vectors])
    query, key, value = (normed @ attention.qkv.weight.T + attention.qkv.bias).split(dim, dim=1)
    mixed = torch.zeros_like(normed)
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        for i in range(len(vectors)):
            seen = groups_of_head[head][i]
            scores = torch.stack([query[i, own] @ key[j, own] / math.sqrt(size) for j in seen])
            weights = torch.exp(scores - scores.max())
            weights = weights / weights.sum()
            mixed[i, own] = sum(weight * value[j, own] for weight, j in zip(weights, seen, strict=True))
    return [
        vector + attention.out.weight @ row + attention.out.bias for vector, row in zip(vectors, mixed, strict=True)
    ]


def think(mlp, vectors):
    hidden = [gelu(mlp.widen.weight @ normalize(vector, mlp.norm) + mlp.widen.bias) for vector in vectors]
    return [v + mlp.narrow.weight @ h + mlp.narrow.bias for v, h in zip(vectors, hidden, strict=True)]


def run_encoder(encoder, vectors, token):
    vectors = [v + p for v, p in zip(vectors, encoder.positions.grid.flatten(0, 2), strict=True)]
    if token:
        vectors = [encoder.class_token + encoder.positions.token, *vectors]
    everyone = [[list(range(len(vectors)))] * len(vectors)] * encoder.blocks[0].attention.heads
    for block in encoder.blocks:
        vectors = think(block.mlp, attend(block.attention, vectors, everyone))
    return (
        normalize(vectors[0], encoder.norm)
        if token
        else sum(normalize(v, encoder.norm) for v in vectors) / len(vectors)
    )


def run_reference(model, clip):
    """One clip through loops over tubelets, after the equations of the paper."""
    config = model.config
    kernel = model.embedding.project.weight.reshape(config.dim, config.channels, *config.tubelet)
    places = [(t, h, w) for t in range(4) for h in range(2) for w in range(3)]
    vectors = []
    for t, h, w in places:
        box = clip[:, 2 * t : 2 * t + 2, 16 * h : 16 * h + 16, 16 * w : 16 * w + 16]
        vectors.append((kernel * box).sum(dim=(1, 2, 3, 4)) + model.embedding.project.bias)
    token = config.pooling == "token"
    if config.form == "joint":
        summary = run_encoder(model.encoder, vectors, token)
    elif config.form == "factorized_encoder":
        moments = [run_encoder(model.encoder, vectors[6 * t : 6 * t + 6], token) for t in range(4)]
        summary = run_encoder(model.temporal_encoder, moments, token)
    else:
        vectors = [v + p for v, p in zip(vectors, model.encoder.positions.grid.flatten(0, 2), strict=True)]
        space = [[j for j, other in enumerate(places) if other[0] == own[0]] for own in places]
        time = [[j for j, other in enumerate(places) if other[1:] == own[1:]] for own in places]
        for block in model.encoder.blocks:
            if config.form == "factorized_attention":
                vectors = attend(block.space, vectors, [space] * 4)
                vectors = attend(block.time, vectors, [time] * 4)
            else:
                vectors = attend(block.attention, vectors, [time, time, space, space])
            vectors = think(block.mlp, vectors)
        summary = sum(normalize(vector, model.encoder.norm) for vector in vectors) / len(vectors)
    return model.head.weight @ summary + model.head.bias


@pytest.mark.parametrize(
    ("form", "pooling"),
    [
        ("joint", "token"),
        ("joint", "mean"),
        ("factorized_encoder", "token"),
        ("factorized_encoder", "mean"),
        ("factorized_attention", "mean"),
        ("factorized_dot_product", "mean"),
    ],
)
def test_logits_are_those_of_plain_loops(form, pooling):
    model = make_small(form, pooling=pooling).double()
    clips = torch.randn(2, 3, 8, 32, 48, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([run_reference(model, clip) for clip in clips])
        torch.testing.assert_close(model(clips), expected, atol=1e-10, rtol=1e-10)


def copy_to_transformers(model, other):
    """Give the weights of a joint model to the ViViT of transformers."""
    body = other.vivit
    positions = torch.cat([model.encoder.positions.token[None], model.encoder.positions.grid.flatten(0, 2)])
    body.embeddings.position_embeddings.copy_(positions[None])
    body.embeddings.cls_token.copy_(model.encoder.class_token[None, None])
    projection = body.embeddings.patch_embeddings.projection
    projection.weight.copy_(model.embedding.project.weight.reshape(projection.weight.shape))
    projection.bias.copy_(model.embedding.project.bias)
    for own, layer in zip(model.encoder.blocks, body.layers, strict=True):
        weights = own.attention.qkv.weight.chunk(3), own.attention.qkv.bias.chunk(3)
        for part, weight, bias in zip(("q_proj", "k_proj", "v_proj"), *weights, strict=True):
            getattr(layer.attention, part).weight.copy_(weight)
            getattr(layer.attention, part).bias.copy_(bias)
        layer.attention.o_proj.load_state_dict(own.attention.out.state_dict())
        layer.layernorm_before.load_state_dict(own.attention.norm.state_dict())
        layer.layernorm_after.load_state_dict(own.mlp.norm.state_dict())
        layer.mlp.fc1.load_state_dict(own.mlp.widen.state_dict())
        layer.mlp.fc2.load_state_dict(own.mlp.narrow.state_dict())
    body.layernorm.load_state_dict(model.encoder.norm.state_dict())
    other.classifier.load_state_dict(model.head.state_dict())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_joint_form_gives_the_logits_of_transformers():
    transformers = pytest.importorskip("transformers", reason="the dev extra installs transformers")
    model = make_small("joint", height=32, width=32)
    config = transformers.VivitConfig(
        image_size=32,
        num_frames=8,
        tubelet_size=[2, 16, 16],
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        hidden_act="gelu_pytorch_tanh",
        num_labels=7,
    )
    other = transformers.VivitForVideoClassification(config).eval()
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        copy_to_transformers(model, other)
        expected = other(clips.transpose(1, 2)).logits
        torch.testing.assert_close(model(clips), expected, atol=1e-5, rtol=1e-5)
