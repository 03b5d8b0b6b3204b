"""What the DNS server has counted, as Prometheus wants it: asked for at a scrape, so that a question costs nothing."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from blocklistd.serve.dns.server import DnsServer


class DnsCollector(Collector):
    """The counters of one server."""

    def __init__(self, dns: DnsServer) -> None:
        self._dns = dns

    def collect(self) -> Iterable[Metric]:
        """See docs/operator.md for the names."""
        dns = self._dns
        answers = CounterMetricFamily(
            "blocklistd_dns_answers", "Messages answered, transfers apart", labels=["transport", "asked", "rcode"]
        )
        for (transport, asked, rcode), count in dns.answered.copy().items():
            answers.add_metric([transport, asked, str(rcode)], count)
        transfers = CounterMetricFamily("blocklistd_dns_transfers", "Transfers sent to their end", labels=["kind"])
        under_way = GaugeMetricFamily("blocklistd_dns_transferring", "Transfers under way", labels=["kind"])
        for kind in ("AXFR", "IXFR"):
            transfers.add_metric([kind], dns.transfers[kind])
            under_way.add_metric([kind], dns.under_way[kind])
        notifies = CounterMetricFamily("blocklistd_dns_notifies", "NOTIFYs by what became of them", labels=["state"])
        for state in ("sent", "acknowledged", "given up"):
            notifies.add_metric([state.replace(" ", "_")], dns.told[state])
        return [
            answers,
            transfers,
            notifies,
            CounterMetricFamily("blocklistd_dns_transferred_bytes", "Bytes of transfers", value=dns.sent_bytes),
            under_way,
        ]
