"""Compose files, whose hash identifies an application on a TDX machine.

Two kinds of file are read:

| file | its SHA-256 |
|---|---|
| `app-compose.json` of dstack, whose `docker_compose_file` is a compose file | dstack logs it |
| a compose file in YAML | the compose hash on a simulated platform only |

The hash of the file names the code only if the file names it. So each service has to have an image
with a digest, and nothing that comes from elsewhere: no `build`, `extends` or `include`. What the
file leaves to the operator, such as values of environment variables, is returned as notes.

The file is untrusted. Only the names of its services and what they contain are read; no value of it
is executed or expanded.

Example:
    compose = parse_compose(Path("app-compose.json").read_bytes(), file="app-compose.json")
    print(compose.sha256.hex(), [image.reference for image in compose.images])

Source: the Compose specification; the dstack guest agent's app-compose.json, manifest version 2.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import field
from typing import Annotated

import yaml
from msgspec import Meta, Struct

from capabilities.capability_errors import InvalidJson
from capabilities.frozen import frozen
from capabilities.strict_json import parse_json, shaped
from sealspace.printable import printable

from .measuring_errors import MeasurementRefused

MAX_COMPOSE_BYTES = 256 * 1024
"""Genuine files are 1 to 30 KiB."""
MAX_SERVICES = 64
_MAX_VARIABLES = 256

_PINNED = re.compile(r"[a-z0-9][A-Za-z0-9._/:-]{0,254}@sha256:[0-9a-f]{64}")
_VARIABLE = re.compile(r"(?<!\$)\$(?:\{([A-Za-z_][A-Za-z0-9_]*)|([A-Za-z_][A-Za-z0-9_]*))")
_SOCKETS = {
    "docker.sock": "controls all containers through the Docker socket",
    "dstack.sock": "can request quotes and keys of the application",
    "tappd.sock": "can request quotes and keys of the application",
}
_DEFAULT_REGISTRY = "docker.io"


@frozen(kw_only=True)
class Image:
    """A container image of a service, pinned by its digest."""

    service: str
    reference: str

    @property
    def publisher(self) -> str:
        """The registry and the account below which the image is published."""
        path, _, _ = self.reference.partition("@")
        first, *rest = path.split("/")
        if not rest:
            return f"{_DEFAULT_REGISTRY}/library"
        is_registry = "." in first or ":" in first or first == "localhost"
        if not is_registry:
            return f"{_DEFAULT_REGISTRY}/{first}"
        return "/".join([first, *rest[:-1]])


@frozen(kw_only=True)
class ComposeFile:
    """A compose file whose images are all pinned.

    Attributes:
        data: the bytes whose SHA-256 is the compose hash.
        is_app_compose: whether it is dstack's app-compose.json.
        name: the application's name in the file, or "".
        images: one for each service, in the file's order.
        notes: what the file leaves to the operator, and what else a reader should know.
        has_instance_id: whether each instance gets a random id.
    """

    data: bytes = field(repr=False)
    is_app_compose: bool
    name: str
    images: tuple[Image, ...]
    notes: tuple[str, ...]
    has_instance_id: bool

    @property
    def sha256(self) -> bytes:
        """The compose hash."""
        return hashlib.sha256(self.data).digest()

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
    public_logs: bool = False
    public_sysinfo: bool = False
    no_instance_id: bool = False
    pre_launch_script: str | None = None
    allowed_envs: Annotated[list[str], Meta(max_length=_MAX_VARIABLES)] = []


def parse_compose(data: bytes, *, file: str) -> ComposeFile:
    """Parse a compose file, and require that it names its code.

    Args:
        data: at most MAX_COMPOSE_BYTES; untrusted.
        file: name of the file, for messages.
    Raises:
        MeasurementRefused: `compose-malformed`, another kind of file; `compose-unpinned`, a service
            without an image that is pinned by a digest, or with code that the file does not name.
    """
    if len(data) > MAX_COMPOSE_BYTES:
        raise _malformed(file, f"it has more than {MAX_COMPOSE_BYTES} bytes")
    if not data.lstrip().startswith(b"{"):
        return _parse_yaml(data, file=file)
    try:
        stated = shaped(parse_json(data, max_bytes=MAX_COMPOSE_BYTES), _AppCompose)
    except InvalidJson as error:
        raise _malformed(file, str(error)) from None
    if stated.runner != "docker-compose":
        raise _malformed(file, f"its runner is {printable(stated.runner, most=40)!r}")
    services = _read_services(stated.docker_compose_file, file=file)
    return ComposeFile(
        data=data,
        is_app_compose=True,
        name=printable(stated.name, most=80),
        images=_pinned_images(services, file=file),
        notes=(*_notes_of_app(stated), *_notes_of_services(services)),
        has_instance_id=not stated.no_instance_id,
    )


def _parse_yaml(data: bytes, *, file: str) -> ComposeFile:
    """Parse a compose file in YAML."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _malformed(file, "it is not UTF-8") from None
    services = _read_services(text, file=file)
    note = (
        "dstack logs the hash of app-compose.json, not of this file: on a dstack machine, measure"
        " that file instead"
    )
    return ComposeFile(
        data=data,
        is_app_compose=False,
        name="",
        images=_pinned_images(services, file=file),
        notes=(note, *_notes_of_variables(text), *_notes_of_services(services)),
        has_instance_id=True,
    )


def _notes_of_app(stated: _AppCompose) -> Iterator[str]:
    """Return what an application's settings leave to the operator or show to others."""
    if stated.allowed_envs:
        names = ", ".join(printable(name, most=40) for name in stated.allowed_envs[:16])
        yield f"the operator chooses these variables, which are not measured: {names}"
    else:
        yield from _notes_of_variables(stated.docker_compose_file)
    if stated.pre_launch_script:
        yield "a script runs before the containers; its text is in the file: read it"
    if stated.public_logs:
        yield "anyone can read the output of the containers (public_logs)"
    if stated.public_sysinfo:
        yield "anyone can read the state of the machine (public_sysinfo)"


def _notes_of_variables(text: str) -> Iterator[str]:
    """Return a note about the variables that a compose file uses."""
    names = dict.fromkeys(first or second for first, second in _VARIABLE.findall(text))
    if names:
        shown = ", ".join([*names][:16])
        yield f"the file uses variables whose values are not measured: {shown}"


# --- services -------------------------------------------------------------------------------------
# The file is read as a tree of nodes, so that no object is built from it, a repeated name is
# noticed, and an alias costs nothing.

_Services = dict[str, dict[str, yaml.Node]]


def _read_services(text: str, *, file: str) -> _Services:
    """Return the members of each service in a compose file."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f" in line {mark.line + 1}"
        raise _malformed(file, f"it is not valid YAML{place}") from None
    members = _members(root, "the file", file=file)
    if "include" in members:
        raise _unpinned(file, "it includes other files, which the hash does not cover")
    if "services" not in members:
        raise _malformed(file, "it has no services")
    named = _members(members["services"], "services", file=file)
    if not 0 < len(named) <= MAX_SERVICES:
        raise _malformed(file, f"it must have 1 to {MAX_SERVICES} services, but has {len(named)}")
    return {name: _members(node, f"service {name}", file=file) for name, node in named.items()}


def _members(node: yaml.Node | None, what: str, *, file: str) -> dict[str, yaml.Node]:
    """Return the members of a mapping; those that it merges come after its own."""
    if not isinstance(node, yaml.MappingNode):
        raise _malformed(file, f"{printable(what, most=80)} is not a mapping")
    members: dict[str, yaml.Node] = {}
    merged: list[yaml.Node] = []
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _malformed(file, f"{printable(what, most=80)} has a name that is not text")
        if key.tag == "tag:yaml.org,2002:merge":
            merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
        elif key.value in members:
            raise _malformed(file, f"{printable(what, most=80)} repeats {key.value!r}")
        else:
            members[key.value] = value
    for one in merged:
        for name, value in _merged_members(one, what, file=file).items():
            members.setdefault(name, value)
    return members


def _merged_members(node: yaml.Node, what: str, *, file: str) -> dict[str, yaml.Node]:
    """Return the members of a mapping that another one merges.

    It may not merge further ones: a chain of them could grow without bound.
    """
    if isinstance(node, yaml.MappingNode) and any(
        key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value
    ):
        raise _malformed(file, f"{printable(what, most=80)} merges a mapping that merges another")
    return _members(node, what, file=file)


def _pinned_images(services: _Services, *, file: str) -> tuple[Image, ...]:
    """Return the image of each service; every image has a digest."""
    images = []
    for name, members in services.items():
        shown = printable(name, most=80)
        for member in ("build", "extends"):
            if member in members:
                raise _unpinned(
                    file, f"service {shown} has {member!r}, so its code is not in the file"
                )
        node = members.get("image")
        reference = node.value if isinstance(node, yaml.ScalarNode) else ""
        if not reference:
            raise _unpinned(file, f"service {shown} has no image")
        if _PINNED.fullmatch(reference) is None:
            raise _unpinned(
                file,
                f"the image of service {shown} is {printable(reference, most=120)}, without a"
                " digest: its code can be replaced while the hash stays the same",
            )
        images.append(Image(service=shown, reference=reference))
    return tuple(images)


def _notes_of_services(services: _Services) -> Iterator[str]:
    """Return what the services of a file can do beyond running their image."""
    for name, members in services.items():
        shown = printable(name, most=80)
        texts = list(_scalars(members.get("volumes")))
        for socket, meaning in _SOCKETS.items():
            if any(socket in text for text in texts):
                yield f"service {shown} {meaning}"
        if "env_file" in members:
            yield f"service {shown} reads variables from a file that is not measured"
        if any(text == "true" for text in _scalars(members.get("privileged"))):
            yield f"service {shown} is privileged"


def _scalars(node: yaml.Node | None) -> Iterator[str]:
    """Yield the texts in a node and in two levels below it."""
    level = [] if node is None else [node]
    for _ in range(3):
        below: list[yaml.Node] = []
        for one in level:
            if isinstance(one, yaml.ScalarNode):
                yield one.value
            elif isinstance(one, yaml.SequenceNode):
                below += one.value
            elif isinstance(one, yaml.MappingNode):
                below += [value for _, value in one.value]
        level = below


def _malformed(file: str, why: str) -> MeasurementRefused:
    return MeasurementRefused(
        f"{printable(file)} is not a compose file: {why}",
        problem="compose-malformed",
        hint="name the app-compose.json of the application, or a compose file in YAML",
    )


def _unpinned(file: str, why: str) -> MeasurementRefused:
    return MeasurementRefused(
        f"the hash of {printable(file)} does not name all code: {why}",
        problem="compose-unpinned",
        hint="name each image with its digest: image: NAME@sha256:DIGEST (docker buildx imagetools"
        " inspect NAME prints it)",
    )
