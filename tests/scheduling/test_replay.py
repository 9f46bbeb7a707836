"""The log says the same again when it is replayed, and tells where it was changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from xprim_nb.errors import EngineError
from xprim_nb.scheduling.happenings import Alarm, Event, Evict, Finished, Load, Ticked
from xprim_nb.scheduling.replay import VERSION, Entry, Journal, Log, differences, dump_log, load_log, replay
from xprim_nb.scheduling.state import Foreign, State

from .scenes import GB, Scene, device, gb


def _story() -> Log:
    """Five models of 3.2 GB on 8 GB, one after the other; then a pin, a crash, another kernel, and a wait."""
    scene = Scene(8.0)
    first = scene.state
    scene.have("a", "b")
    for name, leaves in (("c", "a"), ("d", "b"), ("e", "c")):
        scene.ask(name, after=1.0)
        scene.left(leaves)
        scene.loaded(name)
        scene.finish(scene.number)
    scene.pin("e")
    scene.crashed("d", left=gb(gpu=0.5))
    scene.recovered("d")
    scene.look(device("gpu", 8, 0.5, 7), foreign=(Foreign("l1", "x", gb(gpu=1), 4711, evictable=True),))
    scene.ask("a", 4.0, "realtime", slots=2)
    scene.wait(0.5)
    return Log(first, tuple(scene.log))


def _parked() -> Log:
    """Parked and woken: options with charges of their own."""
    scene = Scene(devices=(device("gpu", 4), device("cpu", 16)), parked=gb(gpu=0.5, cpu=3))
    first = scene.state
    scene.have("a")
    scene.ask("b")
    scene.left("a", parked=True)
    scene.loaded("b")
    scene.finish(2)
    scene.ask("a")
    scene.left("b", parked=True)
    scene.loaded("a")
    return Log(first, tuple(scene.log))


# --- replaying -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tell", [_story, _parked])
def test_a_log_replays_to_equal_decisions(tell: Callable[[], Log]) -> None:
    """From the same state the same events give the same effects, also after they were written and read."""
    log = tell()
    assert replay(log.state, (entry.event for entry in log.entries)) == log
    assert differences(log) == []
    again = load_log(dump_log(log))
    assert again == log
    assert differences(again) == []
    assert dump_log(again) == dump_log(log)


def test_a_state_in_the_midst_is_written_whole() -> None:
    """A log that begins while models answer, wait and leave goes on as the first one did."""
    log = _story()
    journal = Journal(log.state)
    for number, entry in enumerate(log.entries):
        rest = Log(journal.state, log.entries[number:])
        again = load_log(dump_log(rest))
        assert again == rest
        assert differences(again) == []
        journal.decide(entry.event)


def test_an_entry_that_was_changed_is_reported() -> None:
    """Another effect than the one that was decided is named, with the number of its entry, its event and both."""
    log = _story()
    number = next(
        number
        for number, entry in enumerate(log.entries)
        if any(isinstance(each, Evict) for each in entry.effects)
    )
    old = log.entries[number]
    changed = tuple(
        replace(each, model="numpy:b") if isinstance(each, Evict) else each for each in old.effects
    )
    tampered = Log(log.state, (*log.entries[:number], Entry(old.event, changed), *log.entries[number + 1 :]))
    found = differences(load_log(dump_log(tampered)))
    assert found == [
        f"entry {number + 1}, Arrived at {old.event.at}: was {list(changed)}, is {list(old.effects)}"
    ]


def test_an_event_that_was_changed_is_reported_where_it_tells() -> None:
    """A model that is said to have taken more than it did leaves less for the others."""
    lines = dump_log(_story()).splitlines()
    number = next(number for number, line in enumerate(lines) if '"is":"Loaded"' in line)
    document = json.loads(lines[number])
    document["event"]["charges"] = [["gpu", 6 * GB]]
    lines[number] = json.dumps(document)
    found = differences(load_log("\n".join(lines) + "\n"))
    assert found
    assert found[0].startswith("entry 4, Arrived at ")


def test_an_entry_that_was_left_out_is_reported() -> None:
    """What followed from it is not decided again."""
    log = _story()
    assert differences(Log(log.state, log.entries[1:]))[0].startswith("entry 1, Loaded at 101.0: was [Start(")


# --- the journal ---------------------------------------------------------------------------------


def test_a_journal_decides_and_remembers() -> None:
    """Its effects are those of the policy, and its log replays."""
    log = _story()
    journal = Journal(log.state)
    effects = [journal.decide(entry.event) for entry in log.entries]
    assert effects == [entry.effects for entry in log.entries]
    remembered = [
        entry
        for entry in log.entries
        if not isinstance(entry.event, Ticked) or any(not isinstance(each, Alarm) for each in entry.effects)
    ]
    assert list(journal.log.entries) == remembered
    assert journal.log.state == log.state
    assert differences(journal.log) == []


def test_an_alarm_that_rang_for_nothing_is_not_remembered() -> None:
    """One that something followed from is."""
    scene = Scene(8.0)
    scene.ask("a")
    scene.load_fails("a")
    journal = Journal(scene.state)
    assert journal.decide(Ticked(100.5)) == (Alarm(101.0),)
    assert journal.log.entries == ()
    assert journal.state.now == 100.5
    effects = journal.decide(Ticked(101.0))
    assert [type(each) for each in effects] == [Load]
    assert list(journal.log.entries) == [Entry(Ticked(101.0), effects)]


def test_a_journal_forgets_the_older_half() -> None:
    """What is left begins with the state of that moment, and replays."""
    log = _story()
    journal = Journal(log.state, kept=5)
    lengths = []
    for entry in log.entries:
        journal.decide(entry.event)
        lengths.append(len(journal.log.entries))
    assert max(lengths) == 9
    assert min(lengths[9:]) >= 5
    kept = journal.log
    assert kept.state != log.state
    assert (
        kept.entries
        == tuple(entry for entry in log.entries if not isinstance(entry.event, Ticked))[-len(kept.entries) :]
    )
    assert differences(kept) == []


# --- as text -------------------------------------------------------------------------------------


def test_the_text_is_a_line_for_the_state_and_one_for_each_event() -> None:
    """Names of types are in it, and what has its default is not."""
    state = State((device("gpu", 8),), now=1.0)
    lines = dump_log(replay(state, [Finished(2.0, "é")])).splitlines()
    assert json.loads(lines[0]) == {
        "version": VERSION,
        "state": {"devices": [{"id": "gpu", "budget_bytes": 8 * GB}], "models": {}, "now": 1.0},
    }
    assert lines[1] == '{"event":{"is":"Finished","at":2.0,"request_id":"é"},"effects":[]}'


def test_a_line_that_was_cut_off_at_the_end_is_left_out() -> None:
    """Its writer was stopped; whatever was written whole is read."""
    log = _story()
    text = dump_log(log)
    for cut in (2, 20):
        assert load_log(text[:-cut]) == Log(log.state, log.entries[:-1])
    assert load_log(text.replace("\n", "\n\n")) == log


def _answering(ids: str) -> str:
    """A log whose state has a model that answers these."""
    model = f'{{"key": "m", "options": [], "in_flight": {ids}}}'
    return f'{{"version": 1, "state": {{"models": {{"m": {model}}}}}}}\n'


def _line(text: str) -> str:
    """A log of one event, which is this text."""
    head = dump_log(Log(State(), ())).strip()
    return f"{head}\n{text}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Line 1 of the log has no state"),
        ('{"state": {}, "ver', "Line 1 of the log has no state"),
        ("[]\n", "Line 1 of the log has no state"),
        ('{"version": 1}\n', "Line 1 of the log has no state"),
        ('{"version": 2, "state": {}}\n', "The log has version 2, and this program reads version 1"),
        ('{"state": {}}\n', "The log has version None"),
        ('{"version": 1, "state": {"moon": 1}}\n', "Line 1 of the log cannot be read: KeyError"),
        ('{"version": 1, "state": {"now": "late"}}\n', "Line 1 of the log cannot be read: TypeError"),
        ('{"version": 1, "state": 5}\n', "Line 1 of the log cannot be read: AttributeError"),
        (_answering('"abc"'), "'abc' is no list"),
        (_answering("[1]"), "1 is no str"),
        (_line("not json"), "Line 2 of the log is no JSON"),
        (_line("[]"), "Line 2 of the log cannot be read: TypeError"),
        (_line('{"event": {"is": "Ticked", "at": 1.0}}'), "Line 2 of the log cannot be read: KeyError"),
        (_line('{"event": {"is": "State"}, "effects": []}'), "'State' is neither an event nor an effect"),
        (_line('{"event": {"is": "Event"}, "effects": []}'), "'Event' is neither an event nor an effect"),
        (_line('{"event": {"is": "Ticked"}, "effects": []}'), "TypeError"),
        (_line('{"event": {"is": "Ticked", "at": true}, "effects": []}'), "True is no float"),
        (
            _line('{"event": {"is": "Left", "at": 1, "model": "m", "parked": 0}, "effects": []}'),
            "0 is no bool",
        ),
        (
            _line(
                '{"event": {"is": "Ticked", "at": 1}, '
                '"effects": [{"is": "Evict", "model": "m", "to": "moon", "reason": ""}]}'
            ),
            "'moon' is none of",
        ),
        (
            _line(
                '{"event": {"is": "Left", "at": 1, "model": "m", "parked": true, "charges": [["gpu", 1, 2]]},'
                ' "effects": []}'
            ),
            "Line 2 of the log cannot be read: ValueError",
        ),
    ],
)
def test_what_is_no_log_is_told_with_its_line(text: str, told: str) -> None:
    """Whatever was changed or cut: one error, and where."""
    with pytest.raises(EngineError) as caught:
        load_log(text)
    assert told in str(caught.value)
    assert caught.value.hint


def test_whole_numbers_are_read_as_times() -> None:
    """Other writers of JSON drop the fraction."""
    event: Event = load_log(_line('{"event": {"is": "Ticked", "at": 1}, "effects": []}')).entries[0].event
    assert isinstance(event.at, float)
    assert event == Ticked(1.0)
