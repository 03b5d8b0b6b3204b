"""Why a request to a feed fails, in words for the subscriber: the likely cause, then the next step."""

from __future__ import annotations

import errno
import ssl
import time
from datetime import datetime
from pathlib import Path
from typing import Final

import urllib3
from cryptography.x509 import load_pem_x509_certificate

from blocklistd.errors import SyncError

STATUS_HINTS: Final = {
    301: "the feed has moved: give the new address",
    401: "the token is wrong or was revoked: ask the publisher",
    403: "not an answer of blocklistd: a proxy refused the request, or this is another server: check the address",
    404: "there is no such list for this token: check its name, or ask the publisher",
    410: "the file is no longer kept: try again",
    429: "too many requests of this subscriber, or too many at once: stop other syncs, or try again later",
    502: "the proxy before the feed does not reach it: try again later",
    503: "the publisher is starting or repairing its state: try again later",
    504: "the proxy before the feed does not reach it: try again later",
}


class RefusedRequest(SyncError):
    """The feed answered with another status than the expected one.

    `retry_after`: the seconds after which the feed asks to try again, 0 if it does not say.
    """

    def __init__(self, text: str, status: int, retry_after: float) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after


def certificate_remedy(path: Path, now: datetime) -> str:
    """Why a feed refuses this client certificate, as far as this host knows; `now` by its clock."""
    try:
        certificate = load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):  # replaced since it was used
        return f"the client certificate {path} is refused: renew it, or ask the publisher"
    if now > (end := certificate.not_valid_after_utc):
        return (
            f"the client certificate {path} expired on {end:%Y-%m-%d}, and this clock shows {now:%Y-%m-%d}: renew it; "
            f"one with the same key needs no registration"
        )
    if now < (start := certificate.not_valid_before_utc):
        return (
            f"the client certificate {path} is valid from {start:%Y-%m-%d} on, and this clock shows {now:%Y-%m-%d}: "
            f"check the clock"
        )
    return (
        f"the key of the client certificate {path} is not registered for a subscriber, or the publisher names "
        f"authorities and none has signed it: ask the publisher"
    )


def cause_and_remedy(error: BaseException) -> str:
    """The likely cause of an error of urllib3, then the next step."""
    cause = getattr(error, "reason", None) or error
    match cause:
        case urllib3.exceptions.NameResolutionError():
            return "its name is not found: is it spelled right, and does this host's DNS work (`getent hosts NAME`)?"
        case urllib3.exceptions.ProxyError():
            return _proxy_failure(cause)
        case urllib3.exceptions.NewConnectionError():
            return _connect_failure(cause.__cause__)
        case urllib3.exceptions.SSLError():
            return _tls_failure(cause)
        case urllib3.exceptions.ConnectTimeoutError():
            return "no connection in time: is the address right, and does a firewall allow connections to that port?"
        case urllib3.exceptions.TimeoutError():
            return "no answer in time: try again later"
        case urllib3.exceptions.LocationValueError():
            return "this is not the address of a feed: check URL"
        case urllib3.exceptions.ProtocolError() | urllib3.exceptions.InvalidHeader():
            return (
                "it closed the connection, or does not speak HTTP: check the port, and https: or http: in the address"
            )
        case _:
            return type(cause).__name__


def _proxy_failure(error: urllib3.exceptions.ProxyError) -> str:
    """Why the proxy does not connect to the feed, and what to check."""
    text = str(error.original_error)
    if "407" in text:
        return (
            "the proxy asks for a user and a password: write its address, http://USER:PASSWORD@HOST:PORT, into a file, "
            "and name that with --proxy-file"
        )
    if "Tunnel connection failed" in text:
        return f"the proxy refused the connection ({text.rpartition(': ')[2]}): let it connect to that host and port"
    return (
        "the proxy of --proxy or HTTPS_PROXY can't be reached: check its address, or name the feed's host in NO_PROXY"
    )


def _connect_failure(cause: BaseException | None) -> str:
    """Why no connection can be made, and what to check."""
    if isinstance(cause, ConnectionRefusedError):
        return "it refuses connections: the host answers, but nothing listens on that port: is the port right?"
    if isinstance(cause, OSError) and cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return "there is no route to it from this host: check this host's network (`ip route`)"
    return "it can't be reached: is the address right, and is the publisher running?"


def _tls_failure(error: BaseException) -> str:
    """Why TLS fails, and what to check. The numbers are OpenSSL's X509_V_ERR codes (x509_vfy.h)."""
    refused = error.args[0] if error.args and isinstance(error.args[0], ssl.SSLError) else error.__cause__
    if not isinstance(refused, ssl.SSLCertVerificationError):
        return (
            f"no TLS connection can be made ({refused or error}): is the port the feed's, and does the feed use https:?"
        )
    match refused.verify_code:
        case 9:  # X509_V_ERR_CERT_NOT_YET_VALID
            return f"its certificate is not valid yet, by the clock of this host: {host_time()}. Is that right?"
        case 10:  # X509_V_ERR_CERT_HAS_EXPIRED
            return (
                f"its certificate has expired, by the clock of this host: {host_time()}. If that is right, ask the "
                f"publisher to renew it"
            )
        case 62 | 64:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
            return "its certificate is for another name: use the address that the publisher gave you"
        case _:
            return (
                f"its certificate can't be verified ({refused.verify_message}): if the publisher gave you "
                f"the certificate of its authority (ca.pem), name it with --ca"
            )


def age_text(seconds: float) -> str:
    """A time span for people, in its two largest units: 3 d 4 h, 2 h 5 min, 40 s."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{max(0, int(seconds))} s"


def host_time() -> str:
    """The time of this host for an error message, so that the reader sees whether it is wrong."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
