"""The modules of Asterisk that applications and functions of a dialplan need."""

import re
from collections.abc import Mapping

CONFERENCE = ("app_confbridge", "bridge_softmix")
# Loaded where a dialplan uses them: none of these runs a program, opens a connection, writes or
# reads a file of a name that it is given (but for sounds), or starts a call of its own.
_MODULES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("read",), ("app_read",)),
    **dict.fromkeys(("readexten",), ("app_readexten",)),
    **dict.fromkeys(("exec", "tryexec", "execif"), ("app_exec",)),
    **dict.fromkeys(("while", "endwhile", "exitwhile", "continuewhile"), ("app_while",)),
    **dict.fromkeys(("confbridge", "confkick"), CONFERENCE),
    **dict.fromkeys(("controlplayback",), ("app_controlplayback",)),
    **dict.fromkeys(("sayunixtime", "datetime"), ("app_sayunixtime",)),
    **dict.fromkeys(("senddtmf",), ("app_senddtmf",)),
    **dict.fromkeys(("sendtext",), ("app_sendtext",)),
    **dict.fromkeys(("transfer",), ("app_transfer",)),
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
# Never loaded by themselves: whoever wants them loads them in local/modules.conf, and why so.
BY_HAND: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("system", "trysystem"), ("app_system", "runs programs")),
    **dict.fromkeys(("shell",), ("func_shell", "runs programs")),
    **dict.fromkeys(("agi", "eagi", "deadagi"), ("res_agi", "runs programs")),
    **dict.fromkeys(("externalivr",), ("app_externalivr", "runs programs")),
    **dict.fromkeys(("mp3player",), ("app_mp3", "runs programs")),
    **dict.fromkeys(
        ("mixmonitor", "stopmixmonitor"), ("app_mixmonitor", "writes files and runs programs")
    ),
    **dict.fromkeys(("monitor", "stopmonitor"), ("res_monitor", "writes files and runs programs")),
    **dict.fromkeys(("record",), ("app_record", "writes files anywhere")),
    **dict.fromkeys(("dictate",), ("app_dictate", "writes files anywhere")),
    **dict.fromkeys(
        ("env", "stat", "file", "file_count_line", "file_format"),
        ("func_env", "reads and writes files anywhere"),
    ),
    **dict.fromkeys(("curl", "curlopt"), ("func_curl", "opens connections")),
    **dict.fromkeys(("originate",), ("app_originate", "starts calls of its own")),
    **dict.fromkeys(("page",), ("app_page", "starts calls of its own")),
    **dict.fromkeys(("queue",), ("app_queue", "starts calls of its own")),
    **dict.fromkeys(("followme",), ("app_followme", "starts calls of its own")),
}
# of these, what a build from source has
SPARE = ("app_mixmonitor", "app_originate", "app_record")
CALL = re.compile(r"\b([A-Za-z]\w*)\s*\(")
_COMMENT = re.compile(r"(?<!\\);[^\n]*")


def used(dialplan: str) -> set[str]:
    """The modules that the text of a dialplan needs besides those that are always loaded."""
    calls = {match[1].lower() for match in CALL.finditer(_COMMENT.sub("", dialplan))}
    return {module for call in calls for module in _MODULES.get(call, ())}
