"""What one key alone can't tell: the checks between the keys of a section, and from one section to another.

Each runs while its section is read, sees what could be read of it (the rest is reported already), and relies on the
order of the contract: keys and sources come before lists.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blocklistd.config import files
from blocklistd.config.net import Address, source_url
from blocklistd.config.page import Wrong
from blocklistd.config.reader import Part, either
from blocklistd.config.values import UNIX_PATH, written
from blocklistd.errors import VerifyError
from blocklistd.kinds import DIGITS
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.format import Format
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.transports import TRANSPORTS
from blocklistd.sources.transports.transport import Transport, scheme_of

if TYPE_CHECKING:
    from blocklistd.config import Verify
    from blocklistd.config.sources import SourceOptions

STATUS_SOCKET: Final = "status.sock"


def verify(part: Part) -> None:
    """A method and what belongs to it."""
    method = part.values.get("method")
    if method is None:
        return
    proof = PROOFS[method]
    signed = proof.needs_signature
    for name, known in (("key", proof.key is not None), ("signature", signed), ("max_future", signed)):
        if not known and part.written(name):
            part.report(name, f"no such key with the method `{method}`")
    if proof.key is None or not part.has("key"):
        return
    path = part.values["key"]
    if path is None:
        part.report("key", proof.key)
        return
    try:
        if path.is_file():
            proof.read_key(path.read_bytes())
    except OSError:  # we may not read it; files.look_at checks whether the daemon may
        pass
    except VerifyError:
        part.tolerate("key", proof.key, f"{path}, which is none")


def source(part: Part) -> None:
    """The format and where its values and types come from; the URL of the signature."""
    values = part.values
    form = FORMATS.get(values.get("format", ""))
    if form is not None and not form.says_types and part.has("defaults") and not part.written("defaults.type"):
        part.report("defaults.type", f"the type of the entries: the format {values['format']} does not say it")
    if form is not None and form.value and part.has("fields") and not part.written("fields.value"):
        part.report("fields.value", form.value)
    if form is not None and form.field is not None:
        for name, field in values.get("fields", {}).items():
            if not form.field.fullmatch(field):
                part.report(f"fields.{name}", form.field_expected)
    if form is not None and part.has("options"):
        _options(part, form, values["options"])
    transport = TRANSPORTS[scheme_of(values["url"])] if part.has("url") else None
    if transport is not None and not transport.has_folders and part.written("pattern"):
        part.report("pattern", "no such key: the URL names no drop folder")
    files.authority(part)
    if part.has("url", "verify"):
        _origin(part, TRANSPORTS[scheme_of(values["url"])], values["verify"])


def _options(part: Part, form: Format, options: SourceOptions) -> None:
    """Reports options that the format does not have, and fields that name none of `options.columns`."""
    for name in ("delimiter", "columns", "comment", "wildcards"):
        if name not in form.options and part.written(f"options.{name}"):
            known = either(sorted(form.options)) if form.options else "none"
            part.report(f"options.{name}", f"an option of the format {part.values['format']}: {known}")
    if options.columns:
        for name, column in part.values.get("fields", {}).items():
            if column not in options.columns:
                part.report(f"fields.{name}", f"one of options.columns: {', '.join(options.columns)}", repr(column))
    if options.wildcards == "domain" and part.values.get("defaults", {}).get("type") in DIGITS:
        part.report("options.wildcards", "`refuse`: a hash has no wildcards")


def _origin(part: Part, transport: Transport, verify: Verify) -> None:
    """A proof may need TLS with a pinned authority, or a URL from which a signature can be fetched."""
    proof = PROOFS[verify.method]
    if proof.needs_pinned_tls and not transport.uses_tls:
        part.report("verify.method", f"another method: `{verify.method}` needs a URL over TLS")
    elif proof.needs_pinned_tls and not part.written("ca") and not part.written("auth.client_cert"):
        part.report("verify.method", f"`ca` or `auth.client_cert` beside it: `{verify.method}` needs one of them")
    if proof.needs_signature:
        try:
            where = source_url(verify.signature.replace("{url}", part.values["url"]))
        except Wrong:
            where = ""
        if not where or not TRANSPORTS[scheme_of(where)].fetches_signatures:
            part.report("verify.signature", "a URL, or {url} and an ending")


def block_list(part: Part) -> None:
    """Its sources exist, and its metadata lives at least as long as what is signed more often."""
    page = part.page
    for name, line in part.items("sources"):
        if name in part.values.get("sources", ()) and f"sources.{name}" not in page.spots:
            known = [key.partition(".")[2] for key in page.spots if key.startswith("sources.") and key.count(".") == 1]
            part.report("sources", f"a source: {', '.join(known) or 'there are none'}", f"{name!r}", line)
    expires, timestamp = part.values.get("expires"), page.parts.get("keys", {}).get("timestamp_expires")
    if isinstance(expires, timedelta) and isinstance(timestamp, timedelta) and timestamp > expires:
        if "keys.timestamp_expires" in page.spots:
            name = part.key.partition(".")[2]
            page.report("keys.timestamp_expires", f"at most {written(expires)}, the `expires` of the list {name}")
        else:
            part.report("expires", f"at least {written(timestamp)}, the default of keys.timestamp_expires")


def zone(part: Part) -> None:
    """Its list exists."""
    name = part.values.get("list")
    if name is not None and f"lists.{name}" not in part.page.spots:
        known = [key.partition(".")[2] for key in part.page.spots if key.startswith("lists.") and key.count(".") == 1]
        part.report("list", f"a list: {', '.join(known) or 'there are none'}", f"{name!r}")


def control(part: Part) -> None:
    """Reports a control socket beside which the status socket can't be made."""
    if part.has("socket"):
        path: Path = part.values["socket"]
        if path.name == STATUS_SOCKET:
            part.report("socket", f"another name: {STATUS_SOCKET} beside it is everybody's")
        elif len(os.fsencode(path.with_name(STATUS_SOCKET))) > UNIX_PATH:
            part.report("socket", f"a folder in which {STATUS_SOCKET} is a path of at most {UNIX_PATH} bytes")


def feed(part: Part) -> None:
    """Plain HTTP stays on this machine."""
    if part.has("listen", "tls") and part.values["tls"] is None:
        outside = [str(address) for address in part.values["listen"] if not address.is_loopback]
        if outside:
            part.report("tls", f"cert and key, since {outside[0]} is not loopback")


def document(part: Part) -> None:
    """Reports listeners that share an address, and problems of the files that the configuration names."""
    files.look_at(part)
    taken: list[tuple[str, Address]] = []
    for section in ("feed", "dns", "ops"):
        for address in dict.fromkeys(part.page.parts.get(section, {}).get("listen", ())):
            for where, other in taken:
                if address.clashes(other):
                    key = f"{section}.listen"
                    part.report(key, f"another address than {other} of {where}", str(address))
            taken.append((f"{section}.listen", address))
