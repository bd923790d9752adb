"""Commands that call programs on runners, and manage API keys."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click

from capabilities.capability_errors import InvalidJson
from capabilities.strict_base64 import encode_standard
from capabilities.strict_json import JsonObject, parse_json
from sealspace.apps.api_keys import MAX_AMOUNT, MAX_KEY_LIFE_S
from sealspace.apps.programs import TARGETS
from sealspace.apps.run_calls import call_right
from sealspace.apps.runner_answers import error_text
from sealspace.apps.runners import call_runner, call_with_key, start_of
from sealspace.cli.options.durations import expires_option
from sealspace.cli.options.paths import FILE_OR_DASH, NEW_FILE, read_named
from sealspace.cli.owner.contact_names import naming
from sealspace.cli.owner.owner_profile import at_node, owner_home
from sealspace.cli.shared import shared
from sealspace.cli.terminal import (
    cell_text,
    confirm,
    flag_option,
    print_json,
    print_lines,
    print_rows,
    print_value,
    repeatable_option,
    tell,
    yes_option,
)
from sealspace.client import Client
from sealspace.documents.project_names import checked_sha256
from sealspace.documents.published import MAX_PUBLISHED_BYTES
from sealspace.documents.run_grants import GrantLimits
from sealspace.errors import BackendAnswerInvalid, InvalidInput, NotGranted
from sealspace.private_files import read_key, replace_file
from sealspace.service.command_errors import KeyFileUnusable, RunFailed
from tee_backend.cli.grants import hosts_words

from .program_commands import project_of
from .run_grants import limit_options

_RIGHT_TTL_S = 12 * 3600.0
_MAX_INPUT_BYTES = 10_000_000
_MAX_KEY_BYTES = 4096
_HASH_DIGITS = 64
_API_LIMITS = {
    "maxInstructions": "max_instructions",
    "maxMemoryMb": "max_memory_mb",
    "maxExecutionSeconds": "max_execution_seconds",
}
_Result = TypeVar("_Result")


@click.command(
    epilog="Examples: `echo hello | sealspace runner call https://runner.example DID/digest --input"
    " -`. With `--secrets me` the program gets the secrets that you granted to it. `--receipt"
    " FILE` writes a receipt for `sealspace verify`.",
)
@click.argument("url")
@click.argument("program", metavar="[DID/NAME|SHA256]", required=False)
@click.option(
    "--repository",
    metavar="github.com/OWNER/NAME",
    help="Run the version that was built from this repository; needs --commit.",
)
@click.option(
    "--commit",
    metavar="HASH|BRANCH|TAG",
    help="Full hash of the commit. With DID/NAME also a branch or tag: then the active version runs"
    " if it was built from it.",
)
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    default=TARGETS[0],
    show_default=True,
    help="Kind of module, with --commit.",
)
@click.option(
    "--input",
    "input_file",
    type=FILE_OR_DASH,
    help="File with the program's input; `-` is standard input. Default: no input.",
)
@click.option(
    "--secrets",
    metavar="OWNER[/PROFILE]",
    help="Owner of the secrets to use (a DID, a contact or `me`), and optionally their scope.",
)
@click.option(
    "--receipt", "receipt_file", type=NEW_FILE, help="File to write the receipt and its salt to."
)
@click.option(
    "--key",
    "key_file",
    type=FILE_OR_DASH,
    help="File with an API key, mode 0600; `-` is standard input. The call is made in the name of"
    " the key's owner. With an API key, the input must be JSON.",
)
@limit_options(GrantLimits)
@naming(projects=["program"], owners=["secrets"])
def call(
    url: str,
    program: str | None,
    repository: str | None,
    commit: str | None,
    target: str,
    input_file: Path | None,
    secrets: str | None,
    receipt_file: Path | None,
    key_file: Path | None,
    limits: GrantLimits,
) -> None:
    """Run a published program on the runner at URL.

    The output of the program is printed, also if it failed by itself. The runner learns the input,
    and the DID of the owner who is logged in here. This command does not verify the runner; to
    verify it, use `sealspace backend show URL`.
    """
    source: JsonObject = {}
    if repository or commit:
        source["GitHub"] = {"repo": repository, "commit": commit, "build_target": target}
    data = None if input_file is None else _read_input(input_file)
    if key_file is not None:
        if receipt_file is not None:
            raise click.UsageError(
                "--receipt does not work with --key; the receipt of a job is at URL/receipts/JOB"
            )
        key = _read_api_key(key_file)
        project = project_of(program or "")
        body = _api_body(data, secrets, source, limits)
        answer = asyncio.run(call_with_key(url, key, project, body, on_wait=_tell_waiting))
    else:
        body = _call_body(program, source, data, secrets, limits)
        answer = with_call_right(
            lambda client: call_runner(url, client.session, body, on_wait=_tell_waiting)
        )
        if receipt_file is not None:
            answer["start"] = _fetch_start_document(url)
            _write_receipt(answer, receipt_file)
        _tell_about_run(answer)
    _print_answer(answer, url)


def _read_input(file: Path) -> bytes:
    """Read the input of a program."""
    data = read_named(file, most_bytes=_MAX_INPUT_BYTES)
    # Of a longer file, `read_named` returns one byte more than the limit instead of an error.
    if len(data) > _MAX_INPUT_BYTES:
        raise InvalidInput(f"the input must be at most {_MAX_INPUT_BYTES} bytes long")
    return data


def _fetch_start_document(url: str) -> JsonObject:
    """Fetch the startup document of a runner, which is needed to verify its receipts."""
    try:
        return parse_json(asyncio.run(start_of(url)), max_bytes=MAX_PUBLISHED_BYTES)
    except InvalidJson:
        raise BackendAnswerInvalid("the runner's startup document cannot be read") from None


def _write_receipt(answer: JsonObject, file: Path) -> None:
    """Write the receipt of a call to a file, with the members that are needed to verify it."""
    receipt = {name: answer[name] for name in ("receipt", "salt", "start") if name in answer}
    replace_file(file, json.dumps(receipt).encode())


def _tell_about_run(answer: JsonObject) -> None:
    """Print the error output of a run, and the hosts that it contacted."""
    text = answer.get("stderr")
    if isinstance(text, str):
        print_lines(*text.splitlines(), err=True)
    receipt = answer.get("receipt")
    if isinstance(receipt, dict):
        contacted = hosts_words(receipt.get("statement"))
        if contacted != "none":
            print_lines(f"contacted: {contacted}", err=True)


def _tell_waiting(code: str, pause_s: float) -> None:
    """Print that a call was refused with an error code, and is sent again after a pause."""
    tell(f"the program could not start ({code}); trying again in {pause_s:g} s")


def _print_answer(answer: JsonObject, url: str) -> None:
    """Print the output of a program call.

    Raises `RunFailed` if the response contains an error.
    """
    error = answer.get("error")
    code = answer.get("code")
    output = answer.get("output")
    if shared().as_json:
        print_json(answer)
    elif error is None or output is not None:  # a program that failed may have output (RN263)
        print_value(output if isinstance(output, str) else json.dumps(output))
    if error is None:
        return
    # With an API key, `error` is the text, and `code` is beside it. Otherwise `error` has both.
    if isinstance(error, dict):
        code = error.get("code")
        error = error_text(error)
    raise RunFailed(f"{code}: {error}", hint=_next_step_after(str(code), url))


def _next_step_after(code: str, url: str) -> str:
    """Return the next step after a call that failed with an error code."""
    hints = {
        "secrets-not-granted": f"sealspace runner grant {url} --secret NAME --program DID/NAME"
        "; after a new build of a repository: --refresh",
        "access-denied": (
            "ask the owner of the secrets, or the developer if the program has secrets of its"
            " own, to allow your DID, which sealspace whoami prints"
        ),
        "program-unknown": "sealspace project show DID/NAME",
        "guest-exit": "the program itself reported this; its error output is above, if any",
        "request-invalid": "sealspace runner call --help",
        "python-base-unknown": (
            "publish the program again for a base that the runner has: sealspace project publish"
            " NAME FOLDER --base SHA256; then grant the new version"
        ),
        "bad-profile": "--secrets OWNER/PROFILE, with the profile as the message writes it",
        "key-project": f"sealspace runner keys list {url}",
        "key-profile": f"sealspace runner keys list {url}",
        "secret-not-bound": "the owner of the secret stores it again: sealspace secret put NAME",
        "secret-unreadable": "repeat this command when the node answers: sealspace status",
        "call-refused": "sealspace login, then repeat this command",
        "key-refused": f"sealspace runner keys create {url}",
        "key-malformed": f"sealspace runner keys create {url}",
        "balance-too-low": (
            "ask the runner's operator to credit the account: sealspace runner credit"
        ),
    }
    return hints.get(code, "look up the error code in spec/runner.md")


def _call_body(
    program: str | None,
    source: JsonObject,
    data: bytes | None,
    secrets: str | None,
    limits: GrantLimits,
) -> JsonObject:
    """Return the JSON request body for a call in the name of the logged-in owner."""
    if program is not None:
        is_hash = "/" not in program and len(program) == _HASH_DIGITS
        if is_hash:
            source = source | {"wasmSha256": checked_sha256(program, what="the program")}
        else:
            source = source | {"project": project_of(program).text}
    body: JsonObject = {"source": source}
    if data is not None:
        try:
            body["input"] = data.decode()
        except UnicodeDecodeError:
            body["inputBase64"] = encode_standard(data)
    if secrets is not None:
        body["secretsRef"] = _secrets_reference(secrets, "owner")
    if limits.stated:
        body["resourceLimits"] = limits.stated
    return body


@at_node
async def with_call_right(
    client: Client, send_request: Callable[[Client], Awaitable[_Result]]
) -> _Result:
    """Send a request, and obtain the right to call programs if necessary.

    If the right is missing, the wallet adds it, and the request is sent again.
    """
    # Tried first without the wallet, because the session may have the right from an earlier call.
    try:
        return await send_request(client)
    except NotGranted:
        right = call_right(client.kv().space.text)
        home = owner_home()
        await client.delegations.add_right(home.wallet(), [right], ttl_s=_RIGHT_TTL_S)
        home.keep_session(client.session)
        return await send_request(client)


def _read_api_key(file: Path) -> str:
    """Read an API key from a file that only its owner can read, or from standard input."""
    if str(file) == "-":
        data = read_named(file, most_bytes=_MAX_KEY_BYTES)
    else:
        data = read_key(file, "file with an API key", KeyFileUnusable, most_bytes=_MAX_KEY_BYTES)
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        raise InvalidInput(
            f"{file} does not contain an API key", hint="sealspace runner keys create URL"
        ) from None


def _api_body(
    data: bytes | None, secrets: str | None, source: JsonObject, limits: GrantLimits
) -> JsonObject:
    """Return the JSON request body for a call authorised by an API key."""
    body: JsonObject = {"input": None}
    if data is not None:
        try:
            body["input"] = json.loads(data)
        except ValueError:
            raise InvalidInput(
                "the input must be JSON if an API key is used",
                hint='put text in double quotes: "TEXT"',
            ) from None
    if secrets is not None:
        body["secrets_ref"] = _secrets_reference(secrets, "account_id")
    if source:
        body["source"] = source
    if limits.stated:
        body["resource_limits"] = {
            _API_LIMITS[name]: limit for name, limit in limits.stated.items()
        }
    return body


def _secrets_reference(text: str, member: str) -> JsonObject:
    """Convert `OWNER/PROFILE` to the JSON that selects a call's secrets.

    `me` means the logged-in owner. `member` is the name of the JSON member for the owner, which
    differs between calls with and without an API key.
    """
    owner, _, profile = text.partition("/")
    if owner == "me":
        owner = owner_home().profile().owner
    return {member: owner, "profile": profile or "default"}


@click.command(
    epilog="Example: `sealspace runner keys create https://runner.example --project"
    " did:key:z6Mk…/digest > key`; then `sealspace runner call https://runner.example"
    " DID/digest --key key`, or `curl` with the key in `X-Payment-Key`.",
)
@click.argument("url")
@repeatable_option(
    "--project",
    "projects",
    metavar="DID/NAME",
    help="A project that the key may call; repeatable.",
)
@flag_option("--any-project", help="Allow the key to call every program.")
@repeatable_option(
    "--profile",
    "profiles",
    metavar="NAME",
    help="Scope of secrets that calls may use, or `default` for secrets without a scope;"
    " repeatable. Without this option, calls may use no secrets.",
)
@click.option(
    "--max-per-call",
    type=click.IntRange(0, MAX_AMOUNT),
    default=10_000,
    show_default=True,
    help="Maximum price of one call, in micro-units.",
)
@expires_option("30d", "Lifetime of the key, at most 90d.")
@naming(projects=["projects"])
@at_node
async def create(
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
        projects=None if any_project else [project_of(project) for project in projects],
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


@click.command()
@click.argument("url")
def list_(url: str) -> None:
    """List your API keys for the runner at URL.

    The balance of your account is shown too. Amounts are in micro-units.
    """
    answer = with_call_right(lambda client: client.runners.keys(url))
    keys = answer.get("keys")
    members = ("nonce", "expires", "maxPerCall", "projects", "profiles")
    rows = []
    for key in keys if isinstance(keys, list) else []:
        if isinstance(key, dict):
            rows.append([cell_text(key.get(member)) for member in members])
    account = answer.get("account")
    if isinstance(account, dict):
        amounts = ("balance", "reserved", "charged")
        tell(", ".join(f"{name} {cell_text(account.get(name))}" for name in amounts))
    print_rows(
        answer,
        ("nonce", "until", "most per call", "projects", "profiles"),
        rows,
        nothing=f"you have no API key at this runner; next: sealspace runner keys create {url}",
    )


@click.command()
@click.argument("url")
@click.argument("nonce", type=click.IntRange(0, 2**32 - 1))
@yes_option
def revoke(url: str, nonce: int, yes: bool) -> None:
    """Revoke the API key with nonce NONCE at the runner at URL.

    New calls with the key are refused.
    """
    confirm(f"Revoke the API key {nonce} at {url}?", yes=yes)
    with_call_right(lambda client: client.runners.revoke_key(url, nonce))
    tell(f"the API key {nonce} is revoked")
