"""Run exported models where no PyTorch model is: ONNX Runtime, OpenVINO, or a program that torch.export wrote.

    mine.onnx         ONNX Runtime, CPU or CUDA     contract in metadata_props
    mine_openvino/    OpenVINO, CPU                 contract in rt_info of model.xml
    mine.pt2          torch.export, any device      contract in extra_files; such a file is code, and needs trust

All of them take uint8 clips (batch, time, height, width, channel), as `fit` leaves them, with any batch, and give
`logits` and `features`: what turns pixels into a model's numbers lies inside, where no program that runs the file can
get it wrong, and a quarter of the bytes travel.
"""

import base64
import binascii
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from safetensors import SafetensorError
from safetensors.numpy import load as unpack
from safetensors.numpy import save as pack
from torch import Tensor

from tubelet.calibration import Calibration
from tubelet.config import build
from tubelet.errors import CheckpointError, ConfigError, MissingExtra, TubeletError, VideoError
from tubelet.scorer import Inferred, Scorer
from tubelet.shapes import Task
from tubelet.video.spec import InputSpec

__all__ = ["CONTRACT", "IR_NAME", "Contract", "ExportedModel", "is_exported"]

CONTRACT = "tubelet"
"""Key under which the contract lies in a file."""
IR_NAME = "model.xml"
"""The file of an OpenVINO folder that names the others."""
FORMAT = 1

E = TypeVar("E", bound="ExportedModel")
Run = Callable[[UInt8[Tensor, "batch time height width channel"]], tuple[Tensor, Tensor]]
"""Turn clips into logits and features."""
Opened = tuple[Run, "Contract", torch.device]
"""What runs, what the file says of itself, and where it runs."""


@dataclass(frozen=True, eq=False)
class Contract:
    """State what an exported file takes and what its answers mean; it is stored inside the file."""

    model: Mapping[str, Any]
    """Hyper-parameters, from which the PyTorch model could be built again."""
    input_spec: InputSpec
    classes: tuple[str, ...]
    task: Task
    weights: str
    """The sha256 that the weights had in their model folder."""
    precision: Literal["float32", "int8"] = "float32"
    """Number format of the large products of matrices."""
    calibration: Calibration | None = None
    version: str = ""
    """Of the tubelet that wrote the file."""

    def to_json(self) -> str:
        """Write as one text, the calibration's arrays as base64 of safetensors."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "version": version("tubelet"),
            "model": dict(self.model),
            "input": asdict(self.input_spec),
            "classes": list(self.classes),
            "task": self.task,
            "weights": self.weights,
            "precision": self.precision,
        }
        if self.calibration is not None:
            arrays = {name: np.ascontiguousarray(array) for name, array in self.calibration.to_arrays().items()}
            values["calibration"] = self.calibration.to_values()
            values["arrays"] = base64.b64encode(pack(arrays)).decode("ascii")
        return json.dumps(values, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, origin: str) -> "Contract":
        """Read what `to_json` wrote.

        Raises:
            CheckpointError: it is damaged, or of a later version.
        """
        try:
            values = json.loads(text)
            if values["format"] != FORMAT:
                raise CheckpointError(
                    f"cannot run {origin!r} - its contract has format {values['format']!r}, this version knows "
                    f"{FORMAT} - upgrade tubelet, or export again."
                )
            if values["task"] not in get_args(Task):
                raise CheckpointError(
                    f"cannot run {origin!r} - it is for the task {values['task']!r} - upgrade tubelet."
                )
            calibration = None
            if "calibration" in values:
                arrays = unpack(base64.b64decode(values["arrays"], validate=True))
                calibration = Calibration.from_parts(values["calibration"], arrays)
            names = ("model", "task", "weights", "precision", "version")
            return cls(
                input_spec=build(InputSpec, values["input"]),
                classes=tuple(map(str, values["classes"])),
                calibration=calibration,
                **{name: values[name] for name in names},
            )
        except CheckpointError:
            raise
        except (ValueError, KeyError, TypeError, TubeletError, SafetensorError, binascii.Error) as error:
            raise CheckpointError(
                f"cannot run {origin!r} - its contract is damaged: {type(error).__name__}: {error} - export again."
            ) from None


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a path is an exported file or folder that `ExportedModel.read` reads."""
    # Not pathlib's: it raises at names that the system refuses.
    return Path(path).suffix.lower() in _READERS or os.path.isfile(Path(path) / IR_NAME)  # noqa: PTH113


class ExportedModel(Scorer):
    """Score clips with an exported file; it can be neither trained nor explained.

    It computes in the number format it was exported with, on as many threads as PyTorch would.

    Args:
        run: turns uint8 clips into logits and features.
        contract: what the file says of itself.
        device: where it runs.
        origin: its path, for messages.
    """

    def __init__(self, run: Run, contract: Contract, device: torch.device, origin: str) -> None:
        super().__init__(contract.input_spec, contract.classes, contract.task, contract.calibration)
        self.contract = contract
        self.origin = origin
        self._run = run
        self._device = device

    @property
    def name(self) -> str:
        """Name of the model, as `tubelet models` lists it."""
        return str(self.contract.model.get("name", ""))

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._device

    @classmethod
    def read(cls: type[E], path: str | os.PathLike[str], *, device: str = "auto", trust: bool = False) -> E:
        """Open a file that `tubelet.export` wrote.

        Args:
            path: `.onnx`, `.pt2`, or a folder of OpenVINO, or the `.xml` in it.
            device: auto, cpu, or cuda, cuda:1; OpenVINO runs on the CPU.
            trust: run a `.pt2` file: its author can execute code on this machine. The others are data.

        Raises:
            CheckpointError: no such file, a damaged one, or one without a contract.
            ConfigError: a device that is not there, or a `.pt2` file without trust.
            MissingExtra: the program that runs it is not installed.
        """
        place = Path(path)
        if (place / IR_NAME).is_file():
            place /= IR_NAME
        read = _READERS.get(place.suffix.lower())
        if read is None or not place.is_file():
            what = "there is no such file" if read else f"the endings known are {', '.join(_READERS)}"
            raise CheckpointError(f"cannot run {os.fspath(path)!r} - {what} - give a file that 'tubelet export' wrote.")
        if place.suffix.lower() == ".pt2" and not trust:
            raise ConfigError(
                f"cannot run {os.fspath(path)!r} - a .pt2 file is code: whoever made it can do anything on this "
                "machine - if you trust them, add --trust-export (trust_export=True); .onnx files need no trust."
            )
        return cls(*read(place, device), os.fspath(path))

    def infer(
        self,
        clips: UInt8[Tensor, "batch time height width channel"] | Float32[Tensor, "batch time height width channel"],
        precision: torch.dtype = torch.float32,
        *,
        lengths: Int64[Tensor, " batch"] | None = None,
    ) -> Inferred:
        """Compute logits and features of fitted clips in one go; the arguments are those of `score`.

        Raises:
            ConfigError: another precision was asked for than the file has.
            VideoError: clips of another size than the contract's.
        """
        if precision != torch.float32 or lengths is not None:
            asked = "clips of several lengths" if lengths is not None else f"precision {precision}"
            raise ConfigError(
                f"cannot run {self.origin!r} with {asked} - an exported file computes as it was exported, clips of "
                "one length - leave that out, or use the model it was made from."
            )
        spec = self.input_spec
        wanted = (spec.frames, spec.height, spec.width, spec.channels)
        if tuple(clips.shape[1:]) != wanted or clips.dtype != torch.uint8:
            raise VideoError(
                f"{self.origin!r} takes uint8 clips (time, height, width, channel) {wanted} - found {clips.dtype} "
                f"{tuple(clips.shape[1:])} - call fit first."
            )
        logits, features = self._run(clips)
        return Inferred(logits.float(), features.float())


def _read_onnx(path: Path, device: str) -> Opened:
    """Open an ONNX file; weights that it keeps in other files are read from its own folder alone."""
    onnxruntime = _import("onnxruntime", "export", path)
    place = _choose_place(device, ["cpu", *(["cuda"] if _CUDA in onnxruntime.get_available_providers() else [])], path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    providers: list[Any] = ["CPUExecutionProvider"]
    if place.type == "cuda":
        providers = [(_CUDA, {"device_id": place.index or 0}), *providers]
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:  # of a dozen kinds with no common parent of their own
        raise _damaged(path, error) from None
    contract = _find_contract(session.get_modelmeta().custom_metadata_map.get(CONTRACT), path)

    def run(clips: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = session.run(["logits", "features"], {"clips": clips.cpu().contiguous().numpy()})
        return torch.from_numpy(logits), torch.from_numpy(features)

    return run, contract, place


def _read_openvino(path: Path, device: str) -> Opened:
    openvino = _import("openvino", "openvino", path)
    place = _choose_place(device, ["cpu"], path)
    # In float32 as exported: OpenVINO's own choice is bfloat16 where the CPU has it.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    try:
        core = openvino.Core()
        model = core.read_model(path)
        text = model.get_rt_info([CONTRACT]).astype(str) if model.has_rt_info([CONTRACT]) else None
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise _damaged(path, error) from None

    def run(clips: Tensor) -> tuple[Tensor, Tensor]:
        answers = compiled({"clips": clips.cpu().contiguous().numpy()})
        # Its buffers are used again at the next call.
        return torch.tensor(answers["logits"]), torch.tensor(answers["features"])

    return run, _find_contract(text, path), place


def _read_program(path: Path, device: str) -> Opened:
    from torch.export import load
    from torch.export.passes import move_to_device_pass

    known = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    place = _choose_place(device, known, path)
    extra = {CONTRACT: ""}
    try:
        program = load(path, extra_files=extra)
    except Exception as error:  # whatever the archive, its JSON or its graph raise
        raise _damaged(path, error) from None
    contract = _find_contract(extra[CONTRACT], path)
    if place.type != "cpu":
        program = move_to_device_pass(program, place)
    module = program.module()

    def run(clips: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            logits, features = module(clips.to(place))
        return logits, features

    return run, contract, place


_READERS: Mapping[str, Callable[[Path, str], Opened]] = {
    ".onnx": _read_onnx,
    ".xml": _read_openvino,
    ".pt2": _read_program,
}
_CUDA = "CUDAExecutionProvider"


def _choose_place(device: str, known: list[str], path: Path) -> torch.device:
    """Turn auto, cpu, cuda or cuda:1 into a device that is there; auto takes the last, fastest one known."""
    name = known[-1] if device == "auto" else f"cuda:{device}" if device.isdecimal() else device
    if name.partition(":")[0] not in known:
        raise ConfigError(
            f"cannot run {os.fspath(path)!r} on '{device}' - here it can run on {' and '.join(known)} - choose auto."
        )
    return torch.device(name)


def _import(name: str, extra: str, path: Path) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtra(f"cannot run {os.fspath(path)!r} - {error} - pip install 'tubelet[{extra}]'.") from None


def _find_contract(text: str | None, path: Path) -> Contract:
    if not text:
        raise CheckpointError(
            f"cannot run {os.fspath(path)!r} - it holds no input contract and no class names - give a file that "
            "'tubelet export' wrote."
        )
    return Contract.from_json(text, os.fspath(path))


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:300]
    return CheckpointError(f"cannot run {os.fspath(path)!r} - {type(error).__name__}: {reason} - take an intact copy.")
