"""Settings typed as `KEY=VALUE`."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.error import UsageError

from xprim_nb.config import Config
from xprim_nb.errors import ConfigError
from xprim_nb.magics.settings import changed


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
