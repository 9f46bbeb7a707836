"""What crosses between those who ask for text and those who make it: frozen values, with no behaviour of their own.

Source: spec 4 §Install on first use, §Workers, §Faces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

__all__ = [
    "Capabilities",
    "CrashCause",
    "CrashReport",
    "Ended",
    "Environment",
    "FinishReason",
    "GenerateRequest",
    "InstallProgress",
    "LoadOptions",
    "LocalModel",
    "LoraChoice",
    "Measured",
    "Message",
    "ModelFacts",
    "Piece",
    "Recommended",
    "Sampling",
    "WorkerStats",
]

FinishReason: TypeAlias = Literal["stop", "length", "cancelled", "refusal", "tool_calls"]
CrashCause: TypeAlias = Literal[
    "killed", "segfault", "out_of_memory", "exception", "exit", "hung", "no_hello"
]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        max_tokens: Most tokens of the answer, at least 1; None until it ends by itself, or the context is full.
        temperature: 0.0 takes the most likely token each time; above, the distribution is flattened by it.
        top_p: Only the most likely tokens that together have this probability, 0 to 1.
        top_k: Only so many of the most likely tokens; 0 for all.
        seed: Same model, prompt, settings and seed: same text. Always set when a request reaches a backend.
        stop: The answer ends before any of these texts.
    """

    max_tokens: int | None = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoraChoice:
    """One LoRA layer that an answer is made with.

    Attributes:
        name: As the user named it, `demo/lora-json v1`.
        path: The directory of the adapter in PEFT's format.
        weight: What its delta is multiplied with.
        manifest_hash: Of the installed adapter; empty for a directory of one's own.
    """

    name: str
    path: Path
    weight: float = 1.0
    manifest_hash: str = ""


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What a backend is asked for: a prompt as it is, or messages that the model's chat template lays out.

    Attributes:
        prompt: Continued as it is.
        messages: A conversation.
        sampling: How the answer is made; where `body` has a field for it, that one counts.
        loras: LoRA layers.
        body: The whole request, laid out elsewhere for this very provider: it is sent as it stands, with the model's
            name and what streaming needs. Only backends with `Capabilities.takes_body` take one.
    """

    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    sampling: Sampling = Sampling()
    loras: tuple[LoraChoice, ...] = ()
    body: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the answer: `text` may be empty while a character is not whole; `tokens` counts those of the piece."""

    text: str
    tokens: int = 1


@dataclass(frozen=True, slots=True)
class Ended:
    """The last thing of an answer.

    Attributes:
        reason: `stop` (the model ended, or a stop text was met), `length` (max_tokens or the context), `cancelled`,
            `refusal` (it will not answer this), `tool_calls` (it wants tools called).
        prompt_tokens: Tokens of the prompt; 0 when the server does not tell.
        tokens: Tokens of the answer.
        lora_s: Spent on changing LoRA layers, in seconds.
        prefill_s: Spent on the prompt, in seconds; 0.0 when unknown.
        decode_s: Spent on the answer, in seconds; 0.0 when unknown.
        usage: What the server told of tokens, in its own words; empty when it told nothing.
        tool_calls: What it wants called: `id`, `name`, and `arguments` as the JSON text that it wrote.
    """

    reason: FinishReason
    prompt_tokens: int = 0
    tokens: int = 0
    lora_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    usage: Mapping[str, object] = field(default_factory=dict)
    tool_calls: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """Memory that a loaded model really takes, in bytes.

    Attributes:
        device_bytes: On its accelerator, the process's context included; on the CPU the same as `host_bytes`.
        host_bytes: Of the machine's memory (the worker's resident set).
        how: `nvml`, `reported` by the worker, or `rss`.
    """

    device_bytes: int
    host_bytes: int
    how: Literal["nvml", "reported", "rss"] = "reported"


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """A worker's own account of itself, at one moment."""

    pid: int
    measured: Measured
    cpu_s: float = 0.0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class CrashReport:
    """What is known of a worker's end.

    Attributes:
        model: What it ran.
        pid: Of the worker.
        cause: Its class.
        detail: One sentence: `It was killed by SIGKILL, from outside or by the kernel for want of memory.`
        exit_code: As `subprocess` has it, negative for a signal; None while it is not known.
        doing: `start`, `load`, `generate`, or `idle`.
        last_lines: What it wrote last on stdout and stderr.
        memory: `(seconds since start, resident bytes)` samples, oldest first.
        advice: What to try, most promising first.
        at: When, in seconds since the epoch.
    """

    model: str
    pid: int
    cause: CrashCause
    detail: str
    exit_code: int | None = None
    doing: str = "idle"
    last_lines: tuple[str, ...] = ()
    memory: tuple[tuple[float, int], ...] = ()
    advice: tuple[str, ...] = ()
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a worker runs.

    Attributes:
        python: The interpreter; None for this one. Another one needs no package of ours, only the engine's own.
        variables: Added to the environment, which is otherwise the kernel's without `PYTHONPATH`, `PYTHONHOME`.
    """

    python: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model whose files are on this machine.

    Attributes:
        name: `group/model version`, or the path of a directory of one's own.
        path: Its directory.
        manifest_hash: What is installed; empty for a directory of one's own.
        size_bytes: Of all its files.
        metadata: What the registry says of it (`kind`, `architecture`, `base_model` …).
    """

    name: str
    path: Path
    manifest_hash: str = ""
    size_bytes: int = 0
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What an estimate of a model's memory is made from. All zero for a model that runs elsewhere.

    Attributes:
        name: The model, as its backend names it.
        backend: Which.
        fingerprint: Changes when the weights do: the manifest hash, a digest of the headers, or the server's own.
        weight_bytes: Exact size of the tensors in the dtype they are held in.
        layers: Transformer blocks.
        key_value_heads: Heads of keys and values.
        head_dim: Width of a head.
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the feed-forward layer.
        vocabulary: Number of tokens.
        max_context_tokens: Longest context of the model; 0 when unknown.
        cache_item_bytes: Bytes of one number of the KV cache.
        footprint_bytes: What the backend itself says it takes on its device, which replaces every estimate; or None.
        is_remote: Needs no memory here.
    """

    name: str
    backend: str
    fingerprint: str = ""
    weight_bytes: int = 0
    layers: int = 0
    key_value_heads: int = 0
    head_dim: int = 0
    hidden_size: int = 0
    intermediate_size: int = 0
    vocabulary: int = 0
    max_context_tokens: int = 0
    cache_item_bytes: int = 2
    footprint_bytes: int | None = None
    is_remote: bool = False


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a model is loaded.

    Attributes:
        device: `cpu`, `cuda:0`, `mps`; of a simulated device `cpu`, because that is what it really runs on.
        context_tokens: Room for prompt and answer.
        device_limit_bytes: What it may take of the accelerator at most; None for no limit.
        ram_limit_bytes: What its process may take of the machine's memory; None for no limit.
        environment: The interpreter and variables of its worker.
        start_timeout_s: Longest wait for a worker's hello.
        stall_timeout_s: Longest silence while it loads.
        settings: The backend's own: `dtype`, `quantization`, `threads` …; unknown ones are refused by name.
    """

    device: str = "cpu"
    context_tokens: int = 4096
    device_limit_bytes: int | None = None
    ram_limit_bytes: int | None = None
    environment: Environment = field(default_factory=Environment)
    start_timeout_s: float = 30.0
    stall_timeout_s: float = 120.0
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstallProgress:
    """How far an installation on first use is; `total_bytes` is 0 while unknown."""

    name: str
    done_bytes: int = 0
    total_bytes: int = 0
    text: str = ""

    @property
    def fraction(self) -> float:
        """Share that is done, 0.0 to 1.0."""
        return min(1.0, self.done_bytes / self.total_bytes) if self.total_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Recommended:
    """A model worth trying with a backend, and why, in a sentence."""

    name: str
    why: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do.

    Attributes:
        has_process: Its models run in worker processes of ours.
        is_remote: Its models need no memory here, and their names mean nothing to our registry.
        slots: Answers that one loaded model makes at once.
        honours_seed: Same seed, same text.
        lora: `none`, `merge` (any number, with weights), or `server` (adapters that the server knows by name).
        can_park: A loaded model can leave its accelerator and keep its process.
        can_install: `install_model` does something.
        takes_body: A request that was laid out elsewhere is sent as it stands (`GenerateRequest.body`).
        uses_library: Its models are those of the `Library`: installed from the registry, or directories.
        devices: Kinds it can use: `cpu`, `cuda`, `mps`.
    """

    has_process: bool
    is_remote: bool = False
    slots: int = 1
    honours_seed: bool = True
    lora: Literal["none", "merge", "server"] = "none"
    can_park: bool = False
    can_install: bool = True
    takes_body: bool = False
    uses_library: bool = False
    devices: tuple[str, ...] = ("cpu",)
