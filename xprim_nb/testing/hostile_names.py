"""References and indexes that must be refused, each with what is wrong with it.

Source: spec 1 §References and paths, §Wire format; fault G5 of the original.
"""

from __future__ import annotations

import json
from typing import NamedTuple

__all__ = ["ASKED", "HOSTILE_INDEXES", "HOSTILE_REFS", "HostileIndex"]

HOSTILE_REFS: dict[str, str] = {
    "": "empty",
    " ": "blank",
    "a": "no model",
    "a/": "an empty model",
    "/b": "an empty group",
    "a/b/c": "three parts",
    "a//b": "an empty part",
    "a/b c d": "two versions",
    "a b/c": "a version before the slash",
    "a@b/c": "a version before the slash",
    "@a/b": "an '@' before everything",
    "a/b@": "an '@' and no version",
    "a/b @c": "an '@' and a space",
    "a/b@ c": "an '@' and a space",
    "a/b@c@d": "two '@'",
    "a/b@c d": "two versions",
    "../..": "leaves the base directory",
    "a/..": "leaves the group",
    "../a": "leaves the base directory",
    "a/b ..": "leaves the model",
    "a/b ../../..": "leaves the base directory",
    "a/.": "the group itself",
    "a/b .": "the model itself",
    "a\\b/c": "a backslash",
    "a/b\\..\\..": "leaves on Windows",
    "/etc/passwd": "absolute",
    "C:/x": "a drive",
    "a/b:c": "an alternate data stream",
    "~/x": "a home directory in a shell",
    "$HOME/x": "a variable in a shell",
    "-rf/x": "an option of a command",
    "a/-x": "an option of a command",
    ".hidden/x": "a hidden directory",
    "a/.xprim": "the metadata directory's name",
    "_x/y": "begins with an underscore",
    "a/b\0": "a NUL",
    "a/b\nc": "a newline",
    "a/b\x1b[2J": "an escape sequence",
    "a/b\u202ec": "reads backwards",
    "a/b\u200b": "an invisible character",
    "a\u2215b/c": "a character that looks like a slash",
    "ä/b": "not ASCII",
    "a/b ｖ1": "a wide letter",
    "a/b\u00a0c": "a space that is none",
    "a/*": "a pattern",
    "file:///etc/passwd": "a URL",
    "https://example.com/a": "a URL",
    "con/x": "a device on Windows",
    "a/NUL": "a device on Windows",
    "a/b aux.v1": "a device on Windows",
    "COM1.txt/x": "a device on Windows",
    "a./b": "loses its dot on Windows",
    "a/b v.": "loses its dot on Windows",
    "a" * 129 + "/b": "longer than 128 characters",
    "a/" + "b" * 129: "longer than 128 characters",
    "a/b " + "c" * 129: "longer than 128 characters",
    "cache/x": "lies on the chunk cache",
    "CACHE/x": "lies on the chunk cache on Windows and macOS",
    "registry.json/x": "lies on the list of installed models",
    "registry.json.lock/x": "lies on its lock",
    "state.sqlite/x": "lies on the state",
    "state.sqlite-wal/x": "lies on the state's log",
    "State.SQLite-shm/x": "lies on the state's shared memory",
    "info/x": "a command of the original",
}


class HostileIndex(NamedTuple):
    """One case: a name for the test, the bytes as served, and the sentence about them."""

    name: str
    raw: bytes
    wrong: str


# What is asked for in each hostile index; the answer must be a RegistryError or a LookupError, never a model.
ASKED = "group/model v1"

_HASH = "a" * 64
_ENTRIES: dict[str, tuple[object, str]] = {
    "entry-null": (None, "the entry is null"),
    "entry-text": (_HASH, "the entry is the hash itself"),
    "entry-list": ([_HASH], "the entry is a list"),
    "entry-empty": ({}, "the entry has no hash"),
    "hash-null": ({"hash": None}, "the hash is null"),
    "hash-short": ({"hash": "abc"}, "the hash is short: crashed the original"),
    "hash-uppercase": ({"hash": "A" * 64}, "the hash is in capitals"),
    "hash-path": ({"hash": "../models.json"}, "the hash is a path"),
    "hash-newline": ({"hash": _HASH + "\n"}, "the hash ends in a newline"),
    "hash-number": ({"hash": 1 << 60}, "the hash is a number"),
    "hash-deep": ({"hash": json.loads("[" * 900 + "]" * 900)}, "the hash is a list of 900 levels"),
    "size-negative": ({"hash": _HASH, "total_size": -1}, "the size is negative"),
    "size-float": ({"hash": _HASH, "total_size": 1.5}, "the size is a fraction"),
    "size-true": ({"hash": _HASH, "total_size": True}, "the size is a truth value"),
    "size-text": ({"hash": _HASH, "total_size": "1"}, "the size is text"),
    "metadata-list": ({"hash": _HASH, "metadata": [1]}, "the metadata is a list"),
    "metadata-text": ({"hash": _HASH, "metadata": "x"}, "the metadata is text"),
    "alias-number": ({"hash": _HASH, "alias": 7}, "the alias is a number"),
    "alias-list": ({"hash": _HASH, "alias": ["v2"]}, "the alias is a list"),
    "alias-of-itself": ({"hash": _HASH, "alias": "v1"}, "the alias is a loop of one"),
    "alias-of-nothing": ({"hash": _HASH, "alias": "v9"}, "the alias names nothing"),
    "alias-traversal": ({"hash": _HASH, "alias": "../../x"}, "the alias is a path"),
    "alias-reserved": ({"hash": _HASH, "alias": "nul"}, "the alias is a device on Windows"),
}
_DOCUMENTS = {
    "empty": (b"", "no bytes at all"),
    "not-json": (b"<!doctype html><title>Please log in</title>", "a captive portal's page"),
    "cut-off": (b'{"group": {"model": {', "ends early"),
    "null": (b"null", "is null: crashed the original"),
    "list": (b"[]", "is a list"),
    "text": (b'"group"', "is text"),
    "not-utf-8": (b'{"\xff": {}}', "is not UTF-8"),
    "byte-order-mark": (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
    "deep-lists": (b"[" * 200_000, "200,000 levels of lists"),
    "deep-objects": (b'{"a":' * 200_000, "200,000 levels of objects"),
    "deep-hash": (
        b'{"group": {"model": {"v1": {"hash": ' + b"[" * 1018 + b"]" * 1018 + b"}}}}",
        "as deep as the parser goes, deeper than Python's stack",
    ),
    "group-list": (b'{"group": []}', "a group is a list"),
    "group-null": (b'{"group": null}', "a group is null"),
    "model-text": (b'{"group": {"model": "v1"}}', "a model is text"),
}


def _entry(entry: object) -> bytes:
    return json.dumps({"group": {"model": {"v1": entry}}}).encode()


def _chain(length: int, *, loop: bool) -> bytes:
    aliased = {f"v{n}": {"hash": _HASH, "alias": f"v{n + 1}"} for n in range(1, length + 1)}
    last: dict[str, str] = {"hash": _HASH, "alias": "v2"} if loop else {"hash": _HASH}
    return json.dumps({"group": {"model": {**aliased, f"v{length + 1}": last}}}).encode()


HOSTILE_INDEXES: tuple[HostileIndex, ...] = (
    *(HostileIndex(name, _entry(entry), wrong) for name, (entry, wrong) in _ENTRIES.items()),
    *(
        HostileIndex(f"document-{name}", raw, f"the document {wrong}")
        for name, (raw, wrong) in _DOCUMENTS.items()
    ),
    HostileIndex("alias-loop", _chain(3, loop=True), "the aliases run in a circle"),
    HostileIndex("alias-too-deep", _chain(9, loop=False), "the aliases are chained nine deep"),
    HostileIndex(
        "alias-of-another-manifest",
        json.dumps(
            {"group": {"model": {"v1": {"hash": _HASH, "alias": "v2"}, "v2": {"hash": "b" * 64}}}}
        ).encode(),
        "the alias and its target name different manifests",
    ),
)
