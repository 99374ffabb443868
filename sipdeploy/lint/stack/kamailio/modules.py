"""Rules of modules, parameters and routes: what kamailio.cfg names must exist."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import listed
from sipdeploy.lint.stack.kamailio import catalogue
from sipdeploy.lint.stack.kamailio.config import Config, at, of
from sipdeploy.lint.stack.rules import Finding, Stack, rule

if TYPE_CHECKING:
    from sipdeploy.lint.stack.kamailio.syntax import Call, Parameter


def _unknown_calls(config: Config, stack: Stack) -> Iterator[tuple[Call, list[str]]]:
    """The functions that no loaded module offers, with the modules that do; each name once."""
    loaded = config.syntax.loaded
    if not config.syntax.is_whole or not all(catalogue.knows(module) for module in loaded):
        return
    providers = catalogue.providers(stack.kamailio_version)
    seen = set(catalogue.CORE)
    for call in config.syntax.calls:
        if call.name not in seen:
            seen.add(call.name)
            modules = providers.get(call.name, [])
            if not loaded.keys() & set(modules):
                yield call, modules


@rule("SD801", "error")
def function_without_module(stack: Stack) -> Iterator[Finding]:
    """Function without its module: Kamailio does not start.

    Bad:
        loadmodule "sl.so"
        request_route {
            t_relay();
        }
    Good:
        loadmodule "sl.so"
        loadmodule "tm.so"
        request_route {
            t_relay();
        }
    """
    for call, modules in _unknown_calls(of(stack), stack):
        if modules:
            yield at(
                call.token,
                f"no loaded module has the function `{call.name}`",
                label=f"it is in {listed(modules)}",
                help=f'add `loadmodule "{modules[0]}.so"`',
            )


@rule("SD804", "warning")
def unknown_function(stack: Stack) -> Iterator[Finding]:
    """Unknown function: no module of Kamailio 5.4 to 6.1 has it.

    Bad:
        loadmodule "tm.so"
        request_route {
            t_rely();
        }
    Good:
        loadmodule "tm.so"
        request_route {
            t_relay();
        }
    """
    config = of(stack)
    for call, modules in _unknown_calls(config, stack):
        if not modules:
            offered = {
                name
                for module in config.syntax.loaded
                for name in catalogue.names(module, "functions", stack.kamailio_version)
            }
            near = get_close_matches(call.name, sorted(offered | catalogue.CORE), 1)
            yield at(
                call.token,
                f"no module has the function `{call.name}`",
                help=f"write `{near[0]}`" if near else "remove the call, or load its module",
            )


@rule("SD802", "error")
def parameter_without_module(stack: Stack) -> Iterator[Finding]:
    """Parameter of a module that is not loaded, or is loaded later: Kamailio does not start.

    Bad:
        modparam("registrar", "max_expires", 600)
        loadmodule "registrar.so"
    Good:
        loadmodule "registrar.so"
        modparam("registrar", "max_expires", 600)
    """
    syntax = of(stack).syntax
    if not syntax.is_whole:
        return
    for parameter in syntax.parameters:
        before = {name for name, _ in syntax.modules[: parameter.number]}
        if not before & set(parameter.modules) and _is_plain(parameter):
            name = parameter.modules[0]
            is_later = bool(syntax.loaded.keys() & set(parameter.modules))
            yield at(
                parameter.module,
                f"`{name}` is loaded after this line" if is_later else f"`{name}` is not loaded",
                help=f'move `loadmodule "{name}.so"` above this line'
                if is_later
                else f'add `loadmodule "{name}.so"` above this line',
            )


def _is_plain(parameter: Parameter) -> bool:
    """Whether the modules of a parameter are names: Kamailio takes a regular expression."""
    return "|".join(parameter.modules) == parameter.module.value


@rule("SD803", "error")
def unknown_parameter(stack: Stack) -> Iterator[Finding]:
    """Unknown parameter of a module: Kamailio does not start.

    Bad:
        loadmodule "usrloc.so"
        modparam("usrloc", "nat_flag", 6)
    Good:
        loadmodule "usrloc.so"
        modparam("usrloc", "nat_bflag", 6)
    """
    for parameter in of(stack).syntax.parameters:
        name = parameter.name.value
        known = [module for module in parameter.modules if catalogue.knows(module)]
        if not known or known != list(parameter.modules) or not _is_plain(parameter):
            continue
        offered = [
            catalogue.names(module, "parameters", stack.kamailio_version) for module in known
        ]
        if not all(offered) or all(name in names for names in offered):
            continue
        module, names = next((m, n) for m, n in zip(known, offered, strict=True) if name not in n)
        near = get_close_matches(name, sorted(names), 1)
        yield at(
            parameter.name,
            f"`{module}` has no parameter `{name}`{_elsewhere(module, name, stack)}",
            help=f"write `{near[0]}`" if near else "remove the line",
        )


def _elsewhere(module: str, name: str, stack: Stack) -> str:
    """Say for which versions of Kamailio a parameter does not exist."""
    version = stack.kamailio_version
    if version is None or name not in catalogue.names(module, "parameters", None):
        return " in Kamailio 5.4 to 6.1"
    return f" in Kamailio {'.'.join(map(str, version))}"


_CALLS = {
    "route": "route",
    "t_on_reply": "reply_route",
    "t_on_failure": "failure_route",
    "t_on_branch": "branch_route",
    "t_on_branch_failure": "event_route",
}


@rule("SD805", "error")
def undefined_route(stack: Stack) -> Iterator[Finding]:
    """Route that is called and not defined: the call does nothing, or stops the request.

    Bad:
        request_route {
            route(AUTH);
        }
    Good:
        request_route {
            route(AUTH);
        }
        route[AUTH] {
            exit;
        }
    """
    syntax = of(stack).syntax
    defined = {(route.kind, route.name) for route in syntax.routes}
    if not syntax.is_whole:
        return
    for call in syntax.calls:
        kind, name = _CALLS.get(call.name), call.argument(0)
        if kind in {None, "event_route"} or not name or not name.replace("_", "a").isalnum():
            continue
        if name == "0" or (kind, name) in defined:
            continue
        near = get_close_matches(name, [other for each, other in defined if each == kind], 1)
        yield at(
            call.arguments[0][0],
            f"`{kind}[{name}]` is not defined",
            help=f"write `{call.name}({near[0]})`, or define it"
            if near
            else f"define `{kind}[{name}]`",
        )


@rule("SD806", "note")
def unused_route(stack: Stack) -> Iterator[Finding]:
    """Route that is defined and never called.

    Bad:
        request_route {
            exit;
        }
        route[FLOOD] {
            exit;
        }
    Good:
        request_route {
            route(FLOOD);
        }
        route[FLOOD] {
            exit;
        }
    """
    syntax = of(stack).syntax
    if not syntax.is_whole:
        return
    named = {part[0].value for call in syntax.calls for part in call.arguments if len(part) == 1}
    named |= {word for text in syntax.strings for word in text.replace("=", ";").split(";")}
    kinds = {"route", "reply_route", "failure_route", "branch_route"}
    for route in syntax.routes:
        if route.kind in kinds and route.name and route.name not in named:
            yield at(
                route.token,
                f"nothing calls `{route.kind}[{route.name}]`",
                help="call it or remove it",
            )


@rule("SD800", "warning")
def deaf_event_route(stack: Stack) -> Iterator[Finding]:
    """Event route of a module that is not loaded: it never runs.

    Bad:
        loadmodule "websocket.so"
        event_route[xhttp:request] {
            exit;
        }
    Good:
        loadmodule "xhttp.so"
        loadmodule "websocket.so"
        event_route[xhttp:request] {
            exit;
        }
    """
    syntax = of(stack).syntax
    for route in syntax.routes:
        module = route.name.partition(":")[0]
        is_known = route.kind == "event_route" and catalogue.knows(module)
        if is_known and module not in syntax.loaded and syntax.is_whole:
            yield at(
                route.token,
                f"`event_route[{route.name}]` never runs: `{module}` is not loaded",
                help=f'add `loadmodule "{module}.so"`',
            )


@rule("SD826", "error")
def missing_quote(stack: Stack) -> Iterator[Finding]:
    """Missing quote: a string ends in the wrong place, and Kamailio does not start.

    The linter goes on at the next line, and keeps silent about what it does not find.

    Bad:
        request_route {
            sl_send_reply("403, "Forbidden");
        }
    Good:
        request_route {
            sl_send_reply("403", "Forbidden");
        }
    """
    for token in of(stack).syntax.broken:
        yield at(token, "a quote is missing here", help='write each string as `"text"`')
