"""Models for notebooks: installed like packages, verified like backups, looked at like data frames.

    >>> from xprim_nb import Config, ModelRef
    >>> ModelRef.parse("demo/tiny-llama@v1")
    ModelRef(group='demo', model='tiny-llama', version='v1')

Importing this package loads none of its dependencies: every name below is fetched on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xprim_nb._bridge import Handle
    from xprim_nb.config import Config
    from xprim_nb.errors import XprimError
    from xprim_nb.events import PullProgress
    from xprim_nb.manager import Manager
    from xprim_nb.refs import ModelRef
    from xprim_nb.toolkit import Toolkit, allow_nested_loops, connect

__version__ = "0.1.0"

_HOMES = {
    "Config": "config",
    "Handle": "_bridge",
    "Manager": "manager",
    "ModelRef": "refs",
    "PullProgress": "events",
    "Toolkit": "toolkit",
    "XprimError": "errors",
    "allow_nested_loops": "toolkit",
    "connect": "toolkit",
}

__all__ = [
    "Config",
    "Handle",
    "Manager",
    "ModelRef",
    "PullProgress",
    "Toolkit",
    "XprimError",
    "allow_nested_loops",
    "connect",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(f"xprim_nb.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'xprim_nb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def load_ipython_extension(shell: object) -> None:
    """`%load_ext xprim_nb`: register the magics, load nothing else."""
    importlib.import_module("xprim_nb.magics").load(shell)


def unload_ipython_extension(shell: object) -> None:
    """`%unload_ext xprim_nb`: take back everything the extension added."""
    importlib.import_module("xprim_nb.magics").unload(shell)
