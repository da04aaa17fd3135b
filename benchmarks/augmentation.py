"""Time the augmentation of one clip beside torchvision v2, one thread.

    python benchmarks/augmentation.py [--frames 16] [--size 256] [--model 224] [--rounds 15]

Ours and theirs take turns within each round; figures are medians of CPU time over the rounds, in ms, and theirs over
ours. Both start from the same uint8 frames: ours with the channels last, as they are decoded, theirs as (time, channel,
height, width), which is what torchvision documents; its layout is not timed. `full` is random resized crop, flip,
jitter of brightness, contrast, saturation and hue, rotation and erasing; theirs draws the order of the jitter anew for
each clip and ours multiplies one matrix, and hue turns in HSV there and in YIQ here.

torchvision beside a PyTorch for the CPU does not import by itself; two operators are declared for it first.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from tubelet.transforms import Augmentation
from tubelet.transforms.geometry import augment
from tubelet.transforms.randaugment import Operation, apply_operation
from tubelet.video.spec import InputSpec

_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
if not hasattr(torch.ops.torchvision, "nms"):
    for _name in ("nms", "qnms"):
        _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision.transforms import v2  # noqa: E402 - it imports only after that

CROP = {"crop_scale": (0.3, 1.0), "crop_ratio": (0.75, 4 / 3)}
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}
OFF = {"horizontal_flip": 0.0}


def list_policies(size: int) -> dict[str, tuple[Augmentation, v2.Transform]]:
    crop = v2.RandomResizedCrop(size, scale=(0.3, 1.0), antialias=True)
    bilinear = v2.InterpolationMode.BILINEAR
    turn = v2.RandomRotation(15, interpolation=bilinear)
    full = [
        crop,
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
        turn,
        v2.RandomErasing(p=1.0, value=0),
    ]
    return {
        "crop, flip": (Augmentation(**CROP), v2.Compose(full[:2])),
        "crop, rotation": (Augmentation(**CROP, **OFF, rotation=15.0), v2.Compose([crop, turn])),
        "crop, jitter": (Augmentation(**CROP, **OFF, **JITTER), v2.Compose([crop, v2.ColorJitter(0.4, 0.4, 0.4)])),
        "crop, jitter, hue": (
            Augmentation(**CROP, **OFF, **JITTER, hue=0.1),
            v2.Compose([crop, v2.ColorJitter(0.4, 0.4, 0.4, 0.1)]),
        ),
        "full": (
            Augmentation(**CROP, **JITTER, hue=0.1, rotation=15.0, erasing=1.0, erasing_fill="value"),
            v2.Compose(full),
        ),
        "full, erased by noise": (
            Augmentation(**CROP, **JITTER, hue=0.1, rotation=15.0, erasing=1.0),
            v2.Compose([*full[:-1], v2.RandomErasing(p=1.0, value=[127])]),
        ),
        "crop, RandAugment": (
            Augmentation(**CROP, **OFF, policy="randaugment"),
            v2.Compose([crop, v2.RandAugment(interpolation=bilinear)]),
        ),
        "crop, TrivialAugment": (
            Augmentation(**CROP, **OFF, policy="trivialaugment"),
            v2.Compose([crop, v2.TrivialAugmentWide(interpolation=bilinear)]),
        ),
    }


def list_operations() -> dict[str, tuple[Operation, Callable[[torch.Tensor], torch.Tensor]]]:
    call, bilinear = v2.functional, v2.InterpolationMode.BILINEAR
    return {
        "rotate": (Operation("rotate", 15.0), lambda x: call.rotate(x, 15, interpolation=bilinear)),
        "brightness": (Operation("brightness", 1.3), lambda x: call.adjust_brightness(x, 1.3)),
        "contrast": (Operation("contrast", 1.3), lambda x: call.adjust_contrast(x, 1.3)),
        "color": (Operation("color", 1.3), lambda x: call.adjust_saturation(x, 1.3)),
        "sharpness": (Operation("sharpness", 1.3), lambda x: call.adjust_sharpness(x, 1.3)),
        "posterize": (Operation("posterize", 4.0), lambda x: call.posterize(x, 4)),
        "solarize": (Operation("solarize", 128.0), lambda x: call.solarize(x, 128)),
        "invert": (Operation("invert"), call.invert),
        "autocontrast": (Operation("autocontrast"), call.autocontrast),
        "equalize": (Operation("equalize"), call.equalize),
    }


def time_call(call: Callable[[], object]) -> float:
    started = time.thread_time()
    call()
    return 1000 * (time.thread_time() - started)


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> None:
    calls = (ours, theirs)
    times: tuple[list[float], list[float]] = ([], [])
    for call in calls:
        call()
    for _ in range(rounds):
        for call, kept in zip(calls, times, strict=True):
            kept.append(time_call(call))
    our, their = (statistics.median(kept) for kept in times)
    print(
        f"  {name:24} {our:7.1f} ms  {max(times[0]):7.1f} at most   torchvision {their:7.1f} ms   {their / our:5.1f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--model", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (given.frames, 3, 32, 32)).astype(np.float32)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(coarse), size=(given.size, given.size), mode="bilinear")
    planes = smooth.to(torch.uint8)
    pixels = planes.permute(0, 2, 3, 1).contiguous().numpy()
    spec = InputSpec(frames=given.frames, height=given.model, width=given.model)
    print(f"one clip of {given.frames} frames, {given.size} px to {given.model} px, one thread, {given.rounds} rounds")
    for name, (policy, theirs) in list_policies(given.model).items():
        ours = partial(augment, pixels, 0, policy, spec, ("one", "other"), generator)
        compare(name, ours, partial(theirs, planes), given.rounds)
    print(f"one operation at {given.size} px")
    clip = torch.from_numpy(pixels)
    for name, (operation, call) in list_operations().items():
        compare(name, partial(apply_operation, clip, operation), partial(call, planes), given.rounds)


if __name__ == "__main__":
    main()
