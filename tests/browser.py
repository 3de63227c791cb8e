"""JupyterLab and a headless Chromium for the tests that take a person's place, spoken to by Chromium's own protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from websocket import WebSocketTimeoutException, create_connection

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--remote-debugging-port=0", "--remote-allow-origins=*", "--window-size=1280,2000",
)  # fmt: skip
# All cells in the page, whether in sight or not, and nothing that asks the network for news.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}
SECONDS = 60  # the longest wait; a machine may be busy


class Page:
    """A page of the browser: `js` asks it, `wait` waits until something is true, `faults` are its console's errors."""

    def __init__(self, address: str):
        self.socket = create_connection(address, timeout=1, suppress_origin=True)
        self.number, self.faults = 0, []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters) -> dict:
        """The browser's answer to a command."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                message = json.loads(self.socket.recv())
            except WebSocketTimeoutException:
                continue
            self._note(message)
            if message.get("id") == self.number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
        raise TimeoutError(method)

    def _note(self, message: dict) -> None:
        told = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.faults.append(json.dumps(told["exceptionDetails"])[:2000])
        elif message.get("method") == "Runtime.consoleAPICalled" and told["type"] == "error":
            self.faults.append(" ".join(str(one.get("value", one.get("description"))) for one in told["args"])[:2000])
        elif message.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.faults.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")

    def js(self, expression: str):
        """The value of a JavaScript expression in the page, a promise awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, (expression, found["exceptionDetails"])
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until the expression is true, or there is the element that it gives."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if self.js(f"!!({expression})"):
                return
            time.sleep(0.1)
        raise AssertionError(f"never true: {expression}")

    def press(self, key: str, code: int, **more) -> None:
        """A key, pressed and let go."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    def type(self, text: str) -> None:
        """Text put in where the focus is."""
        self.call("Input.insertText", text=text)

    def click(self, element: str) -> None:
        """A click of the mouse in the middle of an element, given as a JavaScript expression."""
        self.js(f"({element}).scrollIntoView({{block: 'center'}})")
        x, y = self.js(f"(box => [box.x + box.width / 2, box.y + box.height / 2])(({element}).getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, element: str) -> None:
        """A PNG picture of an element as it is in the page."""
        box = self.js(f"({element}).getBoundingClientRect().toJSON()")
        box = {key: box[key] for key in ("x", "y", "width", "height")} | {"scale": 1}
        data = self.call("Page.captureScreenshot", clip=box)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def jupyterlab(folder: Path, scratch: Path):
    """The address of a JupyterLab on `folder`, with a token, on a free port; its own files go to `scratch`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, content in SETTINGS.items():
        file = scratch / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(content))
    token = os.urandom(16).hex()
    own = {name: str(scratch / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(scratch / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(scratch / "spaces")}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=", "--ServerApp.ip=127.0.0.1",
    ]  # fmt: skip
    log = (scratch / "jupyterlab.log").open("w")
    with log, subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(f"{address}/api/status?token={token}", server, scratch / "jupyterlab.log")
            yield f"{address}/lab", token
        finally:
            server.terminate()


@contextmanager
def chromium(scratch: Path):
    """A Page of a new headless Chromium with an empty profile."""
    profile = scratch / "profile"
    log = (scratch / "chromium.log").open("w")
    with (
        log,
        subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stdout=log, stderr=log
        ) as process,
    ):
        try:
            port = profile / "DevToolsActivePort"
            end = time.monotonic() + SECONDS
            while not (port.exists() and port.read_text().count("\n")):
                assert process.poll() is None and time.monotonic() < end, (scratch / "chromium.log").read_text()
                time.sleep(0.1)
            pages = json.loads(_read(f"http://127.0.0.1:{port.read_text().split()[0]}/json"))
            page = Page(next(one["webSocketDebuggerUrl"] for one in pages if one["type"] == "page"))
            yield page
            page.socket.close()
        finally:
            process.terminate()


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + SECONDS
    while True:
        try:
            _read(url)
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.2)
