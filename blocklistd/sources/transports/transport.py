"""What a transport is, as a value. A new one is a file here that ends with its `TRANSPORT`, and a line in TRANSPORTS.

The configuration imports the table: a module here imports what is slow to import where it is used.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from blocklistd.errors import FetchError
from blocklistd.model import NotModified, Validators

if TYPE_CHECKING:
    from ssl import SSLContext

    from blocklistd.sources.transports.sink import Sink

ENCODINGS: Final = ("identity", "gzip", "zstd")
ETAG: Final = re.compile(r"[\x21-\x7e]{1,256}")
LAST_MODIFIED: Final = re.compile(r"[A-Za-z0-9,: ]{1,40}")


def shown(url: str) -> str:
    """A URL as errors name it: without user, query and fragment, where secrets are."""
    return re.sub(r"(?<=//)[^/]*@", "", re.split(r"[?#]", url, maxsplit=1)[0])


def scheme_of(url: str) -> str:
    """The text before the first colon, in lower case: a key of TRANSPORTS, or anything else."""
    return url.partition(":")[0].lower()


@dataclass(frozen=True, slots=True)
class Request:
    """One pull. `timeout` (seconds) is for body and signature together, `max_bytes` for the body as it is sent.

    `signature` is the URL of the signature or a template for it (`signature_url`); None: there is none. `pattern`: the
    names of a folder's files that may be taken, as in a shell (`Transport.has_folders`). `redirects`:
    hosts that a redirect may lead to beside the one that was asked. `headers`, `ca`
    (a file in PEM) and `ssl` hold the credentials: they go to the origin of `url` and nowhere else. Where `ssl` is
    given, another https origin (by a redirect, or the signature's) is only spoken to with `ssl_elsewhere`, and refused
    without it: whoever pins an authority means it for the whole pull. A process of its own gets neither context: it
    makes one from `ca`.
    """

    url: str
    signature: str | None
    timeout: float
    max_bytes: int
    pattern: str = "*"
    validators: Validators = field(default_factory=Validators)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    redirects: frozenset[str] = frozenset()
    ca: Path | None = None
    ssl: SSLContext | None = None
    ssl_elsewhere: SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Arrived:
    """What is known of a body that is in the sink. `url` is that of the file really taken, `validators` are what the
    next request is made with (an ETag may be any short text that changes with the body, as a zone's serial is).
    `signature`: the body's, where the transport brings it along."""

    url: str
    encoding: str = "identity"
    validators: Validators = field(default_factory=Validators)
    signature: bytes | None = None

    def to_json(self) -> dict[str, Any]:
        known = self.validators
        signature = None if self.signature is None else self.signature.hex()
        return {
            "url": self.url,
            "encoding": self.encoding,
            "etag": known.etag,
            "last_modified": known.last_modified,
            "signature": signature,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Arrived:
        """Raises FetchError for what a process that was taken over may have made up."""
        try:
            etag, last_modified, signature = fields["etag"], fields["last_modified"], fields["signature"]
            fits = fields["encoding"] in ENCODINGS and (etag is None or ETAG.fullmatch(etag))
            if not fits or not (last_modified is None or LAST_MODIFIED.fullmatch(last_modified)):
                raise ValueError
            return cls(
                str(fields["url"]),
                fields["encoding"],
                Validators(etag, last_modified),
                None if signature is None else bytes.fromhex(signature),
            )
        except (KeyError, TypeError, ValueError):
            raise FetchError(
                "the process that fetched the body answered something else: the pull is not used"
            ) from None


class Download(AbstractAsyncContextManager["Download"], abc.ABC):
    """One pull over a transport. Order of calls: `__aenter__`, `body`, perhaps `signature`, `__aexit__`.

    In a process of its own, `__aenter__` is the last moment to open a file, import a module or resolve a name: after it
    the process can do no more than speak to the network and write the body. There, body and signature are fetched by a
    process each.
    """

    def __init__(self, request: Request) -> None:
        self.request = request

    async def __aexit__(self, *error: object) -> None:
        return None

    @abc.abstractmethod
    async def body(self, sink: Sink) -> Arrived | NotModified:
        """Writes the body to `sink`; NotModified where the request's validators still hold. Raises FetchError where it
        does not arrive whole."""

    async def signature(self, url: str) -> bytes:
        """The signature at `url`. Reads little more than MAX_SIGNATURE_BYTES: `fetch` refuses more.

        Raises FetchError.
        """
        raise FetchError("this transport fetches no signatures: check `verify.signature`")


def any_url(url: str) -> None:
    """Takes every URL of the scheme."""


def as_written(url: str, folder: Path) -> str:
    """The URL is absolute."""
    return url


@dataclass(frozen=True, slots=True)
class Transport:
    """How bodies come from the URLs of a scheme. Only `open` has to be given: the rest defaults to what is safe for
    every transport, a process of its own that can open no file and has only this request."""

    open: Callable[[Request], Download]
    check: Callable[[str], None] = any_url
    """Raises ValueError, with what is expected instead, for a URL of the scheme that can't be fetched."""
    absolute: Callable[[str, Path], str] = as_written
    """The URL as it is fetched, given the folder of the configuration file."""
    note: str = ""
    """What restricts it, in a few words, for the error where a URL is expected."""
    uses_tls: bool = False
    """Whether the origin proves itself by a certificate, so that `ca` and `auth.client_cert` mean something."""
    fetches_signatures: bool = False
    """Whether a signature can be fetched from such a URL."""
    has_folders: bool = False
    """Whether a URL may name a folder; `pattern` then says which of its files may be the list."""
    reasons: tuple[str, ...] = ()
    """The texts of its errors in a process of its own. Any other text is replaced by a general one
    (sources/reasons.py)."""
    in_own_process: bool = True
    """Whether each request runs in a process of its own. False only for what streams bytes without reading them."""
