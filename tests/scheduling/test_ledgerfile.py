"""Where the ledger's file lies, and what happens when it is gone, damaged, or cannot be written."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest

from xprim_nb.errors import StorageError
from xprim_nb.scheduling.estimate import FootprintKey
from xprim_nb.scheduling.leases import Lease
from xprim_nb.scheduling.ledger import Ledger
from xprim_nb.scheduling.ledgerfile import FILE_NAME
from xprim_nb.workers.values import Measured

from ..cache.mounts import mounted
from .rooms import reserved, state

_GPU = [state("gpu", 100)]
_posix = pytest.mark.skipif(os.name == "nt", reason="owners and modes are POSIX")


@pytest.fixture
def open_ledger(tmp_path: Path) -> Iterator[Callable[[], Ledger]]:
    """Opens ledgers on one file, and closes them."""
    opened: list[Ledger] = []

    def begin() -> Ledger:
        opened.append(Ledger(tmp_path / "run"))
        return opened[-1]

    yield begin
    for ledger in opened:
        ledger.close()


def _damage(path: Path) -> None:
    """What a full disk or a stray program leaves: other bytes under the same name, and no log to mend them from."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with path.open("r+b") as file:
        file.write(b"no database at all" * 200)


def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    """Making a ledger touches no disk."""
    Ledger(tmp_path / "run").close()
    assert list(tmp_path.iterdir()) == []


@_posix
def test_only_this_user_can_look(tmp_path: Path, open_ledger: Callable[[], Ledger]) -> None:
    """Notes quote cells: directory and files are private, whatever the umask; the name tells the schema."""
    mask = os.umask(0)
    try:
        reserved(open_ledger())
    finally:
        os.umask(mask)
    folder = tmp_path / "run"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} >= {"ledger-1.sqlite"}
    written = [path for path in folder.iterdir() if path.suffix != ".lock"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}


def test_the_default_place_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's runtime directory, without a warning when the session has named none."""

    def told(*_: object, **__: object) -> str:
        warnings.warn("XDG_RUNTIME_DIR is not set", stacklevel=2)
        return str(tmp_path / "runtime" / "xprim")

    monkeypatch.setattr(platformdirs, "user_runtime_dir", told)
    ledger = Ledger(None)
    assert ledger.path == tmp_path / "runtime" / "xprim" / FILE_NAME
    assert ledger.leases() == []
    ledger.close()


def test_no_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else owns the directory that it would be: told with a way out."""

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError("runtime directory is owned by uid 7")

    monkeypatch.setattr(platformdirs, "user_runtime_dir", refuse)
    with pytest.raises(StorageError, match="owned by uid 7") as caught:
        Ledger(None)
    assert "ledger_dir" in caught.value.hint


@_posix
def test_a_default_place_that_is_not_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can make a directory of that name first; one of ours that is open to others is closed to them."""
    folder = tmp_path / "xprim"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    monkeypatch.setattr(platformdirs, "user_runtime_dir", lambda *_, **__: str(folder))
    ledger = Ledger(None)
    ledger.leases()
    ledger.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    with pytest.raises(StorageError, match="belongs to somebody else") as caught:
        Ledger(None).leases()
    assert "ledger_dir" in caught.value.hint
    link = tmp_path / "link"
    link.symlink_to(folder)
    monkeypatch.setattr(platformdirs, "user_runtime_dir", lambda *_, **__: str(link))
    monkeypatch.setattr(os, "geteuid", lambda: real)
    with pytest.raises(StorageError, match="belongs to somebody else"):
        Ledger(None).leases()


@pytest.mark.parametrize("exists", [False, True])
def test_a_disk_that_cannot_be_written(tmp_path: Path, exists: bool) -> None:
    """Reserving is refused with the path and a way out, whether there was a ledger before or not."""
    folder = tmp_path / "run"
    folder.mkdir()
    if exists:
        with contextlib.closing(Ledger(folder)) as before:
            before.leases()
    with mounted(tmp_path / "frozen", "--bind", "-o", "ro", folder) as frozen:
        ledger = Ledger(frozen)
        with pytest.raises(StorageError) as caught:
            reserved(ledger)
        ledger.close()
    assert caught.value.subject == str(tmp_path / "frozen" / FILE_NAME)
    assert "ledger_dir" in caught.value.hint


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    """Told with the path, not as an error of SQLite's."""
    (tmp_path / "run").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be begun") as caught:
        Ledger(tmp_path / "run").leases()
    assert "ledger_dir" in caught.value.hint


def test_a_passing_trouble_is_told_and_damages_nothing(
    open_ledger: Callable[[], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the file for too long: a StorageError, and the file is left where it is."""
    monkeypatch.setattr("xprim_nb._sqlite._BUSY_TIMEOUT_S", 0.05)
    ledger = open_ledger()
    lease = reserved(ledger)
    with contextlib.closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="locked"):
            reserved(ledger)
        other.execute("ROLLBACK")
    assert ledger.leases() == [lease]
    assert list(ledger.path.parent.glob("*.damaged")) == []


def test_a_damaged_file_is_begun_anew_with_our_leases(open_ledger: Callable[[], Ledger]) -> None:
    """The old bytes are kept aside; what this kernel holds is entered again before anybody reserves."""
    ledger = open_ledger()
    lease = ledger.advance(reserved(ledger, 60).id, "loading")
    ledger.close()
    _damage(ledger.path)
    assert ledger.leases() == [lease]
    refused = ledger.reserve("numpy:m", (("gpu", 41),), _GPU)
    assert not isinstance(refused, Lease)
    assert ledger.path.with_name(FILE_NAME + ".damaged").read_bytes().startswith(b"no database at all")
    assert ledger.advance(lease.id, "resident").state == "resident"


def test_a_file_that_was_never_a_ledger(open_ledger: Callable[[], Ledger]) -> None:
    """The first look finds it damaged; another database under the name is no ledger either."""
    ledger = open_ledger()
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(b"no database at all" * 500)
    assert ledger.leases() == []
    ledger.close()
    ledger.path.unlink()
    with contextlib.closing(sqlite3.connect(ledger.path)) as other:
        other.execute("CREATE TABLE something (x)")
        other.execute("PRAGMA user_version = 1")
    assert open_ledger().leases() == []


@pytest.mark.parametrize("how", ["deleted", "damaged"])
def test_every_kernel_enters_its_leases_again(open_ledger: Callable[[], Ledger], how: str) -> None:
    """Who finds it begins anew; the others notice that the file is another, and that something has changed."""
    one, other = open_ledger(), open_ledger()
    leases = [reserved(one, 30), reserved(other, 40)]
    for ledger in (one, other):
        ledger.changed()
    if how == "deleted":
        one.path.unlink()
    else:
        one.close()
        other.close()
        _damage(one.path)
    assert one.leases() == leases[:1]
    assert other.changed()
    assert sorted(other.leases(), key=lambda each: each.created) == leases
    assert one.leases() == other.leases()
    assert not isinstance(one.reserve("numpy:m", (("gpu", 31),), _GPU), Lease)


def test_restoring_by_hand(open_ledger: Callable[[], Ledger]) -> None:
    """An owner that knows of living workers enters their leases as its own, whatever the budget says."""
    lost = replace(reserved(open_ledger(), 90), id="lost", worker_pid=5)
    ledger = open_ledger()
    ledger.restore([lost])
    assert lost in ledger.leases()
    assert ledger.advance("lost", "loading").charges == (("gpu", 90),)
    ledger.path.unlink()
    assert [each.id for each in ledger.leases()] == ["lost"]


def test_what_is_let_go_of_is_not_entered_again(open_ledger: Callable[[], Ledger]) -> None:
    """A file that is replaced after a release gets what is still held, and no more."""
    ledger = open_ledger()
    kept, gone = reserved(ledger), reserved(ledger)
    ledger.release(gone.id)
    ledger.path.unlink()
    assert ledger.leases() == [kept]


def test_a_write_to_a_file_that_loses_its_name_is_done_again(tmp_path: Path) -> None:
    """Between looking and committing another kernel begins the file anew: nothing is written into the void."""
    told: list[float] = []

    def clock() -> float:  # asked inside the transaction
        told.append(1.0)
        if len(told) == 1:
            ledger.path.unlink()
        return 1.0

    ledger = Ledger(tmp_path / "run", clock=clock)
    ledger.leases()
    ledger.footprints.learn(FootprintKey("f", "numpy", 512, "", "cpu"), Measured(1, 1), when="loaded")
    assert len(told) == 2
    assert len(ledger.footprints.listed()) == 1
    ledger.close()


def test_nobody_reads_a_file_before_our_leases_are_in_it(
    open_ledger: Callable[[], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that had looked before the file was replaced opens the new one, and looks again."""
    ledger = open_ledger()
    lease = reserved(ledger)
    follow, restore = ledger._file._follow, ledger._file._restore
    looked, replaced, again = threading.Event(), threading.Event(), threading.Event()
    reader: list[threading.Thread] = []

    def late() -> None:
        if threading.current_thread() not in reader:
            follow()
        elif looked.is_set():
            again.set()
            follow()
        else:
            follow()
            looked.set()
            assert replaced.wait(20)

    def slow(connection: sqlite3.Connection) -> None:
        replaced.set()
        assert again.wait(20), "it read what is not there yet"
        restore(connection)

    monkeypatch.setattr(ledger._file, "_follow", late)
    monkeypatch.setattr(ledger._file, "_restore", slow)
    seen: list[list[Lease]] = []
    reader.append(threading.Thread(target=lambda: seen.append(ledger.leases())))
    reader[0].start()
    assert looked.wait(20)
    ledger.path.unlink()
    assert ledger.leases() == [lease]
    reader[0].join(20)
    assert seen == [[lease]]


def test_a_disk_that_damages_every_file(
    open_ledger: Callable[[], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is begun anew some times, then the trouble is told: no loop."""
    ledger = open_ledger()
    tries = []

    def broken(connection: sqlite3.Connection) -> list[Lease]:
        tries.append(connection)
        raise sqlite3.DatabaseError("no such table: leases")

    monkeypatch.setattr("xprim_nb.scheduling.ledgerview.read_leases", broken)
    with pytest.raises(StorageError, match="no such table"):
        ledger.leases()
    assert len(tries) == 5


@pytest.mark.parametrize("trouble", ["none", "deleted", "damaged"])
def test_threads_share_it(open_ledger: Callable[[], Ledger], trouble: str) -> None:
    """Eight threads reserve and release at once, though the file is replaced under them; nothing is lost or kept."""
    ledger = open_ledger()
    reserved(ledger)

    def work(number: int) -> int:
        kept = 0
        for turn in range(10):
            if number == turn == 4 and trouble == "deleted":
                ledger.path.unlink()
            if number == turn == 4 and trouble == "damaged":
                ledger.close()
                _damage(ledger.path)
            lease = ledger.reserve("numpy:m", (("gpu", 5),), _GPU)
            if isinstance(lease, Lease):
                kept += 1
                ledger.release(lease.id)
        return kept

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) > 8
    assert len(ledger.leases()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_closing_closes(open_ledger: Callable[[], Ledger]) -> None:
    """No descriptor is left, and the ledger opens again when it is used."""
    ledger = open_ledger()
    reserved(ledger)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ledger.leases(), range(8)))
    ledger.close()
    links = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    assert not [link for link in links if str(ledger.path) in link]
    assert len(ledger.leases()) == 1
