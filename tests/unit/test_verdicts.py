import pytest

from sipdeploy.inventory.site import load_site, plain_path

HEAD = "domain: a.example\nemail: a@a.example\nhosts: {h: {address: 203.0.113.10}}\n"


def helps(text):
    return [problem.help for problem in load_site(HEAD + text, "x")[1]]


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (("users", "1", "password", "<mapping>", "env"), ("users", "1", "password", "env")),
        (("secrets", "<text>"), ("secrets",)),
        (("users", "1", "<text>"), ("users", "1", "<text>")),
        (("users", "1", "password", "<mapping>", "<text>"), ("users", "1", "password", "<text>")),
    ],
)
def test_the_path_is_that_of_the_document(location, path):
    assert plain_path(location) == path


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("users: {}\nport: {}\n", "did you mean `ports`?"),
        ("users: {1001: {Name: x}}\n", "did you mean `name`?"),
        ("users: {1001: {max-contacts: 1}}\n", "did you mean `max_contacts`?"),
        ("user: {}\n", "did you mean `users`?"),  # not: `users` is missing
        ("users: {}\nversions: {kamalio: 1}\n", "did you mean `kamailio`?"),
        ("users: {}\nsecrets: {cmd: x}\n", "add `command: sops -d secrets.enc.yaml`"),
    ],
)
def test_a_near_key_is_offered(text, advice):
    assert advice in helps(text)
