"""Describes a transport as a value. To add one, write a module here that ends with its `TRANSPORT`, and a line in
TRANSPORTS.

The configuration imports the table. So a module here imports slow modules inside the functions that use them.
"""

from __future__ import annotations

import abc
import enum
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from blocklistd.errors import FetchError
from blocklistd.model import NotModified, Sha256, TlsPeer, Validators

if TYPE_CHECKING:
    from ssl import SSLContext

    from blocklistd.sources.transports.sink import Sink

ENCODINGS: Final = ("identity", "gzip", "zstd")
"""The content codings of a body."""
ETAG: Final = re.compile(r"[\x21-\x7e]{1,256}")
"""The entity tags that are kept and sent back."""
LAST_MODIFIED: Final = re.compile(r"[A-Za-z0-9,: ]{1,40}")
"""The dates that are kept and sent back."""
TSIG_ALGORITHMS: Final = ("hmac-sha256", "hmac-sha512")
"""The algorithms of TSIG keys."""
POSITION: Final = re.compile(r"[\x20-\x7e]{1,2048}")
"""The positions that are kept and given to the next request."""
_SHA256: Final = re.compile("[0-9a-f]{64}")


def redacted_url(url: str) -> str:
    """A URL for an error message: without user, query and fragment, which may contain secrets."""
    return re.sub(r"(?<=//)[^/]*@", "", re.split(r"[?#]", url, maxsplit=1)[0])


def scheme_of(url: str) -> str:
    """The text before the first colon, in lower case. It need not be a key of TRANSPORTS."""
    return url.partition(":")[0].lower()


class TransferMode(enum.StrEnum):
    """How a list is transferred. A transport that knows only BODY fetches the complete body in any case."""

    BODY = "body"
    """As one body, completely each time that it changes."""
    LOG = "log"
    """As a file that only grows, or one for each year: only what came after the last pull, if possible (log.py)."""
    PAGES = "pages"
    """As XML pages that link each other: after the first time only those of what changed since (pages.py)."""


@dataclass(frozen=True, slots=True)
class TransferKey:
    """A shared secret of zone transfers (RFC 8945). `algorithm`: one of TSIG_ALGORITHMS."""

    name: str
    algorithm: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to fetch one body, and its signature.

    `headers`, `ca` and `ssl` have the credentials. They are only used for the origin of `url`. If `ssl` is given,
    another https origin (of a redirect, or of the signature) is verified by `redirect_ssl`, and refused without it:
    a pinned authority is meant for the complete pull.
    """

    url: str
    signature: str | None
    """The URL of the signature, or a template for it (`signature_url`); None if there is no signature."""
    timeout: float
    """Seconds for body and signature together."""
    max_bytes: int
    """Bytes of the body as it is sent, at most."""
    pattern: str = "*"
    """A shell pattern for the names of files in a drop folder (`Transport.has_folders`)."""
    validators: Validators = field(default_factory=Validators)
    """Those of the last body."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    redirects: frozenset[str] = frozenset()
    """Hosts to which redirects may lead, besides the host of `url`."""
    ca: Path | None = None
    """A file in PEM with the pinned authorities. A process of its own makes a TLS context from it."""
    ssl: SSLContext | None = None
    """The TLS context for the origin of `url`. A process of its own does not get it."""
    redirect_ssl: SSLContext | None = None
    """The TLS context for other origins. A process of its own does not get it."""
    client_cert: bytes | None = field(default=None, repr=False)
    """The client certificate and its key, in PEM, for a process of its own."""
    key: str | None = field(default=None, repr=False)
    """The public key of the proof, for a transport that has `uses_key`."""
    transfer: TransferMode = TransferMode.BODY
    """How the list is transferred; depends on the format of the source."""
    tsig: TransferKey | None = None
    """The key that signs requests, and that must have signed the answers (`Transport.uses_tsig`)."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """The properties of a body that was written to the sink.

    `url`: the URL of the file that was read, without redirects. `encoding`: one of ENCODINGS. `validators`: for the
    next request; an ETag may be any short text that changes with the body, such as the serial of a zone. `signature`:
    the signature, if the transport fetches it with the body. `continues`: whether the body is only what came after the
    last body, from `Validators.position` of the request on. `peer`: the server that sent the body over TLS.
    """

    url: str
    encoding: str = "identity"
    validators: Validators = field(default_factory=Validators)
    signature: bytes | None = None
    continues: bool = False
    peer: TlsPeer | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields but `url` as values that JSON can express; the signature in hex."""
        known = self.validators
        signature = None if self.signature is None else self.signature.hex()
        return {
            "encoding": self.encoding,
            "etag": known.etag,
            "last_modified": known.last_modified,
            "position": known.position,
            "signature": signature,
            "continues": self.continues,
            "peer": None if self.peer is None else [self.peer.certificate, self.peer.public_key],
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], url: str) -> Arrived:
        """Validate and read the result of `to_json`, which may come from a process that was taken over. Such a process
        must not choose the URL, from which that of the signature is made. Raises FetchError."""
        try:
            etag, last_modified, position = fields["etag"], fields["last_modified"], fields["position"]
            signature, continues = fields["signature"], fields["continues"]
            known = ((etag, ETAG), (last_modified, LAST_MODIFIED), (position, POSITION))
            fits = fields["encoding"] in ENCODINGS and isinstance(continues, bool)
            if not fits or not all(text is None or pattern.fullmatch(text) for text, pattern in known):
                raise ValueError
            return cls(
                url,
                fields["encoding"],
                Validators(etag, last_modified, position),
                None if signature is None else bytes.fromhex(signature),
                continues,
                _peer(fields["peer"]),
            )
        except (KeyError, TypeError, ValueError):
            raise FetchError(
                "the process that fetched the body returned an unexpected result: the pull is not used"
            ) from None


def _peer(found: list[str] | None) -> TlsPeer | None:
    """Raises TypeError or ValueError for another value than `Arrived.to_json` makes."""
    if found is None:
        return None
    certificate, public_key = found
    if not (_SHA256.fullmatch(certificate) and _SHA256.fullmatch(public_key)):
        raise ValueError
    return TlsPeer(Sha256(certificate), Sha256(public_key))


class Download(AbstractAsyncContextManager["Download"], abc.ABC):
    """Fetches one body, or its signature, or both. Order of calls: `__aenter__`, `body`, `signature`, `__aexit__`;
    either of `body` and `signature` may be omitted.

    In a process of its own, `__aenter__` is the last moment to open a file, import a module or resolve a name. After
    it, the process can only use the network and write the body. There, body and signature have a process each.
    """

    def __init__(self, request: Request) -> None:
        self.request = request

    async def __aexit__(self, *error: object) -> None:
        return None

    @abc.abstractmethod
    async def body(self, sink: Sink) -> Arrived | NotModified:
        """Write the body to `sink`; NotModified if the validators of the request are still valid. Raises FetchError if
        the body does not arrive completely."""

    async def signature(self, url: str) -> bytes:
        """The bytes of the signature at `url`. Reads a little more than MAX_SIGNATURE_BYTES at most; `fetch` refuses a
        larger signature. Raises FetchError."""
        raise FetchError("this transport fetches no signatures: check `verify.signature`")


def any_url(url: str) -> None:
    """For `Transport.check`: accepts every URL of the scheme."""


def as_written(url: str, folder: Path) -> str:
    """For `Transport.absolute`: URLs of the scheme are always absolute."""
    return url


@dataclass(frozen=True, slots=True)
class Transport:
    """How bodies are fetched from the URLs of a scheme. Only `open` is required. The defaults are safe for every
    transport: a process of its own that can open no file and has only this request."""

    open: Callable[[Request], Download]
    """Makes the download for a request."""
    check: Callable[[str], None] = any_url
    """Raises ValueError, with a description of an acceptable URL, for a URL of the scheme that can't be fetched."""
    absolute: Callable[[str, Path], str] = as_written
    """A function of (URL, folder of the configuration file): the absolute URL."""
    note: str = ""
    """A restriction of the scheme in a few words, for the error when a URL is expected."""
    format: str | None = None
    """The format of all bodies of the scheme, a key of FORMATS; None if the configuration must name it."""
    uses_tsig: bool = False
    """Whether requests are signed by `auth.tsig`, which is then the only credential, and may prove the origin."""
    uses_tls: bool = False
    """Whether the server has a certificate, so that `ca` and `auth.client_cert` can be configured."""
    fetches_signatures: bool = False
    """Whether a signature can be fetched from a URL of the scheme."""
    transfers: tuple[TransferMode, ...] = (TransferMode.BODY,)
    """The modes in which lists can be fetched from a URL of the scheme."""
    has_folders: bool = False
    """Whether a URL may name a drop folder, with `pattern` for its files."""
    proof: str | None = None
    """The only method of `verify` for URLs of the scheme, one of PROOFS; None if any is possible."""
    uses_key: bool = False
    """Whether a request needs the public key of the proof (`Request.key`)."""
    takes_receipts: bool = False
    """Whether the publisher takes receipts of what is applied here."""
    reasons: tuple[str, ...] = ()
    """The messages of its errors in a process of its own. Any other message is replaced by a general one
    (sources/reasons.py)."""
    in_own_process: bool = True
    """Whether each request runs in a process of its own. False only for a transport that streams bytes without parsing
    them."""
