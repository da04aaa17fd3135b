"""The workflows run the commands that a desk runs, with actions that cannot change under them."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def list_steps(path):
    jobs = yaml.safe_load(path.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_make_targets_exist(path):
    steps = list_steps(path)
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in steps if "uses" in step)
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {name for step in steps for name in re.findall(r"^make (\w[\w-]*)", step.get("run", ""), re.MULTILINE)}
    assert called <= targets, called - targets
    assert called


def test_every_python_and_system_that_the_package_names_is_tried():
    matrix = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]["fast"]["strategy"]["matrix"]
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert matrix["python"] == named
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
