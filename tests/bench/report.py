"""Samples go in; a table of medians and ratios, or one JSON document, comes out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict

from .measure import Sample
from .pull import PullResult


def ratios(ours: Sequence[Sample], peer: Sequence[Sample]) -> list[float]:
    """How many times faster `ours` was than `peer`, by round: a slow minute of the machine hits both."""
    return [theirs.wall_s / mine.wall_s for mine, theirs in zip(ours, peer, strict=True)]


def text(result: PullResult) -> str:
    """The result for people: how it was measured, costs by case, and speed relative to each other."""
    lines = [f"{name + ':':13} {fact}" for name, fact in result.facts.items()]
    if result.samples:
        lines += ["", *_costs(result), "", *_speeds(result), ""]
        lines += [f"{name:16} {result.cases[name].what}" for name in result.samples]
    lines += [f"{name:16} skipped: {reason}" for name, reason in result.skipped.items()]
    lines += [f"{name:16} FAILED: {reason}" for name, reason in result.failed.items()]
    return "\n".join(lines)


def document(result: PullResult) -> dict[str, object]:
    """The result for programs; `speed_relative_to[a][b]` is how many times faster a was than b."""
    return {
        "facts": result.facts,
        "total_bytes": result.total_bytes,
        "durable": {name: result.cases[name].durable for name in result.samples},
        "samples": {name: [asdict(sample) for sample in runs] for name, runs in result.samples.items()},
        "speed_relative_to": {
            name: {
                other: _summary(ratios(runs, peer)) for other, peer in result.samples.items() if other != name
            }
            for name, runs in result.samples.items()
        },
        "skipped": result.skipped,
        "failed": result.failed,
    }


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _costs(result: PullResult) -> list[str]:
    head = ("case", "wall s", "(range)", "CPU s/GB", "peak RSS MB", "written/byte", "durable")
    rows = [head]
    for name, runs in result.samples.items():
        wall = _summary([sample.wall_s for sample in runs])
        cpu_s = statistics.median(sample.cpu_s for sample in runs)
        written = statistics.median(sample.written_bytes for sample in runs)
        rows.append(
            (
                name,
                f"{wall['median']:.2f}",
                f"({wall['low']:.2f}-{wall['high']:.2f})",
                f"{cpu_s / (result.total_bytes / 1e9):.2f}",
                f"{max(sample.peak_rss_bytes for sample in runs) / 1e6:.0f}",
                f"{written / result.total_bytes:.3f}",
                "yes" if result.cases[name].durable else "no",
            )
        )
    return ["costs: medians (RSS: highest; 8 MB is the floor of the measurement)", *_aligned(rows)]


def _speeds(result: PullResult) -> list[str]:
    rows = [("", *(f"vs {name}" for name in result.samples))]
    for name, runs in result.samples.items():
        cells = [name]
        for other, peer in result.samples.items():
            found = _summary(ratios(runs, peer))
            cells.append(
                "-" if other == name else f"{found['median']:.2f} ({found['low']:.2f}-{found['high']:.2f})"
            )
        rows.append(tuple(cells))
    return ["speed of the row relative to the column: median of the rounds (range)", *_aligned(rows)]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(cells)
        )
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
