"""What a model must fit into: the disk, the memory that is free, the largest accelerator.

Source: spec 3 §Views (ModelBrowser: "fits").
"""

from __future__ import annotations

import logging

import psutil

from xprim_nb._files import free_bytes
from xprim_nb.errors import XprimError
from xprim_nb.toolkit import Toolkit

__all__ = ["free_of"]

_log = logging.getLogger("xprim_nb.widgets")

# What is free changes with every breath; a new figure is told when it matters.
_DISK_STEP, _MEMORY_STEP = 1 << 20, 64 << 20


def free_of(kit: Toolkit) -> dict[str, int]:
    """Bytes free of the `disk` and of `memory`; what models may take of the largest accelerator as `gpu`.

    Without an accelerator, and while nobody has opened the engine, there is no `gpu`: the engine is not opened for it.
    """
    disk, memory = free_bytes(kit.config.base_dir), psutil.virtual_memory().available
    budget = _largest_budget(kit)
    return {
        "disk": disk // _DISK_STEP * _DISK_STEP,
        "memory": memory // _MEMORY_STEP * _MEMORY_STEP,
        **({"gpu": budget} if budget else {}),
    }


def _largest_budget(kit: Toolkit) -> int:
    engine = kit.engine
    if engine is None:
        return 0
    try:
        devices = engine.snapshot().devices
    except XprimError as error:  # whoever uses the engine is told; here only a chip is not shown
        _log.info("the devices could not be looked at: %s", error)
        return 0
    return max((each.budget_bytes for each in devices if each.kind != "cpu"), default=0)
