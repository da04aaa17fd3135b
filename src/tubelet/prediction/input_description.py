"""Say an input contract in words, for people who have only the model."""

from collections.abc import Sequence

from tubelet.video.spec import InputSpec

__all__ = ["describe_input"]

_MOMENTS = {
    "uniform": "spread evenly over the whole video",
    "linspace": "spread evenly from the first frame of the video to its last",
    "random": "spread over the whole video",
    "first": "the first of the video",
}


def describe_input(spec: InputSpec) -> str:
    """Say in words what a model takes.

    Example:
        >>> print(describe_input(InputSpec(frames=8, height=32, width=32)))
        Clips of 8 frames of 32 x 32 pixels in color, spread evenly over the whole video. The picture is scaled until it covers that size, and its middle is cropped. Values in 0..1 are normalized with mean 0.5 and deviation 0.5. A shorter video repeats its last frame. tubelet does all of this by itself.
    """  # noqa: E501
    if spec.kind == "features":
        return (
            f"Features that another network made of each frame before: {spec.channels} numbers a frame, up to "
            f"{spec.frames} frames, as an array (time, feature)."
        )
    colors = {1: "in gray", 3: "in color"}.get(spec.channels, f"with {spec.channels} channels")
    shape = f"Clips of {spec.frames} frames of {spec.height} x {spec.width} pixels {colors}"
    reached = (
        "is stretched to that size"
        if spec.fit == "stretch"
        else f"is scaled until {_say_short_side(spec)}, and its middle is cropped"
    )
    numbers = [", ".join(f"{value:.4g}" for value in values) for values in (spec.mean, spec.std)]
    said = [
        f"{shape}, {_say_moments(spec)}",
        f"The picture {reached}",
        f"Values in 0..1 are normalized with mean {numbers[0]} and deviation {numbers[1]}",
        "A shorter video repeats its last frame" if spec.short == "repeat_last" else "A shorter video starts again",
        *_say_differences(spec),
        *_say_volume(spec),
        "tubelet does all of this by itself",
    ]
    return " ".join(f"{sentence}." for sentence in said)


def _say_short_side(spec: InputSpec) -> str:
    return f"its short side has {spec.short_side} pixels" if spec.short_side else "it covers that size"


def _say_moments(spec: InputSpec) -> str:
    if spec.sampling != "dense":
        return _MOMENTS[spec.sampling]
    pace = f"at {spec.rate_fps:g} frames a second" if spec.rate_fps else f"each {spec.stride} after the one before"
    return f"from one stretch of the video, {pace}"


def _say_differences(spec: InputSpec) -> Sequence[str]:
    place = {"append": "beside the pixels", "only": "instead of the pixels"}.get(spec.differences)
    return (f"The model gets the differences from frame to frame {place}",) if place else ()


def _say_volume(spec: InputSpec) -> Sequence[str]:
    said = []
    if spec.window is not None:
        said.append(f"In volumes, {spec.window[0]:g} is black and {spec.window[1]:g} is white")
    if spec.spacing_mm is not None:
        said.append(f"Volumes are brought to a spacing of {' x '.join(f'{side:g}' for side in spec.spacing_mm)} mm")
    return said
