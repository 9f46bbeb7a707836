"""What can go wrong with models on this machine and in registries."""

from __future__ import annotations

from xprim_nb.errors.base import XprimError

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
]


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
