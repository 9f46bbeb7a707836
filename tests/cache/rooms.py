"""A registry, a base directory that pulls from it, and the questions that every test here asks about the two."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xprim_nb.cache.layout import Layout
from xprim_nb.cache.verify import wrong_chunks
from xprim_nb.config import Config
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import Manifest, parse_manifest
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

__all__ = ["CHUNK", "Room", "Worker", "blocks", "listing", "require_sound"]

# Small enough that a model of fifty chunks takes milliseconds.
CHUNK = 1000


def blocks(*seeds: int | str) -> bytes:
    """One chunk of bytes for each seed; equal seeds give equal chunks."""
    return b"".join(random_bytes(f"block {seed}", CHUNK) for seed in seeds)


def listing(root: Path) -> dict[str, bytes | str | None]:
    """Everything below a directory: bytes of files, targets of links, None for directories."""
    found: dict[str, bytes | str | None] = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder) / name
            key = path.relative_to(root).as_posix()
            found[key] = (
                str(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
            )
    return found


@dataclass
class Room:
    """One registry directory and one base.

    Attributes:
        root: Where everything of the test lies.
        made: The registry.
        base: The base directory; not created.
        url: What the managers pull from: the registry's directory, or a server's URL.
    """

    root: Path
    made: MadeRegistry
    base: Path
    url: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def at(cls, root: Path) -> Room:
        """An empty registry and base below `root`."""
        made = MadeRegistry(root / "registry")
        return cls(root, made, root / "base", str(made.root))

    def publish(self, models: Mapping[str, Mapping[str, bytes]], **settings: Any) -> MadeRegistry:
        """Add models to the registry, in chunks of `CHUNK` bytes unless told otherwise."""
        return make_registry(self.made.root, models, **{"chunk_size": CHUNK, **settings})

    def config(self, **changes: Any) -> Config:
        """Settings without waits."""
        settings = {"registry_url": self.url, "data_dir": self.base, "backoff_s": 0.0, "tries": 2}
        return Config(**{**settings, **self.settings, **changes})

    @asynccontextmanager
    async def manager(self, **changes: Any) -> AsyncIterator[Manager]:
        """A manager of the base, open."""
        async with Manager(self.config(**changes)) as manager:
            yield manager

    @property
    def layout(self) -> Layout:
        """Where things lie in the base."""
        return Layout.of(self.config())

    @property
    def registry_json(self) -> Any:
        """`registry.json`, parsed."""
        return json.loads((self.base / "registry.json").read_bytes())

    def dir(self, ref: str) -> Path:
        """The directory of a version."""
        return self.layout.model_dir(ModelRef.parse(ref))

    def files(self, ref: str) -> dict[str, bytes]:
        """The files of an installed version with their bytes, our own metadata left out."""
        root = self.dir(ref)
        return {
            path: data
            for path, data in listing(root).items()
            if isinstance(data, bytes) and not path.startswith(".xprim/")
        }

    def manifest(self, ref: str) -> Manifest:
        """The manifest that the registry offers."""
        raw = self.made.object_path(self.made.manifest_hash(ref)).read_bytes()
        return parse_manifest(raw, ".xprim").manifest


def require_sound(base: Path, expected: Mapping[str, Mapping[str, bytes]] | None = None) -> None:
    """Assert that what `registry.json` names is whole and lies there, that nothing else does, and that no
    operation is left half done.

    Args:
        base: The base directory.
        expected: What is installed, if the test knows: each ref with its files.
    """
    layout = Layout(base, ".xprim")
    path = base / "registry.json"
    named: dict[str, str] = {}
    if path.exists():
        for group, models in json.loads(path.read_bytes()).items():
            for model, versions in models.items():
                for version, entry in versions.items():
                    named[f"{group}/{model} {version}"] = entry["manifest_hash"]
    there = {
        "{}/{} {}".format(*found.relative_to(base).parts[:3]): found
        for found in base.glob("*/*/*/.xprim/manifest.json")
        if found.relative_to(base).parts[0] != "cache"
    }
    assert sorted(there) == sorted(named)
    for ref, manifest_path in there.items():
        raw, root = manifest_path.read_bytes(), manifest_path.parent.parent
        assert hashlib.sha256(raw).hexdigest() == named[ref], f"the manifest of {ref} is not the one named"
        manifest = parse_manifest(raw, ".xprim").manifest
        assert wrong_chunks(root, manifest) == {}, f"{ref} is damaged"
        lying = {
            name
            for name, data in listing(root).items()
            if data is not None and not name.startswith(".xprim/")
        }
        assert lying == {file.path for file in manifest.files}, f"{ref} has other files than it should"
    if expected is not None:
        assert sorted(there) == sorted(expected)
        for ref, files in expected.items():
            root = there[ref].parent.parent
            assert {name: (root / name).read_bytes() for name in files} == dict(files)
    assert list(layout.intents.glob("*.json")) == [], "an operation is left half done"
    assert list(layout.trash.glob("*")) == [], "a tree is left on its way out"


_PULL_WORKER = Path(__file__).with_name("pull_worker.py")


class Worker:
    """A `pull_worker.py` at work. A context manager: leaving kills it if it still runs.

    Args:
        room: Whose base and registry.
        orders: Verbs and refs, in turn.
        concurrency: Chunks at once.
    """

    def __init__(self, room: Room, *orders: str, concurrency: int = 4) -> None:
        arguments = [sys.executable, str(_PULL_WORKER), str(room.base), room.url, str(concurrency), *orders]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def go_on(self) -> None:
        """Answer a `wait`."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def next(self) -> dict[str, Any]:
        """The next document it prints. Blocks the thread: coroutines use `to_thread`."""
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline() or "{}")
        return found

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def finish(self) -> list[dict[str, Any]]:
        """All it still prints, after it has ended well."""
        out, err = self.process.communicate(timeout=90)
        assert self.process.returncode == 0, err
        return [json.loads(line) for line in out.splitlines()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        self.process.communicate()
