"""Every error this package raises on purpose, as one tree.

    XprimError                     exit 1   something we know how to explain
    ├── InvalidRefError            exit 2   not a model reference ("group/model version")
    ├── ConfigError                exit 2   a setting that cannot work
    ├── ModelNotFoundError         exit 3   the registry has no such model
    │   └── VersionNotFoundError   exit 3   the model has no such version
    ├── NotInstalledError          exit 4   not on this machine
    ├── NetworkError               exit 5   could not be fetched
    │   ├── OfflineError           exit 5   offline mode, and the answer is not on this machine
    │   └── StalledError           exit 5   the connection went silent
    ├── HashMismatchError          exit 6   bytes that are not what their name says
    ├── StorageError               exit 7   the disk refused
    │   └── InsufficientSpaceError exit 7   the disk is too small, said before anything is written
    ├── RegistryError              exit 1   the registry's answer breaks the format
    ├── VersionExistsError         exit 1   publishing other bytes under a published version
    ├── MissingExtraError          exit 1   an optional dependency is not installed
    └── EngineError                exit 8   a model could not be run
        ├── UnsupportedModelError  exit 8   no backend here runs this kind of model
        ├── NoCapacityError        exit 8   no device here can hold it, with the numbers
        ├── LoadFailedError        exit 8   the backend refused to load it
        ├── GenerationFailedError  exit 8   the backend raised while it answered; its worker lives
        ├── TimedOutError          exit 8   a limit of time was passed; the message says which
        ├── ProviderError          exit 8   a server that runs models answered with an error
        │   ├── RateLimitedError   exit 8   it asks to wait
        │   └── KeyRefusedError    exit 8   it refuses the key, or wants one
        └── WorkerError            exit 8   the process that runs the model is at fault
            ├── WorkerStartError   exit 8   it never said hello
            ├── WorkerCrashedError exit 8   it died; `retryable` says whether anything had been sent
            ├── WorkerMemoryError  exit 8   it needed more memory than it may, or than there is
            ├── WorkerHungError    exit 8   it lives and does nothing
            └── CircuitOpenError   exit 8   it crashed so often that nobody starts it again for now

Each error names its subject (a ref, digest, URL, path) and carries a `hint`: the next thing to do.

Source: seeds/002 (sentinel errors, exit codes), spec 1 §CLI.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CircuitOpenError",
    "ConfigError",
    "EngineError",
    "GenerationFailedError",
    "HashMismatchError",
    "InsufficientSpaceError",
    "InvalidRefError",
    "KeyRefusedError",
    "LoadFailedError",
    "MissingExtraError",
    "ModelNotFoundError",
    "NetworkError",
    "NoCapacityError",
    "NotInstalledError",
    "OfflineError",
    "ProviderError",
    "RateLimitedError",
    "RegistryError",
    "StalledError",
    "StorageError",
    "TimedOutError",
    "UnsupportedModelError",
    "VersionExistsError",
    "VersionNotFoundError",
    "WorkerCrashedError",
    "WorkerError",
    "WorkerHungError",
    "WorkerMemoryError",
    "WorkerStartError",
    "XprimError",
]


class XprimError(Exception):
    """The root of the tree.

    Args:
        message: One sentence that says what happened.
        subject: The ref, digest, URL or path it happened to.
        hint: What the reader can do next; the class's default when empty.
    """

    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = "Run again with --verbose for the log."

    def __init__(self, message: str, *, subject: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.hint = hint or self.default_hint

    @property
    def kind(self) -> type[XprimError]:
        """Its class in the tree above, which a reader is told: rooms refine some for ends of their own.

        A class that refines only the root goes by its own name.
        """
        for each in type(self).__mro__:
            if each.__module__ == __name__ and issubclass(each, XprimError) and each is not XprimError:
                return each
        return type(self)

    def to_dict(self) -> dict[str, str | int]:
        """The error as the CLI's JSON document shows it."""
        return {
            "type": self.kind.__name__,
            "message": self.message,
            "subject": self.subject,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class InvalidRefError(XprimError, ValueError):
    """The text is no model reference."""

    exit_code = 2
    default_hint = 'Write it as "group/model version", for example "demo/tiny-llama v1".'


class ConfigError(XprimError, ValueError):
    """A setting that cannot work."""

    exit_code = 2
    default_hint = "Correct the setting; `xprim config` shows all of them."


class ModelNotFoundError(XprimError, LookupError):
    """The registry has no such model."""

    exit_code = 3
    default_hint = "`xprim models list --remote` shows what the registry has."


class VersionNotFoundError(ModelNotFoundError):
    """The model exists, the version does not."""

    default_hint = "`xprim models list --remote` shows the versions."


class NotInstalledError(XprimError, LookupError):
    """The model is not on this machine."""

    exit_code = 4
    default_hint = "`xprim models list` shows what is installed; `xprim models pull` installs."


class NetworkError(XprimError, ConnectionError):
    """The registry could not be reached, or answered with an error."""

    exit_code = 5
    default_hint = "Check the connection and the registry URL, then run again: what was fetched is kept."


class OfflineError(NetworkError):
    """Offline mode, and the answer is not on this machine."""

    default_hint = "Unset XPRIM_OFFLINE (or offline=True) to let it use the network."


class StalledError(NetworkError):
    """The connection stayed open and sent nothing."""

    default_hint = "Run again: what was fetched is kept."


class HashMismatchError(XprimError, ValueError):
    """Bytes that are not what their name says; they were not installed."""

    exit_code = 6
    default_hint = "The registry, a mirror or a proxy altered the bytes: try again, or another mirror."


class StorageError(XprimError, OSError):
    """The disk refused: full, read-only, not permitted, or damaged."""

    exit_code = 7
    default_hint = "Check the disk and the permissions of the models directory."


class InsufficientSpaceError(StorageError):
    """The disk cannot hold the model; nothing was written."""

    default_hint = "Remove a model, prune, or choose another data directory."


class RegistryError(XprimError, ValueError):
    """The registry's answer breaks the format; nothing was written."""

    default_hint = "Tell whoever publishes this registry; nothing was installed from this answer."


class VersionExistsError(XprimError):
    """A published version is immutable, and the new bytes differ from it."""

    default_hint = "Publish under a new version, or pass replace=True (--replace) if nobody uses it yet."


class MissingExtraError(XprimError, ImportError):
    """An optional dependency is not installed."""

    default_hint = 'Install it with `pip install "xprim-nb[<extra>]"`.'

    @classmethod
    def for_extra(cls, extra: str, needed_for: str) -> MissingExtraError:
        """The one sentence that names the extra and how to get it."""
        return cls(
            f"{needed_for} needs the optional extra {extra!r}.",
            subject=extra,
            hint=f'pip install "xprim-nb[{extra}]"',
        )


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
