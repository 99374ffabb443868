"""Kamailio's configurations for the tests of the stack rules."""

from sipdeploy.lint.stack import kamailio
from sipdeploy.lint.stack.files import StackFile
from sipdeploy.lint.stack.rules import RULES, Stack

PLACE = "/etc/kamailio/kamailio.cfg"
CODES = [code for code in RULES if "SD800" <= code < "SD830"]

GOOD = """\
#!KAMAILIO
#!define FLAG_BACKEND 1
#!substdef "!DOMAIN!sip.example.com!g"
listen=tls:0.0.0.0:8443 advertise 203.0.113.10:8443
listen=udp:127.0.0.1:5062
enable_tls=yes
tcp_accept_no_cl=yes
tcp_max_connections=4096
tls_max_connections=4096
tcp_accept_iplimit=1024

loadmodule "tls.so"
loadmodule "db_sqlite.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "ctl.so"
loadmodule "pike.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "auth_db.so"
loadmodule "nathelper.so"
loadmodule "xhttp.so"
loadmodule "websocket.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("usrloc", "handle_lost_tcp", 1)
modparam("auth_db", "db_url", "sqlite:////etc/kamailio/users.db")

request_route {
    if (!mf_process_maxfwd_header("10")) {
        sl_send_reply("483", "Too Many Hops");
        exit;
    }
    if (!pike_check_req()) exit;
    if (proto == UDP) {
        if ($si != "127.0.0.1" || $sp != 5060) exit;
        setflag(FLAG_BACKEND);
    }
    force_rport();
    if (is_method("CANCEL")) {
        if (t_check_trans()) t_relay();
        exit;
    }
    route(DIALOG);
    if (!isflagset(FLAG_BACKEND)) {
        route(AUTH);
    }
    if (is_method("REGISTER")) {
        fix_nated_register();
        save("location");
        exit;
    }
    if (uri != myself) {
        sl_send_reply("403", "No Relaying");
        exit;
    }
    record_route();
    if ($rU =~ "^6") {
        $du = "sip:127.0.0.1:5060";
        route(RELAY);
    }
    if (!lookup("location")) {
        sl_send_reply("404", "Not Found");
        exit;
    }
    t_on_failure("MISSED");
    route(RELAY);
}

route[DIALOG] {
    if (!has_totag()) return;
    if (loose_route()) {
        handle_ruri_alias();
        route(RELAY);
    }
    if (is_method("ACK") && t_check_trans()) t_relay();
    exit;
}

route[AUTH] {
    if (is_method("REGISTER")) {
        if (!www_authenticate("DOMAIN", "users")) {
            www_challenge("DOMAIN", "1");
            exit;
        }
        if ($au != $tU) {
            sl_send_reply("403", "Forbidden");
            exit;
        }
    } else {
        if (!proxy_authenticate("DOMAIN", "users")) {
            proxy_challenge("DOMAIN", "1");
            exit;
        }
        if ($au != $fU) {
            sl_send_reply("403", "Not You");
            exit;
        }
    }
    consume_credentials();
}

route[RELAY] {
    t_on_reply("FROM_PHONE");
    if (!t_relay()) sl_reply_error();
    exit;
}

onreply_route {
    if (!t_check_trans()) drop;
}

onreply_route[FROM_PHONE] {
    if (nat_uac_test("64")) set_contact_alias();
}

failure_route[MISSED] {
    if (t_is_canceled()) exit;
}

event_route[xhttp:request] {
    if ($hu =~ "^/ws") ws_handle_handshake();
    exit;
}
"""


def found(text: str, *, version=(6, 1), files=()) -> list[tuple[int, str]]:
    """The line and code of each finding in a kamailio.cfg; `files` are other files by place."""
    others = {place: StackFile(path=place, place=place, text=other) for place, other in files}
    root = StackFile(path="kamailio.cfg", place=PLACE, text=text)
    stack = Stack(kamailio=kamailio.parse(root, others), kamailio_version=version)
    return sorted(
        (each.file.span(each.start, each.end).line, code)
        for code in CODES
        for each in RULES[code].check(stack)
    )


def codes(text: str, **options) -> set[str]:
    return {code for _, code in found(text, **options)}
