"""What `%%prompt` and the commands of `%xprim prompts` take.

A field that is not named keeps the value that the prompt brings along, or the one of `ResolveInput`.

Source: spec 6 §Faces.
"""

from __future__ import annotations

from collections.abc import Mapping

from xprim_nb.magics.ai_options import RUNNING, Add, amount, option, pair, whole

__all__ = ["CACHE_MODES", "GROUPS", "NUMBERS", "PROMPT", "PROVIDERS", "TEXTS", "VARIABLES", "VERBS"]

CACHE_MODES = ("use", "refresh", "bypass", "only")
"""How a call treats the cache of answers."""

PROVIDERS = ("local", "openai", "anthropic", "vllm", "sglang", "llama-cpp")
"""Those that come with this package; plug-ins add theirs."""

GROUPS = ("provider", "model", "scaffold_type", "checkpoint", "operation", "day")
"""What calls are put together by."""

# Options that become fields of `ResolveInput`: from a variable, as they are said, or as a number.
VARIABLES: Mapping[str, str] = {
    "blocks": "what goes before the turn: a list of PromptBlock",
    "messages": "the conversation up to now: a list of mappings with role and content",
    "tools": "what the model may call: a list of Tool",
    "context": "facts of this call: a mapping",
    "response_schema": "the answer's JSON schema: a mapping",
}
TEXTS = ("provider", "model", "endpoint", "prefix_ttl", "cache_key", "scaffold_type", "cache")
NUMBERS = ("max_tokens", "temperature", "top_p", "top_k", "seed")

_FIELDS: tuple[Add, ...] = (
    option("--provider", metavar="P", help=f"who answers: {', '.join(PROVIDERS)}, or a plug-in's name"),
    option("--model", metavar="M", help="as the provider calls it; on this machine as for %%%%generate"),
    *(
        option(f"--{name.replace('_', '-')}", metavar="NAME", help=f"a variable; {what}")
        for name, what in VARIABLES.items()
    ),
    option("--max-tokens", metavar="N", type=whole(1), help="most tokens of the answer"),
    option("--temperature", metavar="T", type=amount(0, 2), help="0 takes the most likely token each time"),
    option("--top-p", metavar="P", type=amount(0, 1, above=True), help="only the most likely tokens"),
    option("--top-k", metavar="K", type=whole(0), help="only so many of the most likely tokens"),
    option("--seed", metavar="S", type=int, help="the same seed gives the same text again"),
    option("--stop", metavar="TEXT", action="append", default=[], help="end before it; may be repeated"),
    option(
        "--lora",
        dest="loras",
        metavar="NAME[*WEIGHT]",
        action="append",
        default=[],
        help="a LoRA layer of a model on this machine; may be repeated",
    ),
    option("--endpoint", metavar="URL", help="another server than the provider's own"),
    option("--prefix-ttl", choices=("5m", "1h"), help="how long the provider is to keep the prefix"),
    option("--cache-key", metavar="KEY", help="brings equal prefixes to the same machine"),
    option("--scaffold-type", metavar="TYPE", help="what kind of prompt it is; `analyze` groups by it"),
    option(
        "--set",
        dest="parameters",
        metavar="KEY=VALUE",
        type=pair,
        action="append",
        default=[],
        help="a setting of the provider's own; may be repeated",
    ),
)
_ASKING: tuple[Add, ...] = (
    option(
        "--cache",
        choices=CACHE_MODES,
        help="use: answer from it. refresh: ask, and keep. bypass: ask, and keep nothing. only: never ask",
    ),
    option(
        "--samples", metavar="N", type=whole(1), help="so many answers; those that are kept are not asked for"
    ),
    option("--checkpoint", metavar="NAME", default="", help="the checkpoint that the call belongs to"),
    option("--as", dest="name", metavar="NAME", help="keep what is returned in this variable"),
    *RUNNING,
)
_SAID = option("prompt", metavar="PROMPT", help="a variable, a JSON file, or the turn itself in quotes")

_CHECKPOINT = "the first digits of its id, or the branch that ends there"
_SCAFFOLD = option("--scaffold", metavar="NAME", help="whose checkpoints: a scaffold's hash or name")

PROMPT: tuple[Add, ...] = (
    option("--from", dest="prompt", metavar="NAME", help="a variable with all the rest of the prompt"),
    *_FIELDS,
    *_ASKING,
    option("--explain", action="store_true", help="say what the provider's cache would do, and send nothing"),
)
"""What `%%prompt` takes."""

VERBS: Mapping[str, tuple[Add, ...]] = {
    "resolve": (_SAID, *_FIELDS),
    "explain": (_SAID, *_FIELDS),
    "ask": (_SAID, *_FIELDS, *_ASKING),
    "lint": (
        _SAID,
        *_FIELDS,
        option(
            "--fix", action="store_true", help="put the mended prompt into a cell below; nothing else changes"
        ),
        option(
            "--as", dest="name", metavar="NAME", help="with --fix: keep the mended prompt in this variable"
        ),
    ),
    "checkpoint": (
        option(
            "scaffold", metavar="SCAFFOLD", help="whose state: a name, a hash, or a variable with a prompt"
        ),
        option("state", metavar="STATE", help="a variable: a mapping of JSON values"),
        option("--branch", metavar="NAME", default="main", help="it ends here then; main when not given"),
        option("--parent", metavar="ID", help="what it follows; the branch's end when not given"),
        option("--label", metavar="TEXT", default="", help="what people call it"),
    ),
    "restore": (option("checkpoint", metavar="CHECKPOINT", help=_CHECKPOINT), _SCAFFOLD),
    "branch": (
        option("checkpoint", metavar="CHECKPOINT", help=_CHECKPOINT),
        option("name", metavar="NAME", help="of the new branch"),
        _SCAFFOLD,
    ),
    "list": (_SCAFFOLD,),
    "analyze": (
        option(
            "checkpoint",
            metavar="CHECKPOINT",
            nargs="?",
            help="only what led to it: its id, the branch that ends there, or any name that calls were made under",
        ),
        option(
            "--by", choices=GROUPS, default="provider", help="what is put together; provider when not given"
        ),
        option(
            "--chart", action="store_true", help="money and each cache's share by day, instead of the table"
        ),
    ),
    "export": (
        option(
            "url",
            metavar="URL",
            nargs="?",
            help="a collector that takes OTLP over HTTP; when not given, whatever this kernel has configured",
        ),
        option(
            "--content", action="store_true", help="tell what was asked and answered too, without secrets"
        ),
        option("--off", action="store_true", help="tell nobody any more"),
    ),
}
"""What each verb of `%xprim prompts` takes."""
