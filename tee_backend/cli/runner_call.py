"""`sealspace runner call` and `keys`: programs run for the owner who is logged in, or for the holder of an API key."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import click

from capabilities.errors import InvalidJson
from capabilities.strict_base64 import encode_standard
from capabilities.strict_json import Json, parse_json
from sealspace.apps.api_keys import MAX_AMOUNT, MAX_KEY_LIFE_S
from sealspace.apps.run_calls import call_right
from sealspace.apps.runners import call_runner, call_with_key, error_text, start_of
from sealspace.cli.durations import ttl_s_of
from sealspace.cli.errors import RunFailed
from sealspace.cli.owner_profile import at_node, owner_home
from sealspace.cli.paths import FILE_OR_DASH, NEW_FILE, read_named
from sealspace.cli.shared import shared
from sealspace.cli.terminal import confirm, print_json, print_lines, print_rows, print_value, words, yes_option
from sealspace.client import Client
from sealspace.documents.project_names import checked_sha256
from sealspace.documents.published import MAX_PUBLISHED_BYTES
from sealspace.errors import BackendAnswerInvalid, InvalidInput, NotGranted
from sealspace.private_files import replace_file

from .grants import hosts_words
from .project import project_of

_RIGHT_TTL_S: Final = 12 * 3600.0
_MAX_INPUT_BYTES: Final = 10_000_000
_MAX_KEY_BYTES: Final = 4096
_Result = TypeVar("_Result")


@click.command(
    "call",
    epilog="Examples: `echo hello | sealspace runner call https://runner.example DID/digest --input -`; with "
    "`--secrets me` it has your secrets, where you granted them. `--receipt FILE` keeps what `sealspace verify` "
    "judges.",
)
@click.argument("url")
@click.argument("program", metavar="DID/NAME|SHA256")
@click.option(
    "--input",
    "source",
    type=FILE_OR_DASH,
    help="What the program reads; `-` is standard input. Nothing by default.",
)
@click.option(
    "--secrets", metavar="OWNER[/PROFILE]", help="Whose secrets it has: a DID or `me`, and which scope of them."
)
@click.option(
    "--receipt",
    "receipt_file",
    type=NEW_FILE,
    help="Where the receipt is kept, with the salt.",
)
@click.option(
    "--key",
    "key_file",
    type=FILE_OR_DASH,
    help="Call with an API key, in its owner's name: a file that holds it, or `-`. The input is then JSON.",
)
def call(
    url: str, program: str, source: Path | None, secrets: str | None, receipt_file: Path | None, key_file: Path | None
) -> None:
    """Have the runner at URL run a published program, and print what it writes.

    The runner sees who calls, the owner who is logged in here, and the input. What it is, `sealspace backend show URL`
    proves; this command does not ask.
    """
    data = None if source is None else read_named(source, most_bytes=_MAX_INPUT_BYTES)
    if data is not None and len(data) > _MAX_INPUT_BYTES:
        raise InvalidInput(f"an input has at most {_MAX_INPUT_BYTES} bytes")
    if key_file is not None:
        if receipt_file is not None:
            raise click.UsageError("--receipt is for calls without --key; a receipt is at URL/receipts/JOB")
        answer = asyncio.run(call_with_key(url, _key(key_file), project_of(program), _api_body(data, secrets)))
    else:
        body = _body(program, data, secrets)
        answer = with_call_right(lambda client: call_runner(url, client.session, body))
        if receipt_file is not None:
            answer["start"] = _start(url)
            kept = {name: answer[name] for name in ("receipt", "salt", "start") if name in answer}
            replace_file(receipt_file, json.dumps(kept).encode())
        if isinstance(text := answer.get("stderr"), str):
            print_lines(*text.splitlines(), err=True)
        receipt = answer.get("receipt")
        if (contacted := hosts_words(receipt.get("statement") if isinstance(receipt, dict) else None)) != "nobody":
            print_lines(f"contacted: {contacted}", err=True)
    _show(answer, url)


def _show(answer: dict[str, Json], url: str) -> None:
    """Print the output, and say why there is none."""
    error, code = answer.get("error"), answer.get("code")
    if shared().as_json:
        print_json(answer)
    elif error is None:
        output = answer.get("output")
        print_value(output if isinstance(output, str) else json.dumps(output))
    if isinstance(error, dict):
        code, error = error.get("code"), error_text(error)
    if error is not None:
        raise RunFailed(f"{code}: {error}", hint=_hint(str(code), url))


def _body(program: str, data: bytes | None, secrets: str | None) -> dict[str, Json]:
    is_hash = "/" not in program and len(program) == 64
    body: dict[str, Json] = {
        "source": {"wasmSha256": checked_sha256(program, what="the program")}
        if is_hash
        else {"project": project_of(program).text}
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
    """Ask a runner in the owner's name, with the right that the wallet gives the session for some hours."""
    try:
        return await ask(client)
    except NotGranted:
        right, home = call_right(client.kv().space.text), owner_home()
        await client.delegations.add_right(home.wallet(), [right], ttl_s=_RIGHT_TTL_S)
        home.keep_session(client.session)
        return await ask(client)


def _start(url: str) -> Json:
    """Return the runner's start document, which a receipt is judged with."""
    try:
        return parse_json(asyncio.run(start_of(url)), max_bytes=MAX_PUBLISHED_BYTES)
    except InvalidJson:
        raise BackendAnswerInvalid("the runner's start document cannot be read") from None


def _key(file: Path) -> str:
    data = read_named(file, most_bytes=_MAX_KEY_BYTES)
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        raise InvalidInput(f"{file} holds no API key", hint="sealspace runner keys create URL") from None


def _api_body(data: bytes | None, secrets: str | None) -> dict[str, Json]:
    """Return the body of a call with a key."""
    try:
        body: dict[str, Json] = {"input": None if data is None else json.loads(data)}
    except ValueError:
        raise InvalidInput("the input of a call with a key is JSON", hint="a text is written in quotes") from None
    if secrets is not None:
        body["secrets_ref"] = _secrets(secrets, "account_id")
    return body


def _secrets(text: str, member: str) -> dict[str, Json]:
    """Return whose secrets a call has; `me` is the owner who is logged in."""
    owner, _, profile = text.partition("/")
    return {member: owner_home().profile().owner if owner == "me" else owner, "profile": profile or "default"}


def _hint(code: str, url: str) -> str:
    return {
        "secrets-not-granted": f"sealspace runner grant {url} --secret NAME --program DID/NAME",
        "access-denied": "ask the owner of the secrets to admit you: sealspace whoami prints who you are",
        "program-unknown": "sealspace project show DID/NAME",
        "call-refused": "sealspace login, then the same command again",
        "key-refused": f"sealspace runner keys create {url}",
        "key-malformed": f"sealspace runner keys create {url}",
        "balance-too-low": "ask the runner's operator to credit the account: sealspace runner credit",
    }.get(code, "spec/runner.md says what each code means")


@click.command(
    "create",
    epilog="Example: `sealspace runner keys create https://runner.example --project did:key:z6Mk…/digest > key`; then "
    "`sealspace runner call https://runner.example DID/digest --key key`, or `curl` with it in `X-Payment-Key`.",
)
@click.argument("url")
@click.option("--project", "projects", metavar="DID/NAME", multiple=True, help="What it may call; repeatable.")
@click.option("--any-project", is_flag=True, help="It may call every program.")
@click.option(
    "--profile",
    "profiles",
    metavar="NAME",
    multiple=True,
    help="Secrets that a call may ask for, `default` or a scope; none by default; repeatable.",
)
@click.option(
    "--max-per-call", type=click.IntRange(0, MAX_AMOUNT), default=10_000, show_default=True, help="Micro-units."
)
@click.option(
    "--expires",
    "ttl_s",
    metavar="TIME",
    type=ttl_s_of,
    default="30d",
    show_default=True,
    help="How long it lasts, at most 90d.",
)
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
    """Make an API key for the runner at URL, and print it; nobody can print it again.

    Whoever has it calls in your name and at your cost, within what the wallet signs here. It reaches your secrets only
    in the profiles that are named, and only where a grant to the runner lets you call.
    """
    if bool(projects) == any_project:
        raise click.UsageError("name what the key may call: --project DID/NAME, or --any-project")
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
        words(f"this is shown once; to end it: sealspace runner keys revoke {url} {key.nonce}")


@click.command("list")
@click.argument("url")
def list_keys(url: str) -> None:
    """Show your API keys at the runner at URL, and what your account there has, in micro-units."""
    listed = with_call_right(lambda client: client.runners.keys(url))
    keys = listed.get("keys")
    rows = [
        [_cell(one.get(name)) for name in ("nonce", "expires", "maxPerCall", "projects", "profiles")]
        for one in (keys if isinstance(keys, list) else [])
        if isinstance(one, dict)
    ]
    account = listed.get("account")
    if isinstance(account, dict):
        words(", ".join(f"{name} {_cell(account.get(name))}" for name in ("balance", "reserved", "charged")))
    print_rows(
        listed,
        ("nonce", "until", "most per call", "projects", "profiles"),
        rows,
        nothing=f"there is no API key of yours; next: sealspace runner keys create {url}",
    )


@click.command("revoke")
@click.argument("url")
@click.argument("nonce", type=click.IntRange(0, 2**32 - 1))
@yes_option
def revoke_key(url: str, nonce: int, yes: bool) -> None:
    """Revoke the API key NONCE at the runner at URL; it serves no call from now on."""
    confirm(f"Revoke the API key {nonce} at {url}?", yes=yes)
    with_call_right(lambda client: client.runners.revoke_key(url, nonce))
    words(f"the API key {nonce} is revoked")


def _cell(value: Json) -> str:
    return ", ".join(map(str, value)) or "-" if isinstance(value, list) else str(value)
