"""The ways by which an alarm reaches people: a webhook, and a command that gets a mail.

Neither contains anything of an entry: an alarm's text is that of the log. Each delivery has ALARM_TIMEOUT seconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import Any, Final, Protocol

import aiohttp
import orjson

from blocklistd.config.alarms import AlarmSettings, WebhookSettings
from blocklistd.errors import ConfigError, safe_message
from blocklistd.limits import ALARM_TIMEOUT, MAX_ALARM_TEXT
from blocklistd.times import rfc3339

ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
"""The environment of the command: nothing of the daemon's, which may contain secrets."""


class DeliveryError(Exception):
    """An alarm was not delivered. The text is the reason, for the operator; it has no URL, which may be a secret."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What people get: an alarm that is raised, or one that is over. `since`: when it was raised. `host`: the name of
    this machine. `test`: nothing is wrong, somebody tries the way."""

    alarm: str
    subject: str
    since: datetime
    text: str
    state: str
    host: str
    test: bool = False

    def document(self) -> dict[str, Any]:
        """The JSON of the webhook."""
        return {
            "alarm": self.alarm,
            "subject": self.subject,
            "since": rfc3339(self.since),
            "text": self.text[:MAX_ALARM_TEXT],
            "state": self.state,
            "host": self.host,
            "test": self.test,
        }

    def mail(self) -> bytes:
        """A mail without addresses, for the stdin of a program such as sendmail (RFC 5322; RFC 3834 for the header
        Auto-Submitted)."""
        made = EmailMessage()
        heading = f"[blocklistd {self.host}] {'TEST ' if self.test else ''}{self.state}: {self.alarm} {self.subject}"
        made["Subject"] = " ".join(heading.split())
        made["Auto-Submitted"] = "auto-generated"
        made.set_content(
            f"{self.text[:MAX_ALARM_TEXT]}\n\nalarm:   {self.alarm} {self.subject}\nstate:   {self.state}\n"
            f"since:   {rfc3339(self.since)}\nmachine: {self.host}\n\n`blocklistd status` shows all active alarms.\n"
        )
        return bytes(made)


class Way(Protocol):
    """A way to people. `name`: the key of the configuration."""

    @property
    def name(self) -> str:
        """`webhook` or `command`."""

    async def deliver(self, notice: Notice) -> None:
        """Delivers the notice, or raises DeliveryError."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """POST of JSON. Redirects are not followed, since the token would go to another server. Proxies of the environment
    are not used."""

    settings: WebhookSettings

    @property
    def name(self) -> str:
        return "webhook"

    async def deliver(self, notice: Notice) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": "blocklistd"}
        try:
            if self.settings.bearer is not None:
                headers["Authorization"] = f"Bearer {await asyncio.to_thread(self.settings.bearer.read)}"
            # aiohttp's own context has the authorities that the system had when it was imported
            trust = await asyncio.to_thread(ssl.create_default_context)
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, ssl=trust),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=ALARM_TIMEOUT),
                trust_env=False,
            ) as session:
                content = orjson.dumps(notice.document())
                async with session.post(
                    self.settings.url, data=content, headers=headers, allow_redirects=False
                ) as response:
                    status = response.status
        except ConfigError as error:
            raise DeliveryError(safe_message(error)) from None
        except TimeoutError:
            raise DeliveryError(f"the server did not answer within {ALARM_TIMEOUT:g} s") from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError):
            raise DeliveryError("the TLS connection failed: check the server's certificate") from None
        except aiohttp.ClientConnectionError:
            raise DeliveryError("the connection failed: check that the server runs and can be reached") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DeliveryError(f"the request failed ({type(error).__name__})") from None
        if 300 <= status < 400:
            raise DeliveryError(f"status {status}: redirects are not followed: correct alarms.webhook.url")
        if not 200 <= status < 300:
            raise DeliveryError(f"status {status}: expected 200 to 299")


@dataclass(frozen=True, slots=True)
class Program:
    """A program that is run without a shell and gets the mail on stdin. Its output is discarded. It has no environment
    of the daemon's, and is ended with all its children after ALARM_TIMEOUT seconds."""

    command: tuple[str, ...]

    @property
    def name(self) -> str:
        return "command"

    async def deliver(self, notice: Notice) -> None:
        mail = os.memfd_create("alarm")  # not a pipe: a program that does not read it can't stop the daemon
        try:
            os.write(mail, notice.mail())
            os.lseek(mail, 0, os.SEEK_SET)
            try:
                running = await asyncio.create_subprocess_exec(
                    *self.command,
                    stdin=mail,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                    env=ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                raise DeliveryError(f"{self.command[0]} can't be run: {error.strerror}") from None
        finally:
            os.close(mail)
        try:
            code = await asyncio.wait_for(running.wait(), ALARM_TIMEOUT)
        except TimeoutError:
            raise DeliveryError(f"{self.command[0]} did not end within {ALARM_TIMEOUT:g} s and was killed") from None
        finally:
            if running.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGKILL)
                await running.wait()
        if code:
            raise DeliveryError(f"{self.command[0]} ended with {code}: expected 0: run it by hand as this user")


def ways_of(settings: AlarmSettings) -> list[Way]:
    """The configured ways."""
    found: list[Way] = []
    if settings.webhook is not None:
        found.append(Webhook(settings.webhook))
    if settings.command:
        found.append(Program(settings.command))
    return found
