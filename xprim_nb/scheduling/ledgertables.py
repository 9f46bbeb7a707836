"""The ledger's tables, and leases as their rows.

Source: spec 4 §Residency (`ledger`); research residency §4.9.
"""

from __future__ import annotations

import json
import sqlite3
from typing import cast

from xprim_nb.scheduling.leases import KernelId, Lease, LeaseState
from xprim_nb.scheduling.state import Charges

__all__ = ["MIGRATIONS", "VERSION", "insert", "read_leases"]

VERSION = 1
"""Of the schema. One that an older version could not work with gets another number, and so another file."""

MIGRATIONS = (
    """
    CREATE TABLE leases (
        id TEXT PRIMARY KEY,
        model TEXT NOT NULL,
        state TEXT NOT NULL,
        kernel_pid INTEGER NOT NULL,
        kernel_started REAL NOT NULL,
        kernel_boot TEXT NOT NULL,
        kernel_label TEXT NOT NULL,
        worker_pid INTEGER,
        worker_started REAL NOT NULL,
        created REAL NOT NULL,
        since REAL NOT NULL,
        idle INTEGER NOT NULL,
        pinned INTEGER NOT NULL,
        last_used REAL NOT NULL,
        note TEXT NOT NULL,
        freed_at TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE charges (
        lease_id TEXT NOT NULL,
        device TEXT NOT NULL,
        charged_bytes INTEGER NOT NULL,
        measured_bytes INTEGER NOT NULL,
        PRIMARY KEY (lease_id, device)
    ) WITHOUT ROWID;
    CREATE TABLE asks (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        lease_id TEXT NOT NULL,
        model TEXT NOT NULL,
        wish TEXT NOT NULL,
        asked_by TEXT NOT NULL,
        at REAL NOT NULL,
        answer TEXT NOT NULL
    );
    CREATE TABLE history (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        lease_id TEXT NOT NULL,
        model TEXT NOT NULL,
        state TEXT NOT NULL,
        device TEXT NOT NULL,
        device_bytes INTEGER NOT NULL,
        host_bytes INTEGER NOT NULL,
        reason TEXT NOT NULL,
        note TEXT NOT NULL,
        kernel TEXT NOT NULL,
        kernel_pid INTEGER NOT NULL
    );
    CREATE TABLE footprints (
        fingerprint TEXT NOT NULL,
        backend TEXT NOT NULL,
        context_tokens INTEGER NOT NULL,
        settings TEXT NOT NULL,
        device_kind TEXT NOT NULL,
        model TEXT NOT NULL,
        loaded_device_bytes INTEGER NOT NULL,
        loaded_host_bytes INTEGER NOT NULL,
        device_bytes INTEGER NOT NULL,
        host_bytes INTEGER NOT NULL,
        parked_bytes INTEGER,
        load_s REAL NOT NULL,
        predicted_device_bytes INTEGER NOT NULL,
        predicted_host_bytes INTEGER NOT NULL,
        samples INTEGER NOT NULL,
        how TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (fingerprint, backend, context_tokens, settings, device_kind)
    ) WITHOUT ROWID
    """,
)


def insert(connection: sqlite3.Connection, lease: Lease) -> None:
    """Enter a lease, in the place of an earlier form of it."""
    kernel = lease.kernel
    connection.execute(
        "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(lease.id, lease.model, lease.state),
            *(kernel.pid, kernel.started, kernel.boot, kernel.label),
            *(lease.worker_pid, lease.worker_started, lease.created, lease.since),
            *(lease.idle, lease.pinned, lease.last_used, lease.note, json.dumps(lease.freed_at)),
        ),
    )
    connection.execute("DELETE FROM charges WHERE lease_id = ?", (lease.id,))
    measured = dict(lease.measured)
    names = sorted({*measured, *dict(lease.charges)})
    connection.executemany(
        "INSERT INTO charges VALUES (?, ?, ?, ?)",
        [(lease.id, name, lease.charge_on(name), measured.get(name, 0)) for name in names],
    )


def read_leases(connection: sqlite3.Connection) -> list[Lease]:
    """Every lease, oldest first."""
    charges: dict[str, list[tuple[str, int]]] = {}
    measured: dict[str, list[tuple[str, int]]] = {}
    for lease_id, device, charged, seen in connection.execute("SELECT * FROM charges ORDER BY device"):
        for sizes, size in ((charges, charged), (measured, seen)):
            if size:
                sizes.setdefault(lease_id, []).append((device, size))
    rows = connection.execute("SELECT * FROM leases ORDER BY created, id")
    return [
        Lease(
            id=row[0],
            model=row[1],
            state=cast(LeaseState, row[2]),
            charges=tuple(charges.get(row[0], ())),
            kernel=KernelId(*row[3:7]),
            measured=tuple(measured.get(row[0], ())),
            worker_pid=row[7],
            worker_started=row[8],
            created=row[9],
            since=row[10],
            idle=bool(row[11]),
            pinned=bool(row[12]),
            last_used=row[13],
            note=row[14],
            freed_at=_charges(row[15]),
        )
        for row in rows
    ]


def _charges(text: str) -> Charges:
    return tuple((str(name), int(size)) for name, size in json.loads(text))
