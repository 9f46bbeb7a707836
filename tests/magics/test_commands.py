"""What each command returns, and how it looks in a cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb import Handle, ModelRef
from xprim_nb.cache.values import InstalledModel, Pulled, PullPlan, RemoteDetail, Removed
from xprim_nb.config import Config
from xprim_nb.errors import InvalidRefError, NetworkError, NotInstalledError
from xprim_nb.magics.tables import InstalledDetail
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry

from .conftest import value_of


def _shown(shell: InteractiveShell, value: object) -> tuple[str, str]:
    """A value as a cell shows it: text and HTML."""
    assert shell.display_formatter is not None
    data, _ = shell.display_formatter.format(value)
    return data["text/plain"], data["text/html"]


def test_models_lists_what_is_installed(shell: InteractiveShell) -> None:
    """`%xprim models` returns installed models, which show as a table in both forms."""
    empty = value_of(shell.run_cell("%xprim models"))
    assert len(empty) == 0
    assert "`%xprim models --remote`" in repr(empty)
    value_of(shell.run_cell("pulled = %xprim pull demo/tiny-llama latest --wait"))
    rows = value_of(shell.run_cell("%xprim models"))
    assert [type(each) for each in rows] == [InstalledModel]
    text, html = _shown(shell, rows)
    header, row = text.splitlines()
    assert header.split() == ["model", "version", "size", "installed"]
    assert row.split()[:4] == ["demo/tiny-llama", "latest", "4.1", "KB"]
    assert '<th scope="col"' in html
    assert ">demo/tiny-llama</td>" in html


def test_models_remote_lists_the_registry(shell: InteractiveShell, registry: MadeRegistry) -> None:
    """`--remote` returns the registry's entries, with what they are names of and what is here; `--filter` narrows."""
    value_of(shell.run_cell("pulled = %xprim pull demo/tiny-llama latest --wait"))
    registry.put_entry("demo/tiny-llama latest", {**registry.entry("demo/tiny-llama v2"), "alias": "v2"})
    rows = value_of(shell.run_cell("%xprim models --remote"))
    assert [str(each.ref) for each in rows] == [
        "demo/big v1",
        "demo/tiny-llama latest",
        "demo/tiny-llama v1",
        "demo/tiny-llama v2",
        "other/base v1",
    ]
    assert repr(rows).splitlines()[2].split() == [
        "demo/tiny-llama",
        "latest",
        "4.1",
        "KB",
        "v2",
        "update",
        "available",
    ]
    assert [str(each.ref) for each in value_of(shell.run_cell("%xprim models --remote --filter BASE"))] == [
        "other/base v1"
    ]
    assert "No name contains 'nope'." in repr(value_of(shell.run_cell("%xprim models --filter nope")))


def test_pull_returns_a_handle_at_once(shell: InteractiveShell, data_dir: Path) -> None:
    """`%xprim pull` returns a handle; shown again later, it says how it ended."""
    value_of(shell.run_cell("handle = %xprim pull demo/tiny-llama v1"))
    handle = shell.user_ns["handle"]
    assert isinstance(handle, Handle)
    pulled = handle.result(20)
    assert (pulled.status, pulled.path) == ("installed", data_dir / "demo" / "tiny-llama" / "v1")
    text, html = _shown(shell, handle)
    assert text.startswith("demo/tiny-llama v1: installed, 4.1 KB in ")
    assert 'role="progressbar"' in html
    assert 'aria-valuenow="100"' in html


def test_pull_wait_returns_what_was_pulled(shell: InteractiveShell) -> None:
    """`--wait` returns the result; its face has the facts, and says when there was nothing to do."""
    pulled = value_of(shell.run_cell("%xprim pull demo/tiny-llama v1 --wait"))
    assert isinstance(pulled, Pulled)
    text, html = _shown(shell, pulled)
    assert "Status:   installed" in text.splitlines()
    assert "Fetched:  4.1 KB in " in text
    assert '<th scope="row"' in html
    again = value_of(shell.run_cell("%xprim pull demo/tiny-llama v1 --wait"))
    assert again.status == "already_installed"
    assert "already installed" in _shown(shell, again)[0]


def test_dry_run_returns_the_plan(shell: InteractiveShell, data_dir: Path) -> None:
    """`--dry-run` returns the plan, and installs nothing; waiting for it makes no sense."""
    value_of(shell.run_cell("pulled = %xprim pull demo/tiny-llama v1 --wait"))
    plan = value_of(shell.run_cell("%xprim pull demo/tiny-llama v2 --dry-run"))
    assert isinstance(plan, PullPlan)
    assert "from demo/tiny-llama v1" in _shown(shell, plan)[0]
    assert not (data_dir / "demo" / "tiny-llama" / "v2").exists()
    with pytest.raises(UsageError, match="--dry-run starts nothing"):
        value_of(shell.run_cell("%xprim pull demo/tiny-llama v2 --dry-run --wait"))


def test_info_path_and_remove(shell: InteractiveShell, data_dir: Path) -> None:
    """`info` has the files, `path` is a path, `remove` says what was freed."""
    value_of(shell.run_cell("pulled = %xprim pull demo/tiny-llama v1 --wait"))
    model = value_of(shell.run_cell("%xprim info demo/tiny-llama v1"))
    assert isinstance(model, InstalledDetail)
    assert isinstance(model, InstalledModel)
    assert [file.path for file in model.files] == ["model.bin", "config.json"]
    assert "config.json  1.2 KB" in _shown(shell, model)[0]
    detail = value_of(shell.run_cell("%xprim info demo/tiny-llama@latest --remote"))
    assert isinstance(detail, RemoteDetail)
    assert "Alias of:  v1" in _shown(shell, detail)[0].splitlines()
    assert (
        value_of(shell.run_cell("%xprim path 'demo/tiny-llama v1'"))
        == data_dir / "demo" / "tiny-llama" / "v1"
    )
    removed = value_of(shell.run_cell("%xprim remove demo/tiny-llama v1"))
    assert isinstance(removed, Removed)
    with pytest.raises(NotInstalledError):
        value_of(shell.run_cell("%xprim path demo/tiny-llama v1"))


def test_remove_all(shell: InteractiveShell) -> None:
    """`remove --all` removes every version, and takes no version beside it."""
    for version in ("v1", "v2"):
        value_of(shell.run_cell(f"pulled = %xprim pull demo/tiny-llama {version} --wait"))
    with pytest.raises(UsageError, match="not both"):
        value_of(shell.run_cell("%xprim remove demo/tiny-llama v1 --all"))
    removed = value_of(shell.run_cell("%xprim remove demo/tiny-llama --all"))
    assert [each.ref.version for each in removed] == ["v1", "v2"]


def test_update_checks_and_applies(shell: InteractiveShell, registry: MadeRegistry) -> None:
    """`update` returns a check for each installed version; `--apply` pulls what has one."""
    value_of(shell.run_cell("pulled = %xprim pull demo/tiny-llama latest --wait"))
    (check,) = value_of(shell.run_cell("%xprim update"))
    assert not check.available
    registry.put_entry("demo/tiny-llama latest", {**registry.entry("demo/tiny-llama v2"), "alias": "v2"})
    rows = value_of(shell.run_cell("%xprim update demo/tiny-llama"))
    assert repr(rows).splitlines()[1].split() == [
        "demo/tiny-llama",
        "latest",
        "update",
        "available",
        "v1",
        "v2",
    ]
    (pulled,) = value_of(shell.run_cell("%xprim update --apply"))
    assert (pulled.ref, pulled.status) == (ModelRef("demo", "tiny-llama", "latest"), "updated")
    assert repr(value_of(shell.run_cell("%xprim update --apply"))).endswith("Everything is up to date.")


def test_update_never_answers_without_asking(shell: InteractiveShell) -> None:
    """An update that may not ask raises instead of guessing."""
    value_of(shell.run_cell("pulled = %xprim pull demo/tiny-llama latest --wait"))
    value_of(shell.run_cell("config = %xprim config registry_url=http://127.0.0.1:9 offline=1"))
    with pytest.raises(NetworkError):
        value_of(shell.run_cell("%xprim update"))


def test_windows_are_tables_in_a_terminal(
    shell: InteractiveShell, registry: MadeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no window can be shown `browse` lists what there is and what is here, and `pulls` what runs."""
    value_of(shell.run_cell("pulled = %xprim pull other/base v1 --wait"))
    rows = value_of(shell.run_cell("%xprim browse"))
    assert [(str(each.ref), cells[-1]) for each, cells in zip(rows, rows.cells, strict=True)] == [
        ("demo/big v1", ""),
        ("demo/tiny-llama latest", ""),
        ("demo/tiny-llama v1", ""),
        ("demo/tiny-llama v2", ""),
        ("other/base v1", "installed"),
    ]
    (registry.root / "models.json").write_text("{}")
    (alone,) = value_of(shell.run_cell("%xprim browse"))
    assert isinstance(alone, InstalledModel)
    assert repr(value_of(shell.run_cell("%xprim pulls"))).endswith("No pull is running.")


def test_pulls_in_flight_have_their_lines(shell: InteractiveShell, registry: MadeRegistry) -> None:
    """`pulls` in a terminal names each pull that runs, and how far it is."""
    with FaultyRegistry(registry.root) as server, server.hold(on="chunk") as gate:
        value_of(shell.run_cell(f"config = %xprim config registry_url={server.url}"))
        handle = value_of(shell.run_cell("%xprim pull demo/big v1"))
        gate.wait_reached()
        rows = value_of(shell.run_cell("%xprim pulls"))
        assert list(rows) == [handle]
        assert repr(rows).splitlines()[1].startswith("demo/big v1  ")
        gate.release()
        handle.result(20)


def test_browse_without_a_registry_lists_what_is_here(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """A registry that cannot be asked is a warning; what is installed is listed."""
    value_of(shell.run_cell("pulled = %xprim pull other/base v1 --wait"))
    value_of(shell.run_cell("config = %xprim config registry_url=http://127.0.0.1:9 offline=1"))
    (row,) = value_of(shell.run_cell("rows = %xprim browse\nrows"))
    assert (str(row.ref), isinstance(row, InstalledModel)) == ("other/base v1", True)
    assert capsys.readouterr().err.startswith("warning: ")


def test_config_shows_and_changes(shell: InteractiveShell, registry: MadeRegistry, tmp_path: Path) -> None:
    """`config` returns the settings, passwords masked; `KEY=VALUE` changes them for the next command."""
    config = value_of(shell.run_cell("%xprim config"))
    assert isinstance(config, Config)
    assert config.registry_url == str(registry.root)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "models.json").write_text("{}")
    value_of(shell.run_cell(f"%xprim config registry_url={tmp_path / 'empty'} concurrency=2"))
    assert value_of(shell.run_cell("%xprim config")).concurrency == 2
    assert len(value_of(shell.run_cell("%xprim models --remote"))) == 0
    value_of(shell.run_cell("%xprim config registry_url=https://me:hunter2@models.example.org"))
    text, html = _shown(shell, value_of(shell.run_cell("%xprim config")))
    assert "https://me:***@models.example.org" in text
    assert "hunter2" not in text + html


def test_data_dir_can_be_changed(shell: InteractiveShell, tmp_path: Path) -> None:
    """A directory typed into `config` is where models go, whatever the environment says."""
    value_of(shell.run_cell(f"config = %xprim config data_dir={tmp_path / 'there'}"))
    assert value_of(shell.run_cell("%xprim pull other/base v1 --wait")).path.is_relative_to(
        tmp_path / "there"
    )


@pytest.mark.parametrize("line", ["pull nonsense", "pull demo/big", "info ../.. x"])
def test_bad_refs_are_errors_of_ours(shell: InteractiveShell, line: str) -> None:
    """A model that cannot be one is an `InvalidRefError`, before anything is asked."""
    with pytest.raises(InvalidRefError):
        value_of(shell.run_cell(f"%xprim {line}"))


def test_two_versions_contradict_each_other(shell: InteractiveShell) -> None:
    """A version in the reference and another behind it are a usage error."""
    with pytest.raises(UsageError, match="names a version, and so does v2"):
        value_of(shell.run_cell("%xprim pull demo/tiny-llama@v1 v2"))


def test_demo_registry_is_announced_once(
    bare_shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a configured registry the first command that asks one says which it is; the next does not."""
    monkeypatch.delenv("XPRIM_MODELS_REGISTRY_URL")
    bare_shell.run_line_magic("load_ext", "xprim_nb")
    bare_shell.run_cell("rows = %xprim models --remote")
    assert capsys.readouterr().out.count("embedded demo registry") == 1
    bare_shell.run_cell("rows = %xprim models --remote")
    assert "embedded demo registry" not in capsys.readouterr().out
