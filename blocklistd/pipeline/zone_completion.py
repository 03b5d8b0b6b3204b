"""The job that writes the files of zones' serials that were served without them (zone_job.py).

Until then the row of such a serial has the names and the rules of the serial before, and names the file of rules as
that of the messages, too. Its own rules are these and its delta; its own names are these and the difference of the list
between the two versions. A zone with ZONEMD has its own names and rules from the beginning, since the digest is
computed from them; only its messages are compiled here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from blocklistd.errors import BlocklistError, DamagedError, safe_message
from blocklistd.lines.delta import ENTRIES, RULES, parse
from blocklistd.model import Sha256, Version
from blocklistd.store.database import Database
from blocklistd.store.diffs import kept_deltas, net_delta
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import list_state, oldest_diff
from blocklistd.store.store import Store
from blocklistd.store.verified import Fingerprints, Verified
from blocklistd.store.zone_files import SharedFiles, change_of_names, compile_zone_file
from blocklistd.store.zones import ZoneSerial, keep_serial, newest_serial, serial_before


class Shared:
    """What the zones of a list have in common. `made`: from its snapshot; `updated`: by its difference, which is the
    last one that was read."""

    def __init__(self) -> None:
        self.made = SharedFiles()
        self.updated = SharedFiles()
        self._deltas: list[Sha256] | None = None
        self._difference: tuple[list[bytes], list[bytes]] = ([], [])

    def difference(
        self, files: SealedFiles, verified: Verified, deltas: list[Sha256]
    ) -> tuple[list[bytes], list[bytes]]:
        """The entries that these deltas of the list remove and add together. Raises DamagedError."""
        if deltas != self._deltas:
            removes: list[bytes] = []
            adds: list[bytes] = []
            with net_delta(files, verified, ENTRIES, deltas) as parts:
                for part in parts:
                    removed, added = parse(ENTRIES, part.data)
                    removes += removed
                    adds += added
            self._deltas, self._difference, self.updated = deltas, (removes, adds), SharedFiles()
        return self._difference


def compile_all(
    store: Store, zones: Sequence[str], fingerprints: Fingerprints, *, fails: bool = False
) -> dict[str, Any]:
    """Run the job for the newest serials of these zones, where the files are not written. Returns `failed` and
    `verified`; `fails`, `failed` and `verified` as in `zone_job.advance_all`."""
    failed: dict[str, str] = {}
    with store.opened() as (database, files):
        verified, shared = Verified(files, fingerprints), Shared()
        for zone in zones:
            try:
                with database.read() as connection:
                    last = newest_serial(connection, zone)
                if last is not None:
                    completed(database, files, verified, last, shared)
            except BlocklistError as error:  # an error in one zone does not stop the others
                if fails:
                    raise
                failed[zone] = safe_message(error)
        return {"failed": failed, "verified": verified.news(fingerprints)}


def completed(
    database: Database, files: SealedFiles, verified: Verified, last: ZoneSerial, shared: Shared
) -> ZoneSerial:
    """Write the files of the newest serial of a zone, unless they are written. The result has no names if these are not
    known any more, as in `ZoneSerial.files`. Raises DamagedError if the rules are lost, and ValueError if the delta
    does not fit the rules before."""
    if last.is_compiled:
        return last
    with database.read() as connection:
        before = serial_before(connection, last.zone, last.serial)
        deltas = _list_deltas(connection, before, last)
    names, rules, changed = last.names, last.rules, None
    if last.delta is not None:
        with suppress(DamagedError), verified.reading([last.delta]), files.map(last.delta) as delta:
            changed = parse(RULES, delta[:])
    if before is not None and before.rules == last.rules:
        if changed is None:
            raise DamagedError(last.delta or last.rules)
        names = _names(files, verified, last, deltas, shared)
        with verified.reading([last.rules]):
            rules = shared.updated.spliced(files, last.rules, *changed)
        verified.wrote(rules)
    wire = None
    if before is not None and before.is_compiled and before.plan.ruling == last.plan.ruling and changed is not None:
        with suppress(DamagedError), verified.reading([before.wire, rules]):
            wire = compile_zone_file(files, last.plan.ruling, rules, before.wire, sorted([*changed[0], *changed[1]]))
    if wire is None:
        with verified.reading([rules]):
            wire = compile_zone_file(files, last.plan.ruling, rules)
    verified.wrote(wire)
    with database.write() as connection:
        keep_serial(connection, last.zone, last.serial, {"names": names, "rules": rules, "wire": wire})
    return replace(last, names=names, rules=rules, wire=wire)


def _list_deltas(connection: Connection, before: ZoneSerial | None, last: ZoneSerial) -> list[Sha256] | None:
    """The deltas of the list that lead from the version of one serial to that of the next. None if one is not kept."""
    if before is None or last.list is None:
        return None
    state = list_state(connection, last.list)
    if not before.session == last.session == state.session or before.version < oldest_diff(connection, last.list):
        return None
    return kept_deltas(connection, last.list, Version(before.version), Version(last.version))


def _names(
    files: SealedFiles, verified: Verified, last: ZoneSerial, deltas: list[Sha256] | None, shared: Shared
) -> Sha256 | None:
    """Write the file of names from that of the serial before. None if that, or a delta of the list, is lost."""
    if last.names is None or deltas is None:
        return None
    with suppress(DamagedError), verified.reading([last.names, *deltas]):
        change = change_of_names(last.plan.ruling, *shared.difference(files, verified, deltas))
        made = shared.updated.spliced(files, last.names, change.removed, change.added)
        verified.wrote(made)
        return made
    return None
