"""Growth of cost: the figures of the other benches at 10,000 to 10,000,000 entries, as a table and a plot for docs/.

`make scaling` writes docs/scaling.md's table and docs/scaling.svg; it takes half an hour and 20 GB of disk.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import bodies, lists, memory, start
from bench.compare import Sample
from bench.zones import Client, Ours, serial_visible

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
DOCS = Path(__file__).parents[1] / "docs"
COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#444444", "#17a2a2")


def figures(size: int) -> Iterator[tuple[str, float]]:
    """(name of the figure, seconds or MiB) at `size` entries; of several rounds the best."""
    rounds = 3 if size < 10_000_000 else 2
    for kind, made in (("url", bodies.urls), ("sha256", bodies.sha256)):
        for found in lists.measure(kind, made, size, rounds, first_rounds=1):
            if found.served is not None and found.shell is not None:
                yield f"{kind}: {found.kind}, served", found.served.best
                yield f"{kind}: {found.kind}", found.sample.best
                yield f"{kind}: {found.kind}, shell", found.shell.best
    yield from _zone(size)
    yield "start to READY", start.measure(size, 2).best
    yield "private memory, MiB", memory.with_a_list(size)


def _zone(size: int) -> Iterator[tuple[str, float]]:
    with tempfile.TemporaryDirectory(prefix="bench-scaling-") as name:
        folder = Path(name)
        client, ours = Client(folder), Ours(folder)
        names = bodies.domains(size)
        ours.start(names)
        try:
            records = ours.records
            yield "AXFR, plain", Sample(tuple(client.transfer(ours.port, records, None) for _ in range(5))).best
            yield "AXFR, TSIG", Sample(tuple(client.transfer(ours.port, records, ours.key) for _ in range(5))).best
            yield "0.1 % churn to serial", serial_visible(ours, names, 3).best
        finally:
            ours.daemon.stop()


def slope(values: list[float]) -> str:
    """The exponent of growth between the last two sizes: 1 is linear growth, 0 none."""
    return f"{math.log10(values[-1] / values[-2]):.2f}" if len(values) > 1 and values[-2] else "–"


def table(found: dict[str, dict[int, float]], sizes: tuple[int, ...]) -> str:
    """The figures as a Markdown table."""
    head = " | ".join(f"{size:,}" for size in sizes)
    lines = [f"| seconds, if the row names no unit | {head} | exponent |", "|---" * (len(sizes) + 2) + "|"]
    for what, at in found.items():
        cells = " | ".join(f"{at[size]:.3g}" for size in sizes)
        lines.append(f"| {what} | {cells} | {slope([at[size] for size in sizes])} |")
    return "\n".join(lines)


def plot(found: dict[str, dict[int, float]], sizes: tuple[int, ...]) -> str:
    """The figures as an SVG with two logarithmic axes: linear growth is a line at 45 degrees."""
    width, height, left, bottom = 760, 460, 60, 40
    shown = {what: at for what, at in found.items() if "MiB" not in what}
    values = [value for at in shown.values() for value in at.values()]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])

    def x(size: int) -> float:
        return left + (math.log10(size) - first) / max(last - first, 1) * (width - left - 230)

    def y(value: float) -> float:
        return 20 + (high - math.log10(value)) / (high - low) * (height - bottom - 20)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">']
    parts.append(f'<rect width="{width}" height="{height}" fill="#ffffff"/>')
    for decade in range(low, high + 1):
        line = y(10**decade)
        parts.append(f'<path d="M{left} {line:.1f}H{x(sizes[-1]):.1f}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{left - 8}" y="{line + 4:.1f}" font-size="11" text-anchor="end">{10**decade:g} s</text>'
        )
    for size in sizes:
        parts.append(f'<path d="M{x(size):.1f} 20V{height - bottom}" stroke="#ddd"/>')
        label = (
            f'<text x="{x(size):.1f}" y="{height - bottom + 18}" font-size="11" text-anchor="middle">{size:,}</text>'
        )
        parts.append(label)
    labels = sorted(shown, key=lambda what: shown[what][sizes[-1]], reverse=True)
    for rank, what in enumerate(labels):
        at = shown[what]
        dash = ' stroke-dasharray="4 3"' if what.endswith("shell") else ""
        colour = COLOURS[rank % len(COLOURS)]
        points = " ".join(f"{x(size):.1f},{y(at[size]):.1f}" for size in sizes)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        row = 30 + rank * 22
        parts.append(f'<path d="M{width - 215} {row - 4}h22" stroke="{colour}" stroke-width="2"{dash}/>')
        parts.append(f'<text x="{width - 188}" y="{row}" font-size="12">{what}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    """Measures, and writes the table into docs/scaling.md and the plot to docs/scaling.svg."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=lambda text: tuple(map(int, text.split(","))), default=SIZES)
    sizes: tuple[int, ...] = parser.parse_args().sizes
    found: dict[str, dict[int, float]] = {}
    for count, size in enumerate(sizes, 1):
        for what, value in figures(size):
            found.setdefault(what, {})[size] = value
            print(f"{size:>10,}  {what:28} {value:.4g}", flush=True)
        _write(found, sizes[:count])
    return 0


def _write(found: dict[str, dict[int, float]], sizes: tuple[int, ...]) -> None:
    document = DOCS / "scaling.md"
    text = document.read_text()
    begin, end = "<!-- table -->\n", "\n<!-- /table -->"
    before, rest = text.split(begin)
    document.write_text(f"{before}{begin}{table(found, sizes)}{end}{rest.split(end)[1]}")
    (DOCS / "scaling.svg").write_text(plot(found, sizes))


if __name__ == "__main__":
    sys.exit(main())
