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

__all__ = ["check_tensors", "read_tensors"]

_CONTAINERS = (
    "model_state",
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "model_ema",
    "target_encoder",
    "encoder",
    "optimizer",
    "target",
)
"""Under which name programs keep the weights inside their checkpoints; looked for in this order."""

_PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers for many devices, compilation and trainers put before every key."""

_NPZ_PREFIXES = ("opt/target/", "optimizer/target/", "target/", "params/")
_MAX_DEPTH = 4
_LONGEST_REASON = 300
_LARGEST_EXPANSION, _SMALL_BYTES = 20, 2**28
"""An archive may unpack to this many times its own size, and to this many bytes whatever its size: weights hardly
shrink, what shrinks so far was made to fill the memory."""


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


def check_tensors(tensors: Mapping[Any, Any], title: str) -> None:
    """Raise `CheckpointError` where something is no plain tensor by a name, with values of its own in the memory.

    A view of one value can state any shape, and what computes with it would fill the memory.

    Args:
        tensors: as they came from a file or from a caller.
        title: what messages call the source.
    """
    if not tensors:
        raise CheckpointError(f"cannot load {title!r} - it holds no tensors - give the state_dict of a model.")
    for key, value in tensors.items():
        found = f"{type(value).__name__} under {key!r}"
        if isinstance(key, str) and isinstance(value, Tensor):
            if value.layout == torch.strided and not (value.is_nested or value.is_quantized or value.is_meta):
                if value.untyped_storage().nbytes() >= value.numel() * value.element_size() or value.numel() < 2**20:
                    continue
                found = f"{key!r} of shape {tuple(value.shape)}, without that many values of its own"
            else:
                found = f"{key!r}, a tensor that is sparse, nested, quantized or without values"
        raise CheckpointError(
            f"cannot load {title!r} - every weight should be a plain tensor under its name, found {found} - save the "
            "model's state_dict."
        )


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
            size = stream.seek(0, 2)
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        raise _refuse(path, f"the system says: {getattr(error, 'strerror', error)}", "check the path") from None
    # Before the others: the length of the header comes first in it, and may begin with any byte.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        return _read_safetensors(path)
    if head[:4] == b"PK\x03\x04":
        return _read_npz(path) if _is_npz(path, size) else _read_torch(path)
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


def _is_npz(path: Path, size: int) -> bool:
    """Tell whether a zip archive of `size` bytes is numpy's, not PyTorch's.

    Raises:
        CheckpointError: it would fill the memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return False
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(_LARGEST_EXPANSION * size, _SMALL_BYTES):
        raise _refuse(
            path, f"its {size:,} bytes unpack to {unpacked:,}", "take the weights as they were saved, not packed again"
        )
    return any(entry.filename.endswith(".npy") for entry in entries)


def _read_npz(path: Path) -> dict[str, Tensor]:
    """Read arrays whose names are the paths of a tree, as JAX programs save them."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # damaged headers raise whatever Python's own parser does
        reason = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
        raise _refuse(path, reason, "take an intact copy, with plain numbers only") from None
    tensors = {}
    for name, array in arrays.items():
        if isinstance(array, np.ndarray) and array.dtype.kind in "fiu":
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
                return strip_wrappers(tensors)
            break
        content = content[inner]
    kind = type(content).__name__
    found = f"a {kind} with {', '.join(map(str, list(content)[:5]))}" if isinstance(content, Mapping) else f"a {kind}"
    raise _refuse(path, f"it holds no weights by name: {found}", "save the model's state_dict")


def strip_wrappers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what wrappers for many devices, compilation and trainers put before every key."""
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _refuse(path: Path, found: str, remedy: str) -> CheckpointError:
    return CheckpointError(f"cannot read weights from {str(path)!r} - {found} - {remedy}.")
