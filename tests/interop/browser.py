"""Chromium, driven by the Chrome DevTools Protocol over its pipe: pages at a width, in the dark, in a language."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.peers import peer

WITHIN = 60.0  # seconds until Chromium answers


class Browser:
    """One page of a Chromium that resolves no name. `events`: what it reported since the last `open`."""

    def __init__(self, process: subprocess.Popen[bytes], read: int, write: int) -> None:
        self._process = process
        self._read, self._write = read, write
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == number:
                assert "error" not in found, (method, found)
                result: dict[str, Any] = found["result"]
                return result
            self.events.append(found)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + WITHIN
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no answer of Chromium within {WITHIN} s"
            more = os.read(self._read, 1 << 20)
            assert more, f"Chromium ended with {self._process.poll()}"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found

    def open(self, url: str, *, width: int = 1400, dark: bool = False, language: str = "en") -> None:
        """Loads a page, and returns once it is complete."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Network.setExtraHTTPHeaders", headers={"Accept-Language": language})
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not self.reported("Page.loadEventFired"):
            self.events.append(self._next())

    def reported(self, method: str) -> list[dict[str, Any]]:
        """The events of a kind."""
        return [found["params"] for found in self.events if found.get("method") == method]

    @property
    def requested(self) -> list[str]:
        """The URLs that the page made the browser request."""
        return [found["request"]["url"] for found in self.reported("Network.requestWillBeSent")]

    @property
    def complaints(self) -> list[str]:
        """What the console of the page shows, and errors of its scripts."""
        self.evaluate("0")  # events that are on the way arrive before this answer
        entries = [found["entry"]["text"] for found in self.reported("Log.entryAdded")]
        return entries + [str(found) for found in self.reported("Runtime.exceptionThrown")]

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """A picture of the complete page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(found["data"]))


@contextlib.contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A Chromium with a new profile in the folder. It reaches loopback only: every name is unknown to it."""
    program = peer("chromium", "chromium")
    from_us, to_browser = os.pipe()
    from_browser, to_us = os.pipe()
    arguments = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
        *("--remote-debugging-pipe", f"--user-data-dir={folder}/profile", "--hide-scrollbars"),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]
    # the pipes of the protocol are the descriptors 3 and 4; dash can not duplicate one above 9
    script = f'exec "$@" 3<&{from_us} 4>&{to_us}'
    with open(folder / "chromium.log", "wb") as log:
        process = subprocess.Popen(
            ["/bin/bash", "-c", script, "bash", program, *arguments],
            pass_fds=(from_us, to_us),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    os.close(from_us)
    os.close(to_us)
    try:
        yield Browser(process, from_browser, to_browser)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(from_browser)
        os.close(to_browser)
