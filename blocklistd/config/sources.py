"""The settings of sources: where a hotline's list is, its format, and how its origin is verified."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from blocklistd.config import checks, files, net, values
from blocklistd.config.document import Reader
from blocklistd.config.reader import (
    choice,
    config_section,
    derived,
    not_built,
    one_of,
    optional,
    section,
    sequence,
    setting,
    table,
)
from blocklistd.config.secrets import Secret, secret
from blocklistd.config.values import Schedule, duration
from blocklistd.limits import EVIDENCE_BYTES, EVIDENCE_DAYS, MAX_FUTURE, MIB
from blocklistd.model import UNBUILT_TYPES, SourceId
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.transports import transport_of

TYPES: Final = ("url", "host", "domain", "md5", "sha1", "sha256")
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


Auth = Bearer | Basic | ClientCert
_bearer: Final[Reader[Auth]] = Reader(secret.expected, lambda node: Bearer(token=secret.convert(node)))
_basic: Final[Reader[Auth]] = section(Basic)
_client_cert: Final[Reader[Auth]] = section(ClientCert, files.check_key_pair)
_auth: Final = one_of({"bearer": _bearer, "basic": _basic, "client_cert": _client_cert})


@config_section
class VerifySettings:
    """How the origin of a source's body is verified.

    `key` is the public key, for the methods that need one. `signature` is the URL of the signature; `{url}` in it
    stands for the URL of the body. `max_future`: how far the time of a signature may lie in the future.
    """

    method: str = setting(choice(*PROOFS, unbuilt=("openpgp", "tuf")))
    key: Path | None = setting(optional(values.file), default=None)
    signature: str = setting(values.text, default="{url}.minisig")
    max_future: timedelta = setting(duration, default=MAX_FUTURE)


@config_section
class EvidenceSettings:
    """Limits for the rejected bodies that are kept as evidence of a source: their age and their total size in bytes."""

    keep: timedelta = setting(duration, default=timedelta(days=EVIDENCE_DAYS))
    max_bytes: int = setting(values.size, default=EVIDENCE_BYTES)


@config_section
class SourceOptions:
    """Options of a source's format. `Format.options` has the names of those that a format supports."""

    delimiter: str = setting(values.delimiter, default=",")
    columns: tuple[str, ...] = setting(sequence(values.text), default=())
    comment: str | None = setting(optional(values.comment), default=None)
    records: None = setting(not_built(None, None), default=None)
    where: Mapping[str, str] = setting(not_built({}, {}), default_factory=dict)
    wildcards: str = setting(choice("refuse", "domain"), default="refuse")
    timezone: str = setting(not_built("UTC", "UTC"), default="UTC")


_FIELDS: Final = ("value", "type", "ref", "category", "verified_at", "verifiers", "expires")
_verifiers: Final = Reader(values.integer(1).expected, lambda node: str(values.integer(1).convert(node)))
_DEFAULTS: Final = {
    "type": entry_type,
    "ref": values.text,
    "category": values.text,
    "verified_at": values.moment,
    "verifiers": _verifiers,
    "expires": values.moment,
}


@config_section
class SourceSettings:
    """A source: one list of a hotline. `max_bytes` is in bytes.

    `folder` is the folder of the configuration file; a relative `file:` URL starts there. `max_age` and `max_unchanged`
    are the times after which an alarm is raised. A source in quarantine is pulled, but no list uses it.
    """

    id: SourceId = derived(lambda node: SourceId(node.name))
    folder: Path = derived(lambda node: node.document.folder)
    url: str = setting(net.url)
    pattern: str = setting(net.pattern, default="*")
    format: str = setting(choice(*FORMATS, unbuilt=("json", "xml", "xml-pages", "rpz", "action-log")))
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
    quarantine: bool = setting(values.boolean, default=False)

    @property
    def location(self) -> str:
        """The absolute URL."""
        return transport_of(self.url).absolute(self.url, self.folder)

    @property
    def signature(self) -> str | None:
        """The absolute URL of the signature, or a template with `{url}`. None if the method has no signature.

        A drop folder needs the template: the name of the body is known only when a file was chosen.
        """
        written = self.verify.signature
        if not PROOFS[self.verify.method].needs_signature:
            return None
        return written if "{url}" in written else transport_of(written).absolute(written, self.folder)
