"""Tab in a line of `%xprim`, in a shell and over the protocol that notebooks use."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb import Handle
from xprim_nb.magics import parsing
from xprim_nb.magics.completion import Completer
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry

from ..fake_engine import AWAKE, FakeEngine
from .conftest import value_of
from .kernels import Kernel

if TYPE_CHECKING:
    from xprim_nb.toolkit import Toolkit


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Tab offers does not depend on how busy the machine is."""
    monkeypatch.setattr("xprim_nb.magics.completion._PATIENCE_S", 20.0)


def _offered(shell: InteractiveShell, line: str) -> dict[str, str]:
    """What Tab offers at the end of a line: each text with its type."""
    with provisionalcompleter():
        found = list(shell.Completer.completions(line, len(line)))
    assert all(line[each.start : each.end] == line[found[0].start :] for each in found)
    return {each.text: each.type or "" for each in found}


def _models(shell: InteractiveShell, line: str) -> set[str]:
    """The models among what Tab offers: where we have nothing to say, the shell says what it has."""
    return {text for text, kind in _offered(shell, line).items() if kind in ("model", "installed", "remote")}


def test_commands_and_options(shell: InteractiveShell) -> None:
    """The first word is a command, a dash begins an option, `help` takes a command, `config` a setting."""
    assert set(_offered(shell, "%xprim ")) >= {
        "models",
        "pull",
        "remove",
        "info",
        "path",
        "update",
        "config",
        "help",
    }
    assert _offered(shell, "%xprim pul") == {"pull": "command", "pulls": "command"}
    assert _offered(shell, "%xprim doc") == {"doctor": "command"}
    assert _offered(shell, "%xprim help bro") == {"browse": "command"}
    assert _offered(shell, "%xprim pull --w") == {"--wait": "option"}
    assert _offered(shell, "%xprim pull demo/big --dry") == {"--dry-run": "option"}
    assert _offered(shell, "%xprim help upd") == {"update": "command"}
    assert _offered(shell, "%xprim config concurrency") == {"concurrency=": "setting"}


def test_the_caches_commands_are_offered_what_they_take(shell: InteractiveShell) -> None:
    """Installed models for what mends, archived ones for `restore`, known places for `adopt`, schedules, options."""
    value_of(shell.run_cell("pulled = %xprim pull other/base v1 --wait"))
    for command in ("status", "health", "validate", "repair", "refresh", "rollback", "pin", "archive"):
        assert _models(shell, f"%xprim {command} ") == {"other/base"}
    assert _offered(shell, "%xprim repair other/base ") == {"v1": "installed"}
    assert _models(shell, "%xprim restore ") == set()
    value_of(shell.run_cell("archived = %xprim archive other/base v1"))
    assert _models(shell, "%xprim restore ") == {"other/base"}
    assert _models(shell, "%xprim repair ") == set()
    assert _offered(shell, "%xprim adopt ") == {"hf": "place", "ollama": "place"}
    assert _offered(shell, "%xprim maintain --schedule d") == {"daily": "schedule"}
    assert _offered(shell, "%xprim repair --over") == {"--overwrite-modified": "option"}
    assert _offered(shell, "%xprim cleanup --max-s") == {"--max-size": "option"}


def test_what_runs_models_is_offered_models(shell: InteractiveShell, engine: FakeEngine) -> None:
    """`%%generate` and `load` offer what could be installed, `evict` and `--awake` what is awake, options their values."""
    value_of(shell.run_cell("rows = %xprim models --remote"))
    for begin in ("%%generate ", "%xprim load ", "%xprim plan "):
        assert _models(shell, begin) == {"demo/big", "demo/tiny-llama", "other/base"}
    assert _offered(shell, "%%generate demo/big ") == {"v1": "remote"}
    assert _offered(shell, "%%generate demo/big v1 --max") == {"--max-tokens": "option"}
    assert set(_offered(shell, "%%generate demo/big --priority ")) == {
        "system",
        "realtime",
        "default",
        "batch",
    }
    assert _offered(shell, "%xprim tim") == {"timeline": "command"}
    assert _offered(shell, "%xprim help gen") == {"generate": "command"}
    assert _offered(shell, "%xprim config max_v") == {"max_vram=": "setting"}
    assert "awake" not in _offered(shell, "%xprim evict ").values()
    engine.views = [AWAKE, replace(AWAKE, key="numpy:gone v1", status="absent")]
    value_of(shell.run_cell("rows = %xprim ps"))
    for begin in ("%xprim evict ", "%xprim pin --awake ", "%xprim why --awake "):
        assert _offered(shell, begin) == {"numpy:demo/tiny-llama@v2": "awake"}
    assert _offered(shell, "%xprim evict LLAMA") == {"numpy:demo/tiny-llama@v2": "awake"}


def test_models_of_the_registry_by_any_part(shell: InteractiveShell) -> None:
    """What the registry listed last is offered, by any part of the name, then its versions."""
    value_of(shell.run_cell("rows = %xprim models --remote"))
    assert _offered(shell, "%xprim pull ") == {
        "demo/big": "model",
        "demo/tiny-llama": "model",
        "other/base": "model",
    }
    assert _offered(shell, "%xprim pull LLAMA") == {"demo/tiny-llama": "model"}
    assert _offered(shell, "h = %xprim pull ti") == {"demo/tiny-llama": "model"}
    assert _offered(shell, "%xprim pull --force demo/tiny-llama ") == {
        "latest": "remote",
        "v1": "remote",
        "v2": "remote",
    }
    assert _offered(shell, "%xprim pull demo/tiny-llama@v") == {
        "demo/tiny-llama@v1": "remote",
        "demo/tiny-llama@v2": "remote",
    }
    assert _models(shell, "%xprim info demo/big v1") == set()


def test_what_begins_as_typed_comes_first(shell: InteractiveShell) -> None:
    """Of two names that contain the word, the one that begins with it leads."""
    value_of(shell.run_cell("rows = %xprim models --remote"))
    with provisionalcompleter():
        line = "%xprim pull o"
        offered = [each.text for each in shell.Completer.completions(line, len(line))]
    assert offered == ["other/base", "demo/big", "demo/tiny-llama"]


def test_installed_models_only_where_they_are_meant(shell: InteractiveShell) -> None:
    """`remove`, `path`, `update` and `info` offer what is installed; `info --remote` the registry's, too."""
    value_of(shell.run_cell("rows = %xprim models --remote"))
    value_of(shell.run_cell("pulled = %xprim pull other/base v1 --wait"))
    for command in ("remove", "path", "update", "info"):
        assert _offered(shell, f"%xprim {command} ") == {"other/base": "model"}
    assert "demo/big" in _offered(shell, "%xprim info --remote ")
    assert _offered(shell, "%xprim pull other/base ") == {"v1": "installed"}


def test_nothing_stale_is_remembered(shell: InteractiveShell) -> None:
    """A removed model is not offered any more."""
    value_of(shell.run_cell("pulled = %xprim pull other/base v1 --wait"))
    assert _models(shell, "%xprim path ") == {"other/base"}
    value_of(shell.run_cell("gone = %xprim remove other/base v1"))
    assert _models(shell, "%xprim path ") == set()


def test_tab_asks_no_network(shell: InteractiveShell, registry: MadeRegistry) -> None:
    """Before the first listing a Tab offers nothing rather than ask; afterwards it offers that list."""
    with FaultyRegistry(registry.root) as server:
        value_of(shell.run_cell(f"config = %xprim config registry_url={server.url}"))
        assert _models(shell, "%xprim pull ") == set()
        assert server.count() == 0
        value_of(shell.run_cell("rows = %xprim models --remote"))
        asked = server.count()
        assert "demo/big" in _offered(shell, "%xprim pull ")
        assert server.count() == asked


class _StuckKit:
    """A toolkit whose disk does not answer."""

    uses_demo_registry = False

    def __init__(self) -> None:
        self.asked: list[Handle[bool]] = []

    def list_installed(self) -> Handle[bool]:
        """Never ends."""
        self.asked.append(Handle(asyncio.Event().wait(), "wait for ever"))
        return self.asked[-1]


def test_stuck_disk_does_not_hold_up_the_editor(
    bare_shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the lists do not come in time a Tab offers none, and returns."""
    monkeypatch.setattr("xprim_nb.magics.completion._PATIENCE_S", 0.05)
    kit = _StuckKit()
    bare_shell.Completer.custom_matchers.append(Completer(lambda: cast("Toolkit", kit)).match)
    assert _models(bare_shell, "%xprim path ") == set()
    (handle,) = kit.asked
    handle.cancel()


def test_other_lines_are_left_alone(shell: InteractiveShell) -> None:
    """Outside `%xprim` the shell completes as it did, and errors in ours never disturb it."""
    shell.user_ns["some_long_name"] = 1
    assert "some_long_name" in _offered(shell, "some_long")
    assert _models(shell, "%xprim nonsense x") == set()
    assert "%xprim" in {text if text.startswith("%") else f"%{text}" for text in _offered(shell, "%xpr")}


def test_over_the_protocol(kernel: Kernel) -> None:
    """A notebook's completion request gets the models, their types, and the range to replace."""
    kernel.run("rows = %xprim models --remote")
    reply = kernel.complete("h = %xprim pull llama")
    assert reply["status"] == "ok"
    assert reply["matches"] == ["demo/tiny-llama"]
    assert (reply["cursor_start"], reply["cursor_end"]) == (16, 21)
    assert reply["metadata"]["_jupyter_types_experimental"][0]["type"] == "model"


def test_prompts_have_verbs_options_and_choices(shell: InteractiveShell) -> None:
    """A verb after `prompts`, its options, what those choose from, and models as one word."""
    assert set(_offered(shell, "%xprim prompts ")) == set(parsing.GROUPS["prompts"])
    assert _offered(shell, "%xprim prompts expl") == {"explain": "command"}
    assert _offered(shell, "%xprim help prompts lin") == {"lint": "command"}
    assert _offered(shell, "%xprim prompts ask ours --sam") == {"--samples": "option"}
    assert "--samples" not in _offered(shell, "%xprim prompts resolve ours --")
    assert _offered(shell, "%%prompt --expl") == {"--explain": "option"}
    assert set(_offered(shell, "%%prompt --cache ")) == {"use", "refresh", "bypass", "only"}
    assert _offered(shell, "%%prompt --provider anth") == {"anthropic": "provider"}
    assert _offered(shell, "%xprim prompts analyze --by day") == {"day": "group"}
    value_of(shell.run_cell("_ = %xprim models --remote"))
    assert _offered(shell, "%%prompt --model demo/bi") == {"demo/big@v1": "remote"}
