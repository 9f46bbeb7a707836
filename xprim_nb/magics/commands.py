"""What each command of `%xprim` does: call the toolkit, return the value.

Source: spec 3 §Magics.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from xprim_nb.errors import XprimError
from xprim_nb.magics import settings, tables, waiting
from xprim_nb.magics.naming import named, versioned

if TYPE_CHECKING:
    from xprim_nb._bridge import Handle
    from xprim_nb.cache.values import InstalledModel, Pulled, PullPlan, RemoteDetail, Removed, UpdateCheck
    from xprim_nb.config import Config
    from xprim_nb.magics.extension import Extension
    from xprim_nb.registry.index import RemoteModel

__all__ = ["run"]


def run(extension: Extension, asked: argparse.Namespace) -> object:
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
            return extension.kit.path(versioned(asked)).result()
        case "update":
            return _update(extension, asked)
        case "browse":
            return extension.views.open("browser") or _everything(extension)
        case "pulls":
            return extension.views.open("pulls") or tables.running(extension.kit.pulls())
        case "doctor":
            # Loaded when it is called: it imports nearly everything there is to look at.
            return importlib.import_module("xprim_nb.magics.doctor").examine(extension)
        case "config":
            return _config(extension, asked)
        case "prompts":
            # Loaded with the first of them: it brings every renderer along.
            return importlib.import_module("xprim_nb.magics.prompt_commands").run(extension, asked)
        case "ps" | "load" | "evict" | "plan" | "gpu" | "timeline":
            return _of_models(extension, asked)
        case _:
            return _of_the_cache(extension, asked)


def _of_models(extension: Extension, asked: argparse.Namespace) -> object:
    # Loaded with the first of them, and the engine with it: who only pulls does not pay for it.
    commands: Mapping[str, Callable[..., object]] = importlib.import_module(
        "xprim_nb.magics.ai_commands"
    ).COMMANDS
    return commands[asked.command](extension, asked)


def _of_the_cache(extension: Extension, asked: argparse.Namespace) -> object:
    # Loaded with the first of them: who only pulls does not pay for it.
    commands: Mapping[str, Callable[..., object]] = importlib.import_module(
        "xprim_nb.magics.cache_commands"
    ).COMMANDS
    return commands[asked.command](extension, asked)


def _models(
    extension: Extension, asked: argparse.Namespace
) -> tables.Rows[InstalledModel] | tables.Rows[RemoteModel]:
    here = extension.kit.list_installed()
    if not asked.remote:
        return tables.installed(here.result(), filtered=asked.filter)
    extension.tell_demo()
    listing = extension.kit.list_remote().result()
    for notice in listing.notices:
        extension.warn(notice.message)
    return tables.remote(listing, here.result(), filtered=asked.filter)


def _everything(extension: Extension) -> tables.Rows[InstalledModel | RemoteModel]:
    extension.tell_demo()
    here = extension.kit.list_installed().result()
    try:
        listing = extension.kit.list_remote().result()
    except XprimError as error:  # what is installed can be browsed all the same
        extension.warn(error.message)
        return tables.everything(None, here)
    for notice in listing.notices:
        extension.warn(notice.message)
    return tables.everything(listing, here)


def _pull(extension: Extension, asked: argparse.Namespace) -> Handle[Pulled] | Pulled | PullPlan:
    ref = versioned(asked)
    if asked.dry_run and asked.wait:
        raise UsageError("%xprim pull: --dry-run starts nothing that --wait could wait for")
    extension.tell_demo()
    if asked.dry_run:
        return extension.kit.plan_pull(ref, force=asked.force).result()
    handle = extension.kit.pull(ref, force=asked.force, concurrency=asked.concurrency)
    if asked.wait:
        return _waited(extension, handle)
    extension.views.show_pull(handle)
    return handle


def _waited(extension: Extension, handle: Handle[Pulled]) -> Pulled:
    pulled = waiting.wait_for(extension.shell, handle, lambda: extension.views.show_pull(handle))
    for text in pulled.warnings:
        extension.warn(text)
    return pulled


def _remove(extension: Extension, asked: argparse.Namespace) -> Removed | tables.Rows[Removed]:
    ref = named(asked)
    if not asked.all:
        return extension.kit.remove(ref.require_version()).result()
    if ref.version:
        raise UsageError("%xprim remove: name a version or give --all, not both")
    return tables.removals(extension.kit.remove_all(ref.group, ref.model).result())


def _info(extension: Extension, asked: argparse.Namespace) -> InstalledModel | RemoteDetail:
    ref = versioned(asked)
    if asked.remote:
        extension.tell_demo()
        return extension.kit.get_remote_detail(ref).result()
    model = extension.kit.get_installed(ref).result()
    files = extension.kit.list_files(ref).result()
    return tables.InstalledDetail(
        model.ref,
        model.manifest_hash,
        model.total_size,
        model.file_count,
        model.installed_at,
        model.base,
        model.extra,
        files,
    )


def _update(
    extension: Extension, asked: argparse.Namespace
) -> tables.Rows[UpdateCheck] | tables.Rows[Pulled]:
    extension.tell_demo()
    name = str(named(asked)) if asked.ref is not None else None
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
        if extension.kit.engine is not None:
            importlib.import_module("xprim_nb.magics.ai_commands").refuse_while_busy(extension)
        extension.use(settings.changed(extension.kit.config, asked.settings))
    return extension.kit.config
