"""Asterisk: its files, its packages and the modules that it may load."""

import hashlib
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sipdeploy.diagnostics import count
from sipdeploy.inventory.models import MOST_MEMBERS
from sipdeploy.inventory.site import HostEntry, Site
from sipdeploy.services import extensions, kamailio, user_database
from sipdeploy.services import install as source
from sipdeploy.services.extensions import modules as dialplan_modules
from sipdeploy.services.install import Build
from sipdeploy.services.render import ManagedFile, render, rendered
from sipdeploy.services.service import (
    LOOPBACK,
    NOTHING,
    Check,
    Complaint,
    Deployment,
    Directory,
    HostProfile,
    Port,
    Service,
    prefix_length,
)

NAME = "asterisk"
UNIT = "asterisk.service"
OWNER = "root:asterisk"
DIRECTORIES = (
    Directory(path="/etc/asterisk", mode=0o755, owner="root:root"),
    Directory(path="/etc/asterisk/local", mode=0o750, owner=OWNER),
    Directory(path="/etc/systemd/system/asterisk.service.d", mode=0o755, owner="root:root"),
    # These have registrations, digests, call data and messages in world-readable files.
    Directory(path="/var/lib/asterisk", mode=0o750, owner="asterisk:asterisk"),
    Directory(path="/var/log/asterisk", mode=0o750, owner="asterisk:asterisk"),
    Directory(path="/var/spool/asterisk", mode=0o750, owner="asterisk:asterisk"),
)
OPEN_FILES = 65536
# `auth_type=digest` came with 22.2 (and 20.12); newer versions warn about the older names.
DIGEST_SINCE = (22, 2)
# Debian packages codec_opus with Asterisk from 20 on.
OPUS_SINCE = (20,)

# Asterisk loads only modules that this configuration uses: other code cannot be attacked.
MODULES = (
    # prerequisites of PJSIP
    *("res_timing_timerfd", "res_sorcery_config", "res_sorcery_memory", "res_sorcery_astdb"),
    *("res_crypto", "res_pjproject", "res_pjsip", "res_pjsip_session", "res_pjsip_sdp_rtp"),
    *("res_pjsip_endpoint_identifier_ip", "res_pjsip_endpoint_identifier_user"),
    # without this module Asterisk accepts every sender as authenticated
    "res_pjsip_authenticator_digest",
    *("res_pjsip_nat", "res_pjsip_caller_id", "res_pjsip_header_funcs", "res_pjsip_dtmf_info"),
    # the console: `channel originate`
    "res_clioriginate",
    # voicemail indication and presence
    *("res_pjsip_pubsub", "res_pjsip_mwi", "res_pjsip_mwi_body_generator"),
    *("res_pjsip_outbound_publish", "res_pjsip_exten_state", "res_pjsip_pidf_body_generator"),
    "res_pjsip_dialog_info_body_generator",
    # media
    *("res_rtp_asterisk", "res_srtp", "chan_pjsip", "bridge_simple", "bridge_native_rtp"),
    *("codec_ulaw", "codec_alaw", "codec_gsm", "codec_resample"),
    *("format_gsm", "format_wav", "format_pcm", "res_format_attr_opus"),
    # dialplan
    *("pbx_config", "app_stack", "app_dial", "app_echo", "app_playback", "app_playtones"),
    *("app_voicemail", "app_verbose", "func_callerid", "func_channel", "func_logic"),
    *("func_cut", "func_groupcount", "func_strings", "func_devstate", "res_pjsip_messaging"),
)
REGISTRAR_MODULES = ("res_pjsip_registrar",)
# Built but not loaded: for the administrator's local/modules.conf.
SPARE_MODULES = (
    *("res_pjsip_refer", "res_pjsip_rfc3326", "res_pjsip_logger", "res_security_log"),
    *("res_pjsip_acl", "res_pjsip_xpidf_body_generator", "res_pjsip_pidf_digium_body_supplement"),
    *("bridge_holding", "bridge_builtin_features", "format_wav_gsm"),
    "bridge_builtin_interval_features",
    *sorted({*dialplan_modules.ALL, *dialplan_modules.SPARE}),
)

RELOAD = "/etc/asterisk/reload.sh"
ENDPOINTS = ("sh", RELOAD, "endpoints")
DIALPLAN = ("sh", RELOAD, "dialplan")
BOXES = ("sh", RELOAD, "mailboxes")
CONFERENCES = ("sh", RELOAD, "conferences")
# Files that one reload loads. The last one has their digest, from which `reload.sh` knows whether
# Asterisk has loaded them. Nothing shows what other files have set, so they need a restart.
LOADED = (
    ("pjsip.conf", "pjsip_users.conf"),
    ("extensions.conf",),
    ("voicemail.conf", "voicemail_users.conf"),
    ("confbridge.conf", "confbridge_users.conf"),
)
DIGEST = b"DIGEST"  # its place in the templates
FILES: Sequence[tuple[str, tuple[str, ...] | None]] = (
    ("pjsip.conf", ENDPOINTS),
    ("pjsip_users.conf", ENDPOINTS),
    ("extensions.conf", DIALPLAN),
    ("voicemail.conf", BOXES),
    ("voicemail_users.conf", BOXES),
    ("reload.sh", NOTHING),
    ("pjsip_transport.conf", None),
    ("rtp.conf", None),
    ("logger.conf", None),
    ("manager.conf", None),
    ("http.conf", None),
    ("modules.conf", None),
    ("asterisk.conf", None),
)
CONFERENCE_FILES = ("confbridge.conf", "confbridge_users.conf")
# Only users, so adding one needs no trial start; the first has the HA1s in mode `asterisk`.
DATA = ("pjsip_users.conf", "voicemail_users.conf", "users.db")
# Asterisk reads files of users in a time that grows with the square of their number. Measured:
# 3,000 endpoints reload in 0.5 s, 10,000 in 3 s. Above this limit it reads users from a database.
MOST_USERS_IN_FILES = 3000
DATABASE = "/etc/asterisk/users.db"
USERS_FILE = "/etc/asterisk/pjsip_users.conf"
ENDPOINTS_FILE = "/etc/asterisk/pjsip.conf"
# Asterisk opens a copy of the database; a reload updates it under SQLite's locks.
LIVE_FOLDER = "/run/sipdeploy-asterisk"
OVERRIDE = "/etc/systemd/system/asterisk.service.d/sipdeploy.conf"
# Only with nftables: ufw closes every port that no rule opens.
SOCKETS = "/etc/sipdeploy/asterisk-sockets.sh"
USERS = ("sh", RELOAD, "users")
USER_FILES = ("pjsip_users.conf", "voicemail_users.conf")
SORCERY = "sorcery.conf"
DATABASE_FILES = ("extconfig.conf", "res_config_sqlite3.conf")
DATABASE_MODULES = ("res_config_sqlite3", "res_sorcery_realtime")
# Simultaneous calls of one number with services and mailboxes: one, and a few in transfer.
CALLS_OF_NUMBER = 10
# Phones that ring for groups take this share of all calls, at most: each takes as much as a call.
RINGING_SHARE = 4
# Measured: a call takes 1 MiB (600 took 595), Asterisk without calls 60, a user in files 40 KiB.
MIB_PER_CALL = 2
MIB_PER_USER = 0.06
BASE_MIB = 256
MOST_CALLS = 4096
# Asterisk's logger: `[date] ERROR[id] file.c: text`, with `[C-call]` in a call.
COMPLAINT = re.compile(
    r"(?P<level>ERROR|WARNING)\[\d+\](?:\[C-\w+\])?:? \S+\.c:(?: \w+:)? ?(?P<text>.*)"
)
AT_LINE = re.compile(r"line (?P<line>\d+) of (?P<quote>['\"]?)(?P<path>[\w./-]+)(?P=quote)")
# A trial start has its own folder, and its log may name files there.
TRIAL = re.compile(r"^(/tmp/trial\.\w+/etc/|/etc/asterisk/)")


def packages(site: Site, os_id: str, codename: str) -> tuple[str, ...]:
    """The Debian packages. Debian 11 has voicemail in a separate package.

    The SQLite shell updates the user database of a large site.
    """
    del os_id
    is_large = has_database(site, HostProfile(has_user_database=True))
    shell = ("sqlite3",) if is_large else ()
    if site.install.source:
        return (*source.PACKAGES, *shell)
    base = ("asterisk", "asterisk-core-sounds-en-gsm", *shell)
    return (*base, "asterisk-voicemail") if codename == "bullseye" else base


def build(site: Site) -> Build | None:
    """The Asterisk that the host builds; None if Asterisk is a package."""
    own = (*MODULES, *REGISTRAR_MODULES, *DATABASE_MODULES, *SPARE_MODULES)
    return source.build(site.install.source, own) if site.install.source else None


def files(deployment: Deployment) -> Iterator[ManagedFile]:
    """Every managed file of Asterisk."""
    values = _values(deployment)
    is_large = values["has_database"]
    added = [(name, None) for name in DATABASE_FILES if is_large]
    if is_large or deployment.site.authentication == "asterisk":
        added.append((SORCERY, None))
    reloads = {
        name: reload for name, reload in (*FILES, *added) if not is_large or name not in USER_FILES
    }
    if values["conferences"]:
        reloads |= dict.fromkeys(CONFERENCE_FILES, CONFERENCES)
    own = [*extensions.files(deployment.attachments, OWNER, DIALPLAN)]
    yield from own
    contents = _with_digests(
        {name: render(f"asterisk/{name}.j2", values) for name in reloads},
        [file.content for file in own],
    )
    for name, content in contents.items():
        yield _file(name, content, f"asterisk/{name}.j2", reloads[name])
    if is_large:
        pjsip = contents["pjsip.conf"].decode()
        users = user_database.content(pjsip, values["users"], values)
        yield _file("users.db", users, "(users)", USERS)
    template = "asterisk/override.conf.j2"
    yield rendered(template, values, path=OVERRIDE, mode=0o644, service=NAME, reload=None)
    if values["has_table"]:
        template = "asterisk/sockets.sh.j2"
        yield rendered(template, values, path=SOCKETS, mode=0o644, service=NAME, reload=NOTHING)
    if wanted := build(deployment.site):
        yield from source.files(wanted.name, NAME)


def _with_digests(contents: Mapping[str, bytes], own: Sequence[bytes]) -> Mapping[str, bytes]:
    """The contents, each group of LOADED with its digest; `own` is also of the dialplan."""
    filled = dict(contents)
    for names in LOADED:
        group = [name for name in names if name in contents]
        if not group:
            continue
        parts = [contents[name] for name in group]
        parts += own if "extensions.conf" in group else []
        digest = hashlib.sha256(b"".join(parts)).hexdigest()[:16]
        filled[group[-1]] = contents[group[-1]].replace(DIGEST, digest.encode())
    return filled


def _file(name: str, content: bytes, template: str, reload: tuple[str, ...] | None) -> ManagedFile:
    return ManagedFile(
        path=f"/etc/asterisk/{name}",
        content=content,
        mode=0o640,
        owner=OWNER,
        service=NAME,
        reload=reload,
        sensitive=name in ("pjsip_users.conf", "users.db", "confbridge_users.conf"),
        template=template,
        is_data=name in DATA,
    )


def has_database(site: Site, profile: HostProfile) -> bool:
    """Whether Asterisk reads users from a database, because there are too many for files.

    A host that has the database returns to files below half the limit, because each change between
    the two costs a restart.
    """
    most = MOST_USERS_IN_FILES // (2 if profile.has_user_database else 1)
    return len(site.users) > most


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Limits of Asterisk: simultaneous calls; MiB of memory for them and the users in files."""

    calls: int
    memory_mib: int


def sizes(site: Site, profile: HostProfile) -> Sizes:
    """The limits of Asterisk; they follow from Kamailio's room and change only with it."""
    room = kamailio.sizes(site, profile).room
    ports = site.ports.rtp.end - site.ports.rtp.start + 1
    legs = 2 if extensions.kinds(site) & extensions.DIALLING else 1
    calls = site.limits.calls or min(room // 2, MOST_CALLS, ports // 2 // legs)
    in_files = 0 if has_database(site, profile) else min(room, MOST_USERS_IN_FILES)
    return Sizes(
        calls=calls,
        memory_mib=math.ceil(BASE_MIB + MIB_PER_CALL * calls + MIB_PER_USER * in_files),
    )


def notes(site: Site, profile: HostProfile) -> Iterator[str]:
    """Notes of a plan about a change between files and database; `profile` has the present one."""
    if has_database(site, profile) and not profile.has_user_database:
        yield (
            f"asterisk reads users from a database from now on, because there are more than "
            f"{MOST_USERS_IN_FILES}; below {MOST_USERS_IN_FILES // 2} it reads files again"
        )
    elif profile.has_user_database and not has_database(site, profile):
        yield f"asterisk reads users from files again: {count(len(site.users), 'user')} left"


def _values(deployment: Deployment) -> Mapping[str, Any]:
    site = deployment.site
    is_large = has_database(site, deployment.profile)
    own = (
        *(DATABASE_MODULES if is_large else ()),
        *MODULES,
        *(REGISTRAR_MODULES if site.authentication == "asterisk" else ()),
        *extensions.modules_of(site, deployment.attachments),
    )
    given = sizes(site, deployment.profile)
    # A build from source has no Opus codec, so services play ulaw or alaw.
    has_opus = deployment.asterisk >= OPUS_SINCE and not site.install.source
    return {
        "domain": site.domain,
        "authentication": site.authentication,
        "asterisk": {"address": LOOPBACK, "port": site.ports.asterisk},
        "trunk": {"address": LOOPBACK, "port": site.ports.kamailio},
        "media": {
            "local": deployment.local_address,
            "public": deployment.host.media_address,
            "bits": prefix_length(deployment.host.media_address),
        },
        "rtp": {"start": site.ports.rtp.start, "end": site.ports.rtp.end},
        "codecs": ("opus", "ulaw", "alaw") if has_opus else ("ulaw", "alaw"),
        "modules": (*own, "codec_opus_open_source") if has_opus else own,
        "has_database": is_large,
        "digest": _digest(deployment),
        "users": tuple(_users(deployment)),
        **extensions.values(site, deployment.attachments),
        "most_ringing": max(given.calls // RINGING_SHARE, MOST_MEMBERS),
        "voicemail_number": _voicemail_number(site),
        "open_files": OPEN_FILES,
        "calls": given.calls,
        "calls_of_number": CALLS_OF_NUMBER,
        "memory_mib": given.memory_mib,
        "has_table": deployment.firewall.kind == "nftables",
        "is_built": site.install.source is not None,
    }


def _digest(deployment: Deployment) -> Mapping[str, str]:
    if deployment.asterisk >= DIGEST_SINCE:
        return {"type": "digest", "key": "password_digest"}
    return {"type": "md5", "key": "md5_cred"}


def _users(deployment: Deployment) -> Iterator[Mapping[str, Any]]:
    algorithm = "MD5:" if deployment.asterisk >= DIGEST_SINCE else ""
    for number, user in deployment.site.users.items():
        yield {
            "number": number,
            "caller_name": user.name,
            "voicemail": user.voicemail,
            "digest": f"{algorithm}{deployment.credentials.get(number, '')}",
        }


def _voicemail_number(site: Site) -> str | None:
    """The number of the voicemail service, which the indication of new messages names."""
    return next((n for n, service in site.services.items() if service.kind == "voicemail"), None)


def listens(site: Site, host: HostEntry) -> Sequence[Port]:
    """The ports that must answer."""
    del host
    port = site.ports.asterisk
    return (
        Port(protocol="udp", address=LOOPBACK, number=port, process=NAME, key="ports.asterisk"),
    )


def checks(paths: Collection[str]) -> tuple[Check, ...]:
    """A trial start, unless only users change: Asterisk has no other way to check files."""
    data = {f"/etc/asterisk/{name}" for name in DATA}
    ours = (path for path in paths if path.startswith(("/etc/asterisk/", source.WRAPPER)))
    if not any(path not in data for path in ours):
        return ()
    return (Check(service=NAME, title="a trial start of Asterisk", script="trial_asterisk"),)


def parse_check(output: str) -> list[Complaint]:
    """The errors in Asterisk's log, and warnings with a file and line; each text once."""
    complaints: dict[tuple[str, int, str], Complaint] = {}
    for line in output.splitlines():
        complaint = COMPLAINT.search(line)
        if complaint is None:
            continue
        text = complaint["text"].strip()
        place = AT_LINE.search(text)
        # Most warnings concern the trial itself; warnings with a file and line never do.
        if complaint["level"] == "WARNING" and place is None:
            continue
        path = f"/etc/asterisk/{TRIAL.sub('', place['path'])}" if place else ""
        number = int(place["line"]) if place else 0
        verdict = Complaint(path=path, line=number, column=1, text=text)
        complaints.setdefault((path, number, text), verdict)
    return list(complaints.values())


SERVICE = Service(
    name=NAME,
    unit=UNIT,
    directories=DIRECTORIES,
    packages=packages,
    files=files,
    listens=listens,
    checks=checks,
    parse_check=parse_check,
)
