"""What the engine's users hold: a reply and where its time went, and one look at everything that is awake.

Source: spec 4 §Faces, §Residency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from xprim_nb._text import format_bytes, format_count, format_seconds
from xprim_nb.workers.values import CrashReport, FinishReason

__all__ = [
    "Charge",
    "DeviceView",
    "EngineSnapshot",
    "GenerateProgress",
    "ModelView",
    "Phase",
    "QueueView",
    "Reply",
    "Timings",
]

Phase: TypeAlias = Literal["installing", "queued", "loading", "reading", "answering"]


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one answer went, in seconds.

    Attributes:
        install_s: Until the model was on this machine.
        queue_s: Waiting for a turn, loading not counted.
        load_s: Loading or waking the model while this request waited.
        lora_s: Changing LoRA layers.
        first_token_s: From the worker's being asked to the first token.
        generate_s: From the worker's being asked to the end.
        total_s: All of it.
    """

    install_s: float = 0.0
    queue_s: float = 0.0
    load_s: float = 0.0
    lora_s: float = 0.0
    first_token_s: float = 0.0
    generate_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        text: All of it.
        model: `backend:name`.
        finish_reason: `stop`, `length`, `cancelled`, `refusal` or `tool_calls`.
        prompt_tokens: Tokens of the prompt; 0 where the server does not tell.
        tokens: Tokens of the answer.
        timings: Where the time went.
        seed: What sampling began with: the same seed gives the same text again.
        worker_pid: Of the process that answered; None when the model runs elsewhere.
        device: Where it ran.
        degraded: How it ran with less than was asked for; empty when it did not.
        evicted: Models that left so that this one could be loaded.
        loras: LoRA layers it was made with.
        retries: How often a crashed worker was replaced meanwhile.
        usage: What a server told of tokens, in its own words; empty where it told nothing.
        tool_calls: What it wants called: `id`, `name`, and `arguments` as the JSON text that it wrote.
        cut: Of one that ended by `length`: by what, and what to do about it; empty where only its server knows.
    """

    text: str
    model: str
    finish_reason: FinishReason
    prompt_tokens: int = 0
    tokens: int = 0
    timings: Timings = Timings()
    seed: int = 0
    worker_pid: int | None = None
    device: str = ""
    degraded: str = ""
    evicted: tuple[str, ...] = ()
    loras: tuple[str, ...] = ()
    retries: int = 0
    usage: Mapping[str, object] = field(default_factory=dict)
    tool_calls: tuple[Mapping[str, str], ...] = ()
    cut: str = ""

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second after the first one; 0.0 while there are fewer than two."""
        span = self.timings.generate_s - self.timings.first_token_s
        return (self.tokens - 1) / span if self.tokens > 1 and span > 0 else 0.0

    @property
    def stamp(self) -> str:
        """Where the time went, in a line: `3.1 s = 0.4 s queue + 2.0 s load + 0.7 s answer (41 tokens/s)`."""
        spent = self.timings
        parts = [
            f"{format_seconds(seconds)} {what}"
            for seconds, what in (
                (spent.install_s, "install"),
                (spent.queue_s, "queue"),
                (spent.load_s, f"load (evicted {', '.join(self.evicted)})" if self.evicted else "load"),
                (spent.lora_s, "LoRA"),
                (spent.first_token_s - spent.lora_s, "first token"),
                (spent.generate_s - spent.first_token_s, "answer"),
            )
            if seconds >= 0.05  # what is shown as 0.0 s explains nothing
        ]
        speed = f" ({self.tokens_per_s:.0f} tokens/s)" if self.tokens_per_s else ""
        told = f"{format_seconds(spent.total_s)} = {' + '.join(parts)}" if len(parts) > 1 else ""
        return f"{told or format_seconds(spent.total_s)}{speed}"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class GenerateProgress:
    """How far one request is.

    Attributes:
        model: `backend:name`.
        phase: `installing`, `queued`, `loading`, `reading` (the prompt), `answering`.
        text: The answer so far.
        tokens: Tokens of it.
        position: Place in the queue, 1 is next; 0 when it does not wait.
        reason: Why it waits, or what happens, in a sentence.
        fraction: Of the installation or the loading, 0.0 to 1.0.
        elapsed_s: Since it was asked for.
    """

    model: str
    phase: Phase
    text: str = ""
    tokens: int = 0
    position: int = 0
    reason: str = ""
    fraction: float = 0.0
    elapsed_s: float = 0.0

    @property
    def stage(self) -> str:
        """The phase as a reader has it: who waits while the model is being loaded, waits for that."""
        if self.phase == "queued":
            return "loading" if self.fraction else "waiting"
        return self.phase

    @property
    def doing(self) -> str:
        """What happens, or what is waited for: `loading 40 %`, `number 2 in the queue: …`."""
        match self.stage:
            case "installing" | "loading" as stage:
                told = stage + (f" {100 * self.fraction:.0f} %" if self.fraction else "")
            case "waiting":  # who is next waits for the model, not for a turn
                told = f"number {self.position} in the queue" if self.position > 1 else "waiting"
            case "reading":
                return "reading the prompt"
            case _:
                return format_count(self.tokens, "token")
        return f"{told}: {self.reason}" if self.reason else told

    def __str__(self) -> str:
        return f"{self.model}: {self.doing}"


@dataclass(frozen=True, slots=True)
class Charge:
    """What one model takes of one device.

    Attributes:
        model: `backend:name`.
        size_bytes: Charged now.
        state: Of the lease: `reserved`, `loading`, `resident`, `draining`, `releasing`, `parked`, `ghost`.
        kernel_pid: Of the process that holds it.
        is_mine: That is this process.
    """

    model: str
    size_bytes: int
    state: str
    kernel_pid: int
    is_mine: bool = True


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device, as a panel shows it.

    Attributes:
        id: `cuda:0`, `mps`, `cpu`, `sim:…`.
        name: `NVIDIA H100 80GB`, `this machine's memory`.
        kind: `cuda`, `mps`, `cpu` or `sim`.
        total_bytes: What it has.
        budget_bytes: What our models together may take.
        external_bytes: What other programs take of the budget.
        free_bytes: What the driver says is free; None where nobody says.
        charges: What models take of it, of all kernels of this user.
    """

    id: str
    name: str
    kind: Literal["cuda", "mps", "cpu", "sim"]
    total_bytes: int
    budget_bytes: int
    external_bytes: int = 0
    free_bytes: int | None = None
    charges: tuple[Charge, ...] = ()

    @property
    def charged_bytes(self) -> int:
        """What all models together take of it."""
        return sum(each.size_bytes for each in self.charges)

    @property
    def available_bytes(self) -> int:
        """What a further model could take without anybody's leaving."""
        return max(0, self.budget_bytes - self.external_bytes - self.charged_bytes)

    def __str__(self) -> str:
        used, budget = format_bytes(self.charged_bytes), format_bytes(self.budget_bytes)
        return f"{self.id} ({self.name}): {used} of {budget} taken by models"


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model, as a table shows it.

    Attributes:
        key: `backend:name`, unique in this engine.
        name: As the registry or the server names it.
        backend: Which.
        status: `absent`, `loading`, `resident`, `leaving`, `parked`, `waking`, `broken`; `elsewhere` for a server's.
        device: Where it is; empty while it is nowhere.
        size_bytes: What it takes of that device.
        source: Whether that is `measured`, `estimated` or `given`.
        context_tokens: Room for prompt and answer.
        in_flight: Answers it gives now.
        waiting: Requests that wait for it.
        served: Answers it has given.
        pinned: Never evicted.
        idle_s: Since its latest answer; 0.0 while it answers.
        worker_pid: Of its process; None when there is none.
        kernel_pid: Of the kernel that holds it.
        is_mine: That is this process.
        why_not_evict: Why it cannot be evicted now, in a sentence; empty when it can.
        cause: Why it is broken, in a sentence.
        load_s: How long loading it took last.
        note: What caused its load: a cell, a command.
        fraction: Of its loading, 0.0 to 1.0.
    """

    key: str
    name: str
    backend: str
    status: str
    device: str = ""
    size_bytes: int = 0
    source: str = "estimated"
    context_tokens: int = 0
    in_flight: int = 0
    waiting: int = 0
    served: int = 0
    pinned: bool = False
    idle_s: float = 0.0
    worker_pid: int | None = None
    kernel_pid: int = 0
    is_mine: bool = True
    why_not_evict: str = ""
    cause: str = ""
    load_s: float = 0.0
    note: str = ""
    fraction: float = 0.0

    @property
    def is_awake(self) -> bool:
        """True while it takes memory or a process."""
        return self.status not in ("absent", "broken", "elsewhere")

    def __str__(self) -> str:
        where = f" on {self.device}, {format_bytes(self.size_bytes)}" if self.device else ""
        return f"{self.key}: {self.status}{where}{', pinned' if self.pinned else ''}"


@dataclass(frozen=True, slots=True)
class QueueView:
    """One request that waits; `reason` says for what, in a sentence, `position` 1 is next, `note` what asks."""

    request_id: str
    model: str
    priority: str
    position: int
    reason: str
    waited_s: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """Everything that is awake, at one moment.

    Attributes:
        at: When, in seconds since the epoch.
        devices: What models can run on.
        models: Those of this engine, and those that other kernels hold.
        queue: Who waits, next first.
        crashes: The latest crash reports, newest first.
    """

    at: float
    devices: tuple[DeviceView, ...] = ()
    models: tuple[ModelView, ...] = ()
    queue: tuple[QueueView, ...] = ()
    crashes: tuple[CrashReport, ...] = field(default=())

    def __str__(self) -> str:
        awake = sum(each.is_awake for each in self.models)
        lines = [f"{format_count(awake, 'model')} awake, {format_count(len(self.queue), 'request')} waiting"]
        return "\n".join(
            [*lines, *map(str, self.devices), *(str(each) for each in self.models if each.is_awake)]
        )
