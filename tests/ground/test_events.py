"""The hub tells everybody, waits for nobody, and survives whoever listens."""

from __future__ import annotations

import logging
import threading

import pytest

from xprim_nb.events import Event, EventHub, IndexStale, ModelRemoved, PullProgress, TrustNotice
from xprim_nb.refs import ModelRef

_REF = ModelRef("group", "model", "v1")
_EVENT = ModelRemoved(_REF)


def test_everybody_hears_every_event_in_order() -> None:
    """Each subscriber hears each event once, in the order of publishing."""
    hub, one, other = EventHub(), list[Event](), list[Event]()
    hub.subscribe(one.append)
    hub.subscribe(other.append)
    events = [IndexStale("demo", float(n), "offline") for n in range(5)]
    for event in events:
        hub.publish(event)
    assert one == other == events


def test_who_unsubscribes_hears_no_more() -> None:
    """Ending a subscription ends that one only, and may be done twice."""
    hub, one, other = EventHub(), list[Event](), list[Event]()
    stop = hub.subscribe(one.append)
    hub.subscribe(other.append)
    hub.publish(_EVENT)
    stop()
    stop()
    hub.publish(_EVENT)
    assert (len(one), len(other)) == (1, 2)


def test_a_callback_that_subscribed_twice_hears_twice() -> None:
    """Two subscriptions of one callback are two; ending one leaves the other."""
    hub, heard = EventHub(), list[Event]()

    def listen(event: Event) -> None:
        heard.append(event)

    stop = hub.subscribe(listen)
    hub.subscribe(listen)
    hub.publish(_EVENT)
    assert len(heard) == 2
    stop()
    hub.publish(_EVENT)
    assert len(heard) == 3


def test_a_failing_subscriber_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Its exception is logged with the kind of event; the publisher and the others go on."""
    hub, heard = EventHub(), list[Event]()

    def fail(event: Event) -> None:
        raise RuntimeError("the widget is gone")

    hub.subscribe(fail)
    hub.subscribe(heard.append)
    with caplog.at_level(logging.ERROR, "xprim_nb.events"):
        hub.publish(_EVENT)
    assert heard == [_EVENT]
    assert "the widget is gone" in caplog.text
    assert getattr(caplog.records[0], "event", None) == "ModelRemoved"


def test_subscribing_while_publishing_is_safe() -> None:
    """A subscriber may subscribe and unsubscribe others during an event; the event's audience stays as it was."""
    hub, heard = EventHub(), list[str]()

    def first(event: Event) -> None:
        heard.append("first")
        stop_second()
        hub.subscribe(lambda _: heard.append("third"))

    hub.subscribe(first)
    stop_second = hub.subscribe(lambda _: heard.append("second"))
    hub.publish(_EVENT)
    assert heard == ["first", "second"]
    hub.publish(_EVENT)
    assert heard == ["first", "second", "first", "third"]


def test_threads_do_not_lose_subscriptions() -> None:
    """Many threads that subscribe and unsubscribe at once leave exactly the subscriptions that were kept."""
    hub, heard, start = EventHub(), list[Event](), threading.Barrier(8)

    def work() -> None:
        start.wait()
        for number in range(100):
            stop = hub.subscribe(heard.append)
            if number % 2:
                stop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hub.publish(_EVENT)
    assert len(heard) == 8 * 50


@pytest.mark.parametrize(
    ("progress", "fraction"),
    [
        (PullProgress(_REF, "manifest"), 0.0),
        (PullProgress(_REF, "chunks", bytes_total=200, bytes_completed=50), 0.25),
        (PullProgress(_REF, "chunks", bytes_total=200, bytes_completed=50, bytes_in_flight=50), 0.5),
        (PullProgress(_REF, "chunks", bytes_total=200, bytes_completed=180, bytes_in_flight=50), 1.0),
        (PullProgress(_REF, "chunks"), 0.0),
        (PullProgress(_REF, "extracting"), 1.0),
    ],
)
def test_a_fraction_lies_between_none_and_all(progress: PullProgress, fraction: float) -> None:
    """Bytes in flight count, too many do not, and an empty model is done when it is put in place."""
    assert progress.fraction == fraction


@pytest.mark.parametrize(("kind", "word"), [("rollback", "rollback"), ("rewritten", "immutable")])
def test_a_trust_notice_names_both_hashes(kind: str, word: str) -> None:
    """The sentence for a person says which version, what was known and what is offered."""
    notice = TrustNotice(kind, _REF, "a" * 64, "b" * 64)  # type: ignore[arg-type]  # parametrised
    assert "group/model v1" in notice.message
    assert f"{'a' * 12} → {'b' * 12}" in notice.message
    assert word in notice.message


def test_events_are_values() -> None:
    """An event does not change after it was told."""
    with pytest.raises(AttributeError):
        _EVENT.ref = ModelRef("a", "b", "c")  # type: ignore[misc]  # the mistake is the test
    assert ModelRemoved(_REF) == _EVENT
