"""What the commands of `%xprim` about models that run do: call the toolkit, return the value.

Source: spec 4 §Faces; spec 3 §Magics.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from xprim_nb.magics import ai_tables, waiting
from xprim_nb.magics.ai_options import settings_of
from xprim_nb.magics.naming import cell_named, model_named

if TYPE_CHECKING:
    from xprim_nb._bridge import Handle
    from xprim_nb.magics.extension import Extension
    from xprim_nb.scheduling.values import ModelView

__all__ = ["COMMANDS", "is_about_models", "pin", "refuse_while_busy", "unpin", "why"]


def _ps(extension: Extension, asked: argparse.Namespace) -> ai_tables.AwakeRows:
    return ai_tables.awake(extension.kit.ai.ps().result())


def _load(extension: Extension, asked: argparse.Namespace) -> ModelView | Handle[ModelView]:
    note = cell_named(extension.shell)
    handle = extension.kit.ai.load(model_named(asked), note=note, **settings_of(asked))
    return handle if asked.background else waiting.wait_quietly(extension.shell, handle)


def _evict(extension: Extension, asked: argparse.Namespace) -> ModelView:
    view = waiting.wait_quietly(extension.shell, extension.kit.ai.evict(model_named(asked)))
    if not view.is_mine:
        extension.warn(
            f"process {view.kernel_pid} was asked to let {view.key} go; `%xprim ps` shows when it has"
        )
    return view


def _plan(extension: Extension, asked: argparse.Namespace) -> object:
    handle = extension.kit.ai.plan(model_named(asked), **settings_of(asked))
    return waiting.wait_quietly(extension.shell, handle)


def _gpu(extension: Extension, asked: argparse.Namespace) -> object:
    return extension.views.open("residency") or extension.kit.ai.snapshot()


def _timeline(extension: Extension, asked: argparse.Namespace) -> ai_tables.TimelineRows:
    return ai_tables.timeline(extension.kit.ai.timeline().result())


def pin(extension: Extension, asked: argparse.Namespace) -> ModelView | ai_tables.AwakeRows:
    """Keep a model loaded, or list those that are kept so."""
    if asked.reason:
        raise UsageError("%xprim pin: a model that is kept awake has no --reason")
    if asked.ref is None:
        return ai_tables.awake(each for each in extension.kit.ai.ps().result() if each.pinned)
    return _told(extension, extension.kit.ai.pin(model_named(asked)).result(), "keep")


def unpin(extension: Extension, asked: argparse.Namespace) -> ModelView:
    """Let a model be evicted again."""
    return _told(extension, extension.kit.ai.unpin(model_named(asked)).result(), "no longer keep")


def _told(extension: Extension, view: ModelView, what: str) -> ModelView:
    if not view.is_mine:
        extension.warn(
            f"process {view.kernel_pid} was asked to {what} {view.key}; `%xprim ps` shows when it does"
        )
    return view


def why(extension: Extension, asked: argparse.Namespace) -> str:
    """Why a model is as it is."""
    return extension.kit.ai.why(" ".join(asked.path)).result()


def is_about_models(extension: Extension, asked: argparse.Namespace) -> bool:
    """True when `why` names a model that this kernel runs, or has run, rather than a file."""
    if asked.awake:
        return True
    engine, name = extension.kit.engine, " ".join(asked.path)
    if engine is None or Path(name).exists():
        return False
    return any(name in (each.key, each.name) for each in engine.snapshot().models)


def refuse_while_busy(extension: Extension) -> None:
    """Raise while a model answers or somebody waits for one: new settings would end that; tell what they unload.

    Raises:
        UsageError: A model is at work.
    """
    engine = extension.kit.engine
    mine = [each for each in engine.snapshot().models if each.is_mine] if engine is not None else []
    busy = sorted(each.key for each in mine if each.in_flight or each.waiting)
    if busy:
        raise UsageError(f"%xprim config: wait for these first, or interrupt them: {', '.join(busy)}")
    awake = [each.key for each in mine if each.is_awake and each.status != "parked"]
    if awake:
        extension.warn(f"unloaded, because the settings are new: {', '.join(sorted(awake))}")


COMMANDS: Mapping[str, Callable[[Extension, argparse.Namespace], Any]] = {
    "ps": _ps,
    "load": _load,
    "evict": _evict,
    "plan": _plan,
    "gpu": _gpu,
    "timeline": _timeline,
}
