"""Image models inflated into video models: at first a clip that stands still is its picture."""

import numpy as np
import pytest
import torch
from einops import rearrange, repeat
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tubelet.models import create_model, load_weights
from tubelet.models.timesformer_config import STEPS
from tubelet.models.weights.images import inflate_kernel

SMALL = {"dim": 24, "depth": 2, "heads": 3, "mlp_dim": 40}
SIZE = {"frames": 6, "height": 24, "width": 24}


class ImageTransformer(nn.Module):
    """A ViT with timm's names, written out: 24 x 24 pixels, patches of 8, a class token."""

    def __init__(self, classes=5, side=3, gelu="none"):
        super().__init__()
        dim, hidden = SMALL["dim"], SMALL["mlp_dim"]
        self.gelu = gelu
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + side * side, dim))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, 8, stride=8)})
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(dim, eps=1e-6),
                    "attn": nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim), "proj": nn.Linear(dim, dim)}),
                    "norm2": nn.LayerNorm(dim, eps=1e-6),
                    "mlp": nn.ModuleDict({"fc1": nn.Linear(dim, hidden), "fc2": nn.Linear(hidden, dim)}),
                }
            )
            for _ in range(SMALL["depth"])
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)

    def forward(self, pictures, *, pool="token", rows_of=None):
        """Score pictures; with `rows_of`, lists of places, patches see those of their list alone."""
        rows = rearrange(self.patch_embed["proj"](pictures), "b d h w -> b (h w) d") + self.pos_embed[:, 1:]
        if pool == "token":
            rows = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(len(rows), -1, -1), rows], dim=1)
        for block in self.blocks:
            rows = rows + self.attend(block, rows, rows_of)
            hidden = F.gelu(block["mlp"]["fc1"](block["norm2"](rows)), approximate=self.gelu)
            rows = rows + block["mlp"]["fc2"](hidden)
        rows = self.norm(rows)
        return self.head(rows[:, 0] if pool == "token" else rows.mean(1))

    def attend(self, block, rows, rows_of):
        qkv = rearrange(block["attn"]["qkv"](block["norm1"](rows)), "b n (p h d) -> p b h n d", p=3, h=3)
        if rows_of is None:
            mixed = rearrange(F.scaled_dot_product_attention(*qkv), "b h n d -> b n (h d)")
            return block["attn"]["proj"](mixed)
        branch = torch.zeros_like(rows)
        for places in rows_of:
            own = torch.tensor([0, *(1 + place for place in places)])
            mixed = rearrange(F.scaled_dot_product_attention(*qkv[..., own, :]), "b h n d -> b n (h d)")
            found = block["attn"]["proj"](mixed)
            branch[:, own[1:]] = found[:, 1:]
            branch[:, 0] += found[:, 0] / len(rows_of)
        return branch


def hold_still(pictures, frames):
    return repeat(pictures, "b c h w -> b c t h w", t=frames)


def draw():
    torch.manual_seed(1)
    return torch.randn(2, 3, 24, 24)


@pytest.mark.parametrize("inflation", ["central", "average"])
def test_a_kernel_is_inflated_as_stated(inflation):
    torch.manual_seed(0)
    kernel, clip = torch.randn(4, 3, 8, 8), torch.randn(1, 3, 5, 8, 8)
    inflated = inflate_kernel(kernel, 5, inflation)
    frame = clip[:, :, 2] if inflation == "central" else clip.mean(2)
    expected = F.conv2d(frame, kernel)
    torch.testing.assert_close(F.conv3d(clip, inflated)[:, :, 0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["divided", "joint", "space_only"])
def test_a_still_clip_gives_timesformer_the_logits_of_the_picture(form):
    torch.manual_seed(0)
    image = ImageTransformer()
    model = create_model(f"timesformer_base_{form}", 5, patch=8, **SIZE, **SMALL).eval()
    report = load_weights(model, image.state_dict())
    assert (report.fresh, report.unused, report.origin) == ((), (), "timm's ViT")
    pictures = draw()
    clips = hold_still(pictures, 6)
    with torch.no_grad():
        # Joint attention over six copies of every patch and one class token weighs the token less, by design.
        if form != "joint":
            torch.testing.assert_close(model(clips), image(pictures), atol=1e-4, rtol=1e-4)
        else:
            one = create_model("timesformer_base_joint", 5, patch=8, **{**SIZE, "frames": 1}, **SMALL).eval()
            load_weights(one, image.state_dict())
            torch.testing.assert_close(one(clips[:, :, :1]), image(pictures), atol=1e-4, rtol=1e-4)


COLUMNS = [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
EVERY_SECOND = [[0, 2, 6, 8], [1, 7], [3, 5], [4]]


@pytest.mark.parametrize(("form", "frames", "rows_of"), [("axial", 6, COLUMNS), ("local_global", 1, EVERY_SECOND)])
def test_a_still_clip_gives_other_forms_the_logits_of_a_picture_whose_patches_see_only_some(form, frames, rows_of):
    # No step of these forms sees a whole frame: the last sees columns, or every second patch.
    torch.manual_seed(0)
    image = ImageTransformer()
    model = create_model(f"timesformer_base_{form}", 5, patch=8, **{**SIZE, "frames": frames}, **SMALL).eval()
    report = load_weights(model, image.state_dict())
    assert (report.fresh, report.unused, report.origin) == ((), (), "timm's ViT")
    pictures = draw()
    with torch.no_grad():
        found, expected = model(hold_still(pictures, frames)), image(pictures, rows_of=rows_of)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        assert (found - image(pictures)).abs().max() > 1e-2


@pytest.mark.parametrize("form", ["divided", "local_global", "axial"])
def test_every_step_of_timesformer_starts_as_a_copy_and_all_but_the_last_project_to_zero(form):
    torch.manual_seed(0)
    image = ImageTransformer()
    model = create_model(f"timesformer_base_{form}", 5, patch=8, **SIZE, **SMALL)
    load_weights(model, image.state_dict())
    state, expected = model.state_dict(), image.state_dict()
    *early, last = STEPS[form]
    for step in (*early, last):
        for part in ("weight", "bias"):
            for ours, theirs in (("qkv", "attn.qkv"), ("out", "attn.proj"), ("norm", "norm1")):
                assert torch.equal(state[f"blocks.1.{step}.{ours}.{part}"], expected[f"blocks.1.{theirs}.{part}"])
    assert not any(state[f"blocks.1.{step}_project.{part}"].any() for step in early for part in ("weight", "bias"))


@pytest.mark.parametrize("form", ["axial", "local_global"])
def test_a_frame_of_one_patch_gives_the_logits_of_the_picture_in_every_form(form):
    torch.manual_seed(0)
    image = ImageTransformer(side=1)
    model = create_model(f"timesformer_base_{form}", 5, frames=1, height=8, width=8, patch=8, **SMALL).eval()
    load_weights(model, image.state_dict())
    pictures = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(hold_still(pictures, 1)), image(pictures), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("inflation", ["central", "average"])
@pytest.mark.parametrize("form", ["joint", "factorized_encoder", "factorized_attention", "factorized_dot_product"])
def test_a_still_clip_gives_vivit_the_logits_of_the_picture(form, inflation):
    torch.manual_seed(0)
    image = ImageTransformer(gelu="tanh")
    changes = {"temporal_depth": 0} if form == "factorized_encoder" else {}
    heads = {"heads": 4} if form == "factorized_dot_product" else {}
    model = create_model(
        f"vivit_base_{form}", 5, tubelet=(2, 8, 8), pooling="mean", **SIZE, **{**SMALL, **heads}, **changes
    ).eval()
    report = load_weights(model, image.state_dict(), inflation=inflation)
    assert report.fresh == ()
    assert report.unused == ("cls_token",)
    pictures = draw()
    if form == "factorized_dot_product":  # half its heads see one place alone: nothing to compare with
        return
    with torch.no_grad():
        found = model(hold_still(pictures, 6))
        torch.testing.assert_close(found, image(pictures, pool="mean"), atol=1e-4, rtol=1e-4)


def test_time_that_starts_at_zero_can_still_be_learned():
    """Trap: with all of its layers at zero it could not."""
    torch.manual_seed(0)
    model = create_model("vivit_base_factorized_attention", 5, tubelet=(2, 8, 8), **SIZE, **SMALL)
    load_weights(model, ImageTransformer().state_dict())
    block = model.encoder.blocks[0]
    assert not block.time.out.weight.any()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        loss = F.cross_entropy(model(torch.randn(4, 3, 6, 24, 24)), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert block.time.out.weight.any()
    assert block.time.qkv.weight.grad.any()


def test_a_larger_picture_is_stretched_and_a_second_encoder_stays_fresh():
    torch.manual_seed(0)
    changes = {"pooling": "token", "temporal_depth": 1, "tubelet": (2, 8, 8)}
    model = create_model("vivit_base_factorized_encoder", 7, **SIZE, **SMALL, **changes)
    report = load_weights(model, ImageTransformer(side=5).state_dict())
    assert report.resized == ("encoder.positions.grid (1, 5, 5, 24) -> (1, 3, 3, 24)",)
    assert all(key.startswith(("temporal_encoder.", "head.")) for key in report.fresh)
    assert {"temporal_encoder.norm.weight", "head.weight"} <= set(report.fresh)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prefix", ["", "vit."])
def test_image_models_of_transformers_are_inflated_too(prefix, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the dev extra installs transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=24, patch_size=8, layer_norm_eps=1e-6, num_labels=5, **sizes)
    image = transformers.ViTForImageClassification(config).eval()
    with torch.no_grad():
        for parameter in image.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    (image if prefix else image.vit).save_pretrained(tmp_path)
    model = create_model("timesformer_base_divided", 5, patch=8, **SIZE, **SMALL).eval()
    report = load_weights(model, tmp_path)
    assert report.origin == "transformers' ViT"
    pictures = draw()
    with torch.no_grad():
        model.head.load_state_dict(image.classifier.state_dict())
        found = model(hold_still(pictures, 6))
        torch.testing.assert_close(found, image(pictures).logits, atol=1e-4, rtol=1e-4)


def name_in_torchvision(key):
    """Name one of our I3D's keys as torchvision's GoogLeNet does."""
    blocks = dict(zip(("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"), _BLOCKS, strict=True))
    key = key.removeprefix("body.").replace(".norm.", ".bn.").replace("head.", "fc.")
    for ours, theirs in (("conv_1a", "conv1"), ("conv_2b", "conv2"), ("conv_2c", "conv3")):
        key = key.replace(ours, theirs)
    for ours, theirs in blocks.items():
        key = key.replace(f"mixed_{ours}", f"inception{theirs}")
    key = key.replace("branches.0.0", "branch1").replace("branches.3.1", "branch4.1")
    return key.replace("branches.1.", "branch2.").replace("branches.2.", "branch3.")


_BLOCKS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")


def test_a_flat_inception_becomes_an_i3d_that_sees_a_still_clip_as_its_picture():
    torch.manual_seed(0)
    model = create_model("i3d_rgb", 5, scale=0.125, frames=8, height=32, width=32).eval()
    flat = {}
    for key, value in model.state_dict().items():
        drawn = torch.rand_like(value) + 0.1 if "running_var" in key else torch.randn_like(value.float()) * 0.1
        flat[name_in_torchvision(key)] = drawn.mean(2) if value.ndim == 5 else drawn
    flat["aux1.fc1.weight"] = torch.zeros(3)
    report = load_weights(model, flat)
    assert report.unused == ("aux1.fc1.weight",)
    first = model.state_dict()["body.conv_1a.conv.weight"]
    expected = repeat(flat["conv1.conv.weight"], "o i h w -> o i t h w", t=first.shape[-1]) / first.shape[-1]
    torch.testing.assert_close(first, expected)
    # A kernel that averages over time gives at every inner moment of a still clip what the flat one gives.
    clip = torch.randn(1, 3, 1, 16, 16).expand(-1, -1, 15, -1, -1)
    flat_map = F.conv2d(clip[:, :, 0], flat["conv1.conv.weight"])
    deep_map = F.conv3d(clip, first)
    np.testing.assert_allclose(deep_map[:, :, 0].detach(), flat_map.detach(), atol=1e-5)
