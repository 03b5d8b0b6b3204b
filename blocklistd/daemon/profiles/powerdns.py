"""The configuration for PowerDNS Recursor: Lua before version 5.1, YAML settings from there on.

Before 5.1 the recursor ignores NOTIFY and polls every `soa.refresh`.
"""

from __future__ import annotations

from typing import Final

from blocklistd.config import ZoneSettings
from blocklistd.daemon.profiles.request import CENSORED, PORT, ConfigRequest, blocked_by, blocks

_LUA: Final = """\
rpzPrimary("{address}", "{zone}", {{
{key}  refresh = {refresh},
  axfrTimeout = 600,
{error}  seedFile = "/var/lib/pdns-recursor/{zone}.zone",  -- keeps blocking after a restart
  dumpFile = "/var/lib/pdns-recursor/{zone}.zone"
}})
"""

_LUA_KEY: Final = '  tsigname = "{name}", tsigalgo = "{algorithm}", tsigsecret = "{secret}",\n'
_LUA_ERROR: Final = '  extendedErrorCode = {code}, extendedErrorExtra = "{text}",\n'

_YAML: Final = """\
incoming:
  allow_notify_from: ["{host}"]
  allow_notify_for: [{names}]
recursor:
  rpzs:
"""

_YAML_ZONE: Final = """\
    - name: {zone}
      addresses: ["{address}"]
{key}      refresh: {refresh}
      axfrTimeout: 600
{error}      seedFile: /var/lib/pdns-recursor/{zone}.zone  # keeps blocking after a restart
      dumpFile: /var/lib/pdns-recursor/{zone}.zone
"""

_YAML_KEY: Final = """\
      tsig:
        name: {name}
        algo: {algorithm}
        secret: {secret}
"""

_YAML_ERROR: Final = """\
      extendedErrorCode: {code}
      extendedErrorExtra: {text}
"""


def text(request: ConfigRequest) -> str:
    """A policy for each zone. In YAML also whose NOTIFY is taken, and for which zones."""
    if request.software.in_lua:
        return "".join(_zone(request, zone, _LUA, _LUA_KEY, _LUA_ERROR) for zone in request.zones)
    names = ", ".join(zone.name for zone in request.zones)
    policies = (_zone(request, zone, _YAML_ZONE, _YAML_KEY, _YAML_ERROR) for zone in request.zones)
    return _YAML.format(host=request.primary.host, names=names) + "".join(policies)


def _zone(request: ConfigRequest, zone: ZoneSettings, policy: str, key: str, error: str) -> str:
    primary = request.primary
    return policy.format(
        zone=zone.name,
        address=primary.host if primary.port == PORT else str(primary),
        key=key.format(**request.tsig) if request.tsig else "",
        refresh=int(zone.soa.refresh.total_seconds()),
        error=error.format(code=CENSORED, text=blocked_by(zone.name)) if blocks(zone) else "",
    )
