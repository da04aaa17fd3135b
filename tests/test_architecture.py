"""The laws of the house that can be counted: sizes, names, imports, documentation, what is shipped."""

import ast
import os
import re
import statistics
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
MODULES = sorted((SOURCE / "tubelet").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (*FUNCTIONS, ast.ClassDef)
VAGUE_NAMES = {"base", "common", "core", "engine", "handler", "helper", "helpers", "manager", "misc", "util", "utils"}
HEAVY = ("torch", "matplotlib", "av", "PIL", "transformers", "sklearn")


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions():
    """Yield every function as (where, node)."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS):
                yield f"{label(path)}:{node.lineno} {node.name}", node


def count_lines(node) -> int:
    """Count a function's lines from `def` to its end, without its docstring: documentation is no burden on the code."""
    document = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
    documented = document.end_lineno - document.lineno + 1 if document else 0
    return node.end_lineno - node.lineno + 1 - documented


def test_there_is_something_to_measure():
    assert len(MODULES) > 10
    assert len(list(functions())) > 50


def test_files_have_at_most_400_lines():
    sizes = {label(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: size for name, size in sizes.items() if size > 400} == {}


def test_functions_have_at_most_60_lines_and_nearly_all_40():
    sizes = {where: count_lines(node) for where, node in functions()}
    assert {where: size for where, size in sizes.items() if size > 60} == {}
    assert statistics.quantiles(sizes.values(), n=20)[-1] <= 40


def test_functions_take_at_most_9_parameters():
    counts = {}
    for where, node in functions():
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        counts[where] = len([one for one in given if one.arg not in ("self", "cls")])
    assert {where: count for where, count in counts.items() if count > 9} == {}


def test_the_linter_holds_complexity_at_8_with_no_exception():
    lint = SETTINGS["tool"]["ruff"]["lint"]
    assert "C90" in lint["select"]
    assert lint["mccabe"]["max-complexity"] <= 8
    excused = [label(path) for path in MODULES if re.search(r"noqa(?!:)|noqa:.*C90", path.read_text(encoding="utf-8"))]
    assert excused == []


def test_every_module_says_what_it_is_and_what_it_offers():
    silent = [label(path) for path, tree in TREES.items() if not ast.get_docstring(tree)]
    unlisted = [
        label(path)
        for path, tree in TREES.items()
        # A package's file that holds its docstring alone offers nothing, and a program is run, not imported.
        if len(tree.body) > 1 and path.name != "__main__.py" and "__all__" not in assigned_names(tree)
    ]
    assert silent == []
    assert unlisted == []


def assigned_names(tree: ast.Module) -> set[str]:
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def public_definitions(body):
    for node in body:
        if isinstance(node, DOCUMENTED) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body)


def test_everything_public_has_a_docstring():
    silent = [
        f"{label(path)}:{node.lineno} {node.name}"
        for path, tree in TREES.items()
        for node in public_definitions(tree.body)
        if not ast.get_docstring(node)
    ]
    assert silent == []


def test_modules_are_named_after_what_they_hold():
    vague = [
        label(path)
        for path in MODULES
        if VAGUE_NAMES & {word for part in path.relative_to(SOURCE).with_suffix("").parts for word in part.split("_")}
    ]
    assert vague == []


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(tree: ast.Module, known: set[str]):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in submodules if name in known)
            if any(name not in known for name in submodules):
                yield node.module


def import_graph() -> dict[str, set[str]]:
    """Map each module to those it imports, a package's own file included for everybody outside that package."""
    names = {module_name(path): tree for path, tree in TREES.items()}
    graph: dict[str, set[str]] = {name: set() for name in names}
    for name, tree in names.items():
        for target in imported_modules(tree, set(names)):
            parents = [target.rsplit(".", depth)[0] for depth in range(1, target.count(".") + 1)]
            graph[name] |= {target, *(p for p in parents if p in names and not f"{name}.".startswith(f"{p}."))}
    return graph


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph[name]):
            cycle = visit(target, [*trail, name])
            if cycle:
                return cycle
        done.add(name)
        return []

    return next((cycle for name in graph if (cycle := visit(name, []))), [])


def test_no_module_imports_itself_through_others():
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    graph = import_graph()
    assert "tubelet.errors" in graph["tubelet.registry"]
    assert " -> ".join(find_cycle(graph)) == ""


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_importing_the_package_loads_nothing_heavy():
    done = run_python("-c", "import sys, tubelet; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert [name for name in done.stdout.split() if name in HEAVY] == []


def test_importing_the_package_takes_at_most_50_ms():
    script = "import time; start = time.process_time(); import tubelet; print(time.process_time() - start)"
    # Processor time, the least of several: a busy machine makes an import slower, never faster.
    assert min(float(run_python("-c", script).stdout) for _ in range(5)) <= 0.050


def test_the_program_shows_its_help_without_loading_anything_heavy():
    done = run_python("-X", "importtime", "-m", "tubelet", "--help")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "train" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "tubelet" in loaded
    assert sorted(loaded & set(HEAVY)) == []


def test_public_names_are_few_exist_and_are_documented():
    import tubelet

    assert len(tubelet.__all__) <= 24
    assert sorted(set(tubelet.__all__)) == sorted(tubelet.__all__)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in tubelet.__all__:
        assert getattr(tubelet, name).__doc__, f"tubelet.{name} has no docstring"
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", readme), f"README.md does not mention {name}"


def committed_files() -> list[Path]:
    """List what is, or is about to be, committed; all files where there is no checkout, as in an unpacked sdist."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        found = [path for part in ("src", "tests", "docs", "examples") for path in (ROOT / part).rglob("*")]
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def test_no_committed_file_names_a_machine_or_a_registry():
    # Put together here, so that this file holds none of them.
    folders = "|".join(["work", "root", "home/[a-z]+"])
    hosts = ["py" + "pi.org", "python" + "hosted.org", "download.py" + "torch.org", "npm" + "js.org", "debian" + ".org"]
    pattern = re.compile(rf"(?<![\w.<}}])/({folders})/|{'|'.join(map(re.escape, hosts))}")
    assert pattern.search("see /work" + "/main")
    found = {}
    for path in committed_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        match = pattern.search(text)
        if match:
            found[label(path)] = match.group()
    assert found == {}


def test_the_guide_for_contributors_stays_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 60


def test_every_tested_version_is_pinned_without_a_place_to_get_it_from():
    lines = (ROOT / "requirements" / "ci.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []
    assert lines == sorted(lines, key=str.lower)
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    project = SETTINGS["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"], *extras["docs"]]
    names = {re.match(r"[A-Za-z0-9._-]+", one).group().lower().replace("_", "-") for one in wanted}
    assert sorted(names - pinned) == []


@pytest.mark.slow
def test_the_wheel_holds_the_package_its_types_and_its_licence_and_nothing_else(tmp_path):
    done = run_python("-m", "build", "--wheel", "--outdir", str(tmp_path))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    modules = {path.relative_to(SOURCE).as_posix() for path in MODULES}
    assert modules - set(names) == set()
    assert "tubelet/py.typed" in names
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    assert [name for name in names if not name.startswith("tubelet/") and ".dist-info/" not in name] == []
    assert [name for name in names if "__pycache__" in name or name.endswith(".pyc")] == []
