"""The tables, as numbered migrations that both databases carry out. Never edit a landed one; append.

Every name begins with `xprim_`, for a PostgreSQL database is often shared, with LangGraph's own tables too.

    xprim_threads ──▶ xprim_checkpoints ──▶ xprim_writes
          │                  │ channels          │ value      (references: a digest, or the bytes themselves)
          └──▶ xprim_held ──▶ xprim_blobs ◀──────┘

`xprim_held` says which thread needs which blob. Blobs are shared by all threads; one that nobody holds is taken away
by whoever let go of it.

Source: spec 6 §Checkpoints.
"""

from __future__ import annotations

from .store_schema import STORE

__all__ = ["MIGRATIONS"]

_CHECKPOINTS = """
CREATE TABLE xprim_threads (
    id {serial},
    name {text} NOT NULL UNIQUE
);
CREATE TABLE xprim_blobs (
    id {serial},
    digest {bytes} NOT NULL UNIQUE,
    is_node {integer} NOT NULL,
    sealed {bytes} NOT NULL
);
CREATE TABLE xprim_held (
    thread {integer} NOT NULL,
    blob {integer} NOT NULL,
    PRIMARY KEY (thread, blob)
) {compact};
CREATE INDEX xprim_held_by_blob ON xprim_held (blob);
CREATE TABLE xprim_checkpoints (
    thread {integer} NOT NULL,
    namespace {text} NOT NULL,
    id {text} NOT NULL,
    parent {text},
    run {text},
    channels {bytes} NOT NULL,
    body {bytes} NOT NULL,
    metadata {bytes} NOT NULL,
    PRIMARY KEY (thread, namespace, id)
);
CREATE INDEX xprim_checkpoints_by_id ON xprim_checkpoints (id, thread, namespace);
CREATE INDEX xprim_checkpoints_by_run ON xprim_checkpoints (run);
CREATE TABLE xprim_writes (
    thread {integer} NOT NULL,
    namespace {text} NOT NULL,
    checkpoint {text} NOT NULL,
    task {text} NOT NULL,
    position {integer} NOT NULL,
    path {text} NOT NULL,
    channel {text} NOT NULL,
    value {bytes} NOT NULL,
    PRIMARY KEY (thread, namespace, checkpoint, task, position)
) {compact};
"""

MIGRATIONS = (_CHECKPOINTS, STORE)
"""Number n brings a database from version n to n + 1."""
