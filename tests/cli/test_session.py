"""What a person is told beside the answer: once, on stderr, and in the document under `--json`."""

from __future__ import annotations

import json

from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry

from .conftest import Runner


def test_stale_list_says_so(run: Runner, registry: MadeRegistry) -> None:
    """A list from the cache is marked, whether the network failed or may not be used."""
    with FaultyRegistry(registry.root) as server:
        run("--registry", server.url, "list", "--remote")
        server.inject(Status(404), on="index", times=None)
        gone = run("--registry", server.url, "list", "--remote")
        offline = run("--registry", server.url, "--offline", "list", "--remote")
        document = json.loads(run("--registry", server.url, "list", "--remote", "--json").stdout)
    assert "llama          7b       q4_v2" in gone.stdout
    assert gone.stderr.startswith("warning: The registry could not be asked; the answer is 0 s old. ")
    assert offline.stderr == "warning: Offline: the answer is 0 s old.\n"
    assert (document["stale"], len(document["warnings"])) == (True, 1)


def test_pull_tells_only_once_that_it_could_not_ask(run: Runner, registry: MadeRegistry) -> None:
    """A pull of what is installed works without the registry, with one warning."""
    with FaultyRegistry(registry.root) as server:
        run("--registry", server.url, "pull", "llama/7b", "latest")
        server.inject(Status(404), on="index", times=None)
        result = run("--registry", server.url, "pull", "llama/7b", "latest")
    assert result.exit_code == 0
    assert result.stdout.startswith("Model already installed: llama/7b latest\n")
    assert result.stderr.count("warning: ") == 1


def test_standing_notices_are_repeated(run: Runner, registry: MadeRegistry) -> None:
    """A rewritten version is warned of at every listing, not only at the one that noticed it."""
    run("list", "--remote")
    registry.put_entry("llama/7b q4_v2", registry.entry("llama/7b q4_v3"))
    for _ in range(2):
        assert run("list", "--remote").stderr.count("warning: llama/7b q4_v2 is an immutable version") == 1


def test_secrets_in_urls_are_masked(run: Runner, registry: MadeRegistry) -> None:
    """A password in the registry's URL is printed nowhere, not even by `--verbose`."""
    with FaultyRegistry(registry.root) as server:
        url = server.url.replace("http://", "http://me:hunter2@")
        shown = run("--registry", url, "--verbose", "pull", "llama/7b", "latest")
        assert shown.exit_code == 0
        server.inject(Status(404), on="index", times=None)
        failed = run("--registry", url, "--json", "pull", "no/model", "v1")
        stale = run("--registry", url, "list", "--remote")
    for result in (shown, failed, stale):
        assert "hunter2" not in result.output
