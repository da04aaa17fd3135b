"""Find the files that a source of weights stands for: a file, a folder, a run, a name on the Hugging Face hub.

model.safetensors, .pth, .npz     the file itself, with the config.json beside it where there is one
runs/mine, mine, a model folder   model.safetensors and config.json of our own
a transformers folder             config.json with a `model_type`, weights in one file or in several
hf://owner/repo[@revision]        such a folder on the hub; owner/repo where nothing lies under that path
https://host/path/file.pt         a single file, kept once it was fetched
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tubelet import files
from tubelet.errors import CheckpointError
from tubelet.model_folder import CALIBRATION, CALIBRATION_NAME
from tubelet.models.weights.hub import fetch_file, fetch_first, place_of
from tubelet.models.weights.settings import HUB_KEY

__all__ = ["CONFIG_NAME", "PREPROCESSOR_NAMES", "WEIGHTS_NAME", "WeightFiles", "find_weights"]

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
PREPROCESSOR_NAMES = ("video_preprocessor_config.json", "preprocessor_config.json")
"""In the order in which transformers prefers them for video."""
_WEIGHTS_NAMES = (WEIGHTS_NAME, "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_HUB_ID = re.compile(r"(?:hf://)?(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class WeightFiles:
    """State where weights lie, and what is known about them."""

    title: str
    """How messages call the source."""
    paths: tuple[Path, ...]
    """The file, or the parts of one."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The `config.json` beside them; empty where there is none."""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    """The preprocessor's configuration beside them; empty where there is none."""

    @property
    def is_transformers(self) -> bool:
        """Tell whether the folder is one of transformers."""
        return "model_type" in self.settings

    @property
    def folder(self) -> Path:
        """Return the folder that the files lie in."""
        return self.paths[0].parent


def find_weights(source: str | os.PathLike[str]) -> WeightFiles:
    """Find the files that a source stands for, and fetch them where they are on the hub.

    Args:
        source: see the module's table.

    Raises:
        CheckpointError: nothing there, no weights in it, or no connection; names the file and the place to put it.
    """
    text = os.fspath(source)
    if text.startswith("https://"):
        return WeightFiles(text, (fetch_file(text),))
    is_hub = text.startswith("hf://")
    found = None if is_hub else _open_local(text)
    if found is not None:
        return found
    match = _HUB_ID.fullmatch(text)
    # A run that is not there is no repository: nobody should be asked for it.
    if match and (is_hub or not (text.startswith("runs/") or Path(Path(text).parts[0]).exists())):
        return _open_hub(match["repo"], match["revision"])
    reason = "a hub id reads hf://owner/repo" if is_hub else "there is no such file, folder or run"
    raise CheckpointError(
        f"cannot find weights at {text!r} - {reason} - give a file, a folder, a run, or hf://owner/repo of the Hugging "
        "Face hub."
    )


def _open_local(text: str) -> WeightFiles | None:
    """Open what lies under a path, or under the name of a run; None where nothing does."""
    try:
        for path in (Path(text), Path("runs") / text) if text else ():
            if path.is_file():
                return _open_file(path)
            if path.is_dir():
                return _open_folder(path, text)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot find weights at {text!r} - the system says: {error} - check the path.") from None
    return None


def _open_file(path: Path) -> WeightFiles:
    if path.name == CONFIG_NAME:
        return _open_folder(path.parent, str(path))
    if path.name in _WEIGHTS_NAMES:
        return WeightFiles(str(path), _list_parts(path), *_read_settings(path.parent))
    return WeightFiles(str(path), (path,))


def _open_folder(folder: Path, title: str) -> WeightFiles:
    for candidate in (folder / "model", folder):
        place = candidate.absolute()
        if place.name:
            files.recover_folder(place)
        for name in _WEIGHTS_NAMES:
            if (candidate / name).is_file():
                return WeightFiles(title, _list_parts(candidate / name), *_read_settings(candidate))
    raise CheckpointError(
        f"cannot find weights in {title!r} - it holds none of {', '.join(_WEIGHTS_NAMES)} - give a run folder, a model "
        "folder, or a folder of transformers."
    )


def _list_parts(path: Path) -> tuple[Path, ...]:
    """List the files of weights that an index names, or the one file itself."""
    if path.suffix != ".json":
        return (path,)
    stated = _read_json(path).get("weight_map")
    names = sorted({str(name) for name in stated.values()}) if isinstance(stated, dict) else []
    strange = [name for name in names if Path(name).name != name or name in ("", "..") or "\0" in name]
    if strange or not names:
        raise CheckpointError(
            f"cannot read {str(path)!r} - it should name files beside it, found {(strange or ['none'])[0]!r} - "
            "take an intact copy."
        )
    return tuple(path.with_name(name) for name in names)


def _read_settings(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    config = folder / CONFIG_NAME
    settings = _read_json(config) if config.is_file() else {}
    preprocessor = next((folder / name for name in PREPROCESSOR_NAMES if (folder / name).is_file()), None)
    return settings, _read_json(preprocessor) if preprocessor else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"cannot read {str(path)!r} - it is not readable JSON: {error} - fetch it again."
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"cannot read {str(path)!r} - it should hold an object - fetch it again.")
    return content


def _open_hub(repo: str, revision: str | None) -> WeightFiles:
    title = f"hf://{repo}" + (f"@{revision}" if revision else "")
    place = place_of(repo, revision)
    folder = place if place.is_dir() else _fetch_folder(repo, revision)
    found = _open_folder(folder, title)
    return WeightFiles(title, found.paths, {**found.settings, HUB_KEY: repo}, found.preprocessing)


def _fetch_folder(repo: str, revision: str | None) -> Path:
    """Fetch configuration and weights of a hub repository, and return the folder they lie in."""
    config = fetch_first(repo, revision, (CONFIG_NAME,))
    if config is not None and CALIBRATION in _read_json(config):
        fetch_first(repo, revision, (CALIBRATION_NAME,))
    with suppress(CheckpointError):  # many folders have none, and without a connection nobody knows
        fetch_first(repo, revision, PREPROCESSOR_NAMES)
    weights = fetch_first(repo, revision, _WEIGHTS_NAMES)
    parts = _list_parts(weights) if weights else ()
    for part in parts:
        if fetch_first(repo, revision, (part.name,)) is None:
            weights = None
    if weights is None:
        raise CheckpointError(
            f"cannot fetch weights of {repo!r} - the repository lacks {', '.join(_WEIGHTS_NAMES)}, or parts of them - "
            "give another repository, or the file itself."
        )
    return weights.parent
