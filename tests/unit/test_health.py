"""When a host does clearly worse than before a change, and when it only looks so."""

from collections import Counter
from dataclasses import replace

import pytest

from sipdeploy.operation.events import Call, PhoneChange, Refusal
from sipdeploy.operation.health import Reading, at_least, in_words, reading, worse

PAIR = ("1001", "1002")
UNITS = "Id={}.service\nActiveState={}\nNRestarts={}\nExecMainStartTimestampMonotonic=1\n"


def call(caller="1001", callee="1002", status=200, **more):
    answered = 10 if status == 200 else None
    values = {"kind": "phone", "answered": answered, **more}
    return Call(when=20.0, id="x", caller=caller, callee=callee, status=status, **values)


def pairs(failed, fine, *, callers=99, callees=99):
    """Outcomes of calls between so many callers and callees."""
    rows = [True] * failed + [False] * fine
    return {(f"1{i % callers:03}", f"2{i % callees:03}"): row for i, row in enumerate(rows)}


def answers(number, *, callers=99, callees=99):
    """So many answered calls."""
    return Counter((f"1{i % callers:03}", f"2{i % callees:03}") for i in range(number))


QUIET = Reading(seconds=3600, registered=40, outcomes=pairs(1, 29), answered=answers(21))


def after(**values):
    """Two readings of the same state."""
    now = Reading(**{"seconds": 120.0, "registered": 40, **values})
    return [now, now]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"registered": 11}, "11 users registered, 40 before"),
        ({"registered": 28}, ""),
        ({"registered": 27}, "27 users registered, 40 before"),
        ({"registered": 11, "seconds": 50.0}, ""),
        ({"registered": None}, ""),
        ({"outcomes": pairs(4, 0)}, "4 of 4 calls failed, 1 of 30 before"),
        ({"outcomes": pairs(4, 0, callers=2)}, ""),
        ({"outcomes": pairs(6, 0, callers=2)}, "6 of 6 calls failed, 1 of 30 before"),
        ({"outcomes": pairs(3, 0)}, ""),
        ({"outcomes": pairs(4, 40)}, ""),
        (
            {"seconds": 1800.0, "answered": {}},
            "no call was answered, 10 were in the same time before",
        ),
        ({"seconds": 1700.0, "answered": {}}, ""),
        ({"seconds": 1800.0, "answered": answers(1)}, ""),
        ({"down": ("asterisk.service",)}, "asterisk.service does not run"),
    ],
)
def test_only_what_is_clear_counts(changes, reason):
    assert worse(QUIET, after(**changes)) == ((reason,) if reason else ())


def test_registrations_count_in_two_readings():
    good, bad = after(), after(registered=3)
    assert worse(QUIET, [good[0], bad[0]]) == ()
    assert worse(QUIET, [bad[0], good[0]]) == ()
    assert worse(QUIET, []) == worse(QUIET, bad[:1]) == ()


@pytest.mark.parametrize(
    "outcomes",
    [
        {(f"100{n}", "1009"): True for n in range(1, 9)},  # a phone that answers 500
        {("1009", f"700{n}"): True for n in range(1, 9)},  # dials numbers that do not exist
        {("1009", "7001"): True, ("1009", "7002"): True, ("1001", "1009"): True}
        | {("1002", "1009"): True, ("1003", "1004"): True, ("1004", "1003"): True},
        {("1009", f"700{n}"): True for n in range(1, 9)} | pairs(2, 0),
    ],
)
def test_one_user_alone_makes_no_calls_look_worse(outcomes):
    assert worse(QUIET, after(outcomes=outcomes)) == ()


def test_calls_of_numbers_that_go_are_left_out():
    others, gone = {("1001", "1002"): True}, {("1001", "1009"): True, ("1008", "1001"): False}
    found = replace(QUIET, outcomes=others | gone, answered={PAIR: 2, ("1008", "1001"): 1})
    left = replace(QUIET, outcomes=others, answered={PAIR: 2})
    assert found.without({"1008", "1009"}) == left


def test_one_user_alone_makes_the_time_before_look_no_better():
    usual, now = pairs(9, 36), after(outcomes=pairs(5, 20))
    idle = {("1999", f"3{n:03}"): False for n in range(500)}  # he has cancelled them all
    assert worse(replace(QUIET, outcomes=usual), now) == ()
    assert worse(replace(QUIET, outcomes=usual | idle), now) == ()


@pytest.mark.parametrize("few", [{"callers": 1}, {"callees": 1}, {"callers": 1, "callees": 1}])
def test_one_user_who_stops_calling_is_not_missed(few):
    silent = after(seconds=1800.0, answered={})
    assert worse(replace(QUIET, answered=answers(900, **few)), silent) == ()
    busy = answers(900, **few) + answers(22)
    assert len(worse(replace(QUIET, answered=busy), silent)) == 1


def test_a_few_phones_are_missed_only_if_all_are_gone():
    few = replace(QUIET, registered=3)
    assert worse(few, after(registered=1)) == ()
    assert worse(few, after(registered=0)) == ("0 users registered, 3 before",)
    assert worse(replace(QUIET, registered=2), after(registered=0)) == ()
    assert worse(replace(QUIET, registered=None), after(registered=0)) == ()


def test_a_daemon_that_ended_is_noticed_and_one_that_the_apply_restarted_is_not():
    first = Reading(seconds=1.0, restarts={"kamailio.service": 2})
    last = replace(first, seconds=9.0)
    assert worse(QUIET, [first, last]) == ()
    assert worse(QUIET, [first, replace(last, restarts={"kamailio.service": 3})]) == (
        "kamailio.service ended unexpectedly and was restarted",
    )


def test_without_calls_before_more_is_needed():
    idle = replace(QUIET, outcomes={}, answered={})
    assert worse(idle, after(outcomes=pairs(5, 0))) == ()
    assert worse(idle, after(outcomes=pairs(10, 0))) == ()
    assert worse(idle, after(outcomes=pairs(12, 0))) == ("12 of 12 calls failed, 0 of 0 before",)


def test_the_probability_of_chance():
    assert at_least(0, 5, 0.2) == pytest.approx(1.0)
    assert at_least(5, 5, 0.5) == pytest.approx(0.03125)
    assert at_least(1, 2, 1.0) == 1.0
    assert 0 <= at_least(4000, 5000, 0.01) < 1e-300 or at_least(4000, 5000, 0.01) == 0.0


@pytest.mark.parametrize(
    ("event", "failed"),
    [
        (call(), False),
        (call(status=486), False),
        (call(status=487), False),
        (call(status=603), False),
        (call(status=408, rang=12), False),
        (call(status=408), True),
        (call(status=404), True),
        (call(status=480, phones=0), True),
        (call(status=503), True),
        (call(status=480, kind="mailbox", answered=15), False),
    ],
)
def test_which_calls_are_failures(event, failed):
    found = reading({}, [event], 60)
    assert list(found.outcomes.values()) == [failed]


def test_strangers_and_repeated_calls_change_nothing():
    refused = {"method": "INVITE", "status": 403, "address": "192.0.2.9:1"}
    stranger = Refusal(when=1, why="x", claims="1001", callee="1002", **refused)
    flood = Refusal(when=1, why="Flood", number="1001", callee="1002", **refused)
    phone = PhoneChange(when=1, what="lost", number="1001", address="", device="")
    unknown = call(kind="", status=0)  # began before Kamailio started
    assert reading({}, [stranger, flood, phone, unknown], 60).outcomes == {}
    own = Refusal(when=1, why="Not Found", number="1001", callee="7000", **refused)
    again = [call(status=480), call(status=480), call(status=200), own, own]
    assert reading({}, again, 60).outcomes == {("1001", "1002"): False, ("1001", "7000"): True}


def test_what_a_host_says_is_read():
    answer = {
        "contacts": "usrloc:location-contacts = 97\nusrloc:location-users = 42\n",
        "units": UNITS.format("kamailio", "active", 1)
        + "\n"
        + UNITS.format("asterisk", "failed", 0),
    }
    found = reading(answer, [call()], 60)
    assert (found.registered, found.answered, found.failed) == (42, {PAIR: 1}, 0)
    assert found.restarts == {"kamailio.service": 1, "asterisk.service": 0}
    assert found.down == ("asterisk.service",)
    assert reading({"contacts": "usrloc:location_users = 3"}, [], 60).registered == 3
    assert reading({"units": "?", "contacts": "error"}, [], 60) == Reading(seconds=60)
    assert in_words(QUIET, found) == (
        "42 registered (before: 40), 0 of 1 call failed (before: 1 of 30)"
    )
