"""Pre-train VideoMAE without labels: hide nine tenths of a clip and predict the hidden pixels from the rest.

    clip --> tubelets --> drop the hidden --> [ encoder: block x depth ] --> norm --> narrow ---.
                                                                                               |
    loss <-- pixels of the hidden <-- head <-- norm <-- [ decoder: block x depth ] <-- seen + mask tokens

Tubes hide the same places at every moment, so that nothing can be copied from the frame before. The encoder sees the
tenth that is left, which makes a step several times cheaper than one of the classifier; afterwards only the encoder is
kept: `classifier.load_encoder(model.encoder_state())`.

VideoMAE V2 leaves tubelets out of the decoder too (`decoder_mask_ratio`, off by default): it is asked for half of all
tubelets, those that the encoder saw among them, and the loss counts those of the half that were hidden. Where nine
tenths are hidden a loss of the base size takes 0.73 times the multiply-accumulates.

Differences from the paper:
    - Every clip of a batch must hide equally many tubelets, as tubes do; other masks may be given too.
    - No flip is made here or anywhere by itself; the paper flips on Kinetics, the official code does not.
    - Of VideoMAE V2 the decoder's mask alone is here. All clips of a batch must decode equally many tubelets wherever
      their cells start: sides of the grid are best even. The official code cuts off what is left of a cell.

Source: arXiv 2203.12602, section 3; github.com/MCG-NJU/VideoMAE, modeling_pretrain.py, engine_for_pretraining.py;
arXiv 2303.16727, section 3.2; github.com/OpenGVLab/VideoMAEv2, masking_generator.py, engine_for_pretraining.py.
"""

from dataclasses import fields
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tubelet.errors import ConfigError
from tubelet.models.blocks import Block, Stack, plan_drop_path
from tubelet.models.card import change_config
from tubelet.models.contract import find_card
from tubelet.models.videomae import Encoder, make_index_sinusoids, pick, shape_blocks
from tubelet.models.videomae_config import (
    PretrainingConfig,
    VideoMAEConfig,
    count_decoded,
    count_pretraining_macs,
    plan_pretraining,
)
from tubelet.shapes import Size3

__all__ = [
    "Decoder",
    "Reconstruction",
    "VideoMAEPretraining",
    "create_pretraining",
    "draw_running_cell_mask",
    "draw_tube_mask",
]

_SMALLEST_SPREAD = 1e-6


def draw_tube_mask(
    grid: Size3, ratio: float, generator: torch.Generator, batch: int = 1
) -> Bool[Tensor, "{batch} {grid.t} {grid.h} {grid.w}"]:
    """Draw which tubelets to hide (True): the same places of the picture at every moment, others for every clip.

    Args:
        grid: tubelets along time, height and width, as `config.plan_grid` gives them.
        ratio: share of the places to hide, rounded down to whole places.
        generator: the only source of chance; its device is the mask's.
        batch: clips to draw for.

    Raises:
        ConfigError: a ratio that hides nothing or everything.

    Example:
        >>> mask = draw_tube_mask(Size3(8, 14, 14), 0.9, torch.Generator().manual_seed(0))
        >>> int(mask.sum()), mask.numel(), bool((mask == mask[:, :1]).all())
        (1408, 1568, True)

    Source: arXiv 2203.12602, section 3.3; `TubeMaskingGenerator` of the official code.
    """
    places = grid.h * grid.w
    hidden = int(ratio * places)
    if not 0 < hidden < places:
        raise ConfigError(
            f"mask_ratio must hide some of the {places} places of a moment and leave some - found {ratio}, which hides "
            f"{hidden} - give a share from {1 / places:.3g} to {1 - 1 / places:.3g}, or smaller tubelets."
        )
    chance = torch.rand(batch, places, generator=generator, device=generator.device)
    rank = chance.argsort(dim=1).argsort(dim=1)
    return repeat(rank < hidden, "b (h w) -> b t h w", t=grid.t, h=grid.h, w=grid.w)


def draw_running_cell_mask(
    grid: Size3, ratio: float, generator: torch.Generator, batch: int = 1
) -> Bool[Tensor, "{batch} {grid.t} {grid.h} {grid.w}"]:
    """Draw which tubelets the decoder leaves out (True): a cell of 2 x 2 places, repeated, that runs on at each moment.

    The cell is read in rows, `4 * ratio` of its places in a row are left out, and each moment they lie one place
    earlier; every place comes up within four moments. Each clip starts with the cell at one of four points, by lot.

    Args:
        grid: tubelets along time, height and width.
        ratio: 0.25, 0.5 or 0.75.
        generator: the only source of chance; its device is the mask's.
        batch: clips to draw for.

    Raises:
        ConfigError: another ratio, or a grid whose cells are incomplete.

    Example:
        >>> draw_running_cell_mask(Size3(2, 2, 2), 0.5, torch.Generator().manual_seed(0)).int().tolist()
        [[[[1, 1], [0, 0]], [[1, 0], [0, 1]]]]

    Source: arXiv 2303.16727, section 3.2; `RunningCellMaskingGenerator` of the official code.
    """
    count_decoded(grid, ratio)
    device = generator.device
    start = torch.randint(4, (batch, 1, 1, 1), generator=generator, device=device)
    t, h, w = (torch.arange(side, device=device) for side in grid)
    place = start + t[:, None, None] + 2 * (h % 2)[:, None] + w % 2
    return place % 4 < 4 * ratio


class Reconstruction(NamedTuple):
    """Hold three clips to look at, values in 0..1, each (batch, channel, time, height, width)."""

    original: Float[Tensor, "batch channel time height width"]
    """What was given."""
    masked: Float[Tensor, "batch channel time height width"]
    """What the encoder saw; the hidden is gray."""
    filled: Float[Tensor, "batch channel time height width"]
    """What it saw, and in place of the hidden what the model predicts."""


class Decoder(nn.Module):
    """Predict the pixels of hidden tubelets from encoded ones and mask tokens."""

    def __init__(self, config: PretrainingConfig) -> None:
        super().__init__()
        dim, depth = config.decoder_dim, config.decoder_depth
        shape = shape_blocks(config.encoder, dim, config.decoder_heads, config.decoder_mlp_dim)
        rates = plan_drop_path(config.encoder.drop_path, depth)
        self.blocks = Stack(*(Block(shape, rate) for rate in rates))
        self.norm = nn.LayerNorm(dim, eps=config.decoder_eps)
        self.head = nn.Linear(dim, config.encoder.voxels)

    def forward(self, rows: Float[Tensor, "batch token dim"], count: int) -> Float[Tensor, "batch {count} voxel"]:
        """Return the pixels of the last `count` tokens of each row."""
        pixels: Tensor = self.head(self.norm(self.blocks(rows)[:, -count:]))
        return pixels


class VideoMAEPretraining(nn.Module):
    """Learn an encoder from clips without labels, by predicting what is hidden from it.

    Build it with `create_pretraining`; call it with clips and a mask for the loss.

    Args:
        config: the resolved hyper-parameters.

    Cost: at a ratio of 0.9 a step is about five times cheaper than the classifier's; see `count_macs`.
    """

    def __init__(self, config: PretrainingConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.norm = nn.LayerNorm(config.encoder.dim, eps=config.encoder.eps)
        self.narrow = nn.Linear(config.encoder.dim, config.decoder_dim, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(config.decoder_dim))
        self.decoder = Decoder(config)
        self._draw_weights()

    def _draw_weights(self) -> None:
        """Draw the official first weights: Xavier uniform, but for the embedding, which keeps torch's default."""
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        for part in (self.encoder.blocks, self.decoder):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)

    def forward(
        self,
        clips: Float[Tensor, "batch channel time height width"],
        mask: Bool[Tensor, "batch t h w"],
        decoder_mask: Bool[Tensor, "batch t h w"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the loss: the mean squared error over the numbers of the hidden tubelets that are decoded.

        Args:
            clips: pixels, normalized by `config.mean` and `config.std`.
            mask: True for the tubelets to hide, equally many in each clip; best left where it was drawn, on the CPU.
            decoder_mask: True for the tubelets not to decode, equally many in each clip, as `draw_running_cell_mask`
                makes it; all hidden ones are decoded where none is given.

        Raises:
            ConfigError: a mask of another grid, or one that hides nothing, everything, or unequal numbers.
        """
        seen, hidden = self._split_mask(clips, mask)
        if decoder_mask is None:
            with torch.no_grad():
                targets = pick(self.make_targets(clips), hidden)
            return F.mse_loss(self._predict(clips, seen, hidden).to(targets), targets)
        decoded, _ = self._split_mask(clips, decoder_mask)
        with torch.no_grad():
            targets = pick(self.make_targets(clips), decoded)
            counts = rearrange(mask, "batch t h w -> batch (t h w)").to(decoded.device).gather(1, decoded).to(targets)
        errors = (self._predict(clips, seen, decoded).to(targets) - targets).square().mean(dim=2)
        # On grids of one to three moments it may happen that nothing hidden is decoded.
        return (errors * counts).sum() / counts.sum().clamp(min=1)

    def predict(
        self,
        clips: Float[Tensor, "batch channel time height width"],
        mask: Bool[Tensor, "batch t h w"],
    ) -> Float[Tensor, "batch hidden voxel"]:
        """Return the predicted numbers of every hidden tubelet, in the order and on the scale of `make_targets`."""
        return self._predict(clips, *self._split_mask(clips, mask))

    def _predict(self, clips: Tensor, seen: Tensor, decoded: Tensor) -> Tensor:
        rows: Tensor = self.narrow(self.norm(self.encoder(clips, seen)))
        t, h, w = self.config.encoder.plan_grid(*clips.shape[2:])
        positions = make_index_sinusoids(t * h * w, rows.shape[2], rows)[torch.cat([seen, decoded], dim=1)]
        blanks = self.mask_token.to(rows).expand(rows.shape[0], decoded.shape[1], -1)
        pixels: Tensor = self.decoder(torch.cat([rows, blanks], dim=1) + positions, decoded.shape[1])
        return pixels

    def make_targets(
        self, clips: Float[Tensor, "batch channel time height width"]
    ) -> Float[Tensor, "batch token voxel"]:
        """Return what to predict for every tubelet: its values, frames first, then rows, columns and channels.

        With `normalize_targets` each channel of a tubelet has mean 0 and deviation 1.
        """
        cubes = self._cut(self._to_pixels(clips))
        if self.config.normalize_targets:
            mean, spread = _measure(cubes)
            cubes = (cubes - mean) / spread
        return rearrange(cubes, "batch token pixel channel -> batch token (pixel channel)")

    @torch.no_grad()
    def reconstruct(
        self,
        clips: Float[Tensor, "batch channel time height width"],
        mask: Bool[Tensor, "batch t h w"],
    ) -> Reconstruction:
        """Return what was given, what the encoder saw, and what the model fills in, as pictures.

        With `normalize_targets` the model says nothing about the mean and spread of a hidden tubelet; those of the
        original are used, as in the official pictures.
        """
        grid = self.config.encoder.plan_grid(*clips.shape[2:])
        _, hidden = self._split_mask(clips, mask)
        cubes = self._cut(self._to_pixels(clips))
        values = rearrange(self.predict(clips, mask).to(cubes), "b n (p c) -> b n p c", c=cubes.shape[3])
        where = hidden[..., None, None].expand(values.shape)
        if self.config.normalize_targets:
            mean, spread = _measure(cubes)
            own = hidden[..., None, None].expand(-1, -1, 1, cubes.shape[3])
            values = values * spread.gather(1, own) + mean.gather(1, own)
        pictures = (cubes, cubes.scatter(1, where, 0.5), cubes.scatter(1, where, values))
        return Reconstruction(*(self._join(picture, grid).clamp(0, 1) for picture in pictures))

    def encoder_state(self) -> dict[str, Tensor]:
        """Return the encoder's weights for `VideoMAE.load_encoder`; the rest has served its purpose."""
        return {f"encoder.{key}": value for key, value in self.encoder.state_dict().items()}

    def count_macs(self) -> int:
        """Count the multiply-accumulates that the loss of one clip of the training size costs."""
        return count_pretraining_macs(self.config)

    def _split_mask(
        self, clips: Float[Tensor, "batch channel time height width"], mask: Bool[Tensor, "batch t h w"]
    ) -> tuple[Int[Tensor, "batch seen"], Int[Tensor, "batch hidden"]]:
        """Return the places of seen and of hidden tubelets, each in the order of the grid, on the clips' device."""
        grid = self.config.encoder.plan_grid(*clips.shape[2:])
        if tuple(mask.shape) != (clips.shape[0], *grid):
            raise ConfigError(
                f"these clips need a mask of shape {(clips.shape[0], *grid)} (batch, t, h, w) - found "
                f"{tuple(mask.shape)} - draw_tube_mask(config.plan_grid(frames, height, width), ...) makes one."
            )
        flat = rearrange(mask, "batch t h w -> batch (t h w)")
        counts = sorted(set(flat.sum(dim=1).tolist()))
        if len(counts) > 1 or not 0 < counts[0] < flat.shape[1]:
            raise ConfigError(
                f"a mask must hide equally many tubelets of every clip, some and not all of {flat.shape[1]} - found "
                f"{', '.join(map(str, counts))} hidden - draw_tube_mask makes such masks."
            )
        order = flat.to(torch.uint8).argsort(dim=1, stable=True).to(clips.device, non_blocking=True)
        seen = flat.shape[1] - counts[0]
        return order[:, :seen], order[:, seen:]

    def _to_pixels(self, clips: Tensor) -> Tensor:
        """Undo the normalization of the input: values in 0..1 again, in single precision at least."""
        clips = clips if clips.dtype == torch.float64 else clips.float()
        mean, std = (clips.new_tensor(numbers)[:, None, None, None] for numbers in (self.config.mean, self.config.std))
        return clips * std + mean

    def _cut(self, clips: Tensor) -> Tensor:
        kt, kh, kw = self.config.encoder.tubelet
        return rearrange(clips, "b c (t kt) (h kh) (w kw) -> b (t h w) (kt kh kw) c", kt=kt, kh=kh, kw=kw)

    def _join(self, cubes: Tensor, grid: Size3) -> Tensor:
        kt, kh, kw = self.config.encoder.tubelet
        pattern = "b (t h w) (kt kh kw) c -> b c (t kt) (h kh) (w kw)"
        return rearrange(cubes, pattern, t=grid.t, h=grid.h, w=grid.w, kt=kt, kh=kh, kw=kw)


def _measure(cubes: Float[Tensor, "batch token pixel channel"]) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel of each tubelet; the deviation is never zero."""
    spread = cubes.var(dim=2, unbiased=True, keepdim=True).sqrt() + _SMALLEST_SPREAD
    return cubes.mean(dim=2, keepdim=True), spread


def create_pretraining(name: str, **changes: Any) -> VideoMAEPretraining:
    """Build the pre-training model of a registered VideoMAE classifier, with fresh weights.

    Args:
        name: a registered VideoMAE, such as `videomae_base`.
        **changes: hyper-parameters that differ: fields of `VideoMAEConfig` and of `PretrainingConfig`.

    Raises:
        UnknownName: nobody registered the name.
        ConfigError: the name of another architecture, a hyper-parameter that does not exist, or a value that does not
            fit.

    Example:
        >>> model = create_pretraining("videomae_nano")
        >>> mask = draw_tube_mask(model.config.encoder.grid, 0.9, torch.Generator().manual_seed(0), batch=2)
        >>> model(torch.randn(2, 3, 16, 48, 48), mask).shape
        torch.Size([])
    """
    card = find_card(name)
    if not isinstance(card.config, VideoMAEConfig):
        raise ConfigError(
            f"masked pre-training is for VideoMAE - found {name}, a {card.architecture} - "
            "`list_models('videomae_*')` lists those that can be pre-trained."
        )
    of_encoder = {field.name for field in fields(VideoMAEConfig)}
    encoder = change_config(card.config, {key: value for key, value in changes.items() if key in of_encoder})
    others = {key: value for key, value in changes.items() if key not in of_encoder}
    return VideoMAEPretraining(plan_pretraining(encoder, **others))
