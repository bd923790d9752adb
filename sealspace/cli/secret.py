"""`sealspace secret`: keep secrets in the owner's space, sealed before they leave this machine.

A value comes from a prompt, from standard input or from a file, never from an argument: the list of
processes shows arguments to everybody on the machine, and a shell keeps them.
"""

import json
import secrets as random
import string
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal, get_args

import click

from capabilities.strict_base64 import encode_standard
from capabilities.strict_json import Json

from ..client import Client
from ..errors import (
    BatchIncomplete,
    InvalidInput,
    InvalidSecretName,
    NotFound,
    PreconditionFailed,
    SealspaceError,
)
from ..private_files import replace_file
from ..secrets import MAX_SECRET_BYTES, SECRETS_SPACE, Secrets, parse_secret_name
from .command_errors import AlreadyThere, NotThere
from .dotenv import (
    MAX_FILE_BYTES,
    BrokenEntry,
    encode_dotenv,
    parse_dotenv,
    parse_values,
    values_json,
)
from .owner_profile import at_node
from .paths import FILE, FILE_OR_DASH, NEW_FILE, read_named
from .shared import shared
from .terminal import (
    confirm,
    confirm_replacing,
    interruptible,
    print_found,
    print_json,
    print_rows,
    print_value,
    watched,
    words,
    yes_option,
)

ALPHABETS: Final = {
    "alphanumeric": string.ascii_letters + string.digits,
    "hex": "0123456789abcdef",
    "digits": string.digits,
    "symbols": string.ascii_letters + string.digits + "!#%&()*+,-./:;<=>?@[]^_{|}~",
}
_NEAR: Final = 0.8
"""How much alike two names are of which one is taken for the other mistyped, 1.0 being the same."""

scope_option = click.option(
    "--scope",
    metavar="SCOPE",
    help=(
        "A set of secrets apart from the others, like prod or ci; without it, those that have no"
        " scope."
    ),
)
_if_absent = click.option(
    "--if-absent", is_flag=True, help="Only if there is no such secret; otherwise refuse."
)
_name = click.argument("name", metavar="NAME")


@click.command(
    "put",
    epilog=(
        "Examples: `sealspace secret put API_KEY` asks for the value; `sealspace secret put API_KEY"
        " < key.txt`; `sealspace secret put TLS_KEY --file key.pem`."
    ),
)
@_name
@click.argument("value", metavar="", nargs=-1)
@scope_option
@click.option("--file", "source", type=FILE, help="Take the value from a file, byte for byte.")
@click.option(
    "--keep-newline", is_flag=True, help="Keep the line break at the end of standard input."
)
@click.option(
    "--bytes", "is_bytes", is_flag=True, help="Keep the value as bytes, even if it reads as a text."
)
@_if_absent
@yes_option
@at_node
async def put(
    client: Client,
    name: str,
    value: tuple[str, ...],
    scope: str | None,
    source: Path | None,
    keep_newline: bool,
    is_bytes: bool,
    if_absent: bool,
    yes: bool,
) -> None:
    """Seal and store a secret; its value comes from a prompt, from standard input or from a file.

    What is UTF-8 is kept as a text, everything else as bytes. Over an older secret a person is
    asked.
    """
    if value or "=" in name:
        raise InvalidInput(
            "a value is never an argument: the list of processes shows it, and the shell keeps it",
            hint="sealspace secret put NAME, which asks for it, or add < FILE",
        )
    data = _given(source, keep_newline=keep_newline, is_bytes=is_bytes)
    kept: str | bytes = data
    if not is_bytes:
        with suppress(UnicodeDecodeError):
            kept = data.decode()
    await _store(client, name, kept, scope=scope, if_absent=if_absent, yes=yes)
    words(f"stored {name}")


@click.command("get", epilog="Example: `sealspace secret get API_KEY | other-program`.")
@_name
@scope_option
@click.option(
    "--owner", metavar="DID", help="Of somebody else, who granted it: see `sealspace grant accept`."
)
@click.option(
    "--raw",
    is_flag=True,
    help="Write the value to a terminal as it is, with whatever it does there.",
)
@at_node
async def get(client: Client, name: str, scope: str | None, owner: str | None, raw: bool) -> None:
    """Print the value of a secret: exactly, without a line break, unless it goes to a terminal.

    A terminal is shown printable characters only, and no bytes.
    """
    secrets = client.secrets(owner)
    try:
        secret = await secrets.read(name, scope=scope)
    except NotFound:
        raise await no_secret(secrets, name, scope) from None
    except InvalidSecretName as error:
        if near := await _near_names(secrets, name, scope):
            error.step = f"did you mean {near}?"
        raise
    value = secret.value
    if not shared().as_json:
        print_value(value, raw=raw)
        return
    encoded: dict[str, Json] = (
        {"value": value}
        if isinstance(value, str)
        else {"value": encode_standard(value), "encoding": "base64"}
    )
    print_json(
        {"name": name, **encoded, "createdAt": secret.created_at, "updatedAt": secret.updated_at}
    )


@click.command(
    "list",
    epilog=(
        "When a secret was written is sealed with its value: `sealspace secret get NAME --json`"
        " has it."
    ),
)
@scope_option
@click.option("--all", "is_all", is_flag=True, help="Those of every scope.")
@at_node
async def list_(client: Client, scope: str | None, is_all: bool) -> None:
    """Print the names of secrets, never a value; without --scope and --all, of the global ones."""
    if is_all and scope is not None:
        raise click.UsageError("--all means every scope: leave --scope out")
    secrets = client.secrets()
    scopes = [scope, *(await secrets.scopes())] if is_all else [scope]
    found = [(name, of) for of in scopes for name in await secrets.list(scope=of)]
    print_rows(
        [{"name": name, "scope": of} for name, of in found],
        ("name", "scope"),
        [(name, of or "") for name, of in found],
        nothing=(
            f"no secrets {'yet' if scope is None else 'under this scope'}; next: sealspace secret"
            " put NAME"
        ),
    )


@click.command("delete")
@_name
@scope_option
@yes_option
@at_node
async def delete(client: Client, name: str, scope: str | None, yes: bool) -> None:
    """Delete a secret, for everybody who was granted it; a person is asked."""
    if watched():
        confirm(f"delete the secret {name}?", yes=yes)
    secrets = client.secrets()
    try:
        await secrets.delete(name, scope=scope)
    except NotFound:
        raise await no_secret(secrets, name, scope) from None
    words(f"deleted {name}")


@click.command(
    "generate",
    epilog="Example: `sealspace secret generate SESSION_KEY --length 64 --alphabet hex`.",
)
@_name
@scope_option
@click.option(
    "--length",
    type=click.IntRange(8, 4096),
    default=32,
    show_default=True,
    help="Characters of the value.",
)
@click.option(
    "--alphabet",
    type=click.Choice([*ALPHABETS]),
    default="alphanumeric",
    show_default=True,
    help="Which characters.",
)
@click.option("--show", is_flag=True, help="Print the value; without it, nobody sees it.")
@_if_absent
@yes_option
@at_node
async def generate(
    client: Client,
    name: str,
    scope: str | None,
    length: int,
    alphabet: str,
    show: bool,
    if_absent: bool,
    yes: bool,
) -> None:
    """Make a random value, seal and store it, and print the name alone; over an older secret a
    person is asked."""
    value = "".join(random.choice(ALPHABETS[alphabet]) for _ in range(length))
    await _store(client, name, value, scope=scope, if_absent=if_absent, yes=yes)
    print_found(
        {"name": name, "scope": scope, **({"value": value} if show else {})},
        [value if show else name],
    )


# --- values ---------------------------------------------------------------------------------------


def _given(source: Path | None, *, keep_newline: bool, is_bytes: bool) -> bytes:
    """Read a file; or prompt without echo on a terminal; or read standard input, without the line
    break at its end."""
    if source is not None:
        return _bounded(read_named(source, most_bytes=MAX_SECRET_BYTES), str(source))
    if sys.stdin.isatty():
        with interruptible():
            typed: str = click.prompt("value", hide_input=True, confirmation_prompt=True, err=True)
        return typed.encode()
    data = sys.stdin.buffer.read(MAX_SECRET_BYTES + 1)
    if not (keep_newline or is_bytes):
        data = data.removesuffix(b"\n").removesuffix(b"\r")
    return _bounded(data, "standard input")


def _bounded(data: bytes, what: str) -> bytes:
    if len(data) > MAX_SECRET_BYTES:
        raise InvalidInput(
            f"a secret holds at most {MAX_SECRET_BYTES} bytes",
            hint="keep a key in the secret, and what it opens with sealspace kv put",
        )
    if not data:
        raise InvalidInput(f"{what} is empty", hint="sealspace secret put NAME < FILE")
    return data


# --- at the node ----------------------------------------------------------------------------------


async def _store(
    client: Client, name: str, value: str | bytes, *, scope: str | None, if_absent: bool, yes: bool
) -> None:
    """Store a secret; where a person watches, over no other one than the person was asked about."""
    secrets, version = client.secrets(), None
    try:
        await secrets.put(name, value, scope=scope, if_absent=if_absent or (watched() and not yes))
        return
    except PreconditionFailed:
        if if_absent:
            raise AlreadyThere(
                f"there is a secret {name} already", hint="leave --if-absent out to replace it"
            ) from None
    with suppress(NotFound):  # it may have been deleted meanwhile
        version = await secrets.version(name, scope=scope)
        confirm(f"there is a secret {name}: replace it?", yes=yes)
    try:
        await secrets.put(name, value, scope=scope, if_absent=version is None, if_match=version)
    except PreconditionFailed:
        raise written_meanwhile(name) from None


def written_meanwhile(names: str) -> AlreadyThere:
    """Return the error for secrets that are others now than when a person was asked about them."""
    return AlreadyThere(
        f"somebody else wrote or deleted {names} meanwhile; nothing was stored",
        hint="look at it with sealspace secret get, then start the same command again",
    )


async def _near_names(secrets: Secrets, name: str, scope: str | None) -> str:
    """Return the names of the scope that are much like one that is not there; empty if this session
    may not list."""
    try:
        there = await secrets.list(scope=scope)
    except SealspaceError:  # what was asked for is refused already; this is only advice
        return ""
    return " or ".join(get_close_matches(name.upper(), there, n=2, cutoff=_NEAR))


async def no_secret(secrets: Secrets, name: str, scope: str | None) -> NotThere:
    """Return the error for a secret that does not exist, with the names that may be meant."""
    near = await _near_names(secrets, name, scope)
    where = "" if scope is None else f" under the scope {scope}"
    meant = f"did you mean {near}? else: " if near else ""
    return NotThere(f"there is no secret {name}{where}", hint=f"{meant}sealspace secret list --all")


# --- files ----------------------------------------------------------------------------------------

Written = Literal["env", "json"]
Format = Literal["env", "json", "yaml"]
_BY_SUFFIX: Final[Mapping[str, Format]] = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}


@click.command(
    "import",
    epilog=(
        "Examples: `sealspace secret import .env --dry-run`; `sealspace secret import values.json"
        " --scope staging`; `other-program | sealspace secret import - --format json`."
    ),
)
@click.argument("file", type=FILE_OR_DASH)
@scope_option
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(Format)),
    help="What FILE is; by default what its name says.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print what would be stored, names only, and store nothing."
)
@yes_option
def import_(file: Path, scope: str | None, form: Format | None, dry_run: bool, yes: bool) -> None:
    """Store every secret of FILE: a .env file, JSON or YAML, one object of names and texts; - is
    standard input.

    YAML needs the extra `yaml`; every value of it is the text that stands in the file, so 8080 is a
    text too.

    All are checked and sealed before the first is written, and the names are shown first. A person
    is asked; without one, --yes is needed where a secret would be replaced.
    """
    if form is None and str(file) == "-":
        raise InvalidInput(
            "standard input does not say what it is", hint="add --format env, json or yaml"
        )
    form = form or _BY_SUFFIX.get(file.suffix, "env")
    data = read_named(file, most_bytes=MAX_FILE_BYTES)
    try:
        if form == "yaml":
            # needs the extra `yaml`; nothing else here does
            from .yaml_values import parse_yaml_values

            values = parse_yaml_values(data)
        else:
            values = parse_dotenv(data) if form == "env" else parse_values(data)
    except BrokenEntry as error:
        # without what it was parsed from
        raise BrokenEntry(f"{file}: {error.message}", hint=error.hint) from None
    if values:
        _store_all(values, scope, dry_run=dry_run, yes=yes)
    else:
        words(f"no secrets in {file}")


@at_node
async def _store_all(
    client: Client,
    values: Mapping[str, str | bytes],
    scope: str | None,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    there = await _versions(client, values, scope)
    lines = [f"{'replace' if name in there else 'new':<8} {name}" for name in values]
    if dry_run:
        print_found([{"name": name, "replaces": name in there} for name in values], lines)
        words("nothing is stored: this is a dry run")
        return
    words(*lines)
    if there or watched():
        replacing = f", {len(there)} in place of older ones" if there else ""
        confirm(f"store {len(values)} secrets{replacing}?", yes=yes)
    # a node takes no condition for several values at once, so versions are compared before the
    # commit
    if not yes:
        now = await _versions(client, values, scope)
        if changed := [name for name in values if now.get(name) != there.get(name)]:
            raise written_meanwhile(", ".join(changed))
    try:
        await client.secrets().put_many(values, scope=scope)
    except BatchIncomplete as error:
        written = sorted(key.rpartition("/")[2] for key in error.done)
        words(f"written: {', '.join(written)}")
        error.step = "start it again: what is written already is written once more"
        raise
    words(f"stored {len(values)}")


@click.command(
    "export", epilog="Example: `sealspace secret export --format json --out secrets.json`."
)
@scope_option
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(Written)),
    default="env",
    show_default=True,
    help="What to write.",
)
@click.option(
    "--out", type=NEW_FILE, help="Into a file that only you can read, instead of standard output."
)
@yes_option
@at_node
async def export(
    client: Client, scope: str | None, form: Written, out: Path | None, yes: bool
) -> None:
    """Open every secret of a scope and write names and values, as `import` reads them.

    A person is asked before a file is replaced.
    """
    secrets = client.secrets()
    values = await secrets.get_many(await secrets.list(scope=scope), scope=scope)
    as_json = form == "json" or shared().as_json
    if not values:
        words("no secrets yet; next: sealspace secret put NAME")
    if out is None:
        if as_json:
            print_json(values_json(values))
        else:
            print_value(encode_dotenv(values))
        return
    text = json.dumps(values_json(values), indent=2) + "\n" if as_json else encode_dotenv(values)
    confirm_replacing(out, yes=yes)
    replace_file(out, text.encode())
    words(f"{len(values)} secrets in {out}, in the clear: remove it when it has served")


async def _versions(client: Client, names: Iterable[str], scope: str | None) -> dict[str, str]:
    """Return the versions of those that are stored, sealed as they are."""
    paths = {name: parse_secret_name(name, scope=scope).path for name in names}
    stored = await client.kv(SECRETS_SPACE).get_many(paths.values())
    return {name: stored[path].etag for name, path in paths.items() if path in stored}
