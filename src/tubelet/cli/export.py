"""`tubelet export`: write a model as a file that other programs run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from tubelet.exporting.export import Exported

__all__ = ["export_model"]


def export_model(
    model: str,
    *,
    format: Literal["onnx", "torch", "openvino", "pth"] | None = None,  # noqa: A002
    int8: bool = False,
    output: Path | None = None,
    clips: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative=())] = (),
    json: bool = False,
) -> None:
    """Write a model as a file that other programs run, and compare its answers with the model's on clips.

    Parameters
    ----------
    model: str
        Run, model folder, folder of transformers, hf://owner/repo, or published weights: videomae_base.kinetics400.
    format: str
        onnx (unless the output says otherwise), torch (.pt2 of torch.export), openvino (a folder), or pth (the weights
        alone).
    int8: bool
        Large matrices in 8 bits: a smaller, faster file that answers a little otherwise; onnx alone.
    output: Path
        File or folder to write: .onnx, .pt2, _openvino or .pth; named after the model, in this folder, where none is
        given.
    clips: Path
        Videos to compare on; else those the run was trained on, or drawn ones.
    json: bool
        Print one JSON object instead of text: path, format, precision, size_bytes, parity.
    """
    from tubelet.exporting.export import export

    _print(export(model, output, format=format, int8=int8, clips=clips), as_json=json)


def _print(done: "Exported", *, as_json: bool) -> None:
    from json import dumps

    from rich.console import Console

    if as_json:
        print(dumps(done.to_dict()))  # noqa: T201
        return
    parity = done.parity
    Console(highlight=False, soft_wrap=True).print(
        f"{done.path}  {done.format} {done.precision}, {done.size_bytes / 1e6:.1f} MB\n"
        f"compared on {parity.origin}, in batches of 1 and 3: probabilities differ by {parity.max_difference:.1e} at "
        f"most, {parity.agreement:.1%} of the answers are the same",
        markup=False,
    )
