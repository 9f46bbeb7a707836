"""The toolkit's verbs for running models: `kit.generate`, and `kit.ai` for the rest.

    kit.generate("demo/tiny-llama v2", "Once upon a time").result().text
    kit.ai.plan("demo/tiny-llama v2").result()

Source: spec 4 §Faces.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from xprim_nb._bridge import Handle
from xprim_nb.scheduling.asking import Asking
from xprim_nb.toolkit.asker import asker
from xprim_nb.toolkit.base import Verbs

if TYPE_CHECKING:
    from xprim_nb.scheduling.asking import LoraWish, MessageLike
    from xprim_nb.scheduling.engine import Engine
    from xprim_nb.scheduling.leases import TimelineRow
    from xprim_nb.scheduling.plan import ResidencyPlan
    from xprim_nb.scheduling.values import EngineSnapshot, ModelView, Reply
    from xprim_nb.workers.values import CrashReport

__all__ = ["AIVerbs", "Inference"]

_T = TypeVar("_T")


class Inference:
    """See `Engine`; each verb returns a `Handle`, but for those that only look. Thread-safe."""

    def __init__(self, verbs: AIVerbs) -> None:
        self._verbs = verbs

    def generate(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: Sequence[MessageLike] | None = None,
        loras: Sequence[LoraWish] | str = (),
        stream: Callable[[str], object] | None = None,
        **options: Any,  # those of `Engine.generate`, checked there
    ) -> Handle[Reply]:
        """See `Engine.generate`. The handle's snapshot is the latest `GenerateProgress`; cancelling keeps the model.

        Where no `note` is given, it is the cell or the line that calls this; so it is for `load`.
        """
        asking = Asking(str(model), stream)
        options.setdefault("note", asker())
        return self._verbs.run_engine(
            f"generate with {model}",
            lambda engine: engine.generate(
                model, prompt, messages=messages, loras=loras, asking=asking, **options
            ),
            snapshot=asking.snapshot,
        )

    def load(self, model: str, **options: Any) -> Handle[ModelView]:  # those of `Engine.load`
        """See `Engine.load`. The handle's snapshot is the latest `GenerateProgress`."""
        asking = Asking(str(model))
        options.setdefault("note", asker())
        return self._verbs.run_engine(
            f"load {model}",
            lambda engine: engine.load(model, asking=asking, **options),
            snapshot=asking.snapshot,
        )

    def evict(self, model: str) -> Handle[ModelView]:
        """See `Engine.evict`."""
        return self._verbs.run_engine(f"evict {model}", lambda engine: engine.evict(model))

    def pin(self, model: str) -> Handle[ModelView]:
        """See `Engine.pin`."""
        return self._verbs.run_engine(f"pin {model}", lambda engine: engine.pin(model))

    def unpin(self, model: str) -> Handle[ModelView]:
        """See `Engine.pin`."""
        return self._verbs.run_engine(f"unpin {model}", lambda engine: engine.pin(model, pinned=False))

    def retry(self, model: str) -> Handle[ModelView]:
        """See `Engine.retry`."""
        return self._verbs.run_engine(f"retry {model}", lambda engine: engine.retry(model))

    def plan(self, model: str, **settings: object) -> Handle[ResidencyPlan]:
        """See `Engine.plan`."""
        return self._verbs.run_engine(f"plan {model}", lambda engine: engine.plan(model, **settings))

    def ps(self) -> Handle[list[ModelView]]:
        """See `Engine.ps`."""
        return self._verbs.run_engine("list what is awake", lambda engine: engine.ps())

    def why(self, model: str) -> Handle[str]:
        """See `Engine.why`."""
        return self._verbs.run_engine(f"explain {model}", lambda engine: engine.why(model))

    def timeline(self) -> Handle[list[TimelineRow]]:
        """See `Engine.timeline`."""
        return self._verbs.run_engine("read the timeline", lambda engine: engine.timeline())

    def snapshot(self) -> EngineSnapshot:
        """See `Engine.snapshot`; of an engine that nobody has used yet it is opened for this, once."""
        engine = self._verbs.engine
        if engine is None:
            engine = self._verbs.run_engine("open the engine", _itself).result()
        return engine.snapshot()

    def crashes(self) -> tuple[CrashReport, ...]:
        """The latest crash reports, newest first."""
        engine = self._verbs.engine
        return engine.crashes() if engine is not None else ()


async def _itself(engine: Engine) -> Engine:
    return engine


class AIVerbs(Verbs):
    """`generate`, and `ai` for the other verbs of the engine, which is opened with the first of them."""

    engine: Engine | None = None

    @property
    def ai(self) -> Inference:
        """Everything about running models."""
        return Inference(self)

    def generate(
        self,
        model: str,
        prompt: str | None = None,
        **options: Any,  # those of `Engine.generate`
    ) -> Handle[Reply]:
        """See `Engine.generate`."""
        return self.ai.generate(model, prompt, **options)

    def run_engine(
        self,
        describe: str,
        verb: Callable[[Engine], Coroutine[Any, Any, _T]],
        *,
        snapshot: Callable[[], object] | None = None,
    ) -> Handle[_T]:
        """Begin a verb of the engine on the toolkit's own loop."""

        async def work() -> _T:
            return await verb(await self._engine_opened())

        return self._running.add(Handle(work(), describe, snapshot, stopped=lambda _: "stopped"))

    @abstractmethod
    async def _engine_opened(self) -> Engine:
        """The engine, open."""
