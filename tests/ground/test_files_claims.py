"""A claim is held once, dies with its holder, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xprim_nb._files import Claim
from xprim_nb.errors import StorageError

_HOLD = """
import sys
from pathlib import Path
from xprim_nb._files import Claim
assert Claim(Path(sys.argv[1])).try_acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_work_is_claimed_once(tmp_path: Path) -> None:
    """While one holds it another does not get it; given back it is free, and its file is gone."""
    one, other = Claim(tmp_path / "locks" / "a"), Claim(tmp_path / "locks" / "a")
    assert one.try_acquire()
    assert (one.held, other.try_acquire(), other.held) == (True, False, False)
    one.release()
    assert list((tmp_path / "locks").iterdir()) == []
    assert other.try_acquire()
    other.release()
    other.release()
    assert not other.held


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_process_claims_nothing(tmp_path: Path) -> None:
    """The system takes back what a killed process had claimed."""
    path = tmp_path / "a"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        claim = Claim(path)
        assert not claim.try_acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert claim.try_acquire()
    claim.release()


def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    """A file where the directory should be is a storage error with that path."""
    (tmp_path / "locks").write_bytes(b"")
    with pytest.raises(StorageError, match="locks"):
        Claim(tmp_path / "locks" / "a").try_acquire()
