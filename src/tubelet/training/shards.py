"""Keep the tensors of a checkpoint in several files, each written by the process that holds that part.

    last.ckpt                       sealed: progress, what is no tensor, and the seals of the shards that belong to it
    shards/5e8a01c4/shard-*.safetensors

A checkpoint counts once `last.ckpt` names its shards: until then, and after a crash, the one before does. Any number of
processes may read what another number wrote.

Source: PyTorch's distributed checkpoints (`torch.distributed.checkpoint`), in safetensors: nothing is unpickled.
"""

import errno
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubelet import files
from tubelet.errors import CheckpointError, TrainingError
from tubelet.training.ranks import Ranks

__all__ = ["check_shards", "read_shards", "remove_shards", "write_shards"]

FORMAT = 2
"""Of checkpoints with shards."""
KEY = "shards"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Place = tuple[str | int, ...]
"""The keys that lead to a tensor."""


def write_shards(folder: Path, state: Mapping[str, Any], ranks: Ranks) -> dict[str, Any]:
    """Write the tensors of a state; all processes call it.

    Args:
        folder: of all shards of a run, on a disk that all machines share.
        state: mappings in mappings, with tensors in them, whole or parts of those of all processes.
        ranks: the processes.

    Returns:
        The state without its tensors, and what `read_shards` needs to find them again.

    Raises:
        DiskFull: no room; shards written before are untouched.
        TrainingError: the machines of the run share no disk.
    """
    # Taken in here because it takes long, and few runs need it.
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    name = ranks.share(lambda: secrets.token_hex(4))
    tensors = dict(_list_tensors(state))
    writer = HuggingFaceStorageWriter(str(folder / name), save_distributed=True)
    # What all processes hold alike is written by the first, whose running statistics are the run's.
    planner = DefaultSavePlanner(dedup_save_to_lowest_rank=True)
    try:
        with _silence():
            save(
                {_join(place): value for place, value in tensors.items()},
                storage_writer=writer,
                planner=planner,
                no_dist=ranks.size == 1,
            )
    except CheckpointException as error:
        raise _explain([cause for cause, _ in error.failures.values()], folder, tensors) from None
    names = sorted(path.name for path in (folder / name).iterdir())
    if any(seen != names for seen in ranks.gather(names)):
        raise TrainingError(
            f"cannot keep a sharded run in {str(folder.parent)!r} - each machine sees other files there - choose "
            "--runs on a disk that all of them share."
        )
    own = {one: files.hash_file(folder / name / one) for one in names[ranks.rank :: ranks.size]}
    seals = {one: seal for part in ranks.gather(own) for one, seal in part.items()}
    if ranks.is_main:
        files.sync_tree(folder)
    table = [(list(place), list(value.shape), str(value.dtype)) for place, value in tensors.items()]
    return {**_leave_out(state), "format": FORMAT, KEY: {"folder": name, "files": seals, "tensors": table}}


def check_shards(folder: Path, state: Mapping[str, Any]) -> None:
    """Prove that the shards of a state, if it has any, are those that were written.

    Raises:
        CheckpointError: one is missing or was changed.
    """
    for name, seal in state.get(KEY, {}).get("files", {}).items():
        path = folder / state[KEY]["folder"] / name
        found = files.hash_file(path) if path.is_file() else "no such file"
        if found != seal:
            raise CheckpointError(f"'{path}' is damaged - expected sha256 {seal}, found {found} - use an older copy.")


def read_shards(folder: Path, state: Mapping[str, Any], find_like: Callable[[Place], Tensor]) -> dict[str, Any]:
    """Put the tensors of a state back into it, each process its part; all processes call it.

    Args:
        folder: of all shards of a run.
        state: what `write_shards` returned.
        find_like: gives, for the keys that lead to a tensor, one that lies where that shall lie if it has its shape.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    found = state[KEY]
    tensors: dict[Place, Tensor] = {}
    for keys, shape, kind in found["tensors"]:
        like, dtype = find_like(tuple(keys)), getattr(torch, kind.removeprefix("torch."))
        is_alike = list(like.shape) == shape
        tensors[tuple(keys)] = torch.zeros_like(like, dtype=dtype) if is_alike else torch.zeros(shape, dtype=dtype)
    with _silence():
        load(
            {_join(place): value for place, value in tensors.items()},
            storage_reader=HuggingFaceStorageReader(str(folder / found["folder"])),
            no_dist=not torch.distributed.is_initialized(),
        )
    whole = _leave_out(state)
    for place, value in tensors.items():
        inner = whole
        for key in place[:-1]:
            inner = inner.setdefault(key, {})
        inner[place[-1]] = value
    return whole


def remove_shards(folder: Path, kept: set[str]) -> None:
    """Remove all shards but those that some checkpoint names."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _list_tensors(state: Mapping[Any, Any], place: Place = ()) -> Iterator[tuple[Place, Tensor]]:
    for key, value in state.items():
        if isinstance(value, Tensor):
            yield (*place, key), value.detach()
        elif isinstance(value, Mapping):
            yield from _list_tensors(value, (*place, key))


def _leave_out(state: Mapping[Any, Any]) -> dict[Any, Any]:
    """Copy mappings in mappings without the tensors in them."""
    return {
        key: _leave_out(value) if isinstance(value, Mapping) else value
        for key, value in state.items()
        if not isinstance(value, Tensor)
    }


def _join(place: Place) -> str:
    return "/".join(map(str, place))


def _silence() -> warnings.catch_warnings:
    """Leave out what PyTorch remarks on a run of one process, which is what was asked for."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


def _explain(causes: Sequence[BaseException], folder: Path, tensors: Mapping[Place, Tensor]) -> Exception:
    """Tell a full disk from what else may go wrong in a process."""
    if not any(isinstance(cause, OSError) and cause.errno in _NO_ROOM for cause in causes):
        return CheckpointError(
            f"cannot write shards into '{folder}' - {causes[0]} - the checkpoint before is untouched."
        )
    needed = sum(value.numel() * value.element_size() for value in tensors.values())
    free = shutil.disk_usage(folder).free
    return files.DiskFull(
        f"cannot write shards into '{folder}' - they need {needed:,} bytes, {free:,} are free there - free some room "
        "or choose another folder; the checkpoint before is untouched."
    )
