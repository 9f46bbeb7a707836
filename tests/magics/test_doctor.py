"""`%xprim doctor`: a line for each part, whatever fails or hangs, and an answer within three seconds."""

from __future__ import annotations

import re
import threading
import time

import pytest
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb.errors import ConfigError
from xprim_nb.magics import doctor
from xprim_nb.magics.doctor import Diagnosis, Finding, found_by
from xprim_nb.manager.probing import Said
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .conftest import value_of
from .kernels import Kernel

_PARTS = (
    "xprim_nb|front end|Python|IPython|kernel|buttons|event loop|our loop|windows|processor|GPU|disk|locks|"
    "unfinished pulls|registry|proxies|devices|ledger|limits|backend anthropic|backend numpy|backend ollama|"
    "backend openai|backend openai_compatible|backend transformers"
).split("|")


def _diagnosis(shell: InteractiveShell) -> Diagnosis:
    found = value_of(shell.run_cell("%xprim doctor"))
    assert isinstance(found, Diagnosis)
    return found


def test_every_part_has_a_line(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a healthy machine each part is there, in a fixed order, and none is broken."""
    monkeypatch.setattr(doctor, "_PATIENCE_S", 20.0)  # healthy it may be, and busy
    found = _diagnosis(shell)
    assert [each.subject for each in found.findings] == _PARTS
    assert found.verdict != "broken"
    assert found.of("registry").text.endswith(" s")
    assert "5 versions" in found.of("registry").text
    with pytest.raises(KeyError):
        found.of("weather")


def test_faces_say_verdict_and_advice_and_obey_nothing() -> None:
    """Text and HTML have the verdict in words and what to do; what a server wrote stays text."""
    bad = Finding("registry", "broken", "said \x1b[31m<script>\u202e", "Run `xprim models pull a/b v1`.")
    found = Diagnosis((bad, Finding("disk", "ok", "fine")), 0.25)
    text, html = repr(found), found._repr_html_()
    assert "✗ registry  broken: said \\x1b[31m<script>\\u202e\n" in text
    assert "→ Run `%xprim pull a/b v1`." in text
    assert text.endswith("2 things looked at in 0.2 s: 1 broken, 0 to look at")
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert not set(text + html) & set("\x1b\u202e")
    assert str(bad).startswith("✗ registry: said")
    assert str(Diagnosis((), 0.0)).endswith("everything is as it should be")
    assert Diagnosis((Finding("disk", "look at this", ""),), 0.0).verdict == "look at this"


def test_probe_that_fails_is_a_line() -> None:
    """An error of ours is told with its hint, any other by its name; the others answer all the same."""

    def ours() -> Said:
        raise ConfigError("It cannot work.", hint="Change it.")

    def other() -> Said:
        raise ZeroDivisionError("by zero")

    found = found_by({"a": ours, "b": other, "c": lambda: ("ok", "fine", "")}, 5.0)
    assert found == [
        Finding("a", "broken", "It cannot work.", "Change it."),
        Finding("b", "broken", "could not be looked at: ZeroDivisionError: by zero"),
        Finding("c", "ok", "fine"),
    ]


def test_probe_that_hangs_is_left_behind() -> None:
    """A probe that does not return costs no more than the patience, and is told."""
    release = threading.Event()

    def hangs() -> Said:
        release.wait()
        return "ok", "", ""

    begun = time.monotonic()
    hanging, fine = found_by({"hangs": hangs, "fine": lambda: ("ok", "fine", "")}, 1.0)
    release.set()
    assert time.monotonic() - begun < 10  # it would hang for ever
    assert (hanging.verdict, fine.verdict) == ("broken", "ok")
    assert hanging.text == "has not answered within 1.0 s"


def test_settings_that_cannot_work_are_a_line(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no toolkit can be made the doctor says why, and looks at the rest."""
    monkeypatch.setattr(doctor, "_PATIENCE_S", 20.0)
    monkeypatch.setenv("XPRIM_OFFLINE", "perhaps")
    found = _diagnosis(shell)
    assert found.of("settings").verdict == "broken"
    assert "XPRIM_OFFLINE" in found.of("settings").text
    assert found.of("Python").verdict == "ok"


@pytest.mark.alone
def test_answers_in_time_when_the_registry_hangs(kernel: Kernel, server: FaultyRegistry) -> None:
    """A registry that accepts and says nothing is a broken line within about three seconds; nothing is left running."""
    kernel.run("d = %xprim doctor")  # what is loaded for the first time takes its own time
    with server.hold():
        begun = time.monotonic()
        outcome = kernel.run("d = %xprim doctor\nprint(d)")
        took_s = time.monotonic() - begun
        assert "1 broken" in outcome.text()
        said = kernel.run("print(d.of('registry').text)").text()
        assert "no answer within 2 s" in said
        assert took_s < 3.5
    server.heal()
    assert kernel.run("d = %xprim doctor\nprint(d.of('registry').verdict)").text() == "ok\n"


def test_in_a_kernel(kernel: Kernel) -> None:
    """In a notebook it is a table, and knows the kernel, its way with buttons, and the windows."""
    kernel.run("d = %xprim doctor")  # what is loaded for the first time takes its own time
    outcome = kernel.run("%xprim doctor")
    (shown,) = outcome.of("execute_result")
    assert shown["data"]["text/html"].startswith('<table class="xprim-doctor">')
    text = shown["data"]["text/plain"]
    version = kernel.run("import ipykernel\nprint(ipykernel.__version__)").text().strip()
    assert f"ipykernel {version}: " in text
    assert re.search(r"windows +ok: .*pull, pulls; anywidget ", text)
    assert "a program (nbclient, nbconvert, papermill) or a console" in text
    assert outcome.text() + outcome.text("stderr") == ""
