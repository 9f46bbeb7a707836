"""What is known of the models: what the registry lists, what is installed, what pulls would fetch. It asks; it waits not.

The list that is on this machine is there first, the registry's own answer follows; what is installed is listed anew
when the toolkit's events say that it has changed.

Source: spec 3 §Views (ModelBrowser); research notebook §8 ("cached list with its age when offline").
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

from xprim_nb._bridge import Handle
from xprim_nb._memory import uncollected
from xprim_nb.cache.values import InstalledModel, PullPlan
from xprim_nb.events import Event, ModelInstalled, ModelRefreshed, ModelRemoved, ResidencyChanged, RolledBack
from xprim_nb.registry.listing import RemoteListing
from xprim_nb.toolkit import Toolkit
from xprim_widgets._browser_rows import Catalogue, ModelRow, rows_of

__all__ = ["ModelBook", "Plans"]

_CHANGES = (ModelInstalled, ModelRefreshed, ModelRemoved, RolledBack)
# A plan reads a manifest and looks for its chunks; more at once would only stand in a pull's way.
_MOST_PLANS = 3


class ModelBook:
    """The models of one view. Thread-safe. Lives until `close`.

    Args:
        kit: Whose models.
        changed: Called when there is news, in any thread.
        failed: Called with what could not be had.
    """

    def __init__(
        self, kit: Toolkit, changed: Callable[[], object], failed: Callable[[BaseException], object]
    ) -> None:
        self._kit, self._changed, self._failed = kit, changed, failed
        self._lock = threading.RLock()
        self._first = threading.Event()
        self._missing = {"installed", "listing"}
        self._listing: RemoteListing | None = None
        self._installed: Sequence[InstalledModel] = ()
        self._confirmed_at = 0.0
        self._asking = self._listing_here = self._again = False
        self._catalogue: Catalogue | None = None
        self.plans = Plans(kit, changed)
        self._unsubscribe = kit.events.subscribe(self._hear)

    def load(self) -> None:
        """Ask for everything; what is asked for already is not asked for again."""
        with self._lock:
            if self._asking:
                return
            self._asking = True
            known = self._listing is not None
        if not known:
            self._ask(self._kit.cached_remote(), self._got_cached, lambda: None)
        self._list_installed()
        self._ask(self._kit.list_remote(), self._got_listing, self._asked)

    def close(self) -> None:
        """Hear no more."""
        self._unsubscribe()
        self.plans.close()

    def ready(self, timeout_s: float) -> bool:
        """Wait until everything was asked for once; False when that takes longer."""
        return self._first.wait(timeout_s)

    def catalogue(self) -> Catalogue:
        """The rows as they are now; made when something has changed, in the caller's thread."""
        with self._lock:
            if self._catalogue is None:
                with uncollected():
                    self._catalogue = Catalogue.of(rows_of(self._listing or (), self._installed))
            return self._catalogue

    def row(self, ref: str) -> ModelRow | None:
        """One row; None when there is no such version."""
        catalogue = self.catalogue()
        at = catalogue.number.get(ref)
        return None if at is None else catalogue.rows[at]

    def metadata(self, refs: Collection[str]) -> dict[str, Mapping[str, Any]]:
        """What the registry's index says of some versions, by ref."""
        with self._lock:
            listing = self._listing or ()
        return {name: each.metadata for each in listing if (name := str(each.ref)) in refs}

    def registry(self) -> dict[str, Any]:
        """How far the registry's list can be relied on: see `ModelBrowser.registry`."""
        with self._lock:
            listing = self._listing
            return {
                "asking": self._asking,
                "listed": listing is not None,
                "confirmed_at": int(self._confirmed_at),
                "why_stale": listing.why_stale if listing is not None else "",
                "offline": self._kit.config.offline and (listing is None or listing.stale),
            }

    @property
    def settling(self) -> bool:
        """True while what is installed is being listed anew."""
        return self._listing_here

    # -- asking ------------------------------------------------------------------------------------

    def _ask(self, handle: Handle[Any], got: Callable[[Any], None], ended: Callable[[], None]) -> None:
        def told(handle: Handle[Any]) -> None:
            try:
                error = handle.exception()
            except CancelledError:  # the toolkit is closed
                error = None
            else:
                if error is None:
                    got(handle.result())
            ended()
            if error is not None:
                self._failed(error)
            self._changed()

        handle.add_done_callback(told)

    def _list_installed(self) -> None:
        with self._lock:
            if self._listing_here:
                self._again = True
                return
            self._listing_here = True
        self._ask(self._kit.list_installed(), self._got_installed, self._listed)

    def _listed(self) -> None:
        with self._lock:
            self._listing_here = False
            again, self._again = self._again, False
        self._have("installed")
        if again:
            self._list_installed()

    def _asked(self) -> None:
        with self._lock:
            self._asking = False
        self._have("listing")

    def _have(self, what: str) -> None:
        with self._lock:
            self._missing.discard(what)
            if not self._missing:
                self._first.set()

    def _got_installed(self, models: Sequence[InstalledModel]) -> None:
        with self._lock:
            self._installed, self._catalogue = models, None

    def _got_cached(self, listing: RemoteListing | None) -> None:
        with self._lock:
            if listing is not None and self._listing is None:
                self._keep(listing)

    def _got_listing(self, listing: RemoteListing) -> None:
        with self._lock:
            self._keep(listing)

    def _keep(self, listing: RemoteListing) -> None:
        self._listing, self._catalogue = listing, None
        self._confirmed_at = time.time() - listing.age_s

    def _hear(self, event: Event) -> None:
        if isinstance(event, _CHANGES):
            self.plans.forget()  # what is here serves other pulls
            self._list_installed()
        elif isinstance(event, ResidencyChanged):
            self._changed()  # the engine is open: it knows which models fit an accelerator


class Plans:
    """What pulls would take, asked for a few at once and only for what is wanted now. Thread-safe.

    Args:
        kit: Who plans.
        changed: Called when there is another one.
    """

    def __init__(self, kit: Toolkit, changed: Callable[[], object]) -> None:
        self._kit, self._changed = kit, changed
        self._lock = threading.Lock()
        self._known: dict[str, PullPlan | None] = {}
        self._looked_at: dict[str, str] = {}
        self._wanted: dict[str, str] = {}
        self._running: dict[str, Handle[PullPlan]] = {}
        self._age = 0

    def want(self, rows: Sequence[ModelRow]) -> None:
        """These, and no others: what has not been begun of the earlier ones is not wanted any more."""
        with self._lock:
            self._looked_at = {row.manifest_hash: str(row.ref) for row in rows if row.status != "installed"}
            self._wanted = {name: ref for name, ref in self._looked_at.items() if name not in self._known}
        self._go_on()

    def note(self, plan: PullPlan) -> None:
        """Somebody else has made one."""
        with self._lock:
            self._known[plan.manifest_hash] = plan

    def known(self, manifest_hash: str) -> PullPlan | None:
        """The plan for a manifest; None while there is none."""
        return self._known.get(manifest_hash)

    def to_fetch(self) -> dict[str, int]:
        """Bytes that a pull would fetch, by manifest hash, where that is known."""
        with self._lock:
            return {name: plan.bytes_network for name, plan in self._known.items() if plan is not None}

    def forget(self) -> None:
        """What is on this machine has changed: none of it may be true any more."""
        with self._lock:
            self._known.clear()
            self._wanted = dict(self._looked_at)
            self._age += 1
        self._go_on()

    def close(self) -> None:
        """Stop planning."""
        with self._lock:
            self._wanted, self._looked_at = {}, {}
            running = list(self._running.values())
        for handle in running:
            handle.cancel()

    def _go_on(self) -> None:
        while True:
            with self._lock:
                if len(self._running) >= _MOST_PLANS:
                    return
                waiting = [each for each in self._wanted if each not in self._running]
                if not waiting:
                    return
                manifest_hash = waiting[0]
                ref, age = self._wanted.pop(manifest_hash), self._age
                handle = self._kit.plan_pull(ref, manifest_hash=manifest_hash)
                self._running[manifest_hash] = handle
            handle.add_done_callback(lambda ended, name=manifest_hash, age=age: self._ended(name, age, ended))  # type: ignore[misc]  # the defaults bind now

    def _ended(self, manifest_hash: str, age: int, handle: Handle[PullPlan]) -> None:
        try:
            plan = handle.result() if handle.exception() is None else None
        except CancelledError:
            plan = None
        with self._lock:
            self._running.pop(manifest_hash, None)
            if age == self._age:  # one that failed is not asked for again until something changes
                self._known[manifest_hash] = plan
        self._changed()
        self._go_on()
