"""The door for agents: JSON in, JSON out.

Comes in: `{"type": "validate", "payload": {"model_id": "demo/tiny-llama v1"}}`, or a call of one of the tools that
`tool_schemas()` describes. Goes out: a document of the seed's exact shape, `{"result": …}`, or `{"error": …}`. The same
verbs are served to any Model Context Protocol client by `xprim mcp` (`xprim_nb.agents.mcp`, extra `mcp`).

Three further tools are about models that run: what is awake, what loading one would do, and text from one.

    from xprim_nb.agents import manage_cache, tool_schemas

    answer = await manage_cache(manager, {"type": "status"})          # on a Manager
    answer = manage_cache(kit, {"type": "status"}).result()           # on a Toolkit

Source: spec 2 §For agents; spec 4 §Faces; seeds/000 §Tools.
"""

from xprim_nb.agents.dispatch import manage_cache
from xprim_nb.agents.schemas import tool_schemas
from xprim_nb.agents.tools import call_tool

__all__ = ["call_tool", "manage_cache", "tool_schemas"]
