"""What the values of the engine have to tell.

Source: spec 4 §Faces; spec 3 §Magics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from xprim_nb._text import format_bytes, format_count, format_seconds, format_span
from xprim_nb.magics.cache_facts import present, shown
from xprim_nb.magics.sheets import Facts

if TYPE_CHECKING:
    from xprim_nb.scheduling.plan import ResidencyPlan
    from xprim_nb.scheduling.values import DeviceView, EngineSnapshot, ModelView, QueueView, Reply

__all__ = ["FACTS"]


def _model_facts(view: ModelView) -> Facts:
    where = f"{format_bytes(view.size_bytes)} of {view.device}, {view.source}" if view.device else ""
    answers = f"{view.in_flight} now, {view.waiting} waiting, {view.served} given"
    owner = "this kernel" if view.is_mine else f"process {view.kernel_pid}"
    is_idle = view.is_awake and not view.in_flight and bool(view.idle_s)
    return present(
        Model=view.key,
        Status=view.status + (f", {view.fraction:.0%}" if view.fraction and view.status == "loading" else ""),
        Takes=where,
        Context=f"{view.context_tokens:,} tokens" if view.context_tokens else "",
        Answers=answers if view.is_mine else "",
        Idle=format_span(view.idle_s) if is_idle else "",
        Pinned="yes: it is never evicted" if view.pinned else "",
        Worker=f"process {view.worker_pid}" if view.worker_pid else "",
        Held_by=owner,
        Loaded_in=format_seconds(view.load_s) if view.load_s else "",
        Loaded_for=view.note,
        Broken=view.cause,
        Stays="" if not view.is_awake else view.why_not_evict,
    )


def _device_facts(device: DeviceView) -> Facts:
    charges = [(each.model, f"{format_bytes(each.size_bytes)}, {each.state}") for each in device.charges]
    return present(
        Device=f"{device.id} ({device.name})",
        Budget=f"{format_bytes(device.budget_bytes)} of {format_bytes(device.total_bytes)}",
        Models=shown(charges),
        Other_programs=format_bytes(device.external_bytes) if device.external_bytes else "",
        Left=format_bytes(device.available_bytes),
    )


def _queue_facts(waiting: QueueView) -> Facts:
    return present(
        Model=waiting.model,
        Place=f"number {waiting.position}, priority {waiting.priority}",
        Why=waiting.reason,
        Waits=format_seconds(waiting.waited_s),
        Asked_by=waiting.note,
    )


def _snapshot_facts(snapshot: EngineSnapshot) -> Facts:
    def told(view: ModelView) -> str:
        size = f", {format_bytes(view.size_bytes)} on {view.device}" if view.device else ""
        busy = f", {format_count(view.in_flight, 'answer')} now" if view.in_flight else ""
        return f"{view.status}{size}{busy}{', pinned' if view.pinned else ''}"

    def left(device: DeviceView) -> str:
        others = f", {format_bytes(device.external_bytes)} others" if device.external_bytes else ""
        budget = format_bytes(device.budget_bytes)
        return f"{format_bytes(device.charged_bytes)} of {budget} taken by models{others}"

    return present(
        Awake=shown((each.key, told(each)) for each in snapshot.models if each.is_awake) or "no model",
        Devices=shown((each.id, left(each)) for each in snapshot.devices),
        Queue=shown((f"{each.position}. {each.model}", each.reason) for each in snapshot.queue),
        Broken=shown((each.key, each.cause) for each in snapshot.models if each.status == "broken"),
        Crashes=shown((each.model, each.detail) for each in snapshot.crashes),
    )


def _plan_facts(plan: ResidencyPlan) -> Facts:
    if plan.verdict in ("broken", "impossible"):
        return present(Model=plan.model, Plan="cannot be loaded", Why=plan.message)
    told = {
        "resident": "loaded already",
        "coming": "is being loaded already",
        "fits": "loads beside the others",
        "evicts": "loads when others have left",
    }
    takes = ((each.device, f"{format_bytes(each.needed_bytes)}, {plan.source}") for each in plan.rooms)
    return present(
        Model=plan.model,
        Plan=told.get(plan.verdict, plan.verdict),
        Takes=shown(takes) or (plan.device and f"what it has of {plan.device}") or "no memory here",
        Context=f"{plan.context_tokens:,} tokens" if plan.context_tokens else "",
        Less=plan.degraded,
        Loads_in=f"about {format_seconds(plan.load_s)}" if plan.load_s else "",
        Leaves=shown((each.model, str(each)) for each in plan.leaving),
        Frees=format_bytes(plan.freed_bytes) if plan.leaving else "",
        Waits_for=plan.message,
    )


def _reply_facts(reply: Reply) -> Facts:
    return {"Text": reply.text, "Took": reply.stamp}


_VALUES = "xprim_nb.scheduling.values"

FACTS: Mapping[tuple[str, str], Callable[[Any], Facts]] = {
    (_VALUES, "DeviceView"): _device_facts,
    (_VALUES, "EngineSnapshot"): _snapshot_facts,
    (_VALUES, "ModelView"): _model_facts,
    (_VALUES, "QueueView"): _queue_facts,
    (_VALUES, "Reply"): _reply_facts,
    ("xprim_nb.scheduling.plan", "ResidencyPlan"): _plan_facts,
}
