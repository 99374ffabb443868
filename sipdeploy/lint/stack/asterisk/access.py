"""Rules about who may call as an endpoint of pjsip.conf, and with which password."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sipdeploy.lint.secrets import weakness
from sipdeploy.lint.stack.asterisk.config import names
from sipdeploy.lint.stack.asterisk.dialplan import dialled, dialplan
from sipdeploy.lint.stack.asterisk.pjsip import (
    Pjsip,
    at_section,
    at_setting,
    is_open,
    pjsip,
)
from sipdeploy.lint.stack.rules import Finding, Stack, rule

if TYPE_CHECKING:
    from sipdeploy.lint.stack.asterisk.config import Section, Setting

_PLACEHOLDER = re.compile(r"(?i)password_?here|your_?(?:password|secret)|change_?me|strong_?passw")
_GUARDS = ("auth", "acl", "permit", "deny")


@rule("SD835", "error")
def unreachable_endpoint(stack: Stack) -> Iterator[Finding]:
    """Endpoint that is dialled and has no `aors`: Asterisk does not know where it is.

    Bad: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        auth=1001
        [1001]
        type=auth
        ; /etc/asterisk/extensions.conf
        [in]
        exten => 1001,1,Dial(PJSIP/1001)
    Good: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        auth=1001
        aors=1001
        [1001]
        type=auth
        [1001]
        type=aor
        ; /etc/asterisk/extensions.conf
        [in]
        exten => 1001,1,Dial(PJSIP/1001)
    """
    objects, plan = pjsip(stack), dialplan(stack)
    told = set()
    for call in dialled(plan) if objects and plan else ():
        endpoint = objects.by_name.get(("endpoint", call.endpoint)) if objects else None
        if endpoint is None or endpoint.get("aors") or call.has_uri or endpoint.name in told:
            continue
        told.add(endpoint.name)
        yield at_section(
            endpoint,
            f"the endpoint `{endpoint.name}` is dialled, but has no `aors`",
            f"add `aors={endpoint.name}` and a section `[{endpoint.name}]` with `type=aor`",
            other=((call.step.setting.file, call.start, call.end, "dialled here"),),
        )


def _by_name(objects: Pjsip) -> Iterator[Section]:
    """Endpoints without password and address filter that the name in From identifies."""
    glob = next(iter(objects.of("global")), None)
    order = glob.get("endpoint_identifier_order", "username") if glob else "username"
    if "username" not in names(order):
        return
    for endpoint in objects.of("endpoint"):
        is_guest = endpoint.name.partition("@")[0] == "anonymous"
        methods = names(endpoint.get("identify_by", "username,ip"))
        is_guarded = any(endpoint.get(key) for key in _GUARDS)
        if "username" in methods and not is_guest and not is_guarded:
            yield endpoint


def _identified(objects: Pjsip) -> set[str]:
    return {identify.get("endpoint") for identify in objects.of("identify")}


@rule("SD836", "error")
def open_endpoint(stack: Stack) -> Iterator[Finding]:
    """Open endpoint: anybody who writes its name into From calls as it, without password.

    An endpoint of a trunk or of a proxy is often made this way. `identify_by=ip` with a section
    of `type=identify` takes calls from one address only.

    Bad: /etc/asterisk/pjsip.conf
        [proxy]
        type=endpoint
        context=in
    Good: /etc/asterisk/pjsip.conf
        [proxy]
        type=endpoint
        identify_by=ip
        context=in
        [proxy]
        type=identify
        endpoint=proxy
        match=127.0.0.1
    """
    objects = pjsip(stack)
    identified = _identified(objects) if objects else set()
    for endpoint in _by_name(objects) if objects else ():
        if endpoint.name not in identified and objects and objects.is_closed("identify"):
            yield at_section(
                endpoint,
                f"anybody who writes `{endpoint.name}` into From calls as this endpoint",
                f"add `identify_by=ip`, and a section with `type=identify`, "
                f"`endpoint={endpoint.name}` and `match=` its address; or add `auth=`",
                label="no `auth`, and identified by name",
            )


@rule("SD837", "warning")
def endpoint_by_name_too(stack: Stack) -> Iterator[Finding]:
    """Endpoint with an `identify` section that From identifies as well, from any address.

    The default is `identify_by=username,ip`, so the address is not required: who knows the name of
    the endpoint calls as it.

    Bad: /etc/asterisk/pjsip.conf
        [trunk]
        type=endpoint
        context=in
        [trunk]
        type=identify
        endpoint=trunk
        match=192.0.2.1
    Good: /etc/asterisk/pjsip.conf
        [trunk]
        type=endpoint
        context=in
        identify_by=ip
        [trunk]
        type=identify
        endpoint=trunk
        match=192.0.2.1
    """
    objects = pjsip(stack)
    identified = _identified(objects) if objects else set()
    for endpoint in _by_name(objects) if objects else ():
        if endpoint.name in identified:
            yield at_section(
                endpoint,
                f"`{endpoint.name}` is identified by its address, but also by its name in From",
                "add `identify_by=ip`",
            )


def _passwords(objects: Pjsip) -> Iterator[tuple[Section, Setting]]:
    """Sections and clear passwords of those who call in; ours for others must be clear."""
    outbound = {
        name
        for kind in ("endpoint", "registration", "outbound-publish")
        for section in objects.of(kind)
        for name in names(section.get("outbound_auth"))
    }
    inbound = {name for each in objects.of("endpoint") for name in names(each.get("auth"))}
    for auth in objects.of("auth"):
        password = auth.values.get("password")
        is_clear = auth.get("auth_type", "userpass").lower() in {"userpass", "digest"}
        is_ours = auth.name in outbound and auth.name not in inbound
        if (
            password
            and is_clear
            and not is_ours
            and password.value
            and not is_open(password.value)
        ):
            yield auth, password


@rule("SD840", "warning")
def clear_password(stack: Stack) -> Iterator[Finding]:
    """Password in clear in pjsip.conf: whoever reads the file, or a backup of it, has it.

    Asterisk also takes the MD5 of `USER:REALM:PASSWORD`, which is of use for this realm only.

    Bad: /etc/asterisk/pjsip.conf
        [1001]
        type=auth
        username=1001
        password=fmK4tXw9Rd2zHq7pVb3n
    Good: /etc/asterisk/pjsip.conf
        [1001]
        type=auth
        auth_type=md5
        username=1001
        md5_cred=0f2c5b6de1c2cb2ae9c0cd7c9a3e9f3e
    """
    objects = pjsip(stack)
    for auth, password in _passwords(objects) if objects else ():
        yield at_setting(
            password,
            f"the password of `{auth.get('username', auth.name)}` is in clear",
            "write `auth_type=md5`, and `md5_cred=` the MD5 of `USER:REALM:PASSWORD`",
        )


@rule("SD841", "error")
def weak_password(stack: Stack) -> Iterator[Finding]:
    """Weak password in pjsip.conf: scanners find it within hours, and call at your expense.

    Bad: /etc/asterisk/pjsip.conf
        [1001]
        type=auth
        username=1001
        password=1234
    Good: /etc/asterisk/pjsip.conf
        [1001]
        type=auth
        username=1001
        password=fmK4tXw9Rd2zHq7pVb3n
    """
    objects = pjsip(stack)
    for auth, password in _passwords(objects) if objects else ():
        user = auth.get("username") or auth.name
        is_left = _PLACEHOLDER.search(password.value)
        reason = "a placeholder" if is_left else weakness(password.value, user.lower(), "")
        if reason:
            yield at_setting(
                password,
                f"the password of `{user}` is weak",
                "write a long random one, as `openssl rand -base64 18` prints",
                label=reason.replace("the number", "the user name"),
            )
