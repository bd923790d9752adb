"""Compose files, whose hash identifies an application on a TDX machine.

Two kinds of file are read:

| file | its SHA-256 |
|---|---|
| `app-compose.json` of dstack, whose `docker_compose_file` is a compose file | dstack logs it |
| a compose file in YAML | the compose hash on a simulated platform only |

The hash of the file names the code only if the file names it. So each service has to have an image
with a digest, and nothing that comes from elsewhere: no `build`, `extends` or `include`. What the
file allows beyond that is returned as lines (`compose_members`).

The file is untrusted. No value of it is executed or expanded.

Example:
    compose = parse_compose(Path("app-compose.json").read_bytes(), file="app-compose.json")
    print(compose.sha256.hex(), [image.reference for image in compose.images])

Source: the Compose specification; the dstack guest agent's app-compose.json, manifest version 2.
"""

import hashlib
import json
from dataclasses import field
from typing import Annotated

import yaml
from msgspec import Meta, Struct

from capabilities.capability_errors import InvalidJson
from capabilities.frozen import frozen
from capabilities.strict_json import Json, parse_json, shaped
from sealspace.printable import printable

from .compose_members import PINNED, Line, Node, described, variable_lines
from .measuring_errors import MeasurementRefused

MAX_COMPOSE_BYTES = 256 * 1024
"""Genuine files are 1 to 30 KiB."""
MAX_SERVICES = 64
_MAX_VARIABLES = 256
MAX_LINES = 512
_MAX_NODES = 50_000
_MAX_DEPTH = 16
_MAX_LINE_CHARS = 400
_BLOCK_TEXT = "$…"
"""In place of a text of several lines. No rule accepts it as harmless, a mount included."""

_DEFAULT_REGISTRY = "docker.io"
_MERGE_TAG = "tag:yaml.org,2002:merge"
_NULL_TAG = "tag:yaml.org,2002:null"


@frozen(kw_only=True)
class Image:
    """A container image of a service, pinned by its digest."""

    service: str
    reference: str

    @property
    def publisher(self) -> str:
        """The registry and the account below which the image is published."""
        path, _, _ = self.reference.partition("@")
        first_segment, *segments = path.split("/")
        if not segments:
            return f"{_DEFAULT_REGISTRY}/library"
        is_host = "." in first_segment or ":" in first_segment or first_segment == "localhost"
        if not is_host:
            return f"{_DEFAULT_REGISTRY}/{first_segment}"
        account_segments = segments[:-1]  # the last segment is the name of the image
        return "/".join([first_segment, *account_segments])


@frozen(kw_only=True)
class ComposeFile:
    """A compose file.

    Attributes:
        data: the bytes whose SHA-256 is the compose hash.
        is_app_compose: whether it is dstack's app-compose.json.
        name: the application's name in the file, or "".
        images: one for each service, in the file's order.
        lines: what the file allows that is not harmless, and what in it is not understood.
        has_instance_id: whether each instance gets a random id.
    """

    data: bytes = field(repr=False)
    is_app_compose: bool
    name: str
    images: tuple[Image, ...]
    lines: tuple[Line, ...]
    has_instance_id: bool

    @property
    def sha256(self) -> bytes:
        """The compose hash."""
        return hashlib.sha256(self.data).digest()

    @property
    def notes(self) -> tuple[str, ...]:
        """The lines for a person, and what the hash is not the hash of."""
        hash_note = (
            "dstack logs the hash of app-compose.json, not of this file: on a dstack machine,"
            " measure that file instead"
        )
        return (*(() if self.is_app_compose else (hash_note,)), *self.line_texts)

    @property
    def line_texts(self) -> tuple[str, ...]:
        """The lines for a person."""
        return tuple(printable(line.text, most=_MAX_LINE_CHARS) for line in self.lines)

    @property
    def lines_digest(self) -> str:
        """The SHA-256, in hex, of the lines as they are; a script names the lines by it."""
        texts = [[line.place, line.sentence, line.value] for line in self.lines]
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()

    @property
    def publishers(self) -> tuple[str, ...]:
        """The publishers of the images, each once."""
        return tuple(dict.fromkeys(image.publisher for image in self.images))


class _AppCompose(Struct):
    """The members of app-compose.json that are read; the hash covers all of them."""

    docker_compose_file: Annotated[str, Meta(max_length=MAX_COMPOSE_BYTES)]
    manifest_version: int | str | float
    runner: str
    name: Annotated[str, Meta(max_length=256)] = ""
    no_instance_id: bool = False
    allowed_envs: Annotated[list[str], Meta(max_length=_MAX_VARIABLES)] = []


def parse_compose(data: bytes, *, file: str, is_pinned: bool = True) -> ComposeFile:
    """Parse a compose file.

    Args:
        data: untrusted bytes, at most MAX_COMPOSE_BYTES.
        file: name of the file, for messages.
        is_pinned: whether the file has to name all its code. Otherwise, what it does not name is
            among the lines.
    Raises:
        MeasurementRefused: `compose-malformed`, another kind of file; `compose-unpinned`, a service
            without an image that is pinned by a digest, or with code that the file does not name.
    """
    if len(data) > MAX_COMPOSE_BYTES:
        raise _malformed(file, f"it has more than {MAX_COMPOSE_BYTES} bytes")
    if not data.lstrip().startswith(b"{"):
        return _parse_yaml(data, file=file, is_pinned=is_pinned)
    try:
        application = parse_json(data, max_bytes=MAX_COMPOSE_BYTES)
        app_compose = shaped(application, _AppCompose)
    except InvalidJson as error:
        raise _malformed(file, str(error)) from None
    if app_compose.runner != "docker-compose":
        raise _malformed(file, f"its runner is {printable(app_compose.runner, most=40)!r}")
    text = app_compose.docker_compose_file
    document = _parse_document(text, file=file)
    lines = (
        *described(_written(application), level="application"),
        *variable_lines(text, place="docker_compose_file"),
        *described(document, level="file"),
    )
    return ComposeFile(
        data=data,
        is_app_compose=True,
        name=printable(app_compose.name, most=80),
        images=_images(document, file=file, is_pinned=is_pinned),
        lines=_bounded(lines, file=file),
        has_instance_id=not app_compose.no_instance_id,
    )


def _parse_yaml(data: bytes, *, file: str, is_pinned: bool) -> ComposeFile:
    """Parse a compose file in YAML."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _malformed(file, "it is not UTF-8") from None
    document = _parse_document(text, file=file)
    lines = (*variable_lines(text, place="compose file"), *described(document, level="file"))
    return ComposeFile(
        data=data,
        is_app_compose=False,
        name="",
        images=_images(document, file=file, is_pinned=is_pinned),
        lines=_bounded(lines, file=file),
        has_instance_id=True,
    )


def _bounded(lines: tuple[Line, ...], *, file: str) -> tuple[Line, ...]:
    """Return the lines, unless they are too many for a person to read."""
    if len(lines) > MAX_LINES:
        raise _malformed(file, f"more than {MAX_LINES} of its members are not harmless")
    return lines


def _written(value: Json) -> Node:
    """Return a value of JSON as the table reads it: texts, lists and mappings."""
    if isinstance(value, dict):
        return {name: _written(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_written(item) for item in value]
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else "number"


# --- services -------------------------------------------------------------------------------------
# The file is read as a tree of nodes, so that no object is built from it, a repeated name is
# noticed, and an alias costs nothing.


def _parse_document(text: str, *, file: str) -> dict[str, Node]:
    """Return what a compose file has, each text as it is written.

    Raises:
        MeasurementRefused: the text is not a compose file.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f" in line {mark.line + 1}"
        raise _malformed(file, f"it is not valid YAML{place}") from None
    document = _Reader(file).mapping(root, "the file", depth=0)
    services = document.get("services")
    if services is None:
        raise _malformed(file, "it has no services")
    if not isinstance(services, dict):
        raise _malformed(file, "services is not a mapping")
    if not 0 < len(services) <= MAX_SERVICES:
        raise _malformed(
            file, f"it must have 1 to {MAX_SERVICES} services, but has {len(services)}"
        )
    for name, service in services.items():
        if not isinstance(service, dict):
            raise _malformed(file, f"service {printable(name, most=80)} is not a mapping")
    return document


class _Reader:
    """Copies a tree of YAML, and counts what it copies: aliases could make it grow."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._nodes = 0

    def mapping(self, node: yaml.Node | None, place: str, *, depth: int) -> dict[str, Node]:
        """Return the members of a mapping."""
        members = _read_members(node, place, file=self._file)
        copied: dict[str, Node] = {}
        for name, value in members.items():
            copied[name] = self._value(value, name, depth=depth + 1)
        return copied

    def _value(self, node: yaml.Node, place: str, *, depth: int) -> Node:
        self._nodes += 1
        if self._nodes > _MAX_NODES or depth > _MAX_DEPTH:
            line = node.start_mark.line + 1
            raise _malformed(self._file, f"it is too deep or too large at line {line}")
        if isinstance(node, yaml.ScalarNode):
            if node.style in ("|", ">"):
                return _BLOCK_TEXT
            is_null = node.tag == _NULL_TAG and node.style is None
            text: str = "" if is_null else node.value
            return text
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, place, depth=depth + 1) for item in node.value]
        return self.mapping(node, place, depth=depth)


def _read_members(node: yaml.Node | None, place: str, *, file: str) -> dict[str, yaml.Node]:
    """Return the members of a mapping and of the mappings that it merges (`<<`).

    A member of its own takes precedence over a merged one, and an earlier merge over a later one.

    Args:
        node: the mapping.
        place: name of the mapping, for messages.
        file: name of the file, for messages.
    Raises:
        MeasurementRefused: it is not a mapping, or repeats a name, or merges too deeply.
    """
    shown_place = printable(place, most=80)
    if not isinstance(node, yaml.MappingNode):
        raise _malformed(file, f"{shown_place} is not a mapping")
    members: dict[str, yaml.Node] = {}
    merged_nodes: list[yaml.Node] = []
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _malformed(file, f"{shown_place} has a name that is not text")
        if key.tag == _MERGE_TAG:
            merged_nodes += value.value if isinstance(value, yaml.SequenceNode) else [value]
        elif key.value in members:
            raise _malformed(file, f"{shown_place} repeats {key.value!r}")
        else:
            members[key.value] = value
    for merged_node in merged_nodes:
        for name, value in _read_merged_members(merged_node, place, file=file).items():
            members.setdefault(name, value)
    return members


def _read_merged_members(node: yaml.Node, place: str, *, file: str) -> dict[str, yaml.Node]:
    """Return the members of a mapping that the mapping at `place` merges.

    It may not merge further ones: a chain of merges could grow without bound.
    """
    if isinstance(node, yaml.MappingNode):
        for key, _ in node.value:
            if key.tag == _MERGE_TAG:
                raise _malformed(
                    file, f"{printable(place, most=80)} merges a mapping that merges another"
                )
    return _read_members(node, place, file=file)


def _images(document: dict[str, Node], *, file: str, is_pinned: bool) -> tuple[Image, ...]:
    """Return the image of each service, in the file's order; "" if a service has none.

    Raises:
        MeasurementRefused: `is_pinned`, and code comes from elsewhere, or an image has no digest.
    """
    if is_pinned and "include" in document:
        raise _unpinned(file, "it includes other files, which the hash does not cover")
    services = document["services"]
    assert isinstance(services, dict), "checked by _parse_document"
    images = []
    for name, members in services.items():
        assert isinstance(members, dict), "checked by _parse_document"
        service = printable(name, most=80)
        image = members.get("image")
        reference = image if isinstance(image, str) else ""
        if is_pinned:
            _require_pinned(members, reference, service=service, file=file)
        images.append(Image(service=service, reference=printable(reference, most=400)))
    return tuple(images)


def _require_pinned(members: dict[str, Node], reference: str, *, service: str, file: str) -> None:
    """Refuse a service that has no image, or one without a digest, or other code."""
    for member in ("build", "extends", "provider"):
        if member in members:
            raise _unpinned(
                file, f"service {service} has {member!r}, so its code is not in the file"
            )
    if not reference:
        raise _unpinned(file, f"service {service} has no image")
    if PINNED.fullmatch(reference) is None:
        raise _unpinned(
            file,
            f"the image of service {service} is {printable(reference, most=120)}, without a"
            " digest: its code can be replaced while the hash stays the same",
        )


def _malformed(file: str, reason: str) -> MeasurementRefused:
    return MeasurementRefused(
        f"{printable(file)} is not a compose file: {reason}",
        problem="compose-malformed",
        hint="name the app-compose.json of the application, or a compose file in YAML",
    )


def _unpinned(file: str, reason: str) -> MeasurementRefused:
    return MeasurementRefused(
        f"the hash of {printable(file)} does not name all code: {reason}",
        problem="compose-unpinned",
        hint="name each image with its digest: image: NAME@sha256:DIGEST (docker buildx imagetools"
        " inspect NAME prints it)",
    )
