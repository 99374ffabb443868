"""Asterisk: its files, its packages and the modules that it may load."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sipdeploy.render import ManagedFile, render
from sipdeploy.service import LOOPBACK, Deployment, Directory, Port, Verdict, prefix_length
from sipdeploy.site import HostEntry, Site

NAME = "asterisk"
UNIT = "asterisk.service"
OWNER = "root:asterisk"
DIRECTORIES = (
    Directory(path="/etc/asterisk", mode=0o755, owner="root:root"),
    Directory(path="/etc/systemd/system/asterisk.service.d", mode=0o755, owner="root:root"),
)
OPEN_FILES = 65536
# `auth_type=digest` came with 22.2 (and 20.12); the older names are still read, with a warning.
DIGEST_SINCE = (22, 2)
# Debian packages codec_opus with Asterisk from 20 on.
OPUS_SINCE = (20,)

MODULES = (
    # what PJSIP stands on
    *("res_timing_timerfd", "res_sorcery_config", "res_sorcery_memory", "res_sorcery_astdb"),
    *("res_crypto", "res_pjproject", "res_pjsip", "res_pjsip_session", "res_pjsip_sdp_rtp"),
    *("res_pjsip_endpoint_identifier_ip", "res_pjsip_endpoint_identifier_user", "res_pjsip_acl"),
    *("res_pjsip_authenticator_digest", "res_pjsip_registrar", "res_pjsip_nat"),
    *("res_pjsip_caller_id", "res_pjsip_header_funcs", "res_pjsip_rfc3326", "res_pjsip_refer"),
    *("res_pjsip_dtmf_info", "res_pjsip_logger", "res_security_log", "res_clioriginate"),
    # voicemail indication and presence
    *("res_pjsip_pubsub", "res_pjsip_mwi", "res_pjsip_mwi_body_generator"),
    *("res_pjsip_outbound_publish", "res_pjsip_exten_state", "res_pjsip_pidf_body_generator"),
    *("res_pjsip_pidf_digium_body_supplement", "res_pjsip_xpidf_body_generator"),
    *("res_pjsip_dialog_info_body_generator",),
    # media
    *("res_rtp_asterisk", "res_srtp", "chan_pjsip", "bridge_simple", "bridge_native_rtp"),
    *("bridge_holding", "bridge_builtin_features", "bridge_builtin_interval_features"),
    *("bridge_softmix", "codec_ulaw", "codec_alaw", "codec_gsm", "codec_resample"),
    *("format_gsm", "format_wav", "format_wav_gsm", "format_pcm", "res_format_attr_opus"),
    # dialplan
    *("pbx_config", "app_stack", "app_dial", "app_echo", "app_playback", "app_playtones"),
    *("app_voicemail", "app_verbose", "func_callerid", "func_channel", "func_logic"),
    *("func_strings", "func_devstate", "res_pjsip_messaging"),
)

ENDPOINTS = ("asterisk", "-rx", "module reload res_pjsip.so")
FILES: Sequence[tuple[str, int, tuple[str, ...] | None, bool]] = (
    ("pjsip.conf", 0o640, ENDPOINTS, True),
    ("extensions.conf", 0o640, ("asterisk", "-rx", "dialplan reload"), False),
    ("rtp.conf", 0o640, ("asterisk", "-rx", "module reload res_rtp_asterisk.so"), False),
    ("voicemail.conf", 0o640, ("asterisk", "-rx", "voicemail reload"), False),
    ("logger.conf", 0o640, ("asterisk", "-rx", "logger reload"), False),
    ("manager.conf", 0o640, ("asterisk", "-rx", "manager reload"), False),
    ("http.conf", 0o640, ("asterisk", "-rx", "module reload http"), False),
    ("modules.conf", 0o640, None, False),
)


def packages(os_id: str, codename: str) -> tuple[str, ...]:
    """The Debian packages. Debian 11 has voicemail in a package of its own."""
    del os_id
    base = ("asterisk", "asterisk-core-sounds-en-gsm")
    return (*base, "asterisk-voicemail") if codename == "bullseye" else base


def files(deployment: Deployment) -> Iterator[ManagedFile]:
    """Every managed file of Asterisk."""
    values = _values(deployment)
    for name, mode, reload, sensitive in FILES:
        yield ManagedFile(
            path=f"/etc/asterisk/{name}",
            content=render(f"asterisk/{name}.j2", values),
            mode=mode,
            owner=OWNER,
            service=NAME,
            reload=reload,
            sensitive=sensitive,
            template=f"asterisk/{name}.j2",
        )
    yield ManagedFile(
        path="/etc/systemd/system/asterisk.service.d/sipdeploy.conf",
        content=render("asterisk/override.conf.j2", values),
        mode=0o644,
        owner="root:root",
        service=NAME,
        reload=None,
        template="asterisk/override.conf.j2",
    )


def _values(deployment: Deployment) -> Mapping[str, Any]:
    site = deployment.site
    has_opus = deployment.asterisk >= OPUS_SINCE
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
        "modules": (*MODULES, "codec_opus_open_source") if has_opus else MODULES,
        "digest": _digest(deployment),
        "users": tuple(_users(deployment)),
        "services": tuple(
            {"number": number, "kind": service.kind} for number, service in site.services.items()
        ),
        "voicemail_number": _voicemail_number(site),
        "open_files": OPEN_FILES,
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
    """What a phone dials for its box, as it is told with the number of messages."""
    return next((n for n, service in site.services.items() if service.kind == "voicemail"), None)


def listens(site: Site, host: HostEntry) -> Sequence[Port]:
    """The ports that must answer."""
    del host
    port = site.ports.asterisk
    return (
        Port(protocol="udp", address=LOOPBACK, number=port, process=NAME, key="ports.asterisk"),
    )


def check(tree: str) -> None:
    """Asterisk has no check of a configuration that does not start it."""
    del tree


def parse_check(output: str) -> list[Verdict]:
    """Nothing to parse: see `check`."""
    del output
    return []
