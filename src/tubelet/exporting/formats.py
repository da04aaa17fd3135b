"""Write a traced model in each format, with its contract inside."""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch

from tubelet import files
from tubelet.classifier import Classifier
from tubelet.errors import ConfigError, MissingExtra
from tubelet.exporting.graph import trace
from tubelet.exporting.quantization import quantize
from tubelet.runtime import CONTRACT, IR_NAME, Contract

__all__ = ["ENDINGS", "Format", "write_format"]

Format = Literal["onnx", "torch", "openvino", "pth"]

ENDINGS: Mapping[Format, str] = {"onnx": ".onnx", "torch": ".pt2", "openvino": "_openvino", "pth": ".pth"}
"""What names of files, or of the folder, end in."""

OPSET = 20
"""Of ONNX: the first with an operator for GELU (May 2023); ONNX Runtime since 1.17 and TensorRT since 10 read it."""


_ONNX_BYTES = 2**31 - 2**24
"""What a protocol buffer holds, less some room for the graph and the contract."""


def write_format(form: Format, classifier: Classifier, contract: Contract, folder: Path, stem: str) -> Path:
    """Write a model into an empty folder, and return the file or folder to be opened.

    Raises:
        MissingExtra: what writes the format is not installed.
        ConfigError: the format does not hold such a model, or int8 would change little of it.
    """
    path = folder / f"{stem}{ENDINGS[form]}"
    with _quiet():
        _WRITERS[form](classifier, contract, path)
    return path


def _write_onnx(classifier: Classifier, contract: Contract, path: Path) -> None:
    with _needing("export"):
        import onnx
        import onnxruntime  # noqa: F401 - so that it is missed before the work
        import onnxscript  # noqa: F401 - torch's exporter wants it and says so less clearly
    _check_size(classifier)
    is_int8 = contract.precision == "int8"
    program = torch.onnx.export(
        trace(classifier, fuse_attention=is_int8),
        dynamo=True,
        opset_version=OPSET,
        input_names=["clips"],
        output_names=["logits", "features"],
        verbose=False,
    )
    assert program is not None
    size = program.model_proto.graph.input[0].type.tensor_type.shape.dim[0]
    program.rename_axes({size.dim_param: "batch"})
    model = quantize(program.model_proto) if is_int8 else program.model_proto
    model.metadata_props.add(key=CONTRACT, value=contract.to_json())
    onnx.save(model, path)


def _check_size(classifier: Classifier) -> None:
    size_bytes = 4 * sum(tensor.numel() for tensor in classifier.model.state_dict().values())
    if size_bytes > _ONNX_BYTES:
        raise ConfigError(
            f"cannot export {classifier.name} to one ONNX file - its weights have {size_bytes / 1e9:.1f} GB, such a "
            f"file holds {_ONNX_BYTES / 1e9:.1f} - choose the format torch."
        )


def _write_program(classifier: Classifier, contract: Contract, path: Path) -> None:
    torch.export.save(trace(classifier), path, extra_files={CONTRACT: contract.to_json()})


def _write_openvino(classifier: Classifier, contract: Contract, path: Path) -> None:
    with _needing("openvino"):
        import openvino
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        _write_onnx(classifier, contract, source)
        model = openvino.convert_model(source)
    model.set_rt_info(contract.to_json(), [CONTRACT])
    path.mkdir()
    openvino.save_model(model, path / IR_NAME, compress_to_fp16=False)


def _write_state(classifier: Classifier, contract: Contract, path: Path) -> None:
    state = {name: tensor.detach().cpu() for name, tensor in classifier.model.state_dict().items()}
    torch.save(state, path)
    files.write_text(path.with_suffix(".json"), contract.to_json())


_WRITERS: Mapping[Format, Callable[[Classifier, Contract, Path], None]] = {
    "onnx": _write_onnx,
    "torch": _write_program,
    "openvino": _write_openvino,
    "pth": _write_state,
}


@contextlib.contextmanager
def _needing(extra: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtra(f"cannot export - {error} - pip install 'tubelet[{extra}]'.") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what PyTorch's exporter tells its own developers off the terminal."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
