"""Who is told what: channels over real files, a real HTTP server, the log, a notebook; and that telling never hurts."""

from __future__ import annotations

import json
import logging
import threading
import types
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from xprim_nb import Config, Manager, ModelRef
from xprim_nb.errors import ConfigError
from xprim_nb.events import (
    CorruptionFound,
    Event,
    EventHub,
    ModelRefreshed,
    ModelRemoved,
    RolledBack,
    TrustNotice,
)
from xprim_nb.notify import Channel, Notice, Notifier, notice_of, open_channel, webhook

_REF = ModelRef("group", "model", "v1")
_CORRUPTION = CorruptionFound(
    _REF, "a.bin of group/model v1 is damaged.", "xprim cache repair group/model v1"
)


class _Hook:
    """A webhook's receiving end; answers with the next of `answers`, then with 204.

    Attributes:
        bodies: What came, parsed.
    """

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}/hooks/s3cret-t0ken"
        self.answers: list[int] = []
        self.bodies: list[Any] = []
        self.heads: list[dict[str, str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.came = threading.Event()


@pytest.fixture
def hook() -> Iterator[_Hook]:
    """A real HTTP server on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.came.set()
            found.gate.wait(20)
            found.bodies.append(json.loads(body))
            found.heads.append({key.lower(): value for key, value in self.headers.items()})
            self.send_response(found.answers.pop(0) if found.answers else 204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = _Hook(server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    found.gate.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits between the tries."""
    monkeypatch.setattr(webhook, "_WAITS_S", (0.0, 0.0))


async def test_a_webhook_a_file_and_a_callable_hear_of_corruption(hook: _Hook, tmp_path: Path) -> None:
    """Through an open manager: each gets the same notice, with what was found and the command that mends it."""
    heard: list[Notice] = []
    lines = tmp_path / "deep" / "notices.jsonl"
    channels: list[Channel] = [f"webhook:{hook.url}", f"file:{lines}", heard.append]
    config = Config(registry_url=str(tmp_path / "registry"), data_dir=tmp_path / "models")
    async with Manager(config, notify=channels) as manager:
        manager.events.publish(_CORRUPTION)
    (notice,) = heard
    assert (notice.kind, notice.ref, notice.severity) == ("corruption", str(_REF), "error")
    assert (notice.message, notice.next_step) == (_CORRUPTION.verdict, "xprim cache repair group/model v1")
    assert notice.at.endswith("Z")
    assert (
        hook.bodies == [notice.model_dump()] == [json.loads(line) for line in lines.read_text().splitlines()]
    )
    assert hook.heads[0]["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("event", "kind", "severity", "step"),
    [
        (_CORRUPTION, "corruption", "error", "xprim cache repair"),
        (ModelRefreshed(_REF, "0" * 64), "refreshed", "info", ""),
        (ModelRefreshed(_REF, "0" * 64, backup="b"), "refreshed", "info", f"xprim cache rollback {_REF}"),
        (ModelRefreshed(_REF, "0" * 64, ("f",), ("f",), "b"), "conflict", "warning", ".upstream"),
        (RolledBack(_REF, "0" * 64, "asked for"), "rolled_back", "warning", f"xprim cache backups {_REF}"),
        (TrustNotice("rewritten", _REF, "0" * 64, "1" * 64), "trust", "warning", "publisher"),
    ],
)
def test_each_event_has_its_notice(event: Event, kind: str, severity: str, step: str) -> None:
    """What happened, how bad it is, and what to do next."""
    notice = notice_of(event)
    assert notice is not None
    assert (notice.kind, notice.severity, notice.ref) == (kind, severity, str(_REF))
    assert step in notice.next_step
    assert str(_REF) in notice.message


def test_other_events_are_nobodys_business() -> None:
    """A removal is told to nobody."""
    assert notice_of(ModelRemoved(_REF)) is None


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("answers", "tries"),
    [([], 1), ([503], 2), ([429, 408], 3), ([500, 500, 500], 3), ([404], 1), ([301], 1)],
)
def test_a_webhook_is_tried_again_when_that_may_help(
    hook: _Hook, answers: list[int], tries: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Busy and broken hooks get three tries, one that says no gets one; a failure is logged without the secret."""
    hook.answers = list(answers)
    with Notifier(EventHub(), [f"webhook:{hook.url}"]) as notifier:
        notifier.tell(Notice.now("test", _REF, "info", "Hello."))
    assert len(hook.bodies) == tries
    failed = len(answers) == tries
    assert ("could not be delivered" in caplog.text) == failed
    assert "s3cret" not in caplog.text


@pytest.mark.usefixtures("impatient")
def test_no_log_and_no_repr_has_a_webhooks_secret(hook: _Hook, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the client's own request lines nor errors show more than the host; other requests are still logged."""
    caplog.set_level(logging.DEBUG)
    port = hook.url.split(":")[2].split("/")[0]
    with Notifier(None, [f"webhook:{hook.url}", "webhook:http://user:s3cret@127.0.0.1:9/s3cret"]) as notifier:
        notifier.tell(Notice.now("test", _REF, "info", "Hello."))
    assert len(hook.bodies) == 1
    assert "s3cret" not in caplog.text
    assert "webhook:http://127.0.0.1:9/***" in caplog.text
    assert repr(open_channel(f"webhook:{hook.url}")) == f"webhook:http://127.0.0.1:{port}/***"


def test_a_silent_webhook_holds_nobody_up(hook: _Hook, caplog: pytest.LogCaptureFixture) -> None:
    """While it does not answer, telling returns at once, and closing gives up after its time."""
    hook.gate.clear()
    notifier = Notifier(EventHub(), [f"webhook:{hook.url}"])
    for _ in range(3):
        notifier.tell(Notice.now("test", _REF, "info", "Hello."))
    assert hook.came.wait(10)
    notifier.close(timeout_s=0.05)
    assert hook.bodies == []
    assert "3 notices were not delivered in time" in caplog.text
    notifier.tell(Notice.now("test", _REF, "info", "Too late."))


def test_closing_delivers_what_waits(tmp_path: Path) -> None:
    """A hundred notices told at once are all in the file, in order, when the notifier is closed."""
    path = tmp_path / "n.jsonl"
    with Notifier(None, [f"file:{path}"]) as notifier:
        for number in range(100):
            notifier.tell(Notice.now("test", _REF, "info", str(number)))
    assert [json.loads(line)["message"] for line in path.read_text().splitlines()] == list(
        map(str, range(100))
    )


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    """What a killed process left without an end stays a line of its own."""
    path = tmp_path / "n.jsonl"
    path.write_bytes(b'{"at": "20')
    with Notifier(None, [f"file:{path}"]) as notifier:
        notifier.tell(Notice.now("test", _REF, "info", "Hello."))
    torn, whole = path.read_bytes().splitlines()
    assert (torn, json.loads(whole)["message"]) == (b'{"at": "20', "Hello.")


def _fails(notice: Notice) -> None:
    raise RuntimeError("somebody else's code")


def test_one_channel_that_fails_spoils_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A callable that raises and a file that cannot be written are logged; the others hear all the same."""
    heard: list[Notice] = []
    (tmp_path / "plain").touch()
    with Notifier(None, [_fails, f"file:{tmp_path}/plain/x", heard.append]) as notifier:
        notifier.tell(Notice.now("test", _REF, "info", "Hello."))
    assert [notice.message for notice in heard] == ["Hello."]
    assert "_fails: RuntimeError" in caplog.text
    assert f"file:{tmp_path}/plain/x" in caplog.text


def test_the_log_takes_the_severity(caplog: pytest.LogCaptureFixture) -> None:
    """`log` writes a record of the notice's severity, with its parts as fields."""
    with caplog.at_level(logging.INFO), Notifier(None, ["log"]) as notifier:
        notifier.tell(Notice.now("corruption", _REF, "critical", "It is damaged.", "Mend it."))
    record: Any = caplog.records[-1]
    assert (record.levelno, record.getMessage()) == (logging.CRITICAL, "It is damaged. Mend it.")
    assert (record.ref, record.next_step) == (str(_REF), "Mend it.")


@pytest.mark.parametrize("shell", [True, False])
def test_a_notebook_shows_it(
    shell: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a shell runs the notice is displayed, escaped; elsewhere it is logged."""
    shown: list[dict[str, str]] = []
    display: Callable[..., None] = lambda data, raw: shown.append(data)  # noqa: E731
    module = types.SimpleNamespace(
        get_ipython=lambda: object() if shell else None, display=types.SimpleNamespace(display=display)
    )
    monkeypatch.setitem(__import__("sys").modules, "IPython", module)
    with Notifier(None, ["notebook"]) as notifier:
        notifier.tell(Notice.now("test", _REF, "warning", "a < b", "Do <this>."))
    if shell:
        assert shown[0]["text/plain"] == "warning: a < b Do <this>."
        assert "a &lt; b" in shown[0]["text/html"]
        assert "Do &lt;this&gt;." in shown[0]["text/html"]
    else:
        assert "a < b Do <this>." in caplog.text


@pytest.mark.parametrize(
    "channel",
    ["", "mail", "webhook", "webhook:", "webhook:ftp://x/s3cret", "webhook:http://", "webhook:http://x:y/s3cret",
     "file:", "file:  ", 42],
)  # fmt: skip
def test_a_channel_that_cannot_work_is_refused_at_once(channel: Any, tmp_path: Path) -> None:
    """Also before a manager is opened; the error names the setting and no secret."""
    for attempt in (
        lambda: open_channel(channel),
        lambda: Notifier(None, [channel]),
        lambda: Manager(Config(data_dir=tmp_path), notify=[channel]),
    ):
        with pytest.raises(ConfigError) as caught:
            attempt()
        assert caught.value.subject == "notification_channels"
        assert "s3cret" not in str(caught.value)


def test_without_channels_there_is_no_thread() -> None:
    """Nobody listens: an event starts nothing; and a closed notifier hears nothing and leaves nothing behind."""
    before = set(threading.enumerate())
    heard: list[Notice] = []
    events = EventHub()
    with Notifier(events) as silent:
        events.publish(_CORRUPTION)
        silent.tell(Notice.now("test", _REF, "info", "Hello."))
        assert set(threading.enumerate()) <= before
    with Notifier(events, [heard.append]):
        events.publish(_CORRUPTION)
    events.publish(_CORRUPTION)
    assert len(heard) == 1
    assert set(threading.enumerate()) <= before


def test_the_oldest_go_when_nobody_takes_them(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that hangs costs a bounded line: the newest thousand are kept, and that is logged."""
    gate, begun, heard = threading.Event(), threading.Event(), []

    def slow(notice: Notice) -> None:
        begun.set()
        gate.wait(20)
        heard.append(notice.message)

    with Notifier(None, [slow]) as notifier:
        notifier.tell(Notice.now("test", _REF, "info", "first"))
        assert begun.wait(10)
        for number in range(1003):
            notifier.tell(Notice.now("test", _REF, "info", str(number)))
        gate.set()
    assert heard == ["first", *map(str, range(3, 1003))]
    assert "the oldest was dropped" in caplog.text
