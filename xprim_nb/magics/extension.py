"""What `%load_ext xprim_nb` adds to a shell, and `%unload_ext` takes away again: every bit of it.

Loads nothing heavy: the toolkit, and with it HTTP and pydantic, come with the first command.

Source: spec 3 §Magics; STYLE rule 2.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from IPython.core.interactiveshell import InteractiveShell

from xprim_nb.errors import XprimError
from xprim_nb.magics import cards, faces, parsing
from xprim_nb.magics.completion import Completer
from xprim_nb.magics.views import Views

if TYPE_CHECKING:
    from xprim_nb.config import Config
    from xprim_nb.toolkit import Toolkit

__all__ = ["Extension", "load", "unload"]

_MAGIC = "xprim"
_log = logging.getLogger("xprim_nb")


class Extension:
    """One shell's magic, completion, error cards and faces, and the toolkit behind them.

    Args:
        shell: The shell it is added to.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.told_demo = False
        self.views = Views(shell, lambda: self.kit)
        self._kit: Toolkit | None = None
        self._news: list[str] = []
        self._take_back: list[Callable[[], object]] = []

    @property
    def kit(self) -> Toolkit:
        """The toolkit, made when it is first needed.

        Raises:
            ConfigError: The environment holds a setting that cannot work.
        """
        if self._kit is None:
            self.use(None)
        assert self._kit is not None
        return self._kit

    def use(self, config: Config | None) -> None:
        """Work with a new toolkit from now on.

        Raises:
            ConfigError: A setting cannot work; the old toolkit stays.
        """
        kit: Toolkit = importlib.import_module("xprim_nb.toolkit").connect(config)
        # Told when a command has ended: what is printed in the loop's thread lands in whichever cell is running.
        importlib.import_module("xprim_nb.magics.news").hear(kit.events, self.warn)
        old, self._kit, self.told_demo = self._kit, kit, False
        if old is not None:
            self.views.settle()
            old.close()

    def add(self) -> None:
        """Add everything to the shell."""
        shell = self.shell
        register: Callable[..., object] = shell.register_magic_function  # IPython's types miss its arguments
        register(self.run, magic_kind="line", magic_name=_MAGIC)
        self._take_back.append(lambda: shell.magics_manager.magics["line"].pop(_MAGIC, None))
        self._take_back += [self._add_cell(name) for name in ("generate", "prompt")]
        completer = Completer(lambda: self.kit)
        shell.Completer.custom_matchers.append(completer.match)
        self._take_back.append(lambda: shell.Completer.custom_matchers.remove(completer.match))
        self._take_back.append(cards.show_ours(shell))
        self._take_back.append(faces.add(shell))
        self._take_back.append(self.views.add())
        # Without a handler of its own the log's warnings would be printed into whichever cell is running.
        handler = logging.NullHandler()
        _log.addHandler(handler)
        self._take_back.append(lambda: _log.removeHandler(handler))

    def _add_cell(self, name: str) -> Callable[[], object]:
        """Add a cell magic that is a method of the same name; the result takes it back."""
        cells = self.shell.magics_manager.magics["cell"]
        theirs = cells.get(name)
        register: Callable[..., object] = self.shell.register_magic_function
        register(getattr(self, name), magic_kind="cell", magic_name=name)
        return lambda: cells.update({name: theirs}) if theirs else cells.pop(name, None)

    def remove(self) -> None:
        """Take everything back, last first; pulls in flight stop and can be resumed."""
        while self._take_back:
            self._take_back.pop()()
        if self._kit is not None:
            self._kit.close()
            self._kit = None

    def run(self, line: str) -> Any:  # noqa: ANN401  # each command has a value of its own
        """Models in a notebook.

            %xprim models [--remote] [--filter TEXT]     what is installed, or what there is
            %xprim pull REF [VERSION] [--wait]           install; returns a handle at once
            %xprim remove | info | path REF [VERSION]
            %xprim update [REF] [--apply]
            %xprim status | health | validate [REF]      how models are
            %xprim repair | refresh | rollback REF       mend, renew, take back
            %xprim cleanup | free SIZE | pin | why PATH  room on the disk
            %xprim archive | restore | adopt | maintain
            %xprim ps | load | evict | plan MODEL        what is awake, and who would leave
            %xprim timeline | why MODEL --awake          what happened, and why
            %xprim browse | pulls | gpu                  windows: every model, every pull, what is awake
            %xprim prompts resolve | explain | ask | lint PROMPT
            %xprim prompts checkpoint | restore | branch | list | analyze | export
            %xprim doctor                                what works here, what does not, what to do
            %xprim config [KEY=VALUE …]                  registry_url, data_dir, max_vram=8GB, …
            %xprim help [COMMAND]

        REF is group/model, and may carry the version: group/model@version. $name and {name} stand for the
        values of variables; `h = %xprim pull …` keeps what a command returns.
        """
        try:
            asked = parsing.parse(parsing.split(line))
        except parsing.HelpShownError:
            return None
        if asked.command == "help":
            topic = " ".join(filter(None, (asked.topic, asked.of))) or None
            sys.stdout.write(parsing.help_text(topic) + "\n")
            return None
        try:
            return importlib.import_module("xprim_nb.magics.commands").run(self, asked)
        finally:
            self._tell_news()

    def generate(self, line: str, cell: str) -> Any:  # noqa: ANN401  # a Reply, whose module loads with the first
        """Run a model on the rest of the cell, and show what it writes as it comes.

            %%generate demo/tiny-llama v2 --max-tokens 60 --as reply
            Once upon a time

        Returns the Reply. `--help` shows the options; `$name` and `{name}` in the first line stand for the values of
        variables, the cell itself is taken as it is. Interrupting ends the answer and keeps the model.
        """
        return self._run_cell("generate", "ai_generate", line, cell)

    def prompt(self, line: str, cell: str) -> Any:  # noqa: ANN401  # see `generate`
        """Ask with the rest of the cell as the turn; the same, asked again, is answered from the cache.

            %%prompt --provider local --model "demo/tiny-llama v2" --max-tokens 60
            Once upon a time

        Returns the answer with how it was come by. `--explain` sends nothing and shows what the provider's cache would
        do; `--samples 5` returns five answers; `--from NAME` takes blocks, tools and settings from a variable; `--help`
        shows the options.
        """
        return self._run_cell("prompt", "prompt_cell", line, cell)

    def _run_cell(self, name: str, module: str, line: str, cell: str) -> Any:  # noqa: ANN401  # see `generate`
        try:
            asked = parsing.parse_cell(name, parsing.split(line))
        except parsing.HelpShownError:
            return None
        try:
            doer = getattr(importlib.import_module(f"xprim_nb.magics.{module}"), name)
            return doer(self, asked, cell)
        finally:
            self._tell_news()

    def tell_demo(self) -> None:
        """Say once that the embedded registry is the one that is asked, when it is."""
        if self.kit.uses_demo_registry and not self.told_demo:
            self.told_demo = True
            sys.stdout.write(
                "Using the embedded demo registry; `%xprim config registry_url=…` names another.\n"
            )

    def warn(self, text: str) -> None:
        """Have a sentence told when the command has ended, once."""
        self._news.append(text)

    def _tell_news(self) -> None:
        news, self._news = self._news, []
        for text in dict.fromkeys(news):
            sys.stderr.write(f"warning: {text}\n")


_loaded: WeakKeyDictionary[InteractiveShell, Extension] = WeakKeyDictionary()


def load(shell: object) -> None:
    """Add the extension to a shell; does nothing when it is there already.

    Raises:
        XprimError: This is no IPython shell.
    """
    if not isinstance(shell, InteractiveShell):
        raise XprimError(
            "`%load_ext xprim_nb` needs an IPython shell.", hint="Use xprim_nb.connect() elsewhere."
        )
    if shell not in _loaded:
        extension = _loaded[shell] = Extension(shell)
        extension.add()


def unload(shell: object) -> None:
    """Take back everything that `load` added."""
    extension = _loaded.pop(shell, None) if isinstance(shell, InteractiveShell) else None
    if extension is not None:
        extension.remove()
