"""Rules over Asterisk's files: their manuals, the guide's files, and no report on our own."""

import inspect
import re
import textwrap

import pytest
from stack_asterisk import BESIDE, OF_ASTERISK, findings, reported, split_files, stack_of

from sipdeploy.lint.stack.asterisk import catalogue
from sipdeploy.lint.stack.rules import RULES

OUTSIDE = {"SD832"}  # needs the version


def snippet(code, kind):
    manual = inspect.getdoc(RULES[code].check) or ""
    match = re.search(rf"^{kind}: (\S+)\n((?:    .*\n?|\n)+)", manual, re.MULTILINE)
    assert match, f"the manual of {code} lacks `{kind}:`"
    return split_files(match[1], textwrap.dedent(match[2]))


@pytest.mark.parametrize("code", [code for code in OF_ASTERISK if code not in OUTSIDE])
def test_the_snippets_of_a_manual(code):
    codes = [code] if code in BESIDE else OF_ASTERISK
    assert code in {each for each, _ in findings(snippet(code, "Bad"), codes=codes)}
    assert code not in {each for each, _ in findings(snippet(code, "Good"), codes=codes)}


@pytest.mark.parametrize("code", OF_ASTERISK)
def test_a_manual_is_whole_and_a_finding_has_a_fix(code):
    manual = inspect.getdoc(RULES[code].check) or ""
    first = manual.split("\n")[0]
    assert first.endswith(".")
    assert len(f"{code}  {first}") <= 99
    if code not in OUTSIDE:
        for _, finding in findings(snippet(code, "Bad"), codes=[code]):
            assert finding.help
            assert finding.file.text[finding.start : finding.end].strip()


# --- the guide's files: each of its defects, with its line ---------------------------------------

GUIDE_PJSIP = """\
[global]
default_realm=sip.example.org

[transport-udp]
type=transport
protocol=udp
bind=0.0.0.0:5060
external_signaling_address=203.0.113.10

[1001]
type=endpoint
context=default
disallow=all
allow=ulaw,opus
auth=1001
aors=1001
webrtc=yes

[1001]
type=auth
auth_type=userpass
username=1001
password=1234

[1001]
type=aor

[kamailio]
type=endpoint
context=default
allow=ulaw,opus
aors=kamailio
media_encryption_optimistic=yes

[kamailio]
type=aor
contact=sip:127.0.0.1:5062
"""
KAMAILIO = """\
listen=udp:0.0.0.0:5062
request_route {
    $du = "sip:127.0.0.1:5060";
    t_relay();
}
"""
GUIDE = {
    "/etc/asterisk/pjsip.conf": GUIDE_PJSIP,
    "/etc/asterisk/extensions.conf": """\
[default]
exten => 6000,1,Answer()
exten => 6000,n,Hangup()
exten => 1001,1,Dial(PJSIP/1001@kamailio,30)
exten => 1001,n,Hangup()
""",
    "/etc/asterisk/rtp.conf": """\
[general]
rtpstart=10000
rtpend=20000
stunaddr=stun.example.org
icesupport=yes
""",
    "/etc/kamailio/kamailio.cfg": KAMAILIO,
}


def test_the_defects_of_the_guide():
    assert sorted(reported(GUIDE)) == [
        ("SD833", 1, "global"),  # no type: the realm is ignored
        ("SD836", 28, "kamailio"),  # matched by From
        ("SD839", 28, "kamailio"),  # 488
        ("SD840", 23, "1234"),
        ("SD841", 23, "1234"),
        ("SD842", 8, "203.0.113.10"),
        ("SD869", 4, "stun.example.org"),
        ("SD886", 7, "0.0.0.0:5060"),  # callers can pass Kamailio by
    ]


def test_no_message_shows_a_password():
    secret = "hunter2"
    text = f"[1001]\ntype=auth\npassword={secret}\n[a]\ntype=auth\npasword={secret}\n"
    manager = f"[general]\nenabled=yes\n[m]\nsecret={secret}\n"
    files = {"/etc/asterisk/pjsip.conf": text, "/etc/asterisk/manager.conf": manager}
    files["/etc/asterisk/voicemail.conf"] = "[default]\n1001 => 1234,A\n"
    for _, each in findings(files):
        assert secret not in each.message + each.help + each.label
        assert "1234" not in each.message + each.help + each.label


# --- single rules --------------------------------------------------------------------------------

ENDPOINT = "[x]\ntype=endpoint\nauth=x\naors=x\n{}\n[x]\ntype=auth\n[x]\ntype=aor\n"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("dtmf_mode=rfc4733", None),
        ("dtmf_mode=rfc2833", "SD831"),
        ("direct_media=nope", "SD831"),
        ("direct_media=off", None),
        ("rtp_timeout=1m", "SD831"),
        ("identify_by=username,ip", None),
        ("identify_by=username,address", "SD831"),
        ("allow=!all,ulaw,slin16,silk24,ulaw:20", None),
        ("allow=g711", "SD831"),
        ("timers=on", None),
        ("100rel=peer_supported", None),
        ("allow=${CODECS}", None),
        ("direct_media={{ value }}", None),
        ("set_var=A=b", None),
        ("@own=1", None),
        ("Direct_Media=no", None),
        ("directmedia=no", "SD830"),
        ("max_contacts=1", "SD830"),
    ],
)
def test_options_and_values(line, code):
    codes = ["SD830", "SD831"]
    assert [each for each, *_ in reported(ENDPOINT.format(line), codes=codes)] == [code] * bool(
        code
    )


def test_a_near_option_is_proposed():
    (found,) = findings({"/etc/asterisk/pjsip.conf": ENDPOINT.format("directmedia=no")})
    assert found[1].help == "write `direct_media`"


@pytest.mark.parametrize(
    ("version", "reports"),
    [(None, 0), ((16,), 1), ((18,), 1), ((22,), 0), ((22, 1), 0), ((30,), 0), ((20, 1), 1)],
)
def test_options_of_other_versions(version, reports):
    text = "[x]\ntype=registration\nsupport_outbound=yes\n[y]\ntype=global\nuser_agent=a\n"
    text += "default_auth_algorithms_uas=MD5\n"
    if version == (22, 1):  # came with 22.2.0
        reports = 1
    found = findings({"/etc/asterisk/pjsip.conf": text}, version, ["SD832"])
    algorithms = [each for _, each in found if "default_auth" in each.message]
    assert len(algorithms) == reports


def test_an_application_that_went_away():
    files = {"/etc/asterisk/extensions.conf": "[in]\nexten => 1,1,Macro(x)\n"}
    assert [code for code, _ in findings(files, (20,), ["SD856"])] == []
    ((_, found),) = findings(files, (22,), ["SD856"])
    assert "Asterisk 21 removed it" in found.message


def test_a_template_is_reported_once():
    text = "[t](!)\ntype=endpoint\nauth=none\nwebrt=yes\n[a](t)\n[b](t)\n"
    codes = [code for code, *_ in reported(text)]
    assert codes.count("SD830") == 1
    assert codes.count("SD834") == 1


@pytest.mark.parametrize(
    "others",
    [
        {"sorcery.conf": "[res_pjsip]\nauth=realtime,ps_auths\n"},
        {"pjsip_wizard.conf": "[x]\ntype=wizard\n"},
    ],
)
def test_objects_in_a_database_or_a_wizard_are_not_missed(others):
    text = "[x]\ntype=endpoint\nauth=gone\n"
    files = {"/etc/asterisk/pjsip.conf": text}
    assert "SD834" in [code for code, _ in findings(files)]
    files |= {f"/etc/asterisk/{name}": text for name, text in others.items()}
    assert "SD834" not in [code for code, _ in findings(files)]


def dial(*steps, contexts=""):
    text = "[in]\n" + "\n".join(steps) + "\n" + contexts
    return [
        code for code, _ in findings({"/etc/asterisk/extensions.conf": text}) if code != "SD856"
    ]


@pytest.mark.parametrize(
    ("steps", "codes"),
    [
        (["exten => 1,1,Goto(end)", "same => n(end),Hangup()"], []),
        (["exten => 1,1,Goto(ende)", "same => n(end),Hangup()"], ["SD850"]),
        (["exten => 1,1,Goto(2,1)", "exten => 2,1,Hangup()"], []),
        (["exten => 1,1,Goto(3,1)", "exten => 2,1,Hangup()"], ["SD850"]),
        (["exten => 1,1,Goto(3,1)", "exten => i,1,Hangup()"], []),
        (["exten => 1,1,Goto(in,1,5)"], ["SD850"]),
        (["exten => 1,1,Goto(${WHERE},1,1)"], []),
        (["exten => 1,1,Goto(gone,${EXTEN},1)"], ["SD850"]),
        (['exten => 1,1,GotoIf($["${A}"="?b:c"]?a:b)', "same => n(a),NoOp()"], ["SD850"]),
        (["exten => 1,1,GotoIf($[1]?a)", "same => n(a),NoOp()"], []),
        (["exten => 1,1,GotoIfTime(9:00-17:00,mon-fri,*,*?gone,s,1)"], ["SD850"]),
        (["exten => 1,1,Gosub(gone,s,1(a,b))"], ["SD850"]),
        (["exten => 1,1,Goto(parkedcalls,701,1)"], []),
        (["include => gone"], ["SD851"]),
        (["include => parkedcalls"], []),
        (["switch => Realtime", "exten => 1,1,Goto(5,1)"], []),
        (["exten => 1,1,NoOp()", "exten => 1,3,NoOp()"], ["SD852"]),
        (["exten => 1,1,Goto(3)", "exten => 1,3,NoOp()"], []),
        (["exten => 1,n,NoOp()"], ["SD853"]),
        (["exten => 1,1,NoOp()", "exten => 2,n,NoOp()"], ["SD852"]),
        (["exten => _X.,1,NoOp()", "exten => 12,2,NoOp()"], []),
        (["exten => 1,hint,PJSIP/x", "same => n,NoOp()"], ["SD853"]),
        (["exten => 1,1,NoOp()", "exten => 1,1,NoOp()"], ["SD854"]),
        (["exten => _X.,1,System(x ${EXTEN:1})"], ["SD857"]),
        (["exten => _XX,1,System(x ${EXTEN:1})"], []),
        (["exten => _X.,1,Set(A=${EXTEN})", "same => n,System(x ${A})"], ["SD857"]),
        (["exten => _X.,1,Set(A=${FILTER(0-9,${EXTEN})})", "same => n,System(x ${A})"], []),
        (["exten => 1,1,Set(A=${SHELL(x ${CALLERID(name)})})"], ["SD857"]),
        (["exten => _X.,1,Dial(PJSIP/${EXTEN}@a)"], ["SD858"]),
        (["exten => _X!,1,Dial(PJSIP/${FILTER(0-9,${EXTEN})}@a)"], []),
        (["exten => _XXXX,1,Dial(PJSIP/${EXTEN}@a)"], []),
        (["exten => ${NUMBER},1,Goto(gone)"], []),
        (["exten => 1,1(a),NoOp()", "same => n+2(b),Goto(a)"], []),
    ],
)
def test_the_dialplan(steps, codes):
    assert dial(*steps) == codes


def test_a_goto_of_an_included_context_may_lead_to_the_including_one():
    outer = "[outer]\ninclude => in\nexten => i,1,Hangup()\n"
    assert dial("exten => 1,1,Goto(i,1)") == ["SD850"]
    assert dial("exten => 1,1,Goto(i,1)", contexts=outer) == []


def test_the_catalogue_knows_the_versions():
    assert catalogue.options("endpoint")["webrtc"]["type"] == "bool"
    assert {"endpoint", "aor", "auth", "transport", "identify"} <= set(catalogue.kinds())
    assert catalogue.applications()["dial"]["name"] == "Dial"


def test_a_context_from_a_template_is_reported_once():
    text = (
        "[t](!)\nexten => _X.,1,Dial(PJSIP/${EXTEN}@a)\nsame => n,Goto(gone,s,1)\n[a](t)\n[b](t)\n"
    )
    codes = [code for code, _ in findings({"/etc/asterisk/extensions.conf": text})]
    assert codes == ["SD850", "SD858"]


# --- dialplan beside an inventory ----------------------------------------------------------------


def beside(line, code):
    files = {"/etc/asterisk/extensions.conf": f"[shop]\nexten => 7000,1,{line}\n"}
    return [text for _, _, text in reported(files, codes=[code])]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("Dial(PJSIP/1001@trunk)", ["Dial"]),
        ("dial(PJSIP/1001@trunk,20)", ["dial"]),
        ("Dial(PJSIP/1001@trunk,20,tT)", ["Dial"]),
        ("Dial(PJSIP/1001@trunk,20,b(in^s^1(i,i))g)", ["Dial"]),
        ("Dial(Local/1@in&PJSIP/1001@trunk,20)", ["Dial"]),
        ("Dial(${PHONE},20)", ["Dial"]),
        ("Dial(${CUT(X,i,2)},20)", ["Dial"]),
        ("ExecIf($[1]?Dial(PJSIP/1001@trunk,20):Dial(PJSIP/1002@trunk,20,i))", ["Dial"]),
        ("Queue(shop)", ["Queue"]),
        ("Queue(shop,t,,,i)", ["Queue"]),
        ("Page(PJSIP/1001@trunk)", ["Page"]),
        ("RetryDial(x,1,2,PJSIP/1001@trunk,20)", ["RetryDial"]),
        ("Dial(PJSIP/1001@trunk,20,i)", []),
        ("Dial(PJSIP/1001@trunk,20,b(in^s^1(${X},2))iI)", []),
        ("Dial(PJSIP/${FILTER(0-9,${EXTEN})}@trunk,20,iI)", []),
        ("Dial(PJSIP/1001@trunk,20,${OPTIONS})", []),
        ("Dial(Local/1001@shop,20)", []),
        ("Queue(shop,i)", []),
        ("RetryDial(x,1,2,PJSIP/1001@trunk,20,i)", []),
        ("Goto(sipdeploy-phones,1001,1)", []),
    ],
)
def test_calls_that_a_phone_can_send_elsewhere(line, names):
    assert beside(line, "SD870") == names


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("MixMonitor(shop.wav,,touch /tmp/x)", ["MixMonitor"]),
        ("Set(FILE(/etc/asterisk/x)=1)", ["FILE"]),
        ("ExecIf($[1]?originate(Local/1@shop,app,Echo))", ["originate"]),
        ("NoOp(${SHELL(id)}${CURL(http://x)})", ["SHELL", "CURL"]),
        ("Record(/tmp/x:ulaw)", ["Record"]),
        ("Set(X=${MATH(1+1)})", []),
    ],
)
def test_modules_that_sipdeploy_does_not_load(line, names):
    assert beside(line, "SD871") == names


def test_rules_of_dialplan_beside_an_inventory_leave_other_files_alone():
    files = {"/etc/asterisk/extensions.conf": "[a]\nexten => 1,1,Dial(PJSIP/1001)\n"}
    stack = stack_of(files)
    assert not [*RULES["SD870"].check(stack), *RULES["SD871"].check(stack)]
