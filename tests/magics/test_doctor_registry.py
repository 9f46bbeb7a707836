"""What the doctor says of registries and proxies: one request, no password, no socket when offline."""

from __future__ import annotations

import pytest

from xprim_nb import Config, connect
from xprim_nb.magics import doctor_registry
from xprim_nb.manager.probing import Said
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry


def _said(config: Config) -> dict[str, Said]:
    with connect(config) as kit:
        return {name: probe() for name, probe in doctor_registry.probes(kit).items()}


def test_one_request_a_registry(registry: MadeRegistry) -> None:
    """Registry and mirror are asked once each, and the answer has its versions and its time."""
    with FaultyRegistry(registry.root) as first, FaultyRegistry(registry.root) as second:
        said = _said(Config(registry_url=first.url, mirrors=(second.url,)))
        assert (first.count(), second.count()) == (1, 1)
    assert list(said) == ["registry", "mirror 1", "proxies"]
    assert said["registry"][0] == said["mirror 1"][0] == "ok"
    assert "5 versions, answered in " in said["registry"][1]


def test_failing_registry_is_broken_and_masks_its_password() -> None:
    """A server that nobody runs is told with its reason; a password in its address is not."""
    said = _said(Config(registry_url="http://me:hunter2@127.0.0.1:9"))
    verdict, text, advice = said["registry"]
    assert verdict == "broken"
    assert "me:***@127.0.0.1" in text
    assert "hunter2" not in f"{said}"
    assert advice


def test_offline_asks_nobody(registry: MadeRegistry) -> None:
    """Offline mode is said, and no request is made; a registry on the disk is read all the same."""
    with FaultyRegistry(registry.root) as server:
        said = _said(Config(registry_url=server.url, offline=True))
        assert server.count() == 0
    assert said["registry"][0] == "look at this"
    assert "offline" in said["registry"][1]
    assert _said(Config(registry_url=str(registry.root), offline=True))["registry"][0] == "ok"


def test_embedded_registry_is_called_so() -> None:
    """Without a configured registry the embedded one is named, not its path."""
    assert _said(Config())["registry"][1].startswith("embedded demo registry: ")


def test_registry_with_odd_entries_is_worth_a_look(registry: MadeRegistry) -> None:
    """What a registry lists and nobody can install is told."""
    registry.put_entry("demo/odd v1", {"manifest": "no hash"})
    verdict, _, advice = _said(Config(registry_url=str(registry.root)))["registry"]
    assert (verdict, advice) == ("look at this", "Tell whoever publishes there.")


def test_proxies_are_told_without_their_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """The configured proxy wins; else the environment's are listed, with what goes around them."""
    monkeypatch.setattr("urllib.request.getproxies", dict)
    assert doctor_registry._proxies(Config()) == ("ok", "none", "")
    known = {"http": "http://me:hunter2@proxy:3128", "https": "tok@proxy:3128", "no": "localhost"}
    monkeypatch.setattr("urllib.request.getproxies", lambda: dict(known))
    _, told, _ = doctor_registry._proxies(Config())
    assert "http http://me:***@proxy:3128, https //***@proxy:3128; none for localhost" in told
    assert "hunter2" not in told
    _, told, _ = doctor_registry._proxies(Config(proxy="http://me:hunter2@other:1"))
    assert told == "http://me:***@other:1 for everything, by setting"
