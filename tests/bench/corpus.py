"""The bytes that every case pulls: one document root that is a registry and a model hub at once.

A file's path under the document root is its URL path, so that any static server can serve it:
`models.json` and `data/<sha256>` are the project's wire format, `api/…` and `bench/model/resolve/…` are what
`huggingface_hub.snapshot_download` asks for.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

CHUNK_SIZE_BYTES = 10 * 1024 * 1024  # the original publisher's chunk: 2 GiB are 205 of them
COMMIT = "be" * 20  # the hub wants a commit: any 40 hexadecimal digits
REPOSITORY = "bench/model"
VERSION = "v1"
SHARDS = 4  # as many as the connections of a pull: a tool that is parallel by file can use them all
SMALL_FILES_BYTES = {"config.json": 1_531, "tokenizer.json": 487_019}


@dataclass(frozen=True, slots=True)
class Blob:
    """A named run of bytes: a model file (`name` is its path) or a chunk (`name` is its digest)."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of bytes that lies in one chunk and in one file."""

    chunk: int
    chunk_offset_bytes: int
    file: int
    file_offset_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class Corpus:
    """A published model; `www` is the document root, `files` and `chunks` are in stream order."""

    www: Path
    files: tuple[Blob, ...]
    chunks: tuple[Blob, ...]

    @property
    def total_bytes(self) -> int:
        """The size of the installed model in bytes."""
        return sum(file.size_bytes for file in self.files)

    def hub_headers(self) -> dict[str, str]:
        """URL path of each model file to its `X-Linked-Etag`, quoted as the hub sends it."""
        base = f"/{REPOSITORY}/resolve/{COMMIT}"
        return {f"{base}/{file.name}": f'"{file.sha256}"' for file in self.files}

    def segments(self) -> Iterator[Segment]:
        """Yield where each byte of the stream lies, cut at every chunk end and every file end."""
        chunk, chunk_offset = 0, 0
        for index, file in enumerate(self.files):
            file_offset = 0
            while file_offset < file.size_bytes:
                length = min(file.size_bytes - file_offset, self.chunks[chunk].size_bytes - chunk_offset)
                yield Segment(chunk, chunk_offset, index, file_offset, length)
                file_offset, chunk_offset = file_offset + length, chunk_offset + length
                if chunk_offset == self.chunks[chunk].size_bytes:
                    chunk, chunk_offset = chunk + 1, 0


def ensure(root: Path, size_bytes: int) -> Corpus:
    """Return the corpus of `size_bytes` under `root`, made once and kept for later runs.

    Raises:
        OSError: the disk has no room for it (two copies are kept and two more come and go).
    """
    home = root / f"corpus-{size_bytes}"
    record = home / "corpus.json"
    if not record.exists():
        free_bytes = shutil.disk_usage(root).free
        if free_bytes < 5 * size_bytes:
            raise OSError(
                f"{root} has {free_bytes / 1e9:.1f} GB free, a run needs {5 * size_bytes / 1e9:.1f} GB"
            )
        shutil.rmtree(home, ignore_errors=True)
        _write_json(record, _make(home / "www", size_bytes))  # last: its presence means that all is there
    known = json.loads(record.read_text())
    files = tuple(Blob(**blob) for blob in known["files"])
    return Corpus(home / "www", files, tuple(Blob(**blob) for blob in known["chunks"]))


def _make(www: Path, size_bytes: int) -> dict[str, list[dict[str, object]]]:
    folder = www / REPOSITORY / "resolve" / COMMIT
    folder.mkdir(parents=True)
    files = _make_files(folder, size_bytes)
    chunks = publish_fixed(www, [(file, folder / file.name) for file in files])
    _publish_hub(www, files)
    return {"files": [asdict(file) for file in files], "chunks": [asdict(chunk) for chunk in chunks]}


def _make_files(folder: Path, size_bytes: int) -> list[Blob]:
    """Write shards of uneven length, so that no file begins where a chunk does, then the small files."""
    weights_bytes = size_bytes - sum(SMALL_FILES_BYTES.values())
    first_bytes = [weights_bytes // SHARDS + 4_099 * (index + 1) for index in range(SHARDS - 1)]
    sizes = [*first_bytes, weights_bytes - sum(first_bytes)]
    plan = {f"model-{index + 1:05}-of-{SHARDS:05}.safetensors": size for index, size in enumerate(sizes)}
    source = random.Random(20_240_101)  # seeded: two machines measure the same bytes
    files = []
    for name, file_bytes in (plan | SMALL_FILES_BYTES).items():
        digest = hashlib.sha256()
        with (folder / name).open("wb") as out:
            for start in range(0, file_bytes, 1 << 20):
                block = source.randbytes(min(1 << 20, file_bytes - start))
                digest.update(block)
                out.write(block)
        files.append(Blob(name, file_bytes, digest.hexdigest()))
    return files


def publish_fixed(www: Path, files: list[tuple[Blob, Path]]) -> list[Blob]:
    """Write a registry with `fixed` chunking under `www` and return its chunks in stream order.

    It is written here a second time on purpose, so that the benchmark does not rest on the code under test.

    Source: the registry's wire format: `models.json` names a manifest by its hash, the manifest names chunks.
    """
    data = www / "data"
    data.mkdir()
    chunks = []
    for body in _cut([path for _, path in files]):
        name = hashlib.sha256(body).hexdigest()
        (data / name).write_bytes(body)
        chunks.append(Blob(name, len(body), name))
    total_bytes = sum(chunk.size_bytes for chunk in chunks)
    manifest = {
        "total_size": total_bytes,
        "chunk_size": CHUNK_SIZE_BYTES,
        "chunks": [chunk.name for chunk in chunks],
        "files": [{"path": file.name, "size": file.size_bytes, "sha256": file.sha256} for file, _ in files],
    }
    raw = json.dumps(manifest, indent=1).encode()
    manifest_hash = hashlib.sha256(raw).hexdigest()
    (data / manifest_hash).write_bytes(raw)
    group, model = REPOSITORY.split("/")
    entry = {"hash": manifest_hash, "total_size": total_bytes}
    _write_json(www / "models.json", {group: {model: {VERSION: entry}}})
    return chunks


def _cut(paths: list[Path]) -> Iterator[bytes]:
    body = bytearray()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(CHUNK_SIZE_BYTES - len(body)):
                body += block
                if len(body) == CHUNK_SIZE_BYTES:
                    yield bytes(body)
                    body.clear()
    if body:
        yield bytes(body)


def _publish_hub(www: Path, files: list[Blob]) -> None:
    api = www / "api" / "models" / REPOSITORY
    siblings = [{"rfilename": file.name} for file in files]
    info = {"_id": "b", "id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": siblings}
    tree = [
        {
            "type": "file",
            "path": file.name,
            "size": file.size_bytes,
            "oid": file.sha256[:40],
            "lfs": {"oid": file.sha256, "size": file.size_bytes, "pointerSize": 134},
        }
        for file in files
    ]
    _write_json(api / "revision" / "main", info)
    _write_json(api / "tree" / COMMIT, tree)


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
