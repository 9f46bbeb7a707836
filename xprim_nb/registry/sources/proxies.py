"""Which proxy a URL goes through: the configured one, else what the environment says.

Source: spec 1 §Client; `urllib.request.getproxies`, which httpx2 asks too.
"""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit

from xprim_nb.registry.sources.answers import origin

__all__ = ["ProxyChoice"]


class ProxyChoice:
    """Called with a URL, answers with a proxy's URL or an empty text. The environment is asked once an origin.

    Args:
        configured: Used for everything when not None.
    """

    def __init__(self, configured: str | None) -> None:
        self._configured = configured
        self._known: dict[tuple[str, str, int], str] = {}

    def __call__(self, url: str) -> str:
        """The proxy for a URL; empty when there is none."""
        if self._configured is not None:
            return self._configured
        place = origin(url)
        if place not in self._known:
            self._known[place] = _from_environment(url)
        return self._known[place]


def _from_environment(url: str) -> str:
    parts = urlsplit(url)
    known = urllib.request.getproxies()
    proxy = known.get(parts.scheme) or known.get("all") or ""
    names = (parts.hostname or "", parts.netloc.rpartition("@")[2])  # NO_PROXY may name a port, too
    if not proxy or any(map(urllib.request.proxy_bypass, names)):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"
