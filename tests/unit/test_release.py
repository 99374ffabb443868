"""Releases as a host keeps them: those of older versions, of newer ones, and damaged ones."""

import copy
import io
import json
import tarfile

import pytest
from fakes import FakeHost

from sipdeploy import __version__
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import Result
from sipdeploy.plan.desired import Desired, GeneratedFile, Probe
from sipdeploy.services.acme import Order
from sipdeploy.services.install import Build, Repository, Tarball
from sipdeploy.services.render import ManagedFile
from sipdeploy.services.service import Directory, Port
from sipdeploy.transaction import release

DESIRED = Desired(
    domain="sip.example.test",
    files=(
        ManagedFile(
            path="/etc/x.cfg",
            content=b"\xff\x00",
            mode=0o640,
            owner="root:kamailio",
            service="kamailio",
            reload=("true", "-x"),
            sensitive=True,
            template="kamailio/x.j2",
        ),
    ),
    generated=(
        GeneratedFile(
            path="/etc/key",
            mode=0o600,
            owner="root:root",
            recipe="dialog-key",
            service="kamailio",
            reload=None,
        ),
    ),
    directories=(Directory(path="/etc/d", mode=0o755, owner="root:root"),),
    packages=("kamailio",),
    units={"kamailio": "kamailio.service", "asterisk": "asterisk.service"},
    ports=(Port(protocol="tcp", address="*", number=443, process="kamailio", key="port"),),
    probe=Probe(domain="sip.example.test", origin="https://example.test", number="1001"),
    order=Order(
        domain="sip.example.test", email="a@example.test", server="s", challenge="http-01"
    ),
    build=Build(
        name="asterisk-22-0",
        version="22",
        modules=("app_dial",),
        tarballs=(Tarball(file="asterisk", sha256="00", url="https://example.test/a"),),
    ),
    repository=Repository(url="u", series="6.1", key="k", fingerprint="f"),
)
# As the first version that kept releases wrote it. Never change this text: hosts have such files.
FORMAT_1 = """{"format": 1, "who": "me", "when": "2025-11-02T10:00:00Z", "purpose": "apply sip1",
"what": ["+ a"], "desired": {"domain": "sip.example.test",
"made": [{"path": "/etc/key", "mode": 384, "owner": "root:root", "recipe": "dialog-key",
 "service": "kamailio", "reload": null}],
"directories": [{"path": "/etc/d", "mode": 493, "owner": "root:root"}], "packages": ["kamailio"],
"units": {"kamailio": "kamailio.service", "asterisk": "asterisk.service"},
"ports": [{"protocol": "tcp", "address": "*", "number": 443, "process": "kamailio",
 "key": "port"}],
"probe": {"domain": "sip.example.test", "origin": "https://example.test", "number": "1001"},
"order": {"domain": "sip.example.test", "email": "a@example.test", "server": "s",
 "challenge": "http-01", "webroot": "", "dns_plugin": "", "dns_wait": 0, "has_credentials": false,
 "has_root": false},
"build": {"name": "asterisk-22-0", "version": "22", "modules": ["app_dial"],
 "tarballs": [{"file": "asterisk", "sha256": "00", "url": "https://example.test/a"}]},
"repository": {"url": "u", "series": "6.1", "key": "k", "fingerprint": "f"},
"notes": ["room for 100 users"],
"files": [{"path": "/etc/x.cfg", "mode": 416, "owner": "root:kamailio", "service": "kamailio",
 "reload": ["true", "-x"], "sensitive": true, "template": "kamailio/x.j2", "is_data": false}]}}"""


def archive(text):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        contents = {f"tree{file.path}": file.content for file in DESIRED.files}
        for name, content in {"release.json": text.encode(), **contents}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def changed(change, **more):
    data = copy.deepcopy(json.loads(FORMAT_1)) | more
    change(data["desired"])
    return archive(json.dumps(data))


def test_a_release_of_format_1_is_read():
    assert release.load(archive(FORMAT_1)) == DESIRED
    assert release.header(FORMAT_1, 3, 3).who == "me"


def test_a_release_of_this_version_is_read():
    signature = release.Signature(who="me", when="now", purpose="apply", what=())
    text = release.dump(DESIRED, signature).decode()
    assert release.load(archive(text)) == DESIRED
    assert release.header(text, 1, 2).is_current is False
    # An older version reads what this one writes, until the format has another number.
    assert json.loads(text)["desired"].keys() >= json.loads(FORMAT_1)["desired"].keys()


@pytest.mark.parametrize("key", ["ports", "probe", "order", "build", "repository", "notes"])
def test_a_release_from_before_a_field_has_its_default(key):
    loaded = release.load(changed(lambda data: data.pop(key)))
    assert getattr(loaded, key) == Desired.__dataclass_fields__[key].default
    assert loaded.files == DESIRED.files


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda data: data.update(tenants=[]), "tenants"),
        (lambda data: data["files"][0].update(acl="r", mode="?"), "files.0.acl"),
        (lambda data: data["order"].update(**{"a\x1b[2Jb": 1}), "order.a\\x1b[2Jb"),
    ],
    ids=["of the host", "of a file", "a hostile name"],
)
def test_a_field_of_a_newer_version_is_not_ignored(change, field):
    with pytest.raises(ValueError, match="written by another version of sipdeploy") as failed:
        release.load(changed(change))
    assert str(failed.value).endswith(f": its field `{field}` is unknown")
    assert failed.value.__cause__ is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("domain"), "`domain`: field required"),
        (
            lambda data: data["files"][0].update(mode="rw"),
            "`files.0.mode`: input should be a valid",
        ),
        (lambda data: data.update(units=["x"]), "`units`: input should be a valid dictionary"),
        (lambda data: data["files"][0].update(path="/etc/gone"), "'/etc/gone'"),
        (lambda data: data["files"][0].update(path=["/"]), "unhashable"),
        (lambda data: data.pop("made"), "'made'"),
        (lambda data: data.update(files=7), "not iterable"),
        (lambda data: data.update(files=[7]), "not a mapping"),
    ],
)
def test_a_damaged_release_is_told_in_one_line(change, message):
    with pytest.raises(ValueError, match=r"^the release is damaged: ") as failed:
        release.load(changed(change, version=__version__))
    assert message in str(failed.value)
    assert not [noise for noise in ("\n", "http", "pydantic") if noise in str(failed.value)]
    cause = r"^the release is damaged, or was written by another version of sipdeploy: "
    with pytest.raises(ValueError, match=cause):  # as versions wrote it that recorded no version
        release.load(changed(change))
    cause = (
        rf"^the release was written by another version of sipdeploy \(9.9; this is {__version__}"
    )
    with pytest.raises(ValueError, match=cause):
        release.load(changed(change, version="9.9"))


@pytest.mark.parametrize("text", ["{", ""])
def test_a_release_that_is_not_json_is_damaged(text):
    with pytest.raises(ValueError, match=r"^the release is damaged: "):
        release.load(archive(text))


@pytest.mark.parametrize("text", ['{"format": 1}', '{"format": 1, "desired": []}'])
def test_a_release_of_another_shape_is_told(text):
    with pytest.raises(ValueError, match=r"^the release is damaged, or was written by another"):
        release.load(archive(text))


def kept(*texts, current):
    """A host that keeps these releases, the first as number 1."""
    rows = "".join(f"\x1erelease {number}\n{text}\n" for number, text in enumerate(texts, 1))
    out = f"\x1ecurrent\n{current}\n{rows}\x1eend\n".encode()
    return FakeHost(answers={"history": Result(status=0, stdout=out)})


def test_one_unreadable_release_hides_no_other():
    newer = FORMAT_1.replace('"format": 1', '"format": 7')
    host = kept(FORMAT_1, newer, "{", FORMAT_1, current=4)
    headers = release.history(host)
    assert [header.number for header in headers] == [1, 2, 3, 4]
    assert [header.who for header in headers] == ["me", "", "", "me"]
    assert "another version" in headers[1].problem
    assert "damaged" in headers[2].problem
    assert [header.is_current for header in headers] == [False, False, False, True]


def test_a_release_that_cannot_be_restored_names_the_way_to_another():
    tar = Result(status=0, stdout=archive("{"))
    with pytest.raises(HostFailed) as failed:
        release.fetch_release(FakeHost(answers={"release": tar}), 3)
    (problem,) = failed.value.diagnostics
    assert problem.code == "SD530"
    assert "`sipdeploy rollback sip1 NUMBER`" in problem.help


@pytest.mark.parametrize("number", ["2", '"1"', "null"])
def test_another_format_is_not_read(number):
    text = FORMAT_1.replace('"format": 1', f'"format": {number}')
    for read in (lambda: release.load(archive(text)), lambda: release.header(text, 1, 1)):
        with pytest.raises(ValueError, match=r"^the release was written by another version"):
            read()
