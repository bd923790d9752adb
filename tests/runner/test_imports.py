"""Imports of the runner's modules, and citations of the rules of `spec/runner.md`."""

import re
import subprocess
import sys

from tests_support import PACKAGES, REPOSITORY

_PARENT = """
import sys
sys.modules["wasmtime"] = None  # its import then fails
import runner.guest.executor
"""
_CHILD = """
import sys
import runner.guest.template
print(*sorted(name for name in sys.modules if name.partition(".")[0] in sys.argv[1:]))
"""


def test_the_parent_needs_no_wasmtime_to_import() -> None:
    """The executor and the run types import without the extra `runner`."""
    subprocess.run([sys.executable, "-c", _PARENT], check=True, cwd=REPOSITORY)


def test_children_import_nothing_that_holds_keys() -> None:
    """Modules of children import private modules of the runner, and readers of JSON."""
    command = [sys.executable, "-c", _CHILD, *PACKAGES]
    named = subprocess.run(
        command, check=True, cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.split()
    inside = (
        "body_child",
        "body_split",
        "compile_child",
        "component_calls",
        "data_segments",
        "frames",
        "guest_http",
        "guest_python",
        "guest_storage",
        "linear_memory",
        "provenance_child",
        "run_child",
        "template",
        "wasm",
    )
    below = (
        "allowed_calls",
        "call_numbers",
        "landlock",
        "privileges",
        "resource_limits",
        "system_calls",
    )
    # What the separation of a body needs (RN251): they read JSON and base64, and know no keys.
    readers = ("capability_errors", "frozen_struct", "strict_base64", "strict_json")
    expected = ["capabilities", *(f"capabilities.{one}" for one in readers)]
    expected += ["runner", "runner.guest"]
    expected += ["serving", "serving.confinement", "serving.messages"]
    expected += [f"serving.confinement.{one}" for one in below]
    expected += [f"runner.guest.{one}" for one in inside]
    assert sorted(expected) == named


def test_each_rule_is_at_a_line() -> None:
    """The code cites each rule of the page, and no rule that is on no page."""
    stated, granted, of_tasks, of_operation = (
        set(
            re.findall(
                r"^- \*\*(RN\d+)\*\*", (REPOSITORY / "spec" / page).read_text("utf-8"), re.MULTILINE
            )
        )
        for page in ("runner.md", "run-grants.md", "tasks.md", "operations/runner.md")
    )
    code = ""
    for folder in ("serving/confinement", "runner"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            code += path.read_text("utf-8")
    for other in ("serving/listener.py", "serving/outbound.py", "serving/shares.py"):
        code += (REPOSITORY / other).read_text("utf-8")
    named = set(re.findall(r"\bRN\d+\b", code))
    assert stated <= named <= stated | granted | of_tasks | of_operation
    assert len(stated) > 50
