"""The page works in a real browser: with a clip, the camera, the keyboard, on a phone; and shows names as text."""

import subprocess
import time

import pytest

import tubelet
from browser import WIDTHS
from chromium import open_tab
from served import serving
from small_run import write_clip
from tubelet.classifier import Classifier

TOKEN = "a-token-of-enough-letters"
ODD = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def model(small_run, tmp_path_factory):
    """Save the tiny classifier with a class whose name is HTML."""
    trained = tubelet.load(small_run)
    folder = tmp_path_factory.mktemp("served") / "odd"
    Classifier(trained.model, trained.input_spec, (ODD, "slow"), calibration=trained.calibration).save(folder)
    return folder


@pytest.mark.slow
def test_a_clip_is_answered_on_a_desk_and_on_a_phone(model, tmp_path):
    clip = write_clip(tmp_path / "<b onclick=alert(1)>.mp4", frames=40, size=(96, 128))
    with serving(model) as (address, _), open_tab(tmp_path) as tab:
        for width in WIDTHS:
            tab.open(address, width)
            tab.wait("document.querySelector('#model').options.length == 1")
            tab.choose_file("#file", clip)
            tab.wait("!document.querySelector('#looks').hidden")
            assert tab.run("document.querySelectorAll('#bars li').length") == 2
            assert ODD in tab.run("document.querySelector('#bars').textContent")
            assert tab.run("document.querySelectorAll('#bars img').length") == 0
            assert tab.run("document.querySelector('#said').textContent.length") > 0
            assert tab.run("document.querySelectorAll('#timeline button').length") == 10
            assert tab.run("document.activeElement.id") == "answer-title"
            tab.run("document.querySelector('#explain').focus()")
            tab.press("Enter", text="\r")
            tab.wait("document.querySelectorAll('#frames img').length == 8")
            tab.wait("[...document.images].every(one => one.hidden || one.naturalWidth > 0)")
            assert tab.run("document.documentElement.scrollWidth") == width
            # Everything that a person can use has a name, and is large enough for a finger.
            nameless = (
                "[...document.querySelectorAll('button, select, input, video, img')].filter(one => !one.hidden &&"
            )
            nameless += " !(one.ariaLabel || one.alt || one.textContent.trim() || one.labels?.length || one.controls))"
            assert tab.run(f"{nameless}.length") == 0
            small = "[...document.querySelectorAll('button')].filter(one => one.offsetParent && one.offsetHeight < 44)"
            assert tab.run(f"{small}.length") == 0
            tab.photograph(tmp_path / f"{width}.png")
        tab.choose_file("#file", write_bad(tmp_path))
        tab.wait("document.querySelector('#alert').textContent.includes('no known video format')")
        tab.open(f"{address}/docs")
        tab.wait("document.querySelectorAll('#routes section').length > 4")
        expected = ["status of 422"]  # that of the bad file, which browsers print by themselves
        assert [text for text in tab.said if not any(one in text for one in expected)] == []


def write_bad(folder):
    path = folder / "bad.mp4"
    path.write_text("no video")
    return path


@pytest.mark.slow
def test_the_camera_is_answered_live_and_a_token_is_asked_for(model, tmp_path):
    film = tmp_path / "camera.mjpeg"
    make = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=15", "-t", "4"]
    subprocess.run([*make, "-c:v", "mjpeg", str(film)], check=True)
    options = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with (
        serving(model, environment={"TUBELET_TOKEN": TOKEN}) as (address, _),
        open_tab(tmp_path, *options, f"--use-file-for-fake-video-capture={film}") as tab,
    ):
        tab.open(address, 390)
        tab.wait("document.activeElement.id == 'token'")
        for key in TOKEN:
            tab.press(key, text=key)
        tab.press("Enter", text="\r")
        tab.wait("document.querySelector('#model').options.length == 1")
        assert tab.run("document.querySelector('#gate').hidden")
        tab.run("document.querySelector('#camera').focus()")
        tab.press("Enter", text="\r")
        tab.wait("document.querySelectorAll('#bars li').length == 2")
        assert tab.run("document.querySelector('#camera').getAttribute('aria-pressed')") == "true"
        tab.photograph(tmp_path / "camera.png")
        time.sleep(0.3)
        tab.press("Enter", text="\r")
        tab.wait("document.querySelector('#camera').getAttribute('aria-pressed') == 'false'")
        assert tab.run("document.querySelector('#clip').srcObject") is None
        assert [text for text in tab.said if "status of 401" not in text] == []
