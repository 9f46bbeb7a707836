"""Settings, as one frozen value. The environment is read in this module and nowhere else.

Source: seeds/002 §Configuration; spec 1 §Disk layout, §Client.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.config.database import check_database_url, mask_database_url
from xprim_nb.config.masking import mask_url
from xprim_nb.errors import ConfigError

if TYPE_CHECKING:
    import ssl

__all__ = ["MAX_CONCURRENCY", "Config", "expand_home", "foreign_cache", "mask_url"]

# Seed 002: "Default: 4, Max: 16". Above 16 the measured speed falls again (research: perf).
MAX_CONCURRENCY = 16

_APP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
# A further registry begins like one: with a scheme, a root, a home, a drive or a dot. Other spaces belong to a path.
_NEXT_REGISTRY = re.compile(r"\s+(?=[A-Za-z][A-Za-z0-9+.-]*://|[/~\\]|\.{1,2}[/\\]|[A-Za-z]:[/\\])")
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}


def expand_home(path: Path | str, subject: str) -> Path:
    """The path with `~` and `~name` at its beginning replaced by that home directory.

    Raises:
        ConfigError: There is no such user, or nobody knows where their home is; `subject` names the setting.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{str(path)!r} begins with a home directory that is not known.", subject=subject
        ) from error


def foreign_cache(program: str, environ: Mapping[str, str] | None = None) -> Path:
    """Where another program keeps its models, whether or not it is there.

    Args:
        program: `hf` (`HF_HUB_CACHE`, `HF_HOME/hub`, `~/.cache/huggingface/hub`) or `ollama` (`OLLAMA_MODELS`,
            `~/.ollama/models`).
        environ: The process's when None.

    Raises:
        ConfigError: We know no such program.
    """
    env = os.environ if environ is None else environ
    if program == "hf":
        home = env.get("HF_HOME") or str(
            Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface"
        )
        found = Path(env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE") or Path(home) / "hub")
    elif program == "ollama":
        found = Path(env.get("OLLAMA_MODELS") or "~/.ollama/models")
    else:
        raise ConfigError(
            f"{program!r:.100} is no program whose cache we know.",
            subject=program[:100],
            hint="Known are 'hf' and 'ollama'; any directory can be named by its path.",
        )
    return Path(os.path.abspath(found.expanduser()))  # noqa: PTH100  # resolve() would follow links


@dataclass(frozen=True, slots=True, repr=False)
class Config:
    """Everything a `Manager` needs to know.

    Attributes:
        app_name: Names the data directory and the metadata directory inside each model (`.xprim`).
        registry_url: `https://…`, `file://…` or a directory; the embedded demo registry when None or empty.
        mirrors: Further base URLs with the same content, tried in order after `registry_url`.
        data_dir: The base directory; the platform's user data directory when None.
        offline: Open no socket, whatever is called.
        headers: Sent with every request to the registry's own origin (an `Authorization`, say).
        proxy: Proxy URL; the environment's proxies are used when None.
        verify: False to trust any certificate, a CA bundle's path, or an `ssl.SSLContext`.
        concurrency: Chunks fetched at once, 1 to 16.
        tries: How often an object is tried at one source before it counts as failed, at least 1.
        backoff_s: Wait before the second try, in seconds; doubles after each further one.
        connect_timeout_s: Longest wait for a connection, in seconds.
        stall_timeout_s: Longest silence on an open connection, in seconds.
        partial_max_age_s: Unfinished pulls idle for longer are pruned, in seconds.
        database_url: Where checkpoints are kept, `postgresql://…` or `sqlite:///…`; a file beside the prompts when None
            or empty. Its password is never shown.
        ai: What models may use here.
        has_environment: The environment is applied already; set by `from_env`, so that what is changed afterwards
            (`--data-dir`, `%xprim config`) wins over it.

    Raises:
        ConfigError: A value is out of its range; the message names it.
    """

    app_name: str = "xprim"
    registry_url: str | None = None
    mirrors: tuple[str, ...] = ()
    data_dir: Path | None = None
    offline: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    proxy: str | None = None
    verify: bool | str | ssl.SSLContext = True
    concurrency: int = 4
    tries: int = 3
    backoff_s: float = 1.0
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 30.0
    partial_max_age_s: float = 24 * 3600.0
    database_url: str | None = None
    ai: AICapabilities = field(default_factory=AICapabilities)
    has_environment: bool = field(default=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _APP_NAME.match(self.app_name):
            raise ConfigError(
                f"app_name {self.app_name!r} is not usable as a directory name.", subject="app_name"
            )
        if isinstance(self.data_dir, str):
            object.__setattr__(self, "data_dir", Path(self.data_dir))
        if self.registry_url is not None:
            object.__setattr__(self, "registry_url", os.fspath(self.registry_url) or None)
        if self.database_url is not None:
            object.__setattr__(self, "database_url", self.database_url.strip() or None)
        if self.database_url is not None:
            check_database_url(self.database_url, "database_url")
        # One mirror alone is text, and text is a sequence too: of letters.
        several = (self.mirrors,) if isinstance(self.mirrors, str | os.PathLike) else self.mirrors
        object.__setattr__(self, "mirrors", tuple(map(os.fspath, several)))
        if not 1 <= self.concurrency <= MAX_CONCURRENCY:
            raise ConfigError(
                f"concurrency is {self.concurrency}, and must be 1 to {MAX_CONCURRENCY}.",
                subject="concurrency",
            )
        if self.tries < 1:
            raise ConfigError(f"tries is {self.tries}, and must be at least 1.", subject="tries")
        for name in ("backoff_s", "partial_max_age_s"):
            if not getattr(self, name) >= 0:  # written so that NaN is refused too
                raise ConfigError(f"{name} is {getattr(self, name)}, and cannot be negative.", subject=name)
        for name in ("connect_timeout_s", "stall_timeout_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}, and must be above 0 seconds.", subject=name
                )

    @classmethod
    def from_env(cls, base: Config | None = None, environ: Mapping[str, str] | None = None) -> Config:
        """The settings with the environment on top; as they are when it was applied before.

        `<APPNAME>_MODELS_DIR` wins over `data_dir`, as in the original; `XPRIM_MODELS_REGISTRY_URL` (several URLs or
        absolute directories separated by spaces are mirrors) fills an unset `registry_url`, `XPRIM_DATABASE_URL` an unset
        `database_url`; `XPRIM_OFFLINE=1` switches offline mode on.

        Raises:
            ConfigError: A variable has a value that cannot work; the message names the variable.
        """
        config, env = base or cls(), os.environ if environ is None else environ
        if config.has_environment:
            return config
        config = replace(config, has_environment=True, ai=config.ai.with_environment(env))
        if config.data_dir is None and config.ai.model_storage_path is not None:
            config = replace(config, data_dir=config.ai.model_storage_path)
        upper = config.app_name.upper()
        directory = env.get(f"{upper}_MODELS_DIR") or env.get(
            re.sub(r"[^A-Z0-9]", "_", upper) + "_MODELS_DIR"
        )
        if directory:
            config = replace(config, data_dir=Path(directory))
        named = env.get("XPRIM_MODELS_REGISTRY_URL", "").strip()
        urls = _NEXT_REGISTRY.split(named) if named else []
        if urls and config.registry_url is None:
            config = replace(config, registry_url=urls[0], mirrors=(*urls[1:], *config.mirrors))
        database = env.get("XPRIM_DATABASE_URL", "").strip()
        if database and config.database_url is None:
            check_database_url(database, "XPRIM_DATABASE_URL")
            config = replace(config, database_url=database)
        switch = env.get("XPRIM_OFFLINE", "").strip().lower()
        if switch not in _TRUE | _FALSE:
            raise ConfigError(f"XPRIM_OFFLINE is {switch!r}, and must be 1 or 0.", subject="XPRIM_OFFLINE")
        return replace(config, offline=True) if switch in _TRUE else config

    @property
    def base_dir(self) -> Path:
        """The absolute directory that holds `registry.json` and the models.

        Raises:
            ConfigError: `data_dir` begins with `~` and a user that there is not.
        """
        if self.data_dir is not None:
            found = expand_home(self.data_dir, "data_dir")
            return Path(os.path.abspath(found))  # noqa: PTH100  # resolve() would follow links
        return Path(platformdirs.user_data_dir(self.app_name, appauthor=False, roaming=True)) / "models"

    @property
    def metadata_dir_name(self) -> str:
        """The hidden directory inside each installed model, `.xprim`."""
        return f".{self.app_name}"

    def shown(self) -> dict[str, object]:
        """Every setting by name, secrets masked: what may be printed and logged."""
        values: dict[str, object] = {
            item.name: getattr(self, item.name) for item in fields(self) if item.repr
        }
        values["registry_url"] = mask_url(self.registry_url) if self.registry_url else None
        values["mirrors"] = tuple(mask_url(url) for url in self.mirrors)
        values["headers"] = dict.fromkeys(self.headers, "***")
        values["proxy"] = mask_url(self.proxy) if self.proxy else None
        values["database_url"] = mask_database_url(self.database_url) if self.database_url else None
        values["ai"] = self.ai.shown()
        return values

    def told(self) -> dict[str, str]:
        """The same in a reader's words, with what an unset one stands for."""
        shown = self.shown()
        verify = self.verify if isinstance(self.verify, bool | str) else "an SSL context"
        plain = {name: str(value) for name, value in shown.items() if name != "ai"}
        return {
            **plain,
            "registry_url": str(shown["registry_url"] or "the embedded demo registry"),
            "mirrors": " ".join(map(mask_url, self.mirrors)) or "none",
            "data_dir": str(self.base_dir),
            "headers": ", ".join(f"{name}: ***" for name in self.headers) or "none",
            "proxy": str(shown["proxy"] or "the environment's"),
            "verify": str(verify),
            "database_url": str(shown["database_url"] or "a file beside the prompts"),
            **self.ai.told(),
        }

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={value!r}' for name, value in self.shown().items())})"
