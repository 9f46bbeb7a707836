"""What should be a plain file and is none is refused at once, and says the way out."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from xprim_nb._files import read_plain, storage_errors
from xprim_nb.errors import StorageError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files in directories")


def _bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)  # the name of a socket must be short


_KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "socket": _bound,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "directory": Path.mkdir,
}


@pytest.mark.parametrize("kind", _KINDS)
def test_what_is_no_plain_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Nothing waits for a writer or reads without an end; the error names the file, says what lies there and what to do."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "registry.json"
    _KINDS[kind](path)
    refused = pytest.raises(StorageError, match=rf"reading failed, a .*{kind}.* lies .*: {path}")
    with refused as caught, storage_errors(path, "reading"):
        read_plain(path)
    assert caught.value.subject == str(path)
    assert "away, then run again" in caught.value.hint


def test_a_plain_file_is_read_also_through_a_link(tmp_path: Path) -> None:
    """Somebody may keep our files elsewhere; what is not there is told as ever."""
    (tmp_path / "there").write_bytes(b"x" * 100_000)
    (tmp_path / "here").symlink_to("there")
    assert read_plain(tmp_path / "here") == b"x" * 100_000
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "nowhere")
