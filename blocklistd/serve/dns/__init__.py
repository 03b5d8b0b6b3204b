"""The DNS server of the RPZ zones: SOA queries, AXFR and IXFR, TSIG, NOTIFY."""
