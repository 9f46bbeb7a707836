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
    └── MissingExtraError          exit 1   an optional dependency is not installed

Each error names its subject (a ref, digest, URL, path) and carries a `hint`: the next thing to do.

Source: seeds/002 (sentinel errors, exit codes), spec 1 §CLI.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ConfigError",
    "HashMismatchError",
    "InsufficientSpaceError",
    "InvalidRefError",
    "MissingExtraError",
    "ModelNotFoundError",
    "NetworkError",
    "NotInstalledError",
    "OfflineError",
    "RegistryError",
    "StalledError",
    "StorageError",
    "VersionExistsError",
    "VersionNotFoundError",
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
