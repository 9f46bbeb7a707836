"""SGLang's server: OpenAI's protocol, prefixes kept on their own in a radix tree, kept apart by `cache_salt`.

Source: sgl-project/sglang (`srt/entrypoints/openai/protocol.py`: `top_k`, `cache_salt`, `lora_path`;
docs/advanced_features/server_arguments.md: `--page-size`).
"""

from __future__ import annotations

from collections.abc import Sequence

from xprim_nb.prompts.ordering import Part
from xprim_nb.prompts.render.chat import local_chat, local_settings, roles_note
from xprim_nb.prompts.render.contract import finished, merged
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.values import ResolveInput

__all__ = ["SglangRenderer"]


class SglangRenderer:
    """`sglang.launch_server`."""

    id = "sglang/1"

    def render(
        self, asked: ResolveInput, parts: Sequence[Part], *, counts: Sequence[int] | None = None
    ) -> Rendered:
        """See `Renderer.render`. Tokens play no part: nothing is marked."""
        body, slots = local_chat(asked, parts)
        body |= local_settings(asked)
        if len(asked.loras) == 1:
            body["lora_path"] = asked.loras[0][0]
        if asked.cache_key:
            body["cache_salt"] = asked.cache_key
        lora = str(body.get("lora_path", ""))
        apart = f"{asked.cache_key}\n{lora}" if lora else asked.cache_key
        return finished(self.id, asked, merged(body, asked, ()), slots, apart=apart)

    def notes(self, asked: ResolveInput) -> tuple[str, ...]:
        """See `Renderer.notes`."""
        said = roles_note(asked)
        if len(asked.loras) > 1:
            said.append("LoRA layers are not sent: SGLang takes one for a request.")
        elif any(weight != 1.0 for _, weight in asked.loras):
            said.append(f"The weight of {asked.loras[0][0]} is not sent: SGLang takes a LoRA as it is.")
        if asked.prefix_ttl != "5m":
            said.append(
                f"prefix_ttl={asked.prefix_ttl} is not sent: SGLang keeps a prefix while it has room."
            )
        return tuple(said)
