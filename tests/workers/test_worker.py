"""A worker that does not come up says why, and is gone."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from xprim_nb.errors import WorkerStartError
from xprim_nb.workers.values import CrashReport, Environment
from xprim_nb.workers.worker import Worker

from .working import children, lives, until


def _script(folder: Path, text: str) -> Environment:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return Environment(python=path)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("exit 7", "exit code 7 before it said hello"),
        ("echo no module named encodings >&2; exit 1", "said hello: no module named encodings"),
        ("exec sleep 60", "no hello within 0.5 s"),
        ("exec cat", "no hello within 0.5 s"),
        ("exec yes", "No worker speaks here"),
        ("exec yes >&2", "no hello within 0.5 s"),
        ("echo hello; exit 0", "exit code 0 before it said hello"),
        ("kill -9 $$", "SIGKILL"),
        ("trap '' TERM; sleep 60 & wait", "no hello within 0.5 s"),
    ],
)
async def test_what_never_says_hello_is_told(tmp_path: Path, text: str, detail: str) -> None:
    """An interpreter that ends, is silent, or floods is given up in time, with its last words, and nothing is left."""
    before, began = set(children()), time.monotonic()
    with pytest.raises(WorkerStartError, match=detail) as caught:
        # One that ends or floods has time to do so.
        await Worker.start(_script(tmp_path, text), 0.5 if "within" in detail else 20.0)
    assert time.monotonic() - began < 15
    report = caught.value.report
    assert isinstance(report, CrashReport)
    assert report.doing == "start"
    assert len(report.last_lines) <= 200
    await until(lambda: set(children()) <= before)


@pytest.mark.parametrize("name", ["no-such-python", "."])
async def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    """What cannot be started at all has the same error, with the path in it."""
    with pytest.raises(WorkerStartError, match="cannot be started") as caught:
        await Worker.start(Environment(python=tmp_path / name), 5.0)
    assert caught.value.subject == str(tmp_path / name)
    assert isinstance(caught.value.report, CrashReport)
    assert caught.value.report.cause == "no_hello"


async def test_who_asked_for_a_worker_is_named_where_none_starts(tmp_path: Path) -> None:
    """The message and the report have the model beside the interpreter, whether that is missing or says nothing."""
    with pytest.raises(
        WorkerStartError, match=r"No worker starts for test/a v1: .*nothing cannot be"
    ) as caught:
        await Worker.start(Environment(python=tmp_path / "nothing"), 5.0, "test/a v1")
    assert isinstance(caught.value.report, CrashReport)
    assert (caught.value.subject, caught.value.report.model) == ("test/a v1", "test/a v1")
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.exit(3)\n")
    where = Environment(variables={"PYTHONPATH": str(tmp_path)})
    with pytest.raises(WorkerStartError, match=r"The worker of test/a v1 \(pid \d+\) is gone"):
        await Worker.start(where, 20.0, "test/a v1")


async def test_an_older_python_is_refused_by_name(tmp_path: Path) -> None:
    """A worker under Python 3.9 starts, says so, and is refused with its path and both versions."""
    (tmp_path / "sitecustomize.py").write_text(
        "import platform\nplatform.python_version = lambda: '3.9.18'\n"
    )
    where = Environment(variables={"PYTHONPATH": str(tmp_path)})
    with pytest.raises(WorkerStartError, match=r"is Python 3\.9\.18, and a worker needs 3\.11") as caught:
        await Worker.start(where, 10.0)
    assert sys.executable in str(caught.value)


async def test_another_protocol_is_refused(tmp_path: Path) -> None:
    """A worker of another release of this package says what it speaks, and is not spoken to."""
    wrapper = (
        f'exec {sys.executable} -c "import sys, runpy; sys.argv = sys.argv[2:]; '
        "import importlib.util as u; real = u.module_from_spec\n"
        "def changed(spec):\n"
        "    module = real(spec)\n"
        "    load = spec.loader.exec_module\n"
        "    def run(m): load(m); m.PROTOCOL = 99\n"
        "    spec.loader.exec_module = run if spec.name == 'xprim_worker_wire' else load\n"
        "    return module\n"
        "u.module_from_spec = changed\n"
        'runpy.run_path(sys.argv[0], run_name=\'__main__\')" "$@"'
    )
    with pytest.raises(WorkerStartError, match="speaks protocol 99, and this is 1"):
        await Worker.start(_script(tmp_path, wrapper), 10.0)


async def test_a_launcher_between_is_borne(tmp_path: Path) -> None:
    """An interpreter behind a script that stays is known by its own pid, and goes with the script."""
    worker = await Worker.start(_script(tmp_path, f'{sys.executable} "$@"\nexit $?'), 10.0)
    pid = worker.pid
    assert lives(pid)
    await worker.close()
    assert worker.ended.result() is None
    await until(lambda: not lives(pid))
