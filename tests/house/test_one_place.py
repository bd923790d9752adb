"""Constants that several packages share are defined in one module."""

import ast
import re

from tests_support import PACKAGES, REPOSITORY

# An ability, the type of a fact or of a document: `tinycloud.kv/get`,
# `sealspace.encryption.policy/v1`.
_NAME = re.compile(r"(?:tinycloud|sealspace)(?:\.[a-z-]+)+/[a-z0-9.*-]+")


def test_an_ability_or_a_type_is_written_in_one_module() -> None:
    """Each ability or type is written in one module, because two copies could differ. Texts for
    people may name it."""
    written: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if (
                    isinstance(node, ast.Constant)
                    and isinstance(node.value, str)
                    and _NAME.fullmatch(node.value)
                ):
                    written.setdefault(node.value, set()).add(str(path.relative_to(REPOSITORY)))
    assert {"tinycloud.kv/get", "sealspace.encryption.policy/v1"} <= written.keys()
    assert {name: sorted(places) for name, places in written.items() if len(places) > 1} == {}


def test_requests_decode_delegations_in_one_class() -> None:
    """D34: no operation decodes stored delegations past the bound of its request."""
    decoding = set()
    for path in [*(REPOSITORY / "node").rglob("*.py"), *(REPOSITORY / "spaces").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Name) and node.id == "decode_delegation":
                decoding.add(str(path.relative_to(REPOSITORY)))
    jobs = {"node/housekeeping/schedule.py", "spaces/archive/delegation_checks.py"}
    assert decoding - jobs == {"spaces/grants/delegation_cache.py"}


COMMITS_WITHOUT_A_CALL = {
    "admission.py": "the operator's command",
    "authorise.py": "`Call.commit` itself",
    "delegate.py": "a registration, which is judged with the moves above it",
    "readiness.py": "the row that shows that the store accepts writes",
    "revoke.py": "a revocation, whose proofs are judged by other rules",
    "sql_run.py": "the size of a file that was changed already",
    "succession.py": "the move itself",
    "upgrade.py": "a job",
    "withdrawal.py": "the operator's command",
}


def test_operations_for_a_call_commit_in_one_way() -> None:
    """TM18, ST2: a commit for an authorised call fails after a move or a revocation above it.

    `Call.commit` sees to it, so operations make no commit of their own.
    """
    committing = set()
    for path in (REPOSITORY / "node" / "operations").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id == "Commit":
                committing.add(path.name)
    assert committing == COMMITS_WITHOUT_A_CALL.keys()
