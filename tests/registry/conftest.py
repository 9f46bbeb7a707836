"""What the tests of several modules of this room look at registries with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from xprim_nb.testing.registries import MadeRegistry


@pytest.fixture
def original_install() -> Callable[[Path, str], dict[str, bytes]]:
    """The original client's algorithm, which knows neither `chunk_sizes` nor aliases.

    A function of the registry's directory and a ref that concatenates the chunks and cuts the files by their size.
    """

    def install(to: Path, ref: str) -> dict[str, bytes]:
        registry, stream = MadeRegistry(to), b""
        for chunk in registry.chunks(ref):
            data = registry.object_path(chunk).read_bytes()
            assert hashlib.sha256(data).hexdigest() == chunk
            stream += data
        assert len(stream) == registry.manifest(ref)["total_size"]
        files = {}
        for file in registry.manifest(ref)["files"]:
            files[file["path"]], stream = stream[: file["size"]], stream[file["size"] :]
        assert not stream
        return files

    return install
