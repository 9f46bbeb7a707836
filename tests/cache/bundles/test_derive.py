"""Bundles from what is installed: what is known is told, what is not is said."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from xprim_nb.cache.bundles.facts import split_front_matter
from xprim_nb.errors import NotInstalledError

from ..rooms import Room
from .conftest import README, request_for

_ROOT = Path(__file__).resolve().parents[3]


async def test_a_model_tells_of_itself(room: Room) -> None:
    """Card, specifications and metrics come from front matter, config and tensor headers, with no network."""
    async with room.manager(offline=False) as manager:
        await manager.pull("demo/tiny v1")
    async with room.manager(offline=True) as manager:
        made = await manager.derive("demo/tiny v1")
        bundle = manager.bundle("demo/tiny")
        assert made.success, made.validation_report
        assert len(bundle.documents()) == 10
        card = json.loads(bundle.read("metadata/model_card.json"))
        assert (card["license"], card["parameters"], card["architecture"]["hidden_size"]) == (
            "apache-2.0",
            8,
            2,
        )
        assert card["summary"] == "A small model that tells of itself."
        assert card["further"]["released"] == "2026-01-02"
        assert card["unknown"] == ["language", "library_name", "datasets", "base_model"]
        assert bundle.read_bytes("documentation/README.md") == README
        assert "| hidden_size | `2` |" in bundle.read("documentation/technical_specs.md")
        metrics = json.loads(bundle.read("benchmarks/performance_metrics.json"))
        assert metrics["results"][0]["metrics"] == [{"type": "perplexity", "value": 12.5}]
        assert "not measured here" in metrics["note"]
        api = json.loads(bundle.read("examples/api_reference.json"))
        assert api["tensors"][0]["shape"] == [4, 2]
        assert api["inputs"] is None
        nbformat.validate(nbformat.reads(bundle.read("examples/advanced_examples.ipynb"), as_version=4))


async def test_what_cannot_be_known_is_said(room: Room) -> None:
    """A model without README, config and tensors gets documents that say so, and no invented figure."""
    room.publish({"demo/bare v1": {"data.bin": b"x" * 100}})
    async with room.manager() as manager:
        await manager.pull("demo/bare v1")
        await manager.derive("demo/bare v1")
        bundle = manager.bundle("demo/bare")
        assert "wrote no README" in bundle.read("documentation/README.md")
        specs = bundle.read("documentation/technical_specs.md")
        assert "parameters | not known" in specs
        assert "architecture | not known" in specs
        card = json.loads(bundle.read("metadata/model_card.json"))
        assert card["parameters"] is None
        assert "license" in card["unknown"]
        assert "states no results" in json.loads(bundle.read("benchmarks/performance_metrics.json"))["note"]


async def test_broken_files_become_sentences(room: Room) -> None:
    """A config that is no JSON and a tensor file that is none are told as problems; the rest is derived."""
    broken = {
        "config.json": b"{",
        "model.safetensors": b"no header at all",
        "README.md": b"---\na: *b\n---\n# B\n",
    }
    room.publish({"demo/broken v1": broken})
    async with room.manager() as manager:
        await manager.pull("demo/broken v1")
        made = await manager.derive("demo/broken v1")
    assert len(made.problems) == 3
    assert "model.safetensors" in " ".join(made.problems)


async def test_the_script_runs_as_it_is(room: Room) -> None:
    """`basic_usage.py` runs in a process of its own from where it lies, and prints where the model is."""
    async with room.manager() as manager:
        await manager.pull("demo/tiny v1")
        made = await manager.derive("demo/tiny")
    script = Path(made.cache_path, "examples", "basic_usage.py")
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(room.dir("demo/tiny v1"))
    assert "8 parameters" in done.stdout


async def test_an_adapter_depends_on_its_base(room: Room) -> None:
    """An adapter's bundle names its base model: degraded without it, healthy with it."""
    async with room.manager() as manager:
        await manager.pull("demo/lora v1")
        made = await manager.derive("demo/lora v1")
        assert made.manifest.dependencies == ("demo/tiny v1",)
        report = made.validation_report
        assert (report.overall_status, report.checks.dependencies.unresolved) == (
            "degraded",
            ("demo/tiny v1",),
        )
        await manager.pull("demo/tiny v1")
        assert (await manager.validate_bundle("demo/lora")).is_healthy


async def test_an_updated_model_makes_its_bundle_stale(room: Room) -> None:
    """When the installed model changes, the bundle is stale until it is derived again."""
    async with room.manager() as manager:
        await manager.pull("demo/tiny v1")
        await manager.derive("demo/tiny v1")
        room.publish({"demo/tiny v1": {"README.md": b"# Another\n"}})
        await manager.pull("demo/tiny v1")
        report = await manager.validate_bundle("demo/tiny")
        assert (report.checks.freshness.status, report.recommendations.action) == ("stale", "refresh")
        assert "is another now" in report.verdict
        refreshed = await manager.refresh_bundle("demo/tiny")
        assert refreshed.success
        assert manager.bundle("demo/tiny").read("documentation/README.md") == "# Another\n"


async def test_derivation_leaves_what_was_fetched(room: Room, site: object) -> None:
    """Documents that came from URLs stay; only what they lack is derived."""
    url = site.url
    async with room.manager() as manager:
        await manager.pull("demo/tiny v1")
        await manager.initialize(request_for(url))
        made = await manager.derive("demo/tiny v1")
        bundle = manager.bundle("demo/tiny")
        assert bundle.read("documentation/README.md") == "# Tiny\n"
        assert "documentation/technical_specs.md" in made.updated
        assert "documentation/README.md" not in made.updated


async def test_what_is_not_installed_cannot_be_derived(room: Room) -> None:
    """Deriving from a model that is not here fails, and makes no bundle."""
    async with room.manager() as manager:
        for ref in ("demo/tiny v1", "demo/tiny"):
            with pytest.raises(NotInstalledError):
                await manager.derive(ref)
        assert await manager.list_bundles() == []


@pytest.mark.parametrize(
    ("text", "front", "broken"),
    [
        ("# No front matter\n", {}, 0),
        ("---\nnever closed\n", {}, 0),
        ("\ufeff---\r\nlicense: mit\r\n---\r\n", {"license": "mit"}, 0),
        ("---\n- a list\n---\n", {}, 0),
        ("---\na: [unclosed\n---\n", {}, 1),
        ("---\na: &x [1]\nb: *x\n---\n", {}, 1),
        ("---\na: !!python/object/apply:os.system [true]\n---\n", {}, 1),
        ("---\n1: one\n---\n", {"1": "one"}, 0),
        (f"---\n{'[' * 3000}\n---\n", {}, 1),
        (f"---\na: {'x' * 300_000}\n---\n", {}, 1),
    ],
)
def test_front_matter_of_strangers(text: str, front: dict[str, object], broken: int) -> None:
    """Front matter is read as JSON values; what is broken, endless or a program is a sentence."""
    problems: list[str] = []
    assert split_front_matter(text, problems)[0] == front
    assert len(problems) == broken
