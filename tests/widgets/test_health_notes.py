"""Plans, receipts and progress in words."""

from __future__ import annotations

from pathlib import Path

from xprim_nb import Config, connect
from xprim_nb.cache.health.repaired import Repaired
from xprim_nb.events import CheckProgress, PullProgress
from xprim_nb.refs import ModelRef
from xprim_nb.testing.registries import make_registry, random_bytes
from xprim_widgets._health_notes import checked, plan_note, progress_of, receipt_note

_REF = ModelRef.parse("demo/tiny v1")
_OLD = {"w.bin": random_bytes(1, 3000), "config.json": b"{}"}
_NEW = {"w.bin": random_bytes(2, 3000), "config.json": b'{"new": 1}'}


def test_a_repair_says_what_it_took_and_from_where() -> None:
    """Chunks and bytes, the registry, the places on this machine, what was put aside and what was not mended."""
    done = Repaired(
        model_id=str(_REF),
        repair_actions=("w.bin: 2 chunks are written anew.",),
        chunks_total=12,
        chunks_network=1,
        chunks_local=1,
        bytes_network=2048,
        local_sources={"demo/other v1": 1},
        kept="/kept",
        left_alone=("notes.txt",),
        receipt="1 of 12 chunks fetched (2.0 KB), 1 copied from this machine.",
    )
    note = receipt_note(done, "http://registry")
    assert note.kind == "done"
    assert note.title.startswith("demo/tiny v1 is whole again: 1 of 12 chunks fetched (2.0 KB)")
    assert note.lines == (
        "w.bin: 2 chunks are written anew.",
        "2.0 KB fetched from http://registry",
        "1 chunk copied from demo/other v1",
        "Put aside in /kept",
        "Yours, left alone: notes.txt",
    )
    failed = done.model_copy(
        update={"success": False, "remaining_issues": ("\x1bw.bin: nobody has chunk 3.",)}
    )
    note = receipt_note(failed, "http://registry")
    assert (note.kind, "\\x1bw.bin" in note.title) == ("trouble", True)
    assert "Not mended: \\x1bw.bin: nobody has chunk 3." in note.lines


def test_a_refresh_and_a_rollback_are_planned_and_told(tmp_path: Path) -> None:
    """The real values: what would change and the conflicts; what was kept, the backup, the bytes and from where."""
    registry = tmp_path / "registry"
    make_registry(registry, {str(_REF): _OLD})
    config = Config(registry_url=str(registry), data_dir=tmp_path / "models", has_environment=True)
    with connect(config) as kit:
        root = kit.pull(_REF).result().path
        current = plan_note(kit.plan_refresh(_REF).result())
        assert (current.kind, current.title, current.go) == ("done", "Nothing to refresh", "")
        (root / "config.json").write_bytes(b"mine")
        make_registry(registry, {str(_REF): _NEW})
        ask = plan_note(kit.plan_refresh(_REF).result())
        assert (ask.kind, ask.go, ask.why) == ("ask", "refresh", "")
        assert ask.title == "Refresh demo/tiny v1? 1 file changed on both sides."
        assert any(line.startswith("conflict: config.json") for line in ask.lines)
        done = kit.refresh(_REF).result()
        told = receipt_note(done, kit.registry_url)
        assert (told.kind, told.title) == ("done", "demo/tiny v1: refreshed")
        assert done.backup is not None
        assert any(done.backup.id in line for line in told.lines)
        assert any(line.endswith(f"came from {registry}") for line in told.lines)
        back = plan_note(kit.plan_rollback(_REF).result())
        assert (back.go, back.title, back.why) == ("rollback", "Roll demo/tiny v1 back?", "")
        (done.backup.tree / "w.bin").unlink()
        torn = plan_note(kit.plan_rollback(_REF).result())
        assert "w.bin" in torn.why
        assert torn.plain()["lines"] == list(torn.lines)
        (done.backup.tree / "w.bin").write_bytes(_OLD["w.bin"])
        assert receipt_note(kit.rollback(_REF).result(), "").title == "demo/tiny v1 was rolled back"


def test_progress_in_words_and_percent() -> None:
    """Bytes of one model, models of several, a pull's own words; no percentage where nothing is known."""
    half = CheckProgress(_REF, "validate", bytes_total=2048, bytes_done=1024)
    assert progress_of("full check", None) == ("full check", None)
    assert progress_of("repair", half) == ("repairing: 1.0 KB of 2.0 KB verified", 50)
    assert progress_of("quick check", CheckProgress(_REF, "validate")) == ("quick check", None)
    line, percent = progress_of("full check", half, 1, 4)
    assert (line, percent) == ("full check, 2 of 4 models: demo/tiny v1: 50% of 2.0 KB verified", 37)
    among = CheckProgress(_REF, "validate", 2048, 1024, models_total=10, models_done=9)
    assert progress_of("full check", among)[1] == 95
    assert progress_of("full check", None, 1, 4) == ("full check, 1 of 4 models", 25)
    ended = CheckProgress(_REF, "validate", 10, 10, models_total=10, models_done=10, finished=True)
    assert progress_of("full check", ended)[1] == 99
    pull = PullProgress(_REF, "chunks", bytes_total=100, bytes_completed=25)
    assert progress_of("refresh", pull) == ("refreshing: 25% of 100 B, 0 B/s", 25)
    assert progress_of("refresh", PullProgress(_REF, "manifest")) == ("refreshing: reads the manifest", None)


def test_a_check_of_nothing_is_not_healthy() -> None:
    """No report, no claim."""
    assert checked([]) == "Nothing was checked."
