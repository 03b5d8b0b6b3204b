"""Operations on alarms: a test, and the alarms that are not delivered yet."""

from __future__ import annotations

from blocklistd.daemon.alarm_delivery import AlarmDelivery
from blocklistd.daemon.commands.command import Document
from blocklistd.errors import RefusedError


class AlarmOperations:
    """The effect of `alarms test`, and a part of `status`."""

    def __init__(self, delivery: AlarmDelivery) -> None:
        self._delivery = delivery

    def undelivered(self) -> Document:
        """The alarms that are not delivered yet."""
        return self._delivery.undelivered()

    async def test(self) -> Document:
        """Sends a test alarm by each way. Raises RefusedError if none is configured."""
        results = await self._delivery.test()
        if not results:
            raise RefusedError(
                "no delivery of alarms is configured: set `alarms.webhook` or `alarms.command`, then run "
                "`blocklistd reload`"
            )
        return {"results": results}
