"""Questions, answers, and one who answers and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from xprim_nb._hashing import Digest
from xprim_nb.prompts.answers import Answer, OnText, Usage
from xprim_nb.prompts.caches import Caches
from xprim_nb.prompts.identity import request_hash
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.resolve import resolve_scaffold
from xprim_nb.prompts.values import ResolveInput

RULES = "".join(f"{line}: write what a reader needs, and no word more.\n" for line in range(1, 60))


def question(**changes: Any) -> ResolveInput:
    """What is asked in these tests, unless they ask something else."""
    whole: dict[str, Any] = {
        "prompt": "Write the module.",
        "provider": "openai",
        "model": "gpt-5.6",
        "blocks": [{"type": "style_guide", "content": RULES, "name": "style"}],
        **changes,
    }
    return ResolveInput.model_validate(whole)


def keep(caches: Caches, asked: ResolveInput, answer: Answer | None = None) -> Digest:
    """Keep an answer to what is asked; the request's hash."""
    request = request_hash(asked)
    caches.keep(request, asked, resolve_scaffold(asked).rendered, answer or Answer("yes"))
    return request


class Answerer:
    """Answers each call in its own words, and remembers the calls.

    Args:
        say: Makes the answer from the number of the call; may raise.
        gate: Waited for before each answer.
    """

    def __init__(self, say: Callable[[int], Answer] | None = None, gate: asyncio.Event | None = None) -> None:
        self.calls: list[ResolveInput] = []
        self.sent: list[Rendered] = []
        self.cancelled = 0
        self.asked = asyncio.Event()
        self._say = say or (lambda call: Answer(f"answer {call}", usage=Usage(120, 30)))
        self._gate = gate

    async def __call__(
        self, asked: ResolveInput, rendered: Rendered, on_text: OnText | None = None, /
    ) -> Answer:
        """The next answer, told in two pieces."""
        self.calls.append(asked)
        self.sent.append(rendered)
        self.asked.set()
        call = len(self.calls)
        try:
            if self._gate is not None:
                await self._gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        answer = self._say(call)
        if on_text is not None:
            half = len(answer.text) // 2
            on_text(answer.text[:half])
            on_text(answer.text[half:])
        return answer
