"""The scaffold cache: what was rendered, by request and renderer; and the earlier request nearest to a new one.

Source: spec 6 §Caches; research/prompts §6 (3: the longest shared prefix is one look-up; 4: the renderer is in the key).
"""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from typing import Any

from xprim_nb._hashing import Digest
from xprim_nb.prompts.caches.aside import put_aside
from xprim_nb.prompts.caches.codec import DamagedValueError, pack, unpack
from xprim_nb.prompts.caches.reasons import Remembered
from xprim_nb.prompts.caches.schema import ROW_VERSION
from xprim_nb.prompts.caches.texts import condense, expand, references
from xprim_nb.prompts.rendered import Rendered, Segment

__all__ = ["find_scaffold", "forget_scaffolds", "has_scaffold", "keep_scaffold", "nearest"]

_COLUMNS = "id, request, version, created_at, value"
# SQLite takes so many variables in one statement, in any version.
_MOST_VARIABLES = 900


def find_scaffold(connection: sqlite3.Connection, request: Digest, renderer: str = "") -> Remembered | None:
    """What was rendered for a request; by any renderer when none is named, the latest first.

    A row that cannot be read is none: rendering again costs microseconds.

    Raises:
        MissingExtraError: It was packed by zstandard, which is not installed here.
    """
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM scaffolds WHERE request = ? AND (? = '' OR renderer = ?) ORDER BY id DESC LIMIT 1",
        (bytes.fromhex(request), renderer, renderer),
    ).fetchone()
    return _read(connection, row) if row else None


def has_scaffold(connection: sqlite3.Connection, request: Digest, renderer: str) -> bool:
    """Whether something readable here was rendered for a request; what lies in its row is not looked at."""
    row = connection.execute(
        "SELECT 1 FROM scaffolds WHERE request = ? AND renderer = ? AND version = ?",
        (bytes.fromhex(request), renderer, ROW_VERSION),
    ).fetchone()
    return row is not None


def keep_scaffold(connection: sqlite3.Connection, remembered: Remembered) -> None:
    """Keep what was rendered, its long texts once for all requests that share them.

    What is there already stays, as a renderer is a function of the request and its version; what is there and cannot be
    read is replaced.
    """
    rendered, texts = remembered.rendered, dict[str, str]()
    value = pack({"settings": dict(remembered.settings), "rendered": condense(_to_json(rendered), texts)})
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM scaffolds WHERE request = ? AND renderer = ?",
        (bytes.fromhex(remembered.request), rendered.renderer),
    ).fetchone()
    if row is not None:
        if _read(connection, row) is not None:
            return
        put_aside(connection, "scaffold", remembered.request, "it cannot be read", row[4], remembered.at)
        forget_scaffolds(connection, [row[0]])
    scaffold = connection.execute(
        """INSERT INTO scaffolds (request, renderer, version, provider, model, created_at, size_bytes, value)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            *(bytes.fromhex(remembered.request), rendered.renderer, ROW_VERSION),
            *(rendered.provider, rendered.model, remembered.at, len(value), value),
        ),
    ).lastrowid
    connection.executemany(
        "INSERT OR IGNORE INTO prefixes (hash, scaffold_id) VALUES (?, ?)",
        [(bytes.fromhex(each), scaffold) for each in rendered.prefixes],
    )
    for key, text in texts.items():
        _keep_text(connection, bytes.fromhex(key), text, mend=row is not None)
        connection.execute(
            "INSERT INTO text_uses (scaffold_id, text_id) SELECT ?, id FROM texts WHERE hash = ?",
            (scaffold, bytes.fromhex(key)),
        )


def _keep_text(connection: sqlite3.Connection, key: bytes, text: str, *, mend: bool) -> None:
    """Keep a text if it is not there; with `mend` anew, as what is there may be what could not be read."""
    there = connection.execute("SELECT id FROM texts WHERE hash = ?", (key,)).fetchone()
    if there is None:
        connection.execute("INSERT INTO texts (hash, value) VALUES (?, ?)", (key, pack(text)))
    elif mend:
        connection.execute("UPDATE texts SET value = ? WHERE id = ?", (pack(text), there[0]))


def nearest(connection: sqlite3.Connection, rendered: Rendered) -> Remembered | None:
    """The earlier request that shares the most with what is rendered now; of several, the latest.

    Prefix hashes are chained, so that whoever has one has all before it: the longest is found by halving. Where not even
    the first part is shared, the latest request to the same model is the nearest.
    """
    low, high = 0, len(rendered.prefixes)
    while low < high:
        middle = (low + high + 1) // 2
        if _with_prefix(connection, rendered.prefixes[middle - 1]) is not None:
            low = middle
        else:
            high = middle - 1
    scaffold = _with_prefix(connection, rendered.prefixes[low - 1]) if low else None
    if scaffold is None:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM scaffolds WHERE provider = ? AND model = ? ORDER BY id DESC LIMIT 1",
            (rendered.provider, rendered.model),
        ).fetchone()
    else:
        row = connection.execute(f"SELECT {_COLUMNS} FROM scaffolds WHERE id = ?", (scaffold,)).fetchone()
    return _read(connection, row) if row else None


def forget_scaffolds(connection: sqlite3.Connection, scaffolds: list[int]) -> None:
    """Erase rendered requests, and the texts that no other request needs."""
    for start in range(0, len(scaffolds), _MOST_VARIABLES):
        some = scaffolds[start : start + _MOST_VARIABLES]
        marks = ",".join("?" * len(some))
        connection.execute(f"DELETE FROM scaffolds WHERE id IN ({marks})", some)
        connection.execute(f"DELETE FROM prefixes WHERE scaffold_id IN ({marks})", some)
        connection.execute(f"DELETE FROM text_uses WHERE scaffold_id IN ({marks})", some)
    connection.execute("DELETE FROM texts WHERE id NOT IN (SELECT text_id FROM text_uses)")


def _with_prefix(connection: sqlite3.Connection, prefix: Digest) -> int | None:
    row = connection.execute(
        "SELECT scaffold_id FROM prefixes WHERE hash = ? ORDER BY scaffold_id DESC LIMIT 1",
        (bytes.fromhex(prefix),),
    ).fetchone()
    return None if row is None else int(row[0])


def _read(connection: sqlite3.Connection, row: tuple[int, bytes, int, float, bytes]) -> Remembered | None:
    _, request, version, at, packed = row
    if version != ROW_VERSION:
        return None
    try:
        value = unpack(packed)
        texts = {key: _text(connection, key) for key in references(value["rendered"])}
        rendered = _from_json(expand(value["rendered"], texts))
        return Remembered(Digest(request.hex()), at, value["settings"], rendered)
    except (DamagedValueError, KeyError, TypeError, ValueError):
        return None


def _text(connection: sqlite3.Connection, key: str) -> str:
    row = connection.execute("SELECT value FROM texts WHERE hash = ?", (bytes.fromhex(key),)).fetchone()
    if row is None:
        raise KeyError(key)
    text: str = unpack(row[0])
    return text


def _to_json(rendered: Rendered) -> dict[str, Any]:
    return {
        "renderer": rendered.renderer,
        "provider": rendered.provider,
        "model": rendered.model,
        "body": rendered.body,
        "segments": [asdict(segment) for segment in rendered.segments],
        "prefixes": list(rendered.prefixes),
        "digest": rendered.digest,
    }


def _from_json(value: dict[str, Any]) -> Rendered:
    return Rendered(
        renderer=value["renderer"],
        provider=value["provider"],
        model=value["model"],
        body=value["body"],
        segments=tuple(Segment(**{**each, "path": tuple(each["path"])}) for each in value["segments"]),
        prefixes=tuple(Digest(each) for each in value["prefixes"]),
        digest=Digest(value["digest"]),
    )
