"""A worker's end as a card: what is shown, in text and in HTML, and that hostile text stays text."""

from __future__ import annotations

from dataclasses import replace

from xprim_nb.errors import WorkerCrashedError
from xprim_nb.magics import cards, crash_card
from xprim_nb.workers.values import CrashReport

_GB = 1 << 30
_REPORT = CrashReport(
    model="numpy:demo/tiny v1",
    pid=4711,
    cause="out_of_memory",
    detail="It needed more memory than it may have.",
    exit_code=-9,
    doing="load",
    last_lines=("loading weights\n", "MemoryError"),
    memory=((0.0, _GB // 2), (1.0, 3 * _GB), (2.0, 2 * _GB)),
    advice=("Use a smaller context.", "Evict another model."),
    at=1.0,
)


def test_text_says_what_happened_and_what_to_try() -> None:
    """For a terminal: class, sentence, where, the curve in words, last lines, advice."""
    assert crash_card.text(_REPORT).splitlines() == [
        "demo/tiny v1: out of memory",
        "It needed more memory than it may have.",
        "process 4711, while loading, exit code -9",
        "memory: 512.0 MB at first, 3.0 GB at most, 2.0 GB at the end, over 2.0 s  ▂▂▂▂▂▂▂▂▂▂▂▂███████████▆",
        "last lines:",
        "  loading weights",
        "  MemoryError",
        "what to try:",
        "  1. Use a smaller context.",
        "  2. Evict another model.",
    ]


def test_what_is_not_known_is_not_shown() -> None:
    """A worker that never spoke has no curve, no lines and no exit code."""
    bare = CrashReport("demo/tiny", 1, "no_hello", "It never said hello.")
    assert crash_card.text(bare) == "demo/tiny: never started\nIt never said hello.\nprocess 1, while idle"
    html = crash_card.html(bare)
    assert "<svg" not in html
    assert "<pre" not in html
    assert "What to try" not in html


def test_curve_keeps_its_peak_and_its_end() -> None:
    """However many samples there are, the highest and the last are points of it."""
    samples = [(at / 10, 100 + at % 7) for at in range(10_000)]
    samples[5_003] = (500.3, 9_000)
    samples[-1] = (999.9, 50)
    curve = crash_card.curve_of(samples)
    assert curve is not None
    points = [tuple(map(float, each.split(","))) for each in curve.points.split(" ")]
    assert len(points) <= 122
    assert len(curve.sparks) == 24
    assert curve.sparks.count("█") == 1
    assert min(y for _, y in points) == 2.0
    assert points[-1][0] == crash_card.CURVE_WIDTH
    assert all(0 <= x <= crash_card.CURVE_WIDTH and 0 <= y <= crash_card.CURVE_HEIGHT for x, y in points)
    assert "8.8 KB at most" in curve.words


def test_curve_of_one_moment_is_drawn() -> None:
    """Samples at the same time, or of no memory, are no division by zero; one sample is no curve."""
    assert crash_card.curve_of([(1.0, 5)]) is None
    curve = crash_card.curve_of([(1.0, 0), (1.0, 0)])
    assert curve is not None
    assert "0 B at most" in curve.words


def test_hostile_text_stays_text() -> None:
    """Whatever a worker wrote, or is called, becomes no markup and drives no terminal."""
    evil = "<script>alert(1)</script>\x1b[31m\u202e" + "x" * 10_000
    report = replace(
        _REPORT, model=f"x:{evil}", detail=evil, doing=evil, last_lines=(evil,) * 1000, advice=(evil,)
    )
    for shown in (crash_card.html(report), crash_card.text(report)):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert len(shown) < 400_000
    assert "<script>" not in crash_card.html(report)


def test_error_card_shows_the_report() -> None:
    """A cell whose worker died shows the card under the error, as HTML and as text."""
    error = WorkerCrashedError("The worker died.", subject="demo/tiny v1", report=_REPORT)
    text = cards.text_card(error)
    assert text.startswith("WorkerCrashedError: The worker died.")
    assert text.endswith(crash_card.text(_REPORT))
    html = cards.html_card(error, "Traceback")
    assert crash_card.html(_REPORT) in html
    assert html.index("What to do") < html.index("xprim-crash") < html.index("Traceback")


def test_error_without_a_report_is_as_before() -> None:
    """None, or a report of another kind, adds nothing."""
    for report in (None, object(), "text"):
        error = WorkerCrashedError("The worker died.", report=report)
        assert "xprim-crash" not in cards.html_card(error, "")
        assert "last lines:" not in cards.text_card(error)
