"""What the residency panel has begun, what was planned, and what there is to read out.

    evict, pin, unpin, retry, load   a handle each; its end is heard by the view
    plan                             asked first; its lines stay until yes or no
    news                             `ResidencyChanged`, `WorkerFailed` as sentences, the newest few

Source: spec 4 §Faces (ResidencyPanel).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any, Protocol

from xprim_nb._bridge import Handle
from xprim_nb.errors import NotInstalledError, XprimError
from xprim_nb.events import ResidencyChanged, WorkerFailed
from xprim_nb.scheduling.plan import ResidencyPlan
from xprim_nb.scheduling.values import ModelView
from xprim_nb.toolkit import Toolkit
from xprim_widgets._base import told
from xprim_widgets._residency_rows import name_of

__all__ = ["Host", "ResidencyWork"]

# More sentences at once nobody listens to; the rest is on screen.
_MOST_SAID = 3
# And so many stand on screen.
_MOST_NEWS = 8
_SENTENCE_CHARS, _MOST_LINES = 400, 60

_DOINGS = {
    "evict": "being evicted",
    "pin": "being pinned",
    "unpin": "being unpinned",
    "retry": "being retried",
    "load": "asked for",
    "plan": "being planned",
}
_NEWS = {
    "resident": "is loaded",
    "loading": "is loading",
    "waking": "is waking",
    "parked": "is parked",
    "broken": "is broken",
}
# Plans that a yes does something about; of the others some are done already, and some cannot be.
_GOES = ("fits", "evicts", "waits")
# A model is absent after it left, was not loaded, or crashed: what it was before says which.
_ENDS = {"leaving": "was evicted", "loading": "could not be loaded", "waking": "could not be woken"}


class Host(Protocol):
    """What is asked of the view."""

    def follow(self, handle: Handle[Any], then: Callable[[Any], object] | None = None) -> None:
        """Draw when it has ended, hand on its result, show its error."""

    def poke(self) -> None:
        """Draw soon."""


@dataclass(slots=True)
class _Job:
    doing: str
    handle: Handle[Any]
    stopped: bool = False


class ResidencyWork:
    """Jobs by model, one at a time for each. Thread-safe; nothing here waits.

    Args:
        kit: Whose verbs are called.
        host: Who is told.
    """

    def __init__(self, kit: Toolkit, host: Host) -> None:
        self._kit, self._host = kit, host
        self._lock = threading.RLock()
        self._jobs: dict[str, _Job] = {}
        self._plan: dict[str, Any] = {}
        self._news: deque[str] = deque(maxlen=_MOST_SAID)
        self._listed: deque[dict[str, Any]] = deque(maxlen=_MOST_NEWS)
        self._statuses: dict[str, str] = {}
        self._said = ""

    def evict(self, key: str) -> None:
        """Let a model go; another kernel's is asked for."""
        self._begin("evict", key, lambda: self._kit.ai.evict(key), self._told("let {} go"))

    def pin(self, key: str) -> None:
        """Keep it from being evicted."""
        self._begin("pin", key, lambda: self._kit.ai.pin(key), self._told("keep {}", "is pinned"))

    def unpin(self, key: str) -> None:
        """Let it be evicted again."""
        self._begin(
            "unpin", key, lambda: self._kit.ai.unpin(key), self._told("unpin {}", "is no longer pinned")
        )

    def retry(self, key: str) -> None:
        """Let a broken model be tried again."""
        self._begin("retry", key, lambda: self._kit.ai.retry(key))

    def plan(self, key: str) -> None:
        """Find out what loading it would do, and ask."""
        self._begin("plan", key, lambda: self._kit.ai.plan(key), lambda plan: self._planned(key, plan))

    def ask(self, name: str) -> None:
        """Find out what loading a model would do that nobody has used here yet, and ask.

        Raises:
            XprimError: No name is given.
        """
        if not name:
            raise XprimError("Name a model to load.", hint='For example "demo/tiny-llama v2".')

        def ended(handle: Handle[ResidencyPlan]) -> None:
            try:
                error = handle.exception()
            except CancelledError:
                return
            if isinstance(error, NotInstalledError):  # that is no fault here: loading installs it
                self._question(name, [error.message, "Loading it installs it first."])
            else:
                self._host.follow(handle, lambda plan: self._planned(plan.model, plan))

        handle = self._begin("plan", name, lambda: self._kit.ai.plan(name), follow=False)
        handle.add_done_callback(ended)

    def load(self, key: str) -> None:
        """Somebody said yes to what was planned.

        Raises:
            XprimError: Nothing was planned for it, or it cannot be loaded.
        """
        with self._lock:
            if self._plan.get("key") != key or not self._plan.get("go"):
                raise XprimError(
                    f"Nothing is planned for {name_of(key)}.", subject=key, hint="Ask for its plan first."
                )
        self._begin("load", key, lambda: self._kit.ai.load(key, note="the residency panel"))

    def leave(self) -> None:
        """Somebody said no."""
        with self._lock:
            self._plan = {}

    def stop(self, key: str) -> None:
        """Wait no longer for a load; a model that loads already goes on."""
        with self._lock:
            job = self._jobs.get(key)
            if job is not None and job.doing == "load":
                job.stopped = True
                job.handle.cancel()

    def hear(self, event: ResidencyChanged | WorkerFailed) -> None:
        """Something has happened to a model: a sentence, where it is news."""
        with self._lock:
            name, before = name_of(event.model), self._statuses.get(event.model)
            if isinstance(event, WorkerFailed):
                # It is told as a change of state too, which is no news then.
                self._statuses[event.model] = "failed"
                self._say(event.message if name in event.message else f"{name}: {event.message}")
                return
            self._statuses[event.model] = event.status
            words = _ENDS.get(before or "", "is not loaded any more")
            news = words if event.status == "absent" else _NEWS.get(event.status)
            if news is None or before in (event.status, "failed" if event.status == "absent" else ""):
                return
            where = f" on {event.device}" if event.device and event.status == "resident" else ""
            # Reasons of the engine begin with the model.
            why = (
                f"it {event.reason.removeprefix(f'{name} ')}"
                if event.reason.startswith(f"{name} ")
                else event.reason
            )
            self._say(f"{name} {news}{where}{f': {why}' if why else ''}")

    def said(self) -> str:
        """What there is to read out: the news since it was last asked for, or the same again."""
        with self._lock:
            if self._news:
                self._said = " ".join(self._news)
                self._news.clear()
            return self._said

    def news(self) -> list[dict[str, Any]]:
        """What has happened, the latest first: {at, text}."""
        with self._lock:
            return list(reversed(self._listed))

    def planned(self) -> dict[str, Any]:
        """The plan that waits for a yes, as a trait holds it; empty otherwise."""
        with self._lock:
            return dict(self._plan)

    def doing(self) -> dict[str, Any]:
        """What is being done, by key: {line, stop}."""
        with self._lock:
            jobs = list(self._jobs.items())
        return {key: _shown(job) for key, job in jobs}

    def _begin(
        self,
        doing: str,
        key: str,
        start: Callable[[], Handle[Any]],
        then: Callable[[Any], object] | None = None,
        *,
        follow: bool = True,
    ) -> Handle[Any]:
        with self._lock:
            running = self._jobs.get(key)
            if running is not None:
                raise XprimError(
                    f"{name_of(key)} is {_DOINGS[running.doing]} already.",
                    subject=key,
                    hint="Wait until that has ended.",
                )
            if self._plan.get("key") == key or doing == "plan":
                self._plan = {}
            job = self._jobs[key] = _Job(doing, start())
        # First, so that what is drawn then knows it has ended.
        job.handle.add_done_callback(lambda _: self._ended(key, job))
        if follow:
            self._host.follow(job.handle, then)
        return job.handle

    def _ended(self, key: str, job: _Job) -> None:
        with self._lock:
            if self._jobs.get(key) is job:
                del self._jobs[key]
        self._host.poke()

    def _planned(self, key: str, plan: ResidencyPlan) -> None:
        lines = [told(line)[:_SENTENCE_CHARS] for line in str(plan).splitlines()[:_MOST_LINES]]
        go = plan.verdict in _GOES
        with self._lock:
            self._plan = {"key": key, "name": name_of(key), "lines": lines, "go": go}

    def _question(self, name: str, lines: list[str]) -> None:
        shown = [told(each)[:_SENTENCE_CHARS] for each in lines]
        with self._lock:
            self._plan = {"key": name, "name": name_of(name), "lines": shown, "go": True}
        self._host.poke()

    def _told(self, wish: str, done: str = "") -> Callable[[ModelView], object]:
        """What is read out at the end: for another kernel's model the wish, for ours what was done, if no event says it."""

        def tell(view: ModelView) -> None:
            name = name_of(view.key)
            with self._lock:
                if not view.is_mine:
                    self._say(f"Kernel {view.kernel_pid} was asked to {wish.format(name)}.")
                elif done:
                    self._say(f"{name} {done}.")

        return tell

    def _say(self, sentence: str) -> None:
        text = told(sentence).rstrip()[:_SENTENCE_CHARS]
        shown = text if text.endswith((".", "!", "?")) else f"{text}."
        self._news.append(shown)
        self._listed.append({"at": time.time(), "text": shown})


def _shown(job: _Job) -> dict[str, Any]:
    line = _DOINGS[job.doing]
    if job.doing == "load":
        progress = job.handle.snapshot()
        line = "no longer waited for" if job.stopped else _waited(progress) or line
    return {"line": told(line)[:_SENTENCE_CHARS], "stop": job.doing == "load" and not job.stopped}


def _waited(progress: object) -> str:
    """How far a load is, from its `GenerateProgress`, without the model's name."""
    return str(progress).partition(": ")[2] if progress is not None else ""
