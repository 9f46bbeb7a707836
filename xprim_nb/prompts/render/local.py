"""Models on this machine: a text that is continued as it is, or a conversation for the model's own chat template.

    a text          blocks, then the turn; for models that know no roles
    a conversation  one system message of all blocks, messages, turn; with `{"chat": true}` among the parameters, or messages

The body is no server's: whoever answers hands `prompt` or `messages` on, with the settings beside them. `chat` is a
parameter, and so part of a request's identity, because the two forms bring different answers.

Source: spec 4 §Faces (`generate(model, prompt|messages)`); spec 6 §Resolve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xprim_nb.prompts.ordering import Part
from xprim_nb.prompts.render.chat import local_chat, roles_note
from xprim_nb.prompts.render.contract import Slot, finished, merged
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.values import ResolveInput

__all__ = ["LocalRenderer"]

# A model on this machine is told neither, and what is not sent is no segment.
_UNSENT = frozenset({"tools", "schema"})


class LocalRenderer:
    """A model on this machine."""

    id = "local/1"

    def render(
        self, asked: ResolveInput, parts: Sequence[Part], *, counts: Sequence[int] | None = None
    ) -> Rendered:
        """See `Renderer.render`. Tokens play no part: nothing is marked."""
        sent = [part for part in parts if part.kind not in _UNSENT]
        body: dict[str, Any] = {"model": asked.model}
        if _is_chat(asked):
            chat, slots = local_chat(asked.model_copy(update={"tools": ()}), sent)
            body["messages"] = chat["messages"]
        else:
            slots = [Slot(part, part.text, ("prompt",)) for part in sent]
            body["prompt"] = "".join(slot.text for slot in slots)
        body |= {"temperature": asked.temperature, "top_p": asked.top_p, "top_k": asked.top_k}
        if asked.seed is not None:
            # Of a model on this machine the same seed is the same text: each sample has one of its own.
            body["seed"] = asked.seed + asked.sample_index
        if asked.max_tokens is not None:
            body["max_tokens"] = asked.max_tokens
        if asked.stop:
            body["stop"] = list(asked.stop)
        if asked.loras:
            body["loras"] = [list(each) for each in asked.loras]
        return finished(self.id, asked, merged(body, asked, ("prompt",)), slots, apart=str(asked.loras or ""))

    def notes(self, asked: ResolveInput) -> tuple[str, ...]:
        """See `Renderer.notes`."""
        said = roles_note(asked)
        if asked.tools:
            said.append("Tools are not sent: a model on this machine is told of none.")
        if asked.response_schema is not None:
            said.append("response_schema is not sent: nothing holds a model on this machine to it.")
        return tuple(said)


def _is_chat(asked: ResolveInput) -> bool:
    return bool(asked.messages) or bool(asked.parameters.get("chat", False))
