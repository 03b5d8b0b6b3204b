"""The settings of sources: where a hotline's list is, its format, and how its origin is verified."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from blocklistd.config import checks, files, names, net, values
from blocklistd.config.document import Reader
from blocklistd.config.reader import (
    choice,
    config_section,
    derived,
    mapping,
    one_of,
    one_or_more,
    optional,
    section,
    sequence,
    setting,
    table,
)
from blocklistd.config.secrets import Secret, evidence_key, secret
from blocklistd.config.values import Schedule, duration
from blocklistd.limits import EVIDENCE_BYTES, EVIDENCE_DAYS, MAX_FUTURE, MIB
from blocklistd.model import UNBUILT_TYPES, SourceId
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.transports import transport_of
from blocklistd.sources.transports.transport import TSIG_ALGORITHMS, TransferKey

INLINE: Final = "inline"
"""The value of `verify.signature` for a signature in the body."""
TYPES: Final = ("url", "host", "domain", "ip", "md5", "sha1", "sha256")
"""The types of entries that this version supports."""
entry_type: Final = choice(*TYPES, unbuilt=UNBUILT_TYPES)


@config_section
class Bearer:
    """The credential of HTTP authentication with a bearer token (RFC 6750)."""

    token: Secret


@config_section
class Basic:
    """The credentials of HTTP Basic authentication (RFC 7617)."""

    user: str = setting(values.text)
    password: Secret = setting(secret)


@config_section
class ClientCert:
    """A TLS client certificate and its key, in PEM."""

    cert: Path = setting(values.certificates)
    key: Secret = setting(secret)


@config_section
class Tsig:
    """The key that signs zone transfers (RFC 8945). `secret` is in base64."""

    name: str = setting(names.name)
    algorithm: str = setting(choice(*TSIG_ALGORITHMS), default=TSIG_ALGORITHMS[0])
    secret: Secret = setting(secret)

    def key(self) -> TransferKey:
        """The key with its secret, which is read now. Raises ConfigError."""
        return TransferKey(self.name, self.algorithm, self.secret.read_base64())


Auth = Bearer | Basic | ClientCert | Tsig
_bearer: Final[Reader[Auth]] = Reader(secret.expected, lambda node: Bearer(token=secret.convert(node)))
_basic: Final[Reader[Auth]] = section(Basic)
_client_cert: Final[Reader[Auth]] = section(ClientCert, files.check_key_pair)
_tsig: Final[Reader[Auth]] = section(Tsig, checks.tsig)
_auth: Final = one_of({"bearer": _bearer, "basic": _basic, "client_cert": _client_cert, "tsig": _tsig})


@config_section
class VerifySettings:
    """How the origin of a source's body is verified.

    `key` has the public keys, for the methods that need one: any of them verifies. `signature` is the URL of the
    signature; `{url}` in it stands for the URL of the body; `inline`: the body contains it; None: the URL of the body
    with the usual ending. `max_future`: how far the time of a signature may lie in the future.
    """

    method: str = setting(choice(*PROOFS))
    key: tuple[Path, ...] = setting(one_or_more(values.file), default=())
    signature: str | None = setting(optional(values.text), default=None)
    max_future: timedelta = setting(duration, default=MAX_FUTURE)

    @property
    def template(self) -> str | None:
        """The URL of the signature, perhaps with `{url}`. None if none is fetched."""
        proof = PROOFS[self.method]
        if not proof.needs_signature or (proof.may_be_inline and self.signature == INLINE):
            return None
        return self.signature or f"{{url}}{proof.signature_ending}"


@config_section
class EvidenceSettings:
    """Limits for the bodies that are kept as evidence of a source: their age and their total size in bytes. `key`: the
    secret with which they are encrypted."""

    keep: timedelta = setting(duration, default=timedelta(days=EVIDENCE_DAYS))
    max_bytes: int = setting(values.size, default=EVIDENCE_BYTES)
    key: Secret | None = setting(optional(evidence_key), default=None)


@config_section
class SourceOptions:
    """Options of a source's format. `Format.options` has the names of those that a format supports."""

    delimiter: str = setting(values.delimiter, default=",")
    columns: tuple[str, ...] = setting(sequence(values.text), default=())
    comment: str | None = setting(optional(values.comment), default=None)
    head: tuple[str, ...] = setting(sequence(values.text), default=())
    records: str = setting(values.text, default="")
    where: Mapping[str, str | None] = setting(mapping(values.text, values.text_or_null), default_factory=dict)
    unless: Mapping[str, str | None] = setting(mapping(values.text, values.text_or_null), default_factory=dict)
    wildcards: str = setting(choice("refuse", "domain"), default="refuse")
    timezone: str = setting(values.timezone, default="UTC")
    add: str = setting(values.text, default="block")
    remove: str = setting(values.text, default="unblock")


_format: Final = choice(*(name for name, form in FORMATS.items() if not form.is_implied))
_FIELDS: Final = ("value", "type", "host", "ref", "category", "verified_at", "verifiers", "expires", "action")
_verifiers: Final = Reader(values.integer(1).expected, lambda node: str(values.integer(1).convert(node)))
_DEFAULTS: Final = {
    "type": entry_type,
    "ref": values.text,
    "category": values.text,
    "verified_at": values.moment,
    "verifiers": _verifiers,
    "expires": values.moment,
}


_decrypt: Final[Reader[Secret]] = one_of({"openpgp": Reader(secret.expected, checks.decryption_key)})


@config_section
class SourceSettings:
    """A source: one list of a hotline. `max_bytes` is in bytes.

    `folder` is the folder of the configuration file; a relative `file:` URL starts there. `max_age` and `max_unchanged`
    are the times after which an alarm is raised. `decrypt`: the secret key of bodies that arrive encrypted. A source in
    quarantine is pulled, but no list uses it. `receipts`: the name of this machine in the receipts that the publisher
    of the source gets; None: it gets none.
    """

    id: SourceId = derived(lambda node: SourceId(node.name))
    folder: Path = derived(lambda node: node.document.folder)
    url: str = setting(net.url)
    pattern: str = setting(net.pattern, default="*")
    format: str | None = setting(optional(_format), default=None)
    options: SourceOptions = setting(section(SourceOptions), default_factory=SourceOptions)
    fields: Mapping[str, str] = setting(table(dict.fromkeys(_FIELDS, values.text)), default_factory=dict)
    defaults: Mapping[str, str] = setting(table(_DEFAULTS), default_factory=dict)
    schedule: Schedule = setting(values.schedule, default=Schedule(every=timedelta(minutes=30)))
    timeout: timedelta = setting(duration, default=timedelta(seconds=60))
    max_bytes: int = setting(values.size, default=512 * MIB)
    auth: Auth | None = setting(optional(_auth), default=None)
    ca: Path | None = setting(optional(values.certificates), default=None)
    verify: VerifySettings = setting(section(VerifySettings, checks.verify))
    max_age: timedelta = setting(duration, default=timedelta(days=2))
    max_unchanged: timedelta | None = setting(values.duration_or_off, default=None)
    redirects: tuple[str, ...] = setting(sequence(net.host), default=())
    evidence: EvidenceSettings = setting(section(EvidenceSettings), default_factory=EvidenceSettings)
    decrypt: Secret | None = setting(optional(_decrypt), default=None)
    quarantine: bool = setting(values.boolean, default=False)
    receipts: str | None = setting(optional(values.node_name), default=None)

    @property
    def body_format(self) -> str:
        """The format of the bodies: the one that the transport implies, or else `format`."""
        found = transport_of(self.url).format or self.format
        assert found is not None
        return found

    @property
    def location(self) -> str:
        """The absolute URL."""
        return transport_of(self.url).absolute(self.url, self.folder)

    @property
    def signature(self) -> str | None:
        """The absolute URL of the signature, or a template with `{url}`. None if no signature is fetched.

        A drop folder needs the template: the name of the body is known only when a file was chosen.
        """
        template = self.verify.template
        if template is None or "{url}" in template:
            return template
        return transport_of(template).absolute(template, self.folder)
