"""Rules along the paths of requests: who may register and call, and what arrives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sipdeploy.lint.stack.kamailio.checks import PROOFS
from sipdeploy.lint.stack.kamailio.config import Config, at, of
from sipdeploy.lint.stack.kamailio.syntax import Call, Jump, Route, calls_of, statements_of
from sipdeploy.lint.stack.rules import Finding, Stack, rule

if TYPE_CHECKING:
    from sipdeploy.lint.stack.kamailio.flow import Sink, State
    from sipdeploy.lint.stack.kamailio.tokens import Token


def _is_open(config: Config) -> bool:
    """Whether strangers reach this server, and nothing of it is unknown."""
    return config.is_reachable and config.syntax.is_complete


def _unproven(state: State, *weaker: str) -> bool:
    """Whether nothing on a path proves the sender, not even one of the weaker kinds of facts."""
    kinds = state.kinds()
    is_backend = {"loopback", "port"} <= kinds
    return not kinds & PROOFS and not is_backend and not kinds & set(weaker)


@rule("SD810", "error")
def open_registrar(stack: Stack) -> Iterator[Finding]:
    """`save()` without authentication: anyone can receive the calls of any user.

    The rule follows a REGISTER of a stranger through the routes. A check counts only if its
    failure ends the path, as in the good example.

    Bad:
        loadmodule "registrar.so"
        request_route {
            if (is_method("REGISTER")) {
                save("location");
                exit;
            }
        }
    Good:
        loadmodule "registrar.so"
        request_route {
            if (is_method("REGISTER")) {
                if (!auth_check("$fd", "subscriber", "1")) {
                    auth_challenge("$fd", "0");
                    exit;
                }
                save("location");
                exit;
            }
        }
    """
    config = of(stack)
    if not _is_open(config):
        return
    for sink in config.flow.reached("REGISTER", "save"):
        if any(_unproven(state, "loopback") for state in sink.states):
            yield at(
                sink.call.token,
                "a REGISTER reaches `save()` without authentication",
                label="anyone can receive the calls of any user",
                help='before it: `if (!auth_check("$fd", "subscriber", "1"))'
                ' { auth_challenge("$fd", "0"); exit; }`',
            )


def _sending(config: Config) -> list[Sink]:
    """The places that an INVITE reaches to find or call somebody, in the order of the text."""
    flow = config.flow
    sinks = [*flow.reached("INVITE", "lookup"), *flow.reached("INVITE", "relay")]
    return sorted(sinks, key=lambda sink: sink.call.token.start)


@rule("SD811", "warning")
def unchecked_caller(stack: Stack) -> Iterator[Finding]:
    """Calls without a check of the sender: anyone can call, under any number of this domain.

    The rule follows an INVITE of a stranger. It accepts a password, a list of addresses, and calls
    whose From is of another domain.

    Bad:
        request_route {
            if (!lookup("location")) exit;
            t_relay();
        }
    Good:
        request_route {
            if (!proxy_authenticate("$fd", "subscriber")) {
                proxy_challenge("$fd", "0");
                exit;
            }
            if (!lookup("location")) exit;
            t_relay();
        }
    """
    config = of(stack)
    if not _is_open(config):
        return
    found = [
        sink.call
        for sink in _sending(config)
        if any(_unproven(state, "loopback", "foreign", "from") for state in sink.states)
    ]
    if found:
        more = len(found) - 1
        rest = f" (and {more} more such calls)" if more else ""
        yield at(
            found[0].token,
            f"an INVITE reaches `{found[0].name}()` without a check of its sender{rest}",
            help='before it: `if (!proxy_authenticate("$fd", "subscriber"))'
            ' { proxy_challenge("$fd", "0"); exit; }`',
        )


@rule("SD827", "note")
def any_origin(stack: Stack) -> Iterator[Finding]:
    """WebSocket from any web page, and a request without a password passes.

    A page that somebody in your network visits can then register and call from there. A password
    for each request is enough too: browsers send none by themselves.

    Bad:
        loadmodule "websocket.so"
        request_route {
            if (!lookup("location")) exit;
            t_relay();
        }
        event_route[xhttp:request] {
            ws_handle_handshake();
        }
    Good:
        loadmodule "websocket.so"
        request_route {
            if (!lookup("location")) exit;
            t_relay();
        }
        event_route[xhttp:request] {
            if ($hdr(Origin) != "https://phone.example.com") {
                xhttp_reply("403", "Forbidden", "", "");
                exit;
            }
            ws_handle_handshake();
        }
    """
    config = of(stack)
    call = config.syntax.called("ws_handle_handshake")
    is_checked = any("hdr(Origin" in name for name in config.syntax.variables)
    if call and not is_checked and _is_open(config) and _accepts_without_password(config):
        yield at(
            call.token,
            "any web page can connect, and needs no password",
            help='before it: `if ($hdr(Origin) != "https://PAGE-OF-YOUR-PHONES")'
            ' { xhttp_reply("403", "Forbidden", "", ""); exit; }`',
        )


def _accepts_without_password(config: Config) -> bool:
    """Whether a request is stored, or finds somebody, by its address alone, or by nothing.

    A relay does not count: the server behind it may ask for a password.
    """
    flow = config.flow
    sinks = [*flow.reached("REGISTER", "save"), *flow.reached("INVITE", "lookup")]
    enough = (PROOFS | {"loopback"}) - {"address"}
    return any(not state.kinds() & enough for sink in sinks for state in sink.states)


@rule("SD812", "error")
def open_relay(stack: Stack) -> Iterator[Finding]:
    """Open relay: an INVITE of a stranger goes to the address that its sender chose.

    Attackers call through it at the cost of its owner, and hide behind it.

    Bad:
        request_route {
            record_route();
            t_relay();
        }
    Good:
        request_route {
            if (uri != myself) {
                sl_send_reply("403", "No Relaying");
                exit;
            }
            record_route();
            t_relay();
        }
    """
    config = of(stack)
    if not _is_open(config):
        return
    for sink in config.flow.reached("INVITE", "relay"):
        aimless = [s for s in sink.states if not s.kinds() & {"domain", "destination"}]
        if any(_unproven(state, "loopback", "from") for state in aimless):
            yield at(
                sink.call.token,
                f"`{sink.call.name}()` relays a stranger's INVITE to where the sender wants",
                help="before it: `if (uri != myself)"
                ' { sl_send_reply("403", "No Relaying"); exit; }`',
            )


@rule("SD824", "warning")
def any_user(stack: Stack) -> Iterator[Finding]:
    """Password of any user: each user can register, or call, as every other.

    A digest proves the user `$au`. From and To may name another, unless something compares them.

    Bad:
        loadmodule "registrar.so"
        request_route {
            if (!www_authenticate("$td", "subscriber")) {
                www_challenge("$td", "0");
                exit;
            }
            save("location");
        }
    Good:
        loadmodule "registrar.so"
        request_route {
            if (!www_authenticate("$td", "subscriber")) {
                www_challenge("$td", "0");
                exit;
            }
            if ($au != $tU) exit;
            save("location");
        }
    """
    config = of(stack)
    if not _is_open(config):
        return
    sinks = ((config.flow.reached("REGISTER", "save"), "To"), (_sending(config), "From"))
    for found, header in sinks:
        for sink in found:
            kinds = [state.kinds() for state in sink.states]
            if any("digest" in each and "identity" not in each for each in kinds):
                yield at(
                    sink.call.token,
                    f"`{sink.call.name}()` follows a password, and nothing compares its user",
                    label=f"{header} may name another user",
                    help=f"before it: `if ($au != ${header[0].lower()}U)"
                    ' { sl_send_reply("403", "Forbidden"); exit; }`',
                )
                break


def _only_by(config: Config, kind: str) -> Iterator[tuple[Token, Call]]:
    """The comparisons that are the only check before a call: facts of `kind`, and no proof."""
    seen = set()
    for sink in (*config.flow.reached("REGISTER", "save"), *_sending(config)):
        states = [state for state in sink.states if _unproven(state)]
        if kind == "from" and any(kind not in state.kinds() for state in states):
            continue  # the call is open anyway, which another rule reports
        for state in states:
            for fact in state.facts:
                if fact.kind == kind and fact.token and fact.token not in seen:
                    seen.add(fact.token)
                    yield fact.token, sink.call


@rule("SD813", "warning")
def trusted_loopback(stack: Stack) -> Iterator[Finding]:
    """Trust in the address 127.0.0.1 alone: every program of the host may send as the backend.

    A proxy in front of Kamailio on the same host lends its address to all strangers.

    Bad:
        request_route {
            if ($si == "127.0.0.1") {
                lookup("location");
                t_relay();
            }
        }
    Good:
        request_route {
            if ($si == "127.0.0.1" && $sp == 5060) {
                lookup("location");
                t_relay();
            }
        }
    """
    config = of(stack)
    if not _is_open(config):
        return
    for token, call in _only_by(config, "loopback"):
        yield at(
            token,
            "the address of the host itself is the only check of the sender",
            label=f"`{call.name}()` follows",
            help="compare the port of the backend too: `&& $sp == 5060`",
        )


@rule("SD814", "warning")
def trusted_from(stack: Stack) -> Iterator[Finding]:
    """Trust in From: the sender writes it.

    Bad:
        request_route {
            if (from_uri != myself) exit;
            t_relay();
        }
    Good:
        request_route {
            if (from_uri != myself) exit;
            if (!proxy_authenticate("$fd", "subscriber")) {
                proxy_challenge("$fd", "0");
                exit;
            }
            t_relay();
        }
    """
    config = of(stack)
    if not _is_open(config):
        return
    for token, call in _only_by(config, "from"):
        yield at(
            token,
            "From is the only check of the sender, who writes it",
            label=f"`{call.name}()` follows",
            help="authenticate the sender with `proxy_authenticate()` or `auth_check()`",
        )


_FLOOD_CONTROLS = (
    "pike_check_req",
    "pike_check_ip",
    "rl_check",
    "rl_check_pipe",
    "pl_check",
    "secf_check_ua",
    "sht_match_name",
    "cnt_inc",
)


@rule("SD818", "note")
def no_flood_control(stack: Stack) -> Iterator[Finding]:
    """No flood control: a stranger can guess passwords as fast as Kamailio answers.

    Bad:
        listen=udp:203.0.113.10:5060
        request_route {
            exit;
        }
    Good:
        listen=udp:203.0.113.10:5060
        loadmodule "pike.so"
        request_route {
            if (!pike_check_req()) exit;
        }
    """
    config = of(stack)
    syntax = config.syntax
    request = next((route for route in syntax.routes if route.kind == "request_route"), None)
    has_tables = any("sht" in name[:5] for name in syntax.variables)
    if request and _is_open(config) and not has_tables and not syntax.called(*_FLOOD_CONTROLS):
        yield at(
            request.token,
            "nothing limits how many requests a sender can make",
            help="count failures with `htable`, or call `pike_check_req()`",
        )


@rule("SD819", "note")
def any_reply(stack: Stack) -> Iterator[Finding]:
    """Replies of any sender pass: with browsers as phones, a stranger can answer for them.

    Kamailio forwards a reply by its Via. An `onreply_route` without a name sees each reply, and
    can drop those that answer no request.

    Bad:
        tcp_accept_no_cl=yes
        loadmodule "websocket.so"
        request_route {
            exit;
        }
    Good:
        tcp_accept_no_cl=yes
        loadmodule "websocket.so"
        request_route {
            exit;
        }
        onreply_route {
            if (!t_check_trans()) drop;
        }
    """
    config = of(stack)
    replies = [r for r in config.syntax.routes if r.kind == "reply_route" and r.name in {"", "0"}]
    if config.websocket and _is_open(config) and not _drops(config, replies):
        yield at(
            replies[0].token if replies else config.websocket,
            "Kamailio forwards a reply of any sender",
            help="add `onreply_route { if (!t_check_trans()) drop; }`",
        )


def _drops(config: Config, replies: list[Route]) -> bool:
    """Whether a route of replies drops some, by itself or by a route that it calls."""
    called = {call.argument(0) for reply in replies for call in calls_of(reply.body)}
    routes = (r for r in config.syntax.routes if r.kind == "route" and r.name in called)
    return any(
        isinstance(statement, Jump) and statement.kind == "drop"
        for route in (*replies, *routes)
        for statement in statements_of(route.body)
    )


_RECORDING = ("record_route", "record_route_preset", "record_route_advertised_address")
_LOOSE = ("loose_route", "loose_route_mode", "loose_route_preloaded")


@rule("SD807", "error")
def lost_dialog(stack: Stack) -> Iterator[Finding]:
    """ACK and BYE do not reach the other party: calls are cut off or never end.

    Phones send them along the route that `record_route()` recorded; `loose_route()` follows it.
    The rule follows an ACK and a BYE inside a dialog to a relay behind `loose_route()`. To phones
    that are no browsers, a relay to the address in the request is enough.

    Bad:
        request_route {
            record_route();
            if (!lookup("location")) exit;
            t_relay();
        }
    Good:
        request_route {
            if (has_totag()) {
                if (loose_route()) t_relay();
                exit;
            }
            record_route();
            if (!lookup("location")) exit;
            t_relay();
        }
    """
    config = of(stack)
    recording = config.syntax.called(*_RECORDING)
    if recording is None or not config.syntax.is_complete:
        return
    loose = config.syntax.called(*_LOOSE)
    lost = list(_lost(config))
    if lost:
        reason = "no relay follows" if loose else "nothing calls"
        yield at(
            (loose or recording).token,
            f"inside a dialog, {' and '.join(lost)} cannot arrive: {reason} `loose_route()`",
            help="begin with `if (has_totag()) { if (loose_route()) t_relay(); exit; }`",
        )


def _lost(config: Config) -> Iterator[str]:
    """The methods that do not reach the other party of a dialog."""
    for method in ("ACK", "BYE"):
        states = [s.kinds() for sink in config.flow.reached(method, "relay") for s in sink.states]
        is_followed = any("loose" in kinds for kinds in states)
        is_direct = not config.websocket and any("destination" not in kinds for kinds in states)
        if not config.flow.is_cut and not is_followed and not is_direct:
            yield method
