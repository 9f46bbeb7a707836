"""What `%xprim doctor` finds out about registries and the way to them.

Source: spec 3 §Magics; spec 1 §Client.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from xprim_nb import demo
from xprim_nb._bridge import Handle
from xprim_nb._text import format_count
from xprim_nb.config import Config, mask_url
from xprim_nb.errors import XprimError
from xprim_nb.manager.probing import Probe, Said
from xprim_nb.registry.index import parse_index
from xprim_nb.registry.opening import open_source

if TYPE_CHECKING:
    from xprim_nb.toolkit import Toolkit

__all__ = ["probes"]


# One request, and an answer that says "it hangs" before the doctor's own patience ends.
_PATIENCE_S = 2.0


def probes(kit: Toolkit) -> Mapping[str, Probe]:
    """One for each registry, and one for what stands in between."""
    config = kit.config
    first = config.registry_url or str(demo.registry_path())
    named = "embedded demo registry" if kit.uses_demo_registry else ""
    mirrors = {
        f"mirror {number}": partial(_reachable, config, url, "")
        for number, url in enumerate(config.mirrors, start=1)
    }
    return {
        "registry": partial(_reachable, config, first, named),
        **mirrors,
        "proxies": partial(_proxies, config),
    }


def _reachable(config: Config, url: str, named: str) -> Said:
    shown = named or mask_url(url)
    quick = replace(config, connect_timeout_s=_PATIENCE_S, stall_timeout_s=_PATIENCE_S)
    source = open_source(url, quick)
    if config.offline and source.needs_network:
        return (
            "look at this",
            f"{shown}: offline, nobody is asked",
            "`%xprim config offline=0` goes online again.",
        )

    async def ask() -> bytes:
        try:
            return (await source.index()).raw or b""
        finally:
            await source.aclose()

    begun = time.monotonic()
    handle = Handle(ask(), f"ask {shown}")
    try:
        raw = handle.result(_PATIENCE_S)
    except TimeoutError:
        handle.cancel()
        return "broken", f"{shown}: no answer within {_PATIENCE_S:.0f} s", _WAY_OUT
    except XprimError as error:
        return "broken", f"{shown}: {error.message}", error.hint or _WAY_OUT
    took_s = time.monotonic() - begun
    index = parse_index(raw)
    told = f"{shown}: {format_count(sum(1 for _ in index), 'version')}, answered in {took_s:.2f} s"
    problems = index.told_problems()
    if problems:
        return "look at this", f"{told}; {problems[0]}", "Tell whoever publishes there."
    return "ok", told, ""


_WAY_OUT = (
    "Look at the address, the proxy and the network. What is installed works without; offline=1 stops asking."
)


def _proxies(config: Config) -> Said:
    if config.proxy:
        return "ok", f"{mask_url(config.proxy)} for everything, by setting", ""
    known = urllib.request.getproxies()
    passed = known.pop("no", "")
    if not known:
        return "ok", "none", ""
    told = ", ".join(
        f"{scheme} {mask_url(url if '://' in url else f'//{url}')}" for scheme, url in sorted(known.items())
    )
    return "ok", f"the environment's: {told}" + (f"; none for {passed}" if passed else ""), ""
