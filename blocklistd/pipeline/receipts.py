"""Takes the receipts of nodes: checks their texts, and writes many in one transaction.

`take` adds a receipt to those that wait, and returns its outcome once it is written. One writer runs at a time: it
waits for RECEIPTS_PAUSE, then writes RECEIPTS_AT_ONCE receipts in a transaction. At most MAX_RECEIPTS_WAITING wait.
After a change of nodes by others (`forget_names`) it reads the names of the nodes again.

A receipt's reason, and the name of a new node, must not name an entry. If they name one of a list that the subscriber
has, the receipt is refused. If they name one of another list, the text is replaced and the receipt is taken: the answer
must not reveal whether a name is on a list that the subscriber can't see.
"""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from blocklistd.kinds.hash import DIGITS
from blocklistd.kinds.mentions import mentions
from blocklistd.limits import MAX_NODES, MAX_REASONS, MAX_RECEIPTS_WAITING, RECEIPTS_AT_ONCE, RECEIPTS_PAUSE
from blocklistd.model import ListId, Sha256, SubscriberId
from blocklistd.pipeline.resources import Resources
from blocklistd.receipts import Copied, NodePlace, Receipt, Taken
from blocklistd.store import receipts
from blocklistd.store.listed import files_to_search, is_listed
from blocklistd.store.lists import version_rows
from blocklistd.store.receipts import ReceivedReceipt
from blocklistd.store.subscribers import Subscriber

WITHHELD_NODE: Final = "withheld"
"""In place of the name of a node that names an entry which the subscriber can't know of."""
WITHHELD_REASON: Final = "withheld: it names an entry"


@dataclass(slots=True)
class _Waiting:
    """A receipt that waits, the lists of its subscriber, and who waits for its outcome."""

    arrived: ReceivedReceipt
    lists: frozenset[ListId]
    outcome: asyncio.Future[Taken]


class ReceiptBook:
    """Takes receipts. `recorded` is called on the event loop after nodes have changed."""

    def __init__(self, resources: Resources, recorded: Callable[[], None] = lambda: None) -> None:
        self._resources = resources
        self._recorded = recorded
        self._waiting: deque[_Waiting] = deque()
        self._writing: asyncio.Future[None] | None = None
        self._names: dict[SubscriberId, set[str]] = {}
        """The names of each subscriber's nodes. Only the writer uses it."""
        self._are_names_known = False

    async def take(self, subscriber: Subscriber, list_id: ListId, node: str, receipt: Receipt) -> Taken:
        """Takes a receipt for a list. Raises StoreError if it can't be written."""
        outcome = Taken.BUSY
        if len(self._waiting) < MAX_RECEIPTS_WAITING:
            now, place = self._resources.clock(), NodePlace(subscriber.id, Copied.LIST, list_id, node)
            arrived = ReceivedReceipt(place, receipt, now)
            waiting = _Waiting(arrived, subscriber.lists, asyncio.get_running_loop().create_future())
            self._waiting.append(waiting)
            if self._writing is None:
                self._writing = asyncio.ensure_future(self._write_all())
            outcome = await waiting.outcome
        self._resources.telemetry.record_receipt(outcome)
        return outcome

    def forget_names(self) -> None:
        """Makes the writer read the names of the nodes again. Called after nodes were removed."""
        self._are_names_known = False
        self._recorded()

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                # one transaction for many receipts: the thread takes the interpreter from the event loop for less time
                await asyncio.sleep(RECEIPTS_PAUSE)
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), RECEIPTS_AT_ONCE))]
                try:
                    outcomes = await asyncio.to_thread(self._write, batch)
                except Exception as error:
                    _end(batch, error)
                    continue
                for waiting, outcome in zip(batch, outcomes, strict=True):
                    if not waiting.outcome.done():  # the client may have left
                        waiting.outcome.set_result(outcome)
                if Taken.TAKEN in outcomes:
                    self._recorded()
        finally:
            self._writing = None

    def _write(self, batch: list[_Waiting]) -> list[Taken]:
        database = self._resources.database
        if not self._are_names_known:
            self._are_names_known = True  # first: `forget_names` may be called while they are read
            try:
                with database.read() as connection:
                    self._names = receipts.names_of_nodes(connection)
            except BaseException:
                self._are_names_known = False
                raise
        refused, arrived = self._refused(batch), dict[int, ReceivedReceipt]()
        for number, waiting in enumerate(batch):
            if number not in refused:
                arrived[number] = waiting.arrived
        with database.write() as connection:
            done = receipts.record(connection, list(arrived.values()))
        outcomes = dict(refused)
        for position, (number, one) in enumerate(arrived.items()):
            if position in done.missing:
                outcomes[number] = Taken.NEVER_PUBLISHED
            else:
                outcomes[number] = Taken.REPEATED if position in done.repeated else Taken.TAKEN
                self._names.setdefault(one.place.subscriber, set()).add(one.place.node)
        return [outcomes[number] for number in range(len(batch))]

    def _refused(self, batch: list[_Waiting]) -> dict[int, Taken]:
        """The receipts that are not recorded, by their number. Replaces texts that can't be shown."""
        refused, new, texts = dict[int, Taken](), defaultdict[SubscriberId, set[str]](set), dict[int, list[str]]()
        for number, waiting in enumerate(batch):
            place, reason = waiting.arrived.place, waiting.arrived.receipt.reason
            texts[number] = [reason] if reason else []
            known = self._names.get(place.subscriber, set())
            if place.node in known:
                continue
            if len(known | new[place.subscriber] | {place.node}) > MAX_NODES:
                refused[number], texts[number] = Taken.TOO_MANY_NODES, []
                continue
            new[place.subscriber].add(place.node)
            if "." in place.node or len(place.node) in DIGITS.values():  # no other name can be an entry
                texts[number].append(place.node)
        named = {number: [one for text in found for one in _mentions(text)] for number, found in texts.items()}
        everything = [one for found in named.values() for one in found]
        if not everything:
            return refused
        files = self._resources.store.sealed
        with self._resources.database.read() as connection:
            where = files_to_search(connection)
            if not is_listed(files, everything, where):
                return refused
            for number, found in named.items():
                if found and is_listed(files, found, where):
                    if is_listed(files, found, (_live_snapshots(connection, batch[number].lists), set())):
                        refused[number] = Taken.NAMES_ENTRY
                    else:
                        batch[number].arrived = self._without_texts(batch[number].arrived, where)
        return refused

    def _without_texts(self, arrived: ReceivedReceipt, where: tuple[set[Sha256], set[Sha256]]) -> ReceivedReceipt:
        """The receipt without the texts that name an entry."""
        place, receipt, files = arrived.place, arrived.receipt, self._resources.store.sealed
        if receipt.reason and is_listed(files, _mentions(receipt.reason), where):
            receipt = replace(receipt, reason=WITHHELD_REASON)
        if is_listed(files, _mentions(place.node), where):
            place = place._replace(node=WITHHELD_NODE)
        return replace(arrived, place=place, receipt=receipt)


@functools.lru_cache(MAX_REASONS)
def _mentions(text: str) -> tuple[bytes, ...]:
    """The entries that a text could name. Many nodes give the same reason."""
    return tuple(mentions(text))


def _live_snapshots(connection: Connection, lists: Iterable[ListId]) -> set[Sha256]:
    return {version.sha256 for name in lists for version in version_rows(connection, name, newest=1)}


def _end(batch: list[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.outcome.done():
            waiting.outcome.set_exception(error)
