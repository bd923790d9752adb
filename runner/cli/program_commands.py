"""Commands that publish programs and data sets."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import NamedTuple

import click
from msgspec import to_builtins

from capabilities.abilities import KV_PUT
from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.principals import same_principal
from capabilities.resources import SpaceId
from capabilities.strict_base64 import encode_standard
from capabilities.strict_json import JsonObject
from encryption_network.canonical_json import canonical_bytes
from sealspace.apps.programs import (
    TARGET_OF,
    TARGETS,
    Active,
    ProgramManifest,
    Provenance,
    Reader,
    Target,
    Version,
    manifest_json,
    read_active,
    read_version,
    version_json,
)
from sealspace.cli.keep.storing import store_secret
from sealspace.cli.lazy import is_installed
from sealspace.cli.options.paths import (
    FILE,
    FOLDER,
    NEW_FILE,
    file_option,
    read_named,
    require_free,
)
from sealspace.cli.options.trusted_root import load_trusted_root, trusted_root_option
from sealspace.cli.owner.contact_names import naming
from sealspace.cli.owner.owner_profile import at_node, owner_home
from sealspace.cli.terminal import (
    confirm,
    facts,
    flag_option,
    print_documents,
    print_result,
    print_rows,
    tell,
    time_text,
    yes_option,
)
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.dataset_format import (
    DATASET_TYPE,
    KEY_BYTES,
    Suite,
    encrypt,
    parse_dataset,
    parse_dataset_key,
    suite_of,
)
from sealspace.documents.iexec_names import (
    AddressKind,
    address_of,
    dataset_secret,
    owner_record_key,
)
from sealspace.documents.project_names import (
    PROJECTS_SPACE,
    PUBLIC_SPACE,
    ProjectId,
    checked_project_name,
    checked_sha256,
    parse_project,
)
from sealspace.documents.python_programs import parse_python_program
from sealspace.documents.secret_names import SECRETS_SPACE
from sealspace.documents.signed_statements import sign_statement
from sealspace.errors import (
    InvalidInput,
    NotFound,
    NotGranted,
    PreconditionFailed,
    SpaceNotFound,
    StatementInvalid,
)
from sealspace.kv import Kv
from sealspace.private_files import make_file, read_key, replace_file
from sealspace.service.command_errors import AlreadyThere, KeyFileUnusable, NotThere
from sealspace.spaces import PublicKv
from sealspace.wallets import Wallet

from .python_projects import manifest_beside, read_manifest, read_or_pack_program

# More than the limits of statements and bundles: their parsers refuse what is longer, and name the
# limit.
_MOST_READ_BYTES = 512 * 1024
_private = flag_option(
    "--private",
    help="Use your private space `projects`. A runner can read a private project only after"
    " `project share`.",
)


@click.command(
    epilog="Example: `sealspace project publish mail-digest digest.wasm --source"
    " https://git.example/digest`. Published programs are public; with `--private`, only"
    " runners that you share them with can read them. A manifest is JSON: `{"
    '"secrets": ["API_KEY"], "hosts": ["api.example.com"]}`.',
)
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    help="Compilation target of the file; detected by default.",
)
@click.option(
    "--base",
    metavar="SHA256",
    help="Python base of a program in Python. Default: the newest one.",
)
@click.option(
    "--source",
    metavar="URL",
    help="Address of the source code. Default: the commit that the provenance names.",
)
@file_option(
    "--provenance",
    "bundle_file",
    metavar="BUNDLE",
    help="Provenance bundle of FILE, as `actions/attest-build-provenance` writes it. It is verified"
    " and published beside the version.",
)
@trusted_root_option
@file_option(
    "--manifest",
    "manifest_file",
    help="JSON file with the manifest, which lists the secrets and hosts that the program needs.",
)
@flag_option("--no-activate", help="Do not change the active version.")
@flag_option(
    "--app",
    "is_app",
    help="Record and print the address of the project, by which tasks and iExec's tools name it.",
)
@_private
@at_node
async def publish(
    client: Client,
    name: str,
    file: Path,
    target: Target | None,
    base: str | None,
    source: str | None,
    bundle_file: Path | None,
    trusted_root: Path | None,
    manifest_file: Path | None,
    no_activate: bool,
    is_app: bool,
    private: bool,
) -> None:
    """Publish the WASI program in FILE as a version of the project NAME.

    FILE can also be a folder with a Python program, as `sealspace task init` makes it, or a Python
    script. The new version is activated.
    """
    checked_project_name(name)  # raises before anything is read
    wasm = read_or_pack_program(file, base)
    manifest = read_manifest(manifest_file) if manifest_file else manifest_beside(file)
    target = target or TARGET_OF.get(wasm[:8])  # the file begins with magic number and version
    if target is None:
        raise InvalidInput(
            f"{file} is not a WebAssembly program",
            hint="build the program for wasm32-wasip1 or wasm32-wasip2",
        )
    provenance = None
    if bundle_file is not None:
        bundle = read_named(bundle_file, most_bytes=_MOST_READ_BYTES)
        provenance = _verify_bundle(bundle, sha256(wasm).hexdigest(), trusted_root)
        build = provenance.build
        tell(f"built from {build.words}")
        source = source or f"https://{build.repository}/tree/{build.commit}"
    # Missing rights are refused first, because compiling may take a minute.
    programs = client.programs(public=not private)
    with with_next_steps(name, private=private):
        programs.require_right_to_publish(name)
    wallet = owner_home().wallet()
    # Before the upload: a version that does not compile would be published and never run.
    await _check_program(wasm, target)
    with with_next_steps(name, private=private):
        version = await programs.publish(
            name,
            wasm,
            target=target,
            signer=wallet or client.session.signer,
            source=source,
            provenance=provenance,
            manifest=manifest,
            activate=not no_activate,
        )
    if private:
        tell(f"for each runner that may run the project: sealspace project share URL {name}")
    label = "version" if no_activate else "active version"
    tell(f"published {version.project.text}", f"{label} {version.sha256}")
    result = _version_json(version) | {"active": not no_activate}
    if is_app:
        address = await _record_address(client, wallet, "app", version.project)
        result["address"] = address
        tell(f"address {address}")
    print_result(result)


async def _check_program(wasm: bytes, target: Target) -> None:
    """Check that a runner could compile a program, if the extra for it is installed."""
    if target == "python":
        parse_python_program(wasm)  # raises for a malformed program
        return
    if not is_installed("runner"):
        tell(
            "cannot check that the program compiles; to enable the check:"
            " pip install 'sealspace[runner]'"
        )
        return
    from . import program_check  # needs the extra

    await program_check.check(wasm, target)


@click.command(
    epilog="Example: `sealspace project activate mail-digest SHA256`, to return to an older"
    " version.",
)
@click.argument("name")
@click.argument("sha256")
@_private
@at_node
async def activate(client: Client, name: str, sha256: str, private: bool) -> None:
    """Activate a published version of the project NAME.

    Runners use the version within seconds.
    """
    checked_sha256(sha256, what="the version")  # raises before a request
    with with_next_steps(name, private=private):
        active = await client.programs(public=not private).activate(
            name, sha256, signer=owner_home().wallet() or client.session.signer
        )
    tell(f"activated version {active.sha256} (activation number {active.sequence})")
    print_result(_active_json(active))


@click.command()
@click.option(
    "--developer", metavar="DID|NAME", help="The developer, a DID or contact; by default you."
)
@naming(owners=["developer"])
@at_node
async def list_(client: Client, developer: str | None) -> None:
    """List the projects of a developer.

    Your own projects, public and private ones, are listed with the active version, the number of
    versions and the bytes of their programs.
    """
    # The name of the project does not matter, because only its developer is used.
    any_project = project_of("x" if developer is None else f"{developer}/x")
    names: dict[str, None] = {}  # each name once, in the order of the keys
    for key in await _list_keys(client, any_project, "projects/"):
        if "/versions/" in key:  # projects/NAME/versions/SHA256
            name = key.split("/")[1]
            names[name] = None
    projects: list[JsonObject] = []
    for name in names:
        description: JsonObject = {"name": name}
        if developer is None:  # nodes limit the reads of another developer's public projects
            published = await _read_published(client, replace(any_project, name=name))
            active = published.active
            description["active"] = None if active is None else active.sha256
            description["versions"] = len(published.versions)
            description["bytes"] = sum(version.size_bytes for version in published.versions)
        projects.append(description)
    print_documents(
        projects,
        {name: name for name in ("name", "active", "versions", "bytes")},
        nothing="there are no projects; next: sealspace project publish NAME FILE",
    )


@click.command(
    epilog="Example: `sealspace project remove mail-digest --version SHA256`. Without `--version`,"
    " all versions are removed.",
)
@click.argument("name")
@click.option(
    "--version", "sha256", metavar="SHA256", help="Remove only this version, which is not active."
)
@_private
@yes_option
@at_node
async def remove(client: Client, name: str, sha256: str | None, private: bool, yes: bool) -> None:
    """Remove the project NAME, or one version of it.

    Statements and programs are deleted. Runners stop running them by the name of the project within
    60 s.
    """
    target = name if sha256 is None else f"the version {sha256} of {name}"
    confirm(f"Remove {target}? Runners stop running it within 60 s.", yes=yes)
    with with_next_steps(name, private=private):
        was_there = await client.programs(public=not private).remove(
            name, sha256, signer=owner_home().wallet() or client.session.signer
        )
        if not was_there:
            raise NotThere(f"there is no project {name}", hint="sealspace project list")
    tell(f"removed {target}")


@click.command(epilog="Example: `sealspace project show did:pkh:eip155:1:0x…/mail-digest`.")
@click.argument("project", metavar="NAME|DID/NAME")
@naming(projects=["project"])
@at_node
async def show(client: Client, project: str) -> None:
    """Show a project's versions, manifests and active version.

    The signatures are verified first.
    """
    project_id = project_of(project)
    published = await _read_published(client, project_id)
    active = published.active
    if not published.versions:
        raise NotThere(f"there is no project {project_id.text}", hint="sealspace project list")
    address = address_of("app", project_id)
    tell(project_id.text, f"address {address}")
    print_rows(
        {
            "project": project_id.text,
            "address": address,
            "active": None if active is None else _active_json(active),
            "versions": [_version_json(version) for version in published.versions],
        },
        ("active", "version", "published", "target", "bytes", "secrets", "hosts", "built from"),
        [_version_cells(version, active) for version in published.versions],
        nothing="there are no versions; next: sealspace project publish NAME FILE",
    )


def _version_cells(version: Version, active: Active | None) -> tuple[str, ...]:
    """Return a version as a row of the table."""
    is_active = active is not None and version.sha256 == active.sha256
    return (
        "yes" if is_active else "",
        version.sha256,
        version.published_at,
        version.target,
        str(version.size_bytes),
        _secrets_text(version.manifest),
        ", ".join(version.manifest.hosts) or "none",
        version.build.words if version.build else "its developer states nothing",
    )


@click.command(
    epilog="Example: `sealspace project provenance did:pkh:eip155:1:0x…/mail-digest`.",
)
@click.argument("project", metavar="NAME|DID/NAME")
@click.option("--version", metavar="SHA256", help="Version. Default: the active version.")
@click.option("--output", type=NEW_FILE, help="Write the bundle to this new file.")
@trusted_root_option
@naming(projects=["project"])
@at_node
async def provenance(
    client: Client,
    project: str,
    version: str | None,
    output: Path | None,
    trusted_root: Path | None,
) -> None:
    """Verify where a version of a project was built.

    The provenance bundle is read, and verified for the program's hash.
    """
    project_id = project_of(project)
    version = version or await active_hash(client, project_id)
    proof = await verified_provenance(client, project_id, version, trusted_root)
    if output is not None:
        make_file(output, proof.bundle)
    description = to_builtins(proof.build)
    print_result(description, facts(description))


# --- at the node ----------------------------------------------------------------------------------


@contextmanager
def with_next_steps(name: str, *, private: bool) -> Iterator[None]:
    """Convert errors of the node about the project `name` to errors with the next step.

    The errors are those of the `with` block.
    """
    try:
        yield
    except (NotGranted, SpaceNotFound) as error:
        space = PROJECTS_SPACE if private else PUBLIC_SPACE
        hint = f"sealspace login --space {space}"
        raise NotGranted(f"this login cannot write to your space {space}", hint=hint) from error
    except NotFound:
        raise NotThere(
            f"there is no such version of {name}", hint=f"sealspace project show {name}"
        ) from None
    except PreconditionFailed:
        raise AlreadyThere(
            f"another version of {name} was activated at the same time",
            hint=f"sealspace project show {name}",
        ) from None


def _spaces_of(client: Client, project: ProjectId) -> list[Kv | PublicKv]:
    """Return the spaces in which a project may be stored.

    The user's private space comes first (RN153). The user's public space is read with the user's
    rights if possible, because nodes limit reads without a token.
    """
    public = client.public(SpaceId(project.developer, PUBLIC_SPACE).text)
    if same_principal(project.developer, client.session.owner):
        return [client.kv(PROJECTS_SPACE), client.kv(PUBLIC_SPACE), public]
    return [public]


def reader(client: Client, project: ProjectId) -> Reader:
    """Return a function that reads a value of a project by its key, such as a statement.

    It returns None if none of the project's spaces contains the key.
    """

    async def read(key: str) -> bytes | None:
        for space in _spaces_of(client, project):
            with suppress(NotFound, NotGranted):
                return (await space.get(key, max_bytes=_MOST_READ_BYTES)).body
        return None

    return read


async def active_hash(client: Client, project: ProjectId) -> str:
    """Return the hash of a project's active version."""
    active = await read_active(reader(client, project), project)
    if active is None:
        raise NotThere(
            f"no version of {project.text} is active", hint=f"sealspace project show {project.text}"
        )
    return active.sha256


async def verified_provenance(
    client: Client, project: ProjectId, version: str, trusted_root: Path | None
) -> Provenance:
    """Read and verify the provenance bundle that is stored beside a version (PV12)."""
    read = reader(client, project)
    bundle = await read(project.provenance_key(version))
    if bundle is None:
        raise NotThere(
            f"the version {version} of {project.text} has no provenance bundle",
            hint=f"ask its developer: sealspace project publish {project.name} FILE --provenance"
            " BUNDLE",
        )
    return _verify_bundle(bundle, version, trusted_root)


def _verify_bundle(bundle: bytes, version: str, trusted_root: Path | None) -> Provenance:
    """Verify a provenance bundle of a version (PV13)."""
    from sealspace.apps.provenance import verify_provenance  # needs the extra `provenance`

    build = verify_provenance(bundle, version, load_trusted_root(trusted_root))
    return Provenance(build, bundle)


class _Published(NamedTuple):
    """The active version of a project, or None, and all its versions, the latest first."""

    active: Active | None
    versions: list[Version]


async def _read_published(client: Client, project: ProjectId) -> _Published:
    """Read and verify the statements about a project's versions."""
    read = reader(client, project)
    prefix = project.version_key("")
    versions = []
    for key in dict.fromkeys(await _list_keys(client, project, prefix)):
        version = await read_version(read, project, key.removeprefix(prefix))
        if version is not None:
            versions.append(version)
    versions.sort(key=lambda version: (version.published_at, version.sha256), reverse=True)
    active = await read_active(read, project)
    return _Published(active=active, versions=versions)


async def _list_keys(client: Client, project: ProjectId, prefix: str) -> list[str]:
    """List the keys with a prefix in the spaces of a project. A key may be in several spaces."""
    keys: list[str] = []
    for space in _spaces_of(client, project):
        with suppress(NotFound, NotGranted):
            keys += [key async for key in space.list(prefix)]
    return keys


def project_of(text: str) -> ProjectId:
    """Parse a project id, or the name of one of the user's projects.

    A project id has the form `<DID>/<name>`.
    """
    if "/" in text:
        return parse_project(text)
    return parse_project(f"{owner_home().profile().owner}/{text}")


# --- files ----------------------------------------------------------------------------------------


def _secrets_text(manifest: ProgramManifest) -> str:
    if manifest.secrets is None:
        return "all granted"
    names = [*manifest.secrets]
    if manifest.developer is not None:
        names += [f"{name} of the developer" for name in manifest.developer.secrets]
    return ", ".join(names) or "none"


def _version_json(version: Version) -> JsonObject:
    return version_json(version) | {
        "source": version.source,
        "manifest": manifest_json(version.manifest),
    }


def _active_json(active: Active) -> JsonObject:
    return {"sha256": active.sha256, "sequence": active.sequence}


# --- data sets ------------------------------------------------------------------------------------


_FORMATS: Mapping[str, Suite] = {"authenticated": "aead-chunked-v1", "iexec": "iexec-cbc-v1"}
_MAX_KEY_BYTES = 256


@click.command()
@click.argument("file", type=FILE)
@click.option(
    "--output", "folder", type=FOLDER, help="Folder for the new files. Default: that of FILE."
)
@click.option(
    "--format",
    "form",
    type=click.Choice([*_FORMATS]),
    default="authenticated",
    help="Format of the encrypted file. Default: authenticated. Choose iexec for iExec's tools.",
)
@flag_option("--force", help="Replace existing files.")
def encrypt_file(file: Path, folder: Path | None, form: str, force: bool) -> None:
    """Encrypt FILE as a data set, with a new key.

    This writes FILE.enc, which you upload, and FILE.key, which you keep secret.
    """
    target = folder or file.parent
    blob = target / f"{file.name}.enc"
    key_file = target / f"{file.name}.key"
    if force:
        write = replace_file
    else:
        # Nothing is written if one of the files exists (DS6): data that was encrypted with a key
        # is lost when the key is overwritten.
        require_free(blob)
        require_free(key_file)
        write = make_file
    key = SystemEntropy().token(KEY_BYTES)
    with file.open("rb") as stream:
        encrypted = encrypt(_FORMATS[form], key, stream.read, SystemEntropy())
        write(blob, encrypted)
    write(key_file, encode_standard(key).encode())
    summary: JsonObject = {"encrypted": str(blob), "key": str(key_file)}
    summary |= _describe_encrypted(blob)
    summary["originalSizeBytes"] = file.stat().st_size
    print_result(summary, facts(summary))


@click.command()
@click.argument("name")
@click.argument("encrypted", type=FILE)
@click.option("--url", required=True, help="Address of the uploaded file, https://…")
@at_node
async def publish_file(client: Client, name: str, encrypted: Path, url: str) -> None:
    """Publish the address and the checksum of the encrypted file ENCRYPTED as the data set NAME.

    An earlier statement about NAME is replaced. The file itself is not uploaded.
    """
    dataset = project_of(name)
    description = _describe_encrypted(encrypted)
    wallet = owner_home().wallet()
    description["dataset"] = dataset.text
    description["url"] = url
    description["publishedAt"] = time_text(SystemClock.now())
    statement = sign_statement(DATASET_TYPE, description, wallet or client.session.signer)
    # Refuse now what every reader of the statement would refuse, such as a malformed address.
    try:
        parse_dataset(statement, dataset)
    except StatementInvalid as error:
        raise InvalidInput(f"cannot publish {name}: {error.message}") from None
    with with_next_steps(name, private=False):
        await client.kv(PUBLIC_SPACE).put(dataset.dataset_key, statement)
    description["address"] = await _record_address(client, wallet, "dataset", dataset)
    print_result(description, facts(description))


@click.command()
@click.argument("name")
@click.argument("keyfile", type=FILE)
@at_node
async def push_key(client: Client, name: str, keyfile: Path) -> None:
    """Encrypt and store the key in KEYFILE as the key of the data set NAME."""
    data = read_key(keyfile, "key file", KeyFileUnusable, most_bytes=_MAX_KEY_BYTES)
    text = data.decode("ascii", "replace").strip()
    parse_dataset_key(text)  # refuses a text that is not a key
    secret = dataset_secret(address_of("dataset", project_of(name)))
    await store_secret(
        client, secret.name, lambda: text, scope=secret.scope, if_absent=True, yes=True
    )
    tell(f"stored the key of {name} as the secret {secret.label}")


def _describe_encrypted(blob: Path) -> JsonObject:
    """Return the checksum, size and format of an encrypted file."""
    with blob.open("rb") as stream:
        checksum = file_digest(stream, sha256).hexdigest()
        size_bytes = stream.tell()
        stream.seek(0)
        suite = suite_of(stream.read(KEY_BYTES), size_bytes)
    return {"checksum": f"0x{checksum}", "sizeBytes": size_bytes, "suite": suite}


async def _record_address(
    client: Client, wallet: Wallet | None, kind: AddressKind, project: ProjectId
) -> str:
    """Record an application or data set by its address, and return the address (DS8).

    The record is in the owner's space `secrets`. Services that know only the address read there
    which application or data set it is.
    """
    address = address_of(kind, project)
    kv = client.kv(SECRETS_SPACE)
    key = owner_record_key(kind, address)
    member = "project" if kind == "app" else kind
    # These keys are in the space `secrets`, but are not those of secrets, so a login has no right
    # to write them.
    await client.delegations.add_right(wallet, [allow(f"{kv.space.text}/kv/{key}", KV_PUT)])
    with suppress(PreconditionFailed):  # recorded before: the name determines the address
        await kv.put(key, canonical_bytes({member: project.name}), if_absent=True)
    return address
