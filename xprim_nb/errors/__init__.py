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
    ├── EngineError                exit 8   a model could not be run
    │   ├── UnsupportedModelError  exit 8   no backend here runs this kind of model
    │   ├── NoCapacityError        exit 8   no device here can hold it, with the numbers
    │   ├── LoadFailedError        exit 8   the backend refused to load it
    │   ├── GenerationFailedError  exit 8   the backend raised while it answered; its worker lives
    │   ├── TimedOutError          exit 8   a limit of time was passed; the message says which
    │   ├── ProviderError          exit 8   a server that runs models answered with an error
    │   │   ├── RateLimitedError   exit 8   it asks to wait
    │   │   └── KeyRefusedError    exit 8   it refuses the key, or wants one
    │   └── WorkerError            exit 8   the process that runs the model is at fault
    │       ├── WorkerStartError   exit 8   it never said hello
    │       ├── WorkerCrashedError exit 8   it died; `retryable` says whether anything had been sent
    │       ├── WorkerMemoryError  exit 8   it needed more memory than it may, or than there is
    │       ├── WorkerHungError    exit 8   it lives and does nothing
    │       └── CircuitOpenError   exit 8   it crashed so often that nobody starts it again for now
    └── PromptError                exit 9   a prompt, its answer in a cache, or a checkpoint
        ├── NotCachedError         exit 9   only a cached answer was wanted, and there is none
        ├── CheckpointNotFoundError exit 9  no checkpoint, thread or branch of that name
        └── DatabaseUnavailableError exit 9 the database does not answer; nothing that was written is lost

Each error names its subject (a ref, digest, URL, path) and carries a `hint`: the next thing to do.

Source: seeds/002 (sentinel errors, exit codes), spec 1 §CLI.
"""

from __future__ import annotations

from xprim_nb.errors.base import (
    XprimError,
)
from xprim_nb.errors.engine import (
    CircuitOpenError,
    EngineError,
    GenerationFailedError,
    KeyRefusedError,
    LoadFailedError,
    NoCapacityError,
    ProviderError,
    RateLimitedError,
    TimedOutError,
    UnsupportedModelError,
    WorkerCrashedError,
    WorkerError,
    WorkerHungError,
    WorkerMemoryError,
    WorkerStartError,
)
from xprim_nb.errors.models import (
    ConfigError,
    HashMismatchError,
    InsufficientSpaceError,
    InvalidRefError,
    MissingExtraError,
    ModelNotFoundError,
    NetworkError,
    NotInstalledError,
    OfflineError,
    RegistryError,
    StalledError,
    StorageError,
    VersionExistsError,
    VersionNotFoundError,
)
from xprim_nb.errors.prompts import (
    CheckpointNotFoundError,
    DatabaseUnavailableError,
    NotCachedError,
    PromptError,
)

__all__ = [
    "CheckpointNotFoundError",
    "CircuitOpenError",
    "ConfigError",
    "DatabaseUnavailableError",
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
    "NotCachedError",
    "NotInstalledError",
    "OfflineError",
    "PromptError",
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
