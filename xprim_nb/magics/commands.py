"""What each command of `%xprim` does: call the toolkit, return the value.

Source: spec 3 §Magics.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, TypeAlias, assert_never

from IPython.core.error import UsageError

from xprim_nb.magics import settings, tables, waiting
from xprim_nb.refs import ModelRef

if TYPE_CHECKING:
    from pathlib import Path

    from xprim_nb._bridge import Handle
    from xprim_nb.cache.values import InstalledModel, Pulled, PullPlan, RemoteDetail, Removed, UpdateCheck
    from xprim_nb.config import Config
    from xprim_nb.magics.extension import Extension
    from xprim_nb.registry.index import RemoteModel

    Answer: TypeAlias = (
        tables.Rows[InstalledModel]
        | tables.Rows[RemoteModel]
        | tables.Rows[Removed]
        | tables.Rows[UpdateCheck]
        | tables.Rows[Pulled]
        | Handle[Pulled]
        | Pulled
        | PullPlan
        | Removed
        | InstalledModel
        | RemoteDetail
        | Path
        | Config
    )

__all__ = ["run"]


def run(extension: Extension, asked: argparse.Namespace) -> Answer:
    """The value that a parsed line asks for.

    Raises:
        UsageError: The options contradict each other.
        XprimError: As the toolkit's verbs do.
    """
    match asked.command:
        case "models":
            return _models(extension, asked)
        case "pull":
            return _pull(extension, asked)
        case "remove":
            return _remove(extension, asked)
        case "info":
            return _info(extension, asked)
        case "path":
            return extension.kit.path(_versioned(asked)).result()
        case "update":
            return _update(extension, asked)
        case "config":
            return _config(extension, asked)
        case other:
            assert_never(other)


def _models(
    extension: Extension, asked: argparse.Namespace
) -> tables.Rows[InstalledModel] | tables.Rows[RemoteModel]:
    here = extension.kit.list_installed()
    if not asked.remote:
        return tables.installed(here.result(), filtered=asked.filter)
    _tell_demo(extension)
    listing = extension.kit.list_remote().result()
    for notice in listing.notices:
        extension.warn(notice.message)
    return tables.remote(listing, here.result(), filtered=asked.filter)


def _pull(extension: Extension, asked: argparse.Namespace) -> Handle[Pulled] | Pulled | PullPlan:
    ref = _versioned(asked)
    if asked.dry_run and asked.wait:
        raise UsageError("%xprim pull: --dry-run starts nothing that --wait could wait for")
    _tell_demo(extension)
    if asked.dry_run:
        return extension.kit.plan_pull(ref, force=asked.force).result()
    handle = extension.kit.pull(ref, force=asked.force, concurrency=asked.concurrency)
    return _waited(extension, handle) if asked.wait else handle


def _waited(extension: Extension, handle: Handle[Pulled]) -> Pulled:
    pulled = waiting.wait_for(extension.shell, handle)
    for text in pulled.warnings:
        extension.warn(text)
    return pulled


def _remove(extension: Extension, asked: argparse.Namespace) -> Removed | tables.Rows[Removed]:
    ref = _named(asked)
    if not asked.all:
        return extension.kit.remove(ref.require_version()).result()
    if ref.version:
        raise UsageError("%xprim remove: name a version or give --all, not both")
    return tables.removals(extension.kit.remove_all(ref.group, ref.model).result())


def _info(extension: Extension, asked: argparse.Namespace) -> InstalledModel | RemoteDetail:
    ref = _versioned(asked)
    if asked.remote:
        _tell_demo(extension)
        return extension.kit.get_remote_detail(ref).result()
    model = extension.kit.get_installed(ref).result()
    files = extension.kit.list_files(ref).result()
    return tables.InstalledDetail(
        model.ref,
        model.manifest_hash,
        model.total_size,
        model.file_count,
        model.installed_at,
        model.path,
        model.extra,
        files,
    )


def _update(
    extension: Extension, asked: argparse.Namespace
) -> tables.Rows[UpdateCheck] | tables.Rows[Pulled]:
    _tell_demo(extension)
    name = str(_named(asked)) if asked.ref is not None else None
    found = extension.kit.check_updates(name).result()
    for check in found:
        if check.notice:
            extension.warn(check.notice)
    if not asked.apply:
        return tables.checks(found)
    wanted = [check.ref for check in found if check.available]
    return tables.pulls(_waited(extension, extension.kit.pull(ref)) for ref in wanted)


def _config(extension: Extension, asked: argparse.Namespace) -> Config:
    if asked.settings:
        running = extension.kit.pulls()
        if running:
            names = ", ".join(each.describe for each in running)
            raise UsageError(f"%xprim config: wait for these first, or cancel them: {names}")
        extension.use(settings.changed(extension.kit.config, asked.settings))
    return extension.kit.config


def _named(asked: argparse.Namespace) -> ModelRef:
    parsed = ModelRef.parse(asked.ref)
    if asked.version is None or asked.version == parsed.version:
        return parsed
    if parsed.version:
        raise UsageError(f"%xprim {asked.command}: {asked.ref} names a version, and so does {asked.version}")
    return parsed.with_version(asked.version)


def _versioned(asked: argparse.Namespace) -> ModelRef:
    return _named(asked).require_version()


def _tell_demo(extension: Extension) -> None:
    if extension.kit.uses_demo_registry and not extension.told_demo:
        extension.told_demo = True
        sys.stdout.write("Using the embedded demo registry; `%xprim config registry_url=…` names another.\n")
