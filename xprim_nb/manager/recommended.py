"""What is worth trying: every backend is asked at once, and one that is silent is left behind.

Source: spec 4 §Install on first use (`get_recommended_models`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xprim_nb.errors import XprimError

if TYPE_CHECKING:
    from xprim_nb.scheduling.engine import Engine
    from xprim_nb.workers.contract import Backend
    from xprim_nb.workers.values import Recommended

__all__ = ["Offer", "recommended"]

_log = logging.getLogger("xprim_nb.manager")

# Servers on this machine answer at once; one that has to be asked over a network gets as long as a person waits.
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that somebody recommends.

    Attributes:
        name: As `generate` takes it: `group/model version`, or `backend:name`.
        backend: Who recommends it; `registry` for models that run in processes of ours.
        why: Why, in a sentence.
        size_bytes: Of its files; 0 when unknown.
    """

    name: str
    backend: str
    why: str
    size_bytes: int = 0


async def recommended(engine: Engine, patience_s: float = _PATIENCE_S) -> list[Offer]:
    """What the registry and every server recommend, each model once.

    Args:
        engine: Whose backends are asked.
        patience_s: Longest wait for all of them together.
    """
    backends = [each for each in (_backend(engine, name) for name in engine.backends.names()) if each]
    asked = {asyncio.create_task(each.get_recommended_models()): each for each in backends}
    done, late = await asyncio.wait(asked, timeout=patience_s) if asked else (set(), set())
    for task in late:
        _log.info("%s recommends nothing in time", asked[task].name)
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    offers: dict[str, Offer] = {}
    for task, backend in asked.items():
        if task in done:
            for offer in _offers(backend, task.result()):
                offers.setdefault(offer.name, offer)
    return sorted(
        offers.values(), key=lambda each: (each.backend != "registry", each.backend, each.size_bytes)
    )


def _backend(engine: Engine, name: str) -> Backend | None:
    try:
        return engine.backends.get(name)
    except XprimError as error:  # `xprim ai doctor` says what it lacks
        _log.info("%s cannot recommend anything: %s", name, error.message)
        return None


def _offers(backend: Backend, found: Iterable[Recommended]) -> Iterable[Offer]:
    """Models of the registry are found under their own name by whichever backend can run them."""
    is_remote = backend.capabilities.is_remote
    where = backend.name if is_remote else "registry"
    for each in found:
        yield Offer(f"{where}:{each.name}" if is_remote else each.name, where, each.why, each.size_bytes)
