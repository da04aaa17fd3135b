"""Drive a real browser without a window: open pages, press keys, choose files, look."""

import base64
import json
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from websockets.sync.client import connect

from browser import find_browser

__all__ = ["Tab", "open_tab"]


class Tab:
    """Talk to one tab by the DevTools protocol."""

    def __init__(self, socket):
        self.socket = socket
        self.number = 0
        self.said = []
        """What the page, or the browser about it, printed: errors, warnings, breaches of its policy."""
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=120))
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message):
        kind, told = message.get("method"), message.get("params", {})
        if kind == "Log.entryAdded":
            self.said.append(told["entry"]["text"])
        elif kind == "Runtime.consoleAPICalled":
            self.said.append(str([one.get("value") for one in told["args"]]))
        elif kind == "Runtime.exceptionThrown":
            self.said.append(str(told["exceptionDetails"]))

    def open(self, address, width=1280, height=1000):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def run(self, script):
        """Return what a script evaluates to."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, condition, seconds=90):
        """Wait until a script is true."""
        end = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < end, f"{condition} was not true within {seconds} s; the page said {self.said}"
            time.sleep(0.1)

    def choose_file(self, selector, path):
        """Choose a file in a field, as a person would in the dialog."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def press(self, key, code=None, text=None):
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            parameters = {"type": kind, "key": key, "code": code or key}
            if text and kind == "keyDown":
                parameters["text"] = text
            self.call("Input.dispatchKeyEvent", **parameters)

    def photograph(self, path):
        """Save a picture of the whole page."""
        height = self.run("document.documentElement.scrollHeight")
        width = self.run("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        done = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(done["data"]))


@contextmanager
def open_tab(folder: Path, *options):
    """Start a browser with a fresh profile in a folder, and give its tab."""
    profile = folder / "profile"
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
    arguments += [f"--user-data-dir={profile}", "--no-first-run", "--disable-background-networking", *options]
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen([find_browser(), *arguments, "about:blank"], stdout=log, stderr=log)
    try:
        port_file = profile / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert time.monotonic() < end, "the browser did not start"
            time.sleep(0.1)
        port, path = port_file.read_text().split("\n")[:2]
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as browser:
            browser.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
            targets = json.loads(browser.recv(timeout=60))["result"]["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        with connect(f"ws://127.0.0.1:{port}/devtools/page/{page}", max_size=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(timeout=30)
