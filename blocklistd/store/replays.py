"""What is remembered of a source's accepted bodies, by which older ones are refused (proofs.proof.check_replay).

In the database, for each source:

    sources.signature        SHA-256 of the signature that was accepted last
    sources.keys             a KeyHistory for each configured key, in the order in which the keys were first accepted
    superseded_signatures    signatures of these keys that were accepted before the last one. Those that the signed time
                             of their own key excludes are not kept. Those that only the time of a later key excludes
                             are: the later key, and its time with it, may be forgotten

A key that left the configuration is forgotten when the next body is accepted: a key can be removed to forget a time
that was too far ahead. Rows without a key, of version 0.2, count for every key until the next body is accepted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, delete, select, update

from blocklistd.model import IntakeReport, KeyHistory, Sha256, SourceId
from blocklistd.store.schema import sources, superseded_signatures


def read_histories(stored: Sequence[Mapping[str, Any]] | None) -> tuple[KeyHistory, ...]:
    """The histories in the column `sources.keys`."""
    return tuple(KeyHistory(**one) for one in stored or ())


def histories_for(
    histories: Iterable[KeyHistory], keys: Collection[Sha256], location: Sha256 | None
) -> tuple[KeyHistory, ...]:
    """The histories that count for a pull: of the configured `keys`, or without key. A sequence number counts only for
    the URL that it came from."""
    return tuple(
        one if one.location == location else replace(one, sequence=None, location=None)
        for one in histories
        if one.key is None or one.key in keys
    )


def advanced(
    histories: Iterable[KeyHistory], report: IntakeReport, keys: Collection[Sha256], location: Sha256 | None
) -> tuple[KeyHistory, ...]:
    """The histories after a body was accepted. A key that is accepted for the first time comes last."""
    known = {one.key: one for one in histories_for(histories, keys, location)}
    own = known.get(report.key, KeyHistory(report.key))
    for_every_key = known.pop(None, None) if report.key is not None else None
    if for_every_key is not None and own.signed_at is None:
        own = replace(own, signed_at=for_every_key.signed_at)
    if report.signed_at is not None:
        own = replace(own, signed_at=report.signed_at)
    if report.sequence is not None:
        own = replace(own, sequence=report.sequence, location=location)
    return tuple((known | {report.key: own}).values())


def superseded(connection: Connection, source: SourceId) -> list[Sha256]:
    """The source's earlier signatures that are refused one by one."""
    rows = connection.execute(select(superseded_signatures.c.signature).where(superseded_signatures.c.source == source))
    return [row.signature for row in rows]


def remember(
    connection: Connection,
    source: SourceId,
    report: IntakeReport,
    keys: Collection[Sha256],
    location: Sha256 | None,
) -> dict[str, Any]:
    """Remember an accepted body. `keys`: the fingerprints of the configured keys. Returns the values of the columns of
    `sources`."""
    if not report.is_signed:
        return {}
    row = connection.execute(select(sources).where(sources.c.id == source)).one()
    configured = {*keys, *filter(None, (report.key,))}
    histories = advanced(read_histories(row.keys), report, configured, location)
    values: dict[str, Any] = {"keys": [asdict(one) for one in histories]}
    if report.signature is None:
        return values
    table = superseded_signatures
    ours = table.c.source == source
    last = row.report or {}
    if row.signature is not None and row.signature != report.signature:
        connection.execute(
            table.insert().values(
                source=source, signature=row.signature, key=last.get("key"), signed_at=last.get("signed_at")
            )
        )
    # an offer that was restored has a signature which was superseded: it is the newest again
    connection.execute(delete(table).where(ours, table.c.signature == report.signature))
    connection.execute(update(table).where(ours, table.c.key.is_(None)).values(key=report.key))
    connection.execute(delete(table).where(ours, table.c.key.is_not(None), table.c.key.not_in(configured)))
    for one in histories:
        if one.signed_at is not None:
            connection.execute(delete(table).where(ours, table.c.key == one.key, table.c.signed_at < one.signed_at))
    return values | {"signature": report.signature}
