"""LogEvent: a log record with a fixed name and named fields. blocklistd.events has the events.

A record that `LogEvent.log` makes has two more attributes: `event`, the name, and `fields`.
"""

from __future__ import annotations

import logging
import re
from enum import Enum
from string import Formatter
from typing import Final

_OPTIONAL: Final = re.compile(r"\[([^\[\]]*)\]")


class LogEvent(Enum):
    """Base of the table of events. A value is a level, a message template (str.format), a meaning, and further fields,
    which the message does not show.

    A part of a template in square brackets is omitted where one of its fields is None or an empty list.
    """

    def __init__(self, level: int, template: str, meaning: str, *more: str) -> None:
        self.level = level
        self.message = template
        self.meaning = meaning
        self.fields = (*_names(template), *more)
        self.hidden = more

    @property
    def event_name(self) -> str:
        """The fixed name, in snake_case."""
        return self.name.lower()

    def text(self, fields: dict[str, object]) -> str:
        """The message with these fields. The items of a list are separated by commas."""
        missing = {name for name, value in fields.items() if value is None or value == []}
        template = _OPTIONAL.sub(lambda part: "" if missing.intersection(_names(part[1])) else part[1], self.message)
        shown = {
            name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in fields.items()
        }
        return template.format_map(shown)

    def log(self, logger: logging.Logger, /, *, exc_info: BaseException | None = None, **fields: object) -> None:
        """Logs the event, with exactly the fields that it has. `exc_info`: a redacted error, for its traceback."""
        if logger.isEnabledFor(self.level):
            extra = {"event": self.event_name, "fields": fields}
            logger.log(self.level, "%s", self.text(fields), exc_info=exc_info, extra=extra, stacklevel=2)


def _names(template: str) -> tuple[str, ...]:
    """The fields of a template, each once, in its order."""
    return tuple(dict.fromkeys(name for _, name, _, _ in Formatter().parse(template) if name))
