"""The same job for pyinfra: packages, files with owner and mode, services with their reloads."""

from pyinfra import host
from pyinfra.operations import apt, files, server, systemd

TREE = host.data.tree
PACKAGES = "asterisk kamailio kamailio-sqlite-modules kamailio-tls-modules"
MORE = "kamailio-websocket-modules nftables netbase"
ASTERISK = (
    *("pjsip.conf", "pjsip_users.conf", "extensions.conf", "rtp.conf"),
    *("voicemail.conf", "voicemail_users.conf", "logger.conf", "manager.conf", "http.conf"),
    "modules.conf",
)


def put(folder, group, names):
    return [
        files.put(
            src=f"{TREE}/etc/{folder}/{name}",
            dest=f"/etc/{folder}/{name}",
            user="root",
            group=group,
            mode="640",
        )
        for name in names
    ]


apt.packages(packages=[*PACKAGES.split(), *MORE.split()])
routing = put("kamailio", "kamailio", ("kamailio.cfg", "tls.cfg"))
tables = put("kamailio", "kamailio", ("sipdeploy.db",))
rest = put("asterisk", "asterisk", ASTERISK)
systemd.service(
    service="kamailio", restarted=True, _if=lambda: any(each.did_change() for each in routing)
)
server.shell(
    commands="for t in credentials users names services; do kamcmd htable.reload $t; done",
    _if=lambda: any(each.did_change() for each in tables),
)
server.shell(
    commands=["asterisk -rx 'module reload res_pjsip.so'", "asterisk -rx 'dialplan reload'"],
    _if=lambda: any(each.did_change() for each in rest),
)
for unit in ("asterisk", "kamailio"):
    systemd.service(service=unit, running=True, enabled=True)
