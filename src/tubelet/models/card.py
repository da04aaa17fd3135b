"""Hold what is known about a model before it is built: its hyper-parameters and its card. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from tubelet.errors import ConfigError, name_nearest
from tubelet.shapes import Size3
from tubelet.video.spec import InputSpec

__all__ = ["ModelCard", "ModelConfig", "change_config", "check_counts", "plan_tubelets"]


@dataclass(frozen=True)
class ModelConfig:
    """Hold the resolved hyper-parameters that every architecture has; each architecture extends it.

    `create_model(**config.to_dict())` builds the same model again.
    """

    name: str
    """The registered name the model was made from, such as `vivit_base_joint`."""
    num_classes: int
    """Classes that the head scores; at least 1."""
    frames: int
    """Frames in one clip."""
    height: int
    """Height of the clip in pixels."""
    width: int
    """Width of the clip in pixels."""
    channels: int
    """Channels of the clip: 3 for RGB, 1 for gray volumes, 6 for RGB and its frame differences."""

    def __post_init__(self) -> None:
        check_counts(self, ("num_classes", "frames", "height", "width", "channels"))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values that JSON can hold."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class ModelCard:
    """State what a registered model is: its default hyper-parameters, what it costs, where it comes from."""

    name: str
    """`<architecture>_<size>[_<form>]`."""
    architecture: str
    """The family, such as `vivit`."""
    config: ModelConfig
    """The hyper-parameters that `create_model` starts from."""
    parameters: int
    """Parameters at `config.num_classes` classes; a test builds the model and counts."""
    input_spec: InputSpec
    """Which frames, at which size, in which range the official model sees."""
    summary: str
    """One line for a list: what it is and when to choose it."""
    paper: str
    """Where the architecture was published."""
    license: str
    """License of the implementation; weights carry their own."""
    macs: int = 0
    """Multiply-accumulates of one clip; 0 where nobody counted."""


C = TypeVar("C", bound=ModelConfig)


def change_config(config: C, changes: Mapping[str, Any]) -> C:
    """Replace hyper-parameters by name, strictly.

    Raises:
        ConfigError: a name that the architecture does not have, with the nearest that it does, or a value of the
            wrong kind. Lists are taken for tuples, so that JSON and YAML come back as they went.
    """
    known = [field.name for field in fields(config) if field.name != "name"]
    hints = get_type_hints(type(config))
    checked = {}
    for key, value in changes.items():
        if key not in known:
            near = name_nearest(key, known) or "."
            raise ConfigError(f"{config.name} has no hyper-parameter '{key}'{near} It takes {', '.join(known)}.")
        checked[key] = _check_value(f"{config.name}: {key}", value, hints[key])
    return replace(config, **checked)


def check_counts(config: object, names: Sequence[str], at_least: int = 1) -> None:
    """Raise `ConfigError` where one of the named whole numbers is below `at_least`."""
    for name in names:
        value = getattr(config, name)
        if value < at_least:
            raise ConfigError(f"{name} must be at least {at_least} - found {value} - give a larger whole number.")


def plan_tubelets(name: str, clip: Size3, tubelet: Size3, *, is_cropped: bool = False) -> Size3:
    """Count the tubelets of a clip along time, height and width.

    Args:
        name: the model's, for the error.
        clip: frames, height and width in pixels.
        tubelet: the same of one tubelet.
        is_cropped: drop what fills no tubelet, instead of refusing it.

    Raises:
        ConfigError: sizes that tubelets do not fill (below one tubelet, where cropped); names the nearest that they do.

    Example:
        >>> plan_tubelets("mine", Size3(16, 48, 64), Size3(4, 8, 8))
        Size3(t=4, h=6, w=8)
    """
    found, fitting = [], []
    for axis, size, step in zip(("frames", "height", "width"), clip, tubelet, strict=True):
        if size < step or (size % step and not is_cropped):
            below = size // step * step
            found.append(f"{axis}={size}, no multiple of {step}")
            fitting.append(f"{axis}={below} or {below + step}" if below else f"{axis}={step}")
    if found:
        raise ConfigError(
            f"{name} cuts clips into tubelets of {' x '.join(map(str, tubelet))} (frames x height x width) - found "
            f"{'; '.join(found)} - the nearest that fit: {', '.join(fitting)}."
        )
    return Size3(*(size // step for size, step in zip(clip, tubelet, strict=True)))


def _check_value(what: str, value: Any, hint: Any) -> Any:
    if get_origin(hint) is Literal:
        return _check_choice(what, value, get_args(hint))
    if get_origin(hint) is tuple:
        return _check_sequence(what, value, get_args(hint))
    wanted: tuple[type, ...] = (int, float) if hint is float else (hint,)
    if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{what} must be of type {hint.__name__} - found {value!r} - give such a value.")
    if hint is float and isinstance(value, int | float) and not isfinite(value):
        raise ConfigError(f"{what} must be a finite number - found {value!r} - give such a value.")
    return hint(value)


def _check_choice(what: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ConfigError(
            f"{what} must be one of {', '.join(choices)} - found {value!r}{name_nearest(str(value), choices)}."
        )
    return str(value)


def _check_sequence(what: str, value: Any, hints: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != len(hints):
        raise ConfigError(f"{what} must be {len(hints)} values - found {value!r} - give a list of {len(hints)}.")
    return tuple(_check_value(what, item, hint) for item, hint in zip(value, hints, strict=True))
