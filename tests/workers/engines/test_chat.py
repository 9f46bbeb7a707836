"""Chat templates of strangers run in a sandbox, and what they refuse is a sentence."""

from __future__ import annotations

import pytest

from xprim_nb.workers.engines.chat import render_chat

_SAID = [{"role": "user", "content": "<a> & b"}]


def test_blocks_leave_no_lines() -> None:
    """Lines that hold a block alone vanish, as in transformers."""
    template = "{% for message in messages %}\n    {% if true %}\n{{ message.content }}\n    {% endif %}\n{% endfor %}"
    assert render_chat(template, _SAID, {}) == "<a> & b\n"


def test_json_is_plain() -> None:
    """`tojson` escapes nothing that HTML would need, and sorts and indents when asked."""
    assert render_chat("{{ messages | tojson }}", _SAID, {}) == '[{"role": "user", "content": "<a> & b"}]'
    assert render_chat(
        "{{ {'b': 'é', 'a': 1} | tojson(sort_keys=true, separators=(',', ':')) }}", _SAID, {}
    ) == ('{"a":1,"b":"é"}')


def test_words_that_are_not_given_are_empty() -> None:
    """A special token that the model lacks is nothing, and one that it has is itself."""
    assert render_chat("{{ bos_token }}|{{ eos_token }}", _SAID, {"eos_token": "</s>"}) == "|</s>"


def test_a_template_may_refuse() -> None:
    """What it raises is the reason that the reader is told."""
    with pytest.raises(ValueError, match="refuses these messages: Roles must alternate"):
        render_chat("{{ raise_exception('Roles must alternate') }}", _SAID, {})


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ namespace(__class__=1) }}",
        "{% set ns = namespace() %}{% set ns.__init__ = 1 %}",
        "{{ dict.__globals__ }}",
        "{{ strftime_now.__globals__['json'] }}",
        "{{ messages[0].content.format.__self__.__class__ }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(template: str) -> None:
    """What would lead to Python's own, or change what it was given, is refused, or is nothing at all."""
    try:
        rendered = render_chat(template, _SAID, {})
    except ValueError as error:
        assert "chat template" in str(error)  # noqa: PT017  # either is fine
    else:
        assert rendered == ""


@pytest.mark.parametrize(
    "template", ["{% for %}", "{{ 1 / 0 }}", "{{ messages[5].content }}", "{{ messages + 1 }}"]
)
def test_a_damaged_template_is_told_from_the_messages(template: str) -> None:
    """A template that cannot be read or fails is a ValueError, never another."""
    with pytest.raises(ValueError, match="chat template"):
        render_chat(template, _SAID, {})
