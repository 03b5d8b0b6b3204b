"""`blocklistd demo`: hotline, daemon and subscriber on this machine, each for real, with changing reserved-name data.

The hotline runs here; the daemon and the subscriber's `sync --watch` are processes of their own, started with the
commands that an administrator and a subscriber would use. Nothing is left behind but a --dir that was asked for,
whichever signal ends it, at whatever moment.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, TextIO

from dns.tsig import Key

from blocklistd.cli.control import Control
from blocklistd.cli.failures import Unreachable
from blocklistd.daemon.commands import COMMANDS
from blocklistd.demo import shown
from blocklistd.demo.generator import Churn
from blocklistd.demo.hotline import DemoHotline
from blocklistd.demo.place import LIST, ZONE, DemoFailed, configure, place
from blocklistd.demo.secondary import DemoSecondary
from blocklistd.jobs.sandbox import die_with_parent

SUBSCRIBER: Final = "demo-isp"
SIZE: Final = 20_000  # names at the start
FIRST_STEP: Final = 5  # the churn's fourth step from here is the first that a guard holds
INTERVAL: Final = 4.0  # seconds between two versions
START: Final = 30.0  # seconds that the daemon may take to be ready
SECONDARY_WITHIN: Final = 30.0  # seconds that a version may take to the secondary


def demo(directory: Path | None, document: Callable[[dict[str, Any]], None] | None) -> int:
    """Runs until Ctrl-C; the exit code of `blocklistd demo`. Raises DemoFailed.

    With `document`, that gets what to try, and the lines for people go to stderr.
    """
    out = sys.stdout if document is None else sys.stderr
    asyncio.run(_Demo(directory, document, out).run())
    left = "" if directory else " and nothing is left on the disk"
    print(f"\nstopped; nothing is left running{left}", file=out)
    return 0


class _Demo:
    def __init__(self, directory: Path | None, document: Callable[[dict[str, Any]], None] | None, out: TextIO) -> None:
        self._directory = directory
        self._document = document
        self._out = out
        self._program = [sys.executable, "-m", "blocklistd"]
        self._hotline = DemoHotline()
        self._changed = 0.0
        self._seen = asyncio.Event()
        self._serials: dict[int, float] = {}  # serial → seconds from the hotline's change to the secondary
        self._another_serial = asyncio.Event()
        self._told = 0  # the serial of the last line
        self._error: BaseException | None = None

    async def run(self) -> None:
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        assert main is not None
        self._stopping = False

        def stop() -> None:
            if not self._stopping:  # a second Ctrl-C must not cancel the cleaning up
                self._stopping = True
                main.cancel()

        self._stop = stop
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(name, stop)
        async with AsyncExitStack() as stack:
            self._folder = stack.enter_context(place(self._directory))
            self._config = self._folder / "blocklistd.yaml"
            try:
                await self._play(stack)
            except asyncio.CancelledError:
                pass
            finally:
                self._stopping = True
        if self._error is not None:
            raise self._error

    def _beside(self, stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
        """Runs it beside the play, which ends with its error if it fails."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None and not self._stopping:
                self._error = task.exception()
                self._stop()

        task = asyncio.ensure_future(work)
        task.add_done_callback(ended)
        stack.callback(task.cancel)

    async def _play(self, stack: AsyncExitStack) -> None:
        churn = Churn(seed=2008, size=SIZE)
        names = set(churn.base)
        steps = iter(churn)
        for step in steps:
            names = (names - set(step.removed)) | set(step.added)
            if step.number == FIRST_STEP:
                break
        await self._hotline.start()
        stack.push_async_callback(self._hotline.stop)
        self._publish(names)
        feed, dns, ops = configure(self._config, self._hotline.url, self._hotline.public_key)
        await self._command("keys", "init", "-c", str(self._config), "--root-out", str(self._folder / "root"))
        await self._start(stack, ["serve", "-c", str(self._config)], "daemon.log")
        client = Control(self._folder / "control.sock")
        await self._until_ready(client)
        loop = asyncio.get_running_loop()

        def arrived(serial: int) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: a transfer that ended after everything else
                loop.call_soon_threadsafe(self._transferred, serial)

        secondary = DemoSecondary(ZONE, arrived)
        wish = {"id": SUBSCRIBER, "lists": [LIST], "zones": [ZONE], "notify": [secondary.address]}
        added = await self._ask(client, "subscriber add", **wish)
        token = self._folder / "token"
        token.write_text(added["token"] + "\n")
        token.chmod(0o600)
        header = self._folder / "header"  # for curl: whose arguments everybody on the host can see
        header.touch(0o600)
        header.write_text(f"Authorization: Bearer {added['token']}\n")
        tsig = added["tsig"]
        key = self._folder / "tsig.key"
        key.write_text(f'key "{tsig["name"]}" {{ algorithm {tsig["algorithm"]}; secret "{tsig["secret"]}"; }};\n')
        key.chmod(0o600)
        self._print_commands(feed, dns, ops)
        secondary.start(dns, Key(tsig["name"], base64.b64decode(tsig["secret"]), tsig["algorithm"]))
        stack.push_async_callback(asyncio.to_thread, secondary.stop)
        await self._watch(stack, feed)
        for step in steps:
            await self._seen.wait()
            await asyncio.sleep(INTERVAL)
            before, names = names, (names - set(step.removed)) | set(step.added)
            self._publish(names)
            if not await self._released(client):
                names = before  # a reviewer said no: the hotline takes it back
                self._publish(names)
                self._seen.set()  # what is live stays as it is: there is nothing to wait for
        await self._seen.wait()
        self._say("the hotline has no further changes; everything goes on running")
        await asyncio.Event().wait()

    def _transferred(self, serial: int) -> None:
        self._serials[serial] = time.monotonic() - self._changed
        self._another_serial.set()
        self._another_serial.clear()

    async def _secondary(self, version: int) -> tuple[int | None, str]:
        """The secondary's serial of this version, or of a later one, and when it had it."""
        client = Control(self._folder / "control.sock")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECONDARY_WITHIN):
                while True:
                    zone = (await self._ask(client, "status"))["zones"].get(ZONE)
                    if zone and zone["version"] >= version and zone["serial"] in self._serials:
                        serial, before = zone["serial"], self._told
                        self._told = serial
                        if serial == before:
                            return serial, "same"  # no rule changed
                        return serial, f"{self._serials[serial]:.2f} s"
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._another_serial.wait(), 0.2)
        return None, "not yet"

    def _publish(self, names: set[str]) -> None:
        self._seen.clear()
        self._changed = time.monotonic()
        self._hotline.publish(names)

    # -- processes -------------------------------------------------------------------------------------------------

    async def _command(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._program, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        try:
            _, errors = await process.communicate()
        except asyncio.CancelledError:
            await _end(process)  # or it goes on in a folder that is being removed
            raise
        if process.returncode:
            raise DemoFailed(
                f"`blocklistd {arguments[0]}` failed: {errors.decode().strip().removeprefix('blocklistd: ')}"
            )

    async def _start(self, stack: AsyncExitStack, arguments: list[str], log: str) -> asyncio.subprocess.Process:
        """A process of its own session, so that Ctrl-C reaches it through us, in order."""
        with (self._folder / log).open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *self._program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(signal.SIGTERM),  # also where we are killed
            )
        stack.push_async_callback(_end, process)

        async def watch() -> None:
            code = await process.wait()
            said = (self._folder / log).read_text(errors="replace")
            raise DemoFailed(f"`blocklistd {arguments[0]}` ended with {code}; what it said:\n{said}")

        self._beside(stack, watch())
        return process

    async def _until_ready(self, client: Control) -> None:
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            with contextlib.suppress(Unreachable):
                document = await self._ask(client, "status")
                if document["lists"][LIST]["version"]:
                    return
            await asyncio.sleep(0.1)
        log = (self._folder / "daemon.log").read_text(errors="replace")
        raise DemoFailed(f"the daemon was not ready within {START:g} s; its log:\n{log}")

    async def _ask(self, client: Control, command: str, /, **arguments: Any) -> Any:
        return await asyncio.to_thread(client.ask, COMMANDS[command], arguments)

    async def _watch(self, stack: AsyncExitStack, feed: int) -> None:
        process = await self._start(stack, [*self._sync(feed, self._folder / "isp"), "--watch", "--json"], "sync.log")
        assert process.stdout is not None
        lines = process.stdout

        async def follow() -> None:
            client = Control(self._folder / "control.sock")
            async for line in lines:
                done = json.loads(line)
                took = time.monotonic() - self._changed
                versions = await self._ask(client, "list versions", list=LIST)
                made = next(v for v in versions if v["version"] == done["version"])
                self._say(shown.version(made, done, took, await self._secondary(done["version"])))
                self._seen.set()

        self._beside(stack, follow())

    def _sync(self, feed: int, folder: Path) -> list[str]:
        return [
            *("sync", f"http://127.0.0.1:{feed}", LIST, "--root", str(self._folder / "root" / "root.json")),
            *("--token-file", str(self._folder / "token"), "--dir", str(folder)),
        ]

    # -- the play --------------------------------------------------------------------------------------------------

    async def _released(self, client: Control) -> bool:
        """Whether the change became a version; while it is held, says so once and waits for a reviewer."""
        said = None
        while not self._seen.is_set():
            held = await self._ask(client, "candidate list")
            if held and said != held[0]["id"]:
                said = held[0]["id"]
                self._say(shown.held(held[0]))
            elif said and not held:
                case = await self._ask(client, "candidate show", candidate=said)
                if case["state"] == "rejected":
                    self._say(f"REJECTED      {case['why']}: the hotline takes it back")
                    return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._seen.wait(), 0.2)
        return True

    def _print_commands(self, feed: int, dns: int, ops: int) -> None:
        commands = shown.commands(self._folder, feed, dns, ops)
        self._say(shown.greeting(self._folder, commands))
        if self._document is not None:
            self._document({"dir": str(self._folder), "config": str(self._config), "commands": commands})

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(15):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
