"""Facts of the state_dir, read beside a running daemon or without one. Nothing is written."""

from __future__ import annotations

import contextlib
from datetime import datetime

import orjson
from sqlalchemy import Connection

from blocklistd.config import Config
from blocklistd.daemon import alarm_texts, plans
from blocklistd.daemon.doctor.facts import StoredFacts
from blocklistd.errors import BlocklistError
from blocklistd.model import SourceId
from blocklistd.ops import status
from blocklistd.signing.ceremony import parse_root
from blocklistd.signing.trust import expiry_alarm, roots_dir
from blocklistd.store import audit, candidates, evidence, receipts
from blocklistd.store.database import NEWEST_MIGRATION, Database
from blocklistd.store.files import is_read_only
from blocklistd.store.freezing import frozen_lists
from blocklistd.store.high_water import HighestNumbers, suspected_loss
from blocklistd.store.numbers import newest_time
from blocklistd.store.pulls import source_states
from blocklistd.store.store import Store
from blocklistd.times import CheckedClock


def stored_facts(config: Config, now: datetime) -> StoredFacts:
    """The facts of the state_dir. Raises StoreError or OSError if this user can't read it, or if it is damaged."""
    store = Store.found(config.state_dir, config.database)
    database = Database(store.backend, read_only=True)
    with contextlib.closing(database):
        revision = database.revision()
        if revision != NEWEST_MIGRATION:
            return StoredFacts(revision)
        head = database.head_file.read()
        with database.read() as connection:
            return StoredFacts(
                revision,
                _alarms(config, store, connection, head, now),
                _sources(config, connection, now),
                candidates.held_by_list(connection),
                _incomplete_audit(connection, head),
                receipts.oldest(connection),
                {name: evidence.usage(store, name) for name in config.sources},
            )


def _sources(config: Config, connection: Connection, now: datetime) -> dict[SourceId, status.Document]:
    states = source_states(connection, config.sources)
    return {name: status.source(state, config.sources[name], now) for name, state in states.items()}


def _incomplete_audit(connection: Connection, kept: audit.Head | None) -> str | None:
    """Why lines of the audit are missing; None if none is known to be. The hashes are not verified."""
    newest = audit.head(connection)
    if newest == audit.NONE:
        return None
    if kept is None or kept == audit.UNREADABLE:
        return "its head file is missing or can't be read"
    if not audit.has_line(connection, kept):
        return f"it has no line {kept.number}, which the head file names"
    if (first := audit.first_number(connection)) != 1:
        return f"its first line is {first}"
    return None


def _alarms(
    config: Config, store: Store, connection: Connection, head: audit.Head | None, now: datetime
) -> dict[tuple[str, str], str]:
    """The alarms that a daemon would raise for this state."""
    found: dict[tuple[str, str], str | None] = {}
    clock = CheckedClock()
    clock.begin(newest_time(connection))
    found["clock", ""] = clock.wrong
    found["halted", ""] = _loss(config, store, connection, head)
    found["root", ""] = _root(config, now)
    if is_read_only(store.state_dir):
        found["read_only", ""] = alarm_texts.read_only(store.state_dir)
    for key, until in plans.certificate_expiries(config).items():
        found["certificate", key] = alarm_texts.certificate(key, until, now)
    for name, state in source_states(connection, config.sources).items():
        settings = config.sources[name]
        found["source_overdue", name] = alarm_texts.overdue(name, state, settings.max_age, now)
        found["source_frozen", name] = alarm_texts.unchanged(name, state, settings.max_unchanged, now)
    waiting, frozen = candidates.waiting(connection), frozen_lists(connection)
    for one in alarm_texts.reviews(config, waiting, frozen, {}):
        if now - one.since > config.alarms.review_within:
            found[one.kind, one.subject] = one.text
    return {key: text for key, text in found.items() if text is not None}


def _loss(config: Config, store: Store, connection: Connection, head: audit.Head | None) -> str | None:
    """Why a start would halt."""
    path = config.high_water or store.state_dir / "high-water"
    try:
        numbers = HighestNumbers.parse(path.read_bytes())
    except (FileNotFoundError, ValueError):
        numbers = HighestNumbers()
    return suspected_loss(connection, numbers, head, None if numbers.lists else path)


def _root(config: Config, now: datetime) -> str | None:
    folder = roots_dir(config.state_dir)
    versions = [int(path.name.partition(".")[0]) for path in folder.glob("*.root.json")]
    if not versions:
        return None  # the configuration's checks report that
    newest = folder / f"{max(versions)}.root.json"
    try:
        return expiry_alarm(parse_root(orjson.loads(newest.read_bytes()), str(newest)).signed.expires, now)
    except (orjson.JSONDecodeError, BlocklistError) as error:
        return f"{newest}: {error}: restore it from a copy of root.json"
