"""What is said: prompts with an identity, what they cost, who has answered them before, and where a run stands.

In come blocks, tools, settings and a turn (`ResolveInput`); out go the bytes for a provider with their places in its
cache (`ResolvedScaffold`), answers that were paid for once, and checkpoints that survive the kernel. The room runs
without any model: whoever answers is handed in as a callable.
"""
