"""Rules about the numbers that people dial. Pure."""

from collections.abc import Iterator, Mapping

from sipdeploy.lint.rules import Finding, Subject, rule

# 3GPP TS 22.101, section 10.1.1: mobile phones treat 112 and 911 as emergency calls everywhere,
# and 000, 08, 110, 118, 119, 999 without a SIM. The others are national emergency numbers (ITU-T
# E.129) that are as short as an extension.
EMERGENCY: Mapping[str, str] = {
    "112": "the EU, and mobile phones everywhere",
    "911": "North America, and mobile phones everywhere",
    "000": "Australia",
    "08": "mobile phones without a SIM",
    "110": "Germany, China, Japan",
    "118": "Italy, Switzerland",
    "119": "Japan, Korea, Taiwan",
    "999": "the United Kingdom, Ireland, Hong Kong",
    "15": "France: ambulance",
    "17": "France: police",
    "18": "France: fire brigade",
    "190": "Brazil: police",
    "192": "Brazil: ambulance",
    "193": "Brazil: fire brigade",
}


@rule("SD322", "warning")
def emergency_number(subject: Subject) -> Iterator[Finding]:
    """Emergency number: a person in need would reach a colleague, or a recording.

    sipdeploy connects to no telephone network, so nobody answers emergency calls. A number that
    people dial in an emergency must not lead to something else. The list is that of 3GPP TS 22.101
    (10.1.1) with national numbers of ITU-T E.129; suppress the warning where the number has no
    such meaning in your country.

    Bad:
        users: {112: {name: Alice}}
    Good:
        users: {1112: {name: Alice}}
    """
    for section, entries in (("users", subject.site.users), ("services", subject.site.services)):
        for number in entries.keys() & EMERGENCY.keys():
            yield Finding(
                message=f"`{number}` is an emergency number",
                span=subject.key((section, number)),
                label=EMERGENCY[number],
                help=f"give it another number, such as `1{number}`",
            )
