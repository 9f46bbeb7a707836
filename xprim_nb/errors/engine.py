"""What can go wrong when a model runs."""

from __future__ import annotations

from xprim_nb.errors.base import XprimError

__all__ = [
    "CircuitOpenError",
    "EngineError",
    "GenerationFailedError",
    "KeyRefusedError",
    "LoadFailedError",
    "NoCapacityError",
    "ProviderError",
    "RateLimitedError",
    "TimedOutError",
    "UnsupportedModelError",
    "WorkerCrashedError",
    "WorkerError",
    "WorkerHungError",
    "WorkerMemoryError",
    "WorkerStartError",
]


class EngineError(XprimError):
    """A model could not be run, or did not answer."""

    exit_code = 8
    default_hint = "`xprim ai doctor` shows what models can run on here."


class UnsupportedModelError(EngineError):
    """No backend here runs this kind of model."""

    default_hint = 'Install the extra "transformers", or name another backend: "backend:group/model version".'


class NoCapacityError(EngineError):
    """No device here can hold the model, whatever else would leave.

    Args:
        message: One sentence with the numbers.
        subject: The model.
        hint: What would help.
        needed_bytes: What the model needs.
        available_bytes: What it could have at most, were everything gone that may go.
    """

    default_hint = "Free memory, unpin a model, choose a smaller one, or allow a smaller context."

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        hint: str = "",
        needed_bytes: int = 0,
        available_bytes: int = 0,
    ) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.needed_bytes, self.available_bytes = needed_bytes, available_bytes


class LoadFailedError(EngineError):
    """The backend refused to load the model; its message says why."""

    default_hint = "`xprim cache validate MODEL --full` proves whether its files are whole."


class GenerationFailedError(EngineError):
    """The backend raised while it answered. Its worker lives and serves the next request."""

    default_hint = "The message is the backend's own; try other options, or another backend."


class TimedOutError(EngineError, TimeoutError):
    """A limit of time was passed.

    Args:
        message: One sentence with the limit.
        subject: The model.
        hint: What would help.
        phase: `queue`, `load`, `first_token`, `between_tokens` or `total`.
    """

    default_hint = "Give it more time with `timeout=`, or None for no limit."

    def __init__(self, message: str, *, subject: str = "", hint: str = "", phase: str = "total") -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.phase = phase


class ProviderError(EngineError):
    """A server that runs models answered with an error, or could not be reached.

    Args:
        message: One sentence; no key is ever in it.
        subject: The server or the model.
        hint: What would help.
        status: The HTTP status; 0 when there was none.
        retryable: True when nothing had been sent yet and the same call may succeed later.
    """

    default_hint = "Check the server's address and that it runs; `xprim ai doctor` asks it."

    def __init__(
        self, message: str, *, subject: str = "", hint: str = "", status: int = 0, retryable: bool = False
    ) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.status, self.retryable = status, retryable


class RateLimitedError(ProviderError):
    """The server asks to wait.

    Args:
        message: One sentence.
        subject: The server or the model.
        hint: What would help.
        retry_after_s: How long it asks to wait, in seconds; 0.0 when it does not say.
    """

    default_hint = "Wait and run again, or send fewer requests at once."

    def __init__(
        self, message: str, *, subject: str = "", hint: str = "", retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message, subject=subject, hint=hint, status=429, retryable=True)
        self.retry_after_s = retry_after_s


class KeyRefusedError(ProviderError):
    """The server refuses the key, or wants one and there is none."""

    default_hint = (
        "Set the key in the environment (OPENAI_API_KEY, ANTHROPIC_API_KEY …), never in a notebook."
    )


class WorkerError(EngineError):
    """The process that runs a model is at fault.

    Args:
        message: One sentence.
        subject: The model.
        hint: What would help.
        retryable: True when no token had been sent, so that the same request can be made again.
        report: What is known of its end (a `CrashReport`), for the crash card; None when nothing is.
    """

    default_hint = "Its last lines are in the crash card; run again: a new worker is started."

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        hint: str = "",
        retryable: bool = False,
        report: object = None,
    ) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.retryable, self.report = retryable, report


class WorkerStartError(WorkerError):
    """The worker could not be started, or never said hello."""

    default_hint = "Check the interpreter of the environment it should run in, and the last lines it wrote."


class WorkerCrashedError(WorkerError):
    """The worker died."""


class WorkerMemoryError(WorkerError):
    """The worker needed more memory than it may use, or than there is."""

    default_hint = "Use a smaller model, context or dtype, or raise max_ram_per_worker."


class WorkerHungError(WorkerError):
    """The worker lives, and neither answers nor makes progress. It was stopped."""


class CircuitOpenError(WorkerError):
    """The model's worker crashed so often that none is started for now."""

    default_hint = "Mend the cause that the crash card shows; `load` tries again at once."
