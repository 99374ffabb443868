import pytest

from sipdeploy.diagnostics import Diagnostic, errors

PROBLEM = Diagnostic("SD110", "cannot read `x`")


@pytest.mark.parametrize(
    ("kind", "code"),
    [("InvalidFiles", 1), ("WrongUsage", 2), ("HostFailed", 4), ("RollbackFailed", 5)],
)
def test_exit_codes(kind, code):
    failure = getattr(errors, kind)([PROBLEM])
    assert failure.exit_code == code
    assert isinstance(failure, errors.SipdeployError)


def test_the_text_is_what_happened():
    assert str(errors.HostFailed([PROBLEM])) == "error[SD110] cannot read `x`"
