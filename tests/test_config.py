"""One tree of dataclasses: what is written comes back, what is typed lands, what is wrong is named with its line."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tubelet.config import (
    build,
    collect,
    describe_fields,
    flatten,
    override,
    overrides_type,
    read_config,
    write_config,
)
from tubelet.errors import ConfigError
from tubelet.video.spec import InputSpec


@dataclass(frozen=True)
class Optimizer:
    """Choose how weights move."""

    lr: float = 1e-3
    """Step size at the peak
    of the schedule."""
    name: Literal["adamw", "sgd"] = "adamw"
    """Which rule."""
    nesterov: bool = False
    """Look ahead."""
    clip_norm: float | None = 1.0
    """Largest gradient norm; null for none."""

    def __post_init__(self) -> None:
        if self.nesterov and self.name != "sgd":
            raise ConfigError("nesterov is for sgd only.")


@dataclass(frozen=True)
class Empty:
    pass


@dataclass(frozen=True)
class Warmup:
    epochs: int
    """How long."""
    factor: float = 0.1


@dataclass(frozen=True)
class Tree:
    """A toy recipe."""

    epochs: int = 10
    """Passes over the data."""
    title: str = "no"
    optimizer: Optimizer = field(default_factory=Optimizer)
    input: InputSpec = field(default_factory=InputSpec)
    """What the model sees."""
    swaps: tuple[tuple[str, str], ...] = ()
    """Classes that trade places when a clip is mirrored."""
    scales: tuple[float, ...] = (0.5, 1.0)
    """Sizes to try."""
    pair: tuple[int, str] = (1, "a")
    model_options: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    """Changes to the model."""
    devices: int | Literal["auto"] = "auto"
    warmup: Warmup | None = None
    """Start slowly; null for not at all."""
    empty: Empty = field(default_factory=Empty)


NAMES = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["no", "1", "3e-4", "null", "~", "a: b", "# c", "- d", "[", "x,y", "'", '"', "\n", "é\u2028", "1:30", "0x10", ".5"]
)
FLOATS = st.floats(allow_nan=False)
INTEGERS = st.integers(-(10**17), 10**17)
# Trees are built in the test itself: inside a strategy, beartype's own use of `random` would be a warning.
TREES = st.builds(
    dict,
    epochs=INTEGERS,
    title=NAMES,
    optimizer=st.builds(
        Optimizer, lr=FLOATS, name=st.just("sgd"), nesterov=st.booleans(), clip_norm=st.none() | FLOATS
    ),
    swaps=st.lists(st.tuples(NAMES, NAMES), max_size=3).map(tuple),
    scales=st.lists(FLOATS, max_size=3).map(tuple),
    pair=st.tuples(INTEGERS, NAMES),
    model_options=st.dictionaries(NAMES, INTEGERS | FLOATS | NAMES | st.booleans(), max_size=3),
    devices=INTEGERS | st.just("auto"),
    warmup=st.none() | st.builds(Warmup, epochs=INTEGERS, factor=FLOATS),
)


def types_of(tree):
    return [type(value) for value in flatten(tree).values()], [type(v) for v in tree.model_options.values()]


@settings(max_examples=60, deadline=None)
@given(values=TREES)
def test_what_is_written_reads_back_the_same(tmp_path_factory, values):
    tree = Tree(**values)
    path = tmp_path_factory.mktemp("config") / "a.yaml"
    path.write_text(write_config(tree), encoding="utf-8")
    back = read_config(path, Tree)
    assert back == tree
    assert types_of(back) == types_of(tree)


def test_other_yaml_readers_see_the_same_values():
    tree = Tree(title="no", optimizer=Optimizer(lr=1e-5, clip_norm=None), devices="auto", pair=(3, "1e3"))
    read = yaml.safe_load(write_config(tree))
    assert read["title"] == "no"
    assert read["optimizer"] == {"lr": 1e-5, "name": "adamw", "nesterov": False, "clip_norm": None}
    assert read["pair"] == [3, "1e3"]


def test_written_text_stays_readable():
    assert 'title: "Größe 漢 1"' in write_config(Tree(title="Größe 漢 1"))


def test_the_written_file_explains_every_field():
    lines = write_config(Tree()).splitlines()
    assert lines[:3] == ["# Passes over the data.", "epochs: 10", 'title: "no"']
    at = lines.index("optimizer:")
    assert lines[at - 2 : at + 3] == [
        "",
        "# Choose how weights move.",
        "optimizer:",
        "  # Step size at the peak of the schedule.",
        "  lr: 0.001",
    ]
    assert lines[at + 3 : at + 5] == ["  # Which rule. One of: adamw, sgd.", "  name: adamw"]
    assert "# What the model sees." in lines
    assert lines[lines.index("empty: {}") - 1] == ""
    assert max(map(len, lines)) <= 120


def test_fields_are_described_by_dotted_name():
    described = describe_fields(Tree)
    assert list(described)[:4] == ["epochs", "title", "optimizer.lr", "optimizer.name"]
    assert described["optimizer.lr"].text == "Step size at the peak of the schedule."
    assert described["optimizer.lr"].default == 1e-3
    assert described["optimizer.clip_norm"].kind == "a number or null"
    assert described["title"].text == ""
    assert described["warmup.epochs"].text == "How long."
    assert described["scales"].kind == "a list (each a number)"


def test_texts_of_an_inherited_field_are_found():
    @dataclass(frozen=True)
    class Child(Optimizer):
        extra: int = 1
        """Own."""

    assert describe_fields(Child)["lr"].text.startswith("Step size")
    assert describe_fields(Child)["extra"].text == "Own."


def read(tmp_path: Path, text: str) -> Tree:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    return read_config(tmp_path / "mine.yaml", Tree)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Tree()),
        ("# nothing but a comment\n", Tree()),
        ("epochs: 3", Tree(epochs=3)),
        ("optimizer: {lr: 3e-4}", Tree(optimizer=Optimizer(lr=3e-4))),
        ("optimizer:\n  # lr: 1\n", Tree()),
        ("optimizer: {lr: 1}", Tree(optimizer=Optimizer(lr=1.0))),
        ("title: 1:30", Tree(title="1:30")),
        ("title: no", Tree(title="no")),
        ("title: '7'", Tree(title="7")),
        ("devices: 2", Tree(devices=2)),
        ("swaps: [[left, right]]", Tree(swaps=(("left", "right"),))),
        ("model_options: {depth: 2, form: joint, rate: 1.0, flag: true}",) * 1
        + (Tree(model_options={"depth": 2, "form": "joint", "rate": 1.0, "flag": True}),),
        ("warmup: {epochs: 2}", Tree(warmup=Warmup(2))),
        ('{"epochs": 4, "optimizer": {"name": "sgd"}}', Tree(epochs=4, optimizer=Optimizer(name="sgd"))),
    ],
)
def test_a_file_means_what_it_says(tmp_path, text, expected):
    tree = read(tmp_path, text)
    assert tree == expected
    assert types_of(tree) == types_of(expected)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("epochs: 3\noptimizer:\n  lrr: 1", ["line 3", "unknown key 'optimizer.lrr'", "did you mean 'lr'", "nesterov"]),
        ("\nlr: 1", ["line 2", "unknown key 'lr'", "did you mean 'optimizer.lr'"]),
        ("optimizer.lr: 1", ["line 1", "nest its parts"]),
        ("epochs: 1\nepochs: 2", ["line 2", "'epochs' is there twice", "first in line 1"]),
        ("optimizer:\n  lr: 1\n  lr: 1", ["line 3", "'optimizer.lr' is there twice", "first in line 2"]),
        ("epochs: many", ["line 1", "'epochs' must be a whole number - found 'many'"]),
        ("epochs: 1.0", ["'epochs' must be a whole number - found 1.0"]),
        ("epochs: true", ["'epochs' must be a whole number - found True"]),
        ("epochs: 010", ["'epochs' must be a whole number - found '010'"]),
        ("title: 7", ["'title' must be a text - found 7"]),
        ("optimizer:\n  nesterov: yes", ["line 2", "must be true or false - found 'yes'"]),
        ("optimizer:\n  lr: '1'", ["line 2", "must be a number - found '1'"]),
        ("optimizer:\n  name: adam", ["line 2", "must be 'adamw' or 'sgd' - found 'adam'", "did you mean 'adamw'"]),
        ("optimizer:\n  clip_norm: x", ["line 2", "must be a number or null - found 'x'"]),
        ("optimizer: 3", ["line 1", "'optimizer' must have keys of its own - found 3", "lr, name"]),
        ("- epochs", ["line 1", "must have keys of its own"]),
        ("scales: [1, x]", ["line 1", "'scales.1' must be a number - found 'x'"]),
        ("scales: 1", ["'scales' must be a list (each a number) - found 1"]),
        ("pair: [1]", ["'pair' must be a list (a whole number, a text) - found [1]"]),
        ("model_options: [1]", ["'model_options' must be a section"]),
        ("model_options:\n  depth: [1]", ["line 2", "'model_options.depth' must be a whole number or a number"]),
        ("devices: none", ["'devices' must be a whole number or 'auto' - found 'none'"]),
        ("warmup: {factor: 1}", ["the key 'warmup.epochs' is missing", "give a whole number"]),
        ("warmup: {epochs: x}", ["'warmup.epochs' must be a whole number - found 'x'"]),
        ("epochs: 1\noptimizer:\n  nesterov: true", ["line 2", "nesterov is for sgd only"]),
        ("? [a]\n: 1", ["line 1", "a key must be a text"]),
        ("epochs: [1", ["line 1", "this is not YAML"]),
        ("a: 1\n\tb: 2", ["line 2", "this is not YAML"]),
        ("epochs: 1\n---\nepochs: 2", ["line 2", "this is not YAML"]),
        ("epochs: \x00", ["this is not YAML"]),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_remedy(tmp_path, text, parts):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "mine.yaml"))
    for part in parts:
        assert part in str(caught.value)


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\n" + "".join(f"c{i}: &c{i} [*b, *b]\n" for i in range(10))
HOSTILE = {
    "object": ("title: !!python/object/apply:os.system ['touch canary']", "tags are not read"),
    "name": ("title: !!python/name:os.system", "tags are not read"),
    "module": ("title: !!python/module:os", "tags are not read"),
    "tuple": ("scales: !!python/tuple [1]", "tags are not read"),
    "own tag": ("title: !env HOME", "tags are not read"),
    "standard tag": ("epochs: !!int '3'", "tags are not read"),
    "binary": ("title: !!binary aGk=", "tags are not read"),
    "bomb": (BOMB, "aliases are not read"),
    "alias": ("scales: &one [1]\ninput: {mean: *one}", "line 2: aliases are not read"),
    "merge": ("optimizer: &x {lr: 3}\n<<: *x", "aliases are not read"),
    "deep flow": ("title: " + "[" * 100_000, "nested deeper than 20"),
    "deep block": ("".join(" " * i + "a:\n" for i in range(100)), "line 21: nested deeper than 20"),
    "long": ("title: " + "x" * 300_000, "at most 262,144 bytes"),
    "million digits": ("epochs: " + "9" * 200_000, "must be a whole number"),
    "target": ("optimizer: {_target_: os.system, command: touch canary}", "unknown key 'optimizer._target_'"),
    "class path": ("class_path: os.system", "unknown key 'class_path'"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.timeout(10)
def test_a_hostile_file_is_refused_and_runs_nothing(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    text, reason = HOSTILE[kind]
    with pytest.raises(ConfigError, match=r"mine\.yaml") as caught:
        read(tmp_path, text)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 600
    assert [file.name for file in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize("text", ["title: ${HOME}", "title: $(touch canary)", "title: '{{ 1 }}'"])
def test_text_is_never_expanded(tmp_path, text):
    assert read(tmp_path, text).title == text.removeprefix("title: ").strip("'")


def test_an_absent_file_is_named_with_the_nearest_one(tmp_path):
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(ConfigError, match=r"no configuration file .*recpe\.yaml'; did you mean 'recipe\.yaml'\?"):
        read_config(tmp_path / "recpe.yaml", Tree)
    with pytest.raises(ConfigError, match=r"cannot be read"):
        read_config(tmp_path, Tree)
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"bytes\.yaml: this is not UTF-8 text - byte 3"):
        read_config(tmp_path / "bytes.yaml", Tree)


def test_flattened_leaves_build_the_same_tree_again():
    tree = Tree(epochs=2, optimizer=Optimizer(lr=0.5), warmup=Warmup(1))
    assert flatten(tree)["optimizer.lr"] == 0.5
    assert flatten(tree)["warmup.epochs"] == 1
    assert override(Tree(), flatten(tree)) == tree


def test_json_of_a_checkpoint_builds_the_tree():
    tree = build(Tree, {"input": {"frames": 8, "mean": [0.5, 0.5, 0.5]}, "swaps": [["a", "b"]]}, "model/config.json")
    assert tree.input.mean == (0.5, 0.5, 0.5)
    assert tree.swaps == (("a", "b"),)
    with pytest.raises(ConfigError, match=r"^model/config\.json: unknown key 'input\.frame'; did you mean 'frames'\?"):
        build(Tree, {"input": {"frame": 8}}, "model/config.json")


def test_overrides_land_and_leave_the_rest():
    tree = override(
        Tree(model_options={"depth": 1, "form": "joint"}),
        {"optimizer.lr": 1, "epochs": 3, "model_options.depth": 2, "optimizer": {"name": "sgd"}, "warmup.epochs": 4},
    )
    assert tree == Tree(
        epochs=3,
        optimizer=Optimizer(lr=1.0, name="sgd"),
        model_options={"depth": 2, "form": "joint"},
        warmup=Warmup(4),
    )
    assert type(tree.optimizer.lr) is float
    assert override(tree, {"warmup": None}).warmup is None
    assert override(tree, {"optimizer": {"clip_norm": 2}}).optimizer == Optimizer(lr=1.0, name="sgd", clip_norm=2.0)


def test_overrides_of_one_section_are_checked_together():
    changed = override(Tree(), {"optimizer.nesterov": True, "optimizer.name": "sgd"})
    assert changed.optimizer.nesterov
    with pytest.raises(ConfigError, match=r"^--set: nesterov is for sgd only"):
        override(Tree(), {"optimizer.nesterov": True}, "--set")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer.lrr": 1}, r"unknown key 'optimizer\.lrr'; did you mean 'lr'\?"),
        ({"optimzer.lr": 1}, r"unknown key 'optimzer\.lr'; did you mean 'optimizer\.lr'\?"),
        ({"lr": 1}, r"unknown key 'lr'; did you mean 'optimizer\.lr'\?"),
        ({"optimizer.lr": "fast"}, r"'optimizer\.lr' must be a number - found 'fast'"),
        ({"epochs.x": 1}, r"'epochs' is a whole number - there is nothing below it to change, such as 'x'"),
        ({"epochs": None}, r"'epochs' must be a whole number - found None"),
    ],
)
def test_a_wrong_override_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        override(Tree(), changes)


def make_app() -> cyclopts.App:
    app = cyclopts.App(result_action="return_value")
    overrides = overrides_type(Tree)

    @app.default
    def train(data: str = "x", *, typed: Annotated[overrides | None, cyclopts.Parameter(name="*")] = None):
        """Train."""
        return collect(typed)

    return app


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ("", {}),
        ("clips", {}),
        ("clips --optimizer.lr 3e-4", {"optimizer.lr": 3e-4}),
        ("--epochs 3 --optimizer.name sgd", {"epochs": 3, "optimizer.name": "sgd"}),
        ("--optimizer.nesterov --optimizer.name sgd", {"optimizer.nesterov": True, "optimizer.name": "sgd"}),
        ("--optimizer.no-nesterov", {"optimizer.nesterov": False}),
        ("--optimizer.clip-norm none", {"optimizer.clip_norm": None}),
        ("--optimizer.clip_norm 2", {"optimizer.clip_norm": 2.0}),
        ("--swaps left right up down", {"swaps": (("left", "right"), ("up", "down"))}),
        ("--scales 0.5 1 --epochs 2", {"scales": (0.5, 1.0), "epochs": 2}),
        ("--pair 3 b", {"pair": (3, "b")}),
        ("--devices 2", {"devices": 2}),
        ("--devices auto", {"devices": "auto"}),
        ("--model-options.depth 2 --model-options.num_heads 3", {"model_options": {"depth": 2, "num_heads": 3}}),
        ("--model_options.depth 2 --model_options.form joint", {"model_options": {"depth": 2, "form": "joint"}}),
        ("--warmup.epochs 2", {"warmup.epochs": 2}),
        ("--input.rate_fps 12.5", {"input.rate_fps": 12.5}),
    ],
)
def test_only_typed_options_are_collected_and_they_fit_the_tree(line, typed):
    found = make_app()(line.split(), exit_on_error=False)
    assert found == typed
    assert {name: flatten(override(Tree(), found)).get(name) for name in typed} == typed


def test_options_that_nobody_typed_pass_where_pydantic_is_imported():
    pytest.importorskip("pydantic")  # cyclopts checks defaults with it from then on
    assert make_app()(["--optimizer.lr", "3e-4"], exit_on_error=False) == {"optimizer.lr": 3e-4}


def test_a_mistyped_option_is_refused_with_the_nearest():
    with pytest.raises(cyclopts.UnknownOptionError, match=r"Did you mean --optimizer\.lr\?"):
        make_app()(["--optimizer.lrr", "1"], exit_on_error=False, print_error=False)


def test_help_shows_the_string_under_a_field_and_its_default(capsys):
    make_app()(["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--optimizer.lr" in shown
    assert "Step size at the peak of the schedule. [default: 0.001]" in shown
    assert "untyped" not in shown
    assert "--input.frames" in shown


def test_a_truth_value_is_not_taken_for_the_choice_one():
    @dataclass(frozen=True)
    class Views:
        clips: Literal[1, 5] = 1

    assert build(Views, {"clips": 5}).clips == 5
    with pytest.raises(ConfigError, match="'clips' must be 1 or 5 - found True"):
        build(Views, {"clips": True})


def test_a_type_that_yaml_cannot_hold_is_a_programming_error():
    @dataclass(frozen=True)
    class Wrong:
        path: Path = Path()

    with pytest.raises(TypeError, match="'path' has a type that configurations do not know"):
        build(Wrong, {"path": "x"})


def test_reading_a_configuration_does_not_load_the_command_line_library():
    script = "import sys, tubelet.config; sys.exit('cyclopts' in sys.modules or 'torch' in sys.modules)"
    source = str(Path(sys.modules["tubelet"].__path__[0]).parent)
    assert subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": source}).returncode == 0
