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
