"""Settings are one frozen value, refuse what cannot work, and never show a secret."""

from __future__ import annotations

import math
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xprim_nb.config import MAX_CONCURRENCY, Config, mask_url
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.errors import ConfigError

_SECRET = "s3cret"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("concurrency", 0),
        ("concurrency", -1),
        ("concurrency", MAX_CONCURRENCY + 1),
        ("tries", 0),
        ("backoff_s", -0.1),
        ("backoff_s", math.nan),
        ("connect_timeout_s", 0),
        ("connect_timeout_s", math.nan),
        ("stall_timeout_s", -1),
        ("stall_timeout_s", math.nan),
        ("partial_max_age_s", -1),
        ("app_name", ""),
        ("app_name", "../x"),
        ("app_name", ".x"),
        ("app_name", "a/b"),
        ("app_name", "a\n"),
        ("app_name", "a" * 65),
    ],
)
def test_a_setting_that_cannot_work_is_refused(setting: str, value: object) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigError, match=setting) as caught:
        Config(**{setting: value})  # type: ignore[arg-type]  # any setting
    assert caught.value.subject == setting


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("concurrency", 1),
        ("concurrency", MAX_CONCURRENCY),
        ("tries", 1),
        ("backoff_s", 0),
        ("partial_max_age_s", 0),
    ],
)
def test_the_ends_of_a_range_are_in_it(setting: str, value: int) -> None:
    """The smallest and the largest allowed value work."""
    arguments: dict[str, Any] = {setting: value}
    assert getattr(Config(**arguments), setting) == value


def test_settings_do_not_change() -> None:
    """A config is frozen, and unknown settings raise."""
    with pytest.raises(AttributeError):
        Config().tries = 5  # type: ignore[misc]  # the mistake is the test
    with pytest.raises(TypeError, match="retries"):
        Config(retries=5)  # type: ignore[call-arg]  # the mistake is the test


def test_paths_may_be_text_and_urls_may_be_paths(tmp_path: Path) -> None:
    """A directory may be given as text, and a registry as a path."""
    config = Config(data_dir=str(tmp_path), registry_url=tmp_path)  # type: ignore[arg-type]  # what users write
    assert config.data_dir == tmp_path
    assert config.registry_url == str(tmp_path)


def test_no_registry_has_two_spellings() -> None:
    """An empty URL, as an unset variable of a shell gives it, is no registry: the environment may name one."""
    assert Config(registry_url="") == Config()
    environ = {"XPRIM_MODELS_REGISTRY_URL": "https://a/"}
    assert Config.from_env(Config(registry_url=""), environ).registry_url == "https://a/"


@pytest.mark.parametrize("mirrors", ["/b", ["/b"], (Path("/b"),), Path("/b")])
def test_mirrors_may_be_one_or_paths(mirrors: Any) -> None:
    """A single mirror need not be a tuple, and never becomes one of letters; paths become text."""
    config = Config(mirrors=mirrors)
    assert [(type(url), Path(url)) for url in config.mirrors] == [(str, Path("/b"))]
    assert "mirrors=('" in repr(config)


def test_a_home_that_nobody_has_is_a_setting_that_cannot_work() -> None:
    """`~name` of a user that is not there is a ConfigError, not a traceback."""
    with pytest.raises(ConfigError, match="home directory") as caught:
        _ = Config(data_dir=Path("~nobody-of-that-name/m")).base_dir
    assert caught.value.subject == "data_dir"


def test_base_dir_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~`, relative parts and a later change of directory do not move the models; links are kept as they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert Config(data_dir=Path("models/../m")).base_dir == tmp_path / "m"
    assert Config(data_dir=Path("~/m")).base_dir == tmp_path / "home" / "m"


def test_without_a_directory_the_platforms_is_used() -> None:
    """The default base is below the user's data directory and named after the application."""
    base = Config(app_name="mytool").base_dir
    assert base.is_absolute()
    assert base.parts[-2:] == ("mytool", "models")
    assert Config(app_name="mytool").metadata_dir_name == ".mytool"


@pytest.mark.parametrize("name", ["MYTOOL_MODELS_DIR", "MY-TOOL_MODELS_DIR", "MY_TOOL_MODELS_DIR"])
def test_the_environment_names_the_directory(name: str, tmp_path: Path) -> None:
    """`<APPNAME>_MODELS_DIR` wins over the setting, spelt as the application or as a shell can spell it."""
    app = "mytool" if name.startswith("MYTOOL") else "my-tool"
    config = Config.from_env(Config(app_name=app, data_dir=Path("/elsewhere")), {name: str(tmp_path)})
    assert config.data_dir == tmp_path
    assert Config.from_env(Config(app_name="other"), {name: str(tmp_path)}).data_dir is None


def test_the_environment_names_registries() -> None:
    """The first URL is the registry, the rest are mirrors; a registry that was set stays."""
    environ = {"XPRIM_MODELS_REGISTRY_URL": " https://a/ https://b/  https://c/ "}
    config = Config.from_env(Config(mirrors=("https://d/",)), environ)
    assert (config.registry_url, config.mirrors) == ("https://a/", ("https://b/", "https://c/", "https://d/"))
    assert Config.from_env(Config(registry_url="https://mine/"), environ).registry_url == "https://mine/"
    assert Config.from_env(Config(), {}).registry_url is None


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        ("/media/My Stick/models", ["/media/My Stick/models"]),
        ("/media/My Stick/a  /mnt/b c ", ["/media/My Stick/a", "/mnt/b c"]),
        ("~/my models https://b/", ["~/my models", "https://b/"]),
        ("file:///a b file:///c", ["file:///a b", "file:///c"]),
        ("C:\\My Models D:\\m \\\\server\\share", ["C:\\My Models", "D:\\m", "\\\\server\\share"]),
        ("my models", ["my models"]),
        ("  ", []),
    ],
)
def test_a_directory_with_spaces_is_one_registry(value: str, urls: list[str]) -> None:
    """A space divides two registries only where another one begins behind it."""
    config = Config.from_env(Config(), {"XPRIM_MODELS_REGISTRY_URL": value})
    assert [url for url in (config.registry_url, *config.mirrors) if url is not None] == urls


@pytest.mark.parametrize(
    ("value", "offline"),
    [
        ("1", True),
        ("true", True),
        (" YES ", True),
        ("on", True),
        ("0", False),
        ("", False),
        ("No", False),
        ("off", False),
    ],
)
def test_the_environment_switches_offline_mode_on(value: str, offline: bool) -> None:
    """`XPRIM_OFFLINE` is read as people write a switch, and never switches off what a program switched on."""
    assert Config.from_env(Config(), {"XPRIM_OFFLINE": value}).offline is offline
    assert Config.from_env(Config(offline=True), {"XPRIM_OFFLINE": value}).offline is True


def test_a_switch_that_is_none_is_refused() -> None:
    """A misspelt switch is an error that names the variable: silently online would be worse."""
    with pytest.raises(ConfigError, match="XPRIM_OFFLINE") as caught:
        Config.from_env(Config(), {"XPRIM_OFFLINE": "offline"})
    assert caught.value.subject == "XPRIM_OFFLINE"


def test_only_from_env_reads_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A plain `Config()` is the same in every environment; `from_env()` reads the process's own."""
    monkeypatch.setenv("XPRIM_OFFLINE", "1")
    monkeypatch.setenv("XPRIM_MODELS_DIR", os.fspath(tmp_path))
    assert (Config().offline, Config().data_dir) == (False, None)
    assert (Config.from_env().offline, Config.from_env().data_dir) == (True, tmp_path)


def test_a_repr_shows_everything_but_secrets() -> None:
    """Each setting is in the repr; passwords in URLs and every header's value are not."""
    config = Config(
        registry_url=f"https://ann:{_SECRET}@a.example/m",
        mirrors=(f"https://:{_SECRET}@b.example", "https://c.example"),
        proxy=f"http://{_SECRET}@proxy.example:8080",
        headers={"Authorization": f"Bearer {_SECRET}", "X-Key": _SECRET},
        tries=7,
    )
    for text in (repr(config), str(config), f"{config!r}"):
        assert _SECRET not in text
        for shown in (
            "tries=7",
            "a.example/m",
            "b.example",
            "c.example",
            "proxy.example:8080",
            "Authorization",
        ):
            assert shown in text
    assert all(f"{name}=" in repr(config) for name in Config.__slots__ if name != "has_environment")


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://a.example/x?y=1#z", "https://a.example/x?y=1#z"),
        ("https://ann:pw@a.example:8443/x", "https://ann:***@a.example:8443/x"),
        ("https://ann:p@w@a.example/", "https://ann:***@a.example/"),
        ("https://:pw@a.example/", "https://:***@a.example/"),
        ("https://token@a.example/", "https://***@a.example/"),
        ("https://ann:@a.example/", "https://ann:***@a.example/"),
        ("https://ann:pw@[::1]:80/", "https://ann:***@[::1]:80/"),
        ("https://ann:pw@[bad/", "https://***@[bad/"),
        ("https://a.example/@x", "https://a.example/@x"),
        ("/plain/path@1", "/plain/path@1"),
        ("file:///srv/models", "file:///srv/models"),
        ("", ""),
    ],
)
def test_urls_are_masked(url: str, masked: str) -> None:
    """What stands before the '@' of a host is hidden, the rest is as it was."""
    assert mask_url(url) == masked


@given(st.text())
@example("http://[")
@example("http://[::1")
@example("http://a:b@[")
@example("//\u2100@")
def test_masking_never_fails(text: str) -> None:
    """Whatever stands where a URL should, a message about it can be written, and a config with it shown."""
    assert isinstance(mask_url(text), str)
    assert repr(Config(registry_url=text, proxy=text, mirrors=(text,)))


@given(
    st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True),
    st.text(min_size=1, alphabet=st.characters(exclude_characters="/?#@")),
)
def test_a_password_is_never_left(user: str, password: str) -> None:
    """Any password without URL delimiters is gone from the masked URL."""
    marked = f"<{password}>"
    assert marked not in mask_url(f"https://{user}:{marked}@a.example/x")


@pytest.mark.parametrize(
    ("named", "urls"),
    [
        ("/data/my registry", ["/data/my registry"]),
        (
            "C:\\Users\\Ann Lee\\registry  \\\\server\\two",
            ["C:\\Users\\Ann Lee\\registry", "\\\\server\\two"],
        ),
        ("/data/my registry https://b.example.org", ["/data/my registry", "https://b.example.org"]),
        ("./one two ../three", ["./one two", "../three"]),
        ("   ", []),
    ],
)
def test_a_directory_may_have_spaces(named: str, urls: list[str]) -> None:
    """Spaces separate registries, and stay where what follows them begins no registry."""
    config = Config.from_env(environ={"XPRIM_MODELS_REGISTRY_URL": named})
    assert [config.registry_url or "", *config.mirrors] == (urls or [""])


def test_settings_are_told_in_words() -> None:
    """What is unset is told as what it stands for, and a secret is no part of it."""
    told = Config(headers={"Authorization": "secret"}, verify=ssl.create_default_context()).told()
    assert (told["registry_url"], told["mirrors"], told["proxy"]) == (
        "the embedded demo registry",
        "none",
        "the environment's",
    )
    assert (told["headers"], told["verify"]) == ("Authorization: ***", "an SSL context")


def test_what_models_may_use_is_told_in_words() -> None:
    """Sizes have units, what is unset says what it stands for, and neither a key nor a password is told."""
    ai = AICapabilities(
        max_vram_bytes=8 * 1024**3,
        max_ram_per_worker_bytes=1536 * 1024**2,
        max_model_cache_size_bytes=1023,
        timeout_s=None,
        endpoints={"ollama": "http://ann:pw@localhost:11434"},
        keys={"openai": "sk-secret"},
    )
    told = Config(ai=ai).told()
    assert (told["max_vram"], told["max_ram_per_worker"], told["max_model_cache_size"]) == (
        "8GB", "1.5GB", "1023B",
    )  # fmt: skip
    assert (told["max_ram"], told["timeout_s"]) == ("three quarters of the machine's memory", "no limit")
    assert (told["endpoints"], told["keys"]) == ("ollama http://ann:***@localhost:11434", "openai ***")
    assert "ai" not in told
    assert "pw" not in f"{Config(ai=ai)!r}{told}"
    assert "sk-secret" not in f"{Config(ai=ai)!r}{told}"
