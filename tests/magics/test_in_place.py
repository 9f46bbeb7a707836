"""One output that changes in place: the first is new, each further one takes its place, and an interrupt tears none."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from xprim_nb.magics import in_place
from xprim_nb.magics.in_place import InPlace


class Front:
    """What a front end is told; the stop button is pressed while the one whose text is `stop` is on its way."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []
        self.names: set[str] = set()

    def publish(self, bundle: Mapping[str, str], *, raw: bool, display_id: str, update: bool) -> None:
        """As `IPython.display.display` is called."""
        assert raw
        self.names.add(display_id)
        self.told.append((bundle["text/plain"], update))
        if bundle["text/plain"] == "stop":
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Front:
    """In place of IPython's."""
    front = Front()
    monkeypatch.setattr(in_place, "_publish", front.publish)
    return front


def _put(output: InPlace, text: str) -> None:
    output.put({"text/plain": text})


def test_the_second_takes_the_place_of_the_first(front: Front) -> None:
    """One output, however often it changes; another one has another name."""
    one, other = InPlace(), InPlace()
    for output, text in ((one, "a"), (one, "b"), (other, "c"), (one, "d")):
        _put(output, text)
    assert front.told == [("a", False), ("b", True), ("c", False), ("d", True)]
    assert len(front.names) == 2


def test_an_interrupt_of_the_first_makes_no_second_output(front: Front) -> None:
    """The stop button is heard once the output is known to be there, and what follows takes its place."""
    output, before = InPlace(), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _put(output, "stop")
    _put(output, "stopped")
    assert front.told == [("stop", False), ("stopped", True)]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_failure_is_no_output(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be shown is not there: the next is new."""

    def fail(*bundle: Any, **how: Any) -> None:
        raise OSError("the front end has gone")

    output, before = InPlace(), signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(in_place, "_publish", fail)
        with pytest.raises(OSError, match="gone"):
            _put(output, "a")
    _put(output, "b")
    assert front.told == [("b", False)]
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_show_as_well(front: Front) -> None:
    """A thread that hears no signals publishes all the same."""
    output = InPlace()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_put, output, "a").result()
    _put(output, "b")
    assert front.told == [("a", False), ("b", True)]
