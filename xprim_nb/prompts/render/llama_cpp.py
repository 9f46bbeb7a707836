"""llama.cpp's server: OpenAI's protocol, the last prompt of a slot kept as far as the next one is equal.

`id_slot` is left out: unasked, the server takes the slot whose prompt is most like the new one. Who knows better gives
it among the `parameters`.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md (`cache_prompt`, `id_slot`, `lora`,
`top_k`).
"""

from __future__ import annotations

from collections.abc import Sequence

from xprim_nb.prompts.ordering import Part
from xprim_nb.prompts.render.chat import local_chat, local_settings, roles_note
from xprim_nb.prompts.render.contract import finished, merged
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.values import ResolveInput

__all__ = ["LlamaCppRenderer"]


class LlamaCppRenderer:
    """`llama-server`."""

    id = "llama-cpp/1"

    def render(
        self, asked: ResolveInput, parts: Sequence[Part], *, counts: Sequence[int] | None = None
    ) -> Rendered:
        """See `Renderer.render`. Tokens play no part: nothing is marked."""
        body, slots = local_chat(asked, parts)
        body |= local_settings(asked)
        body["cache_prompt"] = True
        numbered = _numbered(asked)
        if numbered:
            body["lora"] = [{"id": number, "scale": weight} for number, weight in numbered]
        return finished(
            self.id, asked, merged(body, asked, ()), slots, apart=str(numbered) if numbered else ""
        )

    def notes(self, asked: ResolveInput) -> tuple[str, ...]:
        """See `Renderer.notes`."""
        said = roles_note(asked)
        if asked.loras and not _numbered(asked):
            said.append(
                "LoRA layers are not sent: llama.cpp knows them by number, in the order it was started with."
            )
        if asked.cache_key:
            said.append(
                "cache_key is not sent: llama.cpp keeps prefixes by slot, give `id_slot` as a parameter."
            )
        if asked.prefix_ttl != "5m":
            said.append(
                f"prefix_ttl={asked.prefix_ttl} is not sent: llama.cpp keeps what was last in a slot."
            )
        return tuple(said)


def _numbered(asked: ResolveInput) -> list[tuple[int, float]]:
    """LoRA layers by number; none unless all of them are."""
    if not all(name.isdecimal() for name, _ in asked.loras):
        return []
    return [(int(name), weight) for name, weight in asked.loras]
