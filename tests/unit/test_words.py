"""What an apply changed, in words."""

import pytest

from sipdeploy.plan.words import in_words, listed, minutes

TURNED_OFF = (
    "changes users and services, firewall and relay; reloads asterisk and kamailio; stops coturn"
)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (
            ["~ /etc/kamailio/kamailio.cfg (restart kamailio)", "! restart kamailio.service"],
            "changes routing; restarts kamailio",
        ),
        (
            [
                "~ /etc/kamailio/sipdeploy.db (reload kamailio)",
                "~ /etc/asterisk/pjsip_users.conf (edited on the host) (reload asterisk)",
                "+ /etc/sipdeploy/firewall.nft",
                "- /etc/coturn/turnserver.conf",
                "! reload asterisk.service",
                "! reload kamailio.service",
                "! stop coturn.service",
                "! enable certbot.timer",
            ],
            TURNED_OFF,
        ),
        (
            [
                "+ package kamailio 6.0.1",
                "+ package asterisk 22",
                "+ /etc/kamailio/kamailio.cfg",
                "! start kamailio.service",
            ],
            "first configuration of the host; installs 2 packages; starts kamailio",
        ),
        (
            [f"~ package kamailio{each} 6.0.1-1 -> 6.0.2-1" for each in ("", "-a", "-b", "-c")],
            "brings kamailio 6.0.2-1, kamailio-a 6.0.2-1 and 2 more packages",
        ),
        (["+ /srv/own"], "changes /srv/own"),
        (["what no version has said"], "1 change"),
        ([], "0 changes"),
    ],
)
def test_a_release_is_told_in_words(lines, text):
    assert in_words(lines) == text


def test_a_change_of_users_is_told_as_one():
    lines = ["~ /etc/kamailio/sipdeploy.db (reload kamailio)", "! reload kamailio.service"]
    assert in_words(lines, is_users=True) == "users only; reloads kamailio"


def test_lists_and_times_are_read_aloud():
    assert [listed([]), listed(["a"]), listed(["a", "b"])] == ["", "a", "a and b"]
    times = [(-3, "0 s"), (119, "119 s"), (600, "10 min"), (3600, "1 h"), (7500, "2 h 5 min")]
    assert [minutes(seconds) for seconds, _ in times] == [text for _, text in times]
