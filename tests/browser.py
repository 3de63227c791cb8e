"""JupyterLab and a headless Chromium, controlled by the DevTools protocol, for tests in a browser."""

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
from contextlib import contextmanager, suppress
from pathlib import Path

from websocket import WebSocketTimeoutException, create_connection

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--remote-debugging-port=0", "--remote-allow-origins=*", "--window-size=1280,2000",
)  # fmt: skip
# Render all cells, visible or not, and do not fetch news.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}
TIMEOUT = 60  # seconds; a machine may be busy


class Page:
    """A page of the browser; `errors` are those of its console."""

    def __init__(self, address: str):
        self.socket = create_connection(address, timeout=1, suppress_origin=True)
        self.message_id, self.errors = 0, []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters) -> dict:
        """Send a DevTools command and return its result."""
        self.message_id += 1
        self.socket.send(json.dumps({"id": self.message_id, "method": method, "params": parameters}))
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            try:
                message = json.loads(self.socket.recv())
            except WebSocketTimeoutException:
                continue
            self._note(message)
            if message.get("id") == self.message_id:
                assert "error" not in message, (method, message["error"])
                return message["result"]
        raise TimeoutError(method)

    def _note(self, message: dict) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:2000])
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.errors.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"])[:2000])
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def js(self, expression: str):
        """Return the value of a JavaScript expression in the page; promises are awaited."""
        reply = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, (expression, reply["exceptionDetails"])
        return reply["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until the expression is true or its element exists."""
        _wait_until(lambda: self.js(f"!!({expression})"), lambda: f"never true: {expression}")

    def press(self, key: str, code: int, **more) -> None:
        """Press and release a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    def type(self, text: str) -> None:
        """Insert text at the focus."""
        self.call("Input.insertText", text=text)

    def click(self, element: str) -> None:
        """Click at the center of an element, given as a JavaScript expression."""
        self.js(f"({element}).scrollIntoView({{block: 'center'}})")
        x, y = self.js(f"(box => [box.x + box.width / 2, box.y + box.height / 2])(({element}).getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, element: str) -> None:
        """Save a PNG image of an element."""
        box = self.js(f"({element}).getBoundingClientRect().toJSON()")
        box = {key: box[key] for key in ("x", "y", "width", "height")} | {"scale": 1}
        data = self.call("Page.captureScreenshot", clip=box)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def jupyterlab(folder: Path, scratch: Path):
    """Start JupyterLab on `folder` at a free port; yield its address and token. Its own files go to `scratch`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, content in SETTINGS.items():
        file = scratch / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(content))
    token = os.urandom(16).hex()
    folders = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "spaces"}
    folders |= {name: name.lower() for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    environment = {name: str(scratch / folder) for name, folder in folders.items()}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=", "--ServerApp.ip=127.0.0.1",
    ]  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    with _running(command, scratch / "jupyterlab.log", env=os.environ | environment) as wait:
        wait(lambda: _read(f"{address}/api/status?token={token}"))
        yield f"{address}/lab", token


@contextmanager
def chromium(scratch: Path):
    """Start a headless Chromium with an empty profile; yield its Page."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={scratch / 'profile'}", "about:blank"]
    port = scratch / "profile" / "DevToolsActivePort"
    with _running(command, scratch / "chromium.log") as wait:
        wait(lambda: "\n" in port.read_text())
        pages = json.loads(_read(f"http://127.0.0.1:{port.read_text().split()[0]}/json"))
        page = Page(next(p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page"))
        yield page
        page.socket.close()


@contextmanager
def _running(command: list, log: Path, **options):
    """Run a process that writes to `log`; yield a function that waits for a condition while the process lives."""
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output, **options) as process:

        def is_met(condition):
            assert process.poll() is None, log.read_text()
            with suppress(OSError):
                return condition()

        try:
            yield lambda condition: _wait_until(lambda: is_met(condition), log.read_text)
        finally:
            process.terminate()


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()


def _wait_until(condition, explain) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, explain()
        time.sleep(0.1)
