"""`blocklistd demo`: hotline, daemon and subscriber on this machine, each for real, with changing reserved-name data.

The hotline runs here; the daemon and the subscriber's `sync --watch` are processes of their own, started with the
commands that an administrator and a subscriber would use. Nothing is left behind but a --dir that was asked for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from dns.tsig import Key

from blocklistd.cli.control import Control
from blocklistd.cli.failures import Unreachable
from blocklistd.demo.generator import Churn
from blocklistd.demo.hotline import DemoHotline
from blocklistd.demo.secondary import DemoSecondary

LIST: Final = "national"
SOURCE: Final = "demo-hotline"
SUBSCRIBER: Final = "demo-isp"
ZONE: Final = "rpz.demo.example"
SIZE: Final = 20_000  # names at the start
FIRST_STEP: Final = 5  # the churn's fourth step from here is the first that a guard holds
INTERVAL: Final = 4.0  # seconds between two versions
START: Final = 30.0  # seconds that the daemon may take to be ready

CONFIG: Final = """\
# The demo's configuration: everything here, everything else as embedded.
state_dir: state
control:
  socket: control.sock
  operators: {{{user}: [admin]}}
keys:
  online: {{file: keys/online.pem}}
sources:
  {source}:
    url: {url}
    format: text
    defaults: {{type: domain}}
    schedule: every 1s
    verify: {{method: minisign, key: keys/hotline.pub}}
lists:
  {list}:
    sources: [{source}]
feed:
  listen: ["127.0.0.1:{feed}"]
zones:
  {zone}: {{list: {list}}}
dns:
  listen: ["127.0.0.1:{dns}"]
ops:
  listen: ["127.0.0.1:{ops}"]
"""


def demo(directory: Path | None) -> int:
    """Runs until Ctrl-C; the exit code of `blocklistd demo`."""
    with _folder(directory) as folder:
        try:
            asyncio.run(_Demo(folder).run())
        except KeyboardInterrupt:
            pass
        except DemoFailed as failure:
            print(f"blocklistd: {failure}", file=sys.stderr)
            return 1
    print("\nstopped; nothing is left running" + ("" if directory else " and nothing is left on the disk"))
    return 0


class DemoFailed(Exception):
    """The daemon or the subscriber did not start."""


@contextlib.contextmanager
def _folder(directory: Path | None) -> Iterator[Path]:
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory.resolve()
        return
    made = Path(tempfile.mkdtemp(prefix="blocklistd-demo-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


class _Demo:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program = [sys.executable, "-m", "blocklistd"]
        self._shown = shutil.which("blocklistd", path=str(Path(sys.executable).parent)) or "blocklistd"
        self._config = folder / "blocklistd.yaml"
        self._hotline = DemoHotline()
        self._changed = 0.0
        self._seen = asyncio.Event()
        self._serials: dict[int, float] = {}  # serial → seconds from the hotline's change to the secondary
        self._another_serial = asyncio.Event()

    async def run(self) -> None:
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        assert main is not None
        stopped = False

        def stop() -> None:
            nonlocal stopped
            if not stopped:  # a second Ctrl-C must not cancel the cleaning up
                stopped = True
                main.cancel()

        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, stop)
        async with AsyncExitStack() as stack:
            with contextlib.suppress(asyncio.CancelledError):
                await self._play(stack)

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
        feed, dns, ops = self._configure()
        await self._command("keys", "init", "-c", str(self._config), "--root-out", str(self._folder / "root"))
        await self._start(stack, ["serve", "-c", str(self._config)], "daemon.log")
        client = Control(self._folder / "control.sock")
        await self._until_ready(client)
        loop = asyncio.get_running_loop()

        def arrived(serial: int) -> None:
            loop.call_soon_threadsafe(self._transferred, serial)

        secondary = DemoSecondary(ZONE, arrived)
        wish = {"id": SUBSCRIBER, "lists": [LIST], "zones": [ZONE], "notify": [secondary.address]}
        added = await self._ask(client, "POST", "/subscribers", wish)
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
            if not await self._released(client, len(step.added), len(step.removed)):
                names = before  # a reviewer said no: the hotline takes it back
                self._publish(names)
        await asyncio.Event().wait()

    def _transferred(self, serial: int) -> None:
        self._serials[serial] = time.monotonic() - self._changed
        self._another_serial.set()
        self._another_serial.clear()

    async def _secondary(self, version: int) -> str:
        """What to say of the secondary: when it had the serial of this version, or of a later one."""
        client = Control(self._folder / "control.sock")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while True:
                    zone = (await self._ask(client, "GET", "/status", None))["zones"].get(ZONE)
                    if zone and zone["version"] >= version and zone["serial"] in self._serials:
                        return f"serial {zone['serial']} at the secondary in {self._serials[zone['serial']]:.2f} s"
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._another_serial.wait(), 0.2)
        return "not yet at the secondary"

    def _publish(self, names: set[str]) -> None:
        self._seen.clear()
        self._changed = time.monotonic()
        self._hotline.publish(names)

    def _configure(self) -> tuple[int, int, int]:
        feed, dns, ops = _free_port(), _free_port(), _free_port()
        keys = self._folder / "keys"
        keys.mkdir(mode=0o700, exist_ok=True)
        (keys / "hotline.pub").write_bytes(self._hotline.public_key + b"\n")
        import pwd

        user = pwd.getpwuid(os.geteuid()).pw_name
        self._config.write_text(
            CONFIG.format(
                user=user, source=SOURCE, list=LIST, zone=ZONE, url=self._hotline.url, feed=feed, dns=dns, ops=ops
            )
        )
        return feed, dns, ops

    # -- processes -------------------------------------------------------------------------------------------------

    async def _command(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._program, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        if process.returncode:
            raise DemoFailed(f"`blocklistd {arguments[0]}` failed: {errors.decode().strip()}")

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
            )
        stack.push_async_callback(_stop, process)
        return process

    async def _until_ready(self, client: Control) -> None:
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            with contextlib.suppress(Unreachable):
                document = await self._ask(client, "GET", "/status", None)
                if document["lists"][LIST]["version"]:
                    return
            await asyncio.sleep(0.1)
        log = (self._folder / "daemon.log").read_text(errors="replace")
        raise DemoFailed(f"the daemon was not ready within {START:g} s; its log:\n{log}")

    async def _ask(self, client: Control, method: str, path: str, body: dict[str, Any] | None) -> Any:
        return await asyncio.to_thread(client.ask, method, path, body)

    async def _watch(self, stack: AsyncExitStack, feed: int) -> None:
        process = await self._start(stack, [*self._sync(feed, self._folder / "isp"), "--watch", "--json"], "sync.log")
        assert process.stdout is not None
        lines = process.stdout

        async def follow() -> None:
            client = Control(self._folder / "control.sock")
            async for line in lines:
                done = json.loads(line)
                took = time.monotonic() - self._changed
                versions = await self._ask(client, "GET", f"/lists/{LIST}/versions", None)
                made = next(v for v in versions if v["version"] == done["version"])
                change = f"+{made['added']:<6} -{made['removed']:<6} {done['entries']:>7} entries"
                way = f"{done['how']:<8} {done['bytes']:>8} bytes"
                arrived = f"from hotline to subscriber in {took:.2f} s, {await self._secondary(done['version'])}"
                print(f"version {done['version']:>3}  {change}  {way}  {arrived}", flush=True)
                self._seen.set()

        following = asyncio.ensure_future(follow())
        stack.callback(following.cancel)

    def _sync(self, feed: int, folder: Path) -> list[str]:
        return [
            *("sync", f"http://127.0.0.1:{feed}", LIST, "--root", str(self._folder / "root" / "root.json")),
            *("--token-file", str(self._folder / "token"), "--dir", str(folder)),
        ]

    # -- the play --------------------------------------------------------------------------------------------------

    async def _released(self, client: Control, added: int, removed: int) -> bool:
        """Whether the change became a version; while it is held, says so once and waits for a reviewer."""
        said = None
        while not self._seen.is_set():
            held = await self._ask(client, "GET", "/candidates", None)
            if held and said != held[0]["id"]:
                said = held[0]["id"]
                reasons = "; ".join(f"{r['guard']}: {r['found']}, limit {r['limit']}" for r in held[0]["reasons"])
                print(
                    f"HELD          +{added:<6} -{removed:<6} by the guard {reasons}\n"
                    f"              the last good version stays live until somebody has looked; in another terminal:\n"
                    f"                {self._shown} candidate show {said} -c {self._config}\n"
                    f"                {self._shown} candidate approve {said} -c {self._config}",
                    flush=True,
                )
            elif said and not held:
                case = await self._ask(client, "GET", f"/candidates/{said}", None)
                if case["state"] == "rejected":
                    print(f"REJECTED      {case['why']}: the hotline takes it back", flush=True)
                    return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._seen.wait(), 0.2)
        return True

    def _print_commands(self, feed: int, dns: int, ops: int) -> None:
        program = self._shown
        url = f"http://127.0.0.1:{feed}/v1/lists/{LIST}"
        sync = " ".join(self._sync(feed, self._folder / "my-copy"))
        print(
            f"""blocklistd demo: a hotline, the daemon and a subscriber, all on loopback, in {self._folder}

try in another terminal:
  {program} status -c {self._config}
  {program} list versions {LIST} -c {self._config}
  curl -s -H @{self._folder}/header {url}
  curl -s -H @{self._folder}/header {url}/diffs/1-2
  {program} {sync}
  dig @127.0.0.1 -p {dns} -k {self._folder}/tsig.key {ZONE} SOA +short
  dig @127.0.0.1 -p {dns} -k {self._folder}/tsig.key {ZONE} IXFR=1
  curl -s http://127.0.0.1:{ops}/metrics

Ctrl-C stops everything.
""",
            flush=True,
        )


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(15):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
