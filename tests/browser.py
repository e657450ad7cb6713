"""Control headless Chromium with its DevTools protocol.

It communicates over two pipes, so it needs no driver and no port.
"""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
SECONDS = 60


class Browser:
    """A browser without a network that records the complaints and the requests of pages.

    Attributes:
        complaints: errors and warnings of the console, and uncaught exceptions.
        requests: network addresses that the pages and all their frames requested.
    """

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._numbers = itertools.count(1)
        self._frames: dict[int, str] = {}
        theirs, self._to = os.pipe()
        self._from, ours = os.pipe()
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder}",
        ]
        flags += [
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--window-size=1400,1000",
            "--disable-dev-shm-usage",
        ]

        def lay_pipes() -> None:
            # The browser reads from descriptor 3 and writes to 4.
            above = [fcntl.fcntl(pipe, fcntl.F_DUPFD, 10) for pipe in (theirs, ours)]
            for descriptor, pipe in enumerate(above, start=3):
                os.dup2(pipe, descriptor)

        self._process = subprocess.Popen(
            [CHROMIUM, *flags, "about:blank"],
            preexec_fn=lay_pipes,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(ours)
        self._rest = b""
        self._session = ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)
        os.close(self._to)
        os.close(self._from)

    def open(self, page: Path) -> None:
        self._call("Page.navigate", url=page.absolute().as_uri())
        self.wait("document.readyState === 'complete'")

    def run(self, script: str, frame: int | None = None) -> Any:
        """Return the value of a script on the page, or in an execution context of a frame."""
        where = {} if frame is None else {"contextId": frame}
        answer = self._call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, **where
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str, frame: Callable[[], int | None] = lambda: None) -> None:
        """Wait until the value of a script is true."""
        end = time.monotonic() + SECONDS
        while True:
            # A frame may no longer exist when the script runs.
            try:
                if self.run(script, frame()):
                    return
            except AssertionError as error:
                if "context" not in str(error):
                    raise
            assert time.monotonic() < end, f"waited in vain for {script}"
            time.sleep(0.05)

    def frame(self) -> int:
        """Return the execution context of the frame that was opened last."""
        self.run("1")
        return max(self._frames)

    def resize(self, width: int, height: int) -> None:
        """Lay the page out again in a window of this size, in CSS pixels."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def screenshot(self, path: Path) -> None:
        path.write_bytes(
            base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])
        )

    def _call(self, method: str, **parameters: object) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            self._note(answer.get("method", ""), answer.get("params", {}))
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], SECONDS)
            part = os.read(self._from, 1 << 20) if ready else b""
            assert part, "the browser says nothing more"
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        content: dict[str, Any] = json.loads(message)
        return content

    def _note(self, event: str, said: dict[str, Any]) -> None:
        if event == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(
                " ".join(str(part.get("value", part.get("description"))) for part in said["args"])
            )
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"]))
        elif event == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(said["entry"]["text"])
        elif event == "Network.requestWillBeSent" and not said["request"]["url"].startswith(
            ("data:", "file:", "about:", "blob:")
        ):
            self.requests.append(said["request"]["url"])
        elif event == "Runtime.executionContextCreated":
            self._frames[said["context"]["id"]] = said["context"]["origin"]
        elif event == "Runtime.executionContextDestroyed":
            self._frames.pop(said["executionContextId"], None)
