"""What loading adds, and that unloading takes all of it back."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb.errors import XprimError
from xprim_nb.events import TrustNotice
from xprim_nb.magics import load, unload
from xprim_nb.refs import ModelRef
from xprim_nb.testing.registries import MadeRegistry

from .conftest import value_of
from .kernels import Kernel


def _traces(shell: InteractiveShell) -> dict[str, object]:
    """Everything an extension could leave behind."""
    assert shell.display_formatter is not None
    formatters = shell.display_formatter.formatters
    return {
        "magics": set(shell.magics_manager.magics["line"]),
        "cell magics": dict(shell.magics_manager.magics["cell"]),
        "matchers": list(shell.Completer.custom_matchers),
        "errors": shell.custom_exceptions,
        "handler": shell.CustomTB,
        "events": {name: list(heard) for name, heard in shell.events.callbacks.items()},
        "log": list(logging.getLogger("xprim_nb").handlers),
        "faces": {
            name: {str(each) for each in (*formatter.type_printers, *formatter.deferred_printers)}
            for name, formatter in formatters.items()
        },
    }


def test_unloading_takes_everything_back(bare_shell: InteractiveShell) -> None:
    """After `%unload_ext` the shell is as it was, also when values were shown in between."""
    before = _traces(bare_shell)
    bare_shell.run_line_magic("load_ext", "xprim_nb")
    assert _traces(bare_shell) != before
    bare_shell.run_cell("%xprim pull other/base v1 --wait\n")
    bare_shell.run_cell("%xprim config")
    bare_shell.run_line_magic("unload_ext", "xprim_nb")
    assert _traces(bare_shell) == before
    with pytest.raises(UsageError, match="`%xprim` not found"):
        bare_shell.run_line_magic("xprim", "models")


def test_loading_again_changes_nothing(shell: InteractiveShell) -> None:
    """Loading twice adds nothing twice; reloading leaves one of each."""
    once = _traces(shell)
    load(shell)
    assert _traces(shell) == once
    shell.run_line_magic("reload_ext", "xprim_nb")
    assert len(shell.Completer.custom_matchers) == 1
    unload(shell)
    unload(shell)


def test_handler_of_somebody_else_survives(bare_shell: InteractiveShell) -> None:
    """Another extension's error handler keeps its errors while we are loaded, and stays when we go."""
    seen: list[str] = []
    set_handler: Callable[..., object] = bare_shell.set_custom_exc
    set_handler(
        (ZeroDivisionError,), lambda shell, kind, error, trace, tb_offset=None: seen.append(str(error))
    )
    bare_shell.run_line_magic("load_ext", "xprim_nb")
    bare_shell.run_cell("1 / 0")
    bare_shell.run_line_magic("unload_ext", "xprim_nb")
    bare_shell.run_cell("1 / 0")
    assert seen == ["division by zero", "division by zero"]
    assert bare_shell.custom_exceptions == (ZeroDivisionError,)


def test_a_cell_magic_of_somebody_else_comes_back(bare_shell: InteractiveShell) -> None:
    """Who had a `%%generate` before has it again when we go."""
    register: Callable[..., object] = bare_shell.register_magic_function
    register(lambda line, cell: "theirs", magic_kind="cell", magic_name="generate")
    before = _traces(bare_shell)
    bare_shell.run_line_magic("load_ext", "xprim_nb")
    bare_shell.run_line_magic("unload_ext", "xprim_nb")
    assert _traces(bare_shell) == before
    assert value_of(bare_shell.run_cell("%%generate x\ny\n")) == "theirs"


def test_only_shells_are_accepted() -> None:
    """Something that is no IPython shell is refused with a sentence."""
    with pytest.raises(XprimError, match="needs an IPython shell"):
        load(object())
    unload(object())


def test_variables_are_filled_in(shell: InteractiveShell) -> None:
    """`$name` and `{expression}` stand for values, and an assignment keeps what a command returns."""
    shell.run_cell("name = 'other/base'\nversions = ['v1']")
    assert value_of(shell.run_cell("%xprim pull $name {versions[0]} --wait")).ref == ModelRef(
        "other", "base", "v1"
    )
    value_of(shell.run_cell("where = %xprim path $name@v1"))
    assert shell.user_ns["where"].name == "v1"


def test_news_of_the_loop_is_told_by_the_cell(
    shell: InteractiveShell, registry: MadeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trust notice is printed by the command it belongs to, once, in the cell's own thread."""
    value_of(shell.run_cell("%xprim models --remote"))
    registry.put_entry("other/base v1", registry.entry("demo/big v1"))
    capsys.readouterr()
    value_of(shell.run_cell("rows = %xprim models --remote"))
    notice = TrustNotice("rewritten", ModelRef("other", "base", "v1"), "0" * 64, "1" * 64).message.split("(")[
        0
    ]
    assert capsys.readouterr().err.count(notice) == 1
    value_of(shell.run_cell("rows = %xprim models"))
    assert capsys.readouterr().err == ""


def test_mistakes_are_one_line_in_a_kernel(kernel: Kernel) -> None:
    """A bad option is one line on stderr, without a traceback; the cell counts as failed, the kernel goes on."""
    outcome = kernel.run("%xprim pull demo/big --nope")
    assert outcome.reply["status"] == "error"
    assert outcome.text("stderr") == (
        "UsageError: %xprim pull: unrecognized arguments: --nope (`%xprim pull --help` shows what it takes)\n"
    )
    assert kernel.run("%xprim pull --help").text().startswith("usage: %xprim pull")
    assert kernel.run("%unload_ext xprim_nb").reply["status"] == "ok"
    assert "not found" in kernel.run("%xprim models").text("stderr")
