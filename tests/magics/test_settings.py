"""Settings typed as `KEY=VALUE`."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
from IPython.core.error import UsageError

from xprim_nb.config import Config
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.errors import ConfigError
from xprim_nb.magics.settings import SETTINGS, changed


def test_values_are_read_by_kind() -> None:
    """Numbers, switches, paths and lists are what the configuration wants."""
    config = changed(
        Config(),
        [
            "registry_url=https://models.example.org",
            "mirrors=https://a.example.org,https://b.example.org",
            "data_dir=~/my models",
            "offline=yes",
            "concurrency=2",
            "backoff_s=0.5",
            "verify=/etc/ca.pem",
        ],
    )
    assert config.registry_url == "https://models.example.org"
    assert config.mirrors == ("https://a.example.org", "https://b.example.org")
    assert config.data_dir == Path("~/my models")
    assert (config.offline, config.concurrency, config.backoff_s) == (True, 2, 0.5)
    assert config.verify == "/etc/ca.pem"


def test_empty_value_is_the_default() -> None:
    """`KEY=` takes a setting back; the others stay."""
    config = changed(Config(registry_url="x", offline=True), ["registry_url="])
    assert (config.registry_url, config.offline) == (None, True)


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("regstry_url=x", "there is no setting 'regstry_url' to change; did you mean registry_url?"),
        ("zzz=x", "there is no setting 'zzz' to change; the keys are registry_url, "),
        ("offline", "is no KEY=VALUE"),
        ("offline=maybe", "must be 1 or 0"),
        ("concurrency=many", "concurrency=many: must be a whole number"),
        ("backoff_s=soon", "backoff_s=soon: must be a number"),
        ("headers=Authorization:x", "there is no setting 'headers' to change"),
        ("max_vram=lots", "max_vram=lots: must be a size like 8GB or 512MB"),
        ("max_vrm=8GB", "did you mean max_vram?"),
        ("keys.openai=sk-secret", "a key does not belong in a notebook; set OPENAI_API_KEY"),
        ("keys=sk-secret", "a key does not belong in a notebook"),
        ("endpoint.=http://localhost", "names no server"),
    ],
)
def test_mistakes_are_one_line(pair: str, said: str) -> None:
    """What cannot be read is a usage error that says why."""
    with pytest.raises(UsageError) as caught:
        changed(Config(), [pair])
    assert said in str(caught.value)


def test_out_of_range_is_a_config_error() -> None:
    """What can be read and cannot work is the configuration's own error."""
    with pytest.raises(ConfigError, match="concurrency is 99"):
        changed(Config(), ["concurrency=99"])


def test_what_models_may_use_is_set_with_sizes() -> None:
    """Sizes have units, `none` is no limit, a switch is a switch; the rest of the settings stay."""
    before = Config(ai=AICapabilities(allow_cpu=True, keys={"openai": "sk-secret"}))
    config = changed(
        before,
        [
            "max_vram=8GB",
            "max_ram_per_worker=512MB",
            "max_concurrent_workers=2",
            "auto_install_models=Ask",
            "timeout_s=none",
            "hot_spare=1",
            "context_tokens=2048",
        ],
    )
    assert (config.ai.max_vram_bytes, config.ai.max_ram_per_worker_bytes) == (8 * 1024**3, 512 * 1024**2)
    assert (config.ai.max_concurrent_workers, config.ai.auto_install_models) == (2, "ask")
    assert (config.ai.timeout_s, config.ai.hot_spare, config.ai.context_tokens) == (None, True, 2048)
    assert (config.ai.allow_cpu, dict(config.ai.keys)) == (True, {"openai": "sk-secret"})
    assert changed(config, ["max_vram=", "timeout_s="]).ai == replace(
        config.ai, max_vram_bytes=None, timeout_s=30.0
    )
    with pytest.raises(ConfigError, match="auto_install_models"):
        changed(Config(), ["auto_install_models=perhaps"])


def test_servers_are_named_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """`endpoint.NAME=URL` adds a server; an empty one brings the environment's back, or forgets it."""
    config = changed(Config(), ["endpoint.ollama=http://localhost:1", "endpoint.mine=http://localhost:2"])
    assert dict(config.ai.endpoints) == {"ollama": "http://localhost:1", "mine": "http://localhost:2"}
    monkeypatch.setenv("OLLAMA_HOST", "http://localhost:3")
    after = changed(config, ["endpoint.ollama=", "endpoint.mine="])
    assert dict(after.ai.endpoints) == {"ollama": "http://localhost:3"}


def test_the_models_directory_has_two_names() -> None:
    """`model_storage_path` is where models are installed from now on, as `data_dir` is; the latter wins."""
    config = changed(Config(), ["model_storage_path=/big/models"])
    assert (config.base_dir, config.ai.model_storage_path) == (Path("/big/models"), Path("/big/models"))
    assert changed(config, ["model_storage_path=/a", "data_dir=/b"]).base_dir == Path("/b")


def test_every_setting_of_models_can_be_changed() -> None:
    """Whatever `Config.ai` has is a key here, but for servers, which have a key each, and secrets."""
    ours = {each.name.removesuffix("_bytes") for each in fields(AICapabilities)} - {"endpoints", "keys"}
    assert ours <= set(SETTINGS)
    assert ours <= set(AICapabilities().told())


def test_a_databases_password_does_not_belong_in_a_cell() -> None:
    """An address without one is taken; with one the line names the variable, and repeats nothing."""
    url = "postgresql://ann@db.example/notes"
    assert changed(Config(), [f"database_url={url}"]).database_url == url
    assert changed(Config(database_url=url), ["database_url="]).database_url is None
    for secret in ("postgresql://ann:hunter2@db.example/notes", "postgresql://db.example/n?password=hunter2"):
        with pytest.raises(UsageError, match="XPRIM_DATABASE_URL") as caught:
            changed(Config(), [f"database_url={secret}"])
        assert "hunter2" not in str(caught.value)
