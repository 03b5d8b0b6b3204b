"""Converts the configuration into the plans of the pipeline's stages. No stage reads the configuration itself."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.metadata import version

from apscheduler.triggers.base import BaseTrigger

from blocklistd.compose.guard import DailyLimits
from blocklistd.compose.selection import Selection
from blocklistd.config import (
    Auth,
    Basic,
    Bearer,
    ClientCert,
    Config,
    ListSettings,
    Schedule,
    SourceSettings,
    Tsig,
    ZoneSettings,
    files,
)
from blocklistd.config.secrets import Secret
from blocklistd.daemon.profiles.versions import software_of
from blocklistd.errors import BlocklistError, ConfigError, ConfigProblem, VerifyError
from blocklistd.model import ListId, SourceId, Validators
from blocklistd.ops.scheduler import cron_of, interval_of
from blocklistd.pipeline.guard_names import ListNames
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.rpz.wire import Apex, wire_name
from blocklistd.serve.dns.tsig import Key
from blocklistd.serve.dns.zones import Peer
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.proofs.openpgp_decrypt import read_secret
from blocklistd.sources.transports import transport_of
from blocklistd.sources.transports.transport import Request, TransferMode
from blocklistd.store.evidence import Bound
from blocklistd.store.subscribers import Subscriber, endpoint, network
from blocklistd.store.zones import ZonePlan
from blocklistd.tls import load_certificate


def list_plans(
    config: Config, names: Mapping[ListId, ListNames], tried: SourceId | None = None
) -> dict[ListId, ListPlan]:
    """The plan of each list, with its `names`. Sources in quarantine are not part of it, except the source that is
    `tried`."""
    return {
        name: _list_plan(found, config, names.get(name, ListNames()), tried) for name, found in config.lists.items()
    }


def _list_plan(
    found: ListSettings,
    config: Config,
    names: ListNames,
    tried: SourceId | None = None,
) -> ListPlan:
    guards, sources = found.guards, config.sources
    zones = [zone for zone in config.zones.values() if zone.list == found.id and zone.categories]
    return ListPlan(
        id=found.id,
        sources=tuple(name for name in found.sources if name == tried or not sources[name].quarantine),
        types=found.types,
        allow_public_suffix=guards.allow_public_suffix,
        allow_ip=guards.allow_ip,
        max_added=guards.max_added,
        max_removed=guards.max_removed,
        daily=DailyLimits(guards.daily.max_added, guards.daily.max_removed) if guards.daily else None,
        min_change=guards.min_change,
        min_entries=guards.min_entries,
        max_rejected=guards.max_rejected,
        release=found.release,
        quorum=found.quorum,
        never_block=names.never_block,
        own_names=names.own_names,
        shared_hosts=names.shared_hosts,
        additions=names.additions,
        reverify=_seconds(found.lifetime.reverify),
        max_life=_seconds(found.lifetime.max_life),
        ends_by_age=found.lifetime.at_end == "expire",
        exceptions=names.exceptions,
        tests=found.test_entries,
        selections=tuple(Selection(zone.name, zone.categories) for zone in zones),
    )


def _seconds(term: timedelta | None) -> int | None:
    return None if term is None else int(term.total_seconds())


def zone_plans(config: Config) -> dict[str, ZonePlan]:
    """The plan of each zone that is served, by its name: of a zone with shards, of each shard."""
    plans = (_zone_plan(one, shard) for zone in config.zones.values() for shard, one in enumerate(zone.served))
    return {plan.name: plan for plan in plans}


def _zone_plan(found: ZoneSettings, shard: int) -> ZonePlan:
    soa = found.soa
    refresh, retry, expire = (int(time.total_seconds()) for time in (soa.refresh, soa.retry, soa.expire))
    apex = Apex(
        found.name,
        soa.mname,
        soa.rname,
        refresh,
        retry,
        expire,
        found.ttl,
        tuple(dict.fromkeys(found.ns)),
        found.zonemd,
    )
    suffixes = version("publicsuffixlist") if found.shards > 1 else ""
    plan = ZonePlan(found.name, found.list, found.categories, found.action, found.ttl, apex, found.serial_start)
    return replace(plan, shards=found.shards, shard=shard, suffixes=suffixes)


def peer(found: Subscriber) -> Peer:
    """The DNS peer of a subscriber: zones, TSIG keys, client certificates, unsigned networks, NOTIFY addresses. None of
    these for software that ignores NOTIFY: it would be repeated until it is given up."""
    takes_notify = software_of(found.software, unsigned=bool(found.addresses)).takes_notify
    return Peer(
        subscriber=found.id,
        zones=frozenset(map(wire_name, found.zones)),
        keys=tuple(
            Key(wire_name(key.name), key.algorithm, key.secret, key.expires.timestamp() if key.expires else None)
            for key in found.keys
        ),
        networks=tuple(map(network, found.addresses)),
        notify=tuple(map(endpoint, found.notify)) if takes_notify else (),
        certificates=found.certificates,
        without_alpn=found.sends_no_alpn,
    )


def source_plans(config: Config, *, starting: bool = False) -> dict[SourceId, SourcePlan]:
    """The plan of each source.

    Raises ConfigError with every secret that can't be read, and another BlocklistError or OSError for the first other
    file that can't be read. With `starting` it raises none of these: the plan of such a source has the reason as
    `unusable`, and its pulls fail with that reason.
    """
    made: dict[SourceId, SourcePlan] = {}
    problems: list[ConfigProblem] = []
    for name, found in config.sources.items():
        try:
            made[name] = _source_plan(found, config)
        except (BlocklistError, OSError) as error:
            if starting:
                made[name] = _source_plan(found, config, _reason(error))
            elif isinstance(error, ConfigError):
                problems += error.problems
            else:
                raise
    if problems:
        raise ConfigError(problems)
    return made


def _reason(error: BlocklistError | OSError) -> str:
    text = f"{error.filename or 'TLS'}: {error.strerror}" if isinstance(error, OSError) else str(error)
    return f"{text}; correct it, then run `blocklistd reload`"


def secret_key(found: Secret) -> str:
    """The secret key that decrypts the bodies of a source. Raises ConfigError."""
    try:
        return read_secret(found.read_bytes())
    except VerifyError as error:
        raise ConfigError(
            [ConfigProblem(found.file, found.line, found.key, f"a file which {error}", "an OpenPGP secret key")]
        ) from None


def _source_plan(found: SourceSettings, config: Config, unusable: str = "") -> SourcePlan:
    verify = found.verify
    keys = tuple(PROOFS[verify.method].read_key(key.read_bytes()) for key in (() if unusable else verify.key))
    return SourcePlan(
        id=found.id,
        unusable=unusable,
        request=_request(found, keys, usable=not unusable),
        format=found.body_format,
        fields=dict(found.fields),
        defaults=dict(found.defaults),
        options={
            "delimiter": found.options.delimiter,
            "columns": found.options.columns,
            "comment": found.options.comment,
            "head": found.options.head,
            "wildcards": found.options.wildcards == "domain",
            "timezone": found.options.timezone,
            "records": found.options.records,
            "where": dict(found.options.where),
            "unless": dict(found.options.unless),
            "add": found.options.add,
            "remove": found.options.remove,
        },
        proof=verify.method,
        keys=keys,
        lists=tuple(name for name, settings in config.lists.items() if found.id in settings.sources),
        quarantine=found.quarantine,
        evidence=evidence_bound(found),
        evidence_key=found.evidence.key.read_key() if found.evidence.key is not None and not unusable else None,
        max_future=verify.max_future,
        max_age=found.max_age,
        secret=None if found.decrypt is None or unusable else secret_key(found.decrypt),
        receipts=found.receipts or "",
    )


def evidence_bound(found: SourceSettings) -> Bound:
    """How long, and up to how many bytes, the bodies of a source are kept."""
    return Bound(found.evidence.keep, found.evidence.max_bytes)


def _request(
    found: SourceSettings, keys: Sequence[str] = (), *, usable: bool = True
) -> Callable[[Validators], Request]:
    headers, context, redirect_context = _authorization(found.auth if usable else None), None, None
    transport = transport_of(found.url)
    client_cert = _client_cert(found.auth) if usable and transport.in_own_process else None
    key = keys[0] if keys and transport.uses_key else None
    tsig = found.auth.key() if usable and isinstance(found.auth, Tsig) else None
    if usable and not transport.in_own_process and (transport.uses_tls or (found.signature or "").startswith("https:")):
        context = _tls(found)
        # redirects need the pinned authority too; a client certificate is sent to the origin of `url` only
        pinned = found.ca is not None or PROOFS[found.verify.method].needs_pinned_tls
        redirect_context = None if pinned else ssl.create_default_context()

    def request(validators: Validators) -> Request:
        return Request(
            url=found.location,
            signature=found.signature,
            timeout=found.timeout.total_seconds(),
            max_bytes=found.max_bytes,
            pattern=found.pattern,
            validators=validators,
            headers=headers,
            redirects=frozenset(found.redirects),
            ca=found.ca,
            ssl=context,
            redirect_ssl=redirect_context,
            client_cert=client_cert,
            key=key,
            tsig=tsig,
            transfer=_transfer(found),
        )

    return request


def _authorization(auth: Auth | None) -> dict[str, str]:
    match auth:
        case Bearer():
            return {"Authorization": f"Bearer {auth.token.read()}"}
        case Basic():
            pair = f"{auth.user}:{auth.password.read()}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        case _:
            return {}


def _tls(found: SourceSettings) -> ssl.SSLContext:
    """A TLS context with the pinned authority or the system's, and the client certificate if one is configured."""
    context = ssl.create_default_context(cafile=found.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if isinstance(found.auth, ClientCert):
        load_certificate(context, found.auth.cert, found.auth.key)
    return context


def _transfer(found: SourceSettings) -> TransferMode:
    """How the list of a source is transferred. A list that is signed or encrypted as one file is fetched as one."""
    is_of_body = PROOFS[found.verify.method].is_of_body or found.decrypt is not None
    return TransferMode.BODY if is_of_body else FORMATS[found.body_format].transfer


def _client_cert(auth: Auth | None) -> bytes | None:
    """The client certificate and its key, in PEM, for a transport that makes its own TLS context. Raises SigningError
    if they don't match."""
    if not isinstance(auth, ClientCert):
        return None
    load_certificate(ssl.create_default_context(), auth.cert, auth.key)
    path = auth.key.path
    key = path.read_bytes() if path is not None else auth.key.read().encode()
    return auth.cert.read_bytes() + b"\n" + key


def certificate_expiries(config: Config) -> dict[str, datetime]:
    """Expiry of each certificate in use, by the key that names its file. A chain expires with its first certificate; a
    source's pinned authorities with the last one."""
    chains, found = {}, {}
    for section, tls in (("feed", config.feed.tls), ("dns", config.dns.tls if config.dns is not None else None)):
        if tls is not None:
            chains[f"{section}.tls.cert"] = tls.cert
            if tls.client_ca is not None and (authorities := files.validity_periods(tls.client_ca)):
                found[f"{section}.tls.client_ca"] = max(ends for _, ends in authorities)
    for name, source in config.sources.items():
        if isinstance(source.auth, ClientCert):
            chains[f"sources.{name}.auth.client_cert.cert"] = source.auth.cert
        if source.ca is not None and (pinned := files.validity_periods(source.ca)):
            found[f"sources.{name}.ca"] = max(ends for _, ends in pinned)
    for key, path in chains.items():
        if chain := files.validity_periods(path):
            found[key] = min(ends for _, ends in chain)
    return found


def pull_trigger(found: SourceSettings) -> BaseTrigger:
    """The scheduler's trigger for the pulls of a source."""
    match found.schedule:
        case Schedule(every=timedelta() as every):
            return interval_of(every)
        case Schedule(cron=str(line)):
            return cron_of(line)
    raise AssertionError("a schedule is one of the two")
