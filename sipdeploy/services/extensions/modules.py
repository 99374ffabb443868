"""The modules of Asterisk that applications and functions of a dialplan need."""

import re
from collections.abc import Mapping

CONFERENCE = ("app_confbridge", "bridge_softmix")
# Loaded where a dialplan uses them. Modules that run programs, open connections or read files are
# not here (app_system, func_shell, func_env, func_curl): whoever wants them loads them by hand.
_MODULES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("read",), ("app_read",)),
    **dict.fromkeys(("readexten",), ("app_readexten",)),
    **dict.fromkeys(("record",), ("app_record",)),
    **dict.fromkeys(("exec", "tryexec", "execif"), ("app_exec",)),
    **dict.fromkeys(("while", "endwhile", "exitwhile", "continuewhile"), ("app_while",)),
    **dict.fromkeys(("confbridge", "confkick"), CONFERENCE),
    **dict.fromkeys(("controlplayback",), ("app_controlplayback",)),
    **dict.fromkeys(("sayunixtime", "datetime"), ("app_sayunixtime",)),
    **dict.fromkeys(("senddtmf",), ("app_senddtmf",)),
    **dict.fromkeys(("sendtext",), ("app_sendtext",)),
    **dict.fromkeys(("transfer",), ("app_transfer",)),
    **dict.fromkeys(("mixmonitor", "stopmixmonitor"), ("app_mixmonitor",)),
    **dict.fromkeys(("originate",), ("app_originate",)),
    **dict.fromkeys(("waituntil",), ("app_waituntil",)),
    **dict.fromkeys(("dbdel", "dbdeltree"), ("app_db",)),
    **dict.fromkeys(("db", "db_exists", "db_delete", "db_keys", "db_key_count"), ("func_db",)),
    **dict.fromkeys(("math", "inc", "dec", "min", "max", "abs"), ("func_math",)),
    **dict.fromkeys(("global", "shared"), ("func_global",)),
    **dict.fromkeys(("rand",), ("func_rand",)),
    **dict.fromkeys(("timeout",), ("func_timeout",)),
    **dict.fromkeys(("sprintf",), ("func_sprintf",)),
    **dict.fromkeys(("uriencode", "uridecode"), ("func_uri",)),
    **dict.fromkeys(("md5",), ("func_md5",)),
    **dict.fromkeys(("base64_encode", "base64_decode"), ("func_base64",)),
    **dict.fromkeys(("dialplan_exists", "valid_exten"), ("func_dialplan",)),
    **dict.fromkeys(("lock", "trylock", "unlock"), ("func_lock",)),
}
ALL = tuple(sorted({module for names in _MODULES.values() for module in names}))
_CALL = re.compile(r"\b([A-Za-z]\w*)\s*\(")
_COMMENT = re.compile(r"(?<!\\);[^\n]*")


def used(dialplan: str) -> set[str]:
    """The modules that the text of a dialplan needs besides those that are always loaded."""
    calls = {match[1].lower() for match in _CALL.finditer(_COMMENT.sub("", dialplan))}
    return {module for call in calls for module in _MODULES.get(call, ())}
