"""Generator of what is made from the table of members of compose files: a page, and the console's
copy."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests_support import REPOSITORY

from tee_backend.measuring.compose_members import TABLE

PAGE = REPOSITORY / "spec" / "compose-members.md"
CONSOLE = REPOSITORY / "node" / "console" / "wire" / "compose_members.js"


def page() -> str:
    """Return the page."""
    return "\n".join(_lines())


def console() -> str:
    """Return the console's copy of the table."""
    table = json.dumps(TABLE, separators=(",", ":"))
    return (
        "// What members of compose files allow. Written by `make pages` from"
        " tee_backend/measuring/compose_members.json.\n\n"
        f"/** @type {{any}} */\nexport const TABLE = {table};\n"
    )


def _lines() -> Iterator[str]:
    yield "# Members of compose files"
    yield ""
    yield (
        "For owners who approve code, and publishers who want it approved. Written by `make pages`"
        " from `tee_backend/measuring/compose_members.json`, which `backend measure`,"
        " `backend show`, `backend grant` and the console read"
        " ([AT71](attestation.md)). A member that is not listed is shown as *not understood*."
    )
    for number, (level, members) in enumerate(TABLE["levels"].items(), 1):
        yield ""
        yield f"## {number}. {level.capitalize()}"
        yield ""
        harmless = [f"`{name}`" for name, rule in members.items() if not rule]
        yield f"Harmless: {', '.join(harmless)}."
        rows = [_row(name, rule) for name, rule in members.items() if rule]
        if rows:
            yield ""
            yield "| member | what it allows | harmless values |"
            yield "|---|---|---|"
            yield from rows
    yield ""


def _row(name: str, rule: Mapping[str, Any]) -> str:
    if "each" in rule:
        meaning = f"each is judged as *{rule['each']}*"
    elif "inside" in rule:
        meaning = f"is judged as *{rule['inside']}*"
    else:
        meaning = rule.get("allows", f"judged by its value, as *{rule.get('form')}*")
    values = [f"`{value}`" if value else "empty" for value in rule.get("unless", [])]
    return f"| `{name}` | {meaning} | {', '.join(values)} |"
