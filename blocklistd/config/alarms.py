"""The settings of alarms: how alarms reach people, and after what time a held change is one."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Final

from blocklistd.config.document import ConfigNode, InvalidValue, Reader
from blocklistd.config.reader import SectionValues, config_section, optional, section, sequence, setting
from blocklistd.config.secrets import Secret, secret
from blocklistd.config.values import duration, text
from blocklistd.sources.transports import web

NOT_SHOWN: Final = "a URL, which is not shown as it may be a secret"


def _url(node: ConfigNode) -> str:
    found = node.text()
    if any(character.isspace() for character in found):
        raise InvalidValue("a URL without spaces", NOT_SHOWN)
    try:
        web.check(found)
    except ValueError as error:
        raise InvalidValue(str(error), NOT_SHOWN) from None
    return found


url: Final = Reader("an https: URL (http: to loopback only)", _url)


@config_section
class WebhookSettings:
    """A server that gets each alarm as JSON in a POST request. `bearer`: the token of its Authorization header."""

    url: str = setting(url)
    bearer: Secret | None = setting(optional(secret), default=None)


@config_section
class AlarmSettings:
    """How alarms reach people. `command`: a program and its arguments; it gets a mail on stdin. `review_within`: a
    candidate that is held for longer is an alarm, as is a list that is frozen for longer."""

    webhook: WebhookSettings | None = setting(optional(section(WebhookSettings)), default=None)
    command: tuple[str, ...] = setting(sequence(text), default=())
    review_within: timedelta = setting(duration, default=timedelta(hours=4))


def check(found: SectionValues) -> None:
    """The program of `command` is an absolute path, and can be run."""
    command = found.values.get("command")
    if not command:
        return
    program = Path(command[0])
    if not program.is_absolute():
        found.report("command", "the absolute path of a program, then its arguments", repr(command[0]))
    elif found.document.check_files and not (program.is_file() and os.access(program, os.X_OK)):
        found.report_nonfatal("command", "a program that can be run", f"{program}, which can't")
