"""The publisher's own names, from the configuration."""

from __future__ import annotations

from pathlib import Path

from blocklistd.config.own_names import configured_names
from tests.unit.configuring import VALID, read


def test_names_of_the_feed_the_zones_the_sources_and_the_webhook(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        VALID
        + "  public_url: https://feed.publisher.example\n"
        + "zones:\n"
        + "  rpz.publisher.example:\n"
        + "    list: national\n"
        + "    action: {cname: stop.isp.example}\n"
        + "    soa: {mname: ns1.publisher.example}\n"
        + "    ns: [ns1.publisher.example, NS2.publisher.example]\n"
        + "alarms: {webhook: {url: https://alerts.example/hook}}\n",
    )
    publisher = {f"{label}.publisher.example" for label in ("feed", "rpz", "ns1", "ns2")}
    assert configured_names(found) == publisher | {"stop.isp.example", "hotline.example", "alerts.example"}


def test_addresses_and_localhost_are_no_names_of_ours(tmp_path: Path) -> None:
    text = VALID.replace("https://hotline.example/urls.txt", "http://127.0.0.1:8000/urls.txt")
    assert configured_names(read(tmp_path, text + "zones: {rpz.test: {list: national}}\n")) == {"rpz.test"}
