"""What an apply does after its proof from outside. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.proof.outside.step import PAGE

if TYPE_CHECKING:
    from sipdeploy.proof.outside.step import Proof

Verdict = Literal["works", "unreachable", "undo"]


def judge(before: Proof | None, after: Proof, *, is_first: bool, is_suspect: bool) -> Verdict:
    """Whether the host works, stays although it does not, or goes back.

    `before` is the proof before the swap, if there was one. `is_first`: sipdeploy has not
    configured this host before. `is_suspect`: this apply changes what a phone needs to reach the
    host: firewall, port, certificate or address.
    """
    if not after.failed:
        return "works"
    if is_first:
        return "unreachable"
    worked = {each.name for each in before.results if each.status == "ok"} if before else set()
    is_worse = any(each.name in worked for each in after.failed)
    is_cut_off = is_suspect and any(each.name != PAGE for each in after.failed)
    return "undo" if is_worse or is_cut_off else "unreachable"


def undone(name: str, after: Proof, *, is_suspect: bool) -> Diagnostic:
    """The error that takes an apply back."""
    first = after.failed[0]
    why = (
        "this apply changes the firewall, the port, the certificate or an address"
        if is_suspect
        else "before this apply, it worked"
    )
    return Diagnostic(
        "SD912",
        f"phones cannot use `{name}` from here after the change: `{first.name}` failed",
        notes=(why, "on the host itself everything works"),
        help=f"`sipdeploy verify {name}` proves the present release; `sipdeploy apply {name} "
        "--verify none` applies without a proof from here",
    )


def unreachable(name: str, after: Proof) -> Diagnostic:
    """The error about a host that stays applied and cannot be used from here."""
    first = after.failed[0]
    fix = next((each.help for each in first.diagnostics if each.help), "")
    what = "phones cannot reach it"
    if first.name == PAGE:
        what = "browsers cannot open the web phone"
    return Diagnostic(
        "SD911",
        f"`{name}` is applied, and {what} from here: `{first.name}` failed",
        notes=(
            "on the host itself everything works",
            *((f"the likely fix: {fix}",) if fix else ()),
        ),
        help=f"then prove it: `sipdeploy verify {name}`",
    )
