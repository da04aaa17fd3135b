"""State which variations of a clip are allowed in training, and what they do to its label.

A mirrored clip of `turn_left` shows `turn_right`. So every flip has its pairs of class names: whoever flips the picture
swaps the label, and `warn_of_mirrors` finds the classes for which that was forgotten.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Int64

from tubelet.errors import ConfigError, name_nearest
from tubelet.shapes import Label
from tubelet.transforms.limits import check_amounts

__all__ = ["FLIPS", "Augmentation", "Pairs", "find_pairs", "swap_label", "warn_of_mirrors"]

Pairs = tuple[tuple[str, str], ...]
Flip = Literal["horizontal_flip", "vertical_flip", "time_reversal"]

FLIPS: Mapping[Flip, str] = MappingProxyType(
    {
        "horizontal_flip": "horizontal_pairs",
        "vertical_flip": "vertical_pairs",
        "time_reversal": "reversal_pairs",
    }
)
"""The fields of `Augmentation` that hold a probability, each with the field that holds its pairs of classes."""

TURNS = (("clockwise", "counterclockwise"), ("clockwise", "anticlockwise"), ("cw", "ccw"))
OPPOSITES: Mapping[Flip, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "horizontal_flip": (("left", "right"), ("leftward", "rightward"), *TURNS),
        "vertical_flip": (
            ("up", "down"),
            ("upward", "downward"),
            ("top", "bottom"),
            ("rising", "falling"),
            ("above", "below"),
            *TURNS,
        ),
        "time_reversal": (
            ("left", "right"),
            ("up", "down"),
            ("in", "out"),
            ("rising", "falling"),
            ("open", "close"),
            ("opening", "closing"),
            ("push", "pull"),
            ("pushing", "pulling"),
            ("enter", "leave"),
            ("entering", "leaving"),
            ("forward", "backward"),
            ("sit", "stand"),
            ("fold", "unfold"),
            ("folding", "unfolding"),
            ("load", "unload"),
            ("loading", "unloading"),
            *TURNS,
        ),
    }
)
"""For each flip, the words of class names that trade places under it."""


@dataclass(frozen=True)
class Augmentation:
    """State how clips are varied in training: one draw for each clip, the same for all its frames."""

    horizontal_flip: float = 0.5
    """Probability, 0..1, of a left-right mirror. Set 0, or name `horizontal_pairs`, where sides tell classes apart."""
    horizontal_pairs: Pairs = ()
    """Pairs of class names that a left-right mirror turns into each other; a mirrored clip gets the other label."""
    vertical_flip: float = 0.0
    """Probability, 0..1, of an up-down mirror. 0, because gravity is a cue in most videos; try it for volumes."""
    vertical_pairs: Pairs = ()
    """Pairs of class names that an up-down mirror turns into each other."""
    time_reversal: float = 0.0
    """Probability, 0..1, of playing the clip backward. 0, because most actions are not themselves in reverse."""
    reversal_pairs: Pairs = ()
    """Pairs of class names that playing backward turns into each other."""
    crop_scale: tuple[float, float] = (1.0, 1.0)
    """Least and greatest share of the picture's area that a random crop keeps, 0..1; (1, 1) crops as evaluation does.
    (0.5, 1) is gentle, (0.08, 1) is what ImageNet trainings use."""
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    """Least and greatest stretch in width over height that a random crop adds; (0.75, 1.333) is the usual choice.
    (1, 1) keeps shapes as evaluation shows them."""
    shift: float = 0.0
    """Greatest move to either side as a share of the picture's height and width, 0..1."""
    time_shift: float = 0.0
    """Greatest move forward or backward as a share of the clip's frames, 0..1. For volumes, whose slices are places."""
    shift_fill: Literal["edge", "wrap"] = "edge"
    """What enters where the picture moved away: its outermost row, column or frame (edge), or what left at the other
    side (wrap)."""
    stretch: tuple[float, float] = (1.0, 1.0)
    """Least and greatest factor by which time, height and width are stretched about the middle, each by one of its own,
    the nearest voxel taken; (0.75, 1.333) is usual. For volumes: a bed is a bed if it is longer, or not as high."""
    brightness: float = 0.0
    """All values are multiplied by a factor from [1 - brightness, 1 + brightness]; 0.4 is strong."""
    contrast: float = 0.0
    """Distances from the clip's mean luminance are multiplied by a factor from [1 - contrast, 1 + contrast]."""
    saturation: float = 0.0
    """Distances from each pixel's own luminance are multiplied by a factor from [1 - saturation, 1 + saturation]; clips
    without three channels are left alone."""
    hue: float = 0.0
    """Colors turn by up to this part of the whole circle to either side, 0..0.5; 0.1 is usual. 0, because color tells
    many classes apart."""
    color_chance: float = 1.0
    """Probability, 0..1, that brightness, contrast, saturation and hue of a clip are varied at all; 0.8 in ViViT's
    training."""
    grayscale: float = 0.0
    """Probability, 0..1, of showing a clip in gray; 0.1 in ViViT's training."""
    rotation: float = 0.0
    """Greatest turn to either side, in degrees, 0..180; 15 is usual. 0, because it costs sharpness and time."""
    fill: int = 0
    """Gray level, 0..255, of what enters beyond the picture's end where it is turned, sheared or moved; black, as in
    torchvision. 114 is near the mean of photographs."""
    policy: Literal["none", "randaugment", "randaugment_increasing", "trivialaugment"] = "none"
    """Operations drawn from a pool: torchvision's RandAugment, timm's (as VideoMAE fine-tunes: increasing), or
    TrivialAugment. none, because they change colors and places together, which small sets seldom forgive."""
    policy_ops: int = 2
    """Operations that RandAugment draws for each clip, 1..16; timm calls it n. TrivialAugment draws one."""
    policy_magnitude: float = 9.0
    """Strength of RandAugment, 0..30; 9 is torchvision's. timm counts to 10: its m7 is 21. TrivialAugment takes any."""
    policy_std: float = 0.0
    """Standard deviation of that strength, on the same scale; timm's mstd0.5 is 1.5."""
    policy_chance: float = 1.0
    """Probability, 0..1, with which each operation that RandAugment drew is carried out; timm takes 0.5."""
    blur: float = 0.0
    """Probability, 0..1, of a Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Least and greatest standard deviation of the blur, in pixels of the model's picture."""
    erasing: float = 0.0
    """Probability, 0..1, of hiding a rectangle, the same in all frames; 0.25 where VideoMAE is fine-tuned."""
    erasing_scale: tuple[float, float] = (0.02, 0.33)
    """Least and greatest share of the picture that the rectangle hides, 0..1; the choice of the paper."""
    erasing_ratio: tuple[float, float] = (0.3, 3.3)
    """Least and greatest height over width of the rectangle; the choice of the paper."""
    erasing_fill: Literal["noise", "mean", "value"] = "noise"
    """What hides it: noise of the model's own mean and deviation, its mean, or the gray level `fill`. Noise was best in
    the paper."""
    speed: tuple[float, float] = (1.0, 1.0)
    """Slowest and fastest rate at which clips are played, 1 as recorded; (0.8, 1.25) is gentle. For dense sampling:
    other clips show the whole video at any speed."""
    repeats: int = 1
    """Times that each clip of a batch appears in it, differently varied, decoded once; batches grow by as much. 2 where
    VideoMAE is fine-tuned: better gradients where decoding is slow or batches are small."""
    mixup: float = 0.0
    """Alpha of MixUp, which blends clips of a batch and their labels; shares are drawn from Beta(alpha, alpha). 0 is
    off, 0.8 is usual for long trainings."""
    cutmix: float = 0.0
    """Alpha of CutMix, which sets a rectangle of one clip into another; 0 is off, 1.0 is usual."""
    mixing: float = 1.0
    """Probability, 0..1, that a batch is mixed at all, where `mixup` or `cutmix` is on."""
    cutmix_share: float = 0.5
    """Probability, 0..1, of CutMix where both are on; MixUp takes the rest."""

    def list_active(self) -> list[str]:
        """Name the fields that vary clips; those that only say how (pairs, fill) do nothing by themselves."""
        colors = ("brightness", "contrast", "saturation", "hue", "grayscale")
        amounts = (*FLIPS, "shift", "time_shift", *colors, "rotation", "blur", "erasing", "mixup", "cutmix")
        ranges = ("crop_scale", "crop_ratio", "stretch", "speed")
        active = [name for name in amounts if getattr(self, name)]
        active += [name for name in ranges if getattr(self, name) != (1.0, 1.0)]
        active += ["policy"] if self.policy != "none" else []
        return active + (["repeats"] if self.repeats > 1 else [])

    def __post_init__(self) -> None:
        for flip, pairs in FLIPS.items():
            self._check_share(flip)
            _check_pairs(pairs, getattr(self, pairs))
        self._check_share("shift")
        self._check_share("time_shift")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(
                    f"augmentation.{name} must be 0 or more - found {getattr(self, name)} - 0 is off, 0.4 is strong."
                )
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ConfigError(
                f"augmentation.crop_scale needs 0 < least <= greatest <= 1 - found {self.crop_scale} - "
                "give shares of the area, such as (0.5, 1.0)."
            )
        for name in ("crop_ratio", "stretch"):
            low, high = getattr(self, name)
            if not 0 < low <= high < float("inf"):
                raise ConfigError(
                    f"augmentation.{name} needs 0 < least <= greatest - found {getattr(self, name)} - "
                    "give factors, such as (0.75, 1.333)."
                )
        check_amounts(self)

    def _check_share(self, name: str) -> None:
        value = getattr(self, name)
        if not 0 <= value <= 1:
            raise ConfigError(f"augmentation.{name} must lie in 0..1 - found {value} - 0 turns it off.")

    @property
    def crops(self) -> bool:
        """Tell whether clips are cropped at random at all."""
        return self.crop_scale != (1.0, 1.0) or self.crop_ratio != (1.0, 1.0)

    @property
    def mixes(self) -> bool:
        """Tell whether the clips of a batch are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0

    def check_classes(self, classes: Sequence[str]) -> None:
        """Make sure that every class named in a pair exists; call it once before training.

        Raises:
            ConfigError: a pair names a class that `classes` does not hold.
        """
        for pairs in FLIPS.values():
            for name in (name for pair in getattr(self, pairs) for name in pair):
                if name not in classes:
                    near = name_nearest(name, classes) or "."
                    raise ConfigError(
                        f"augmentation.{pairs} names class '{name}' - the data set has no such class{near} "
                        f"It has {len(classes)} classes; write names exactly as they stand there."
                    )


def _check_pairs(field: str, pairs: Pairs) -> None:
    seen: set[str] = set()
    for pair in pairs:
        if len(pair) != 2 or pair[0] == pair[1]:
            raise ConfigError(
                f"augmentation.{field} needs pairs of two different class names - found {pair} - "
                "leave out classes that stay themselves."
            )
        if again := seen.intersection(pair):
            raise ConfigError(
                f"augmentation.{field} names class '{again.pop()}' twice - a class has one mirror image, drop a pair."
            )
        seen.update(pair)


def swap_label(label: Label, pairs: Pairs, classes: Sequence[str]) -> Label:
    """Return the label that a clip has after the flip that `pairs` belongs to.

    Args:
        label: the label before: an index into `classes`, or for each of them whether the clip has it.
        pairs: class names that trade places; classes in no pair stay themselves.
        classes: names in index order.

    Example:
        >>> swap_label(0, (("left", "right"),), ("left", "up", "right"))
        2
    """
    if not pairs:
        return label
    partners = _tabulate_partners(pairs, tuple(classes))
    return int(partners[label]) if isinstance(label, int) else label[partners]


@lru_cache(maxsize=16)
def _tabulate_partners(pairs: Pairs, classes: tuple[str, ...]) -> Int64[np.ndarray, " classes"]:
    """Give for each class the one in whose place it stands after the flip: a partner's partner is the class itself."""
    partners = np.arange(len(classes))
    index = {name: position for position, name in enumerate(classes)}
    for one, other in pairs:
        partners[index[one]], partners[index[other]] = index[other], index[one]
    return partners


def find_pairs(classes: Sequence[str], flip: Flip) -> Pairs:
    """Guess from their names which classes a flip turns into each other.

    The guess reads names only; look at it before you use it.

    Example:
        >>> find_pairs(["swipe_left", "swipe_right", "wave"], "horizontal_flip")
        (('swipe_left', 'swipe_right'),)
    """
    by_words = {_split_words(name): name for name in classes}
    pairs: list[tuple[str, str]] = []
    taken: set[str] = set()
    for words, name in by_words.items():
        mirrored = (by_words.get(other) for other in _mirror_words(words, flip))
        partner = next((other for other in mirrored if other is not None and other not in taken), None)
        if name not in taken and partner is not None:
            pairs.append((name, partner))
            taken.update((name, partner))
    return tuple(pairs)


def warn_of_mirrors(augmentation: Augmentation, classes: Sequence[str]) -> list[str]:
    """Say, before training, which classes an augmentation would show under a wrong label.

    Why: a flip that is harmless for most data sets makes `turn_left` and `turn_right` the same class, and the accuracy
    stops at a half without any error.

    Returns:
        One sentence for each flip in use that meets class names with a direction in them and has no pair for them.

    Example:
        >>> warn_of_mirrors(Augmentation(), ["turn_left", "turn_right"])[0][:57]
        "horizontal_flip = 0.5 would show 'turn_left', 'turn_right"
    """
    warnings = []
    for flip, field in FLIPS.items():
        paired = {name for pair in getattr(augmentation, field) for name in pair}
        loose = [name for name in classes if name not in paired and any(_mirror_words(_split_words(name), flip))]
        if not loose or getattr(augmentation, flip) == 0:
            continue
        guess = tuple(pair for pair in find_pairs(classes, flip) if not paired.intersection(pair))
        known = {name for pair in guess for name in pair}
        advice = f"set {field} to {[list(pair) for pair in guess]} so that labels are swapped, or {flip} to 0"
        if not known.issuperset(loose):
            advice = f"set {flip} to 0, because some of them have no mirror image among the classes"
        named = ", ".join(f"'{name}'" for name in loose[:4]) + (f" and {len(loose) - 4} more" if len(loose) > 4 else "")
        warnings.append(
            f"{flip} = {getattr(augmentation, flip):g} would show {named} under a wrong label, "
            f"if the names mean what they say: {advice}."
        )
    return warnings


def _split_words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+", name))


def _mirror_words(words: tuple[str, ...], flip: Flip) -> Iterable[tuple[str, ...]]:
    """Yield the names, as words, that a name may have after a flip; nothing where it holds no direction."""
    for one, other in OPPOSITES[flip]:
        trade = {one: other, other: one}
        if not trade.keys().isdisjoint(words):
            yield tuple(trade.get(word, word) for word in words)
