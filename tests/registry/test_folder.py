"""`xprim_nb.registry.folder`: which files of a directory are published, and which directories are refused."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from xprim_nb.registry.folder import PublishError, scan_folder

unix_only = pytest.mark.skipif(os.name == "nt", reason="needs symbolic links, pipes and unusual names")


def write(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


def paths_of(root: Path) -> list[str]:
    return [file.path for file in scan_folder(root).files]


def test_files_at_any_depth_in_stream_order(tmp_path: Path) -> None:
    """Files of all directories are found, weights first, with their sizes."""
    write(tmp_path, "config.json", "unet/model.safetensors", "unet/config.json", "a/b/c/vocab.txt")
    (tmp_path / "empty directory").mkdir()
    found = scan_folder(tmp_path)
    assert [(file.path, file.size) for file in found.files] == [
        (path, len(path))
        for path in ("unet/model.safetensors", "a/b/c/vocab.txt", "config.json", "unet/config.json")
    ]


def test_hidden_names_and_litter_are_skipped_and_named(tmp_path: Path) -> None:
    """Metadata of any application, version control, caches and hidden files stay out, and are listed."""
    litter = [".xprim/manifest.json", ".git/HEAD", "a/.cache/x", ".env", "a/.DS_Store", "Thumbs.db"]
    write(tmp_path, "model.gguf", "__pycache__/x.pyc", *litter)
    found = scan_folder(tmp_path)
    assert [file.path for file in found.files] == ["model.gguf"]
    assert found.skipped == (
        ".env",
        ".git/",
        ".xprim/",
        "Thumbs.db",
        "__pycache__/",
        "a/.DS_Store",
        "a/.cache/",
    )


@unix_only
def test_a_link_to_a_file_inside_counts_as_that_file(tmp_path: Path) -> None:
    """A link is published as the bytes it leads to, also when the directory itself is reached through a link."""
    write(tmp_path / "real", "blobs/x.bin")
    (tmp_path / "real" / "model.bin").symlink_to("blobs/x.bin")
    (tmp_path / "link").symlink_to("real")
    found = scan_folder(tmp_path / "link")
    assert [(file.path, file.place) for file in found.files] == [
        ("blobs/x.bin", tmp_path.resolve() / "real/blobs/x.bin"),
        ("model.bin", tmp_path.resolve() / "real/blobs/x.bin"),
    ]


def _link(target: str) -> Callable[[Path], object]:
    return lambda root: (write(root, "model.bin") / "link").symlink_to(target)


def _pipe(root: Path) -> None:
    os.mkfifo(root / "pipe")


def _backslash(root: Path) -> None:
    write(root, "a\\b")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no files": (lambda root: (root / "a").mkdir(), "no files"),
    "hidden files only": (lambda root: write(root, ".git/HEAD"), "no files"),
    "a link that leads out": (_link("/etc/hostname"), "leads out"),
    "a link that leads up": (_link("../" * 50 + "etc/hostname"), "leads out"),
    "a link that leads nowhere": (_link("nothing"), "leads nowhere"),
    "a link to itself": (_link("link"), "leads nowhere"),
    "a link to a directory": (_link("."), "leads"),
    "a pipe": (_pipe, "neither a file nor a directory"),
    "a device name": (lambda root: write(root, "aux.txt"), "device name"),
    "a backslash": (_backslash, "backslash"),
    "a control character": (lambda root: write(root, "a\nb"), "control character"),
    "two names that fold to one": (lambda root: write(root, "Model.bin", "model.bin"), "same file"),
}


@unix_only
@pytest.mark.parametrize("case", REFUSED)
def test_directories_that_cannot_be_published(case: str, tmp_path: Path) -> None:
    """What would not arrive as it is, or brings along more than the directory, is refused by name."""
    arrange, reason = REFUSED[case]
    arrange(tmp_path)
    with pytest.raises(PublishError, match=reason) as caught:
        scan_folder(tmp_path)
    assert caught.value.subject
    assert caught.value.hint


@unix_only
def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A name that is not UTF-8 has no place in a manifest."""
    with open(os.fsencode(tmp_path) + b"/caf\xe9.bin", "wb") as file:
        file.write(b"x")
    with pytest.raises(PublishError, match="control character"):
        scan_folder(tmp_path)


@unix_only
def test_sockets_are_refused() -> None:
    """A socket is no file; its path must be short, so pytest's own directory will not do."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        with pytest.raises(PublishError, match="neither"):
            scan_folder(Path(folder))


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    """A missing directory and a file each get their own words."""
    with pytest.raises(PublishError, match="does not exist"):
        scan_folder(tmp_path / "nothing")
    with pytest.raises(PublishError, match="not a directory"):
        scan_folder(write(tmp_path, "file") / "file")


@pytest.mark.parametrize(
    "change",
    [
        lambda root: write(root, "new"),
        lambda root: (root / "b").unlink(),
        lambda root: (root / "b").write_bytes(b"longer than before"),
        lambda root: os.utime(root / "b", ns=(1, 1)),
        lambda root: (root / "b").rename(root / "c"),
    ],
)
def test_changes_are_noticed(change: Callable[[Path], object], tmp_path: Path) -> None:
    """A file that was added, removed, renamed or written to since the scan is named."""
    found = scan_folder(write(tmp_path, "a", "b"))
    found.require_unchanged()
    change(tmp_path)
    with pytest.raises(PublishError, match="changed while"):
        found.require_unchanged()


def test_hidden_changes_do_not_matter(tmp_path: Path) -> None:
    """What is not published may change."""
    found = scan_folder(write(tmp_path, "a", ".git/index"))
    write(tmp_path, ".git/new", ".cache")
    found.require_unchanged()
    assert paths_of(tmp_path) == ["a"]
