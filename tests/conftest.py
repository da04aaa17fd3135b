"""Settings and fixtures that every test may use."""

import os
from pathlib import Path

import pytest
import torch

DATA_VARIABLE = "TUBELET_TEST_DATA"

# Set before anything imports matplotlib: tests draw to files, never to a screen.
os.environ.setdefault("MPLBACKEND", "Agg")


def find_data() -> Path | None:
    """Return the folder of real clips, or None where the variable is unset; a wrong one is an error, not a skip."""
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        return None
    folder = Path(named)
    if not folder.is_dir():
        raise pytest.UsageError(f"{DATA_VARIABLE} names '{named}', which is no folder; correct it or unset it.")
    return folder.resolve()


def pytest_configure(config: pytest.Config) -> None:
    find_data()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_data() is None:
        absent = pytest.mark.skip(reason=f"needs real clips: set {DATA_VARIABLE} to their folder")
        for item in items:
            if item.get_closest_marker("real_data"):
                item.add_marker(absent)


# torchvision's operators are compiled for CUDA and never register beside a PyTorch for the CPU, where importing it then
# fails over two that it only wants to describe: state them, and its transforms, the reference for ours, can be used.
_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
if not hasattr(torch.ops.torchvision, "nms"):
    for name in ("nms", "qnms"):
        _OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real clips; a test that asks for it is marked `real_data`."""
    folder = find_data()
    if folder is None:
        pytest.skip(f"needs real clips: set {DATA_VARIABLE} to their folder")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests out of the user's cache, and off the network's model hub."""
    monkeypatch.setenv("TUBELET_HOME", str(tmp_path_factory.getbasetemp() / "tubelet_home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny classifier trained on the world `speed`; do not write into it."""
    from small_run import make_small_run

    return make_small_run(tmp_path_factory.mktemp("small_run"))
