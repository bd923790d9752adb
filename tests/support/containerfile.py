"""A parser for the parts of Containerfiles that our own files use.

Example:
    for instruction in read_containerfile(path):
        print(instruction.stage, instruction.word, instruction.text)
"""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        stage: index of the `FROM` that it follows; -1 before the first.
        word: in capitals.
        text: the rest, on one line.
    """

    stage: int
    word: str
    text: str

    @property
    def words(self) -> list[str]:
        """Return the words as a shell splits them, without options."""
        return [word for word in shlex.split(self.text) if not word.startswith("--")]

    @property
    def options(self) -> dict[str, str]:
        """Return the options; `--from=wheel` is from -> wheel."""
        found = re.findall(r"(?:^| )--([a-z-]+)=(\S+)", self.text)
        return dict(found)

    @property
    def command(self) -> Sequence[str] | None:
        """Return the command in exec form, or None if it is shell text."""
        text = self.text[self.text.find("[") :] if "[" in self.text else ""
        try:
            return [str(word) for word in json.loads(text)]
        except ValueError:
            return None

    @property
    def pairs(self) -> dict[str, str]:
        """Return names and values of `ENV`, `ARG` and `LABEL`; an argument may have no value."""
        return {name: value for name, _, value in (word.partition("=") for word in self.words)}


def read_containerfile(path: Path) -> list[Instruction]:
    """Return the instructions of a Containerfile without comments."""
    lines = [
        line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    instructions: list[Instruction] = []
    stage = -1
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, text = line.partition(" ")
        stage += word.upper() == "FROM"
        instructions.append(Instruction(stage, word.upper(), text.strip()))
    return instructions
