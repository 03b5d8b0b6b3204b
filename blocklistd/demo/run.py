"""`blocklistd demo`: a hotline, the daemon and a subscriber on this machine, with changing data under reserved names.

1. Start the hotline in this process; make the keys; start the daemon as a child process.
2. Register the subscriber; start its `sync --watch` as a child process, and a DNS secondary in a thread.
3. Every INTERVAL seconds publish the next change, and print a line when the subscriber has the new version. If a guard
   holds the change, wait until a reviewer approves or rejects it.
4. On SIGINT, SIGTERM or SIGHUP, stop everything in reverse order. No process is left, and no file but those in a --dir.
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

from blocklistd.cli.control import ControlClient
from blocklistd.cli.failures import Unreachable
from blocklistd.daemon.commands import COMMANDS
from blocklistd.demo import texts
from blocklistd.demo.folder import LIST, ZONE, DemoFailed, Ports, configure, demo_folder
from blocklistd.demo.generator import Churn
from blocklistd.demo.hotline import DemoHotline
from blocklistd.demo.secondary import DemoSecondary
from blocklistd.jobs.sandbox import die_with_parent
from blocklistd.language.context import _

SUBSCRIBER: Final = "demo-isp"
SIZE: Final = 20_000  # names in the generator's base
FIRST_STEP: Final = 5  # the fourth step after this one is the first that a guard holds
INTERVAL: Final = 4.0  # seconds between two versions
START_TIMEOUT: Final = 120.0  # seconds until the daemon has a version; a busy machine takes longer than a minute
SECONDARY_TIMEOUT: Final = 30.0  # seconds until the secondary has a version


def demo(directory: Path | None, document: Callable[[dict[str, Any]], None] | None) -> int:
    """Runs the demo until Ctrl-C, and returns the exit code of `blocklistd demo`. Raises DemoFailed.

    `document`: called once with the folder, the configuration and the commands to try; the lines for people then go to
    stderr.
    """
    out = sys.stdout if document is None else sys.stderr
    asyncio.run(_Demo(directory, document, out).run())
    left = (
        _("The demo has stopped; its files are in {directory}.", directory=directory)
        if directory
        else _("The demo has stopped; its temporary folder was removed.")
    )
    print(f"\n{left}", file=out)
    return 0


class _Demo:
    def __init__(self, directory: Path | None, document: Callable[[dict[str, Any]], None] | None, out: TextIO) -> None:
        self._directory = directory
        self._document = document
        self._out = out
        self._program = [sys.executable, "-m", "blocklistd"]
        self._hotline = DemoHotline()
        self._changed = 0.0
        self._arrived = asyncio.Event()
        self._serials: dict[int, float] = {}  # seconds from the hotline's change to the secondary, by serial
        self._another_serial = asyncio.Event()
        self._last_serial = 0  # the serial in the line printed last
        self._error: BaseException | None = None

    async def run(self) -> None:
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        assert main is not None
        self._stopping = False

        def stop() -> None:
            if not self._stopping:  # a second Ctrl-C must not cancel the clean-up
                self._stopping = True
                main.cancel()

        self._stop = stop
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(name, stop)
        async with AsyncExitStack() as stack:
            self._folder = stack.enter_context(demo_folder(self._directory))
            self._config = self._folder / "blocklistd.yaml"
            try:
                await self._run_scenario(stack)
            except asyncio.CancelledError:
                pass
            finally:
                self._stopping = True
        if self._error is not None:
            raise self._error

    def _in_background(self, stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` in the background. If it fails, the demo ends with its error."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None and not self._stopping:
                self._error = task.exception()
                self._stop()

        task = asyncio.ensure_future(work)
        task.add_done_callback(ended)
        stack.callback(task.cancel)

    async def _run_scenario(self, stack: AsyncExitStack) -> None:
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
        ports = configure(self._config, self._hotline.url, self._hotline.public_key)
        await self._command("keys", "init", "-c", str(self._config), "--root-out", str(self._folder / "root"))
        await self._start(stack, ["serve", "-c", str(self._config)], "daemon.log")
        client = ControlClient(self._folder / "control.sock")
        await self._until_ready(client)
        loop = asyncio.get_running_loop()

        def arrived(serial: int) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: this transfer ended during the stop
                loop.call_soon_threadsafe(self._transferred, serial)

        secondary = DemoSecondary(ZONE, arrived)
        access = {"id": SUBSCRIBER, "lists": [LIST], "zones": [ZONE], "notify": [secondary.address]}
        added = await self._ask(client, "subscriber add", **access)
        token = self._folder / "token"
        token.write_text(added["token"] + "\n")
        token.chmod(0o600)
        header = self._folder / "header"  # a file, because every user of the host can see curl's arguments
        header.touch(0o600)
        header.write_text(f"Authorization: Bearer {added['token']}\n")
        tsig = added["tsig"]
        key = self._folder / "tsig.key"
        key.write_text(f'key "{tsig["name"]}" {{ algorithm {tsig["algorithm"]}; secret "{tsig["secret"]}"; }};\n')
        key.chmod(0o600)
        self._print_commands(ports)
        secondary.start(ports.dns, Key(tsig["name"], base64.b64decode(tsig["secret"]), tsig["algorithm"]))
        stack.push_async_callback(asyncio.to_thread, secondary.stop)
        await self._watch(stack, ports.feed)
        for step in steps:
            await self._arrived.wait()
            await asyncio.sleep(INTERVAL)
            before, names = names, (names - set(step.removed)) | set(step.added)
            self._publish(names)
            if not await self._released(client):
                names = before  # rejected: the hotline withdraws the change
                self._publish(names)
                self._arrived.set()  # no new version will arrive
        await self._arrived.wait()
        self._say("The hotline has no further changes. Everything keeps running; Ctrl-C stops it.")
        await asyncio.Event().wait()

    def _transferred(self, serial: int) -> None:
        self._serials[serial] = time.monotonic() - self._changed
        self._another_serial.set()
        self._another_serial.clear()

    async def _secondary(self, version: int) -> tuple[int | None, str]:
        """The secondary's serial for this version or a later one, and the time until it had that serial."""
        client = ControlClient(self._folder / "control.sock")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECONDARY_TIMEOUT):
                while True:
                    zone = (await self._ask(client, "status"))["zones"].get(ZONE)
                    if zone and zone["version"] >= version and zone["serial"] in self._serials:
                        serial, before = zone["serial"], self._last_serial
                        self._last_serial = serial
                        if serial == before:
                            return serial, "same"  # the version changed no rule
                        return serial, f"{self._serials[serial]:.2f} s"
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._another_serial.wait(), 0.2)
        return None, "not yet"

    def _publish(self, names: set[str]) -> None:
        self._arrived.clear()
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
            await _end(process)  # it must not write into a folder that is being removed
            raise
        if process.returncode:
            raise DemoFailed(
                f"`blocklistd {arguments[0]}` failed: {errors.decode().strip().removeprefix('blocklistd: ')}"
            )

    async def _start(self, stack: AsyncExitStack, arguments: list[str], log: str) -> asyncio.subprocess.Process:
        """Starts a child process in its own session: on Ctrl-C only this process gets the signal, and stops the others
        in order.
        """
        with (self._folder / log).open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *self._program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(signal.SIGTERM),  # if this process is killed with SIGKILL
            )
        stack.push_async_callback(_end, process)

        async def watch() -> None:
            code = await process.wait()
            text = (self._folder / log).read_text(errors="replace")
            raise DemoFailed(f"`blocklistd {arguments[0]}` ended with {code}; its log:\n{text}")

        self._in_background(stack, watch())
        return process

    async def _until_ready(self, client: ControlClient) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            with contextlib.suppress(Unreachable):
                document = await self._ask(client, "status")
                if document["lists"][LIST]["version"]:
                    return
            await asyncio.sleep(0.1)
        log = (self._folder / "daemon.log").read_text(errors="replace")
        raise DemoFailed(f"the daemon was not ready within {START_TIMEOUT:g} s; see its log:\n{log}")

    async def _ask(self, client: ControlClient, command: str, /, **arguments: Any) -> Any:
        return await asyncio.to_thread(client.ask, COMMANDS[command], arguments)

    async def _watch(self, stack: AsyncExitStack, feed: int) -> None:
        process = await self._start(stack, [*self._sync(feed, self._folder / "isp"), "--watch", "--json"], "sync.log")
        assert process.stdout is not None
        lines = process.stdout

        async def follow() -> None:
            client = ControlClient(self._folder / "control.sock")
            async for line in lines:
                done = json.loads(line)
                took = time.monotonic() - self._changed
                versions = await self._ask(client, "list versions", list=LIST)
                made = next(v for v in versions if v["version"] == done["version"])
                self._say(texts.version(made, done, took, await self._secondary(done["version"])))
                self._arrived.set()

        self._in_background(stack, follow())

    def _sync(self, feed: int, folder: Path) -> list[str]:
        return [
            *("sync", f"http://127.0.0.1:{feed}", LIST, "--root", str(self._folder / "root" / "root.json")),
            *("--token-file", str(self._folder / "token"), "--dir", str(folder)),
        ]

    # -- changes and texts -----------------------------------------------------------------------------------------

    async def _released(self, client: ControlClient) -> bool:
        """Waits until the change is released (True) or rejected (False). Prints a held candidate once."""
        printed = None
        while not self._arrived.is_set():
            held = await self._ask(client, "candidate list")
            if held and printed != held[0]["id"]:
                printed = held[0]["id"]
                self._say(texts.held(held[0]))
            elif printed and not held:
                case = await self._ask(client, "candidate show", candidate=printed)
                if case["state"] == "rejected":
                    withdrawn = _("the hotline withdraws the change")
                    self._say(f"{_('REJECTED'):<13} {case['why']}: {withdrawn}")
                    return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), 0.2)
        return True

    def _print_commands(self, ports: Ports) -> None:
        commands = texts.commands(self._folder, ports)
        self._say(texts.greeting(self._folder, commands, ports))
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
