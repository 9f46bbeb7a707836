"""Caches of other programs, made on the spot in their real layout."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

__all__ = ["make_hf_cache", "make_ollama_store"]

_LARGE_FROM = 1000


def make_hf_cache(
    hub: Path, repo: str, files: Mapping[str, bytes], *, revision: str = "a" * 40, ref: str = "main"
) -> Path:
    """A repository as huggingface_hub keeps it: blobs by etag, a snapshot of links, a ref; the snapshot.

    Large files are in LFS: their etag is the SHA-256. Others have git's hash.
    """
    root = hub / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / revision
    for path, data in files.items():
        git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        etag = hashlib.sha256(data).hexdigest() if len(data) >= _LARGE_FROM else git
        blob = root / "blobs" / etag
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link = snapshot / path
        link.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * (2 + path.count("/"))
        link.symlink_to(f"{up}blobs/{etag}")
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / ref).write_text(revision)
    (root / "blobs" / f"{'f' * 64}.incomplete").write_bytes(b"half")
    locks = hub / ".locks" / root.name
    locks.mkdir(parents=True, exist_ok=True)
    (locks / f"{'f' * 64}.lock").touch()
    return snapshot


def make_ollama_store(models: Path, name: str, tag: str, layers: Mapping[str, bytes]) -> Path:
    """A model as Ollama keeps it: blobs `sha256-<hex>` and a manifest; `layers` by the end of their media type."""
    listed = []
    for kind, data in layers.items():
        digest = hashlib.sha256(data).hexdigest()
        blob = models / "blobs" / f"sha256-{digest}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        media = f"application/vnd.ollama.image.{kind}"
        listed.append({"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)})
    (models / "blobs" / f"sha256-{'e' * 64}-partial").write_bytes(b"half")
    path = models / "manifests/registry.ollama.ai/library" / name / tag
    path.parent.mkdir(parents=True, exist_ok=True)
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": "sha256:0", "size": 2}
    path.write_text(json.dumps({"schemaVersion": 2, "config": config, "layers": listed}))
    return path
