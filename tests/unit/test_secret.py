import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from sipdeploy.diagnostics import HIDDEN
from sipdeploy.inventory.secret import PasswordSource, Secret, credentials, ha1, hider

SECRET = Secret("hunter2")


@pytest.mark.parametrize(
    "shown",
    [
        repr(SECRET),
        str(SECRET),
        f"{SECRET}",
        f"{SECRET:>3}",
        "%s" % SECRET,  # noqa: UP031
        repr([SECRET]),
        json.dumps({"a": SECRET}, default=str),
    ],
)
def test_it_does_not_print_itself(shown):
    assert "hunter2" not in shown
    assert "[hidden]" in shown


def test_it_is_given_when_asked_for():
    assert SECRET.reveal() == "hunter2"


def test_it_cannot_be_written_out():
    with pytest.raises(TypeError):
        pickle.dumps(SECRET)
    with pytest.raises(TypeError):
        json.dumps(SECRET)
    assert copy.deepcopy([SECRET])[0] is SECRET


def test_it_equals_only_its_own_kind():
    assert Secret("x") == Secret("x") != Secret("y")
    assert Secret("x") != "x"
    assert len({Secret("x"), Secret("x")}) == 1


class Holder(BaseModel):
    password: Secret


def test_a_model_dumps_it_hidden():
    holder = Holder(password="hunter2")
    assert holder.password.reveal() == "hunter2"
    assert "hunter2" not in holder.model_dump_json() + repr(holder) + str(holder.model_dump())
    assert Holder(password=SECRET).password is SECRET


@pytest.mark.parametrize("keys", [{}, {"env": "A", "file": "b"}, {"env": ""}, {"value": "x"}])
def test_a_source_is_exactly_one(keys):
    with pytest.raises(ValidationError):
        PasswordSource.model_validate(keys)


def test_ha1_is_that_of_the_rfc():
    # RFC 2617 section 3.5: Mufasa, testrealm@host.com, "Circle Of Life"
    expected = "939e7578ed9e3c518a452acee763bce9"
    assert ha1("Mufasa", "testrealm@host.com", "Circle Of Life") == expected


def test_ha1_takes_utf8():
    # printf '1001:sip.example.com:pässword' | md5sum
    assert ha1("1001", "sip.example.com", "pässword") == "c5a6064bfaba60058dbadfa502079a42"


def test_credentials_are_all_that_leaves():
    assert credentials("d", {"1001": SECRET}) == {"1001": ha1("1001", "d", "hunter2")}


@pytest.mark.parametrize(
    ("secrets", "text", "shown"),
    [
        ([], "nothing to hide", "nothing to hide"),
        ([""], "nothing", "nothing"),
        (["abcd"], "abcd", HIDDEN),
        (["abcd"], "xabcdyabcdabc", f"x{HIDDEN}y{HIDDEN}abc"),
        (["abc", "abcdef"], "abcdef abcde", f"{HIDDEN} {HIDDEN}de"),
        (["a", "long one"], "a long one", f"{HIDDEN} {HIDDEN}"),
        (["abcd"], "abc", "abc"),
        (["abcd"], "", ""),
    ],
)
def test_secrets_are_hidden_wherever_they_stand(secrets, text, shown):
    assert hider(secrets)(text) == shown


@given(st.lists(st.text("abc", min_size=2, max_size=4)), st.text("abcd", max_size=30))
def test_no_secret_is_left_whole(secrets, text):
    shown = hider(secrets)(text)
    assert not [each for each in secrets for part in shown.split(HIDDEN) if each in part]
