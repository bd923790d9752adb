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
_MAX_SHOWN_VARIABLES = 16

_PINNED = re.compile(r"[a-z0-9][A-Za-z0-9._/:-]{0,254}@sha256:[0-9a-f]{64}")
_VARIABLE = re.compile(
    r"(?<!\$)\$(?:\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)|(?P<plain>[A-Za-z_][A-Za-z0-9_]*))"
)
_SOCKETS = {
    "docker.sock": "controls all containers through the Docker socket",
    "dstack.sock": "can request quotes and keys of the application",
    "tappd.sock": "can request quotes and keys of the application",
}
_DEFAULT_REGISTRY = "docker.io"
_MERGE_TAG = "tag:yaml.org,2002:merge"


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
        data: untrusted bytes, at most MAX_COMPOSE_BYTES.
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
        app_compose = shaped(parse_json(data, max_bytes=MAX_COMPOSE_BYTES), _AppCompose)
    except InvalidJson as error:
        raise _malformed(file, str(error)) from None
    if app_compose.runner != "docker-compose":
        raise _malformed(file, f"its runner is {printable(app_compose.runner, most=40)!r}")
    services = _parse_services(app_compose.docker_compose_file, file=file)
    return ComposeFile(
        data=data,
        is_app_compose=True,
        name=printable(app_compose.name, most=80),
        images=_require_pinned_images(services, file=file),
        notes=(*_settings_notes(app_compose), *_services_notes(services)),
        has_instance_id=not app_compose.no_instance_id,
    )


def _parse_yaml(data: bytes, *, file: str) -> ComposeFile:
    """Parse a compose file in YAML."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _malformed(file, "it is not UTF-8") from None
    services = _parse_services(text, file=file)
    hash_note = (
        "dstack logs the hash of app-compose.json, not of this file: on a dstack machine, measure"
        " that file instead"
    )
    return ComposeFile(
        data=data,
        is_app_compose=False,
        name="",
        images=_require_pinned_images(services, file=file),
        notes=(hash_note, *_variables_notes(text), *_services_notes(services)),
        has_instance_id=True,
    )


def _settings_notes(app_compose: _AppCompose) -> Iterator[str]:
    """Yield what an application's settings leave to the operator or show to others."""
    if app_compose.allowed_envs:
        first_names = app_compose.allowed_envs[:_MAX_SHOWN_VARIABLES]
        names = ", ".join(printable(name, most=40) for name in first_names)
        yield f"the operator chooses these variables, which are not measured: {names}"
    else:
        yield from _variables_notes(app_compose.docker_compose_file)
    if app_compose.pre_launch_script:
        yield "a script runs before the containers; its text is in the file: read it"
    if app_compose.public_logs:
        yield "anyone can read the output of the containers (public_logs)"
    if app_compose.public_sysinfo:
        yield "anyone can read the state of the machine (public_sysinfo)"


def _variables_notes(text: str) -> Iterator[str]:
    """Yield a note if a compose file uses variables, written as `${NAME}` or `$NAME`."""
    names: list[str] = []
    for match in _VARIABLE.finditer(text):
        name = match["braced"] or match["plain"]
        if name not in names:
            names.append(name)
        if len(names) == _MAX_SHOWN_VARIABLES:
            break
    if names:
        yield f"the file uses variables whose values are not measured: {', '.join(names)}"


# --- services -------------------------------------------------------------------------------------
# The file is read as a tree of nodes, so that no object is built from it, a repeated name is
# noticed, and an alias costs nothing.

_Services = dict[str, dict[str, yaml.Node]]
"""The members of each service, by the name of the service."""


def _parse_services(text: str, *, file: str) -> _Services:
    """Return the members of each service in a compose file.

    Raises:
        MeasurementRefused: the text is not a compose file, or includes another one.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f" in line {mark.line + 1}"
        raise _malformed(file, f"it is not valid YAML{place}") from None
    top_members = _read_members(root, "the file", file=file)
    if "include" in top_members:
        raise _unpinned(file, "it includes other files, which the hash does not cover")
    if "services" not in top_members:
        raise _malformed(file, "it has no services")
    service_nodes = _read_members(top_members["services"], "services", file=file)
    if not 0 < len(service_nodes) <= MAX_SERVICES:
        raise _malformed(
            file, f"it must have 1 to {MAX_SERVICES} services, but has {len(service_nodes)}"
        )
    services: _Services = {}
    for name, node in service_nodes.items():
        services[name] = _read_members(node, f"service {name}", file=file)
    return services


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


def _require_pinned_images(services: _Services, *, file: str) -> tuple[Image, ...]:
    """Return the image of each service, in the file's order.

    Raises:
        MeasurementRefused: a service has no image, or one without a digest, or other code.
    """
    images = []
    for name, members in services.items():
        service = printable(name, most=80)
        for member in ("build", "extends"):
            if member in members:
                raise _unpinned(
                    file, f"service {service} has {member!r}, so its code is not in the file"
                )
        image_node = members.get("image")
        reference = image_node.value if isinstance(image_node, yaml.ScalarNode) else ""
        if not reference:
            raise _unpinned(file, f"service {service} has no image")
        if _PINNED.fullmatch(reference) is None:
            raise _unpinned(
                file,
                f"the image of service {service} is {printable(reference, most=120)}, without a"
                " digest: its code can be replaced while the hash stays the same",
            )
        images.append(Image(service=service, reference=reference))
    return tuple(images)


def _services_notes(services: _Services) -> Iterator[str]:
    """Yield what the services of a file can do beyond running their image."""
    for name, members in services.items():
        service = printable(name, most=80)
        volume_texts = list(_texts_in(members.get("volumes")))
        for socket, meaning in _SOCKETS.items():
            if any(socket in text for text in volume_texts):
                yield f"service {service} {meaning}"
        if "env_file" in members:
            yield f"service {service} reads variables from a file that is not measured"
        if "true" in _texts_in(members.get("privileged")):
            yield f"service {service} is privileged"


def _texts_in(node: yaml.Node | None) -> Iterator[str]:
    """Yield the texts in a node and in two levels below it, as deep as a volume's long form."""
    level_nodes = [] if node is None else [node]
    for _ in range(3):
        next_nodes: list[yaml.Node] = []
        for level_node in level_nodes:
            if isinstance(level_node, yaml.ScalarNode):
                yield level_node.value
            elif isinstance(level_node, yaml.SequenceNode):
                next_nodes += level_node.value
            elif isinstance(level_node, yaml.MappingNode):
                next_nodes += [value for _, value in level_node.value]
        level_nodes = next_nodes


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
