"""The key of the redaction marks: made once, for its user alone, whoever asks first."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xprim_nb.errors import StorageError
from xprim_nb.prompts.key import redaction_key


def test_all_who_ask_at_once_have_one_key(tmp_path: Path) -> None:
    """Eight threads that find no key make one, of 32 bytes, and none of them is left with another."""
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(redaction_key, [tmp_path / "prompts"] * 8))
    assert [len(each) for each in keys] == [32]
    assert redaction_key(tmp_path / "other") not in keys


@pytest.mark.skipif(os.name == "nt", reason="permissions are another thing there")
def test_it_is_readable_for_its_user_alone(tmp_path: Path) -> None:
    """Whatever the process's umask is, the file is 0600 and its folder 0700."""
    before = os.umask(0)
    try:
        redaction_key(tmp_path / "prompts")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "prompts" / "redaction.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "prompts").stat().st_mode) == 0o700


def test_what_is_no_key_is_said_to_be_none(tmp_path: Path) -> None:
    """A key that was cut is no key: nothing is marked with half of one."""
    redaction_key(tmp_path)
    (tmp_path / "redaction.key").write_bytes(b"half")
    with pytest.raises(StorageError, match="4 bytes"):
        redaction_key(tmp_path)
