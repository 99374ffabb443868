"""The functions and parameters of Kamailio's modules by version (`python -m lab catalogue`)."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

Version = tuple[int, ...]

# Commands of the core look like functions; their names are in src/core/cfg.lex.
CORE = frozenset(
    """
    add_local_rport add_rport add_tcp_alias append_branch avpflag_set cfg_reset
    cfg_select clear_branches defined error exec exit dirname drop force_rport
    force_send_socket force_tcp_alias forward forward_sctp forward_tcp forward_tls
    forward_udp if int isavpflagset isbflagset isdsturiset isflagset issflagset
    isxflagset log max_len prefix remove_branch resetavpflag resetbflag resetdsturi
    resetflag resetsflag resetxflag return revert_uri rewritehost rewritehostport
    rewritehostporttrans rewriteport rewriteuri rewriteuser rewriteuserpass route
    route_if_exists selval send send_tcp set_advertised_address set_advertised_port
    set_forward_close set_forward_no_connect set_reply_close set_reply_no_connect
    setavpflag setbflag setdsturi setflag sethost sethostport sethosttrans setport
    setsflag seturi setuser setuserpass setxflag str strempty strip strip_tail strlen
    switch udp_mtu_try_proto unforce_rport userphone while xdbg
    """.split()  # noqa: SIM905  # a list of words reads better
)


@cache
def _data() -> dict[str, Any]:
    text = Path(__file__).with_name("catalogue.json").read_text("utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


@cache
def _near(version: Version | None) -> frozenset[str]:
    """The catalogued versions that stand for a version: itself, or its neighbours, or all."""
    known = {tuple(map(int, text.split("."))): text for text in _data()["versions"]}
    if version is None:
        return frozenset(known.values())
    if version[:2] in known:
        return frozenset({known[version[:2]]})
    below = [each for each in known if each < version[:2]]
    above = [each for each in known if each > version[:2]]
    return frozenset(known[each] for each in (*below[-1:], *above[:1]))


def knows(module: str) -> bool:
    """Whether a module is in the catalogue, in any version."""
    return module in _data()["modules"]


@cache
def names(module: str, kind: str, version: Version | None) -> frozenset[str]:
    """The `functions` or `parameters` of a module."""
    entry = _data()["modules"].get(module, {}).get(kind, {})
    near = _near(version)
    return frozenset(
        name
        for versions, text in entry.items()
        if near & set(versions.split())
        for name in text.split()
    )


@cache
def providers(version: Version | None) -> dict[str, list[str]]:
    """The modules that offer each function."""
    found = defaultdict(list)
    for module in _data()["modules"]:
        for name in names(module, "functions", version):
            found[name].append(module)
    return dict(found)
