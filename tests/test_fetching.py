"""What is fetched is whole and right, whatever the server does; what cannot be fetched says what to do instead."""

import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tubelet import fetching
from tubelet.errors import TubeletError
from tubelet.fetching import FetchError, Remote, check_file, fetch
from tubelet.files import DiskFull

CONTENT = hashlib.sha256(b"seed").digest() * 40_000  # 1.28 MB: more than one chunk
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html><html><body>404: please log in</body></html>"


class Server(ThreadingHTTPServer):
    """Answer as a test says: `answer(request, number)` is called for each request, counted from 0."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.answer = answer
        self.paths: list[str] = []
        self.ranges: list[str] = []
        self.sent_bytes = 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address) -> None:
        """Stay silent: tests cut connections."""


class Request(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.paths.append(self.path)
        self.server.ranges.append(self.headers.get("Range", ""))
        self.server.answer(self, len(self.server.paths) - 1)

    def log_message(self, *_):
        pass

    def send(
        self, content=CONTENT, *, cut=None, tag='"1"', takes_ranges=True, status=200, length=None, pause_s=0.0, **fields
    ):
        """Send content as a good server would, but for what the arguments say."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and takes_ranges and self.headers.get("If-Range") in (None, tag) else 0
        self.send_response(206 if start else status)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if length != "":
            self.send_header("Content-Length", str(len(content) - start if length is None else length))
        if tag:
            self.send_header("ETag", tag)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.write(content[start : None if cut is None else start + cut], pause_s)

    def write(self, content, pause_s=0.0):
        for place in range(0, len(content), 50_000):
            piece = content[place : place + 50_000]
            self.wfile.write(piece)
            self.server.sent_bytes += len(piece)
            time.sleep(pause_s)

    def refuse(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serve(answer=lambda request, _: request.send()):
    with Server(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE_S", 0.0)
    monkeypatch.setattr(fetching, "TIMEOUT_S", 0.5)
    monkeypatch.setenv("no_proxy", "*")


def remote(server, name="set.bin", **changes) -> Remote:
    known = {"hashes": (("sha256", SHA256),), "size_bytes": len(CONTENT)}
    return Remote(f"{server.url}/{name}", name, **(known | changes))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def check_refused(one: Remote, folder: Path, match: str, **options) -> str:
    """Hold a failure to its form, and follow the advice that it gives."""
    with pytest.raises(FetchError, match=match) as caught:
        fetch(one, folder, **options)
    text = str(caught.value)
    place = re.search(r"put it at '([^']+)', or name an address that works with --mirror", text)
    assert place, text
    assert "\n" not in text
    assert place[1] == str(folder / one.name)
    assert one.name not in names(folder)
    with serve() as other:
        assert fetch(one, folder / "elsewhere", mirror=f"{other.url}/").read_bytes() == CONTENT
    Path(place[1]).write_bytes(CONTENT)
    assert fetch(one, folder).read_bytes() == CONTENT
    return text


def test_a_file_is_fetched_whole_and_nothing_else_is_left(tmp_path):
    told = []
    with serve() as server:
        path = fetch(remote(server), tmp_path / "a" / "b", on_progress=lambda have, total: told.append((have, total)))
    assert path == tmp_path / "a" / "b" / "set.bin"
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["set.bin"]
    assert [total for _, total in told] == [len(CONTENT)] * len(told)
    assert len(told) > 1
    assert [have for have, _ in told] == sorted({have for have, _ in told})
    assert told[-1][0] == len(CONTENT)


def test_a_right_file_is_not_fetched_again(tmp_path):
    with serve() as server:
        fetch(remote(server), tmp_path)
        fetch(remote(server), tmp_path)
        assert len(server.paths) == 1


@pytest.mark.parametrize("content", [b"other", CONTENT[:-1] + b"x"])
def test_a_wrong_file_is_named_and_once_removed_fetched_again(tmp_path, content):
    path = tmp_path / "set.bin"
    path.write_bytes(content)
    with serve() as server:
        with pytest.raises(FetchError, match=r"set\.bin.*should have.*found.*remove it, and it is fetched again"):
            fetch(remote(server), tmp_path)
        assert server.paths == []
        assert path.read_bytes() == content
        path.unlink()
        assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_folder_in_the_place_of_the_file_is_an_error(tmp_path):
    (tmp_path / "set.bin").mkdir()
    with serve() as server, pytest.raises(FetchError, match="it is no file"):
        fetch(remote(server), tmp_path)


def test_a_file_in_the_place_of_the_folder_is_an_error_that_says_so(tmp_path):
    (tmp_path / "data").write_bytes(b"")
    with serve() as server, pytest.raises(FetchError, match=r"FileExistsError.*put it at"):
        fetch(remote(server), tmp_path / "data")


def test_a_transfer_that_is_cut_again_and_again_goes_on_where_it_was(tmp_path):
    cuts = [100_000] * 9 + [None]
    with serve(lambda request, number: request.send(cut=cuts[number])) as server:
        assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
        assert server.sent_bytes == len(CONTENT)
        assert server.ranges == ["", *(f"bytes={100_000 * done}-" for done in range(1, 10))]
    assert names(tmp_path) == ["set.bin"]


@pytest.mark.parametrize("fields", [{"tag": ""}, {"tag": 'W/"1"'}])
def test_without_a_strong_version_a_cut_transfer_starts_anew(tmp_path, fields):
    with serve(lambda request, number: request.send(cut=[500_000, None][number], **fields)) as server:
        assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
        assert server.ranges == ["", ""]


def test_the_time_of_the_last_change_serves_as_version(tmp_path):
    stamp = "Sat, 21 Nov 2026 08:00:00 GMT"

    def answer(request, number):
        if number:
            assert request.headers["If-Range"] == stamp
            del request.headers["If-Range"]
        request.send(cut=[500_000, None][number], tag="", Last_Modified=stamp)

    with serve(answer) as server:
        assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
        assert server.sent_bytes == len(CONTENT)


def test_a_server_that_ignores_ranges_is_read_from_the_start(tmp_path):
    with serve(lambda request, number: request.send(cut=[500_000, None][number], takes_ranges=False)) as server:
        assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
        assert server.ranges == ["", "bytes=500000-"]


def test_a_range_that_is_refused_starts_anew(tmp_path):
    def answer(request, number):
        request.refuse(416) if request.headers.get("Range") else request.send(cut=[500_000, 0, None][number])

    with serve(answer) as server:
        assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
        assert server.ranges == ["", "bytes=500000-", ""]


def test_a_file_that_changes_between_two_attempts_is_never_mixed(tmp_path):
    def answer(request, number):
        request.send(b"o" * len(CONTENT), cut=500_000, tag='"old"') if number == 0 else request.send(tag='"new"')

    with serve(answer) as server:
        one = remote(server, hashes=(), size_bytes=0)
        assert fetch(one, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("fields", [{"ETag": '"new"'}, {"Content_Range": "bytes 0-9/10"}])
def test_a_part_of_another_file_or_place_is_never_appended(tmp_path, fields):
    def answer(request, number):
        if number == 0:
            request.send(b"o" * len(CONTENT), cut=500_000, tag='"old"')
        elif number == 1:  # Pays no heed to If-Range.
            span = {"Content_Range": f"bytes 500000-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": '"old"'} | fields
            request.send(CONTENT[500_000:], status=206, takes_ranges=False, tag="", **span)
        else:
            request.send(tag='"new"')

    with serve(answer) as server:
        assert fetch(remote(server, hashes=(), size_bytes=0), tmp_path).read_bytes() == CONTENT
        assert server.ranges == ["", "bytes=500000-", ""]


def test_a_server_that_changes_its_mind_for_ever_is_given_up(tmp_path):
    def answer(request, number):
        request.send(cut=500_000, tag=f'"{number}"', takes_ranges=False)

    with serve(answer) as server:
        check_refused(remote(server), tmp_path, "the transfer was cut")
        assert len(server.paths) == 1 + fetching.ATTEMPTS


def test_altered_bytes_are_refused_and_not_kept(tmp_path):
    wrong = CONTENT[:700_000] + b"x" + CONTENT[700_001:]
    with serve(lambda request, _: request.send(wrong)) as server:
        check_refused(remote(server), tmp_path, rf"something else: it should have sha256 {SHA256[:16]}\.\.\., found")
    assert names(tmp_path) == ["elsewhere", "set.bin"]


def test_bytes_altered_in_an_earlier_attempt_are_fetched_again(tmp_path):
    wrong = b"x" + CONTENT[1:]
    with serve(
        lambda request, number: request.send(*([wrong] if number == 0 else []), cut=[9, None, None][number])
    ) as s:
        assert fetch(remote(s), tmp_path).read_bytes() == CONTENT
        assert s.ranges == ["", "bytes=9-", ""]


def test_altered_bytes_and_cuts_together_end(tmp_path):
    wrong = CONTENT[:-1] + b"x"
    with serve(lambda request, number: request.send(wrong, cut=500_000)) as server:
        check_refused(remote(server), tmp_path, "something else")
        assert len(server.paths) <= 7


def test_one_of_several_versions_is_enough_and_none_is_an_error(tmp_path):
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    for hashes in [(("md5", "0" * 32), ("md5", md5.upper())), (("md5", "0" * 32), ("sha256", SHA256))]:
        with serve() as server:
            assert fetch(remote(server, hashes=hashes), tmp_path / hashes[1][0]).read_bytes() == CONTENT
    with serve() as server, pytest.raises(FetchError, match=r"should have md5 0{16}\.\.\. or md5 1{16}"):
        fetch(remote(server, hashes=(("md5", "0" * 32), ("md5", "1" * 32))), tmp_path)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"length": len(CONTENT) + 10}, r"should have 1,280,000 bytes, the server has 1,280,010"),
        ({"length": len(CONTENT) - 10}, r"should have 1,280,000 bytes, the server has 1,279,990"),
        ({"length": "", "cut": 1000, "takes_ranges": False}, "the transfer was cut"),
        ({"Content_Encoding": "gzip"}, "packs it, by gzip"),
        ({"content": PAGE, "Content_Type": "text/html; charset=utf-8"}, "a web page"),
    ],
)
def test_a_lie_about_the_length_or_the_content_is_an_error(tmp_path, fields, match):
    with serve(lambda request, _: request.send(**fields)) as server:
        check_refused(remote(server), tmp_path, match)


def test_less_and_more_than_announced_where_nobody_published_a_size(tmp_path):
    more = CONTENT + b"x" * 10
    with serve(lambda request, _: request.send(more, length=len(CONTENT))) as server:
        assert fetch(remote(server, size_bytes=0), tmp_path / "more").read_bytes() == CONTENT
    with serve(lambda request, _: request.send(length=len(CONTENT) + 10, takes_ranges=False)) as server:
        check_refused(remote(server, size_bytes=0, hashes=()), tmp_path, "the transfer was cut")


def test_a_length_that_nobody_knows_needs_a_hash(tmp_path):
    with serve(lambda request, _: request.send(length="")) as server:
        assert fetch(remote(server, size_bytes=0), tmp_path / "hash").read_bytes() == CONTENT
        check_refused(remote(server, size_bytes=0, hashes=()), tmp_path, "nobody says how long it is")


def test_a_transfer_in_pieces_of_unknown_number_is_whole_or_refused(tmp_path):
    def answer(request, _, end=b"0\r\n\r\n"):
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(f"{len(CONTENT):x}\r\n".encode() + CONTENT + b"\r\n" + end)
        request.close_connection = True

    with serve(answer) as server:
        assert fetch(remote(server, size_bytes=0, hashes=()), tmp_path / "whole").read_bytes() == CONTENT
    with serve(lambda request, _: answer(request, _, b"")) as server:
        check_refused(remote(server, size_bytes=0, hashes=()), tmp_path, "IncompleteRead")


@pytest.mark.parametrize("content_type", ["text/html", "application/octet-stream"])
def test_a_page_that_says_404_with_status_200_is_no_file(tmp_path, content_type):
    with serve(lambda request, _: request.send(PAGE, Content_Type=content_type)) as server:
        check_refused(remote(server, hashes=(), size_bytes=0), tmp_path, "web page")


def test_a_page_does_not_take_the_place_of_what_was_received(tmp_path):
    def answer(request, number):
        request.send(cut=500_000) if number == 0 else request.send(PAGE, takes_ranges=False, Content_Type="text/html")

    with serve(answer) as server, pytest.raises(FetchError, match="web page"):
        fetch(remote(server), tmp_path)
    assert (tmp_path / "set.bin.part").stat().st_size == 500_000


def test_a_page_is_fetched_where_a_page_was_asked_for(tmp_path):
    with serve(lambda request, _: request.send(PAGE, Content_Type="text/html")) as server:
        assert fetch(remote(server, "index.html", hashes=(), size_bytes=0), tmp_path).read_bytes() == PAGE


def redirect(request, target):
    request.send_response(302)
    request.send_header("Location", target)
    request.send_header("Content-Length", "0")
    request.end_headers()


def test_a_redirect_is_followed_and_one_to_nowhere_is_an_error(tmp_path):
    def answer(request, _):
        if request.path == "/set.bin":
            redirect(request, "/there")
        elif is_there:
            request.send()
        else:
            request.refuse(404)

    with serve(answer) as server:
        is_there = False
        check_refused(remote(server), tmp_path / "gone", "the server answers 404 Not Found")
        assert len(server.paths) == 2
        is_there = True
        assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "target", ["http://example.invalid/set.bin", "ftp://127.0.0.1/set.bin", "file:///etc/hostname"]
)
def test_a_redirect_away_from_https_is_refused(tmp_path, target):
    with serve(lambda request, _: redirect(request, target)) as server:
        check_refused(remote(server), tmp_path, "only https is fetched|HTTPError|answers 302")


def test_a_redirect_from_https_never_leads_to_this_machine_without_it():
    fetching._check_address("http://127.0.0.1/", came_from="http")
    with pytest.raises(FetchError, match="only https"):
        fetching._check_address("http://127.0.0.1/", came_from="https")


def test_redirects_in_a_circle_end(tmp_path):
    with serve(lambda request, _: redirect(request, "/set.bin")) as server:
        check_refused(remote(server), tmp_path, "302")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.invalid/a",
        "ftp://host/a",
        "file:///etc/hostname",
        "a",
        "",
        "http://[",
        "http://localhost.evil/a",
    ],
)
def test_other_addresses_are_refused_before_anything_is_asked(tmp_path, url):
    check_refused(Remote(url, "set.bin", (("sha256", SHA256),)), tmp_path, "only https is fetched|no address")


@pytest.mark.parametrize("url", ["https://", "https://a b/", "https://host/\u00fc", "https://host:port/"])
def test_malformed_addresses_are_errors(tmp_path, url, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", refuse_name)
    check_refused(Remote(url, "set.bin", (("sha256", SHA256),)), tmp_path, "cannot fetch")


def refuse_name(host, *arguments, **options):
    """Know this machine alone, without asking anybody."""
    if host in ("127.0.0.1", b"127.0.0.1"):
        return [(2, 1, 6, "", ("127.0.0.1", arguments[0]))]
    raise OSError(-2, "Name or service not known")


def test_an_unknown_host_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", refuse_name)
    one = Remote("https://host.invalid/set.bin", "set.bin", (("sha256", SHA256),))
    check_refused(one, tmp_path, r"host\.invalid/set\.bin.*Name or service not known")


def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT_S", 0.05)
    done = threading.Event()
    started = time.monotonic()
    with serve(lambda request, _: done.wait(10)) as server:
        check_refused(remote(server), tmp_path, "[Tt]ime")
        done.set()
    assert time.monotonic() - started < 5


def test_a_server_that_falls_silent_in_the_middle_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT_S", 0.1)
    done = threading.Event()

    def answer(request, number):
        request.send(cut=[200_000, None][number])
        if number == 0:
            request.wfile.flush()
            done.wait(10)

    with serve(answer) as server:
        assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
        done.set()


def test_a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not(tmp_path):
    def answer(request, number):
        request.refuse(503) if number < 3 else request.send()

    with serve(answer) as server:
        assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    with serve(lambda request, _: request.refuse(403)) as server:
        check_refused(remote(server), tmp_path / "b", "403 Forbidden")
        assert len(server.paths) == 1
    with serve(lambda request, _: request.refuse(503)) as server:
        check_refused(remote(server), tmp_path / "c", "503 Service Unavailable")
        assert len(server.paths) == fetching.ATTEMPTS


def test_a_mirror_is_the_address_of_the_file_or_of_its_folder(tmp_path):
    elsewhere = Remote("https://host.invalid/set.bin", "my set.bin", (("sha256", SHA256),))
    with serve() as server:
        fetch(elsewhere, tmp_path / "a", mirror=f"{server.url}/other.bin")
        fetch(elsewhere, tmp_path / "b", mirror=f"{server.url}/folder/")
        assert server.paths == ["/other.bin", "/folder/my%20set.bin"]


def test_mirrors_are_tried_in_order_and_each_says_why_not(tmp_path):
    def answer(request, _):
        request.send() if request.path == good else request.refuse(404)

    with serve(answer) as server:
        one = remote(server, mirrors=(f"{server.url}/second", f"{server.url}/third"))
        good = "/second"
        assert fetch(one, tmp_path / "a").read_bytes() == CONTENT
        assert server.paths == ["/set.bin", "/second"]
        good = "/none"
        text = check_refused(one, tmp_path / "b", "404")
    assert [text.count(f"{server.url}/{name}: ") for name in ("set.bin", "second", "third")] == [1, 1, 1]


FETCH = """
    import sys
    from tubelet.fetching import Remote, fetch
    url, folder, sha256 = sys.argv[1:]
    fetch(Remote(url, "set.bin", (("sha256", sha256),)), folder)
"""


def start_fetching(server, folder) -> subprocess.Popen[bytes]:
    source = str(Path(fetching.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FETCH), f"{server.url}/set.bin", str(folder), SHA256],
        env={**os.environ, "PYTHONPATH": source},
    )


def wait_for(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_what_a_killed_process_received_is_not_fetched_again(tmp_path):
    part, final = tmp_path / "set.bin.part", tmp_path / "set.bin"
    content = CONTENT * 8
    with serve(lambda request, number: request.send(content, pause_s=0.01 if number == 0 else 0)) as server:
        process = start_fetching(server, tmp_path)
        # Written in pieces of a megabyte: the third is on its way.
        wait_for(lambda: part.exists() and part.stat().st_size >= 2 << 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not final.exists()
        kept_bytes = part.stat().st_size
        assert 0 < kept_bytes < len(content)
        one = Remote(f"{server.url}/set.bin", "set.bin", (("sha256", hashlib.sha256(content).hexdigest()),))
        assert fetch(one, tmp_path).read_bytes() == content
        assert server.ranges == ["", f"bytes={kept_bytes}-"]
    assert names(tmp_path) == ["set.bin"]


def test_a_file_that_was_whole_when_the_process_died_is_not_asked_for(tmp_path):
    with serve() as server:
        one = remote(server)
        fetch(one, tmp_path)
        (tmp_path / "set.bin").rename(tmp_path / "set.bin.part")
        fetching.write_json(tmp_path / "set.bin.part.json", {"url": one.url, "version": '"1"', "total": len(CONTENT)})
        fetch(one, tmp_path)
        assert len(server.paths) == 1
    assert names(tmp_path) == ["set.bin"]


@pytest.mark.parametrize("note", ["", "[]", "{", '{"url": 1}', '{"url": "https://other/", "version": "1"}'])
def test_a_part_that_nobody_can_tell_is_not_trusted(tmp_path, note):
    (tmp_path / "set.bin.part").write_bytes(b"foreign")
    if note:
        (tmp_path / "set.bin.part.json").write_text(note)
    with serve() as server:
        assert fetch(remote(server, hashes=(), size_bytes=0), tmp_path).read_bytes() == CONTENT
        assert server.ranges == [""]


@pytest.mark.skipif(sys.platform == "win32", reason="there the second process fails instead of waiting")
def test_of_several_processes_one_fetches_and_none_sees_a_half(tmp_path):
    with serve(lambda request, _: request.send(pause_s=0.02)) as server:
        processes = [start_fetching(server, tmp_path) for _ in range(3)]
        while any(process.poll() is None for process in processes):
            with suppress(FileNotFoundError):
                assert (tmp_path / "set.bin").stat().st_size == len(CONTENT)
            time.sleep(0.005)
        assert [process.returncode for process in processes] == [0, 0, 0]
        assert server.sent_bytes == len(CONTENT)
    assert names(tmp_path) == ["set.bin"]


def test_nothing_stands_under_the_final_name_before_it_is_proven(tmp_path):
    def look(have, total):
        assert names(tmp_path) == ["set.bin.part", "set.bin.part.json"]

    with serve() as server:
        fetch(remote(server), tmp_path, on_progress=look)


def test_a_full_disk_is_not_the_network_and_keeps_what_was_received(tmp_path, monkeypatch):
    def fail(stream):
        raise OSError(errno.ENOSPC, "No space left on device")

    with serve() as server:
        monkeypatch.setattr(fetching.os, "fsync", fail)
        monkeypatch.setattr(fetching, "write_json", lambda *_: None)
        with pytest.raises(DiskFull, match=r"set\.bin.*No space left.*free some room"):
            fetch(remote(server), tmp_path)
        assert len(server.paths) == 1
    assert names(tmp_path) == ["set.bin.part"]


def test_the_error_is_one_of_the_tree_with_its_own_code(tmp_path):
    (tmp_path / "a").write_bytes(PAGE)
    with pytest.raises(TubeletError, match="web page") as caught:
        check_file(tmp_path / "a", Remote("https://host.invalid/a", "a"))
    assert caught.value.code == "fetch"
