"""Commands that publish and call programs, and manage API keys."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import click

from capabilities.capability_errors import InvalidJson
from capabilities.principals import same_principal
from capabilities.resources import SpaceId
from capabilities.strict_base64 import encode_standard
from capabilities.strict_json import Json, parse_json
from sealspace.apps.api_keys import MAX_AMOUNT, MAX_KEY_LIFE_S
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
from sealspace.apps.run_calls import call_right
from sealspace.apps.runners import call_runner, call_with_key, error_text, start_of
from sealspace.cli.command_errors import AlreadyThere, KeyFileUnusable, NotThere, RunFailed
from sealspace.cli.durations import expires_option
from sealspace.cli.lazy import is_installed
from sealspace.cli.owner_profile import at_node, owner_home
from sealspace.cli.paths import FILE, FILE_OR_DASH, NEW_FILE, read_named
from sealspace.cli.shared import shared
from sealspace.cli.terminal import (
    cell_text,
    confirm,
    print_documents,
    print_json,
    print_lines,
    print_result,
    print_rows,
    print_value,
    tell,
    yes_option,
)
from sealspace.client import Client
from sealspace.documents.project_names import (
    PROJECTS_SPACE,
    PUBLIC_SPACE,
    ProjectId,
    checked_project_name,
    checked_sha256,
    parse_project,
)
from sealspace.documents.published import MAX_PUBLISHED_BYTES
from sealspace.documents.signed_statements import MAX_STATEMENT_BYTES
from sealspace.errors import (
    BackendAnswerInvalid,
    InvalidInput,
    NotFound,
    NotGranted,
    PreconditionFailed,
    SpaceNotFound,
)
from sealspace.kv import Kv
from sealspace.private_files import read_key, replace_file
from sealspace.spaces import PublicKv

from .grants import hosts_words

# Compilation targets by the first eight bytes of a file.
_TARGETS: Mapping[bytes, Target] = {
    b"\0asm\x01\0\0\0": "wasm32-wasip1",
    b"\0asm\x0d\0\x01\0": "wasm32-wasip2",
}
_MAX_MANIFEST_BYTES = 64 * 1024
_private = click.option(
    "--private",
    is_flag=True,
    help="Use your private space `projects`. A runner can read a private project only after"
    " `project share`.",
)


@click.command(
    "publish",
    epilog=(
        "Example: `sealspace project publish mail-digest digest.wasm --source"
        " https://git.example/digest`. Published programs are public; with `--private`, only"
        " runners that you share them with can read them. A manifest is JSON: `{"
        '"secrets": ["API_KEY"], "hosts": ["api.example.com"]}`.'
    ),
)
@click.argument("name", metavar="NAME")
@click.argument("file", metavar="FILE", type=FILE)
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    help="Compilation target of the file; detected by default.",
)
@click.option("--source", metavar="URL", help="Address of the source code.")
@click.option(
    "--manifest",
    "manifest_file",
    type=FILE,
    help="JSON file with the manifest, which lists the secrets and hosts that the program needs.",
)
@click.option("--no-activate", is_flag=True, help="Do not change the active version.")
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
    """Publish the WASI program in FILE as a version of the project NAME.

    The new version is activated.
    """
    checked_project_name(name)
    wasm = read_named(file, most_bytes=MAX_PROGRAM_BYTES)
    manifest = None if manifest_file is None else _manifest(manifest_file)
    target = target or _TARGETS.get(wasm[:8])
    if target is None:
        raise InvalidInput(
            f"{file} is not a WebAssembly program",
            hint="build the program for wasm32-wasip1 or wasm32-wasip2",
        )
    # Before the upload: a version that does not compile would be published and never run.
    if is_installed("runner"):
        from . import program_check  # needs the extra

        await program_check.check(wasm, target)
    else:
        tell(
            "cannot check that the program compiles; to enable the check:"
            " pip install 'sealspace[runner]'"
        )
    signer = owner_home().wallet() or client.session.signer
    with _explained(name, private=private):
        version = await client.programs(public=not private).publish(
            name,
            wasm,
            target=target,
            signer=signer,
            source=source,
            manifest=manifest,
            activate=not no_activate,
        )
    if private:
        tell(f"for each runner that may run the project: sealspace project share URL {name}")
    tell(
        f"published {version.project.text}",
        f"{'version' if no_activate else 'active version'} {version.sha256}",
    )
    print_result(_version_json(version) | {"active": not no_activate}, ())


@click.command(
    "activate",
    epilog="Example: `sealspace project activate mail-digest SHA256`, to return to an older"
    " version.",
)
@click.argument("name", metavar="NAME")
@click.argument("sha256", metavar="SHA256")
@_private
@at_node
async def activate(client: Client, name: str, sha256: str, private: bool) -> None:
    """Activate a published version of the project NAME.

    Runners use the version within seconds.
    """
    checked_sha256(sha256, what="the version")
    with _explained(name, private=private):
        active = await client.programs(public=not private).activate(
            name, sha256, signer=owner_home().wallet() or client.session.signer
        )
    tell(f"activated version {active.sha256} (activation number {active.sequence})")
    print_result(_active_json(active), ())


@click.command("list")
@click.option("--developer", metavar="DID", help="DID of the developer; by default your own DID.")
@at_node
async def list_(client: Client, developer: str | None) -> None:
    """List the projects of a developer.

    Your own projects, public and private ones, are listed with the active version, the number of
    versions and the bytes of their programs.
    """
    project = project_of("x" if developer is None else f"{developer}/x")
    keys = await _keys(client, project, "projects/")
    names = dict.fromkeys(key.split("/")[1] for key in keys if "/versions/" in key)
    found: list[dict[str, Json]] = []
    for name in names:
        found.append({"name": name})
        if developer is None:  # nodes limit the reads of another developer's public projects
            active, versions = await _stated(client, replace(project, name=name))
            found[-1] |= {
                "active": None if active is None else active.sha256,
                "versions": len(versions),
                "bytes": sum(one.size_bytes for one in versions),
            }
    print_documents(
        found,
        {name: name for name in ("name", "active", "versions", "bytes")},
        nothing="there are no projects; next: sealspace project publish NAME FILE",
    )


@click.command(
    "remove",
    epilog="Example: `sealspace project remove mail-digest --version SHA256`. Without `--version`,"
    " all versions are removed.",
)
@click.argument("name", metavar="NAME")
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
    what = name if sha256 is None else f"the version {sha256} of {name}"
    confirm(f"Remove {what}? Runners stop running it within 60 s.", yes=yes)
    with _explained(name, private=private):
        if not await client.programs(public=not private).remove(
            name, sha256, signer=owner_home().wallet() or client.session.signer
        ):
            raise NotThere(f"there is no project {name}", hint="sealspace project list")
    tell(f"removed {what}")


@click.command("show", epilog="Example: `sealspace project show did:pkh:eip155:1:0x…/mail-digest`.")
@click.argument("project", metavar="NAME|DID/NAME")
@at_node
async def show(client: Client, project: str) -> None:
    """Show a project's versions, manifests and active version.

    The signatures are verified first.
    """
    found = project_of(project)
    active, versions = await _stated(client, found)
    if not versions:
        raise NotThere(f"there is no project {found.text}", hint="sealspace project list")
    tell(found.text)
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
                _secrets_text(one.manifest),
                ", ".join(one.manifest.hosts) or "none",
            )
            for one in versions
        ],
        nothing="there are no versions; next: sealspace project publish NAME FILE",
    )


# --- at the node ----------------------------------------------------------------------------------


@contextmanager
def _explained(name: str, *, private: bool) -> Iterator[None]:
    """Convert errors from the node to errors with a hint.

    The hint is the next command to run.
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


def _places(client: Client, project: ProjectId) -> list[Kv | PublicKv]:
    """Return the spaces in which a project may be stored.

    The user's private space comes first (RN153). The user's public space is read with the user's
    rights if possible, because nodes limit reads without a token.
    """
    is_own = same_principal(project.developer, client.session.owner)
    return [
        *([client.kv(PROJECTS_SPACE), client.kv(PUBLIC_SPACE)] if is_own else []),
        client.public(SpaceId(project.developer, PUBLIC_SPACE).text),
    ]


def reader(client: Client, project: ProjectId) -> Reader:
    """Return a function that reads the signed statements published by a project."""

    async def read(key: str) -> bytes | None:
        for place in _places(client, project):
            with suppress(NotFound, NotGranted):
                return (await place.get(key, max_bytes=MAX_STATEMENT_BYTES)).body
        return None

    return read


async def _stated(client: Client, project: ProjectId) -> tuple[Active | None, list[Version]]:
    """Return a project's active version and all its versions, the latest first."""
    read, prefix = reader(client, project), project.version_key("")
    versions = [
        version
        for key in dict.fromkeys(await _keys(client, project, prefix))
        if (version := await read_version(read, project, key.removeprefix(prefix))) is not None
    ]
    versions.sort(key=lambda one: (one.published_at, one.sha256), reverse=True)
    return await read_active(read, project), versions


async def _keys(client: Client, project: ProjectId, prefix: str) -> list[str]:
    keys: list[str] = []
    for place in _places(client, project):
        with suppress(NotFound, NotGranted):
            keys += [key async for key in place.list(prefix)]
    return keys


def project_of(text: str) -> ProjectId:
    """Parse a project id, or the name of one of the user's projects.

    A project id has the form `<DID>/<name>`.
    """
    return parse_project(text if "/" in text else f"{owner_home().profile().owner}/{text}")


# --- files ----------------------------------------------------------------------------------------


def _manifest(file: Path) -> ProgramManifest:
    data = read_named(file, most_bytes=_MAX_MANIFEST_BYTES)
    try:
        return parse_program_manifest(parse_json(data, max_bytes=_MAX_MANIFEST_BYTES))
    except InvalidJson as error:
        raise InvalidInput(
            f"{file} is not a program's manifest: {error}",
            hint='write for example {"secrets": ["API_KEY"]}',
        ) from None


def _secrets_text(manifest: ProgramManifest) -> str:
    if manifest.secrets is None:
        return "all granted"
    own = () if manifest.developer is None else manifest.developer.secrets
    return ", ".join([*manifest.secrets, *(f"{name} of the developer" for name in own)]) or "none"


def _version_json(version: Version) -> dict[str, Json]:
    return version_json(version) | {
        "source": version.source,
        "manifest": manifest_json(version.manifest),
    }


def _active_json(active: Active) -> dict[str, Json]:
    return {"sha256": active.sha256, "sequence": active.sequence}


# --- calls ----------------------------------------------------------------------------------------


_RIGHT_TTL_S = 12 * 3600.0
_MAX_INPUT_BYTES = 10_000_000
_MAX_KEY_BYTES = 4096
_Result = TypeVar("_Result")


@click.command(
    "call",
    epilog=(
        "Examples: `echo hello | sealspace runner call https://runner.example DID/digest --input"
        " -`. With `--secrets me` the program gets the secrets that you granted to it. `--receipt"
        " FILE` writes a receipt for `sealspace verify`."
    ),
)
@click.argument("url")
@click.argument("program", metavar="DID/NAME|SHA256")
@click.option(
    "--input",
    "source",
    type=FILE_OR_DASH,
    help="File with the program's input; `-` is standard input. Default: no input.",
)
@click.option(
    "--secrets",
    metavar="OWNER[/PROFILE]",
    help="Owner of the secrets to use (a DID or `me`), and optionally the scope of the secrets.",
)
@click.option(
    "--receipt", "receipt_file", type=NEW_FILE, help="File to write the receipt and its salt to."
)
@click.option(
    "--key",
    "key_file",
    type=FILE_OR_DASH,
    help=(
        "File with an API key, mode 0600; `-` is standard input. The call is made in the name of"
        " the key's owner. With an API key, the input must be JSON."
    ),
)
def call(
    url: str,
    program: str,
    source: Path | None,
    secrets: str | None,
    receipt_file: Path | None,
    key_file: Path | None,
) -> None:
    """Run a published program on the runner at URL.

    The output of the program is printed. The runner learns the input, and the DID of the owner who
    is logged in here. This command does not verify the runner; to verify it, use `sealspace backend
    show URL`.
    """
    data = None if source is None else read_named(source, most_bytes=_MAX_INPUT_BYTES)
    if data is not None and len(data) > _MAX_INPUT_BYTES:
        raise InvalidInput(f"the input must be at most {_MAX_INPUT_BYTES} bytes long")
    if key_file is not None:
        if receipt_file is not None:
            raise click.UsageError(
                "--receipt does not work with --key; the receipt of a job is at URL/receipts/JOB"
            )
        key, project, body = _key(key_file), project_of(program), _api_body(data, secrets)
        answer = asyncio.run(call_with_key(url, key, project, body, on_wait=_tell_waiting))
    else:
        body = _body(program, data, secrets)
        answer = with_call_right(
            lambda client: call_runner(url, client.session, body, on_wait=_tell_waiting)
        )
        if receipt_file is not None:
            try:  # needed to verify receipts
                start = parse_json(asyncio.run(start_of(url)), max_bytes=MAX_PUBLISHED_BYTES)
            except InvalidJson:
                raise BackendAnswerInvalid("the runner's startup document cannot be read") from None
            answer["start"] = start
            kept = {name: answer[name] for name in ("receipt", "salt", "start") if name in answer}
            replace_file(receipt_file, json.dumps(kept).encode())
        if isinstance(text := answer.get("stderr"), str):
            print_lines(*text.splitlines(), err=True)
        if isinstance(receipt := answer.get("receipt"), dict):
            contacted = hosts_words(receipt.get("statement"))
            if contacted != "none":
                print_lines(f"contacted: {contacted}", err=True)
    _show(answer, url)


def _tell_waiting(code: str, pause_s: float) -> None:
    tell(f"the program could not start ({code}); trying again in {pause_s:g} s")


def _show(answer: dict[str, Json], url: str) -> None:
    """Print the output of a program call.

    Raises `RunFailed` if the response contains an error.
    """
    error, code = answer.get("error"), answer.get("code")
    if shared().as_json:
        print_json(answer)
    elif error is None:
        output = answer.get("output")
        print_value(output if isinstance(output, str) else json.dumps(output))
    if isinstance(error, dict):
        code, error = error.get("code"), error_text(error)
    if error is not None:
        hints = {
            "secrets-not-granted": f"sealspace runner grant {url} --secret NAME --program DID/NAME",
            "access-denied": (
                "ask the owner of the secrets, or the developer if the program has secrets of its"
                " own, to allow your DID, which sealspace whoami prints"
            ),
            "program-unknown": "sealspace project show DID/NAME",
            "guest-exit": "the program itself reported this; its error output is above, if any",
            "request-invalid": "sealspace runner call --help",
            "bad-profile": "--secrets OWNER/PROFILE, with the profile as the message writes it",
            "key-project": f"sealspace runner keys list {url}",
            "key-profile": f"sealspace runner keys list {url}",
            "secret-unreadable": "repeat this command when the node answers: sealspace status",
            "call-refused": "sealspace login, then repeat this command",
            "key-refused": f"sealspace runner keys create {url}",
            "key-malformed": f"sealspace runner keys create {url}",
            "balance-too-low": (
                "ask the runner's operator to credit the account: sealspace runner credit"
            ),
        }
        hint = hints.get(str(code), "look up the error code in spec/runner.md")
        raise RunFailed(f"{code}: {error}", hint=hint)


def _body(program: str, data: bytes | None, secrets: str | None) -> dict[str, Json]:
    is_hash = "/" not in program and len(program) == 64
    body: dict[str, Json] = {
        "source": (
            {"wasmSha256": checked_sha256(program, what="the program")}
            if is_hash
            else {"project": project_of(program).text}
        )
    }
    if data is not None:
        try:
            body["input"] = data.decode()
        except UnicodeDecodeError:
            body["inputBase64"] = encode_standard(data)
    if secrets is not None:
        body["secretsRef"] = _secrets(secrets, "owner")
    return body


@at_node
async def with_call_right(client: Client, ask: Callable[[Client], Awaitable[_Result]]) -> _Result:
    """Send a request, and obtain the right to call programs if necessary.

    If the right is missing, the wallet adds it, and the request is sent again.
    """
    # Tried first without the wallet, because the session may have the right from an earlier call.
    try:
        return await ask(client)
    except NotGranted:
        right, home = call_right(client.kv().space.text), owner_home()
        await client.delegations.add_right(home.wallet(), [right], ttl_s=_RIGHT_TTL_S)
        home.keep_session(client.session)
        return await ask(client)


def _key(file: Path) -> str:
    data = (
        read_named(file, most_bytes=_MAX_KEY_BYTES)
        if str(file) == "-"
        else read_key(file, "file with an API key", KeyFileUnusable, most_bytes=_MAX_KEY_BYTES)
    )
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        raise InvalidInput(
            f"{file} does not contain an API key", hint="sealspace runner keys create URL"
        ) from None


def _api_body(data: bytes | None, secrets: str | None) -> dict[str, Json]:
    """Return the JSON request body for a call authorised by an API key."""
    try:
        body: dict[str, Json] = {"input": None if data is None else json.loads(data)}
    except ValueError:
        raise InvalidInput(
            "the input must be JSON if an API key is used", hint='put text in double quotes: "TEXT"'
        ) from None
    if secrets is not None:
        body["secrets_ref"] = _secrets(secrets, "account_id")
    return body


def _secrets(text: str, member: str) -> dict[str, Json]:
    """Convert `OWNER/PROFILE` to the JSON that selects a call's secrets.

    `me` means the logged-in owner.
    """
    owner, _, profile = text.partition("/")
    return {
        member: owner_home().profile().owner if owner == "me" else owner,
        "profile": profile or "default",
    }


@click.command(
    "create",
    epilog=(
        "Example: `sealspace runner keys create https://runner.example --project"
        " did:key:z6Mk…/digest > key`; then `sealspace runner call https://runner.example"
        " DID/digest --key key`, or `curl` with the key in `X-Payment-Key`."
    ),
)
@click.argument("url")
@click.option(
    "--project",
    "projects",
    metavar="DID/NAME",
    multiple=True,
    help="A project that the key may call; repeatable.",
)
@click.option("--any-project", is_flag=True, help="Allow the key to call every program.")
@click.option(
    "--profile",
    "profiles",
    metavar="NAME",
    multiple=True,
    help=(
        "Scope of secrets that calls may use, or `default` for secrets without a scope; repeatable."
        " Without this option, calls may use no secrets."
    ),
)
@click.option(
    "--max-per-call",
    type=click.IntRange(0, MAX_AMOUNT),
    default=10_000,
    show_default=True,
    help="Maximum price of one call, in micro-units.",
)
@expires_option("30d", "Lifetime of the key, at most 90d.")
@at_node
async def create_key(
    client: Client,
    url: str,
    projects: tuple[str, ...],
    any_project: bool,
    profiles: tuple[str, ...],
    max_per_call: int,
    ttl_s: float,
) -> None:
    """Create and print an API key for the runner at URL.

    The key cannot be printed again. Anyone with the key can call programs in your name and at your
    cost, within the limits that the options set. A call gets only secrets in the named profiles,
    and only if a grant to the runner allows you to call the program.
    """
    if bool(projects) == any_project:
        raise click.UsageError("give either --project DID/NAME or --any-project")
    if ttl_s > MAX_KEY_LIFE_S:
        raise InvalidInput("--expires is more than 90d", hint="an API key lasts 90 days at most")
    key = await client.runners.create_key(
        url,
        projects=None if any_project else [project_of(one) for one in projects],
        profiles=profiles,
        max_per_call=max_per_call,
        ttl_s=ttl_s,
        wallet=owner_home().wallet(),
    )
    if shared().as_json:
        print_json({"key": key.text, "nonce": key.nonce})
    else:
        print_lines(key.text)
        tell(
            "the key is not shown again; to revoke the key:"
            f" sealspace runner keys revoke {url} {key.nonce}"
        )


@click.command("list")
@click.argument("url")
def list_keys(url: str) -> None:
    """List your API keys for the runner at URL.

    The balance of your account is shown too. Amounts are in micro-units.
    """
    listed = with_call_right(lambda client: client.runners.keys(url))
    keys = listed.get("keys")
    rows = [
        [
            cell_text(one.get(name))
            for name in ("nonce", "expires", "maxPerCall", "projects", "profiles")
        ]
        for one in (keys if isinstance(keys, list) else [])
        if isinstance(one, dict)
    ]
    account = listed.get("account")
    if isinstance(account, dict):
        tell(
            ", ".join(
                f"{name} {cell_text(account.get(name))}"
                for name in ("balance", "reserved", "charged")
            )
        )
    print_rows(
        listed,
        ("nonce", "until", "most per call", "projects", "profiles"),
        rows,
        nothing=f"you have no API key at this runner; next: sealspace runner keys create {url}",
    )


@click.command("revoke")
@click.argument("url")
@click.argument("nonce", type=click.IntRange(0, 2**32 - 1))
@yes_option
def revoke_key(url: str, nonce: int, yes: bool) -> None:
    """Revoke the API key with nonce NONCE at the runner at URL.

    New calls with the key are refused.
    """
    confirm(f"Revoke the API key {nonce} at {url}?", yes=yes)
    with_call_right(lambda client: client.runners.revoke_key(url, nonce))
    tell(f"the API key {nonce} is revoked")
