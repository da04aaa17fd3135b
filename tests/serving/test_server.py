"""The server answers as `predict` does, says no in fixed sentences, and gives nothing away."""

import json
import os
import re
import signal
import socket
import threading
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import tubelet
from run_command import run
from small_run import write_clip
from tubelet.errors import ConfigError
from tubelet.serving.app import make_app
from tubelet.serving.connections import Listener
from tubelet.serving.limits import Access, check_address
from tubelet.serving.options import ServingOptions
from tubelet.serving.refusals import SENTENCES
from tubelet.serving.serve import _name_models, serve
from tubelet.serving.service import Service

TOKEN = "a token of enough letters"
LEAK = re.compile(
    r"0x[0-9a-f]{6,}|/(?:home|tmp|usr|root|etc|src)/|Traceback|File \"|ffmpeg|libav|\.py\b", re.IGNORECASE
)


FORM = b"Content-Type: multipart/form-data; boundary=a\r\n"


@contextmanager
def listening(service, access=None):
    """Serve in a thread of this process, at a real port; give the address."""
    ports = []
    app = make_app(service, access or check_address("127.0.0.1", None, False, ()))
    options = {"head_s": service.options.body_s, "on_start": ports.append, "on_stop": service.stop}
    listener = Listener(app, "127.0.0.1", 0, **options)
    thread = threading.Thread(target=listener.run)
    thread.start()
    try:
        end = time.monotonic() + 60
        while not ports:
            assert time.monotonic() < end
            time.sleep(0.01)
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        listener.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def classifier(small_run):
    return tubelet.load(small_run)


@pytest.fixture(scope="module")
def service(classifier):
    options = ServingOptions(decoders=1, upload_mb=1, body_s=1.5, places=2, sockets=2)
    service = Service({"small": classifier, "other": classifier}, options)
    yield service
    service.close()


@pytest.fixture(scope="module")
def address(service):
    with listening(service) as address:
        yield address


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", frames=40)


def check_refusal(reply, code, status):
    """Hold that a refusal has its code and says nothing else."""
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert SENTENCES[code] == (status, reply.json()["error"]["message"])
    assert reply.json()["error"]["request_id"] == reply.headers["x-request-id"]
    assert not LEAK.search(reply.text)


def test_an_answer_is_that_of_predict_however_the_file_comes(client, classifier, clip):
    expected = classifier.predict(clip, views=2)
    for sent in ({"content": clip.read_bytes()}, {"files": {"file": ("../../x.mp4", clip.read_bytes())}}):
        reply = client.post("/predict", params={"views": 2, "top": 1, "timeline": True}, **sent)
        assert reply.status_code == 200, reply.text
        told = reply.json()
        assert told["label"] == expected.label
        assert told["top"] == [{"label": expected.label, "score": pytest.approx(expected.score, abs=1e-6)}]
        assert told["distance"] == pytest.approx(expected.distance, rel=1e-4)
        assert (told["is_unknown"], tuple(told["label_set"])) == (expected.is_unknown, expected.label_set)
        assert "x.mp4" not in reply.text
        assert len(told["timeline"]) == 10
        assert told["timeline"][0]["start_s"] == 0
        assert told["timeline"][-1]["end_s"] == pytest.approx(told["duration_s"])
        with tubelet.Video(clip) as video:
            part = classifier.predict(video.frames_at(range(4, 8)).pixels)
        assert told["timeline"][1]["label"] == part.label
        assert told["timeline"][1]["score"] == pytest.approx(part.score, abs=1e-6)


def test_it_says_where_the_model_looked(client, clip):
    told = client.post("/explain", content=clip.read_bytes(), params={"label": "slow"}).json()
    assert told["label"] == "slow"
    assert len(told["frames"]) == len(told["curve"]) == 8
    assert all(frame["image"].startswith("data:image/jpeg;base64,/9j/") for frame in told["frames"])
    check_refusal(client.post("/explain", content=b"", params={"label": "none"}), "unknown_class", 422)


def test_bad_requests_get_a_reason_and_no_more(client, clip, small_run):
    data = clip.read_bytes()
    for body, code in (
        (b"", "truncated"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "not_a_video"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "not_a_video"),
        (data[:500], "truncated"),
        (data.replace(b"avc1", b"xxxx"), "unsupported_codec"),
    ):
        check_refusal(client.post("/predict", content=body), code, 422)
    form = {"data": {"other": "1"}, "files": {"wrong": b"x"}}
    check_refusal(client.post("/predict", **form), "no_file", 422)
    broken = {"content-type": "multipart/form-data"}
    check_refusal(client.post("/predict", content=b"x", headers=broken), "bad_request", 422)
    for query in ({"top": "many"}, {"top": 0}, {"views": 11}, {"coverage": 1}):
        check_refusal(client.post("/predict", content=data, params=query), "bad_request", 422)
    for name in (str(small_run), "../small", "hf://owner/repo", "small\0"):
        check_refusal(client.post("/predict", content=data, params={"model": name}), "unknown_model", 404)
    check_refusal(client.get("/predict"), "method_not_allowed", 405)
    for path in ("/none", "/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2f..%2fapp.py", "/page//etc/passwd"):
        check_refusal(client.get(path), "not_found", 404)


def test_names_of_uploads_never_reach_the_file_system(client, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    names = [
        "../x.mp4",
        "/tmp/x.mp4",
        "a\u202e4pm.exe",
        "-rf",
        "frame%03d.png",
        "<img src=x onerror=alert(1)>",
        "x" * 4000,
    ]
    for name in names:
        reply = client.post("/predict", files={"file": (name, clip.read_bytes())})
        assert reply.status_code == 200
        assert "onerror" not in reply.text
    assert sorted(tmp_path.rglob("*")) == before


def test_every_reply_forbids_what_a_page_of_a_stranger_could_do(client):
    for path in ("/", "/docs", "/page/page.js", "/models", "/none"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'; ")
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers
    for path in ("/", "/docs", "/page/page.js", "/page/docs.js", "/page/asking.js", "/page/page.css"):
        text = client.get(path).text
        assert not re.search(r"https?://|<script(?! type=\"module\" src=\"/page/)|\son\w+=|style=|innerHTML", text), (
            path
        )


def test_foreign_names_and_pages_are_refused(client, address):
    port = address.rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
        check_refusal(client.get("/healthz", headers={"host": host}), "foreign_host", 421)
    for host in ("localhost", f"localhost:{port}", f"[::1]:{port}", "LOCALHOST"):
        assert client.get("/healthz", headers={"host": host}).status_code == 200
    for origin in ("http://evil.example", "null", "http://localhost:1"):
        check_refusal(client.post("/predict", headers={"origin": origin}), "foreign_origin", 403)
    check_refusal(client.post("/predict", headers={"sec-fetch-site": "cross-site"}), "foreign_origin", 403)
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws{address[4:]}/stream", origin="http://evil.example")


def test_a_token_is_asked_for_everywhere_but_on_the_page(service, clip):
    with listening(service, Access(TOKEN)) as address, httpx.Client(base_url=address, timeout=60) as client:
        for path in ("/", "/docs", "/page/page.js", "/healthz", "/readyz"):
            assert client.get(path).status_code == 200
        for path in ("/models", "/metrics", "/openapi.json"):
            check_refusal(client.get(path), "unauthorized", 401)
            for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer", "Bearer \xe9"):
                check_refusal(client.get(path, headers={"authorization": wrong.encode("latin-1")}), "unauthorized", 401)
            assert client.get(path, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        check_refusal(client.post("/predict", content=clip.read_bytes()), "unauthorized", 401)
        for names in ([], ["tubelet"], ["tubelet.token.00"], ["tubelet.token.x"]):
            with pytest.raises(InvalidStatus, match="403"):
                connect(f"ws{address[4:]}/stream", subprotocols=names or None)
        names = ["tubelet", f"tubelet.token.{TOKEN.encode().hex()}"]
        with connect(f"ws{address[4:]}/stream", subprotocols=names) as stream:
            assert stream.subprotocol == "tubelet"


def test_only_this_machine_reaches_a_server_without_a_token(capsys):
    assert check_address("127.0.0.1", None, False, ()).token is None
    assert "::1" in check_address("::1", None, False, ("Mine.example",)).hosts
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org", ""):
        with pytest.raises(ConfigError, match="TUBELET_TOKEN"):
            check_address(host, None, False, ())
        assert check_address(host, TOKEN, False, ()).token == TOKEN
        assert check_address(host, None, True, ()).token is None
    with pytest.raises(ConfigError, match="5 characters"):
        check_address("127.0.0.1", "short", False, ())
    status, _, said = run("serve", "runs/none", "--host", "0.0.0.0", capsys=capsys)
    assert (status, "--insecure" in said) == (2, True)
    assert run("serve", capsys=capsys)[0] == 2
    assert run("serve", "x", "--batch", "0", capsys=capsys)[0] == 2


def test_models_are_known_by_the_last_part_of_their_names():
    given = ["runs/a", "b/model", "c/a", "hf://me/a", "videomae_base.kinetics400"]
    assert list(_name_models(given)) == ["a", "b", "a-2", "a-3", "videomae_base.kinetics400"]
    with pytest.raises(ConfigError, match="no model"):
        serve([])


def test_bodies_over_the_limit_are_refused_and_hardly_read(client, service):
    check_refusal(client.post("/predict", content=bytes(1_000_001)), "body_too_large", 413)
    assert client.post("/predict", content=bytes(1_000_000)).status_code == 422
    before = service.monitor.body_bytes._value.get()
    reply = client.post("/predict", content=(bytes(100_000) for _ in range(100)))
    check_refusal(reply, "body_too_large", 413)
    assert service.monitor.body_bytes._value.get() - before < 2_200_000
    assert reply.headers["connection"] == "close"


def send_raw(address, data):
    """Send bytes; return all that comes until the server closes, and how long that took."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        start = time.monotonic()
        raw.sendall(data.replace(b"HOST", f"Host: {host}".encode()))
        received = b""
        while piece := raw.recv(1 << 16):
            received += piece
        return received, time.monotonic() - start


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"POST /predict HTTP/1.1\r\nHOST\r\nContent-Length: 1000\r\n\r\nabc", b"408"),
        (b"POST /predict HTTP/1.1\r\nHOST\r\n" + FORM + b"Content-Length: 9\r\n\r\n", b"408"),
        (b"POST /predict HTTP/1.1\r\nHOST\r\n", b""),
        (b"", b""),
    ],
    ids=["body", "form", "head", "nothing"],
)  # fmt: skip
def test_what_comes_too_slowly_is_closed(address, data, answer):
    received, took = send_raw(address, data)
    assert received.partition(b"\r\n")[0].split(b" ")[1:2] == ([answer] if answer else [])
    assert 1 < took < 6  # 1.5 s in this server, 30 s where nothing else is said


def test_a_full_server_says_when_to_come_again(client, service, clip):
    with service.take_place(), service.take_place():
        reply = client.post("/predict", content=clip.read_bytes())
        check_refusal(reply, "busy", 503)
        assert int(reply.headers["retry-after"]) >= 1
    assert client.post("/predict", content=clip.read_bytes()).status_code == 200


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_decoder_that_is_killed_fails_its_own_request_alone(client, service, clip):
    (pid,) = service.decoder_pids
    os.kill(pid, signal.SIGSTOP)
    killer = threading.Timer(0.5, os.kill, (pid, signal.SIGKILL))
    killer.start()
    check_refusal(client.post("/predict", content=clip.read_bytes()), "decoder_crashed", 422)
    assert client.post("/predict", content=clip.read_bytes()).status_code == 200
    assert service.is_ready


def test_a_fault_inside_is_told_to_the_log_and_not_to_the_client(client, clip, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("at 0x7f001234 in /etc/secret.py")

    monkeypatch.setattr("tubelet.serving.service.judge", fail)
    reply = client.post("/predict", content=clip.read_bytes())
    check_refusal(reply, "internal", 500)
    assert "secret.py" in caplog.text
    assert reply.headers["x-request-id"] in caplog.text


def test_states_and_figures_are_told(client, clip):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"ready": True}
    models = client.get("/models").json()["models"]
    assert [one["name"] for one in models] == ["small", "other"]
    client.post("/predict", content=clip.read_bytes(), params={"model": "other"})
    figures = client.get("/metrics").text
    for line in (r'tubelet_requests_total\{path="/predict",status="200"\}', "tubelet_batch_clips_count"):
        assert float(re.search(rf"^{line} (\S+)$", figures, re.MULTILINE)[1]) > 0
    assert {"/predict", "/explain", "/models"} <= set(client.get("/openapi.json").json()["paths"])


def make_jpeg(number=0, side=48):
    from io import BytesIO

    stream = BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def test_a_live_stream_is_scored_window_by_window(address, classifier):
    with connect(f"ws{address[4:]}/stream?model=small") as stream:
        told = []
        for number in range(12):
            stream.send(make_jpeg(number))
            told.append(json.loads(stream.recv(timeout=60)))
    assert [one.get("missing", 0) for one in told] == [7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0]
    assert {entry["label"] for entry in told[-1]["top"]} == set(classifier.classes)
    from tubelet.transforms.preparation import fit
    from tubelet.video.isolation import Wanted
    from tubelet.video.worker import read_picture

    wanted = Wanted(classifier.input_spec, is_picture=True)
    pictures = [read_picture(make_jpeg(number), wanted, "x").pixels[0] for number in range(4, 12)]
    scores = classifier.score(fit(np.stack(pictures), classifier.input_spec)[None])[0]
    assert told[-1]["score"] == pytest.approx(float(scores.max()), abs=1e-6)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_live_stream_that_is_too_fast_loses_its_oldest_pictures(address, service):
    (pid,) = service.decoder_pids
    with connect(f"ws{address[4:]}/stream") as stream:
        os.kill(pid, signal.SIGSTOP)
        for number in range(20):
            stream.send(make_jpeg(number))
        time.sleep(0.5)
        os.kill(pid, signal.SIGCONT)
        assert json.loads(stream.recv(timeout=60)) == {"missing": 3, "dropped": 15}


@pytest.mark.parametrize(
    ("message", "code"),
    [("text", 1003), (b"no picture", 1003), (bytes((1 << 20) + 1), 1009)],
    ids=["text", "odd", "big"],
)
def test_a_live_stream_ends_where_something_else_comes(address, message, code):
    with connect(f"ws{address[4:]}/stream") as stream:
        stream.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            stream.recv(timeout=60)
    assert closed.value.rcvd.code == code


def test_there_are_so_many_live_streams_and_idle_ones_end(address, monkeypatch):
    monkeypatch.setattr("tubelet.serving.live.IDLE_S", 0.5)
    socket_address = f"ws{address[4:]}/stream"
    with connect(socket_address) as first, connect(socket_address):
        with pytest.raises(InvalidStatus, match="403"):
            connect(socket_address)
        with pytest.raises(ConnectionClosed) as closed:
            first.recv(timeout=60)
    assert closed.value.rcvd.code == 1000
