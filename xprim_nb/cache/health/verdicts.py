"""What was found, when: verdicts, checked files and checked chunks in `state.sqlite`. Derived; deleting it costs time.

A model that has no verdict was verified when it was installed: that is in `registry.json`, and cannot get lost here.
A verdict older than the installation, or about another manifest, counts as none.

Source: spec 2 §Validation ("verdicts are kept in `state.sqlite`"), §Status.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from xprim_nb.cache.health.inspect import CheckedFile
from xprim_nb.cache.health.report import FileFinding, ValidationReport
from xprim_nb.cache.history import record
from xprim_nb.cache.state import State
from xprim_nb.cache.values import InstalledModel
from xprim_nb.refs import ModelRef

__all__ = ["Verdict", "Verdicts"]

_PUT_FILE = "INSERT OR REPLACE INTO checked_files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Verdict(NamedTuple):
    """The latest verdict on one model.

    Attributes:
        manifest_hash: The manifest it is about.
        status: `healthy`, `degraded` or `failed`.
        depth: `quick` or `full`.
        checked_at: In seconds since the epoch.
        action: What was recommended.
        priority: How soon.
        report: The report as JSON; empty when there was nothing to tell but that all is well.
    """

    manifest_hash: str
    status: str
    depth: str
    checked_at: float
    action: str
    priority: str
    report: str


class Verdicts:
    """Keeps and finds verdicts. Holds nothing open itself; a database that is not usable costs time alone.

    Args:
        state: The database.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def get(self, ref: ModelRef) -> Verdict | None:
        """The latest verdict on one model."""

        def read() -> Verdict | None:
            with self._state.reading() as connection:
                row = connection.execute(
                    "SELECT manifest_hash, status, depth, checked_at, action, priority, report FROM verdicts "
                    "WHERE ref = ?",
                    (str(ref),),
                ).fetchone()
                return Verdict(*row) if row else None

        return self._state.guarded(read, None)

    def files(self, ref: ModelRef, manifest_hash: str) -> dict[str, CheckedFile]:
        """What was found of each file of a model before."""

        def read() -> dict[str, CheckedFile]:
            with self._state.reading() as connection:
                rows = connection.execute(
                    "SELECT path, size_bytes, mtime_ns, ctime_ns, inode, checked_at, finding FROM checked_files "
                    "WHERE ref = ? AND manifest_hash = ?",
                    (str(ref), manifest_hash),
                )
                return {row[0]: CheckedFile(tuple(row[1:5]), row[5], _finding(row[6])) for row in rows}

        nothing: dict[str, CheckedFile] = {}
        try:
            return self._state.guarded(read, nothing)
        except ValidationError:  # written by a later version: looked at again
            return nothing

    def record(
        self, ref: ModelRef, report: ValidationReport, files: Mapping[str, CheckedFile], *, plain: bool
    ) -> None:
        """Keep a verdict, and what it rests on.

        Args:
            ref: The model.
            report: What was found.
            files: What is known of its files now; they replace those of the same path.
            plain: True when the report says nothing but that all is well.
        """
        advice, when = report.recommendations, report.validation_timestamp.timestamp()
        verdict = (
            str(ref),
            report.manifest_hash,
            report.overall_status,
            report.depth,
            when,
            advice.action,
            advice.priority,
            "" if plain else report.model_dump_json(),
        )
        rows = _rows(ref, report.manifest_hash, files)

        def write() -> None:
            with self._state.transaction() as connection:
                connection.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", verdict)
                connection.execute(
                    "DELETE FROM checked_files WHERE ref = ? AND manifest_hash != ?",
                    (str(ref), report.manifest_hash),
                )
                connection.executemany(_PUT_FILE, rows)

        self._state.guarded(write, None)

    def record_files(self, ref: ModelRef, manifest_hash: str, files: Mapping[str, CheckedFile]) -> None:
        """Keep what is known of some files now."""
        rows = _rows(ref, manifest_hash, files)

        def write() -> None:
            with self._state.transaction() as connection:
                connection.executemany(_PUT_FILE, rows)

        self._state.guarded(write, None)

    def forget(self, ref: ModelRef) -> None:
        """Drop everything known of a model: it is gone, or was verified as it was installed anew."""

        def write() -> None:
            with self._state.transaction() as connection:
                for table in ("verdicts", "checked_files", "checked_chunks"):
                    connection.execute(f"DELETE FROM {table} WHERE ref = ?", (str(ref),))

        self._state.guarded(write, None)

    # --- chunks -----------------------------------------------------------------------------------

    def chunk_times(self, model: InstalledModel, count: int) -> array[int]:
        """When each of a model's chunks was last found right, in seconds since the epoch; never before it was installed.

        Args:
            model: Which.
            count: How many chunks it has.
        """
        installed = int(model.installed_at.timestamp())
        stored = self._read_times("WHERE ref = ?", (str(model.ref),)).get(str(model.ref))
        if stored is None or stored[0] != model.manifest_hash or len(stored[1]) != count:
            return array("I", [installed]) * count
        # 0 is a chunk that was found wrong: its installation says nothing any more.
        return array("I", [max(each, installed) if each else 0 for each in stored[1]])

    def all_chunk_times(self) -> dict[str, tuple[str, array[int]]]:
        """For each model that was looked at: the manifest, and when each chunk was last found right."""
        return self._read_times()

    def _read_times(self, where: str = "", values: tuple[str, ...] = ()) -> dict[str, tuple[str, array[int]]]:
        query = f"SELECT ref, manifest_hash, checked_at FROM checked_chunks {where}"

        def read() -> dict[str, tuple[str, array[int]]]:
            with self._state.reading() as connection:
                rows = connection.execute(query, values)
                return {ref: (digest, _times(blob)) for ref, digest, blob in rows}

        nothing: dict[str, tuple[str, array[int]]] = {}
        return self._state.guarded(read, nothing)

    def mark_chunks(
        self, model: InstalledModel, count: int, right: Iterable[int], wrong: Iterable[int], at: float
    ) -> None:
        """Keep that these chunks were found right, those wrong."""
        times = self.chunk_times(model, count)
        for index in right:
            times[index] = int(at)
        for index in wrong:
            times[index] = 0

        def write() -> None:
            with self._state.transaction() as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO checked_chunks VALUES (?, ?, ?)",
                    (str(model.ref), model.manifest_hash, times.tobytes()),
                )

        self._state.guarded(write, None)

    # --- history and usage ------------------------------------------------------------------------

    def remember(self, kind: str, ref: str, **details: Any) -> None:  # JSON values
        """Add a line to the history."""
        record(self._state, kind, ref, details)

    def last_used(self, ref: ModelRef) -> float | None:
        """When a model was last used, in seconds since the epoch; None where that is not known."""

        def read() -> float | None:
            with self._state.reading() as connection:
                row = connection.execute(
                    "SELECT last_used_at FROM usage WHERE ref = ?", (str(ref),)
                ).fetchone()
                return float(row[0]) if row else None

        return self._state.guarded(read, None)


def _rows(ref: ModelRef, manifest_hash: str, files: Mapping[str, CheckedFile]) -> list[tuple[object, ...]]:
    return [
        (str(ref), path, manifest_hash, *found.look, found.checked_at, _stored(found.finding))
        for path, found in files.items()
    ]


def _finding(text: str) -> FileFinding | None:
    return FileFinding.model_validate_json(text) if text else None


def _stored(finding: FileFinding | None) -> str:
    return finding.model_dump_json() if finding is not None else ""


def _times(blob: bytes) -> array[int]:
    found = array("I")
    found.frombytes(blob[: len(blob) - len(blob) % found.itemsize])
    return found
