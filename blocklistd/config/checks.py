"""Checks that involve several keys of a section, or several sections.

A check runs at the end of its section, and gets the values that are valid; problems of the others are already reported.
Sections are read in the order of the fields of Config: `keys` and `sources` before `lists`, `lists` before `zones`.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blocklistd.config import files
from blocklistd.config.document import InvalidValue
from blocklistd.config.net import Address, source_url
from blocklistd.config.reader import SectionValues, alternatives
from blocklistd.config.values import UNIX_PATH, format_duration
from blocklistd.errors import VerifyError
from blocklistd.kinds import DIGITS
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.format import Format
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.transports import TRANSPORTS
from blocklistd.sources.transports.transport import Transport, scheme_of

if TYPE_CHECKING:
    from blocklistd.config import VerifySettings
    from blocklistd.config.sources import SourceOptions

STATUS_SOCKET: Final = "status.sock"


def verify(section: SectionValues) -> None:
    """Checks that the keys of `verify` are those that its method needs, and that the public key can be read."""
    method = section.values.get("method")
    if method is None:
        return
    proof = PROOFS[method]
    signed = proof.needs_signature
    for name, known in (("key", proof.key is not None), ("signature", signed), ("max_future", signed)):
        if not known and section.is_written(name):
            section.report(name, f"no such key with the method `{method}`")
    if proof.key is None or not section.has("key"):
        return
    path = section.values["key"]
    if path is None:
        section.report("key", proof.key)
        return
    try:
        if path.is_file():
            proof.read_key(path.read_bytes())
    except OSError:  # this process may not read it; files.check_access checks whether the daemon may
        pass
    except VerifyError:
        section.report_nonfatal("key", proof.key, f"{path}, which is not one")


def source(section: SectionValues) -> None:
    """Checks that a source's fields, defaults, options, pattern and verification fit its format and its URL."""
    values = section.values
    form = FORMATS.get(values.get("format", ""))
    if form is not None and not form.has_types and section.has("defaults") and not section.is_written("defaults.type"):
        section.report("defaults.type", f"the type of the entries: the format {values['format']} does not contain it")
    if form is not None and form.value and section.has("fields") and not section.is_written("fields.value"):
        section.report("fields.value", form.value)
    if form is not None and form.field is not None:
        for name, field in values.get("fields", {}).items():
            if not form.field.fullmatch(field):
                section.report(f"fields.{name}", form.field_expected)
    if form is not None and section.has("options"):
        _options(section, form, values["options"])
    transport = TRANSPORTS[scheme_of(values["url"])] if section.has("url") else None
    if transport is not None and not transport.has_folders and section.is_written("pattern"):
        section.report("pattern", "no such key: the URL names no drop folder")
    files.check_authority(section)
    if section.has("url", "verify"):
        _origin(section, TRANSPORTS[scheme_of(values["url"])], values["verify"])


def _options(section: SectionValues, form: Format, options: SourceOptions) -> None:
    """Reports options that the format does not have, and fields that name none of `options.columns`."""
    for name in ("delimiter", "columns", "comment", "wildcards"):
        if name not in form.options and section.is_written(f"options.{name}"):
            known = alternatives(sorted(form.options)) if form.options else "none"
            section.report(f"options.{name}", f"an option of the format {section.values['format']}: {known}")
    if options.columns:
        for name, column in section.values.get("fields", {}).items():
            if column not in options.columns:
                section.report(f"fields.{name}", f"one of options.columns: {', '.join(options.columns)}", repr(column))
    if options.wildcards == "domain" and section.values.get("defaults", {}).get("type") in DIGITS:
        section.report("options.wildcards", "`refuse`: a hash has no wildcards")


def _origin(section: SectionValues, transport: Transport, verify: VerifySettings) -> None:
    """Checks that the URL fits the verification: TLS with a pinned authority, or a place for the signature."""
    proof = PROOFS[verify.method]
    if proof.needs_pinned_tls and not transport.uses_tls:
        section.report("verify.method", f"another method: `{verify.method}` needs a URL over TLS")
    elif proof.needs_pinned_tls and not section.is_written("ca") and not section.is_written("auth.client_cert"):
        section.report("verify.method", f"`ca` or `auth.client_cert` beside it: `{verify.method}` needs one of them")
    if proof.needs_signature:
        try:
            where = source_url(verify.signature.replace("{url}", section.values["url"]))
        except InvalidValue:
            where = ""
        if not where or not TRANSPORTS[scheme_of(where)].fetches_signatures:
            section.report("verify.signature", "a URL, or {url} and an ending")


def block_list(section: SectionValues) -> None:
    """Checks that a list's sources exist, and that its metadata does not expire before the timestamp role does."""
    document = section.document
    for name, line in section.items("sources"):
        if name in section.values.get("sources", ()) and f"sources.{name}" not in document.nodes:
            known = [
                key.partition(".")[2] for key in document.nodes if key.startswith("sources.") and key.count(".") == 1
            ]
            section.report("sources", f"a source: {', '.join(known) or 'there are none'}", f"{name!r}", line)
    expires, timestamp = section.values.get("expires"), document.sections.get("keys", {}).get("timestamp_expires")
    if isinstance(expires, timedelta) and isinstance(timestamp, timedelta) and timestamp > expires:
        if "keys.timestamp_expires" in document.nodes:
            name = section.key.partition(".")[2]
            document.report(
                "keys.timestamp_expires", f"at most {format_duration(expires)}, the `expires` of the list {name}"
            )
        else:
            section.report("expires", f"at least {format_duration(timestamp)}, the default of keys.timestamp_expires")


def zone(section: SectionValues) -> None:
    """Checks that the list of a zone exists."""
    name = section.values.get("list")
    if name is not None and f"lists.{name}" not in section.document.nodes:
        known = [
            key.partition(".")[2] for key in section.document.nodes if key.startswith("lists.") and key.count(".") == 1
        ]
        section.report("list", f"a list: {', '.join(known) or 'there are none'}", f"{name!r}")


def control(section: SectionValues) -> None:
    """Checks that the status socket can be made beside the control socket."""
    if section.has("socket"):
        path: Path = section.values["socket"]
        if path.name == STATUS_SOCKET:
            section.report("socket", f"another name: {STATUS_SOCKET} is the socket for every user")
        elif len(os.fsencode(path.with_name(STATUS_SOCKET))) > UNIX_PATH:
            section.report("socket", f"a folder in which {STATUS_SOCKET} is a path of at most {UNIX_PATH} bytes")


def feed(section: SectionValues) -> None:
    """Checks that a feed without TLS listens on loopback addresses only."""
    if section.has("listen", "tls") and section.values["tls"] is None:
        outside = [str(address) for address in section.values["listen"] if not address.is_loopback]
        if outside:
            section.report("tls", f"cert and key, since {outside[0]} is not loopback")


def configuration(section: SectionValues) -> None:
    """Checks the files that the configuration names, and that no two listeners have the same address."""
    files.check_access(section)
    taken: list[tuple[str, Address]] = []
    for name in ("feed", "dns", "ops"):
        for address in dict.fromkeys(section.document.sections.get(name, {}).get("listen", ())):
            for where, other in taken:
                if address.clashes(other):
                    key = f"{name}.listen"
                    section.report(key, f"another address than {other} of {where}", str(address))
            taken.append((f"{name}.listen", address))
