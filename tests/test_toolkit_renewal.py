"""Refresh and rollback from a notebook: each verb is a handle, and says what the manager says."""

from __future__ import annotations

from pathlib import Path

import pytest

from xprim_nb import Config, connect
from xprim_nb.cache.renewal.strategy import UpdatePolicy, UpdateStrategy
from xprim_nb.errors import ConfigError, InvalidRefError, NotInstalledError
from xprim_nb.events import Event, ModelRefreshed, PullProgress, RolledBack
from xprim_nb.notify import Notice
from xprim_nb.testing.registries import make_registry, random_bytes

_REF = "group/model v1"
_OLD = {"w.bin": random_bytes(1, 3000), "config.json": b"{}"}
_NEW = {"w.bin": random_bytes(2, 3000), "config.json": b"{}"}


def test_there_and_back_and_there_again(tmp_path: Path) -> None:
    """Plan, refresh, list, roll back, drop, each through its handle; the toolkit's own channels hear of it."""
    registry, heard, news = tmp_path / "registry", list[Notice](), list[Event]()
    make_registry(registry, {_REF: _OLD})
    config = Config(registry_url=str(registry), data_dir=tmp_path / "models", backoff_s=0.0)
    with connect(config, notify=[heard.append]) as kit:
        kit.events.subscribe(news.append)
        root = kit.pull(_REF).result(10).path
        (root / "config.json").write_bytes(b"mine")
        make_registry(registry, {_REF: _NEW})
        plan = kit.plan_refresh(_REF).result(10)
        assert ("config.json", "kept") in {(each.path, each.action) for each in plan.files}
        handle = kit.refresh(_REF, concurrency=1)
        done = handle.result(10)
        assert isinstance(handle.snapshot(), PullProgress)
        assert (root / "w.bin").read_bytes() == _NEW["w.bin"]
        assert (root / "config.json").read_bytes() == b"mine"
        assert kit.backups().result(10) == kit.backups(_REF).result(10) == [done.backup]
        assert kit.plan_rollback(_REF).result(10).backup == done.backup
        back = kit.rollback(_REF).result(10)
        assert (root / "w.bin").read_bytes() == _OLD["w.bin"]
        assert back.backup is not None
        assert kit.plan_drop_backup(_REF, back.backup.id).result(10).backups == (back.backup,)
        (dropped,) = kit.drop_backup(_REF, back.backup.id).result(10)
        assert (dropped.kept, kit.backups().result(10)) == (None, [])
        with pytest.raises(NotInstalledError):
            kit.rollback(_REF).result(10)
    told = [type(event) for event in news if isinstance(event, ModelRefreshed | RolledBack)]
    assert told == [ModelRefreshed, RolledBack]
    assert [notice.kind for notice in heard if notice.kind != "trust"] == ["refreshed", "rolled_back"]


def test_a_bad_name_and_a_bad_channel_fail_at_once(tmp_path: Path) -> None:
    """Before anything is started or opened."""
    config = Config(registry_url=str(tmp_path), data_dir=tmp_path / "models")
    with pytest.raises(ConfigError, match="pigeon"):
        connect(config, notify=["pigeon"])
    with connect(config) as kit, pytest.raises(InvalidRefError):
        kit.refresh("group/model")


def test_a_strategy_is_the_seeds_and_survives_json() -> None:
    """Its shape and words are the seed's; callables are named, unknown words refused, and nothing can be changed."""
    strategy = UpdateStrategy(trigger="on_demand", notification_channels=("log", print))
    assert strategy.model_dump(mode="json") == {
        "trigger": "on_demand",
        "update_policy": {
            "preserve_local_modifications": True,
            "backup_before_update": True,
            "incremental_updates": True,
            "rollback_on_failure": True,
        },
        "validation_after_update": True,
        "notification_channels": ["log", "callable:print"],
    }
    schema = UpdateStrategy.model_json_schema()
    assert schema["properties"]["notification_channels"]["items"] == {"type": "string"}
    with pytest.raises(ValueError, match="trigger"):
        UpdateStrategy.model_validate({"trigger": "whenever"})
    with pytest.raises(ValueError, match="extra"):
        UpdatePolicy.model_validate({"keep_everything": True})
    with pytest.raises(ValueError, match="frozen"):
        strategy.trigger = "manual"
