"""Checks that involve several keys or sections.

A check runs at the end of its section, and gets the values that are valid; problems of the others are already reported.
Sections are read in the order of the fields of Config: `keys` and `sources` before `lists`, `lists` before `zones`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blocklistd.config import files
from blocklistd.config.document import ConfigNode, InvalidValue, label, shorten
from blocklistd.config.names import shard_name
from blocklistd.config.net import Address, source_url
from blocklistd.config.reader import SectionValues, alternatives
from blocklistd.config.secrets import Secret, secret
from blocklistd.config.values import UNIX_PATH, format_duration
from blocklistd.errors import ConfigError, VerifyError
from blocklistd.kinds import DIGITS
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.format import Format
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.proofs.openpgp_decrypt import read_secret
from blocklistd.sources.proofs.proof import Proof
from blocklistd.sources.transports import TRANSPORTS
from blocklistd.sources.transports.transport import TransferMode, Transport, scheme_of
from blocklistd.sources.transports.yearly import has_years
from blocklistd.times import utc_now

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
    paths = section.values["key"]
    if not paths:
        section.report("key", proof.key)
    elif len(paths) > 1 and not proof.several_keys:
        section.report("key", f"one file with the method `{method}`")
    for path in paths:
        _public_key(section, proof, path)


def _public_key(section: SectionValues, proof: Proof, path: Path) -> None:
    try:
        if path.is_file():
            why = proof.key_warning(proof.read_key(path.read_bytes()), utc_now())
            if why:
                section.document.warn(section.dotted("key"), "a key that is valid now", f"{path}: {why}")
    except OSError:  # this process may not read it; files.check_access checks whether the daemon may
        pass
    except VerifyError:
        section.report_nonfatal("key", proof.key or "", f"{path}, which is not one")


def decryption_key(node: ConfigNode) -> Secret:
    """Reads the secret key of `decrypt`, and checks that a key in a file can be used."""
    made = secret.convert(node)
    if made.kind == "file" and node.document.check_files:
        try:
            read_secret(Path(made.name).read_bytes())
        except OSError:  # other checks report that
            pass
        except VerifyError as error:
            expected = "an OpenPGP secret key without a passphrase"
            node.document.report_nonfatal(node.key, expected, f"{made.name}, which {error}", node.line)
    return made


def source(section: SectionValues) -> None:
    """Checks that a source's fields, defaults, options, pattern and verification fit its format and its URL."""
    values = section.values
    transport = TRANSPORTS[scheme_of(values["url"])] if section.has("url") else None
    form = _format(section)
    if form is not None and not form.has_types and section.has("defaults") and not section.is_written("defaults.type"):
        section.report("defaults.type", f"the type of the entries: the format {values['format']} does not contain it")
    for name in ("fields", "defaults.type") if form is not None and form.always_has_types else ():
        if section.is_written(name):
            section.report(name, "no such key: the format itself says what a record is")
    if form is not None and form.value and section.has("fields") and not section.is_written("fields.value"):
        section.report("fields.value", form.value)
    if form is not None and form.field is not None:
        for name, field in values.get("fields", {}).items():
            if not form.field.fullmatch(field):
                section.report(f"fields.{name}", form.field_expected, repr(shorten(field)))
    if form is not None and section.has("fields"):
        for name in form.fields:
            if not section.is_written(f"fields.{name}"):
                section.report(f"fields.{name}", f"its place in a record, which the format {values['format']} needs")
        if "action" not in form.fields and section.is_written("fields.action"):
            section.report("fields.action", f"no such key with the format {values['format']}")
    if form is not None and section.has("options"):
        _options(section, form, values["options"])
    if transport is not None and not transport.has_folders and section.is_written("pattern"):
        section.report("pattern", "no such key: the URL names no drop folder")
    if transport is not None and not transport.takes_receipts and section.is_written("receipts"):
        section.report("receipts", "no such key: only the feed of another blocklistd takes receipts")
    files.check_authority(section)
    if transport is not None and section.has("auth"):
        _auth(section, transport)
    if section.has("url", "verify"):
        _origin(section, TRANSPORTS[scheme_of(values["url"])], values["verify"])
    if form is not None and section.has("url", "verify"):
        _transfer(section, form, TRANSPORTS[scheme_of(values["url"])], PROOFS[values["verify"].method])


def _format(section: SectionValues) -> Format | None:
    """The format of the source; None if it is unknown, or if the transport implies one that has no settings. Reports
    that it is missing, that it is not the one which the URL implies, and keys that have no meaning beside that one.
    The scheme of the URL is enough, even if the rest of it is wrong."""
    scheme, found = scheme_of(section.text("url")), section.values.get("format")
    implied = TRANSPORTS[scheme].format if scheme in TRANSPORTS else None
    if implied is None:
        if not section.is_written("format"):
            section.report("format", alternatives(name for name, form in FORMATS.items() if not form.is_implied))
        return FORMATS.get(found or "")
    if FORMATS[implied].is_implied:
        for name in ("format", "fields", "defaults", "options"):
            if section.is_written(name):
                section.report(name, f"no such key: a {scheme}: URL has types and attributes of its own")
        return None
    if found not in (None, implied):
        if section.has("url"):
            section.report("format", f"`{implied}`, as the URL implies, or no such key")
        return None
    return FORMATS[implied]


def _auth(section: SectionValues, transport: Transport) -> None:
    """Checks that the credential is one that the transport can use."""
    for name in ("bearer", "basic", "client_cert", "tsig"):
        if section.is_written(f"auth.{name}") and (name == "tsig") is not transport.uses_tsig:
            expected = "a URL with `axfr:` beside it" if name == "tsig" else "`auth.tsig`: the URL is a zone transfer"
            section.report(f"auth.{name}", expected)


def tsig(section: SectionValues) -> None:
    """Checks that the secret of a TSIG key is in base64, if this process may read it."""
    if not section.has("secret") or not section.document.check_files or section.values["secret"].kind != "file":
        return
    secret = section.values["secret"]
    with suppress(ConfigError):  # its reader, or files.check_access, has reported that it can't be read
        secret.read()
        try:
            secret.read_base64()
        except ConfigError as error:
            section.report_nonfatal("secret", error.problems[0].expected, error.problems[0].found)


def _options(section: SectionValues, form: Format, options: SourceOptions) -> None:
    """Reports options that the format does not have, and fields that name none of `options.columns`."""
    names = ("delimiter", "columns", "comment", "head", "wildcards", "timezone", "records", "where", "unless")
    for name in (*names, "add", "remove"):
        if name not in form.options and section.is_written(f"options.{name}"):
            known = alternatives(sorted(form.options)) if form.options else "none"
            format = next(name for name, found in FORMATS.items() if found is form)
            section.report(f"options.{name}", f"an option of the format {format}: {known}")
    if form.place is not None and not form.place.fullmatch(options.records):
        section.report(
            "options.records", form.place_expected, repr(shorten(options.records)) if options.records else ""
        )
    places = {f"fields.{name}": field for name, field in section.values.get("fields", {}).items()}
    for option, conditions in (("where", options.where), ("unless", options.unless)):
        named = {f"options.{option}.{label(field)}": field for field in conditions} if option in form.options else {}
        places |= named
        for name, field in named.items():
            if form.field is not None and not form.field.fullmatch(field):
                section.report(name, f"as its key {form.field_expected}", repr(shorten(field)))
    if options.columns:
        for name, column in places.items():
            if column not in options.columns:
                section.report(name, f"one of options.columns: {', '.join(options.columns)}", repr(column))
    if options.add == options.remove:
        section.report("options.remove", "another word than `options.add`", repr(options.remove))
    if options.wildcards == "domain" and section.values.get("defaults", {}).get("type") in ("ip", *DIGITS):
        section.report("options.wildcards", "`refuse`: an address or a hash has no wildcards")


def _origin(section: SectionValues, transport: Transport, verify: VerifySettings) -> None:
    """Checks that the URL fits the verification: TLS with a pinned authority, or a place for the signature."""
    proof = PROOFS[verify.method]
    if transport.proof not in (None, verify.method):
        section.report("verify.method", f"`{transport.proof}`, the only method for such a URL")
    elif proof.needs_feed and transport.proof != verify.method:
        section.report("verify.method", f"another method: `{verify.method}` needs a URL with `tuf+https:`")
    if proof.needs_pinned_tls and not transport.uses_tls:
        section.report("verify.method", f"another method: `{verify.method}` needs a URL over TLS")
    elif proof.needs_pinned_tls and not section.is_written("ca") and not section.is_written("auth.client_cert"):
        section.report("verify.method", f"`ca` or `auth.client_cert` beside it: `{verify.method}` needs one of them")
    if proof.needs_tsig and not (transport.uses_tsig and section.is_written("auth.tsig")):
        section.report("verify.method", f"`auth.tsig` and an `axfr:` URL beside it: `{verify.method}` needs both")
    if verify.template is not None:
        try:
            where = source_url(verify.template.replace("{url}", section.values["url"]))
        except InvalidValue:
            where = ""
        if not where or not TRANSPORTS[scheme_of(where)].fetches_signatures:
            inline = ", or `inline` if the body itself is signed" if proof.may_be_inline else ""
            section.report("verify.signature", f"a URL, or {{url}} and an ending{inline}")


def _transfer(section: SectionValues, form: Format, transport: Transport, proof: Proof) -> None:
    """Checks that the list can be transferred as its format needs it."""
    name, url = section.values["format"], section.values["url"]
    if has_years(url):
        host = url.partition("://")[2].partition("/")[0] if transport.uses_tls or transport.note else ""
        if form.transfer is not TransferMode.LOG or TransferMode.LOG not in transport.transfers:
            section.report("url", "a URL without {year}, which stands for a year in the format action-log only")
        elif proof.is_of_body:
            section.report(
                "url", f"a URL without {{year}}: with the method `{section.values['verify'].method}` one file"
            )
        elif section.is_written("decrypt"):
            section.report("url", "a URL without {year}: an encrypted list is one file")
        elif has_years(host):
            section.report("url", "{year} in the path only")
    if form.transfer is not TransferMode.PAGES:
        return
    if TransferMode.PAGES not in transport.transfers:
        section.report("url", f"an https: URL, which the format {name} needs")
    if proof.is_of_body:
        section.report("verify.method", f"pinned-tls or none: no signature belongs to all pages of the format {name}")
    if section.is_written("decrypt"):
        section.report("decrypt", f"no such key: the pages of the format {name} are read as they arrive")
    if section.is_written("auth.client_cert"):
        expected = f"`bearer` or `basic`: the process that follows the links of the format {name} gets no private key"
        section.report("auth.client_cert", expected)


def lifetime(section: SectionValues) -> None:
    """Checks that `at_end: expire` has a term that ends."""
    values = section.values
    has_none = section.has("reverify", "max_life") and not (values["reverify"] or values["max_life"])
    if has_none and values.get("at_end") == "expire":
        section.report("at_end", "`review`, or a duration in `reverify` or `max_life`: nothing would ever end")


def block_list(section: SectionValues) -> None:
    """Checks that a list's sources exist, that its quorum can be met, and that its metadata does not expire before the
    timestamp role does."""
    document = section.document
    if section.has("quorum", "sources") and section.values["quorum"] > len(section.values["sources"]):
        count = len(section.values["sources"])
        section.report("quorum", f"at most {count}, the number of its sources: no entry could be live")
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


def configuration(section: SectionValues) -> None:
    """Checks the files that the configuration names, that lists have enough reviewers, and that no two listeners have
    the same address."""
    files.check_access(section)
    _reviewers(section)
    _zone_names(section)
    taken: list[tuple[str, Address]] = []
    for name in ("feed", "dns", "dns.tls", "ops"):
        for address in dict.fromkeys(section.document.sections.get(name, {}).get("listen", ())):
            for where, other in taken:
                if address.clashes(other):
                    key = f"{name}.listen"
                    section.report(key, f"another address than {other} of {where}", str(address))
            taken.append((f"{name}.listen", address))


def _zone_names(section: SectionValues) -> None:
    """Checks that neither a zone nor the catalog has the name of another zone or of its shard."""
    sections = section.document.sections.items()
    zones = {key: values for key, values in sections if key.startswith("zones.") and "name" in values}
    catalog = section.document.sections.get("dns", {}).get("catalog")
    names = [values["name"] for values in zones.values()]
    if catalog in names:
        section.document.report("dns.catalog", "another name: a zone has it")
    names.append(catalog)
    for key, values in zones.items():
        shards = values.get("shards", 1)
        for shard in range(shards if shards > 1 else 0):
            other = shard_name(values["name"], shard)
            if other in names:
                section.document.report(
                    f"{key}.shards", f"another name for the zone {other}: a shard of this one has it"
                )


def _reviewers(section: SectionValues) -> None:
    """Warns of a list whose versions need more reviewers than there are."""
    sections = section.document.sections
    operators = sections.get("control", {}).get("operators", {})
    reviewers = sum(bool({"reviewer", "admin"} & set(roles)) for roles in operators.values())
    for key, values in sections.items():
        if key.startswith("lists.") and values.get("release") == "two-person" and reviewers < 2:
            expected = "at least two users with the role reviewer or admin in control.operators: both approve a version"
            section.document.warn(f"{key}.release", expected, str(reviewers))
