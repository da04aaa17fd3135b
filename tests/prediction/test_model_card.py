"""The card of a published model: valid for the hub, true to what was measured, silent about what is not known."""

import csv
import json
import shutil
from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard

from tubelet.classifier import Classifier
from tubelet.config import read_config, write_config
from tubelet.errors import CheckpointError
from tubelet.models import create_model
from tubelet.prediction.input_description import describe_input
from tubelet.prediction.model_card import Background, read_background, write_card
from tubelet.recipes.recipe import Recipe
from tubelet.video.spec import InputSpec


@pytest.fixture
def classifier(small_run):
    return Classifier.read(small_run / "model")


def test_the_front_matter_is_read_back_by_the_hub_s_own_reader(small_run, classifier):
    background = read_background(small_run / "model", small_run)
    report = {**background.report, "top1": 0.8125, "top1_interval_95": [0.6, 0.9], "intervals_95": {}}
    background = replace(background, report=report)
    text = write_card(classifier, "me/mine", background, license="cc-by-4.0")
    data = ModelCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-4.0", "tubelet", "video-classification")
    assert data.model_name == "mine"
    figures = {result.metric_type: result for result in data.eval_results}
    assert figures["accuracy"].metric_value == 0.8125
    assert figures["accuracy"].metric_args["interval_95"] == [0.6, 0.9]
    assert figures["accuracy"].metric_args["n"] == report["n"]
    assert figures["accuracy"].dataset_split == report["split"]
    assert ModelCard(str(ModelCard(text))).data.to_dict() == data.to_dict()


def test_the_text_states_what_is_known(small_run, classifier):
    text = write_card(classifier, "me/mine", read_background(small_run / "model", small_run))
    report = json.loads((small_run / "report.json").read_text())
    low, high = report["top1_interval_95"]
    assert f"| top-1 accuracy | {report['top1']:.1%} | {low:.1%} to {high:.1%} |" in text
    assert f"On {report['n']} clips of the split 'test'" in text
    assert f"{sum(parameter.numel() for parameter in classifier.model.parameters()):,}" in text
    assert "stated no license" in text
    assert "from fresh weights" in text
    assert 'tubelet.load("hf://me/mine")' in text
    with (small_run / "splits.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    for index, name in enumerate(classifier.classes):
        counts = [
            sum((row["label"], row["split"]) == (name, split) for row in rows) for split in ("train", "val", "test")
        ]
        assert f"| {index} | {name} | {' | '.join(map(str, counts))} |" in text.replace("\\", "")


def test_no_path_of_this_machine_is_published_and_the_recipe_can_be_read_again(small_run, classifier, tmp_path):
    background = read_background(small_run / "model", small_run)
    recipe = background.recipe
    text = write_card(classifier, "me/mine", background)
    assert str(small_run.parents[1]) not in text
    plain = text.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "again.yaml").write_text(plain)
    again = read_config(tmp_path / "again.yaml", Recipe)
    assert again == replace(recipe, data=replace(recipe.data, source="manifest.csv"))
    assert write_config(again) != ""


def test_a_bare_model_folder_says_what_is_not_known(small_run, classifier, tmp_path):
    shutil.copytree(small_run / "model", tmp_path / "bare")
    text = write_card(classifier, "me/mine", read_background(tmp_path / "bare", None))
    assert "No figures were published with it" in text
    assert "Not known: it was published without the run that it comes from." in text
    assert "How many clips of each it was trained on is not known." in text
    assert ModelCard(text).data.eval_results is None
    assert "The scores are calibrated" in text
    assert "calibrated" not in write_card(classifier, "me/mine", Background())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": "hf://MCG-NJU/videomae-base"}, "`hf://MCG-NJU/videomae-base`, whose license holds for it"),
        ({"weights": "/data/somebody/runs/seen"}, "`seen`, whose license"),
        ({"name": "videomae_base", "pretrained": True}, "`hf://MCG-NJU/videomae-base-finetuned-kinetics`, whose"),
        ({"weights": "videomae_base.ssv2"}, "`hf://MCG-NJU/videomae-base-finetuned-ssv2`, whose"),
    ],
)
def test_the_card_names_what_the_model_started_from(changes, said, classifier):
    recipe = Recipe()
    recipe = replace(recipe, model=replace(recipe.model, **changes))
    text = write_card(classifier, "me/mine", Background(recipe=recipe))
    assert said in text
    assert "somebody" not in text
    hub_name = said.startswith("`hf://") and said[1:].partition("`")[0].removeprefix("hf://")
    assert ModelCard(text).data.base_model == (hub_name or None)


def test_names_of_classes_cannot_break_the_card():
    torch.manual_seed(0)
    names = ("a|b", "<script>", "---", "x: [y", "`code`", "two\nlines")
    model = create_model("vivit_nano_joint", len(names), frames=4, height=16, width=16, channels=3, tubelet=(2, 8, 8))
    classifier = Classifier(model, InputSpec(frames=4, height=16, width=16), names)
    text = write_card(classifier, "me/mine", Background(counts={"<script>": {"train": 2}}))
    assert "<script>" not in text.replace("\\<", "")
    rows = [line for line in text.splitlines() if line[:3].rstrip(" ") in {f"| {index}" for index in range(6)}]
    assert len(rows) == 6
    assert {line.replace("\\|", "").count("|") for line in rows} == {4}
    assert ModelCard(text).data.library_name == "tubelet"


def test_clips_that_chose_the_epoch_and_few_clips_are_named(small_run, classifier):
    background = read_background(small_run / "model", small_run)
    report = {**background.report, "split": "val", "n": 8}
    text = write_card(classifier, "me/mine", replace(background, report=report))
    assert "chosen by these clips" in text
    assert "8 clips are too few" in text


def test_a_report_that_lacks_figures_is_refused(small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "run")
    (tmp_path / "run" / "report.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"report\.json.*write it anew"):
        read_background(tmp_path / "run" / "model", tmp_path / "run")


def test_a_report_of_other_weights_is_refused(small_run, tmp_path):
    told = json.loads((shutil.copytree(small_run, tmp_path / "run") / "report.json").read_text())
    (tmp_path / "run" / "report.json").write_text(json.dumps({**told, "weights": "0" * 64}))
    with pytest.raises(CheckpointError, match="of other weights"):
        read_background(tmp_path / "run" / "model", tmp_path / "run")


def test_input_in_words():
    dense = InputSpec(sampling="dense", rate_fps=12.5, fit="stretch", short="loop", window=(-1000.0, 400.0), channels=1)

    text = describe_input(dense)
    for part in ("in gray", "one stretch", "12.5 frames a second", "stretched", "starts again", "-1000 is black"):
        assert part in text
    features = InputSpec(kind="features", frames=20, height=1, width=1, channels=512, mean=(), std=())
    assert "512 numbers a frame" in describe_input(features)
