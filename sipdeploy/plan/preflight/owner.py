"""Whose a host is: recognises that it serves another inventory than the one to apply. Pure.

An inventory has no name of its own. A host is taken for that of an inventory if it serves the same
domain, and if one of the users whom both know has the same password in both: somebody with the
secrets of the site wrote it. Whether another domain is a new name of the site only people know.
"""

from sipdeploy.diagnostics import Diagnostic, count
from sipdeploy.facts import Facts
from sipdeploy.plan import Plan
from sipdeploy.plan.effects import credential_sums
from sipdeploy.services import kamailio

FEWEST = 2  # users: the only one may have got a new password


def is_doubtful(plan: Plan, facts: Facts) -> bool:
    """Whether the users of the host must be read to know whose it is."""
    return _is_renamed(plan, facts) or any(
        change.path == kamailio.SUMS and change.kind == "update" for change in plan.changes
    )


def problem(name: str, plan: Plan, facts: Facts, current: bytes | None) -> Diagnostic | None:
    """SD553 or SD554 if the host serves another inventory; None if it does not.

    `current` are the checksums of its credentials.
    """
    before = credential_sums(current) or {}
    new = next((f.content for f in plan.desired.files if f.path == kamailio.SUMS), None)
    after = credential_sums(new) or {}
    common = before.keys() & after.keys()
    if _is_renamed(plan, facts):
        known = f"{len(common) or 'none'} of its {count(len(before), 'user')} "
        return Diagnostic(
            "SD553",
            f"`{name}` serves `{facts.applied_domain}`, and this inventory is for "
            f"`{plan.desired.domain}`",
            notes=(f"{known}{'is' if len(common) < FEWEST else 'are'} in this inventory",)
            if before
            else (),
            help="if the site has a new domain, or shall replace the other one, add "
            f"`--take-over`; otherwise correct the address of `hosts.{name}`",
        )
    if len(common) < FEWEST or any(before[number] == after[number] for number in common):
        return None
    causes = "the secrets of another site, or new ones from a clone without its secrets file"
    return Diagnostic(
        "SD554",
        f"each of the {count(len(common), 'user')} whom `{name}` has would get another password",
        notes=(f"usual causes: {causes}",),
        help="get the secrets of this site from whoever made it. If every phone shall stop until "
        "somebody enters its new password, add `--take-over`",
    )


def _is_renamed(plan: Plan, facts: Facts) -> bool:
    return facts.applied_domain not in ("", plan.desired.domain)
