"""What is awake on this machine, and who may leave: `ps`, `load`, `evict`, `pin`, `unpin`, `plan`, `timeline`, `models`.

A process of the command line holds no model for longer than it runs: what is awake is held by notebooks, and these are
asked through the ledger.

Source: spec 4 §Residency, §Faces.
"""

from __future__ import annotations

import importlib
import queue
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from xprim_nb.cli import ai_documents, documents, words
from xprim_nb.cli.ai_options import loading_options, model_argument, model_of, settings_of
from xprim_nb.cli.ai_progress import TICK_S, waited
from xprim_nb.cli.answers import lines_of
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.session import Session
from xprim_nb.errors import WorkerCrashedError
from xprim_nb.events import Event, ResidencyChanged, WorkerFailed

if TYPE_CHECKING:
    from xprim_nb.scheduling.leases import TimelineRow
    from xprim_nb.scheduling.values import ModelView
    from xprim_nb.toolkit import Toolkit

__all__ = ["evict", "list_awake", "load", "pin", "plan", "recommend", "timeline", "unpin"]

# A kernel looks once a second at what others ask of it; a model that is idle leaves within a few more.
_PATIENCE_S = 10.0
_LOOK_S = 0.25
_GONE = ("absent", "broken", "parked")
_HEADERS = ("MODEL", "STATE", "DEVICE", "SIZE", "CONTEXT", "IDLE", "PINNED", "WORKER", "KERNEL")


@click.command("ps", cls=DoorCommand, short_help="List every model that is awake.")
@pass_session
def list_awake(session: Session) -> None:
    """List every model that is awake, of all notebooks and programs of yours on this machine."""
    with session.connected() as kit:
        views = kit.ai.ps().result()
    session.answer({"models": documents.plain(views)}, *words.table(_HEADERS, map(_row, views)))
    if not views:
        session.note(f"no model is awake; `{session.ai_program} load MODEL --hold` keeps one so")


def _row(view: ModelView) -> tuple[str, ...]:
    is_idle = not view.in_flight and view.status in ("resident", "parked")
    return (
        view.key,
        view.status,
        view.device or "-",
        words.size(view.size_bytes or None),
        f"{view.context_tokens:,}" if view.context_tokens else "-",
        words.duration(view.idle_s) if is_idle and view.idle_s else "-",
        "yes" if view.pinned else "-",
        str(view.worker_pid or "-"),
        str(view.kernel_pid or "-"),
    )


@click.command(cls=DoorCommand, short_help="Load a model and say what it takes.")
@model_argument
@click.option("--hold", is_flag=True, help="Keep it loaded until Ctrl-C, or until it leaves.")
@loading_options
@pass_session
def load(session: Session, /, model: str, *, hold: bool, **how: Any) -> None:
    """Load MODEL and say what it really takes; it is unloaded when the command ends."""
    settings = settings_of(how)
    heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with session.connected() as kit:
        stop = kit.events.subscribe(heard.put)
        try:
            view = waited(session, kit.ai.load(model_of(model), note="xprim ai load", **settings))
            session.answer({"loaded": documents.plain(view)}, _loaded_line(view))
            if hold:
                session.note("Ctrl-C unloads it")
                session.flush()
                _hold(session, view, heard)
        finally:
            stop()


def _loaded_line(view: ModelView) -> str:
    where = (
        f"{words.size(view.size_bytes)} on {view.device} ({view.source})" if view.device else "on a server"
    )
    room = f", room for {view.context_tokens:,} tokens" if view.context_tokens else ""
    took = f", in {view.load_s:.1f} s" if view.load_s else ""
    worker = f", worker {view.worker_pid}" if view.worker_pid else ""
    return f"Loaded: {view.key}, {where}{room}{took}{worker}"


def _hold(session: Session, view: ModelView, heard: queue.SimpleQueue[Event]) -> None:
    """Return when the model has left, or on Ctrl-C.

    Raises:
        WorkerCrashedError: Its worker died.
    """
    try:
        while True:
            try:
                event = heard.get(timeout=TICK_S)
            except queue.Empty:
                continue
            if isinstance(event, WorkerFailed) and event.model == view.key:
                raise WorkerCrashedError(event.message, subject=view.key, report=event.report)
            if isinstance(event, ResidencyChanged) and event.model == view.key and event.status in _GONE:
                session.note(f"{view.key} has left: {event.reason}")
                return
    except KeyboardInterrupt:  # how it is meant to end
        session.note("unloading")


@click.command(cls=DoorCommand, short_help="Unload a model as soon as it is idle.")
@model_argument
@pass_session
def evict(session: Session, model: str) -> None:
    """Have whoever holds MODEL unload it, as soon as it is idle."""
    with session.connected() as kit:
        before = kit.ai.evict(model_of(model)).result()
        now = _settled(kit, before, lambda each: each is None)
    line = f"Evicted: {before.key} ({words.size(before.size_bytes)} on {before.device})"
    if now is not None:
        line = f"Asked process {before.kernel_pid} to let {before.key} go. {now.why_not_evict}".rstrip()
    session.answer({"evicted": {**documents.plain(now or before), "has_left": now is None}}, line)


@click.command(cls=DoorCommand, short_help="Keep a model loaded.")
@model_argument
@pass_session
def pin(session: Session, model: str) -> None:
    """Have whoever holds MODEL never evict it for another."""
    _pin(session, model, pinned=True)


@click.command(cls=DoorCommand, short_help="Let a model be evicted again.")
@model_argument
@pass_session
def unpin(session: Session, model: str) -> None:
    """Take such a pin away."""
    _pin(session, model, pinned=False)


def _pin(session: Session, model: str, *, pinned: bool) -> None:
    with session.connected() as kit:
        verb = kit.ai.pin if pinned else kit.ai.unpin
        before = verb(model_of(model)).result()
        now = _settled(kit, before, lambda each: each is None or each.pinned is pinned)
    done = now is None or now.pinned is pinned
    key, word = ("pinned", "Pinned") if pinned else ("unpinned", "Unpinned")
    line = f"{word}: {before.key}" if done else f"Asked process {before.kernel_pid} to do so; it has not yet."
    session.answer({key: {**documents.plain(now or before), "is_done": done}}, line)


def _settled(kit: Toolkit, asked: ModelView, is_done: Callable[[ModelView | None], bool]) -> ModelView | None:
    """The model as its owner has it, once that has done what was asked or time is up; None when it is gone."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        found = next((each for each in kit.ai.ps().result() if _is_same(each, asked)), None)
        if is_done(found) or time.monotonic() >= deadline:
            return found
        time.sleep(_LOOK_S)


def _is_same(one: ModelView, other: ModelView) -> bool:
    return (one.key, one.kernel_pid) == (other.key, other.kernel_pid)


@click.command(cls=DoorCommand, short_help="Show what loading a model would do.")
@model_argument
@loading_options
@pass_session
def plan(session: Session, /, model: str, **how: Any) -> None:
    """Show what loading MODEL would do: who leaves, how much that frees, how long it takes. Changes nothing."""
    settings = settings_of(how)
    with session.connected() as kit:
        found = waited(session, kit.ai.plan(model_of(model), **settings))
    document = {**documents.plain(found), "freed_bytes": found.freed_bytes}
    session.answer({"plan": document}, *lines_of(session, found))


@click.command(cls=DoorCommand, short_help="Show what happened to models, and why.")
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    metavar="N",
    help="So many changes; a document has all of them.",
)
@pass_session
def timeline(session: Session, *, last: int) -> None:
    """Show what happened to models on this machine, and which cell or command caused it."""
    with session.connected() as kit:
        rows = kit.ai.timeline().result()
    session.answer({"timeline": ai_documents.timeline(rows)}, *_timeline_lines(rows[-last:]))
    if not session.as_json and len(rows) > last:
        session.note(
            f"{words.count(len(rows) - last, 'earlier change')} not shown; --last {len(rows)} shows all"
        )


def _timeline_lines(rows: Sequence[TimelineRow]) -> list[str]:
    cells = (
        (
            words.stamp(datetime.fromtimestamp(each.at, UTC)),
            each.model,
            each.state,
            each.device,
            words.size(each.device_bytes),
            each.note or "-",
            str(each.kernel_pid),
            each.reason,
        )
        for each in rows
    )
    return words.table(("WHEN (UTC)", "MODEL", "STATE", "DEVICE", "SIZE", "CAUSE", "KERNEL", "WHY"), cells)


@click.command("models", cls=DoorCommand, short_help="List models worth trying.")
@pass_session
def recommend(session: Session) -> None:
    """List models worth trying, of the registry and of every server that can be asked."""
    session.announce_registry()
    with session.connected() as kit:
        found: Iterable[Any] = kit.run_engine(
            "ask what there is", importlib.import_module("xprim_nb.manager.recommended").recommended
        ).result()
    rows = [(each.name, words.size(each.size_bytes or None), each.backend, each.why) for each in found]
    session.answer(
        {"models": documents.plain(found)}, *words.table(("MODEL", "SIZE", "BACKEND", "WHY"), rows)
    )
