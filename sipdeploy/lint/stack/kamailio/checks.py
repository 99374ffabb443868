"""What functions and comparisons say about a request, its sender and its destination."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from sipdeploy.lint.stack.kamailio.syntax import Assign, Call, Compare, Condition, Tokens

if TYPE_CHECKING:
    from sipdeploy.lint.stack.kamailio.tokens import Token


class Fact(NamedTuple):
    """Something that is known on a path.

    `digest`, `address`, `memory`: who sends it, by a password, by the address, by what Kamailio
    stored of it before. `loopback`, `port`, `from`: what proves less, with the place. `foreign`:
    the From is of another domain. `domain`, `destination`: the request is for this server; it goes
    where the configuration says. `loose`: it follows its Route. `opaque`: a script or a database
    judged it. `identity`: the user of the password is the one in From or To.
    """

    kind: str
    token: Token | None = None


Facts = frozenset[Fact]
NOTHING: Facts = frozenset()
PROOFS = {"digest", "address", "memory", "opaque"}

_METHODS = re.compile(r"[A-Z]{3,}")
_ONLY_METHODS = re.compile(r"[\^$()|A-Z]+")


@dataclass(frozen=True)
class Request:
    """A request of a stranger that walks through the routes."""

    name: str
    method: str
    has_totag: bool

    def answers(self, call: Call) -> bool | None:
        """Whether a function succeeds for this request; None: it depends."""
        if call.name == "is_method":
            methods = call.argument(0)
            return None if methods is None else self.method in methods.upper().split("|")
        if call.name == "has_totag":
            return self.has_totag
        if call.name in {"mf_process_maxfwd_header", "sanity_check", "is_request"}:
            return True
        if not self.has_totag and call.name in _IN_DIALOG_ONLY:
            return False
        return None

    def compares(self, condition: Condition) -> bool | None:
        """Whether a comparison of the method or To tag holds; None: it is of something else."""
        if not isinstance(condition, Compare) or len(condition.left) != 1:
            return None
        left, right = condition.left[0].value, condition.right[0].value if condition.right else ""
        positive = condition.operator in {"==", "=~"}
        if left in {"method", "$rm"}:
            if condition.operator in {"==", "!="}:
                return (self.method == right.upper()) == positive
            if self.method in _METHODS.findall(right):
                return positive
            return not positive if _ONLY_METHODS.fullmatch(right) else None
        if left == "$tt" and right in {"$null", ""} and condition.operator in {"==", "!="}:
            return self.has_totag != positive
        return None


REQUESTS = (
    Request("REGISTER", "REGISTER", has_totag=False),
    Request("INVITE", "INVITE", has_totag=False),
    Request("ACK", "ACK", has_totag=True),
    Request("BYE", "BYE", has_totag=True),
)

_LOOSE = {"loose_route", "loose_route_mode", "loose_route_preloaded"}
_IN_DIALOG_ONLY = _LOOSE | {
    "t_check_trans",
    "t_precheck_trans",
    "t_lookup_request",
    "t_lookup_cancel",
    "is_known_dlg",
}
RELAYS = {
    "t_relay",
    "t_relay_to",
    "t_relay_to_udp",
    "t_relay_to_tcp",
    "t_relay_to_tls",
    "t_relay_to_sctp",
    "t_forward_nonack",
    "forward",
    "forward_udp",
    "forward_tcp",
    "forward_tls",
}
SINKS = {
    "save": "save",
    "lookup": "lookup",
    "lookup_branches": "lookup",
    **dict.fromkeys(RELAYS, "relay"),
    **dict.fromkeys(_LOOSE, "loose"),
}

# Success of these functions proves the sender by a password, token, certificate or subscription.
_DIGEST = re.compile(
    r".*(authenticate|authorize|auth_check|autheph_(check|www|proxy)|auth_xkeys_check|jwt_verify"
    r"|verify_key|is_subscriber|is_peer_verified|secsipid_check|auth_check_identity).*"
)
_ADDRESS = re.compile(
    r"allow_(source_)?address(_group)?|allow_source_address_group|allow_trusted|from_(any_)?gw"
    r"|is_from_gw|ds_is_from_list\w*|ds_is_addr_from_list|is_in_subnet|is_ip_rfc1918|ip_is_in_\w+"
    r"|compare_(pure_)?ips|src_ip_in\w*|kz_\w+|pcscf_is_registered|ipsec_\w+"
)
_MEMORY = re.compile(
    r"registered|is_registered|sht_match_\w+|is_in_location|pcscf_\w+|\w+_registered"
)
# They run code or ask a database; what that decides is in variables, which no walk follows.
_OPAQUE = re.compile(
    r"(lua|python|perl|jsdt|sqlang|ruby|mono|http|https|curl|sql|evapi|redis|exec|radius|nats"
    r"|rabbitmq|ldap|dp|avp_db|mt|jsonrpc|kafka|diameter|mongodb|memcached|erl|cdp)(_\w+)?"
)
_DESTINATION = re.compile(
    r"lookup\w*|ds_select\w*|ds_next\w*|alias_db_lookup|cr_\w+|next_gw|load_gws|do_routing\w*"
    r"|use_next_gw|t_(load|next)_contacts|rewrite(host|hostport|uri)|sethost\w*|seturi|reg_\w+"
    r"|(i_|isn_)?enum_\w+|prefix2domain|pdt\w*|sd_lookup|get_redirects|I_\w+|lost_\w+|setdsturi"
    r"|route_to_\w+|km_\w+|prefix_route\w*|handle_publish|handle_subscribe|t_relay_to_\w+|kz_\w+"
)
_DOMAIN = {"is_myself", "is_uri_host_local", "is_domain_local", "lookup_domain", "is_domain_name"}
_FROM = {"is_from_local", "check_from"}
_REWRITING = ("uri", "$r", "$d")


@lru_cache(maxsize=4096)
def _learned(name: str, *, has_arguments: bool) -> tuple[Facts, Facts]:
    yes: set[Fact] = set()
    no: set[Fact] = set()
    if _DIGEST.fullmatch(name):
        yes.add(Fact("digest"))
    if _ADDRESS.fullmatch(name):
        yes.add(Fact("address"))
    if _MEMORY.fullmatch(name):
        yes.add(Fact("memory"))
    if _OPAQUE.fullmatch(name):
        yes.add(Fact("opaque"))
        no.add(Fact("opaque"))
    if _DESTINATION.fullmatch(name) or (name in RELAYS and has_arguments):
        yes.add(Fact("destination"))
    if name in _DOMAIN:
        yes.add(Fact("domain"))
    if name in _LOOSE:
        yes.add(Fact("loose"))
    if name in _IDENTITY or (_DIGEST.fullmatch(name) and not _ANY_USER.fullmatch(name)):
        yes.add(Fact("identity"))
    return frozenset(yes), frozenset(no)


# These accept any user with a password; those with a flag can compare the user with From or To.
_ANY_USER = re.compile(r"(pv_)?auth_check|(\w+_)?(www|proxy)_(authenticate|authorize)")
_FLAG_OF = {"auth_check": 2, "pv_auth_check": 3}
_IDENTITY = {"check_to", "check_from", "db_check_to", "db_check_from", "uid_check_to"}


def learned(call: Call) -> tuple[Facts, Facts]:
    """The facts after success and after failure of a function."""
    if call.name in _FLAG_OF and call.argument(_FLAG_OF[call.name]) not in {None, "0"}:
        yes, no = _learned(call.name, has_arguments=True)
        return yes | {Fact("identity")}, no
    if call.name in _FROM:
        return frozenset({Fact("from", call.token)}), frozenset({Fact("foreign")})
    return _learned(call.name, has_arguments=bool(call.arguments))


def forgotten(call: Call) -> tuple[str, ...]:
    """The beginnings of conditions that a function may change."""
    return _REWRITING if _DESTINATION.fullmatch(call.name) else ()


_FLAGS = {"setflag", "setbflag", "setsflag", "resetflag", "resetbflag", "resetsflag"}
FLAG_TESTS = {"isflagset", "isbflagset", "issflagset"}


def matters(call: Call) -> bool:
    """Whether a walk learns anything from a function."""
    yes, no = learned(call)
    known = call.name in SINKS or call.name in _FLAGS or call.name in FLAG_TESTS
    return bool(yes or no) or known or any(r.answers(call) is not None for r in REQUESTS)


def flag(call: Call) -> str:
    """The name of a flag, by its kind and argument."""
    kind = re.sub(r"^(is|re)?(set)?([bs]?)flag(set)?$", r"\3", call.name)
    return f"{kind}:{call.argument(0)}"


# What two sides that are equal tell, by the left one, and what they tell if they are not.
_TELLS = {
    **dict.fromkeys(("$si", "src_ip", "$siz", "$sas"), ("address", "")),
    **dict.fromkeys(("$au", "$aU", "$Au"), ("identity", "")),
    **dict.fromkeys(("$sp", "src_port"), ("port", "")),
    **dict.fromkeys(("from_uri", "$fd", "$fu"), ("from", "foreign")),
    **dict.fromkeys(("$fU", "$fn"), ("from", "")),
    **dict.fromkeys(("uri", "$rd", "$ru", "$(rd{s.tolower})"), ("domain", "")),
}
_TABLES = ("$sht(", "$(sht(", "$shtex(", "$mct(", "$redis(")
_LOOPBACK = re.compile(r"127\.[\d.]+|\[?::1\]?|localhost")


def compared(condition: Condition) -> tuple[Facts, Facts]:
    """The facts where a comparison holds, and where it does not."""
    if not isinstance(condition, Compare) or not condition.left or not condition.right:
        return NOTHING, NOTHING
    left, right = condition.left[0], condition.right[0]
    if right.kind == "pv" and left.kind != "pv":
        left, right = right, left
    if right.value in {"$au", "$aU", "$Au"}:
        left, right = right, left
    positive = condition.operator in {"==", "=~"}
    if not positive and condition.operator not in {"!=", "!~"}:
        return NOTHING, NOTHING
    same, other = _equal(left, right)
    return (same, other) if positive else (other, same)


def _equal(left: Token, right: Token) -> tuple[Facts, Facts]:
    """The facts if two sides are equal, and if they are not."""
    name, is_null = left.value, right.value in {"$null", ""}
    if name.startswith(_TABLES):
        memory = frozenset({Fact("memory")})
        return (NOTHING, memory) if is_null else (memory, NOTHING)
    yes, no = _TELLS.get(name, ("", ""))
    if is_null or not yes:
        return NOTHING, NOTHING
    if yes == "address" and _LOOPBACK.fullmatch(right.value):
        yes = "loopback"
    token = left if yes in {"loopback", "from"} else None
    return frozenset({Fact(yes, token)}), frozenset({Fact(no)}) if no else NOTHING


_SENDERS_CHOICE = ("$hdr(", "$(hdr(", "$ct", "$(ct", "$fd", "$fu")


def assigned(statement: Assign) -> tuple[Facts, tuple[str, ...]]:
    """The facts after an assignment, and the beginnings of the conditions that it may change."""
    name, value = statement.target.value, statement.value
    if name not in {"$du", "$ru", "$rd", "$rU", "$rp"}:
        return NOTHING, (f"{name}=",) if name.startswith(("$var(", "$avp(")) else ()
    is_theirs = any(token.value.startswith(_SENDERS_CHOICE) for token in value)
    is_null = len(value) == 1 and value[0].value == "$null"
    is_set = name in {"$du", "$ru", "$rd"} and not is_theirs and not is_null
    return (frozenset({Fact("destination")}) if is_set else NOTHING), _REWRITING


_CONSTANT = {"word", "string"}


def constant(statement: Assign) -> str | None:
    """The condition that an assignment of a constant to a variable makes true."""
    name, value = statement.target.value, statement.value
    is_constant = len(value) == 1 and value[0].kind in _CONSTANT
    is_variable = name.startswith(("$var(", "$avp("))
    return f"{name}=={value[0].value}" if is_constant and is_variable else None


_STABLE = re.compile(
    r"from_uri|to_uri|uri|proto|src_ip|src_port|af|dst_port|dst_ip"
    r"|\$(si|sp|proto|pr|fU|fu|fd|tU|tu|td|rd|rU|ru|ua|Ri|Rp|au|ct|var\(.*|avp\(.*)"
)


def stable(condition: Condition) -> tuple[str, bool] | None:
    """A text for a condition whose value stays, and whether it is the positive form of it."""
    if not isinstance(condition, Compare) or len(condition.left) != 1:
        return None
    operator, left = condition.operator, condition.left[0].value
    if operator not in {"==", "!=", "=~", "!~"} or not _STABLE.fullmatch(left):
        return None
    right = "".join(token.value for token in condition.right)
    sign = "==" if operator in {"==", "!="} else "=~"
    return f"{left}{sign}{right}", operator in {"==", "=~"}


def is_result(condition: Condition) -> bool:
    """Whether a condition compares the return code of the last function or route."""
    return isinstance(condition, Compare) and _values(condition.left) in {"$rc", "$retcode", "$?"}


def sign_of(condition: Condition) -> int | None:
    """Whether a comparison with a number holds for a positive return code, or a negative one."""
    if not isinstance(condition, Compare):
        return None
    number = _values(condition.right)
    key = (condition.operator, number if number in {"0", "1"} else number[:1])
    positive = {(">", "0"), (">=", "0"), (">=", "1"), ("==", "1"), ("!=", "-"), (">", "-")}
    negative = {("<", "0"), ("<=", "0"), ("<", "1"), ("!=", "1"), ("==", "-"), ("<", "-")}
    return 1 if key in positive else -1 if key in negative else None


def _values(tokens: Tokens) -> str:
    return "".join(token.value for token in tokens)
