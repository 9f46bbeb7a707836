"""Ways to hold a model on this machine's devices, best first, each with what it would be charged. Pure.

Source: spec 4 §Residency ("degrade (smaller context → CPU) if allowed"); research residency §4.9 rule 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from xprim_nb._text import format_count
from xprim_nb.scheduling.estimate import Estimate, Footprint, FootprintKey, Learned, charged, estimate
from xprim_nb.scheduling.hardware import Device
from xprim_nb.scheduling.state import Option
from xprim_nb.workers.values import Capabilities, ModelFacts

__all__ = ["REMOTE", "Placement", "footprint_key", "options_for", "placements_for"]

REMOTE = "remote"
"""The device of a model that runs elsewhere."""

# A shorter context than this answers hardly any prompt. Source: spec 4, `AICapabilities.allow_smaller_context`.
_SMALLEST_CONTEXT = 512
# A simulated device is there because somebody asked for it; a discrete GPU is faster than Apple's.
_KIND_ORDER = ("sim", "cuda", "mps")
# Until a load has been timed: start of interpreter and framework (research residency §5.2-11: torch 2 to 6 s), and
# a SATA disk's 500 MB/s, which a user with a faster one is glad to see beaten.
_START_S = {"numpy": 0.5}
_START_DEFAULT_S = 5.0
_READ_BYTES_S = 500e6


@dataclass(frozen=True, slots=True)
class Placement:
    """An option with what it was made from, for whoever carries it out.

    Attributes:
        option: What the policy chooses among.
        device: Where it computes; None for a model that runs elsewhere.
        estimate: The figures behind its charges; `estimate.after` gives those once it is loaded.
        key: Under which its measurement is learned.
    """

    option: Option
    device: Device | None
    estimate: Estimate
    key: FootprintKey


def footprint_key(
    facts: ModelFacts, device: Device | None, context_tokens: int, settings: str = ""
) -> FootprintKey:
    """Under which a measurement of this model there is kept."""
    kind = device.kind if device is not None else "cpu"
    return FootprintKey(facts.fingerprint, facts.backend, context_tokens, settings, kind)


def options_for(
    facts: ModelFacts,
    devices: Sequence[Device],
    learned: Learned,
    *,
    context_tokens: int,
    allow_smaller_context: bool = False,
    allow_cpu: bool = False,
    capabilities: Capabilities,
    settings: str = "",
) -> tuple[Option, ...]:
    """The options of `placements_for`, in their order."""
    placements = placements_for(
        facts,
        devices,
        learned,
        context_tokens=context_tokens,
        allow_smaller_context=allow_smaller_context,
        allow_cpu=allow_cpu,
        capabilities=capabilities,
        settings=settings,
    )
    return tuple(placement.option for placement in placements)


def placements_for(
    facts: ModelFacts,
    devices: Sequence[Device],
    learned: Learned,
    *,
    context_tokens: int,
    allow_smaller_context: bool = False,
    allow_cpu: bool = False,
    capabilities: Capabilities,
    settings: str = "",
) -> tuple[Placement, ...]:
    """Every way to hold a model, in order of preference; empty when no device is of a kind that its backend can use.

    1. On each accelerator, whole; the one with most free memory first. Without one: on the CPU.
    2. If a smaller context is allowed: the same with half of it, a quarter … down to 512 tokens.
    3. If the CPU is allowed and was not the first choice: there, whole, then smaller where that is allowed.

    What can never fit is listed too: the refusal tells its numbers.

    Args:
        facts: Of the model.
        devices: Those of this machine, as they were last seen.
        learned: Footprints that were measured here.
        context_tokens: Room that is asked for; a model that has less gets what it has, which is no loss.
        allow_smaller_context: Whether 2 is allowed.
        allow_cpu: Whether 3 is allowed.
        capabilities: Of its backend.
        settings: Digest of the backend's settings, see `footprints.settings_digest`.
    """
    context = min(context_tokens, facts.max_context_tokens or context_tokens)
    if facts.is_remote or capabilities.is_remote:
        option = Option(REMOTE, context, (), source="given")
        size = Estimate(facts.name, "cpu", context, capabilities.slots)
        return (Placement(option, None, size, footprint_key(facts, None, context, settings)),)
    usable = [device for device in devices if _can_use(device, capabilities)]
    accelerators = sorted((device for device in usable if device.kind != "cpu"), key=_preference)
    machine = [device for device in usable if device.kind == "cpu"]
    contexts = [context, *(_halved(context) if allow_smaller_context else ())]
    ways = [(device, size) for size in contexts for device in accelerators or machine]
    if accelerators and allow_cpu:
        ways += [(device, size) for size in contexts for device in machine]
    return tuple(
        _placed(
            facts,
            device,
            learned,
            context_tokens=size,
            capabilities=capabilities,
            settings=settings,
            degraded=_degraded(context, size, on_cpu=bool(accelerators) and device.kind == "cpu"),
        )
        for device, size in ways
    )


def _placed(
    facts: ModelFacts,
    device: Device,
    learned: Learned,
    *,
    context_tokens: int,
    capabilities: Capabilities,
    settings: str,
    degraded: str,
) -> Placement:
    size = estimate(facts, context_tokens=context_tokens, device_kind=device.kind, slots=capabilities.slots)
    if not capabilities.has_process:  # its server's process is none of ours
        size = replace(size, host_bytes=size.host_bytes - size.process_bytes, process_bytes=0)
    key = footprint_key(facts, device, context_tokens, settings)
    known = learned.get(key) if facts.fingerprint else None
    if known is not None:
        size = size.learned(known)
    parked = None
    if capabilities.can_park and device.kind in ("cuda", "mps"):
        residue = size.context_bytes
        if known is not None and known.parked_bytes is not None:
            residue = known.parked_bytes
        # A parked model keeps its driver's context there, and its weights in the machine's memory.
        parked = charged(device, residue, size.process_bytes + size.weights_bytes)
    option = Option(
        device.id,
        context_tokens,
        size.charges(device),
        parked,
        source=size.source,
        degraded=degraded,
        load_s=_load_s(facts, known),
    )
    return Placement(option, device, size, key)


def _can_use(device: Device, capabilities: Capabilities) -> bool:
    if device.kind == "sim":  # what computes there really computes on the CPU
        return capabilities.has_process and "cpu" in capabilities.devices
    return device.kind in capabilities.devices


def _preference(device: Device) -> tuple[int, int, str]:
    free = device.budget_bytes if device.free_bytes is None else device.free_bytes
    return _KIND_ORDER.index(device.kind), -free, device.id


def _halved(context_tokens: int) -> Iterator[int]:
    while context_tokens > _SMALLEST_CONTEXT:
        context_tokens = max(_SMALLEST_CONTEXT, context_tokens // 2)
        yield context_tokens


def _degraded(wanted: int, given: int, *, on_cpu: bool) -> str:
    how = ["on the CPU"] if on_cpu else []
    if given < wanted:
        how.append(f"context of {format_count(given, 'token')}")
    return ", ".join(how)


def _load_s(facts: ModelFacts, known: Footprint | None) -> float:
    if known is not None and known.load_s:
        return known.load_s
    return _START_S.get(facts.backend, _START_DEFAULT_S) + facts.weight_bytes / _READ_BYTES_S
