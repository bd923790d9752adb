"""`sealspace project`: programs that runners execute, for everybody or for some runners."""

import asyncio
from collections.abc import Iterator
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
)
from sealspace.cli.errors import AlreadyThere, NotThere
from sealspace.cli.lazy import is_installed
from sealspace.cli.owner_profile import at_node, owner_home
from sealspace.cli.paths import FILE, read_named
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_found, print_json, print_rows, words
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

_MODULE, _COMPONENT = b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"
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
def publish(
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
    manifest = ProgramManifest() if manifest_file is None else _manifest(manifest_file)
    target = target or _target(file, wasm)
    if is_installed("runner"):
        from . import program_check  # needs the extra

        asyncio.run(program_check.check(wasm, target))
    else:
        words("not checked that a runner can run it: pip install 'sealspace[runner]'")
    version = _publish(name, wasm, target, source, manifest, activate=not no_activate, private=private)
    if private:
        words(f"next: sealspace project share URL {name}, for each runner that shall run it")
    words(f"published {version.project.text}", f"{'version' if no_activate else 'active version'} {version.sha256}")
    if shared().as_json:
        print_json(_version_json(version) | {"active": not no_activate})


@click.command("activate", epilog="Example: `sealspace project activate mail-digest SHA256`, to go back to a version.")
@click.argument("name", metavar="NAME")
@click.argument("sha256", metavar="SHA256")
@_private
def activate(name: str, sha256: str, private: bool) -> None:
    """Have runners run a version of the project NAME that is published already; within seconds."""
    active = _activate(name, checked_sha256(sha256, what="the version"), private=private)
    words(f"active version {active.sha256}, change {active.sequence}")
    if shared().as_json:
        print_json({"sha256": active.sha256, "sequence": active.sequence})


@click.command("list")
@click.option("--developer", metavar="DID", help="Whose; by default yours.")
def list_(developer: str | None) -> None:
    """Print the projects of a developer: those for everybody, and your own private ones."""
    names = _names(developer)
    print_found(names, names)
    if not names:
        words("no projects here yet; next: sealspace project publish NAME FILE")


@click.command("show", epilog="Example: `sealspace project show did:pkh:eip155:1:0x…/mail-digest`.")
@click.argument("project", metavar="NAME|DID/NAME")
def show(project: str) -> None:
    """Show the versions of a project, which one runs, and what it wants. Each is verified to be its developer's."""
    found, active, versions = _show(project)
    words(found.text)
    current = None if active is None else {"sha256": active.sha256, "sequence": active.sequence}
    print_rows(
        {"project": found.text, "active": current, "versions": [_version_json(one) for one in versions]},
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


@at_node
async def _publish(
    client: Client,
    name: str,
    wasm: bytes,
    target: Target,
    source: str | None,
    manifest: ProgramManifest,
    *,
    activate: bool,
    private: bool,
) -> Version:
    wallet = owner_home().wallet()
    with _explained(name, private=private):
        return await client.programs(public=not private).publish(
            name, wasm, target=target, signer=wallet, source=source, manifest=manifest, activate=activate
        )


@at_node
async def _activate(client: Client, name: str, sha256: str, *, private: bool) -> Active:
    with _explained(name, private=private):
        return await client.programs(public=not private).activate(name, sha256, signer=owner_home().wallet())


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


@at_node
async def _names(client: Client, developer: str | None) -> list[str]:
    project = project_of("x" if developer is None else f"{developer}/x")
    return list(dict.fromkeys([key.split("/")[1] for key in await _keys(client, project, "projects/")]))


@at_node
async def _show(client: Client, text: str) -> tuple[ProjectId, Active | None, list[Version]]:
    project = project_of(text)
    read, prefix = reader(client, project), project.version_key("")
    keys = await _keys(client, project, prefix)
    found = [await read_version(read, project, key.removeprefix(prefix)) for key in keys]
    versions = [one for one in found if one is not None]
    if not versions:
        raise NotThere(f"there is no project {project.text}", hint="sealspace project list")
    versions.sort(key=lambda one: (one.published_at, one.sha256), reverse=True)
    return project, await read_active(read, project), versions


def reader(client: Client, project: ProjectId) -> Reader:
    """Return what reads the statements of a project as runners do: one's own private ones first (RN153)."""
    public = client.public(SpaceId(project.developer, PUBLIC_SPACE).text)

    async def read(key: str) -> bytes | None:
        if _is_own(client, project):
            with suppress(NotFound, SpaceNotFound, NotGranted):
                return (await client.kv(PROJECTS_SPACE).get(key, max_bytes=MAX_STATEMENT_BYTES)).body
        try:
            return (await public.get(key, max_bytes=MAX_STATEMENT_BYTES)).body
        except (NotFound, SpaceNotFound):
            return None

    return read


async def _keys(client: Client, project: ProjectId, prefix: str) -> list[str]:
    """Return the keys of a developer's projects, one's own private ones first."""
    keys: list[str] = []
    if _is_own(client, project):
        with suppress(NotFound, SpaceNotFound, NotGranted):
            keys = [key async for key in client.kv(PROJECTS_SPACE).list(prefix)]
    with suppress(NotFound, SpaceNotFound):
        keys += [key async for key in client.public(SpaceId(project.developer, PUBLIC_SPACE).text).list(prefix)]
    return list(dict.fromkeys(keys))


def _is_own(client: Client, project: ProjectId) -> bool:
    return same_principal(project.developer, client.session.owner)


def project_of(text: str) -> ProjectId:
    """Read `<DID>/<name>`, or the name of a project of the owner's."""
    return parse_project(text if "/" in text else f"{owner_home().profile().owner}/{text}")


# --- files ------------------------------------------------------------------------------------------------------------


def _target(file: Path, wasm: bytes) -> Target:
    if wasm[:8] == _MODULE:
        return "wasm32-wasip1"
    if wasm[:8] == _COMPONENT:
        return "wasm32-wasip2"
    raise InvalidInput(f"{file} is no WebAssembly program", hint="build it for wasm32-wasip1 or wasm32-wasip2")


def _manifest(file: Path) -> ProgramManifest:
    data = read_named(file, most_bytes=_MAX_MANIFEST_BYTES)
    try:
        return parse_program_manifest(parse_json(data, max_bytes=_MAX_MANIFEST_BYTES))
    except InvalidJson:
        raise InvalidInput(f"{file} holds no JSON object", hint='{"secrets": ["API_KEY"]}') from None


def _version_json(version: Version) -> dict[str, Json]:
    return {
        "project": version.project.text,
        "sha256": version.sha256,
        "target": version.target,
        "bytes": version.size_bytes,
        "publishedAt": version.published_at,
        "source": version.source,
        "manifest": manifest_json(version.manifest),
    }
