"""From a configured URL to the source that reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from xprim_nb.config import Config
from xprim_nb.errors import ConfigError
from xprim_nb.registry.opening import open_source, open_sources
from xprim_nb.registry.sources.directory import DirectorySource
from xprim_nb.registry.sources.http import HttpSource
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import make_registry

_ROOT = Path(__file__).resolve().parents[2]


def test_each_kind_of_url_has_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP URLs are asked over the network; directories, `file://` and `~` are read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for url in ("http://h/m", "HTTPS://h/m", "https://ann:pw@h:1/m"):
        assert isinstance(open_source(url, Config()), HttpSource)
    spaced = tmp_path / "my models"
    for url, root in (
        (str(spaced), spaced),
        ("my models", spaced),
        ("~/my models", spaced),
        (f"file://{spaced}".replace(" ", "%20"), spaced),
        (f"file://localhost{tmp_path}", tmp_path),
        (".", tmp_path),
    ):
        source = open_source(url, Config())
        assert isinstance(source, DirectorySource)
        assert source.root == root


@pytest.mark.parametrize(
    "url",
    [
        "ftp://ann:s3cret@example.org/",
        "s3://bucket/key",
        "file://server/share",
        "~nobody-of-that-name/models",
        "http://[::1",
        "https://ann:s3cret@[::1",
        "http://host:port/",
        "http://",
    ],
)
def test_what_cannot_be_opened_is_a_setting_that_cannot_work(url: str) -> None:
    """An unknown scheme or a broken URL is a ConfigError that keeps the password; as a mirror as well."""
    for config in (Config(registry_url=url), Config(registry_url="http://h", mirrors=(url,))):
        with pytest.raises(ConfigError) as caught:
            open_sources(config, "/unused")
        assert "s3cret" not in f"{caught.value}{caught.value.hint}{caught.value.subject}"


def test_a_file_url_with_two_slashes_is_told_what_it_names() -> None:
    """`file://data/models` names a host: the message says which, instead of that `file` is not supported."""
    with pytest.raises(ConfigError, match="another host, 'data'") as caught:
        open_source("file://data/models", Config())
    assert "file:///" in caught.value.hint


def test_the_registry_comes_before_its_mirrors(tmp_path: Path) -> None:
    """Sources are opened in the order of the settings; without a registry the default stands first."""
    config = Config(registry_url="https://a", mirrors=(str(tmp_path), "https://b:1"))
    assert [source.url for source in open_sources(config, "/unused")] == [
        "https://a",
        str(tmp_path),
        "https://b:1",
    ]
    assert [source.url for source in open_sources(Config(mirrors=("https://b",)), str(tmp_path))] == [
        str(tmp_path),
        "https://b",
    ]


async def test_a_mirror_does_not_get_the_registrys_credentials(
    tmp_path: Path, serve: Callable[..., FaultyRegistry]
) -> None:
    """Headers go to mirrors on the registry's own origin only: what others serve is verified, not trusted."""
    made = make_registry(tmp_path, {"group/model v1": {"a": b"x"}})
    registry, stranger = serve(made.root), serve(made.root)
    config = Config(
        registry_url=f"{registry.url}/",
        mirrors=(registry.url, stranger.url),
        headers={"Authorization": "Bearer token"},
    )
    for source in open_sources(config, "/unused"):
        await source.index()
        await source.aclose()
    assert [request.headers.get("authorization") for request in registry.requests] == ["Bearer token"] * 2
    assert [request.headers.get("authorization") for request in stranger.requests] == [None]


async def test_an_injected_client_carries_every_source(
    tmp_path: Path, serve: Callable[..., FaultyRegistry]
) -> None:
    """One injected client serves registry and mirrors alike."""
    servers = [serve(make_registry(tmp_path / name, {"group/model v1": {"a": b"x"}}).root) for name in "ab"]
    async with httpx2.AsyncClient(headers={"X-Mine": "yes"}) as client:
        config = Config(registry_url=servers[0].url, mirrors=(servers[1].url,))
        for source in open_sources(config, "/unused", client):
            await source.index()
    assert [server.requests[0].headers["x-mine"] for server in servers] == ["yes", "yes"]


def test_a_directory_registry_never_loads_the_http_client(tmp_path: Path) -> None:
    """Opening a directory in a fresh interpreter loads no HTTP client at all."""
    code = (
        "import sys; from xprim_nb.config import Config; from xprim_nb.registry.opening import open_sources; "
        f"open_sources(Config(registry_url={str(tmp_path)!r}), ''); "
        "print(sorted({'httpx2', 'http.client'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=_ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
