"""Compare ways to spend fewer tokens in a trained model: what is lost in accuracy, what is won in speed, one thread.

    python benchmarks/token_budget.py [--model runs/joint/model] [--rounds 7] [--large 3]

Without --model a joint nano ViViT is trained on `moving-shapes` first (two minutes). No way needs training of its own:

    change      before the blocks keep the embedded tubelets that differ most from the one before them in time: what
                `model.keep_tokens` does
    pixels      the same by the difference of their pixels
    variance    the same by the spread of the pixels in a tubelet
    random      the same by lot
    merging     in each block, between attention and MLP, merge the most alike pairs of tokens into their mean; larger
                tokens weigh more in attention (ToMe, arXiv 2210.09461); so much a block that the mean share over the
                blocks' MLPs is the one asked for

All ways take turns within each round, so that a noisy machine disturbs all alike; speeds are medians over the rounds.
The printed tables are markdown.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from einops import rearrange
from torch import Tensor

from tubelet import create_model, train
from tubelet.classifier import Classifier
from tubelet.data.catalogue import open_data
from tubelet.data.dataset import ClipDataset
from tubelet.data.loader import EpochOrder, LoaderOptions, make_loader
from tubelet.evaluation.evaluate import prepare_evaluation
from tubelet.models.blocks import Attention
from tubelet.models.vivit import ViViT
from tubelet.recipes.recipe import ModelRecipe
from tubelet.recipes.small import make_moving_shapes
from tubelet.transforms.preparation import normalize

SHARES = (0.75, 0.5, 0.35, 0.2)
BATCH = 32
NOISE = 0.5  # deviation of what is added to every pixel, in those of the clips

Way = Callable[[ViViT, Tensor, float], Tensor]


def cut(model: ViViT, clips: Tensor) -> Tensor:
    kt, kh, kw = model.config.tubelet
    return rearrange(clips, "b c (t kt) (h kh) (w kw) -> b t (h w) (c kt kh kw)", kt=kt, kh=kh, kw=kw)


def rate_pixels(model: ViViT, clips: Tensor) -> Tensor:
    cubes = cut(model, clips)
    change = (cubes[:, 1:] - cubes[:, :-1]).square().mean(-1)
    return rearrange(torch.cat([change[:, :1], change], dim=1), "b t n -> b (t n)")


def rate_variance(model: ViViT, clips: Tensor) -> Tensor:
    return rearrange(cut(model, clips).var(-1), "b t n -> b (t n)")


def rate_randomly(model: ViViT, clips: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(rearrange(cut(model, clips)[..., 0], "b t n -> b (t n)").shape, generator=generator)


def keep(model: ViViT, clips: Tensor, share: float) -> Tensor:
    model.keep_tokens(share)
    return model(clips)


def drop(model: ViViT, clips: Tensor, share: float, rate: Callable[[ViViT, Tensor], Tensor]) -> Tensor:
    rows = rearrange(model.encoder.positions(model.embed(clips)), "b t h w d -> b (t h w) d")
    kept = rate(model, clips).topk(round(share * rows.shape[1]), sorted=False).indices
    rows = rows.gather(1, kept[..., None].expand(-1, -1, rows.shape[2]))
    return model.head(model.encoder.norm(model.encoder.blocks(rows)).mean(1))


def plan_merging(share: float, depth: int) -> float:
    """Find the share that each block keeps of its tokens, so that the mean over the blocks is `share`."""
    low, high = 0.5, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        mean = sum(middle**index for index in range(1, depth + 1)) / depth
        low, high = (middle, high) if mean < share else (low, middle)
    return high


def attend(attention: Attention, rows: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    qkv = rearrange(
        attention.qkv(attention.norm(rows)), "b n (three heads d) -> three b heads n d", three=3, heads=attention.heads
    )
    query, key, value = qkv.unbind(0)
    bias = size.log()[:, None, None, :, 0]
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return attention.finish(rearrange(mixed, "b heads n d -> b n (heads d)")), key.mean(1)


def merge(rows: Tensor, size: Tensor, key: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Merge `count` tokens of even places into the token of an odd place whose key is most alike."""
    key = F.normalize(key, dim=-1)
    likeness, partner = (key[:, ::2] @ key[:, 1::2].transpose(1, 2)).max(-1)
    order = likeness.argsort(dim=1, descending=True)
    merged, kept = order[:, :count], order[:, count:]
    target = partner.gather(1, merged)[..., None]

    def join(values: Tensor) -> Tensor:
        even, odd = values[:, ::2], values[:, 1::2]
        width = values.shape[2]
        odd = odd.scatter_add(1, target.expand(-1, -1, width), even.gather(1, merged[..., None].expand(-1, -1, width)))
        return torch.cat([even.gather(1, kept[..., None].expand(-1, -1, width)), odd], dim=1)

    size_after = join(size)
    return join(rows * size) / size_after, size_after


def merge_between(model: ViViT, clips: Tensor, share: float) -> Tensor:
    rows = rearrange(model.encoder.positions(model.embed(clips)), "b t h w d -> b (t h w) d")
    size = rows.new_ones(*rows.shape[:2], 1)
    keep = plan_merging(share, len(model.encoder.blocks))
    for block in model.encoder.blocks:
        mixed, key = attend(block.attention, rows, size)
        rows = rows + mixed
        count = min(rows.shape[1] - round(keep * rows.shape[1]), rows.shape[1] // 2)
        if count:
            rows, size = merge(rows, size, key, count)
        rows = rows + block.mlp(rows)
    rows = model.encoder.norm(rows)
    return model.head((rows * size).sum(1) / size.sum(1))


WAYS: dict[str, Way] = {
    "change": keep,
    "pixels": partial(drop, rate=rate_pixels),
    "variance": partial(drop, rate=rate_variance),
    "random": partial(drop, rate=rate_randomly),
    "merging": merge_between,
}


def read_clips(classifier: Classifier) -> tuple[Tensor, Tensor]:
    manifest = open_data("moving-shapes")
    spec = classifier.input_spec
    dataset = ClipDataset(manifest.select("test"), manifest, spec, partial(prepare_evaluation, spec=spec))
    loader = make_loader(dataset, EpochOrder(len(dataset), BATCH, None), LoaderOptions(batch=BATCH))
    clips, labels = zip(*((normalize(batch.clips, spec), batch.labels) for batch in loader), strict=True)
    return torch.cat(clips), torch.cat(labels)


def race(runs: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median seconds of each run; they take turns within each round, after one round that is not counted."""
    times: list[list[float]] = [[] for _ in runs]
    for number in range(rounds + 1):
        for run, own in zip(runs, times, strict=True):
            started = time.perf_counter()
            run()
            if number:
                own.append(time.perf_counter() - started)
    return [statistics.median(own) for own in times]


def compare_trained(model: ViViT, clips: Tensor, labels: Tensor, rounds: int) -> None:
    noisy = clips + torch.randn(clips.shape, generator=torch.Generator().manual_seed(1)) * NOISE * clips.std()

    def score(way: Way, share: float, seen: Tensor) -> float:
        found = torch.cat([way(model, part, share).argmax(1) for part in seen.split(BATCH)])
        return float((found == labels).double().mean())

    ways = WAYS if model.config.form == "joint" and model.config.pooling == "mean" else {"change": keep}
    cases = [("all tokens", keep, 1.0), *((name, way, share) for share in SHARES for name, way in ways.items())]
    part = clips[:BATCH]
    seconds = race([partial(way, model, part, share) for _, way, share in cases], rounds)
    tokens = model.config.grid.t * model.config.grid.h * model.config.grid.w
    print(f"\n{model.config.name}, {tokens} tokens, {len(labels)} held-out clips, batches of {BATCH}:\n")
    print("| tokens | way | top-1 | top-1 with noise | clips/s | times as fast |\n|---|---|---|---|---|---|")
    for (name, way, share), took in zip(cases, seconds, strict=True):
        exact = " | ".join(f"{score(way, share, seen):.3f}" for seen in (clips, noisy))
        print(f"| {share:.0%} | {name} | {exact} | {BATCH / took:.0f} | {seconds[0] / took:.2f} |")


def compare_large(rounds: int) -> None:
    model = create_model("vivit_base_joint", 400, frames=16, pooling="mean").eval()
    clips = torch.randn(1, 3, 16, 224, 224)
    cases = [("all tokens", keep, 1.0)]
    cases += [(name, WAYS[name], share) for share in SHARES for name in ("change", "merging")]
    seconds = race([partial(way, model, clips, share) for _, way, share in cases], rounds)
    print("\nvivit_base_joint, 8 x 14 x 14 tokens, one clip, random weights:\n")
    print("| tokens | way | seconds a clip | times as fast |\n|---|---|---|---|")
    for (name, _, share), took in zip(cases, seconds, strict=True):
        print(f"| {share:.0%} | {name} | {took:.2f} | {seconds[0] / took:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a trained ViViT; not all ways fit all forms")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--large", type=int, default=3, help="rounds of the large model; 0 leaves it out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.model is None:
            recipe = replace(make_moving_shapes(), model=ModelRecipe("vivit_nano_joint"))
            options.model = train("moving-shapes", recipe=recipe, name="joint", runs=folder).folder / "model"
        classifier = Classifier.read(options.model)
    model = classifier.model
    if not isinstance(model, ViViT) or not model.drops_tokens:
        parser.error("--model must hold a joint or factorized_encoder ViViT")
    with torch.inference_mode():
        compare_trained(model, *read_clips(classifier), options.rounds)
        if options.large:
            compare_large(options.large)


if __name__ == "__main__":
    main()
