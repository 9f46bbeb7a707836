"""What the commands of `%xprim prompts` do: call the toolkit, return the value.

Source: spec 6 §Faces.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from xprim_nb.magics import prompt_cell, prompt_tables, waiting
from xprim_nb.magics.naming import check_variable
from xprim_nb.magics.prompt_mending import put_mended
from xprim_nb.magics.prompt_saying import said, variable

if TYPE_CHECKING:
    from xprim_nb.magics.extension import Extension
    from xprim_nb.prompts.checkpoints.saved import Checkpoint
    from xprim_nb.prompts.explain import Explanation
    from xprim_nb.prompts.resolve import ResolvedScaffold
    from xprim_nb.reports import BranchTree, TrendChart

__all__ = ["COMMANDS", "run"]


def run(extension: Extension, asked: argparse.Namespace) -> object:
    """The value that a line of `%xprim prompts` asks for.

    Raises:
        UsageError: The options contradict each other, or name what is not there.
        XprimError: As the toolkit's verbs do.
    """
    return COMMANDS[asked.verb](extension, asked)


def _resolve(extension: Extension, asked: argparse.Namespace) -> ResolvedScaffold:
    prompt, fields = said(extension.shell, asked)
    return waiting.wait_quietly(extension.shell, extension.kit.prompts.resolve(prompt, **fields))


def _explain(extension: Extension, asked: argparse.Namespace) -> Explanation:
    prompt, fields = said(extension.shell, asked)
    return waiting.wait_quietly(extension.shell, extension.kit.prompts.explain(prompt, **fields))


def _ask(extension: Extension, asked: argparse.Namespace) -> object:
    check_variable("%xprim prompts ask", asked.name)
    prompt, fields = said(extension.shell, asked)
    return prompt_cell.ask(extension, asked, prompt, fields)


def _lint(extension: Extension, asked: argparse.Namespace) -> prompt_tables.LintRows:
    shell = extension.shell
    check_variable("%xprim prompts lint", asked.name)
    if asked.name is not None and not asked.fix:
        raise UsageError("%xprim prompts lint: --as names what --fix makes")
    prompt, fields = said(shell, asked)
    found = waiting.wait_quietly(shell, extension.kit.prompts.mending(prompt, **fields))
    if asked.fix and found.diff:
        put_mended(shell, found, asked.prompt, asked.name)
    return prompt_tables.findings(found)


def _analyze(extension: Extension, asked: argparse.Namespace) -> prompt_tables.CallRows | TrendChart:
    desk, shell = extension.kit.prompts, extension.shell
    analysis = waiting.wait_quietly(shell, desk.analysis(checkpoint=asked.checkpoint or ""))
    if asked.chart:
        return prompt_tables.trend(analysis)
    advice = waiting.wait_quietly(shell, desk.optimize())
    return prompt_tables.calls(analysis, asked.by, advice)


def _export(extension: Extension, asked: argparse.Namespace) -> None:
    if asked.off and (asked.url or asked.content):
        raise UsageError("%xprim prompts export: --off tells nobody any more, and takes nothing else")
    desk, shell = extension.kit.prompts, extension.shell
    told = desk.stop_export() if asked.off else desk.export_to(asked.url, content=asked.content)
    waiting.wait_quietly(shell, told)


def _checkpoint(extension: Extension, asked: argparse.Namespace) -> Checkpoint:
    shell = extension.shell
    state = variable(shell, "%xprim prompts checkpoint", "STATE", asked.state)
    whose = getattr(shell.user_ns.get(asked.scaffold), "scaffold", None)  # of a prompt that was resolved
    handle = extension.kit.prompts.save(
        whose.hash if whose is not None else asked.scaffold,
        state,
        asked.branch,
        parent=asked.parent,
        label=asked.label,
    )
    return waiting.wait_quietly(shell, handle)


def _restore(extension: Extension, asked: argparse.Namespace) -> Checkpoint:
    handle = extension.kit.prompts.restore(asked.checkpoint, scaffold=asked.scaffold)
    return waiting.wait_quietly(extension.shell, handle)


def _branch(extension: Extension, asked: argparse.Namespace) -> Checkpoint:
    handle = extension.kit.prompts.branch(asked.checkpoint, asked.name, scaffold=asked.scaffold)
    return waiting.wait_quietly(extension.shell, handle)


def _list(extension: Extension, asked: argparse.Namespace) -> BranchTree:
    saved = waiting.wait_quietly(extension.shell, extension.kit.prompts.tree(asked.scaffold))
    # Loaded with the first tree: the room of reports brings pandas along.
    tree: BranchTree = importlib.import_module("xprim_nb.reports.branch_tree").BranchTree.of_checkpoints(
        saved, asked.scaffold or ""
    )
    return tree


COMMANDS: Mapping[str, Callable[[Extension, argparse.Namespace], Any]] = {
    "resolve": _resolve,
    "explain": _explain,
    "ask": _ask,
    "lint": _lint,
    "checkpoint": _checkpoint,
    "restore": _restore,
    "branch": _branch,
    "list": _list,
    "analyze": _analyze,
    "export": _export,
}
