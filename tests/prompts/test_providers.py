"""Providers that come with the package, and those of other distributions, installed for real in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import xprim_nb
from xprim_nb.errors import ConfigError
from xprim_nb.prompts import providers
from xprim_nb.prompts.providers import ENTRY_POINTS, provider_named, provider_names
from xprim_nb.prompts.values import PROVIDERS

_PLUGIN = """
from xprim_nb.prompts.ordering import ordered_parts
from xprim_nb.prompts.providers import Provider
from xprim_nb.prompts.render.contract import Slot, finished

class Shouting:
    id = "acme/3"
    def render(self, asked, parts, *, counts=None):
        text = " ".join(part.text for part in parts).upper()
        return finished(self.id, asked, {"say": text}, [Slot(part, part.text, ("say",)) for part in parts])
    def notes(self, asked):
        return ("It shouts.",)

def acme():
    return Provider("acme", Shouting(), models=("acme-*",), estimate=lambda model, text: 42)

class Bare:
    name, models, renderer = "bare", ["*"], Shouting()

def liar():
    return Provider("somebody-else", Shouting())

def half():
    return object()

def angry():
    raise RuntimeError("no network")
"""

_ASK = """
import json, logging, sys
said = []
class Keep(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
logging.getLogger("xprim_nb").addHandler(Keep())
from xprim_nb.prompts.providers import provider_named, provider_names
from xprim_nb.prompts.resolve import resolve_scaffold
from xprim_nb.prompts.values import ResolveInput
made = resolve_scaffold(ResolveInput(prompt="hello", provider="acme", model="acme-1"))
bare = provider_named("bare")
provider_names()
print(json.dumps({
    "names": provider_names(), "said": said, "body": made.rendered.body, "format": made.provider_format,
    "tokens": made.token_count, "notes": made.notes, "bare": [bare.estimate, bare.price, bare.execute],
    "openai": provider_named("openai").renderer.id,
}))
"""


def _install(folder: Path, points: dict[str, str]) -> None:
    """A distribution as pip leaves it: a module, and its metadata beside it."""
    (folder / "acme_provider.py").write_text(_PLUGIN, encoding="utf-8")
    info = folder / "acme_provider-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: acme-provider\nVersion: 1.0\n", encoding="utf-8"
    )
    lines = "\n".join(f"{name} = {value}" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{lines}\n", encoding="utf-8")


def test_those_that_come_with_the_package() -> None:
    """All five, each under its own name and able to be loaded."""
    assert set(PROVIDERS) <= set(provider_names())
    for name in PROVIDERS:
        found = provider_named(name)
        assert found.name == name
        assert found.renderer.id.startswith(f"{name}/")
        assert found.execute is None


def test_they_are_declared_like_everybodys() -> None:
    """The project's own metadata names each, and what it names is what makes it."""
    project = tomllib.loads(
        (Path(xprim_nb.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    )
    declared = project["project"]["entry-points"][ENTRY_POINTS]
    assert set(declared) == set(PROVIDERS)
    for name, value in declared.items():
        module, _, attribute = value.partition(":")
        assert module == providers.__name__
        assert getattr(providers, attribute)().name == name


def test_a_distribution_adds_its_own_and_a_broken_one_is_left_out(tmp_path: Path) -> None:
    """One clear warning each for what cannot be used, once; the others work, and nobody takes a name that is taken."""
    _install(
        tmp_path,
        {
            "acme": "acme_provider:acme",
            "bare": "acme_provider:Bare",
            "angry": "acme_provider:angry",
            "gone": "no_such_module:create",
            "half": "acme_provider:half",
            "liar": "acme_provider:liar",
            "openai": "acme_provider:acme",
        },
    )
    done = subprocess.run(
        [sys.executable, "-c", _ASK],
        env={"PYTHONPATH": f"{tmp_path}:{Path(xprim_nb.__file__).parents[1]}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["names"] == sorted([*PROVIDERS, "acme", "bare"])
    assert told["body"] == {"say": "HELLO"}
    assert (told["format"], told["tokens"], told["notes"]) == ("acme/3", 42, ["It shouts."])
    assert told["bare"] == [None, None, None]
    assert told["openai"] == "openai/1"
    assert sorted(each.split()[2] for each in told["said"]) == ["angry", "gone", "half", "liar", "openai"]
    reasons = " ".join(told["said"])
    for reason in (
        "no network",
        "no_such_module",
        "has no name, models, renderer",
        "somebody-else",
        "name is taken",
    ):
        assert reason in reasons


def test_an_unknown_one_is_an_error_with_all_names() -> None:
    """A misspelt name is seen beside the right one."""
    with pytest.raises(ConfigError) as caught:
        provider_named("antropic")
    assert "anthropic" in caught.value.hint
