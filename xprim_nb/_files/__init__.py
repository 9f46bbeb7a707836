"""Durable files: atomic writes, preallocation, block writes, reflinks, directory swaps, locks.

Comes in: paths and bytes. Goes out: bytes that survive a power cut under their name, or no name at all.
Every `OSError` becomes a `StorageError` here that names the path and the way out.

Source: STYLE rule 10; spec 1 §Disk layout, §Pull.
"""

from xprim_nb._files.blocks import clone_file, preallocate, start_writeback, write_at
from xprim_nb._files.claims import Claim
from xprim_nb._files.durable import (
    append_line,
    free_bytes,
    make_dirs,
    remove_tree,
    storage_errors,
    sync_dir,
    sync_file,
    sync_tree,
    write_atomic,
)
from xprim_nb._files.locks import PathLock, locked
from xprim_nb._files.swap import exchange_dirs, move_dir
from xprim_nb._plain import open_plain, read_plain

__all__ = [
    "Claim",
    "PathLock",
    "append_line",
    "clone_file",
    "exchange_dirs",
    "free_bytes",
    "locked",
    "make_dirs",
    "move_dir",
    "open_plain",
    "preallocate",
    "read_plain",
    "remove_tree",
    "start_writeback",
    "storage_errors",
    "sync_dir",
    "sync_file",
    "sync_tree",
    "write_at",
    "write_atomic",
]
