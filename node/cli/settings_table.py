"""The table of settings, made from the types in `config`: for the documentation and for `sealspace config`.

Example:
    print(markdown_table())
"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args, get_origin

import msgspec

from ..config.loading import variable_of
from ..config.tree import Config, setting_types


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        path: as in the settings file, with the section before the dot.
        variable: its environment variable.
        kind: its type in words.
        default: its default as text.
        description: one sentence.
    """

    path: str
    variable: str
    kind: str
    default: str
    description: str


def settings() -> list[Setting]:
    """Return every setting in the order of the tree."""
    return [_setting(path, kind) for path, kind in setting_types().items()]


def markdown_table() -> str:
    """Return the table for the documentation; ends with a newline."""
    rows = ["| setting | environment | type | default | |", "|---|---|---|---|---|"]
    rows += [f"| `{s.path}` | `{s.variable}` | {s.kind} | {s.default} | {s.description} |" for s in settings()]
    return "\n".join(rows) + "\n"


def _setting(path: str, annotated: object) -> Setting:
    section, _, name = path.partition(".")
    default = getattr(getattr(Config(), section), name)
    return Setting(
        path=path,
        variable=variable_of(path),
        kind=_words(get_args(annotated)[0]),
        default=_default(default),
        description=_description(annotated),
    )


def _default(value: object) -> str:
    if value is None or value == ():
        return "none"
    return f"`{msgspec.json.encode(value).decode().strip(chr(34))}`"


def _description(annotated: object) -> str:
    assert get_origin(annotated) is Annotated  # every setting is documented; a test checks it
    for item in get_args(annotated)[1:]:
        if isinstance(item, msgspec.Meta) and item.description:
            return item.description
    return ""


def _words(kind: object) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return "list of text"
    words = {int: "whole number", float: "number", bool: "yes or no", str: "text"}
    return next(words[known] for known in words if kind is known or known in get_args(kind))
