"""Hold that an audit tells what a model looks at, without being told."""

import json

import pytest

import tubelet
from evaluation_readers import HandMade, write_columns
from run_command import run
from tubelet.config import override
from tubelet.errors import ConfigError, DataError
from tubelet.recipes.small import make_moving_shapes
from tubelet.video.synthetic import WORLDS, make_world

CASES = {
    "direction": ("direction", "order"),
    "step": ("step", "motion"),
    "range": ("step", "frames"),
    "light": ("light", "appearance"),
    "first": ("light", "chance"),
}


@pytest.mark.parametrize("reader", CASES)
def test_what_a_hand_made_model_looks_at_is_found_out(reader, tmp_path):
    kind, verdict = CASES[reader]
    found = tubelet.audit(HandMade(reader), write_columns(tmp_path / "x.npz", kind))
    assert found.verdict == verdict, found.headline()
    assert {one.verdict for one in found.per_class} == {verdict}
    needs = found.per_class[0].needs_motion
    assert needs.interval.low <= needs.value <= needs.interval.high
    if verdict == "order":
        assert (found.accuracy["ordered"], found.accuracy["reversed"], found.accuracy["frozen"]) == (1.0, 0.0, 0.5)


def test_few_clips_give_no_verdict(tmp_path):
    found = tubelet.audit(HandMade("direction"), write_columns(tmp_path / "x.npz", "direction", clips=4))
    assert found.verdict == "few"
    assert {one.verdict for one in found.per_class} == {"few"}


def test_partners_say_what_backward_clips_show(tmp_path):
    source = write_columns(tmp_path / "x.npz", "direction")
    assert tubelet.audit(HandMade("direction"), source, partners={"0": "1", "1": "0"}).top1_reversed_partner == 1.0
    assert tubelet.audit(HandMade("direction"), source).top1_reversed_partner is None
    with pytest.raises(ConfigError, match="'1' has none"):
        tubelet.audit(HandMade("direction"), source, partners={"0": "1"})
    with pytest.raises(ConfigError, match="'2' is no class of the model"):
        tubelet.audit(HandMade("direction"), source, partners={"0": "1", "1": "2"})


def test_what_is_found_is_written_and_drawn(tmp_path):
    found = tubelet.audit(HandMade("step"), write_columns(tmp_path / "x.npz", "step"), output=tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert stored == json.loads(json.dumps(found.to_dict()))
    assert stored["verdict"] == "motion"
    assert stored["per_class"][0]["losses"]["frozen"]["value"] == found.per_class[0].needs_motion.value
    assert (tmp_path / "out" / "audit.png").read_bytes().startswith(b"\x89PNG")


def test_clips_that_are_all_unreadable_are_refused_with_the_reason(small_run, tmp_path):
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "a.mp4").write_bytes(b"no video")
    (tmp_path / "x.csv").write_text("path,label,split\nup/a.mp4,slow,test\n")
    with pytest.raises(DataError, match="none of its 1 clips"):
        tubelet.audit(small_run, tmp_path / "x.csv")


def test_the_command_audits_a_run_on_its_own_clips(small_run, tmp_path, capsys):
    status, out, _ = run("audit", small_run, "--workers", 0, "--output", tmp_path, capsys=capsys)
    assert status == 0
    assert "one frame, repeated" in out
    assert "(12 clips of 'test', 0 failed)" in out
    assert "other speeds were not tried" in out
    status, out, _ = run("audit", small_run, "--workers", 0, "--json", capsys=capsys)
    assert (status, json.loads(out)["n"]) == (0, 12)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_that_learned_motion_needs_the_order_of_frames(tmp_path):
    run = tubelet.train(recipe=make_moving_shapes("i3d_nano"), name="run", runs=tmp_path)
    found = tubelet.audit(run.folder, partners=WORLDS["moving-shapes"].partners, output=tmp_path / "out")
    print(f"\n{found.headline()}")
    assert found.verdict == "order"
    assert {one.verdict for one in found.per_class} == {"order"}
    assert found.top1_reversed_partner > 0.9


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_that_learned_color_needs_one_frame(tmp_path):
    source = make_world("color-shortcut", tmp_path / "world", clips={"train": 600, "val": 200, "test": 200})
    unpaired = {f"augmentation.{name}_pairs": () for name in ("horizontal", "vertical", "reversal")}
    unturned = {f"augmentation.{name}": 0.0 for name in ("horizontal_flip", "vertical_flip", "time_reversal")}
    changes = {**unpaired, **unturned, "data.source": str(source), "input.differences": "none", "training.epochs": 2}
    run = tubelet.train(recipe=override(make_moving_shapes(), changes), name="run", runs=tmp_path)
    found = {split: tubelet.audit(run.folder, split=split) for split in ("val", "test")}
    for one in found.values():
        print(f"\n{one.headline()}")
    assert found["val"].verdict == "appearance"
    assert {one.verdict for one in found["val"].per_class} == {"appearance"}
    assert found["test"].verdict == "chance"  # where color says nothing
