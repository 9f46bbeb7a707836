"""What a toolkit has to tell between two commands. Loaded with the toolkit: `%load_ext` needs none of it."""

from __future__ import annotations

from collections.abc import Callable

from xprim_nb.events import Event, EventHub, TrustNotice

__all__ = ["hear"]


def hear(events: EventHub, tell: Callable[[str], None]) -> None:
    """Have what a user should read told; `tell` is called in the loop's thread."""

    def heard(event: Event) -> None:
        if isinstance(event, TrustNotice):
            tell(event.message)

    events.subscribe(heard)
