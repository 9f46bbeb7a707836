"""vLLM's server: OpenAI's protocol, whole blocks of tokens kept on their own, kept apart by `cache_salt`.

Source: https://docs.vllm.ai/en/latest/design/prefix_caching/ and …/serving/openai_compatible_server/ (extra parameters).
"""

from __future__ import annotations

from collections.abc import Sequence

from xprim_nb.prompts.ordering import Part
from xprim_nb.prompts.render.chat import local_chat, local_settings, roles_note
from xprim_nb.prompts.render.contract import finished, merged
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.values import ResolveInput

__all__ = ["VllmRenderer"]


class VllmRenderer:
    """`vllm serve`."""

    id = "vllm/1"

    def render(
        self, asked: ResolveInput, parts: Sequence[Part], *, counts: Sequence[int] | None = None
    ) -> Rendered:
        """See `Renderer.render`. Tokens play no part: nothing is marked."""
        body, slots = local_chat(asked, parts)
        body |= local_settings(asked)
        if asked.cache_key:
            body["cache_salt"] = asked.cache_key
        return finished(self.id, asked, merged(body, asked, ()), slots, apart=asked.cache_key)

    def notes(self, asked: ResolveInput) -> tuple[str, ...]:
        """See `Renderer.notes`."""
        said = roles_note(asked)
        if asked.loras:
            said.append("LoRA layers are not sent: vLLM serves each as a model of its own, name that one.")
        if asked.prefix_ttl != "5m":
            said.append(f"prefix_ttl={asked.prefix_ttl} is not sent: vLLM keeps a prefix while it has room.")
        return tuple(said)
