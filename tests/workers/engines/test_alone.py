"""The NumPy engine runs where no package of ours is: with the standard library, numpy and jinja2."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xprim_nb.workers.engines

from .llamas import BASE, answer, installed, load

_FOLDER = Path(xprim_nb.workers.engines.__file__).parent
_MODULES = sorted(path.stem for path in _FOLDER.glob("*.py") if not path.stem.startswith(("hf_", "_")))
# Imports an engine as a worker does, in an interpreter that refuses everything else.
_CODE = """
import importlib, sys, types

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"xprim_nb", "torch", "transformers", "tokenizers", "safetensors", "orjson"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing())
package = sys.modules["engines_alone"] = types.ModuleType("engines_alone")
package.__path__ = [sys.argv[1]]
engine = importlib.import_module("engines_alone.llama_numpy").create()
engine.load({"path": sys.argv[2], "device": "cpu", "context_tokens": 128}, lambda *_: None)
request = {"max_tokens": 32, "temperature": 0.0}
for asked in ({"prompt": "def f("}, {"messages": [{"role": "user", "content": "def f("}]}):
    print(repr("".join(piece.get("text", "") for piece in engine.generate({**request, **asked}, lambda: False))))
"""


def test_it_answers_with_no_package_of_ours() -> None:
    """An interpreter without xprim_nb, safetensors and tokenizers gives the same answers."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _CODE, str(_FOLDER), str(installed(BASE))],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    engine = load(installed(BASE), 128)
    expected = [
        answer(engine, "def f("),
        answer(engine, None, messages=[{"role": "user", "content": "def f("}]),
    ]
    assert done.stdout.splitlines() == [repr(text) for text, _, _ in expected]


@pytest.mark.parametrize("name", _MODULES)
def test_modules_import_what_a_worker_has(name: str) -> None:
    """The standard library, numpy, jinja2, siblings, and `tokenizers` inside the function that can do without."""
    tree = ast.parse((_FOLDER / f"{name}.py").read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    assert found - set(sys.stdlib_module_names) <= {"numpy", "jinja2", "tokenizers"}
    if name == "llama_config":
        assert found <= set(sys.stdlib_module_names), "the kernel asks it, without numpy"
