"""What prompts came to: records of each question, their analysis, limits for a pipeline, and advice from replays.

In come questions that are over (`Asker(on_call=telemetry.observer())`), prompts that were resolved, states that were
saved, and the caches' record of what was sent; out go frozen values with `text()` and `document()`, and, where somebody
wants them, spans. One SQLite file, `<base>/prompts/telemetry.sqlite`, that holds hashes, names and numbers. `otel` alone
knows OpenTelemetry's names, and `export` alone a collector.
"""

from xprim_nb.prompts.telemetry.advice import Advice, AdviceKind, RatesOf, optimize
from xprim_nb.prompts.telemetry.analysis import Analysis, By, HitRate, Latency, Summary, analyze
from xprim_nb.prompts.telemetry.checks import Breach, Thresholds, check
from xprim_nb.prompts.telemetry.lineage import led_by
from xprim_nb.prompts.telemetry.records import (
    CACHES,
    CacheName,
    Operation,
    Outcome,
    Record,
    record_of,
    record_of_resolving,
    record_of_saving,
)
from xprim_nb.prompts.telemetry.store import Telemetry

__all__ = [
    "CACHES",
    "Advice",
    "AdviceKind",
    "Analysis",
    "Breach",
    "By",
    "CacheName",
    "HitRate",
    "Latency",
    "Operation",
    "Outcome",
    "RatesOf",
    "Record",
    "Summary",
    "Telemetry",
    "Thresholds",
    "analyze",
    "check",
    "led_by",
    "optimize",
    "record_of",
    "record_of_resolving",
    "record_of_saving",
]
