"""Makes docs/metrics.md from the tables of metrics and log events.

`python -m blocklistd.ops.reference > docs/metrics.md` (`make docs`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

from blocklistd.events import Event
from blocklistd.ops.metric_table import MetricName
from blocklistd.telemetry import ALARMS

METRICS = """\
# Metrics and log events

Made by `make docs` from the program's own tables. Names, labels and fields never change: alerts and programs may rely
on them. No label and no field contains anything of an entry.

## Metrics

The ops listener serves them at `/metrics`. A gauge is read at the scrape. When a reload removes a source, a list or a
zone, its series disappear, so that they raise no alert. While the database can't be read, the gauges of sources,
candidates, withheld entries and secondaries keep their last values, and `metrics_stale` is logged.
`config/prometheus/` has a scrape configuration and alert rules.

A histogram `X` has the series `X_bucket`, `X_count` and `X_sum`. `subject` is the id of a source, a list or a zone;
for the stage `database` it is `wait` or `write`.

| metric | type | labels | unit | meaning |
|---|---|---|---|---|
"""

PROCESS = """\

The Prometheus client adds `process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_cpu_seconds_total`,
`process_open_fds`, `process_max_fds` and `process_start_time_seconds` of the serving process, without its jobs.
"""

KINDS = """\

## Kinds of alarms

The values of `alarm`, in `blocklistd_alarms_active` and in the events `alarm_raised` and `alarm_cleared`.

| alarm | meaning |
|---|---|
"""

EVENTS = """\

## Log events

With `ops.log.format: json` a record is one JSON object with `time`, `level`, `logger`, `event`, `message`, and each
field of the event that has a value; `traceback` is that of an unexpected error. The other formats print the message
only. A record of a library has no `event`. In the messages below, a field is in braces, and a part in square
brackets is omitted where its field has no value. The field `reason` is a text for people; `error` is the class of an
unexpected error.

| event | level | message with its fields | meaning, and what to do |
|---|---|---|---|
"""


def document() -> str:
    """The text of docs/metrics.md."""
    return "".join([METRICS, *_metrics(), PROCESS, KINDS, *_alarms(), EVENTS, *_events()])


def _metrics() -> Iterator[str]:
    for metric in MetricName:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield _row(f"`{metric.exported}`", metric.kind, labels, metric.unit, f"{metric.meaning}.")


def _alarms() -> Iterator[str]:
    for kind, meaning in ALARMS.items():
        yield _row(f"`{kind}`", f"{meaning[0].upper()}{meaning[1:]}.")


def _events() -> Iterator[str]:
    for event in Event:
        level = logging.getLevelName(event.level).lower()
        hidden = f" (and {', '.join(f'`{name}`' for name in event.hidden)})" if event.hidden else ""
        yield _row(
            f"`{event.event_name}`", level, re.sub(r"{(\w+):[^{}]*}", r"{\1}", event.message) + hidden, event.meaning
        )


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


if __name__ == "__main__":
    print(document(), end="")
