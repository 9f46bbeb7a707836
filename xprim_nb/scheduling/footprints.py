"""What models were seen to take here, kept in the ledger's file: after the first load nothing typical is guessed.

Source: spec 4 §Residency ("learned footprints replace guesses after the first load"); research residency §4.9 rule 6.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, fields, replace
from typing import Literal, cast

from xprim_nb._hashing import canonical_json, sha256_hex
from xprim_nb.scheduling.estimate import Estimate, Footprint, FootprintKey
from xprim_nb.scheduling.hardware import DeviceKind
from xprim_nb.scheduling.ledgerfile import LedgerFile
from xprim_nb.workers.values import Measured

__all__ = ["Footprints", "settings_digest"]

# Enough that two settings of one model do not meet, short enough to be read.
_DIGEST_LETTERS = 16
_KEY = tuple(each.name for each in fields(FootprintKey))
_REST = tuple(each.name for each in fields(Footprint) if each.name != "key")
_COLUMNS = ", ".join((*_KEY, *_REST))


def settings_digest(settings: Mapping[str, object]) -> str:
    """Settings that change what a model takes, in a word; empty for none.

    >>> settings_digest({}), settings_digest({"dtype": "bfloat16"})
    ('', '8b7c0fde67f089ef')
    """
    plain = {
        name: value if isinstance(value, str | int | float | bool | None) else str(value)
        for name, value in settings.items()
    }
    return sha256_hex(canonical_json(plain))[:_DIGEST_LETTERS] if plain else ""


class Footprints:
    """Measurements of all kernels of this machine. Thread-safe.

    Args:
        file: Where they are kept.
        clock: Seconds since the epoch.
    """

    def __init__(self, file: LedgerFile, *, clock: Callable[[], float] = time.time) -> None:
        self._file, self._clock = file, clock

    def known(self) -> dict[FootprintKey, Footprint]:
        """All of them by key: the `learned` of `options_for`.

        Raises:
            StorageError: The file cannot be read.
        """
        return {each.key: each for each in self.listed()}

    def listed(self) -> list[Footprint]:
        """All of them, the latest first: what was predicted beside what was measured.

        Raises:
            StorageError: The file cannot be read.
        """
        return self._file.read(_read)

    def learn(
        self,
        key: FootprintKey,
        measured: Measured,
        *,
        when: Literal["loaded", "used"],
        model: str = "",
        predicted: Estimate | None = None,
        load_s: float = 0.0,
    ) -> Footprint | None:
        """Remember a measurement; of several the largest is kept. None when the weights have no fingerprint.

        Args:
            key: What it holds for.
            measured: What the model takes.
            when: `loaded`: it has just been loaded, its cache is empty; `used`: at any time later.
            model: Its name.
            predicted: What had been estimated without a measurement, for comparison.
            load_s: How long the load took; 0.0 for none.

        Raises:
            StorageError: The file cannot be written.
        """
        if not key.fingerprint:
            return None
        # A simulated device has no memory of its own that could be measured.
        on_device = 0 if key.device_kind == "sim" else measured.device_bytes

        def merge(connection: sqlite3.Connection) -> Footprint:
            old = _find(connection, key) or Footprint(key)
            new = replace(
                old,
                model=model or old.model,
                device_bytes=max(old.device_bytes, on_device),
                host_bytes=max(old.host_bytes, measured.host_bytes),
                load_s=load_s or old.load_s,
                samples=old.samples + 1,
                how=measured.how,
                at=self._clock(),
            )
            if when == "loaded":
                new = replace(
                    new,
                    loaded_device_bytes=max(old.loaded_device_bytes, on_device),
                    loaded_host_bytes=max(old.loaded_host_bytes, measured.host_bytes),
                )
            if predicted is not None and predicted.source == "estimated":
                new = replace(
                    new,
                    predicted_device_bytes=predicted.device_bytes,
                    predicted_host_bytes=predicted.host_bytes,
                )
            _put(connection, new)
            return new

        return self._file.write(merge)

    def learn_parked(self, key: FootprintKey, residue: Measured) -> None:
        """Remember what a parked model leaves on its device; of several the largest.

        Raises:
            StorageError: The file cannot be written.
        """
        if not key.fingerprint:
            return

        def merge(connection: sqlite3.Connection) -> None:
            old = _find(connection, key) or Footprint(key)
            _put(
                connection,
                replace(old, parked_bytes=max(old.parked_bytes or 0, residue.device_bytes), at=self._clock()),
            )

        self._file.write(merge)

    def forget(self, fingerprint: str = "") -> int:
        """Forget what was learned of a model, or of all; how many measurements that were.

        Raises:
            StorageError: The file cannot be written.
        """
        return self._file.write(
            lambda connection: (
                connection.execute(
                    "DELETE FROM footprints WHERE ? IN ('', fingerprint)", (fingerprint,)
                ).rowcount
            )
        )


def _read(connection: sqlite3.Connection) -> list[Footprint]:
    return [
        _footprint(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM footprints ORDER BY at DESC")
    ]


def _find(connection: sqlite3.Connection, key: FootprintKey) -> Footprint | None:
    where = " AND ".join(f"{name} = ?" for name in _KEY)
    row = connection.execute(f"SELECT {_COLUMNS} FROM footprints WHERE {where}", astuple(key)).fetchone()
    return None if row is None else _footprint(row)


def _put(connection: sqlite3.Connection, footprint: Footprint) -> None:
    values = [*astuple(footprint.key), *(getattr(footprint, name) for name in _REST)]
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT OR REPLACE INTO footprints ({_COLUMNS}) VALUES ({marks})", values)


def _footprint(row: tuple[object, ...]) -> Footprint:
    fingerprint, backend, context_tokens, settings, kind, *rest = row
    key = FootprintKey(
        str(fingerprint),
        str(backend),
        int(cast(int, context_tokens)),
        str(settings),
        cast(DeviceKind, kind),
    )
    return Footprint(key, *rest)  # type: ignore[arg-type]  # the table's columns are the fields
