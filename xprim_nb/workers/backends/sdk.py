"""What the backends over official SDKs have in common: whose account it is, and what the SDK's errors mean.

An SDK is imported on first use, retries nothing (the scheduler decides that), follows no redirect (its key would go
along), and reads no key or address from the environment: `Config.from_env` did.

Source: spec 4 §Install on first use; STYLE rules 5 and 6.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from xprim_nb.errors import ConfigError, KeyRefusedError, OfflineError, XprimError
from xprim_nb.workers.backends.failures import Peer, answer_failure, line_failure, status_failure
from xprim_nb.workers.backends.http import CONNECT_S, Address, checked_key
from xprim_nb.workers.contract import BackendContext

__all__ = ["Account", "sdk_failure", "translated"]

# What stands where a server of one's own wants no key; the SDKs refuse to have none.
_NO_KEY = "none"


class Account:
    """Where an SDK sends its requests, and with which key.

    Args:
        context: Address and key stand under `name`.
        name: The backend.
        default_url: Used where `context` has no address.

    Raises:
        ConfigError: The address or the key cannot be used.
    """

    def __init__(self, context: BackendContext, name: str, default_url: str) -> None:
        url = context.endpoints.get(name) or default_url
        self.address = Address(name, url)
        if self.address.user:
            raise ConfigError(
                f"The address of {name} holds credentials.",
                subject=name,
                hint="The SDK sends none of these: put the key into the environment, or `keys`.",
            )
        self.peer = Peer(name, self.address.shown, checked_key(context.keys.get(name, ""), name))
        self._offline, self._is_official = context.offline, url == default_url

    def __repr__(self) -> str:
        return f"Account({self.address.shown!r})"

    @property
    def key(self) -> str:
        """What the SDK is given."""
        return self.peer.key or _NO_KEY

    def refuse(self) -> None:
        """Raise where asking is no use; no socket was opened.

        Raises:
            OfflineError: Offline mode, and the server is elsewhere.
            KeyRefusedError: The official server wants a key, and there is none.
        """
        if self._offline and not self.address.is_here:
            raise OfflineError(f"{self.peer} is not on this machine.", subject=self.address.shown)
        if self._is_official and not self.peer.key:
            raise KeyRefusedError(f"{self.peer} wants a key, and there is none.", subject=self.peer.url)

    def transport(self, sdk: ModuleType) -> Any:  # noqa: ANN401  # a class of the SDK
        """The SDK's own kind of HTTP client, for its `http_client`."""
        return sdk.DefaultAsyncHttpxClient(
            timeout=sdk.Timeout(None, connect=CONNECT_S),  # the scheduler has limits of its own
            follow_redirects=False,
            trust_env=not self.address.is_here,  # a proxy could not reach this machine's loopback
        )


def sdk_failure(peer: Peer, error: Exception, *, model: str = "") -> XprimError:
    """The error for one that an SDK raised, or let through from its transport."""
    status, body = getattr(error, "status_code", None), getattr(error, "body", None)
    if isinstance(status, int) and status >= 300:
        headers = getattr(getattr(error, "response", None), "headers", {})
        return status_failure(peer, status, headers, body, model=model)
    if body is not None:  # inside a stream
        return line_failure(peer, body, model=model)
    return answer_failure(peer, error.__cause__ or error, timed_out="Timeout" in type(error).__name__)


@contextlib.contextmanager
def translated(peer: Peer, *, model: str = "") -> Iterator[None]:
    """Raise an SDK's errors as ours."""
    try:
        yield
    except XprimError:
        raise
    except Exception as error:  # noqa: BLE001  # its own classes, its transport's, and those of what it parses with
        # A server may quote the key in what it says, and an SDK's error quotes the server: the text alone goes on.
        spoke = getattr(error, "body", None) is not None
        raise sdk_failure(peer, error, model=model) from (None if spoke else error)
