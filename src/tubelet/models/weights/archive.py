"""Read the tensors of a weights file, whatever program wrote it, and never anything that could be executed.

Formats are told by the first bytes, not by the name: safetensors, PyTorch's archives old and new, and numpy's .npz.
Pickled files are read by PyTorch's restricted unpickler, which builds tensors and plain values alone.
"""

import argparse
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tubelet.errors import CheckpointError

__all__ = ["read_tensors"]

_CONTAINERS = ("model_state", "state_dict", "model_state_dict", "model", "module", "model_ema", "optimizer", "target")
"""Under which name programs keep the weights inside their checkpoints; looked for in this order."""

_PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers for many devices, compilation and trainers put before every key."""

_NPZ_PREFIXES = ("opt/target/", "optimizer/target/", "target/", "params/")
_MAX_DEPTH = 4
_LONGEST_REASON = 300


def read_tensors(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Read the tensors of one or several files that belong together.

    Args:
        paths: the file, or all parts of one that was split.

    Returns:
        Tensors by name, on the CPU; the weights alone where a file holds a whole checkpoint.

    Raises:
        CheckpointError: missing, damaged, of another format, without tensors, or with objects that would have to be
            executed.
    """
    tensors: dict[str, Tensor] = {}
    for path in paths:
        tensors.update(_read_file(path))
    return tensors


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
            size = stream.seek(0, 2)
    except OSError as error:
        raise _refuse(path, f"the system says: {error.strerror}", "check the path") from None
    # Before the others: the length of the header comes first in it, and may begin with any byte.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        return _read_safetensors(path)
    if head[:4] == b"PK\x03\x04":
        return _read_npz(path) if _is_npz(path) else _read_torch(path)
    if head[:1] == b"\x80" or head[:2] == b"\x8a\x0a":
        return _read_torch(path)
    if head == b"version https://":
        raise _refuse(path, "it is a pointer of Git LFS, not the file", "run 'git lfs pull', or download the file")
    raise _refuse(
        path, "it is no safetensors, PyTorch or .npz file", "give one of these; the beginning of a file tells its kind"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise _refuse(path, str(error), "it is damaged or no safetensors file; take an intact copy") from None
    return tensors


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        # The official VideoMAE files keep their options in a Namespace, which is a dictionary with another face.
        with path.open("rb") as stream, torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:
        text = " ".join(str(error).split())
        if "weights_only" in text.lower() or "unsupported" in text.lower():
            start = max(text.find("Unsupported"), text.find("WeightsUnpickler error"), 0)
            raise _refuse(
                path,
                f"it holds more than tensors, and nothing of it was executed: {text[start : start + _LONGEST_REASON]}",
                "get the weights as safetensors, or save the state_dict alone",
            ) from None
        raise _refuse(path, text[:_LONGEST_REASON], "it is damaged or no PyTorch file; take an intact copy") from None
    return _unwrap(content, path)


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _read_npz(path: Path) -> dict[str, Tensor]:
    """Read arrays whose names are the paths of a tree, as JAX programs save them."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise _refuse(path, str(error)[:_LONGEST_REASON], "take an intact copy, with plain numbers only") from None
    tensors = {}
    for name, array in arrays.items():
        if array.dtype.kind in "fiu":
            prefix = next((prefix for prefix in _NPZ_PREFIXES if name.startswith(prefix)), "")
            tensors[name.removeprefix(prefix)] = torch.from_numpy(np.array(array))
    if not tensors:
        raise _refuse(path, "it holds no arrays of numbers", "give a file of weights")
    return tensors


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """Find the weights inside a checkpoint, and take off what wrappers put before their names."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(content, Mapping):
            break
        tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        inner = next((key for key in _CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if inner is None or len(tensors) > 1:
            if tensors:
                return _strip(tensors)
            break
        content = content[inner]
    kind = type(content).__name__
    found = f"a {kind} with {', '.join(map(str, list(content)[:5]))}" if isinstance(content, Mapping) else f"a {kind}"
    raise _refuse(path, f"it holds no weights by name: {found}", "save the model's state_dict")


def _strip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _refuse(path: Path, found: str, remedy: str) -> CheckpointError:
    return CheckpointError(f"cannot read weights from {str(path)!r} - {found} - {remedy}.")
