"""How everything here is, at a glance: two files are read, and next to nothing is loaded for it.

A fresh process that wants to know no more (a prompt, a cron job, `xprim cache status`) asks `glance`; it answers before
the rest of the package would be there. Whole reports are in `status`.

Source: spec 2 §Status; §Targets (10,000 models, a fresh process).
"""

from __future__ import annotations

import errno
import functools
import operator
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import orjson

from xprim_nb._plain import read_plain
from xprim_nb._text import STATUS_WORDS, format_bytes, format_count, format_seconds
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.state import State
from xprim_nb.config import Config, mask_url
from xprim_nb.errors import StorageError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.indexname import index_file

__all__ = ["Contact", "Glance", "StatusRow", "VerdictRow", "glance", "read_verdicts", "rows_of", "summed_up"]

_GB = 1024**3
_status, _size = operator.itemgetter(2), operator.itemgetter(1)
# Recommendations in the order in which somebody should act.
_ORDER = {"critical": 0, "high": 1, "medium": 2, "low": 3}

# Name, manifest, status, depth, when, action, priority, report: see `verdicts.Verdict`. Thousands are read: no classes.
VerdictRow: TypeAlias = tuple[str, str, str, str, float, str, str, str]


class StatusRow(NamedTuple):
    """One model.

    Attributes:
        ref: `group/model version`.
        size_bytes: Of its files.
        status: `healthy`, `degraded` or `failed`, as of `checked_at`.
        depth: `quick`, `full`, or `install`: every byte was verified when it was installed, and nothing since.
        checked: When the verdict was reached: in seconds since the epoch, or as `registry.json` gives it.
        action: What was recommended.
        priority: How soon.
        manifest_hash: Which manifest is installed.
        report: The recorded report as JSON; empty where it says nothing but that all is well.
    """

    ref: str
    size_bytes: int
    status: str
    depth: str
    checked: float | str
    action: str
    priority: str
    manifest_hash: str
    report: str = ""

    @property
    def checked_at(self) -> float:
        """When the verdict was reached, in seconds since the epoch."""
        return self.checked if isinstance(self.checked, int | float) else _seconds(self.checked)

    def age_s(self, now: float | None = None) -> float:
        """Seconds since the verdict."""
        return max(0.0, (time.time() if now is None else now) - self.checked_at)


@dataclass(frozen=True, slots=True)
class Contact:
    """How the registry can be reached.

    Attributes:
        registry: Its URL or directory, passwords masked.
        offline: True in offline mode.
        needs_network: False when it lies on this machine.
        last_contact_at: When it last answered, in seconds since the epoch; None when it never did.
    """

    registry: str
    offline: bool
    needs_network: bool
    last_contact_at: float | None

    def sentence(self, now: float) -> str:
        """What is known, in a sentence. Nobody was asked for it."""
        if not self.needs_network:
            return f"The registry lies on this machine: {self.registry}."
        when = (
            f"{self.registry} never answered from here."
            if self.last_contact_at is None
            else f"{self.registry} last answered {format_seconds(max(0.0, now - self.last_contact_at))} ago."
        )
        return f"Offline mode is on; {when}" if self.offline else f"Online mode; {when} It was not asked now."


@dataclass(frozen=True, slots=True)
class Glance:
    """How everything here is.

    Attributes:
        rows: One for each installed model, in the order of `registry.json`.
        checked_at: When this was put together, in seconds since the epoch.
        counts: Models by status.
        total_bytes: Of all models.
        contact: How the registry can be reached.
        notes: Sentences about the cache itself (a damaged `registry.json`, say).
    """

    rows: tuple[StatusRow, ...]
    checked_at: float
    counts: Mapping[str, int]
    total_bytes: int
    contact: Contact
    notes: tuple[str, ...] = ()

    @property
    def total_models(self) -> int:
        """How many models are installed."""
        return len(self.rows)

    @property
    def total_size_gb(self) -> float:
        """Their size, in units of 1024³ bytes."""
        return self.total_bytes / _GB

    @property
    def concerns(self) -> list[StatusRow]:
        """The models for which something is to be done, the most urgent first."""
        rows = [row for row in self.rows if row.status != "healthy" or row.action != "none"]
        return sorted(rows, key=lambda row: (_ORDER.get(row.priority, 9), row.ref))

    @property
    def oldest_verdict_s(self) -> float | None:
        """Age of the oldest verdict, in seconds; None when nothing is installed."""
        return max((row.age_s(self.checked_at) for row in self.rows), default=None)

    @property
    def contact_line(self) -> str:
        """Offline or online, and when the registry last answered."""
        return self.contact.sentence(self.checked_at)

    @property
    def verdict(self) -> str:
        """Everything in one sentence."""
        if not self.rows:
            return "Nothing is installed."
        models = f"{format_count(len(self.rows), 'model')} ({format_bytes(self.total_bytes)})"
        bad = [
            f"{self.counts[each]} {STATUS_WORDS[each]}"
            for each in ("failed", "degraded")
            if self.counts.get(each)
        ]
        oldest = f"the oldest verdict is {format_seconds(self.oldest_verdict_s or 0.0)} old"
        if not bad:
            return f"{models}, all healthy; {oldest}."
        first = self.concerns[0]  # what is only old, or lacks its base model, is not mended by a repair
        repair = f" Run `xprim cache repair {first.ref}`." if first.status == "failed" else ""
        return f"{models}: {', '.join(bad)}; {oldest}.{repair}"

    def __str__(self) -> str:
        return "\n".join([self.verdict, *self.notes, self.contact_line])


def glance(config: Config) -> Glance | None:
    """How everything here is; None when `registry.json` is damaged, and the models' directories have to be asked.

    Args:
        config: The settings, the environment applied.

    Raises:
        StorageError: `registry.json` cannot be read.
    """
    layout = Layout.of(config)
    raw = _list(layout.registry_file)
    try:
        document = orjson.loads(raw) or {}
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    state = State(layout)
    try:
        rows = rows_of(document, read_verdicts(state) if layout.state_file.exists() else {})
    finally:
        state.close()
    return Glance(*summed_up(rows), contact=_contact(config, layout))


def _contact(config: Config, layout: Layout) -> Contact:
    url = (config.registry_url or "the embedded demo registry").rstrip("/")
    shown = mask_url(url)
    if not url.startswith(("http://", "https://")):
        return Contact(shown, config.offline, False, None)
    try:
        answered_at: float | None = index_file(layout.cache / "index", shown).stat().st_mtime
    except OSError:
        answered_at = None
    return Contact(shown, config.offline, True, answered_at)


def read_verdicts(state: State) -> dict[str, VerdictRow]:
    """Every verdict, by the model's name."""

    def read() -> dict[str, VerdictRow]:
        with state.reading() as connection:
            rows = connection.execute(
                "SELECT ref, manifest_hash, status, depth, checked_at, action, priority, report FROM verdicts"
            )
            return {row[0]: row for row in rows}

    nothing: dict[str, VerdictRow] = {}
    return state.guarded(read, nothing)


def rows_of(
    document: Mapping[str, Any], known: Mapping[str, VerdictRow], ref: ModelRef | None = None
) -> list[StatusRow]:
    """A row for each model that `registry.json` lists, or for those that `ref` names."""
    rows, verdict_of = list[StatusRow](), known.get
    for group, models in document.items():
        if not isinstance(models, dict) or (ref is not None and group != ref.group):
            continue
        for model, versions in models.items():
            if not isinstance(versions, dict) or (ref is not None and model != ref.model):
                continue
            for version, entry in versions.items():
                if ref is None or not ref.version or version == ref.version:
                    name = f"{group}/{model} {version}"
                    rows.append(_row(name, entry, verdict_of(name)))
    return rows


def summed_up(rows: list[StatusRow]) -> tuple[tuple[StatusRow, ...], float, dict[str, int], int]:
    """The rows, now, models by status, and the size of all of them in bytes."""
    counts = Counter(map(_status, rows))
    return tuple(rows), time.time(), dict(counts), sum(map(_size, rows))


def _list(path: Path) -> bytes:
    # Not through `_files`, which loads asyncio and the locks.
    try:
        return read_plain(path)
    except FileNotFoundError:
        return b"{}"
    except OSError as error:
        is_odd = error.errno in (errno.EISDIR, errno.ENXIO)
        why = "what lies there is no plain file" if is_odd else error.strerror
        hint = "Move it away, then run again." if is_odd else ""
        raise StorageError(f"reading failed, {why}: {path}", subject=str(path), hint=hint) from error


def _row(name: str, entry: Any, verdict: Sequence[Any] | None) -> StatusRow:  # noqa: ANN401  # as it was stored
    try:
        digest, size, installed = entry["manifest_hash"], entry["total_size"], entry["installed_at"]
        if verdict is None or verdict[1] != digest or verdict[4] < _seconds(installed):
            return _made((name, size, "healthy", "install", installed, "none", "low", digest, ""))
    except (KeyError, TypeError, ValueError):
        size = entry.get("total_size") if isinstance(entry, dict) else None
        known_size = size if isinstance(size, int) else 0
        return StatusRow(name, known_size, "failed", "install", 0.0, "rebuild", "high", "")
    _, _, status, depth, checked_at, action, priority, report = verdict
    return _made((name, size, status, depth, checked_at, action, priority, digest, report))


# What `StatusRow(…)` does, without its own step in between: thousands are made.
_made = functools.partial(tuple.__new__, StatusRow)


@functools.lru_cache(maxsize=1 << 15)  # thousands of times, the same ones in every call
def _seconds(text: str) -> float:
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
