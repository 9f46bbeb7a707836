"""A line of `%xprim`: what it asks for, or one line that says what is wrong with it."""

from __future__ import annotations

import pytest
from IPython.core.error import UsageError

from xprim_nb.magics import parsing


def test_words_are_split_as_a_person_means_them() -> None:
    """Quotes hold words together, a backslash stays, a `#` is no comment."""
    assert parsing.split(r"""pull 'demo/tiny v1' data_dir=C:\models "a b" x#y""") == [
        "pull",
        "demo/tiny v1",
        r"data_dir=C:\models",
        "a b",
        "x#y",
    ]


def test_open_quote_is_a_usage_error() -> None:
    """A quote that is not closed is told in one line."""
    with pytest.raises(UsageError, match="No closing quotation"):
        parsing.split("pull 'demo/tiny")


def test_pull_is_parsed() -> None:
    """Options may stand before and after the model."""
    asked = parsing.parse(["pull", "--wait", "demo/tiny", "v1", "--concurrency", "2", "--force"])
    assert (asked.command, asked.ref, asked.version) == ("pull", "demo/tiny", "v1")
    assert (asked.wait, asked.force, asked.dry_run, asked.concurrency) == (True, True, False, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pul"], "%xprim has no command 'pul'; did you mean pull?"),
        (["zzz"], "%xprim has no command 'zzz'; it has models, pull, "),
        (
            ["pull", "a/b", "--forse"],
            "unrecognized arguments: --forse; did you mean --force? (`%xprim pull --help`",
        ),
        (["pull"], "%xprim pull: the following arguments are required: REF"),
        (["pull", "a/b", "--nope"], "%xprim pull: unrecognized arguments: --nope"),
        (["pull", "a/b", "--forc"], "%xprim pull: unrecognized arguments: --forc"),
        (["pull", "a/b", "--concurrency", "17"], "'17' is not a number from 1 to 16"),
        (["pull", "a/b", "--concurrency", "x"], "'x' is not a number from 1 to 16"),
        (["prompts", "explian"], "%xprim prompts has no command 'explian'; did you mean explain?"),
        (["prompts", "zzz"], "%xprim prompts has no command 'zzz'; it has resolve, explain, "),
        (["prompts", "ask"], "%xprim prompts ask: the following arguments are required: PROMPT"),
        (["models", "a/b"], "%xprim models: unrecognized arguments: a/b"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str) -> None:
    """Each mistake names the command and what is wrong, in one line."""
    with pytest.raises(UsageError) as caught:
        parsing.parse(words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", list(parsing.COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` of each command prints its usage and stops there; `help COMMAND` has the same text."""
    with pytest.raises(parsing.HelpShownError):
        parsing.parse([command, "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: %xprim {command}")
    assert parsing.help_text(command) == shown
    assert command in parsing.help_text()


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_nothing_asked_is_help(words: list[str]) -> None:
    """An empty line, `help` and `--help` ask for the same."""
    assert (parsing.parse(words).command, parsing.parse(words).topic) == ("help", None)


def test_help_for_nothing_that_exists() -> None:
    """Help for an unknown command is a usage error."""
    with pytest.raises(UsageError, match="no command 'nope'"):
        parsing.help_text("nope")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["repair"], "%xprim repair: the following arguments are required: REF"),
        (["free"], "%xprim free: the following arguments are required: SIZE"),
        (["cleanup", "--unused-days", "few"], "'few' is not a number from 0"),
        (["cleanup", "--unused-days", "-1"], "'-1' is not a number from 0"),
        (["cleanup", "--idle-hours", "inf"], "'inf' is not a number from 0"),
        (["maintain", "--schedule", "hourly"], "invalid choice: 'hourly'"),
        (["repair", "a/b", "--over-write"], "did you mean --overwrite-modified?"),
    ],
)
def test_mistakes_about_the_cache_are_one_line(words: list[str], said: str) -> None:
    """Each names the command and what is wrong."""
    with pytest.raises(UsageError) as caught:
        parsing.parse(words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cleanup_is_parsed() -> None:
    """Sizes stay text, days and hours are numbers, and what is not given is the policy's default."""
    asked = parsing.parse(["cleanup", "--max-size", "50GB", "--unused-days", "30", "--compress"])
    assert (asked.max_size, asked.unused_days, asked.max_age_days, asked.compress) == (
        "50GB",
        30.0,
        None,
        True,
    )
    assert (asked.idle_hours, asked.min_age_hours, asked.apply) == (24.0, 1.0, False)


def test_options_are_known_by_name() -> None:
    """Completion offers each long option with its help."""
    assert set(parsing.options_of("pull")) == {"--help", "--wait", "--force", "--dry-run", "--concurrency"}
    assert parsing.options_of("models")["--remote"] == "what the registry has"


@pytest.mark.parametrize("verb", list(parsing.GROUPS["prompts"]))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` of each verb prints its usage; `help prompts VERB` has the same text, and `help prompts` names it."""
    with pytest.raises(parsing.HelpShownError):
        parsing.parse(["prompts", verb, "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: %xprim prompts {verb}")
    assert parsing.help_text(f"prompts {verb}") == shown
    assert verb in parsing.help_text("prompts")


def test_prompts_alone_asks_for_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a verb the verbs are shown; a wrong one in `help` is one line."""
    with pytest.raises(parsing.HelpShownError):
        parsing.parse(["prompts"])
    assert capsys.readouterr().out == parsing.help_text("prompts")
    with pytest.raises(UsageError, match="did you mean lint"):
        parsing.help_text("prompts lnt")
