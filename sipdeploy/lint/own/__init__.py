"""Judges dialplan beside an inventory as part of the Asterisk that the inventory makes. Pure.

The linter of stacks knows what the file alone does not show: which endpoints and mailboxes exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.inventory.own import files
from sipdeploy.lint.stack import judging
from sipdeploy.lint.stack.files import StackFile
from sipdeploy.lint.stack.judging import Judged
from sipdeploy.lint.stack.reading import Tree
from sipdeploy.lint.stack.rules import Stack
from sipdeploy.services import extensions, file_set

if TYPE_CHECKING:
    from sipdeploy.inventory import Inventory

_NO_HA1 = "0" * 32
# Includes that are not there: SD255 refuses every include of a dialplan of one's own.
_TOLD = frozenset({"SD867"})


def lint_own(inventory: Inventory) -> Judged:
    """Every problem of dialplan and prompts beside an inventory, and the lines of dialplan."""
    found, problems = files.read(
        inventory.site, inventory.directory, inventory.document, is_trusted=inventory.is_trusted
    )
    judged = Judged(problems=[_as_note(each) for each in problems])
    if not found.dialplan:
        return judged
    tree = _tree(inventory, found)
    paths = {file.path for file in found.dialplan.values()}
    judged.sources.update({p: s for p, s in judging.sources(tree) if p in paths})
    version = tuple(map(int, inventory.site.versions.asterisk.split(".")))
    judged.problems.extend(
        each
        for each in judging.judge(tree, asterisk=version, is_ours=True)
        if each.span is not None and each.span.path in paths and each.code not in _TOLD
    )
    judged.problems.extend(_unanswered(inventory, tree))
    return judged


def _as_note(problem: Diagnostic) -> Diagnostic:
    """What lint of a stranger's inventory does not read is no error."""
    if problem.code != "SD233":
        return problem
    return Diagnostic(
        problem.code, problem.message, severity="note", span=problem.span, help=problem.help
    )


def _tree(inventory: Inventory, found: files.Attachments) -> Tree:
    """Asterisk's files of the first host, and the dialplan under its local paths."""
    site = inventory.site
    hashes = dict.fromkeys(site.users, _NO_HA1)
    name = next(iter(site.hosts))
    rendered = file_set(
        site, name, versions=site.versions, credentials=hashes, attachments=found
    ).files
    own = {file.path: extensions.source_of(file) for file in rendered}
    return Tree(
        files={
            file.path: StackFile(
                path=own[file.path] or file.path, place=file.path, text=file.content.decode()
            )
            for file in rendered
            if file.path.startswith("/etc/asterisk/") and file.path.endswith(".conf")
        }
    )


def _unanswered(inventory: Inventory, tree: Tree) -> Iterator[Diagnostic]:
    """Services whose context has no extension of their number."""
    from sipdeploy.lint.stack.asterisk import dialplan, parse  # noqa: PLC0415 - slow

    stack = Stack(asterisk=parse(tree.of("asterisk")))
    plan = dialplan.dialplan(stack)
    for number, service in inventory.site.services.items():
        context = plan.contexts.get(service.context or "")
        if service.kind != "dialplan" or context is None:
            continue
        reached, is_whole = plan.reachable(context)
        steps = (each for one in reached for each in one.matching(number) if each.has("1"))
        if is_whole and next(steps, None) is None:
            yield Diagnostic(
                "SD256",
                f"the context `[{service.context}]` has no extension `{number}`",
                span=inventory.document.value_span(("services", number, "context")),
                help=f"add `exten => {number},1,...` to `[{service.context}]`",
            )
