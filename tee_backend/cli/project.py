"""`sealspace project`: programs that runners execute, for everybody or for some runners."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import click

from capabilities.errors import InvalidJson
from capabilities.principals import same_principal
from capabilities.resources import SpaceId
from capabilities.strict_json import Json, parse_json
from sealspace.apps.programs import (
    MAX_PROGRAM_BYTES,
    TARGETS,
    Active,
    ProgramManifest,
    Reader,
    Target,
    Version,
    manifest_json,
    parse_program_manifest,
    read_active,
    read_version,
    version_json,
)
from sealspace.cli.errors import AlreadyThere, NotThere
from sealspace.cli.lazy import is_installed
from sealspace.cli.owner_profile import at_node, owner_home
from sealspace.cli.paths import FILE, read_named
from sealspace.cli.terminal import print_found, print_rows, words
from sealspace.client import Client
from sealspace.documents.project_names import (
    PROJECTS_SPACE,
    PUBLIC_SPACE,
    ProjectId,
    checked_project_name,
    checked_sha256,
    parse_project,
)
from sealspace.documents.signed_statements import MAX_STATEMENT_BYTES
from sealspace.errors import InvalidInput, NotFound, NotGranted, PreconditionFailed, SpaceNotFound
from sealspace.kv import Kv
from sealspace.spaces import PublicKv

_TARGETS: Final[Mapping[bytes, Target]] = {
    b"\0asm\x01\0\0\0": "wasm32-wasip1",
    b"\0asm\x0d\0\x01\0": "wasm32-wasip2",
}
"""How a file begins -> what it is."""
_MAX_MANIFEST_BYTES: Final = 64 * 1024
_EVERYBODY: Final = "Everybody can read what is published; with `--private` only the runners that you share it with."
_private = click.option("--private", is_flag=True, help="Of your space `projects`, for runners that you share it with.")


@click.command(
    "publish",
    epilog="Example: `sealspace project publish mail-digest digest.wasm --source https://git.example/digest`. "
    f'{_EVERYBODY} A manifest is JSON: `{{"secrets": ["API_KEY"], "hosts": ["api.example.com"]}}`.',
)
@click.argument("name", metavar="NAME")
@click.argument("file", metavar="FILE", type=FILE)
@click.option("--target", type=click.Choice(TARGETS), help="What the file is; by default as its first bytes say.")
@click.option("--source", metavar="URL", help="Where its source is, for readers.")
@click.option("--manifest", "manifest_file", type=FILE, help="Which secrets and hosts it wants.")
@click.option("--no-activate", is_flag=True, help="Leave the version that runs as it is.")
@_private
@at_node
async def publish(
    client: Client,
    name: str,
    file: Path,
    target: Target | None,
    source: str | None,
    manifest_file: Path | None,
    no_activate: bool,
    private: bool,
) -> None:
    """Publish the WASI program in FILE as a version of the project NAME, and have runners run it from now on."""
    checked_project_name(name)
    wasm = read_named(file, most_bytes=MAX_PROGRAM_BYTES)
    manifest = None if manifest_file is None else _manifest(manifest_file)
    target = target or _TARGETS.get(wasm[:8])
    if target is None:
        raise InvalidInput(f"{file} is no WebAssembly program", hint="build it for wasm32-wasip1 or wasm32-wasip2")
    if is_installed("runner"):
        from . import program_check  # needs the extra

        await program_check.check(wasm, target)
    else:
        words("not checked that a runner can run it: pip install 'sealspace[runner]'")
    signer = owner_home().wallet()
    with _explained(name, private=private):
        version = await client.programs(public=not private).publish(
            name, wasm, target=target, signer=signer, source=source, manifest=manifest, activate=not no_activate
        )
    if private:
        words(f"next: sealspace project share URL {name}, for each runner that shall run it")
    words(f"published {version.project.text}", f"{'version' if no_activate else 'active version'} {version.sha256}")
    print_found(_version_json(version) | {"active": not no_activate}, ())


@click.command("activate", epilog="Example: `sealspace project activate mail-digest SHA256`, to go back to a version.")
@click.argument("name", metavar="NAME")
@click.argument("sha256", metavar="SHA256")
@_private
@at_node
async def activate(client: Client, name: str, sha256: str, private: bool) -> None:
    """Have runners run a version of the project NAME that is published already; within seconds."""
    checked_sha256(sha256, what="the version")
    with _explained(name, private=private):
        active = await client.programs(public=not private).activate(name, sha256, signer=owner_home().wallet())
    words(f"active version {active.sha256}, change {active.sequence}")
    print_found(_active_json(active), ())


@click.command("list")
@click.option("--developer", metavar="DID", help="Whose; by default yours.")
@at_node
async def list_(client: Client, developer: str | None) -> None:
    """Print the projects of a developer: those for everybody, and your own private ones."""
    project = project_of("x" if developer is None else f"{developer}/x")
    names = list(dict.fromkeys([key.split("/")[1] for key in await _keys(client, project, "projects/")]))
    print_found(names, names)
    if not names:
        words("no projects here yet; next: sealspace project publish NAME FILE")


@click.command("show", epilog="Example: `sealspace project show did:pkh:eip155:1:0x…/mail-digest`.")
@click.argument("project", metavar="NAME|DID/NAME")
@at_node
async def show(client: Client, project: str) -> None:
    """Show the versions of a project, which one runs, and what it wants. Each is verified to be its developer's."""
    found = project_of(project)
    read, prefix = reader(client, found), found.version_key("")
    listed = [
        await read_version(read, found, key.removeprefix(prefix))
        for key in dict.fromkeys(await _keys(client, found, prefix))
    ]
    versions = [one for one in listed if one is not None]
    if not versions:
        raise NotThere(f"there is no project {found.text}", hint="sealspace project list")
    versions.sort(key=lambda one: (one.published_at, one.sha256), reverse=True)
    active = await read_active(read, found)
    words(found.text)
    print_rows(
        {
            "project": found.text,
            "active": None if active is None else _active_json(active),
            "versions": [_version_json(one) for one in versions],
        },
        ("active", "version", "published", "target", "bytes", "secrets", "hosts"),
        [
            (
                "yes" if active is not None and one.sha256 == active.sha256 else "",
                one.sha256,
                one.published_at,
                one.target,
                str(one.size_bytes),
                "all granted" if one.manifest.secrets is None else ", ".join(one.manifest.secrets) or "none",
                ", ".join(one.manifest.hosts) or "none",
            )
            for one in versions
        ],
        nothing="there are no versions; next: sealspace project publish NAME FILE",
    )


# --- at the node ------------------------------------------------------------------------------------------------------


@contextmanager
def _explained(name: str, *, private: bool) -> Iterator[None]:
    """Have refusals say what to do on the command line."""
    try:
        yield
    except (NotGranted, SpaceNotFound) as error:
        space = PROJECTS_SPACE if private else PUBLIC_SPACE
        hint = f"sealspace login --space {space}"
        raise NotGranted(f"this login may not write to your space {space}", hint=hint) from error
    except NotFound:
        raise NotThere(f"there is no such version of {name}", hint=f"sealspace project show {name}") from None
    except PreconditionFailed:
        raise AlreadyThere(
            f"another version of {name} became active meanwhile", hint=f"look at it: sealspace project show {name}"
        ) from None


def _places(client: Client, project: ProjectId) -> list[Kv | PublicKv]:
    """Return where a project may be, as runners look: one's own private space first (RN153)."""
    is_own = same_principal(project.developer, client.session.owner)
    return [
        *([client.kv(PROJECTS_SPACE)] if is_own else []),
        client.public(SpaceId(project.developer, PUBLIC_SPACE).text),
    ]


def reader(client: Client, project: ProjectId) -> Reader:
    """Return what reads the statements of a project as runners do."""

    async def read(key: str) -> bytes | None:
        for place in _places(client, project):
            with suppress(NotFound, NotGranted):
                return (await place.get(key, max_bytes=MAX_STATEMENT_BYTES)).body
        return None

    return read


async def _keys(client: Client, project: ProjectId, prefix: str) -> list[str]:
    keys: list[str] = []
    for place in _places(client, project):
        with suppress(NotFound, NotGranted):
            keys += [key async for key in place.list(prefix)]
    return keys


def project_of(text: str) -> ProjectId:
    """Read `<DID>/<name>`, or the name of a project of the owner's."""
    return parse_project(text if "/" in text else f"{owner_home().profile().owner}/{text}")


# --- files ------------------------------------------------------------------------------------------------------------


def _manifest(file: Path) -> ProgramManifest:
    data = read_named(file, most_bytes=_MAX_MANIFEST_BYTES)
    try:
        return parse_program_manifest(parse_json(data, max_bytes=_MAX_MANIFEST_BYTES))
    except InvalidJson:
        raise InvalidInput(f"{file} holds no JSON object", hint='{"secrets": ["API_KEY"]}') from None


def _version_json(version: Version) -> dict[str, Json]:
    return version_json(version) | {"source": version.source, "manifest": manifest_json(version.manifest)}


def _active_json(active: Active) -> dict[str, Json]:
    return {"sha256": active.sha256, "sequence": active.sequence}
