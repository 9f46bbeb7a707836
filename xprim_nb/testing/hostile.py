"""Manifests that must be refused with a typed error before anything is written, each with what is wrong with it.

Every case differs from a good manifest (`GOOD`, of ten bytes in three chunks) in one thing.

Source: spec 1 §References and paths; faults G1–G7 of the original.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["GOOD", "HOSTILE_MANIFESTS", "HostileManifest"]

_A, _B, _C = "a" * 64, "b" * 64, "c" * 64
_TEN: list[dict[str, Any]] = [{"path": "config.json", "size": 3}, {"path": "w/model.safetensors", "size": 7}]

GOOD: dict[str, Any] = {"total_size": 10, "chunk_size": 4, "chunks": [_A, _B, _C], "files": _TEN}


class HostileManifest(NamedTuple):
    """One case: a name for the test, the bytes as served, and the sentence about them."""

    name: str
    raw: bytes
    wrong: str


# One file of one byte under each of these paths.
_PATHS = {
    "traversal": ("../evil", "leaves the model directory"),
    "traversal-to-keys": ("../../.ssh/authorized_keys", "leaves the model directory"),
    "traversal-to-registry": ("../../../registry.json", "overwrites the list of installed models"),
    "traversal-inside": ("a/../../../evil", "leaves after entering a directory"),
    "traversal-that-comes-back": ("a/../b", "has a '..' part, though it stays inside"),
    "traversal-at-the-end": ("a/..", "names the directory itself"),
    "parent-alone": ("..", "is the parent directory"),
    "traversal-backslash": ("..\\evil", "leaves on Windows"),
    "traversal-mixed": ("a\\..\\..\\evil", "leaves on Windows"),
    "dot": (".", "is the directory itself"),
    "dot-part": ("a/./b", "has a '.' part"),
    "dot-at-the-start": ("./a", "has a '.' part"),
    "empty-path": ("", "has no name"),
    "empty-part": ("a//b", "has an empty part"),
    "trailing-slash": ("a/", "has an empty part"),
    "absolute": ("/etc/passwd", "is absolute"),
    "absolute-twice": ("//etc/passwd", "is absolute, and a UNC name on Windows"),
    "drive": ("C:\\Windows\\x", "is absolute on Windows"),
    "drive-slash": ("c:/x", "is absolute on Windows"),
    "drive-relative": ("C:evil", "is relative to another drive"),
    "unc": ("\\\\server\\share\\x", "is on another machine"),
    "device-namespace": ("\\\\?\\C:\\x", "is absolute on Windows, past its checks"),
    "raw-device": ("\\\\.\\PhysicalDrive0", "is a disk on Windows"),
    "stream": ("weights.bin:hidden", "is an alternate data stream on NTFS"),
    "nul": ("a\0.bin", "ends early in C"),
    "newline": ("a\nb", "forges a line in lists"),
    "tab": ("a\tb", "forges a column in lists"),
    "escape": ("\x1b[2Ja", "clears the terminal that lists it"),
    "delete": ("a\x7f", "has a control character"),
    "c1-control": ("a\x9b2Jb", "has a C1 control character, an escape sequence in one byte"),
    "line-separator": ("a\u2028b", "forges a line in JavaScript"),
    "paragraph-separator": ("a\u2029b", "forges a line in JavaScript"),
    "bidi-override": ("gpj.\u202eexe", "reads as another extension"),
    "bidi-isolate": ("a\u2066b\u2069", "reorders the text around it"),
    "bidi-mark": ("a\u200fb", "reorders the text around it"),
    "arabic-letter-mark": ("a\u061cb", "reorders the text around it"),
    "reserved": ("CON", "is the console on Windows"),
    "reserved-extension": ("nul.txt", "is the null device on Windows"),
    "reserved-inside": ("a/AUX/b", "is a device on Windows"),
    "reserved-two-extensions": ("com1.tar.gz", "is a serial port on Windows"),
    "reserved-superscript": ("LPT¹", "is a printer port on Windows"),
    "reserved-space": ("prn .txt", "is a device on Windows, which drops the space"),
    "reserved-console": ("CONIN$", "is the console's input on Windows"),
    "trailing-dot": ("model.", "loses its last character on Windows"),
    "trailing-dot-inside": ("dir./x", "loses a character on Windows"),
    "trailing-space": ("model ", "loses its last character on Windows"),
    "trailing-space-inside": ("dir /x", "loses a character on Windows"),
    "three-dots": ("...", "is nothing on Windows"),
    "metadata": (".xprim/manifest.json", "overwrites our own metadata"),
    "metadata-itself": (".xprim", "is a file where our directory must be"),
    "metadata-case": (".XPRIM/manifest.json", "overwrites our own metadata on Windows and macOS"),
    "metadata-invisible": (
        ".xp\u200crim/manifest.json",
        "overwrites our own metadata on HFS+, which drops U+200C",
    ),
    "name-too-long": ("a" * 256, "is longer than a name can be"),
    "name-too-long-in-bytes": ("é" * 128, "is longer than a name can be, in UTF-8"),
    "path-too-long": ("a/" * 600 + "b", "is longer than a path can be"),
}

# One byte under each of these paths, in one manifest.
_CLASHES = {
    "duplicate": (("a", "b", "a"), "the same path twice"),
    "duplicate-case": (("README", "readme"), "one file on Windows and macOS"),
    "duplicate-case-inside": (("Dir/x", "dir/X"), "one file on Windows and macOS"),
    "duplicate-case-folding": (("straße", "STRASSE"), "one file under full case folding"),
    "duplicate-kelvin": (("\u212a", "k"), "one file under case folding: the Kelvin sign"),
    "duplicate-nfc": (("é", "e\u0301"), "one file where names are normalised"),
    "duplicate-nfc-and-case": (("É", "e\u0301"), "one file where names are normalised and folded"),
    "duplicate-invisible": (("model", "mod\u200del"), "one file on HFS+, which drops U+200D"),
    "file-is-parent": (("a", "a/b"), "a file where a directory must be"),
    "file-is-parent-later": (("a/b/c", "a/b"), "a file where a directory must be"),
    "file-is-parent-case": (("A", "a/b"), "a file where a directory must be, on Windows and macOS"),
}

# In the place of the second chunk's name.
_CHUNKS: dict[str, tuple[object, str]] = {
    "chunk-short": ("abcd", "crashed the original when it was shortened for a message"),
    "chunk-empty": ("", "is the chunk directory itself"),
    "chunk-registry": ("../registry.json", "made the original delete the list of installed models"),
    "chunk-absolute": ("/etc/passwd", "is a path"),
    "chunk-uppercase": ("B" * 64, "is another file on case-sensitive systems"),
    "chunk-not-hex": ("g" * 64, "is no digest"),
    "chunk-63": ("b" * 63, "is no digest"),
    "chunk-65": ("b" * 65, "is no digest"),
    "chunk-newline": ("b" * 64 + "\n", "passes a careless `$` in a regular expression"),
    "chunk-space": (" " + "b" * 63, "is no digest"),
    "chunk-other-digits": ("٣" * 64, "passes a careless isdigit()"),
    "chunk-prefixed": ("sha256:" + "b" * 64, "is another registry's way to write it"),
    "chunk-null": (None, "is no text"),
    "chunk-number": (1 << 40, "is no text"),
    "chunk-list": ([_B], "is no text"),
}

# In the place of one file's size: 3.
_SIZES: dict[str, tuple[object, str]] = {
    "size-negative": (-3, "moves every later file backwards"),
    "size-2-to-63": (1 << 63, "overflows a signed 64-bit integer"),
    "size-beyond-64-bit": (10**30, "fits no integer of the disk"),
    "size-float": (3.0, "is no integer, though it is equal to one"),
    "size-fraction": (2.5, "is no number of bytes"),
    "size-true": (True, "is an integer in Python only"),
    "size-text": ("3", "is text"),
    "size-null": (None, "is nothing"),
    "size-list": ([3], "is a list"),
}

# Changes of the good manifest; a value of None takes the key away.
_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "total-missing": ({"total_size": None}, "total_size is missing"),
    "chunk-size-missing": ({"chunk_size": None}, "chunk_size is missing"),
    "chunks-missing": ({"chunks": None}, "chunks is missing"),
    "files-missing": ({"files": None}, "files is missing"),
    "total-too-large": ({"total_size": 11}, "total_size is not the sum of the files"),
    "total-too-small": ({"total_size": 9}, "total_size is not the sum of the files"),
    "total-negative": ({"total_size": -10}, "total_size is negative"),
    "total-true": ({"total_size": True}, "total_size is a truth value"),
    "chunk-size-zero": ({"chunk_size": 0}, "divides by zero"),
    "chunk-size-negative": ({"chunk_size": -4}, "chunk_size is negative"),
    "chunk-size-over-cap": (
        {"chunk_size": (1 << 30) + 1, "chunks": [_A]},
        "one chunk may be larger than 1 GiB",
    ),
    "chunks-too-few": ({"chunks": [_A, _B]}, "two bytes have no chunk"),
    "chunks-too-many": ({"chunks": [_A, _B, _C, _A]}, "the last chunk is empty"),
    "chunks-none": ({"chunks": []}, "ten bytes have no chunk"),
    "chunks-object": ({"chunks": {_A: 4}}, "chunks is an object"),
    "chunks-text": ({"chunks": _A}, "chunks is text, which is a sequence in Python"),
    "files-none": ({"files": [], "total_size": 0, "chunks": []}, "a model of nothing"),
    "files-object": ({"files": {"a": 10}}, "files is an object"),
    "files-of-text": ({"files": ["a"]}, "a file is text"),
    "files-of-lists": ({"files": [["a", 10]]}, "a file is a list"),
    "path-missing": ({"files": [{"size": 10}]}, "a file has no path"),
    "path-null": ({"files": [{"path": None, "size": 10}]}, "a path is null"),
    "path-list": ({"files": [{"path": ["..", "evil"], "size": 10}]}, "a path is a list of parts"),
    "path-number": ({"files": [{"path": 7, "size": 10}]}, "a path is a number, and so a file descriptor"),
    "file-hash-short": (
        {"files": [{"path": "a", "size": 10, "sha256": "abc"}]},
        "a file's hash is no digest",
    ),
    "file-hash-empty": ({"files": [{"path": "a", "size": 10, "sha256": ""}]}, "a file's hash is empty"),
    "repeat-of-other-length": ({"chunks": [_A, _B, _A]}, "one chunk has two lengths, 4 and 2"),
    "lengths-too-few": ({"chunk_sizes": [5, 5]}, "a chunk has no length"),
    "lengths-too-many": ({"chunk_sizes": [4, 4, 1, 1]}, "a length has no chunk"),
    "lengths-none": ({"chunk_sizes": []}, "no chunk has a length"),
    "lengths-sum": ({"chunk_sizes": [4, 4, 4]}, "the chunks hold 12 bytes"),
    "lengths-zero": ({"chunk_sizes": [5, 0, 5]}, "a chunk is empty"),
    "lengths-negative": ({"chunk_sizes": [9, -4, 5]}, "a chunk has a negative length; the sum is right"),
    "lengths-over-cap": ({"chunk_sizes": [(1 << 30) + 1, 4, 4]}, "a chunk is larger than 1 GiB"),
    "lengths-true": ({"chunk_sizes": [True, 4, 5]}, "a length is a truth value"),
    "lengths-text": ({"chunk_sizes": "442"}, "the lengths are text"),
    "lengths-of-a-repeat": ({"chunks": [_A, _A, _B], "chunk_sizes": [4, 3, 3]}, "one chunk has two lengths"),
    "sum-overflows": (
        {
            "files": [{"path": "a", "size": 1 << 62}, {"path": "b", "size": 1 << 62}],
            "total_size": 0,
            "chunks": [],
        },
        "the sum of the files is 0 in 63 bits",
    ),
    "null-document-parts": ({"chunks": [None], "files": [None]}, "nulls where values must be"),
    "deep-in-a-field": (
        {"total_size": json.loads("[" * 900 + "]" * 900)},
        "a list of 900 levels for a number",
    ),
    "flood-of-errors": ({"chunks": [0] * 200_000}, "every entry is wrong: 200,000 error messages"),
}

_GOOD_RAW = json.dumps(GOOD).encode()
_DOCUMENTS = {
    "empty": (b"", "no bytes at all"),
    "blank": (b" \n", "only white space"),
    "not-json": (b"<!doctype html><title>Please log in</title>", "a captive portal's page"),
    "cut-off": (_GOOD_RAW[:-10], "ends early"),
    "trailing-garbage": (_GOOD_RAW + b"\0", "a byte after the end"),
    "two-documents": (_GOOD_RAW + _GOOD_RAW, "a second manifest behind the first"),
    "byte-order-mark": (b"\xef\xbb\xbf" + _GOOD_RAW, "begins with a byte order mark"),
    "utf-16": (_GOOD_RAW.decode().encode("utf-16"), "is UTF-16"),
    "not-utf-8": (_GOOD_RAW.replace(b"config", b"conf\xff\xfe"), "is not UTF-8"),
    "overlong-utf-8": (_GOOD_RAW.replace(b"config", b"..\xc0\xafig"), "hides a '/' in an overlong sequence"),
    "lone-surrogate": (_GOOD_RAW.replace(b"config", b"\\ud800"), "half a character"),
    "list": (b"[" + _GOOD_RAW + b"]", "is a list"),
    "null": (b"null", "is null: crashed the original"),
    "text": (b'"manifest"', "is text"),
    "number": (b"7", "is a number"),
    "nan": (_GOOD_RAW.replace(b'"total_size": 10', b'"total_size": NaN'), "NaN is no JSON"),
    "infinity": (_GOOD_RAW.replace(b'"total_size": 10', b'"total_size": 1e999'), "a number beyond any other"),
    "comment": (_GOOD_RAW + b"// good", "has a comment"),
    "single-quotes": (_GOOD_RAW.replace(b'"', b"'"), "is Python, not JSON"),
    "deep-lists": (b"[" * 200_000, "200,000 levels of lists"),
    "deep-objects": (b'{"a":' * 200_000, "200,000 levels of objects"),
    "deep-at-the-limit": (
        _GOOD_RAW.replace(b'"total_size": 10', b'"total_size": ' + b"[" * 1020 + b"]" * 1020),
        "as deep as the parser goes, deeper than Python's stack",
    ),
}


def _dumped(changes: dict[str, Any]) -> bytes:
    changed = {**GOOD, **changes}
    return json.dumps({key: value for key, value in changed.items() if value is not None}).encode()


def _with_paths(*paths: str) -> bytes:
    files = [{"path": path, "size": 1} for path in paths]
    return _dumped({"files": files, "total_size": len(paths), "chunk_size": len(paths), "chunks": [_A]})


def _cases() -> Iterator[HostileManifest]:
    for name, (path, wrong) in _PATHS.items():
        yield HostileManifest(f"path-{name}", _with_paths(path), f"the path {wrong}")
    for name, (paths, wrong) in _CLASHES.items():
        yield HostileManifest(f"paths-{name}", _with_paths(*paths), wrong)
    for name, (chunk, wrong) in _CHUNKS.items():
        yield HostileManifest(name, _dumped({"chunks": [_A, chunk, _C]}), f"the chunk's name {wrong}")
    for name, (size, wrong) in _SIZES.items():
        files = [{"path": "config.json", "size": size}, _TEN[1]]
        yield HostileManifest(name, _dumped({"files": files}), f"the size {wrong}")
    for name, (changes, wrong) in _CHANGES.items():
        yield HostileManifest(name, _dumped(changes), wrong)
    for name, (raw, wrong) in _DOCUMENTS.items():
        yield HostileManifest(f"document-{name}", raw, f"the document {wrong}")


HOSTILE_MANIFESTS: tuple[HostileManifest, ...] = tuple(_cases())
