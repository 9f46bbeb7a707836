"""From a look at the engine to what the residency panel shows: bars, rows, places in the queue, a sentence. Pure.

    EngineSnapshot ──> verdict_of, device_rows, model_rows, queue_rows, crash_row ──> traits (and the static twin)

Source: spec 4 §Faces (ResidencyPanel).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from xprim_nb._text import format_bytes, format_count, format_span
from xprim_nb.magics.crash_card import face_of
from xprim_nb.scheduling.values import Charge, DeviceView, EngineSnapshot, ModelView, QueueView
from xprim_nb.workers.values import CrashReport
from xprim_widgets._base import told

__all__ = [
    "DeviceRow",
    "ModelRow",
    "Part",
    "QueueRow",
    "crash_id",
    "crash_row",
    "device_rows",
    "is_busy",
    "model_rows",
    "name_of",
    "queue_rows",
    "verdict_of",
]

# Longer sentences nobody reads in a table; names may be as long as a path.
_SENTENCE_CHARS, _NAME_CHARS = 600, 300
# A queue of hundreds is told by its length; these are on screen.
_MOST_WAITING = 20

Kind: TypeAlias = Literal["resident", "loading", "leaving", "ghost", "parked", "kernel", "external", "free"]

_KINDS: Mapping[str, Kind] = {
    "reserved": "loading",
    "loading": "loading",
    "resident": "resident",
    "draining": "leaving",
    "releasing": "leaving",
    "parked": "parked",
    "ghost": "ghost",
}
_WORDS: Mapping[str, str] = {
    "reserved": "room kept for its loading",
    "loading": "loading",
    "resident": "loaded",
    "draining": "leaves after its answers",
    "releasing": "given back just now",
    "parked": "parked",
    "ghost": "gone, and its memory not given back yet",
}
_STATES: Mapping[str, str] = {
    "absent": "not loaded",
    "resident": "loaded",
    "elsewhere": "on a server",
}
# What needs somebody's attention first, then what takes memory, then the rest.
_ORDER = ("broken", "loading", "waking", "resident", "leaving", "parked", "elsewhere", "absent")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a device's bar; the parts of a bar are 100 percent together."""

    kind: Kind
    name: str
    words: str
    size: str
    percent: float


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device as it is drawn.

    Attributes:
        id: As the engine calls it.
        name: What it is, in words.
        notes: What to know about it: that it is simulated, that only a part of it may be used.
        line: How much is taken, in words.
        percent: Taken by anybody, 0 to 100.
        parts: The bar, from the left.
    """

    id: str
    name: str
    notes: str
    line: str
    percent: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model as a row.

    Attributes:
        id: Its key and its kernel: unique, where two kernels hold the same model.
        key: `backend:name`: what its buttons send.
        name: As its registry or server names it.
        backend: Which runs it.
        state: Of `ModelView.status`.
        words: That state in words.
        device: Where; empty while it is nowhere.
        size: What it takes, and how that is known.
        context: Room for prompt and answer; empty where nobody knows, and while it is nowhere.
        counts: Answers that it gives, requests that wait, answers that it has given.
        idle: How long it has had nothing to do; empty while it has.
        process: Its worker, and the kernel that holds it; empty where none does.
        note: What it is loaded for, or was; empty where nobody said.
        pinned: Never evicted.
        mine: This kernel holds it.
        why_not_evict: Why not now; empty when it can be.
        cause: Why it is broken.
        percent: Of its loading; None while it does not load.
        acts: What can be done with it, the first first.
    """

    id: str
    key: str
    name: str
    backend: str
    state: str
    words: str
    device: str
    size: str
    context: str
    counts: str
    idle: str
    process: str
    note: str
    pinned: bool
    mine: bool
    why_not_evict: str
    cause: str
    percent: int | None
    acts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A request that waits."""

    id: str
    position: int
    model: str
    priority: str
    reason: str
    waited: str


def name_of(key: str) -> str:
    """A model without its backend, as text for a view."""
    return _name(key.partition(":")[2] or key)


def is_busy(seen: EngineSnapshot) -> bool:
    """Whether something changes by itself: a model loads or answers, somebody waits."""
    moving = ("loading", "waking", "leaving")
    return bool(seen.queue) or any(each.in_flight or each.status in moving for each in seen.models)


def verdict_of(seen: EngineSnapshot) -> str:
    """Everything in one sentence."""
    awake = [each for each in seen.models if each.is_awake]
    if not awake and not seen.queue:
        return "No model is awake."
    answering = sum(each.in_flight for each in awake)
    said = [f"{format_count(len(awake), 'model')} awake"]
    said += [f"{format_count(answering, 'answer')} being given"] if answering else []
    said += [f"{format_count(len(seen.queue), 'request')} waiting"] if seen.queue else []
    return f"{', '.join(said)}."


def device_rows(seen: EngineSnapshot) -> list[DeviceRow]:
    """A bar for each device, accelerators first."""
    return [_device(each) for each in sorted(seen.devices, key=lambda each: each.kind == "cpu")]


def model_rows(seen: EngineSnapshot) -> list[ModelRow]:
    """A row for each model; those that need attention or take memory first."""

    def place(view: ModelView) -> tuple[int, bool, str, int]:
        rank = _ORDER.index(view.status) if view.status in _ORDER else len(_ORDER)
        return rank, not view.is_mine, view.name, view.kernel_pid

    known = {each.key for each in seen.models if each.is_mine}
    return [_model(each, known) for each in sorted(seen.models, key=place)]


def queue_rows(queue: Sequence[QueueView]) -> list[QueueRow]:
    """Who is next; no more than a screen holds."""
    return [
        QueueRow(
            told(each.request_id),
            each.position,
            name_of(each.model),
            told(each.priority),
            _sentence(each.reason),
            format_span(each.waited_s),
        )
        for each in sorted(queue, key=lambda each: each.position)[:_MOST_WAITING]
    ]


def crash_id(report: CrashReport) -> str:
    """What tells a crash from every other."""
    return f"{report.pid} {report.at}"


def crash_row(report: CrashReport) -> dict[str, Any]:
    """A crash as a trait holds it: the fields of `CrashFace`, and `id`."""
    face = asdict(face_of(report))
    curve = face["curve"]
    return {
        **face,
        "id": crash_id(report),
        "lines": list(face["lines"]),
        "advice": list(face["advice"]),
        "curve": {"points": curve[0], "words": curve[1]} if curve else None,
    }


def _device(view: DeviceView) -> DeviceRow:
    taken = view.charged_bytes + view.external_bytes
    # More may be taken than may be: then the bar is as long as what is taken.
    whole = max(view.budget_bytes, taken, 1)
    notes = ["simulated: nothing is really taken of it"] if view.kind == "sim" else []
    if view.budget_bytes < view.total_bytes:
        notes.append(
            f"models may take {format_bytes(view.budget_bytes)} of its {format_bytes(view.total_bytes)}"
        )
    if taken > view.budget_bytes:
        notes.append(f"{format_bytes(taken - view.budget_bytes)} more is taken than models may take")
    line = (
        f"{format_bytes(view.charged_bytes)} of {format_bytes(view.budget_bytes)} taken by models, "
        f"{format_bytes(view.available_bytes)} free for more"
    )
    return DeviceRow(
        id=_name(view.id),
        name="this machine's memory" if view.kind == "cpu" else _name(view.name),
        notes="; ".join(notes),
        line=line,
        percent=round(100 * taken / whole),
        parts=tuple(_parts(view, whole)),
    )


def _parts(view: DeviceView, whole: int) -> Iterator[Part]:
    for each in view.charges:
        if each.size_bytes > 0:
            yield _part(_kind(each), name_of(each.model), _charged(each), each.size_bytes, whole)
    if view.external_bytes > 0:
        yield _part("external", "other programs", "", view.external_bytes, whole)
    if view.available_bytes > 0:
        yield _part("free", "free", "", view.available_bytes, whole)


def _part(kind: Kind, name: str, words: str, size_bytes: int, whole: int) -> Part:
    return Part(kind, name, words, format_bytes(size_bytes), round(100 * size_bytes / whole, 1))


def _kind(charge: Charge) -> Kind:
    return _KINDS.get(charge.state, "resident") if charge.is_mine else "kernel"


def _charged(charge: Charge) -> str:
    words = _WORDS.get(charge.state, charge.state)
    return words if charge.is_mine else f"{words}, by kernel {charge.kernel_pid}"


def _model(view: ModelView, known: Collection[str]) -> ModelRow:
    # A verb names a model by its key, and then means the one of this kernel.
    is_shadowed = not view.is_mine and view.key in known
    why = f"Evict it in kernel {view.kernel_pid}: here its name means this kernel's." if is_shadowed else ""
    return ModelRow(
        id=f"{view.key} {view.kernel_pid}",
        key=view.key,
        name=_name(view.name),
        backend=_name(view.backend),
        state=view.status,
        words=_STATES.get(view.status, _name(view.status)),
        device=_name(view.device),
        size=f"{format_bytes(view.size_bytes)} {view.source}" if view.size_bytes else "",
        context=format_count(view.context_tokens, "token") if view.context_tokens and view.is_awake else "",
        counts=_counts(view),
        idle=_idle(view),
        process=_process(view),
        note=_note(view),
        pinned=view.pinned,
        mine=view.is_mine,
        why_not_evict=_sentence(why or view.why_not_evict),
        cause=_sentence(view.cause) if view.status == "broken" else "",
        percent=round(100 * view.fraction) if view.status in ("loading", "waking") else None,
        acts=("evict",) if is_shadowed else _acts(view),
    )


def _acts(view: ModelView) -> tuple[str, ...]:
    match view.status:
        case "broken":
            return ("retry",)
        case "absent":
            return ("plan",)
        case "elsewhere":
            return ()
        case _:
            return ("evict", "unpin" if view.pinned else "pin")


def _counts(view: ModelView) -> str:
    if not view.is_mine:
        return ""
    said = [f"{view.in_flight} in flight"] if view.in_flight else []
    said += [f"{view.waiting} waiting"] if view.waiting else []
    return ", ".join([*said, f"{view.served} served"])


def _idle(view: ModelView) -> str:
    if not view.is_mine or view.in_flight or view.status not in ("resident", "parked") or not view.served:
        return ""
    # Below a minute it would change with every look.
    return f"idle for {format_span(view.idle_s) if view.idle_s >= 60 else 'less than a minute'}"


def _note(view: ModelView) -> str:
    return _sentence(f"{'' if view.is_awake else 'last '}loaded for {view.note}") if view.note else ""


def _process(view: ModelView) -> str:
    if view.is_mine and not view.is_awake and view.worker_pid is None:
        return ""
    said = [f"process {view.worker_pid}"] if view.worker_pid is not None else []
    return ", ".join([*said, "this kernel" if view.is_mine else f"kernel {view.kernel_pid}"])


def _sentence(text: str) -> str:
    return told(text)[:_SENTENCE_CHARS]


def _name(text: str) -> str:
    return told(text)[:_NAME_CHARS]
