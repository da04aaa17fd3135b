"""Compare a training step with transformers' Trainer: the same model, weights, clips and optimizer, in turns.

    python benchmarks/training_step.py [--threads 2] [--batch 2] [--turns 12] [--theirs bf16]
    python benchmarks/training_step.py --device cuda --peak-tflops 989 [--batch 16] [--turns 50]

A turn is one step of a real `Trainer.train()`, from `on_step_begin` to `on_step_end`, and one step of each of ours:
`train_epoch` over one batch, which is what `tubelet train` does from one batch to the next. Clips lie in memory: ours
as uint8, which the step normalizes (and, on a GPU, moves there); theirs as the normalized float32 that their model
takes, on its device, which costs their step nothing. Both: AdamW, clipping at norm 1, a constant rate, no dropout, no
checkpointing. Ratios are of the steps of one turn, so that a noisy machine disturbs both sides alike; the first turns
are not counted. `tubelet train` has the C library keep freed memory; here that serves both sides.

On a CPU the model is VideoMAE-small; ours runs in fp32, and in what `training.precision: auto` chooses. On a GPU the
models are VideoMAE-B and ViViT-B (joint), bf16 and compiled on both sides. `of peak` is the work of a step (three times
the forward pass, two operations a multiply-accumulate) over its time and `--peak-tflops`: of dense bf16 products, 989
for an H100 or H200 SXM, 312 for an A100. The printed tables are markdown.

torchvision beside a PyTorch for the CPU does not import by itself; two operators are declared for it first.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
if not hasattr(torch.ops.torchvision, "nms"):
    for _name in ("nms", "qnms"):
        _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from transformers import (  # noqa: E402 - it imports torchvision, which imports only after that
    AutoModelForVideoClassification,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging  # noqa: E402

from tubelet.classifier import Classifier  # noqa: E402
from tubelet.data.dataset import Batch  # noqa: E402
from tubelet.models import create_model  # noqa: E402
from tubelet.models.contract import find_card  # noqa: E402
from tubelet.prediction.devices import choose_device  # noqa: E402
from tubelet.recipes.optimization import OptimizerRecipe  # noqa: E402
from tubelet.recipes.recipe import Recipe, TrainingRecipe  # noqa: E402
from tubelet.training.loop import Classification, train_epoch  # noqa: E402
from tubelet.training.optimizer import make_optimizer, make_schedule  # noqa: E402
from tubelet.training.step import Stepper  # noqa: E402
from tubelet.transforms.preparation import normalize  # noqa: E402

CLASSES = tuple(f"class {index}" for index in range(10))
THEIRS = {"videomae": {"final_eps": 1e-5}}
"""What transformers' models of an architecture have fixed otherwise than ours."""
LR, DECAY, CLIP_NORM = 1e-4, 0.05, 1.0


class Took(NamedTuple):
    """What one step took."""

    wall_s: float
    processor_s: float


class Turns(TrainerCallback):
    """Time each step of the Trainer, then take and time one of each of ours."""

    def __init__(self, ours: Mapping[str, Callable[[], object]], device: torch.device) -> None:
        self.ours = ours
        self.device = device
        self.took: dict[str, list[Took]] = {"theirs": [], **{name: [] for name in ours}}

    def read_clocks(self) -> Took:
        """Read both clocks when the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return Took(time.perf_counter(), time.process_time())

    def note(self, name: str, since: Took) -> None:
        """Note what a step took."""
        now = self.read_clocks()
        self.took[name].append(Took(now.wall_s - since.wall_s, now.processor_s - since.processor_s))

    def on_step_begin(self, *_: object, **__: object) -> None:
        """Start the clock of their step."""
        self.started = self.read_clocks()

    def on_step_end(self, *_: object, **__: object) -> None:
        """Stop it; then it is our turn."""
        self.note("theirs", self.started)
        for name, step in self.ours.items():
            started = self.read_clocks()
            step()
            self.note(name, started)


def make_step(
    classifier: Classifier, batch: Batch, device: torch.device, training: TrainingRecipe
) -> Callable[[], object]:
    recipe = Recipe(
        input=classifier.input_spec,
        optimizer=OptimizerRecipe(lr=LR, min_lr=LR, warmup_epochs=0, weight_decay=DECAY, clip_norm=CLIP_NORM),
        training=training,
    )
    classifier = deepcopy(classifier)
    classifier.model.to(device)
    stepper = Stepper(Classification(classifier, recipe), make_optimizer(classifier.model, recipe.optimizer), recipe)
    schedule = make_schedule(recipe.optimizer, 1, 1)
    return partial(train_epoch, stepper, [batch], schedule, num_batches=1)


def make_trainer(
    classifier: Classifier, inputs: Tensor, labels: Tensor, turns: int, given: argparse.Namespace, callback: Turns
) -> Trainer:
    with tempfile.TemporaryDirectory() as folder:
        classifier.save_for_transformers(folder)
        model = AutoModelForVideoClassification.from_pretrained(folder)
    clips = inputs.transpose(1, 2).contiguous()
    rows = [{"pixel_values": clip, "labels": label} for clip, label in zip(clips, labels, strict=True)]
    with torch.inference_mode():
        ours, theirs = classifier.model.eval()(inputs[:1]), model.eval()(pixel_values=clips[:1]).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)  # else two different things would be compared
    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),
        max_steps=turns,
        per_device_train_batch_size=len(clips),
        learning_rate=LR,
        weight_decay=DECAY,
        max_grad_norm=CLIP_NORM,
        lr_scheduler_type="constant",
        bf16=given.theirs == "bf16",
        torch_compile=given.compile,
        use_cpu=given.device == "cpu",
        dataloader_pin_memory=given.device != "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[callback])
    trainer.remove_callback(PrinterCallback)
    return trainer


def compare(name: str, given: argparse.Namespace) -> None:
    card, device = find_card(name), choose_device(given.device)  # on a CPU, both sides keep the memory that they freed
    torch.manual_seed(0)
    model = create_model(name, num_classes=len(CLASSES), **THEIRS.get(card.architecture, {}))
    classifier = Classifier(model, card.input_spec, CLASSES)
    torch.nn.init.normal_(classifier.model.head.weight, std=0.02)  # zeros would let no gradient into the body at first
    spec = card.input_spec
    clips = torch.randint(0, 256, (given.batch, spec.frames, spec.height, spec.width, 3), dtype=torch.uint8)
    batch = Batch(clips, torch.arange(given.batch) % len(CLASSES), torch.arange(given.batch))
    batch = batch if device.type == "cpu" else batch.pin_memory()
    ours = {
        precision: make_step(
            classifier, batch, device, TrainingRecipe(batch=given.batch, precision=precision, compile=given.compile)
        )
        for precision in given.ours
    }
    turns = Turns(ours, device)
    make_trainer(classifier, normalize(clips, spec), batch.labels, given.warmup + given.turns, given, turns).train()
    print(f"\n{name}, {given.batch} clips of {spec.frames} frames, theirs in {given.theirs}")
    report({side: took[given.warmup :] for side, took in turns.took.items()}, card.macs * given.batch, given)


def report(took: Mapping[str, list[Took]], macs: int, given: argparse.Namespace) -> None:
    print("\n| step | wall s | processor s | clips/s | of peak | wall / theirs (quartiles) | processor / theirs |")
    print("|---|---|---|---|---|---|---|")
    for side, own in took.items():
        wall_s, processor_s = (statistics.median(column) for column in zip(*own, strict=True))
        wall, processor = (
            [mine[column] / other[column] for mine, other in zip(own, took["theirs"], strict=True)] for column in (0, 1)
        )
        low, middle, high = statistics.quantiles(wall, n=4)
        share = f"{6 * macs / wall_s / given.peak_tflops / 1e12:.1%}" if given.peak_tflops else "-"
        print(
            f"| {side} | {wall_s:.3f} | {processor_s:.3f} | {given.batch / wall_s:.2f} | {share} "
            f"| {middle:.3f} ({low:.3f} to {high:.3f}) | {statistics.median(processor):.3f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--models", nargs="+", help="what both sides have; else by the device")
    parser.add_argument("--batch", type=int, help="2 on a CPU, 16 on a GPU")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ours", nargs="+", help="training.precision: fp32 and auto on a CPU, bf16 on a GPU")
    parser.add_argument("--theirs", choices=("fp32", "bf16"), help="fp32 on a CPU, bf16 on a GPU")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="both sides; on a GPU unless told")
    parser.add_argument("--peak-tflops", type=float, help="of dense bf16 products of this GPU")
    given = parser.parse_args()
    is_gpu = given.device == "cuda"
    if is_gpu and not torch.cuda.is_available():
        parser.error(
            "--device cuda needs an NVIDIA GPU - PyTorch finds none here - use --device cpu, or another machine"
        )
    given.models = given.models or (["videomae_base", "vivit_base_joint"] if is_gpu else ["videomae_small"])
    given.batch = given.batch or (16 if is_gpu else 2)
    given.ours = given.ours or (["bf16"] if is_gpu else ["fp32", "auto"])
    given.theirs = given.theirs or ("bf16" if is_gpu else "fp32")
    given.compile = is_gpu if given.compile is None else given.compile
    torch.set_num_threads(given.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for name in given.models:
        compare(name, given)


if __name__ == "__main__":
    main()
