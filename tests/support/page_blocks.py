"""The blocks of a documentation page, and the way a test runs each of them.

What is in a block is told by the word after its fence:

    sh, bash, console   commands: they are run, and end with status 0
    python              a program: it is run, and ends with status 0
    text                what these print, on both streams; `…` is anything within a line, and a
                        line of `…` any lines
    any other, or title="NAME" behind the word: the file NAME, put where the commands are run

An HTML comment right above a block says what is different about it:

    <!-- not run: WHY -->           nothing is done with it; WHY is printed
    <!-- run by: TEST, … -->        another test runs it
    <!-- stays -->                  it keeps running beside the next blocks, once it listens
    <!-- typed: TEXT -->            what is given to it on standard input
    <!-- status: NUMBER -->         how its last command ends

Example:
    for block in blocks_of(PAGE.read_text("utf-8")):
        print(block.kind, block.text)
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["commands", "program", "output", "file", "left out"]

_FENCE = re.compile(
    r"^(?P<comments>(?:<!-- [^\n]*? -->\n+)*)```(?P<word>\w*)(?P<more>[^\n`]*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
_COMMENT = re.compile(
    r"<!-- (?P<name>not run|run by|stays|typed|status)(?:: (?P<what>[^\n]*?))? -->"
)
_TITLE = re.compile(r'title="(?P<name>[\w./-]+)"')
_COMMANDS = frozenset({"sh", "bash", "console"})


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        kind: what is done with it.
        text: between the fences.
        name: of the file.
        box: what it prints; None: that is not stated.
        why: for what is left out: why, or which test runs it.
        stays: whether it goes on running.
        typed: what it is given.
        status: how it ends.
    """

    kind: Kind
    text: str
    name: str = ""
    box: str | None = None
    why: str = ""
    stays: bool = False
    typed: str = ""
    status: int = 0


class PageError(Exception):
    """A block that a test cannot handle."""


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page in order; a box of output is with the block above it.

    Raises:
        PageError: a fence is never closed, a box has no commands above it, or a block says nothing
            of what it is.
    """
    blocks: list[Block] = []
    found = list(_FENCE.finditer(page))
    if len(re.findall(r"^ *```", page, re.M)) != 2 * len(found):
        raise PageError("a fence is indented, or is not closed")
    for match in found:
        block = _block(match)
        if block.kind == "output":
            if (
                not blocks
                or blocks[-1].kind not in ("commands", "program")
                or blocks[-1].box is not None
            ):
                raise PageError(f"a box of output without commands: {block.text}")
            blocks[-1] = replace(blocks[-1], box=block.text)
        else:
            blocks.append(block)
    return blocks


def _block(match: re.Match[str]) -> Block:
    comments = {one["name"]: one["what"] or "" for one in _COMMENT.finditer(match["comments"])}
    title = _TITLE.search(match["more"])
    word, text = match["word"], match["text"]
    if "not run" in comments or "run by" in comments:
        return Block("left out", text, why=comments.get("not run") or comments.get("run by", ""))
    if title is not None:
        return Block("file", text, name=title["name"])
    if word == "text":
        return Block("output", text)
    if word not in _COMMANDS and word != "python":
        raise PageError(
            f"neither commands nor a program, and without a title or a reason: ```{word}\n{text}"
        )
    if "stays" in comments and word != "python" and "\n" in text.strip().replace("\\\n", ""):
        raise PageError(f"of what goes on running there can be one command: {text}")
    return Block(
        "program" if word == "python" else "commands",
        text,
        stays="stays" in comments,
        typed=comments.get("typed", ""),
        status=int(comments.get("status", "0")),
    )
