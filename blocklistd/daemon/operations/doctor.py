"""The facts that only the running daemon knows, for `blocklistd doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from blocklistd import __version__
from blocklistd.config import CheckedConfig, check
from blocklistd.daemon.commands.command import Document
from blocklistd.daemon.operations.overview import Overview
from blocklistd.daemon.readiness import Readiness
from blocklistd.daemon.reloading import changed_keys
from blocklistd.errors import ConfigError
from blocklistd.serve.dns.server import DnsServer
from blocklistd.serve.dns.zones import Zones
from blocklistd.telemetry import ActiveAlarms


class DoctorOperations:
    """The effect of the hidden command `status facts`. `running` returns the configuration in force, `undelivered` the
    alarms that did not reach people."""

    def __init__(
        self,
        overview: Overview,
        alarms: ActiveAlarms,
        readiness: Callable[[], Readiness],
        running: Callable[[], CheckedConfig],
        undelivered: Callable[[], Document],
        dns: DnsServer | None,
        zones: Zones,
    ) -> None:
        self._overview = overview
        self._alarms = alarms
        self._readiness = readiness
        self._running = running
        self._undelivered = undelivered
        self._dns = dns
        self._zones = zones

    async def facts(self) -> Document:
        """The facts. `unread`: the keys that were changed in the file since it was read. `notify`: by target, the
        requests since its last acknowledgement."""
        ready = self._readiness()
        alarms = self._alarms.active()
        return {
            "version": __version__,
            "alarms": [{"kind": kind, "subject": subject, "text": text} for (kind, subject), text in alarms.items()],
            "down": ready.down,
            "wrong": ready.wrong,
            "undelivered": self._undelivered(),
            "unread": await asyncio.to_thread(_unread, self._running()),
            "notify": self._notify(),
            "status": await self._overview.status(),
        }

    def _notify(self) -> Document:
        found: list[dict[str, object]] = []
        for target, count in self._dns.notify.unanswered.items() if self._dns is not None else ():
            view = self._zones.view_for(target.zone, target.subscriber)
            if view is not None:
                host, port = target.address
                address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                target_of = {"subscriber": target.subscriber, "zone": view.plan.name, "address": address}
                found.append({**target_of, "unanswered": count})
        return found


def _unread(running: CheckedConfig) -> list[str]:
    path: Path = running.config.path
    try:
        return [key for key, _ in changed_keys(running, check(path))]
    except ConfigError:
        return []  # the command reports the errors of the file
