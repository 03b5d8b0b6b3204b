"""The collector of the DNS server's own counters: reads them at a scrape, so that a query costs no metric."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from blocklistd.ops.metric_table import MetricName
from blocklistd.serve.dns.server import DnsServer


class DnsCollector(Collector):
    """The counters of one DNS server."""

    def __init__(self, dns: DnsServer) -> None:
        self._dns = dns

    def collect(self) -> Iterable[Metric]:
        dns = self._dns
        responses = MetricName.DNS_RESPONSES.counter_family()
        for (transport, query_type, rcode), count in dns.answered.copy().items():
            responses.add_metric([transport, query_type, str(rcode)], count)
        transfers = MetricName.DNS_TRANSFERS.counter_family()
        in_progress = MetricName.DNS_TRANSFERS_IN_PROGRESS.gauge_family()
        for kind in ("AXFR", "IXFR"):
            transfers.add_metric([kind], dns.transfers.complete[kind])
            in_progress.add_metric([kind], dns.transfers.under_way[kind])
        notifies = MetricName.DNS_NOTIFIES.counter_family()
        for state in ("sent", "acknowledged", "given up"):
            notifies.add_metric([state.replace(" ", "_")], dns.notify.counts[state])
        sent = MetricName.DNS_TRANSFER_BYTES.counter_family()
        sent.add_metric([], dns.transfers.sent_bytes)
        return [responses, transfers, notifies, sent, in_progress]
