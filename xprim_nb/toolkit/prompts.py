"""The toolkit's verbs for prompts: `kit.prompts`.

    answered = kit.prompts.ask("Once upon a time", provider="local", model="demo/tiny-llama v2").result()
    answered.answer.text, answered.source

Source: spec 6 §Faces.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from xprim_nb._bridge import Handle
from xprim_nb.scheduling.asking import DEFAULT, Asking
from xprim_nb.toolkit.asker import asker
from xprim_nb.toolkit.base import Verbs

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from xprim_nb.manager.prompting import EngineAnswers
    from xprim_nb.prompts.asked import Asked
    from xprim_nb.prompts.caches import CacheStats, Call, Rotation
    from xprim_nb.prompts.checkpoints.saved import Checkpoint, TreeNode
    from xprim_nb.prompts.desk import Prompts
    from xprim_nb.prompts.mending import Mending
    from xprim_nb.prompts.resolve import ResolvedScaffold
    from xprim_nb.prompts.telemetry import Advice, Analysis, By, Summary
    from xprim_nb.prompts.values import ResolveInput
    from xprim_nb.prompts.volatility import Finding
    from xprim_nb.prompts.xray import Explanation
    from xprim_nb.scheduling.asking import Timeout

    Said: TypeAlias = str | ResolveInput | Mapping[str, Any]

__all__ = ["PromptDesk", "PromptVerbs"]

_T = TypeVar("_T")


class PromptDesk:
    """See `Prompts`; each verb returns a `Handle`. Thread-safe."""

    def __init__(self, verbs: PromptVerbs) -> None:
        self._verbs = verbs

    def resolve(self, prompt: Said, **fields: Any) -> Handle[ResolvedScaffold]:
        """See `Prompts.resolve`."""
        return self._verbs.run_prompts(
            "resolve a prompt", lambda prompts, _: prompts.resolve(prompt, **fields)
        )

    def explain(self, prompt: Said, **fields: Any) -> Handle[Explanation]:
        """See `Prompts.explain`."""
        return self._verbs.run_prompts(
            "explain a prompt", lambda prompts, _: prompts.explain(prompt, **fields)
        )

    def lint(self, prompt: Said, **fields: Any) -> Handle[tuple[Finding, ...]]:
        """See `Prompts.lint`."""
        return self._verbs.run_prompts("lint a prompt", lambda prompts, _: prompts.lint(prompt, **fields))

    def mended(
        self, prompt: Said, findings: Sequence[Finding] | None = None, **fields: Any
    ) -> Handle[ResolveInput]:
        """See `Prompts.mended`."""
        return self._verbs.run_prompts(
            "mend a prompt", lambda prompts, _: prompts.mended(prompt, findings, **fields)
        )

    def mending(
        self, prompt: Said, findings: Sequence[Finding] | None = None, **fields: Any
    ) -> Handle[Mending]:
        """See `Prompts.mending`."""
        return self._verbs.run_prompts(
            "look how a prompt could be mended",
            lambda prompts, _: prompts.mending(prompt, findings, **fields),
        )

    def ask(
        self,
        prompt: Said,
        *,
        stream: Callable[[str], object] | None = None,
        install: bool | None = None,
        note: str = "",
        priority: str = "default",
        timeout: Timeout = DEFAULT,
        checkpoint: str = "",
        **fields: Any,  # those of `ResolveInput`, checked there
    ) -> Handle[Asked]:
        """See `Prompts.ask`. The handle's snapshot is the latest `GenerateProgress`, of an answer that is generated.

        Args:
            prompt: The turn, or all of it; see `input_of`.
            stream: Called with each piece of the answer, in the toolkit's thread.
            install: Whether a model may be installed; None for the setting.
            note: What asks, shown in the timeline of models; the cell or the line that calls this when empty.
            priority: See `Engine.generate`.
            timeout: See `Engine.generate`.
            checkpoint: The checkpoint that the call belongs to.
            **fields: Fields of `ResolveInput`.
        """
        asking = Asking(_model_of(prompt, fields))
        options: dict[str, Any] = {
            "install": install,
            "note": note or asker(),
            "priority": priority,
            "timeout": timeout,
        }

        async def ask(prompts: Prompts, answers: EngineAnswers) -> Asked:
            who = answers.answering(asking=asking, **options)
            return await prompts.ask(
                prompt,
                on_text=stream,
                on_wait=asking.wait,
                generate=who,
                models=who,
                checkpoint=checkpoint,
                **fields,
            )

        return self._verbs.run_prompts("ask a prompt", ask, snapshot=asking.snapshot)

    def ask_samples(
        self,
        prompt: Said,
        *,
        samples: int,
        install: bool | None = None,
        note: str = "",
        priority: str = "default",
        timeout: Timeout = DEFAULT,
        checkpoint: str = "",
        **fields: Any,
    ) -> Handle[tuple[Asked, ...]]:
        """See `Prompts.ask_samples`, and `ask` for the other arguments."""
        options: dict[str, Any] = {
            "install": install,
            "note": note or asker(),
            "priority": priority,
            "timeout": timeout,
        }

        async def ask(prompts: Prompts, answers: EngineAnswers) -> tuple[Asked, ...]:
            who = answers.answering(**options)
            return await prompts.ask_samples(
                prompt, samples=samples, generate=who, models=who, checkpoint=checkpoint, **fields
            )

        return self._verbs.run_prompts(f"ask a prompt {samples} times", ask)

    def save(
        self, scaffold: str, state: Mapping[str, Any], name: str = "main", **how: Any
    ) -> Handle[Checkpoint]:
        """See `CheckpointStore.save`."""
        return self._verbs.run_prompts(
            f"save a checkpoint on {name}", lambda prompts, _: prompts.save(scaffold, state, name, **how)
        )

    def restore(self, checkpoint: str, **how: Any) -> Handle[Checkpoint]:
        """See `CheckpointStore.get`."""
        return self._verbs.run_prompts(
            f"restore {checkpoint}", lambda prompts, _: prompts.restore(checkpoint, **how)
        )

    def branch(self, checkpoint: str, name: str, **how: Any) -> Handle[Checkpoint]:
        """See `CheckpointStore.branch_from`."""
        return self._verbs.run_prompts(
            f"branch {name}", lambda prompts, _: prompts.branch(checkpoint, name, **how)
        )

    def delete(self, checkpoint: str, **how: Any) -> Handle[None]:
        """See `CheckpointStore.delete`."""
        return self._verbs.run_prompts(
            f"delete {checkpoint}", lambda prompts, _: prompts.delete(checkpoint, **how)
        )

    def compact(self) -> Handle[int]:
        """See `CheckpointStore.compact`."""
        return self._verbs.run_prompts("compact the checkpoints", lambda prompts, _: prompts.compact())

    def saved(self, limit: int = 100, **how: Any) -> Handle[tuple[TreeNode, ...]]:
        """See `CheckpointStore.list`."""
        return self._verbs.run_prompts("list checkpoints", lambda prompts, _: prompts.saved(limit, **how))

    def tree(self, scaffold: str | None = None) -> Handle[tuple[TreeNode, ...]]:
        """See `CheckpointStore.tree`."""
        return self._verbs.run_prompts(
            "read the checkpoints' tree", lambda prompts, _: prompts.tree(scaffold)
        )

    def calls(self, **how: Any) -> Handle[tuple[Call, ...]]:
        """See `Prompts.calls`."""
        return self._verbs.run_prompts("list calls", lambda prompts, _: prompts.calls(**how))

    def analyze(self, by: By = "provider", **how: Any) -> Handle[tuple[Summary, ...]]:
        """See `Prompts.analyze`."""
        return self._verbs.run_prompts("analyze calls", lambda prompts, _: prompts.analyze(by, **how))

    def analysis(self, **how: Any) -> Handle[Analysis]:
        """See `Prompts.analysis`."""
        return self._verbs.run_prompts("analyze calls", lambda prompts, _: prompts.analysis(**how))

    def optimize(self, **how: Any) -> Handle[tuple[Advice, ...]]:
        """See `Prompts.optimize`."""
        return self._verbs.run_prompts("look for savings", lambda prompts, _: prompts.optimize(**how))

    def export_to(self, where: str | TracerProvider | None = None, *, content: bool = False) -> Handle[None]:
        """See `Prompts.export_to`."""
        return self._verbs.run_prompts(
            "export calls", lambda prompts, _: prompts.export_to(where, content=content)
        )

    def stop_export(self) -> Handle[None]:
        """See `Prompts.stop_export`."""
        return self._verbs.run_prompts("export no more", lambda prompts, _: prompts.stop_export())

    def send_recorded(self, where: str = "", **how: Any) -> Handle[int]:
        """See `Prompts.send_recorded`."""
        return self._verbs.run_prompts(
            "send recorded calls", lambda prompts, _: prompts.send_recorded(where, **how)
        )

    def status(self) -> Handle[CacheStats]:
        """See `Prompts.status`."""
        return self._verbs.run_prompts("look at the prompts' caches", lambda prompts, _: prompts.status())

    def plan_rotation(self) -> Handle[Rotation]:
        """See `Prompts.plan_rotation`."""
        return self._verbs.run_prompts("plan a rotation", lambda prompts, _: prompts.plan_rotation())

    def rotate(self, plan: Rotation | None = None) -> Handle[Rotation]:
        """See `Prompts.rotate`."""
        return self._verbs.run_prompts("rotate the prompts' caches", lambda prompts, _: prompts.rotate(plan))

    def erase(self, request: str) -> Handle[int]:
        """See `Prompts.erase`."""
        return self._verbs.run_prompts("erase a prompt", lambda prompts, _: prompts.erase(request))

    def clear(self) -> Handle[int]:
        """See `Prompts.clear`."""
        return self._verbs.run_prompts("clear the prompts' caches", lambda prompts, _: prompts.clear())


def _model_of(prompt: Said, fields: Mapping[str, Any]) -> str:
    """The model's name for the progress, before anything is checked."""
    given = fields.get("model") or (
        prompt.get("model") if isinstance(prompt, Mapping) else getattr(prompt, "model", "")
    )
    return str(given or "")


class PromptVerbs(Verbs):
    """`prompts`, whose owner is opened with the first of its verbs."""

    @property
    def prompts(self) -> PromptDesk:
        """Everything about prompts."""
        return PromptDesk(self)

    def run_prompts(
        self,
        describe: str,
        verb: Callable[[Prompts, EngineAnswers], Coroutine[Any, Any, _T]],
        *,
        snapshot: Callable[[], object] | None = None,
    ) -> Handle[_T]:
        """Begin a verb of the prompts on the toolkit's own loop: for whoever adds a verb from outside, too."""

        async def work() -> _T:
            return await verb(*await self._prompts_opened())

        return self._running.add(Handle(work(), describe, snapshot, stopped=lambda _: "stopped"))

    @abstractmethod
    async def _prompts_opened(self) -> tuple[Prompts, EngineAnswers]:
        """The prompts, open, and who answers them."""
