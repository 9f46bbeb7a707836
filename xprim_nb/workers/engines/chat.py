"""Messages come in, a prompt goes out: the model's own chat template, rendered as transformers renders it.

Templates come from strangers. They run in Jinja's immutable sandbox, with what transformers offers them and no more.

Source: spec 4 §Faces (`generate(model, prompt|messages)`); transformers' `chat_template_utils`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["render_chat"]


def render_chat(template: str, messages: Sequence[Mapping[str, Any]], words: Mapping[str, str]) -> str:
    """The prompt that asks for the next turn.

    Args:
        template: Jinja source.
        messages: Each with `role` and `content`.
        words: What the template may name beside them: `bos_token`, `eos_token` …

    Raises:
        ValueError: The template refuses these messages, or is damaged.
    """
    values = {"tools": None, "documents": None, **words}
    try:
        compiled = _environment().from_string(template)
        return compiled.render(
            messages=[dict(each) for each in messages], add_generation_prompt=True, **values
        )
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"The chat template cannot be read, line {error.lineno}: {error.message}") from error
    except jinja2.TemplateError as error:
        raise ValueError(f"The chat template refuses these messages: {error.message}") from error
    except (ArithmeticError, LookupError, TypeError) as error:
        raise ValueError(f"The chat template fails on these messages: {error!r}") from error


def _environment() -> ImmutableSandboxedEnvironment:
    found = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    found.filters["tojson"] = _tojson
    found.globals["raise_exception"] = _raise_exception
    found.globals["strftime_now"] = _strftime_now
    # The classes themselves would offer a template more than it needs.
    found.globals["dict"] = _Dict()
    found.globals["namespace"] = _Namespace
    return found


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant said, for training; here it is what it encloses."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it of the instance

    def parse(self, parser: Any) -> jinja2.nodes.Node:  # noqa: ANN401  # jinja2 does not export its type
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_enclosed"), [], [], body).set_lineno(line)

    def _enclosed(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


class _Namespace(jinja2.utils.Namespace):
    def __init__(*args: Any, **kwargs: Any) -> None:
        # As in the base class: a template may call an attribute `self`.
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _check_name(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:  # noqa: ANN401  # whatever the template has
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace has no attribute {name!r:.80} that begins so.")


def _raise_exception(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)  # noqa: DTZ005  # the date where the user is, as transformers has it


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own escapes what HTML would mean.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
