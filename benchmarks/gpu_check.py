"""Check that this GPU trains as it should: number formats, compiling and sharding against plain float32.

    python benchmarks/gpu_check.py
    torchrun --standalone --nproc-per-node 2 benchmarks/gpu_check.py        # shared out over two GPUs

The same small ViViT takes the same steps on the same made-up clips in each way; what is compared is the loss of every
step. Exit status 0: all near enough; 1: some is not; 2: no GPU. `--device cpu` tries the script without one.

fp16 scales its loss, and leaves a step out where the scale was too large: such a step is taken again. How far each way
may be off is set by hand; on a CPU the ways differ by a tenth of that or less.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist

from tubelet.data.dataset import Batch
from tubelet.errors import ConfigError
from tubelet.prediction.devices import choose_device
from tubelet.recipes.optimization import OptimizerRecipe
from tubelet.recipes.recipe import ModelRecipe, Recipe
from tubelet.training.optimizer import make_optimizer
from tubelet.training.ranks import ALONE, Ranks, join_ranks
from tubelet.training.sharding import Sharding, make_filler
from tubelet.training.step import Stepper
from tubelet.training.trainer import make_classification
from tubelet.video.spec import InputSpec

CLASSES = {"dark": 8, "bright": 8}
MOST_AGAIN = 20


@dataclass(frozen=True)
class Way:
    """State one way to train."""

    name: str
    precision: str = "fp32"
    compiled: bool = False
    sharded: bool = False
    allowed: float = 1e-3
    """Difference of a loss from that of plain float32."""


WAYS = (
    Way("fp32 once more", allowed=1e-4),
    Way("bf16", "bf16", allowed=0.1),
    Way("fp16", "fp16", allowed=0.02),
    Way("fp32 compiled", compiled=True),
    Way("bf16 compiled", "bf16", compiled=True, allowed=0.1),
    Way("fp32 sharded", sharded=True),
    Way("bf16 sharded", "bf16", sharded=True, allowed=0.1),
    Way("fp16 sharded", "fp16", sharded=True, allowed=0.02),
)


def make_batch(step: int, spec: InputSpec) -> Batch:
    """Make clips of noise, those of one class darker."""
    labels = torch.arange(8) % 2
    noise = torch.rand(8, spec.frames, spec.height, spec.width, 3, generator=torch.Generator().manual_seed(step))
    clips = ((0.7 + 0.3 * labels.view(8, 1, 1, 1, 1)) * noise * 255).to(torch.uint8)
    return Batch(clips=clips, labels=labels, indices=torch.arange(8), bad=(), lengths=None)


def take_share(batch: Batch, ranks: Ranks) -> Batch:
    own = list(ranks.take_share(range(len(batch.labels))))
    return replace(batch, clips=batch.clips[own], labels=batch.labels[own], indices=batch.indices[own])


def train(way: Way, recipe: Recipe, device: torch.device, steps: int, ranks: Ranks) -> tuple[list[float], int]:
    """Return the loss of each step, and how many steps a scaler left out."""
    torch.manual_seed(0)
    recipe = replace(recipe, training=replace(recipe.training, precision=way.precision))
    task = make_classification(recipe, CLASSES, 16, "classification", device)
    sharding = Sharding(task.model, make_filler(recipe.input), device, ranks) if way.sharded else None
    if way.compiled:
        task.model.compile()
    optimizer = make_optimizer(task.model, recipe.optimizer)
    stepper = Stepper(task, optimizer, recipe, ranks=ranks if way.sharded else ALONE, sharding=sharding)
    stepper.start_epoch()
    losses, again = [], 0
    while len(losses) < steps:
        scale = stepper.scaler.get_scale()
        batch = make_batch(len(losses), recipe.input)
        outcome = stepper.take([(len(losses), take_share(batch, ranks) if way.sharded else batch)], epoch=0)
        if stepper.scaler.get_scale() < scale and again < MOST_AGAIN:
            again += 1
        else:
            losses.append(outcome.loss_sum / outcome.count)
    return losses, again


def say(ranks: Ranks, text: str) -> None:
    if ranks.is_main:
        print(text.rstrip(), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script")
    parser.add_argument("--model", default="vivit_nano_factorized_encoder")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--ways", nargs="*", choices=[way.name for way in WAYS], help="only these; all without")
    options = parser.parse_args()
    ranks = join_ranks(options.device)
    try:
        device = choose_device(options.device, ranks.local_rank)
    except ConfigError as error:
        print(f"no GPU to check: {error}", file=sys.stderr)
        return 2
    backend = "nccl" if device.type == "cuda" else "gloo"
    if ranks.size == 1:
        place = Path(tempfile.mkdtemp()) / "store"
        dist.init_process_group(backend, init_method=place.as_uri(), rank=0, world_size=1)
    recipe = Recipe(
        model=ModelRecipe(options.model),
        input=InputSpec(frames=16, height=32, width=32),
        optimizer=OptimizerRecipe(lr=1e-3, warmup_epochs=0.0),
    )
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    wanted, _ = train(Way("fp32"), recipe, device, options.steps, ranks)
    say(ranks, f"{name}, PyTorch {torch.__version__}, {options.model}, {options.steps} steps, {ranks.size} process(es)")
    say(ranks, f"{'':16}{'first loss':>12}{'last loss':>12}{'difference':>12}{'allowed':>10}{'again':>7}")
    say(ranks, f"{'fp32':16}{wanted[0]:12.5f}{wanted[-1]:12.5f}")
    failed = False
    for way in (way for way in WAYS if not options.ways or way.name in options.ways):
        losses, again = train(way, recipe, device, options.steps, ranks)
        torch._dynamo.reset()
        difference = max(abs(one - other) for one, other in zip(wanted, losses, strict=True))
        is_near = difference <= way.allowed  # False for what is no number
        failed |= not is_near
        figures = f"{losses[0]:12.5f}{losses[-1]:12.5f}{difference:12.1e}{way.allowed:10.0e}{again:7}"
        say(ranks, f"{way.name:16}{figures}  {'' if is_near else 'TOO FAR'}")
    dist.destroy_process_group()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
