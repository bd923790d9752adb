"""What the members of a compose file allow, by the table in `compose_members.json`.

The console reads the same table (`tools/pages/compose_members.py` writes its copy). Each level of
the table lists members, and each member has one rule:

| rule | meaning |
|---|---|
| `{}` | harmless, with any value |
| `allows` | allows what the sentence says, unless every text in its value is listed in `unless` |
| `each` | a mapping or list, whose values are at another level; with `texts`, a text is harmless |
| `inside` | a mapping at another level |
| `form` | judged by its value: an image, mounts, variables, or a list of names |

A member that is not listed, or a value of another kind than its rule expects, is not understood.

Example:
    for line in described(document, level="file"):
        print(line.text)
"""

import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from posixpath import normpath
from typing import Any, Final, TypeAlias

from capabilities.frozen import frozen

Node: TypeAlias = "str | list[Node] | dict[str, Node]"
"""A value as it is written, without a type; an absent value is the empty text."""

TABLE: Final[Mapping[str, Any]] = json.loads(
    files("tee_backend").joinpath("measuring/compose_members.json").read_bytes()
)
_LEVELS: Final = TABLE["levels"]
_MOUNTS: Final = TABLE["mounts"]
_ENVIRONMENT: Final = TABLE["environment"]
_EXTENSIONS = "x-*"

PINNED = re.compile(r"[a-z0-9][A-Za-z0-9._/:-]{0,254}@sha256:[0-9a-f]{64}")
# Compose ignores case in names, and Go then takes two letters beyond ASCII for s and k.
_LETTER = r"A-Za-z_\u017f\u212a"
_NAME = rf"[{_LETTER}][0-9{_LETTER}]*"
# `$$` is one dollar sign, so it is read first: `$$${NAME}` is a dollar sign before a variable.
VARIABLE = re.compile(
    rf"\$(?:\$|\{{(?P<braced>{_NAME})|(?P<plain>{_NAME}))"
    # YAML can write any part of a variable with a backslash, in double quotes.
    r"|(?P<escaped>\$\{?\\|\\(?:x24|u0024|U00000024))"
)
_VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@frozen(kw_only=True)
class Line:
    """One thing that a file allows.

    Attributes:
        place: path of the member in the file, such as `services.web.privileged`; untrusted.
        sentence: what it allows, from the table.
        value: what the sentence is about, such as a folder; "" if there is nothing to add.
    """

    place: str
    sentence: str
    value: str = ""

    @property
    def text(self) -> str:
        """The line for a person; it is untrusted and has to be made printable."""
        shown_value = f": {self.value}" if self.value else ""
        return f"{self.place}: {self.sentence}{shown_value}"


def described(node: Node, *, level: str, place: str = "") -> Iterator[Line]:
    """Yield a line for each member that is not harmless, in the file's order.

    Args:
        node: the value at this place.
        level: name of the level in the table.
        place: path of the value; "" for the whole file.
    """
    if node == "":
        return
    if not isinstance(node, dict):
        yield _not_understood(place)
        return
    members = _LEVELS[level]
    for name, value in node.items():
        rule = members.get(name)
        # Compose ignores members that begin with `x-`.
        if rule is None and name.startswith("x-"):
            rule = members.get(_EXTENSIONS)
        member_place = f"{place}.{name}" if place else name
        if rule is None:
            yield _not_understood(member_place)
        else:
            yield from _member_lines(value, rule, member_place)


def _not_understood(place: str) -> Line:
    return Line(place=place, sentence=TABLE["unknown"])


def _member_lines(value: Node, rule: Mapping[str, Any], place: str) -> Iterator[Line]:
    """Yield what a member with a rule allows."""
    if "each" in rule:
        yield from _each_lines(value, rule, place)
    elif "inside" in rule:
        yield from described(value, level=rule["inside"], place=place)
    elif "form" in rule:
        yield from _form_lines(value, rule, place)
    elif "allows" in rule and not _is_listed(value, rule.get("unless")):
        yield Line(place=place, sentence=rule["allows"])


def _is_listed(value: Node, unless: list[str] | None) -> bool:
    """Return whether every text in a value is one of those that are harmless.

    An empty list or mapping is like an absent value.
    """
    if unless is None:
        return False
    if isinstance(value, str):
        return value.lower() in unless
    if isinstance(value, dict):
        return not value and "" in unless
    harmless_items = [item for item in value if isinstance(item, str) and item.lower() in unless]
    return len(harmless_items) == len(value)


def _each_lines(value: Node, rule: Mapping[str, Any], place: str) -> Iterator[Line]:
    """Yield what the values of a mapping or list allow."""
    for name, item in _named_items(value):
        if isinstance(item, str) and rule.get("texts"):
            continue
        yield from described(item, level=rule["each"], place=f"{place}.{name}")
        if rule["each"] == "service":
            yield from _missing_image(item, f"{place}.{name}")
    if isinstance(value, str) and value:
        yield _not_understood(place)


def _named_items(value: Node) -> list[tuple[str, Node]]:
    """Return the items of a mapping with their names, or those of a list with their numbers."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list):
        return [(str(number), item) for number, item in enumerate(value, 1)]
    return []


def _missing_image(service: Node, place: str) -> Iterator[Line]:
    if not isinstance(service, dict) or service.get("image", "") == "":
        yield Line(place=place, sentence=TABLE["no_image"])


def _form_lines(value: Node, rule: Mapping[str, Any], place: str) -> Iterator[Line]:
    """Yield what a value allows that its form decides."""
    match rule["form"]:
        case "image":
            yield from _image_lines(value, rule["allows"], place)
        case "mounts":
            for name, item in _named_items(value):
                yield from _mount_lines(item, f"{place}.{name}")
            if isinstance(value, dict) or (isinstance(value, str) and value):
                yield _not_understood(place)
        case "environment":
            yield from _environment_lines(value, place)
        case "listed":
            if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                yield _not_understood(place)
            elif value:
                yield Line(place=place, sentence=rule["allows"], value=", ".join(map(str, value)))


def _image_lines(value: Node, sentence: str, place: str) -> Iterator[Line]:
    if not isinstance(value, str):
        yield _not_understood(place)
    elif value and PINNED.fullmatch(value) is None:
        yield Line(place=place, sentence=sentence, value=value)


# --- mounts ---------------------------------------------------------------------------------------


def _mount_lines(item: Node, place: str) -> Iterator[Line]:
    """Yield what one mount allows, in its short form `SOURCE:TARGET` or its long form."""
    if isinstance(item, str):
        source, colon, _ = item.partition(":")
        # A text without a colon is the target of a new volume. A variable may have a colon.
        is_new = not colon and "$" not in item
        if not is_new and _VOLUME_NAME.fullmatch(source) is None:
            yield _folder_line(source, place)
        return
    yield from described(item, level="mount", place=place)
    if not isinstance(item, dict):
        return
    kind = item.get("type", "")
    source_node = item.get("source", "")
    if kind not in _MOUNTS["types"] or not isinstance(source_node, str):
        yield _not_understood(f"{place}.type")
    elif kind == "bind" or (
        kind == "volume" and source_node and _VOLUME_NAME.fullmatch(source_node) is None
    ):
        yield _folder_line(source_node, place)
    elif kind == "image" and PINNED.fullmatch(source_node) is None:
        yield Line(place=place, sentence=_MOUNTS["image"], value=source_node)


def _folder_line(source: str, place: str) -> Line:
    """Return what a file or folder of the machine allows."""
    path = normpath("/" + source.lstrip("/")) if source.startswith("/") else source
    last = path.rpartition("/")[2]
    if last in _MOUNTS["dstack_names"]:
        return Line(place=place, sentence=_MOUNTS["dstack"], value=source)
    if last in _MOUNTS["docker_names"] or path in _MOUNTS["docker_folders"]:
        return Line(place=place, sentence=_MOUNTS["docker"], value=source)
    return Line(place=place, sentence=_MOUNTS["folder"], value=source)


# --- variables ------------------------------------------------------------------------------------


def _environment_lines(value: Node, place: str) -> Iterator[Line]:
    """Yield the variables that the operator sets, and those that load code."""
    variables = _variables(value)
    if variables is None:
        yield _not_understood(place)
        return
    for name, is_open in variables.items():
        is_listed = name in _ENVIRONMENT["names"]
        if is_listed or name.startswith(tuple(_ENVIRONMENT["prefixes"])):
            yield Line(place=f"{place}.{name}", sentence=_ENVIRONMENT["loads"])
        if is_open:
            yield Line(place=f"{place}.{name}", sentence=_ENVIRONMENT["open"])


def _variables(value: Node) -> dict[str, bool] | None:
    """Return for each variable whether the operator sets it; None if they are not understood."""
    if isinstance(value, dict):
        return {name: text == "" for name, text in value.items()}
    if isinstance(value, str):
        return {} if value == "" else None
    variables: dict[str, bool] = {}
    for item in value:
        if not isinstance(item, str):
            return None
        name, equals, _ = item.partition("=")
        variables[name] = not equals
    return variables


def variable_lines(text: str, *, place: str) -> Iterator[Line]:
    """Yield a line if a compose file has variables, written as `${NAME}` or `$NAME`.

    The text is the file as it is written. What may become a variable once YAML's escapes are read
    is named as it is written.
    """
    names: list[str] = []
    for match in VARIABLE.finditer(text):
        name = match["braced"] or match["plain"] or match["escaped"]
        if name is not None and name not in names:
            names.append(name)
    if names:
        yield Line(place=place, sentence=TABLE["variables"], value=", ".join(names))
