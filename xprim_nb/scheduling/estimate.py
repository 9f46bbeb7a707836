"""Bytes that a loaded model takes, part by part, each with where its figure comes from. Pure.

    weights           exact: the tensors' headers
    KV cache          exact: 2 (keys, values) × layers × KV heads × head width × bytes × tokens × answers at once
    working memory    formula, see `_WIDTHS`
    device context    typical: what CUDA or Metal takes before the first tensor
    process           typical: interpreter and framework, of the machine's memory

A measurement of this model here (`Footprint`) replaces what is typical; weights and the whole KV cache stay counted,
because a cache that grows with the answers has not grown yet when a model has just been loaded.

Source: spec 4 §Residency (`estimate`); research residency §0.4, §4.9 rules 6 and 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from xprim_nb._text import clean, format_bytes
from xprim_nb.scheduling.hardware import MACHINE, Device, DeviceKind
from xprim_nb.scheduling.state import Charges
from xprim_nb.workers.values import Measured, ModelFacts

__all__ = [
    "Estimate",
    "Footprint",
    "FootprintKey",
    "Learned",
    "Part",
    "charged",
    "estimate",
    "taken",
]

_MIB = 1 << 20

# While a prompt is read, each of its tokens holds so many numbers as wide as the residual stream (residual, normed
# copies in float32, query, key, value, attention's output) and so many as wide as the feed-forward layer (gate, its
# activation, up, their product). Measured on the CPU with transformers 5.24 and torch 2.13, peak over the loaded model
# without its KV cache, four shapes, float32 and bfloat16: 4 to 12 and 3 to 5.
_WIDTHS = (12, 4)
# Scores of the last token, and a sorted copy for sampling.
_LOGIT_COPIES = 2
_LOGIT_BYTES = 4

# Set aside for the driver's context in each process. Source: ollama `ml/device.go` (`MinimumMemory`); llmux measured
# about 500 MiB for a bare CUDA context. A simulated device stands for an NVIDIA one.
_CONTEXT_BYTES: Mapping[DeviceKind, int] = {
    "cpu": 0,
    "cuda": 457 * _MIB,
    "mps": 512 * _MIB,
    "sim": 457 * _MIB,
}

# Resident set of a worker before its first tensor, by backend: 27 MiB with numpy and safetensors, 379 MiB with torch,
# transformers and peft (CPU builds, measured), and room for a tokenizer and the allocator's arenas.
_PROCESS_BYTES: Mapping[str, int] = {"numpy": 64 * _MIB, "transformers": 512 * _MIB}
# Another backend: as much as the largest of ours.
_PROCESS_DEFAULT_BYTES = 512 * _MIB
# What a framework's CUDA or Metal libraries add on the machine's side. Not measured here; the first load tells.
_DRIVER_HOST_BYTES: Mapping[DeviceKind, int] = {"cpu": 0, "cuda": 512 * _MIB, "mps": 256 * _MIB, "sim": 0}

Source: TypeAlias = Literal["measured", "estimated", "given"]


@dataclass(frozen=True, slots=True)
class FootprintKey:
    """What a measurement holds for: another of any of these takes other memory.

    Attributes:
        fingerprint: `ModelFacts.fingerprint`.
        backend: Which.
        context_tokens: Room it was loaded with.
        settings: Digest of the backend's settings (`dtype`, `quantization` …); empty for none.
        device_kind: Where it computed.
    """

    fingerprint: str
    backend: str
    context_tokens: int
    settings: str
    device_kind: DeviceKind


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory that a model was seen to take here, and what had been predicted.

    Attributes:
        key: What it holds for.
        model: The name it had then.
        loaded_device_bytes: Most it took of its device when it had just been loaded.
        loaded_host_bytes: The same of the machine's memory.
        device_bytes: Most it ever took of its device.
        host_bytes: The same of the machine's memory.
        parked_bytes: Most it left on its device when parked; None while that was never seen.
        load_s: How long the latest load took; 0.0 when unknown.
        predicted_device_bytes: What the estimate said before; 0 when there was none.
        predicted_host_bytes: The same of the machine's memory.
        samples: How often it was measured.
        how: `Measured.how` of the latest.
        at: When, in seconds since the epoch.
    """

    key: FootprintKey
    model: str = ""
    loaded_device_bytes: int = 0
    loaded_host_bytes: int = 0
    device_bytes: int = 0
    host_bytes: int = 0
    parked_bytes: int | None = None
    load_s: float = 0.0
    predicted_device_bytes: int = 0
    predicted_host_bytes: int = 0
    samples: int = 0
    how: str = "reported"
    at: float = 0.0

    @property
    def ratio(self) -> float:
        """What was measured, as a share of what was predicted; 0.0 when nothing was predicted."""
        on_machine = self.key.device_kind == "cpu"
        predicted = self.predicted_host_bytes if on_machine else self.predicted_device_bytes
        return (self.host_bytes if on_machine else self.device_bytes) / predicted if predicted else 0.0


Learned: TypeAlias = Mapping[FootprintKey, Footprint]


@dataclass(frozen=True, slots=True)
class Part:
    """One line of an estimate."""

    name: str
    size_bytes: int
    source: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a model takes. `print` shows the parts.

    Attributes:
        model: Its name.
        device_kind: Where it computes.
        context_tokens: Room for prompt and answer.
        slots: Answers at once.
        weights_bytes: Exact, from the headers.
        kv_bytes: Exact, for the whole context.
        compute_bytes: Working memory while a prompt is read.
        context_bytes: Of the device's driver; 0 on the CPU.
        process_bytes: Interpreter and framework, of the machine's memory.
        device_bytes: All that it takes of its accelerator; 0 on the CPU.
        host_bytes: All that it takes of the machine's memory; on the CPU that is everything.
        source: `estimated`, `measured` here before, or `given` by its backend.
    """

    model: str
    device_kind: DeviceKind
    context_tokens: int
    slots: int = 1
    weights_bytes: int = 0
    kv_bytes: int = 0
    compute_bytes: int = 0
    context_bytes: int = 0
    process_bytes: int = 0
    device_bytes: int = 0
    host_bytes: int = 0
    source: Source = "estimated"

    @property
    def total_bytes(self) -> int:
        """Of all memories together."""
        return self.device_bytes + self.host_bytes

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its lines, largest idea first."""
        if self.source == "given":
            return (Part("all of it", self.total_bytes, "given by its backend"),)
        guess = {"estimated": "typical", "measured": "typical; measured below"}[self.source]
        lines = (
            Part("weights", self.weights_bytes, "exact, from the headers"),
            Part("KV cache", self.kv_bytes, f"exact, for {self.context_tokens:,} tokens × {self.slots}"),
            Part("working memory", self.compute_bytes, "formula"),
            Part("device context", self.context_bytes, guess),
            Part("process", self.process_bytes, f"{guess}, of the machine's memory"),
        )
        return tuple(line for line in lines if line.size_bytes)

    def after(self, measured: Measured) -> Estimate:
        """The same once the model has been loaded and measured: the figure to charge it with from then on."""
        return self._replaced(
            measured.device_bytes, measured.device_bytes, measured.host_bytes, measured.host_bytes
        )

    def learned(self, footprint: Footprint) -> Estimate:
        """The same with what was measured before in the place of what is typical."""
        if not footprint.samples:  # only what it leaves when parked is known
            return self
        return self._replaced(
            footprint.loaded_device_bytes,
            footprint.device_bytes,
            footprint.loaded_host_bytes,
            footprint.host_bytes,
        )

    def _replaced(self, loaded_device: int, device: int, loaded_host: int, host: int) -> Estimate:
        if self.source == "given":
            return self
        growth = self.kv_bytes + self.compute_bytes
        # Weights that are mapped from their file count only once they have been read.
        least = self.weights_bytes + growth
        match self.device_kind:
            case "cpu":
                return replace(self, host_bytes=max(host, loaded_host + growth, least), source="measured")
            case "sim":  # nothing can be measured on it; what its worker takes of the machine can
                return replace(self, host_bytes=host)
            case _:
                wanted = max(device, loaded_device + growth, least)
                return replace(self, device_bytes=wanted, host_bytes=host, source="measured")

    def charges(self, device: Device) -> Charges:
        """What it is charged with on a device of its kind, and of the machine's memory."""
        return charged(device, self.device_bytes, self.host_bytes)

    def __str__(self) -> str:
        where = "the CPU" if self.device_kind == "cpu" else self.device_kind
        size = self.host_bytes if self.device_kind == "cpu" else self.device_bytes
        head = f"{clean(self.model)} on {where}: {format_bytes(size)}, {self.source}"
        if self.device_kind != "cpu":
            head += f"; {format_bytes(self.host_bytes)} of the machine's memory"
        lines = [
            f"  {part.name:<14} {format_bytes(part.size_bytes):>10}  {part.source}" for part in self.parts
        ]
        return "\n".join([head, *lines])


def estimate(facts: ModelFacts, *, context_tokens: int, device_kind: DeviceKind, slots: int = 1) -> Estimate:
    """What a model will take on a kind of device; all zero for one that runs elsewhere.

    Args:
        facts: Of the model.
        context_tokens: Room for prompt and answer, for each answer.
        device_kind: Where it shall compute.
        slots: Answers at once.
    """
    plain = Estimate(facts.name, device_kind, context_tokens, slots)
    if facts.is_remote:
        return plain
    if facts.footprint_bytes is not None:
        on_machine = device_kind == "cpu"
        return replace(
            plain,
            source="given",
            device_bytes=0 if on_machine else facts.footprint_bytes,
            host_bytes=facts.footprint_bytes if on_machine else 0,
        )
    process = _PROCESS_BYTES.get(facts.backend, _PROCESS_DEFAULT_BYTES) + _DRIVER_HOST_BYTES[device_kind]
    found = replace(
        plain,
        weights_bytes=facts.weight_bytes,
        kv_bytes=_kv_bytes_per_token(facts) * context_tokens * slots,
        compute_bytes=_compute_bytes(facts, context_tokens) * slots,
        context_bytes=_CONTEXT_BYTES[device_kind],
        process_bytes=process,
    )
    tensors = found.weights_bytes + found.kv_bytes + found.compute_bytes
    if device_kind == "cpu":
        return replace(found, host_bytes=tensors + process)
    return replace(found, device_bytes=tensors + found.context_bytes, host_bytes=process)


def charged(device: Device, device_bytes: int, host_bytes: int) -> Charges:
    """Charges from what is taken of a device and of the machine's memory, which may be one and the same.

    >>> charged(Device("cuda:0", "cuda", 8 << 30, 8 << 30), 3, 2), charged(Device("cpu", "cpu", 8, 8), 0, 2)
    ((('cpu', 2), ('cuda:0', 3)), (('cpu', 2),))
    """
    if device.id == MACHINE:
        return ((MACHINE, host_bytes),) if host_bytes else ()
    if device.shares_memory:
        host_bytes += device_bytes
    both = {MACHINE: host_bytes, device.id: device_bytes}
    return tuple(sorted((name, size) for name, size in both.items() if size))


def taken(device: Device, measured: Measured, reserved: Charges = ()) -> Charges:
    """What a worker was seen to take, as charges: the `measured` of a lease.

    A simulated device shows nothing; there, what was reserved is taken at its word.
    """
    on_device = measured.device_bytes if device.kind != "sim" else dict(reserved).get(device.id, 0)
    return charged(device, on_device, measured.host_bytes)


def _kv_bytes_per_token(facts: ModelFacts) -> int:
    return 2 * facts.layers * facts.key_value_heads * facts.head_dim * facts.cache_item_bytes


def _compute_bytes(facts: ModelFacts, context_tokens: int) -> int:
    # The width of a cached number is that of the model's arithmetic.
    stream, feed_forward = _WIDTHS
    numbers = stream * facts.hidden_size + feed_forward * facts.intermediate_size
    return context_tokens * numbers * facts.cache_item_bytes + _LOGIT_COPIES * _LOGIT_BYTES * facts.vocabulary
