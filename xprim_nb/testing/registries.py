"""Registries made from plain bytes, by the wire format alone: what the publisher's output is compared with.

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> made = make_registry(root, {"demo/tiny v1": {"a.bin": b"0123456789"}}, chunk_size=4)
    >>> len(made.chunks("demo/tiny v1")), made.entry("demo/tiny v1")["total_size"]
    (3, 10)

Source: spec 1 §Wire format.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["MadeRegistry", "make_registry", "random_bytes"]


def random_bytes(seed: int | str, size: int) -> bytes:
    """`size` bytes that no compression shortens, the same for the same seed on every machine."""
    return hashlib.shake_128(str(seed).encode()).digest(size)


def _name(ref: str) -> tuple[str, str, str]:
    group, _, rest = ref.partition("/")
    model, _, version = rest.partition(" ")
    return group, model, version


@dataclass(frozen=True, slots=True)
class MadeRegistry:
    """A registry directory, and what lies in it. Refs are written `group/model version`.

    Attributes:
        root: The directory with `models.json` and `data/`.
    """

    root: Path

    @property
    def index(self) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
        """`models.json`, parsed; empty while there is none."""
        path = self.root / "models.json"
        parsed: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
        if path.exists():
            parsed = json.loads(path.read_bytes())
        return parsed

    def entry(self, ref: str) -> dict[str, Any]:
        """The index entry of a version."""
        group, model, version = _name(ref)
        return self.index[group][model][version]

    def manifest_hash(self, ref: str) -> str:
        """The digest that the index names."""
        return str(self.entry(ref)["hash"])

    def manifest(self, ref: str) -> dict[str, Any]:
        """The manifest, parsed."""
        parsed: dict[str, Any] = json.loads(self.object_path(self.manifest_hash(ref)).read_bytes())
        return parsed

    def chunks(self, ref: str) -> list[str]:
        """The digests of its chunks, in stream order."""
        return list(self.manifest(ref)["chunks"])

    def object_path(self, digest: str) -> Path:
        """Where a manifest or chunk lies."""
        return self.root / "data" / digest

    def put_object(self, data: bytes) -> str:
        """Store bytes under their digest, which is returned."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.object_path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return digest

    def put_entry(self, ref: str, entry: Mapping[str, Any]) -> None:
        """Write an index entry, whatever it says."""
        group, model, version = _name(ref)
        index = self.index
        index.setdefault(group, {}).setdefault(model, {})[version] = dict(entry)
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "models.json").write_text(json.dumps(index))

    def put_manifest(self, ref: str, raw: bytes) -> str:
        """List these bytes as a version's manifest, whatever they say; returns their digest."""
        digest = self.put_object(raw)
        self.put_entry(ref, {"hash": digest})
        return digest


def _pieces(stream: bytes, lengths: Iterable[int]) -> list[bytes]:
    pieces, position = [], 0
    for length in lengths:
        if position >= len(stream):
            break
        pieces.append(stream[position : position + length])
        position += length
    return pieces


def make_registry(
    root: Path,
    models: Mapping[str, Mapping[str, bytes]],
    *,
    chunk_size: int = 1000,
    chunk_sizes: Sequence[int] | None = None,
    alias: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    file_hashes: bool = False,
) -> MadeRegistry:
    """Write models into a registry directory, beside those it has.

    Args:
        root: The directory; created.
        models: `{"group/model version": {path: bytes}}`; files are written in this order.
        chunk_size: Length of every chunk but the last, in bytes.
        chunk_sizes: Lengths to cut by instead, over and over until the stream ends; the manifest then says so.
        alias: `{"group/model latest": "v2"}`, written with the target's hash.
        metadata: Put into each new entry.
        file_hashes: Give each file its `sha256`.
    """
    made = MadeRegistry(root)
    for ref, files in models.items():
        stream = b"".join(files.values())
        pieces = _pieces(stream, itertools.cycle(chunk_sizes or [chunk_size]))
        listed: list[dict[str, Any]] = [{"path": path, "size": len(data)} for path, data in files.items()]
        if file_hashes:
            for file, data in zip(listed, files.values(), strict=True):
                file["sha256"] = hashlib.sha256(data).hexdigest()
        manifest: dict[str, Any] = {
            "total_size": len(stream),
            "chunk_size": chunk_size,
            "chunks": [made.put_object(piece) for piece in pieces],
            "files": listed,
        }
        if chunk_sizes is not None:
            manifest["chunk_sizes"] = [len(piece) for piece in pieces]
        made.put_manifest(ref, json.dumps(manifest).encode())
        entry = {**made.entry(ref), "total_size": len(stream)}
        made.put_entry(ref, entry if metadata is None else {**entry, "metadata": dict(metadata)})
    for ref, target in (alias or {}).items():
        group, model, _ = _name(ref)
        made.put_entry(ref, {**made.entry(f"{group}/{model} {target}"), "alias": target})
    return made
