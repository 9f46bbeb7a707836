"""The tables of `prompts/cache.sqlite`. Number n brings the file from n to n + 1; a landed one is never edited.

Source: spec 6 §Caches, §Resolve ("stored rows carry a schema version and migrate").
"""

from __future__ import annotations

__all__ = ["MIGRATIONS", "ROW_VERSION"]

ROW_VERSION = 1
"""Of the values inside the rows. A row of a later version is left alone, and counts as a miss."""

MIGRATIONS = (
    # Hashes are their 32 bytes, times seconds since 1970. What changes with each use lies apart in `uses`: SQLite writes
    # a row as a whole, and the rows of answers are large.
    """
    CREATE TABLE answers (
        id INTEGER PRIMARY KEY,
        request BLOB NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        created_at REAL NOT NULL,
        size_bytes INTEGER NOT NULL,
        value BLOB NOT NULL
    );
    CREATE TABLE scaffolds (
        id INTEGER PRIMARY KEY,
        request BLOB NOT NULL,
        renderer TEXT NOT NULL,
        version INTEGER NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        created_at REAL NOT NULL,
        size_bytes INTEGER NOT NULL,
        value BLOB NOT NULL,
        UNIQUE (request, renderer)
    );
    CREATE INDEX scaffolds_of_model ON scaffolds (provider, model, id);
    CREATE TABLE texts (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, value BLOB NOT NULL);
    CREATE TABLE text_uses (
        scaffold_id INTEGER NOT NULL,
        text_id INTEGER NOT NULL,
        PRIMARY KEY (scaffold_id, text_id)
    ) WITHOUT ROWID;
    CREATE INDEX users_of_text ON text_uses (text_id);
    CREATE TABLE prefixes (
        hash BLOB NOT NULL,
        scaffold_id INTEGER NOT NULL,
        PRIMARY KEY (hash, scaffold_id)
    ) WITHOUT ROWID;
    CREATE INDEX prefixes_of_scaffold ON prefixes (scaffold_id);
    CREATE TABLE sent (
        id INTEGER PRIMARY KEY,
        request BLOB NOT NULL,
        version INTEGER NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        at REAL NOT NULL,
        finish TEXT NOT NULL,
        value BLOB NOT NULL
    );
    CREATE INDEX sent_to_model ON sent (provider, model, id);
    CREATE INDEX sent_request ON sent (request, id);
    CREATE TABLE uses (
        request BLOB PRIMARY KEY,
        last_used_at REAL NOT NULL,
        uses INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE damaged (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        request BLOB NOT NULL,
        reason TEXT NOT NULL,
        value BLOB NOT NULL
    )
    """,
    # Who is being answered now; see `leases`.
    """
    CREATE TABLE leases (
        request BLOB NOT NULL,
        wish TEXT NOT NULL,
        id TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started REAL NOT NULL,
        boot TEXT NOT NULL,
        since_s REAL NOT NULL,
        until_s REAL NOT NULL,
        ended INTEGER NOT NULL,
        PRIMARY KEY (request, wish)
    ) WITHOUT ROWID
    """,
)
