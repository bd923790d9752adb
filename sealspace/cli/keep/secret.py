"""The commands below `sealspace secret`, except those for files and for sharing.

Secrets are encrypted on this machine. A value comes from a prompt, from standard input or from a
file, never from an argument: all users can see arguments in the process list, and shells store them
in their history.
"""

import secrets as random
import string
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import click

from capabilities.strict_base64 import encode_standard
from capabilities.strict_json import JsonObject

from ...client import Client
from ...errors import (
    InvalidInput,
    InvalidSecretName,
    NotShared,
    SealspaceError,
)
from ...kv import Value
from ...secrets import (
    MAX_SECRET_BYTES,
    SecretName,
    Secrets,
    parse_secret_name,
)
from ..options.paths import file_option, read_named
from ..owner.contact_names import did_named
from ..owner.owner_profile import at_node
from ..shared import shared
from ..terminal import (
    ask_hidden,
    confirm,
    flag_option,
    is_interactive,
    optional_time,
    print_documents,
    print_json,
    print_result,
    print_value,
    raw_option,
    tell,
    yes_option,
)
from .named_secrets import find_near_names, scope_for, scope_option, secret_command, with_next_step
from .shared_secrets import from_option, label_of, shared_secrets
from .storing import store_secret, stored_secrets

ALPHABETS = {
    "alphanumeric": string.ascii_letters + string.digits,
    "hex": "0123456789abcdef",
    "digits": string.digits,
    "symbols": string.ascii_letters + string.digits + "!#%&()*+,-./:;<=>?@[]^_{|}~",
}
NONE_HERE = (
    "no secrets here (all scopes: sealspace secret list --all); next: sealspace secret put NAME"
)

_if_absent = flag_option("--if-absent", help="Fail if the secret already exists.")
_name = click.argument("name")
_number = click.IntRange(1)


@click.command(
    epilog="Examples: `sealspace secret put API_KEY` asks for the value; `sealspace secret put"
    " API_KEY < key.txt`; `sealspace secret put TLS_KEY --file key.pem`.",
)
@_name
@click.argument("value", metavar="", nargs=-1)
@scope_option
@file_option("--file", "source", help="Read the value from a file, byte for byte.")
@flag_option("--keep-newline", help="Keep the line break at the end of standard input.")
@flag_option("--bytes", "is_bytes", help="Store the value as bytes, even if it is valid text.")
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
    """Encrypt and store a secret.

    The value is read from a prompt, from standard input or from a file. UTF-8 is stored as text,
    anything else as bytes. You are asked before an existing secret is replaced, unless standard
    input is not a terminal.
    """
    if value or "=" in name:
        raise InvalidInput(
            "the value must not be an argument: process lists and the shell history would show it",
            hint="run `sealspace secret put NAME` and type the value, or add --file FILE",
        )

    read_value = partial(_read_value, source, keep_newline=keep_newline, is_bytes=is_bytes)
    await store_secret(client, name, read_value, scope=scope, if_absent=if_absent, yes=yes)
    tell(f"stored {name}")


@click.command(epilog="Example: `sealspace secret get API_KEY | other-program`.")
@_name
@scope_option
@click.option("--version", type=_number, help="Read this version; see `sealspace secret versions`.")
@click.option(
    "--owner",
    metavar="DID|NAME",
    help="Read a secret that this owner, a DID or contact, granted to you; see `sealspace grant"
    " accept`.",
)
@from_option
@raw_option
@at_node
async def get(
    client: Client,
    name: str,
    scope: str | None,
    version: int | None,
    owner: str | None,
    source: str | None,
    raw: bool,
) -> None:
    """Print the value of a secret.

    The bytes are printed unchanged, without a line break at the end. On a terminal, only printable
    characters are shown, and binary values are refused.
    """
    if owner and source:
        raise click.UsageError("--owner and --from cannot be combined")
    scope = scope_for(client, scope)
    async with shared_secrets(client, source) as shared_:
        secrets = client.secrets(await did_named(client, owner)) if owner else shared_
        try:
            async with with_next_step(secrets, name, scope):
                secret = await secrets.read(name, scope=scope, version=version)
        except InvalidSecretName as error:
            # For a name with a slash, the error's own step says how to write the scope.
            if "/" not in name:
                near = await find_near_names(secrets, name, scope)
                if near:
                    error.step = f"did you mean {near}?"
            raise
    value = secret.value
    if not secret.is_bound:
        tell(
            f"warning: this value does not state that it belongs to {name}, so it may be another"
            f" secret's; if it is right, run: {secret_command('bind', name, scope)}"
        )
    if not shared().as_json:
        print_value(value, raw=raw)
        return
    encoded: JsonObject
    if isinstance(value, str):
        encoded = {"value": value}
    else:
        encoded = {"value": encode_standard(value), "encoding": "base64"}
    print_json(
        {
            "name": name,
            **encoded,
            "createdAt": secret.created_at,
            "updatedAt": secret.updated_at,
            "isBound": secret.is_bound,
        }
    )


@click.command(
    epilog="The node states the time of the last change, which is not verified. `sealspace secret"
    " get NAME --json` prints the times that the writer encrypted together with the value.",
)
@scope_option
@flag_option("--all", "is_all", help="List the secrets of all scopes.")
@flag_option(
    "--check",
    "is_checking",
    help="Open each value, and show whether it states its place; see `sealspace secret bind`.",
)
@from_option
@at_node
async def list_(
    client: Client, scope: str | None, is_all: bool, is_checking: bool, source: str | None
) -> None:
    """List secrets with their scope and last change.

    Without `--all` or `--scope`, only global secrets are listed. With `--check`, each value is
    decrypted, which leaves a receipt.
    """
    if is_all and scope is not None:
        raise click.UsageError("--all and --scope cannot be combined")
    secret_names = []
    async with shared_secrets(client, source) as secrets:
        scopes = [scope]
        if is_all:
            scopes += await secrets.scopes()
        for listed_scope in scopes:
            for name in await secrets.list(scope=listed_scope):
                secret_names.append(parse_secret_name(name, scope=listed_scope))
        places = await _read_places(secrets, secret_names) if is_checking else {}
    # The node states when the user's own secrets were changed, but not for those of others.
    stored = None if source else await stored_secrets(client, secret_names)
    documents = _describe_secrets(secret_names, stored, places)
    columns = {"name": "name", "scope": "scope", "changedAt": "last change"}
    if is_checking:
        columns["place"] = "place"
        _tell_unbound(documents)
    print_documents(
        documents,
        columns,
        nothing="no secrets yet; next: sealspace secret put NAME" if is_all else NONE_HERE,
    )


def _describe_secrets(
    names: Iterable[SecretName],
    stored: Mapping[str, Value] | None,
    places: Mapping[SecretName, str],
) -> list[JsonObject]:
    """Return secrets as JSON.

    Args:
        names: names of the secrets.
        stored: the stored values by their paths; None: they are not known.
        places: whether a value states its place, for the secrets that were opened.
    """
    documents: list[JsonObject] = []
    for secret_name in names:
        changed_at = None
        if stored is not None:
            if secret_name.path not in stored:  # it was deleted after it was listed
                continue
            changed_at = optional_time(stored[secret_name.path].stored_at)
        document: JsonObject = {
            "name": secret_name.name,
            "scope": secret_name.scope,
            "changedAt": changed_at,
        }
        if secret_name in places:
            document["place"] = places[secret_name]
        documents.append(document)
    return documents


def _tell_unbound(documents: Iterable[JsonObject]) -> None:
    """Print how many of the listed values do not state their place, if any."""
    unbound_count = [document["place"] for document in documents].count("unbound")
    if unbound_count:
        tell(
            f"{unbound_count} values do not state their place, so they may belong to other"
            " secrets; next: sealspace secret bind --all"
        )


async def _read_places(secrets: Secrets, names: Iterable[SecretName]) -> dict[SecretName, str]:
    """Open secrets, and return whether each value states its place.

    That is `bound`, `unbound` or the code of the error.
    """
    places: dict[SecretName, str] = {}
    for secret_name in names:
        try:
            secret = await secrets.read(secret_name.name, scope=secret_name.scope)
        except SealspaceError as error:
            places[secret_name] = error.code
        else:
            places[secret_name] = "bound" if secret.is_bound else "unbound"
    return places


@click.command()
@_name
@scope_option
@flag_option("--purge", help="Delete all versions too, even if the secret is deleted already.")
@yes_option
@at_node
async def delete(client: Client, name: str, scope: str | None, purge: bool, yes: bool) -> None:
    """Delete a secret for you and for all its recipients.

    For 7 days, `sealspace secret restore` can bring it back, unless you add --purge. On a terminal,
    you are asked to confirm.
    """
    target = f"{name} and all its versions for good" if purge else name
    if is_interactive():
        confirm(f"delete the secret {target}?", yes=yes)
    # The copies first (SH6): if the second step fails, the same command can be run again.
    with suppress(NotShared):
        await client.sharing.unshare([label_of(name, scope)])
    async with with_next_step(client.secrets(), name, scope) as secrets:
        await secrets.delete(name, scope=scope, purge=purge)
    undo = (
        "" if purge else f"; to undo this within 7 days: {secret_command('restore', name, scope)}"
    )
    tell(f"deleted {target}{undo}")


@click.command(
    epilog="Example: `sealspace secret generate SESSION_KEY --length 64 --alphabet hex`.",
)
@_name
@scope_option
@click.option(
    "--length",
    type=click.IntRange(8, 4096),
    default=32,
    show_default=True,
    help="Length of the value in characters.",
)
@click.option(
    "--alphabet",
    type=click.Choice([*ALPHABETS]),
    default="alphanumeric",
    show_default=True,
    help="Characters to use.",
)
@flag_option("--show", help="Print the value instead of the name.")
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
    """Generate a random value, and store it as a secret.

    The value is encrypted first. Only the secret's name is printed, unless you add --show. On a
    terminal, you are asked before an existing secret is replaced.
    """
    value = "".join(random.choice(ALPHABETS[alphabet]) for _ in range(length))
    await store_secret(client, name, lambda: value, scope=scope, if_absent=if_absent, yes=yes)
    result: JsonObject = {"name": name, "scope": scope}
    line = name
    if show:
        result["value"] = value
        line = value
    print_result(result, [line])


# --- values ---------------------------------------------------------------------------------------


def _read_value(source: Path | None, *, keep_newline: bool, is_bytes: bool) -> str | bytes:
    """Read a value from a file, a prompt or standard input."""
    if source is not None:
        data = _require_bounded(read_named(source, most_bytes=MAX_SECRET_BYTES), str(source))
    elif sys.stdin.isatty():
        data = ask_hidden("value", twice=True).encode()
    else:
        # One byte more than the limit, so that `_require_bounded` can refuse a longer value.
        data = sys.stdin.buffer.read(MAX_SECRET_BYTES + 1)
        if not (keep_newline or is_bytes):
            data = data.removesuffix(b"\n").removesuffix(b"\r")
        data = _require_bounded(data, "standard input")
    if not is_bytes:
        with suppress(UnicodeDecodeError):
            return data.decode()
    return data


def _require_bounded(data: bytes, source: str) -> bytes:
    if len(data) > MAX_SECRET_BYTES:
        raise InvalidInput(
            f"a secret must be at most {MAX_SECRET_BYTES} bytes long",
            hint="encrypt the data yourself, store the encrypted data with `sealspace kv put`, and"
            " store the encryption key as a secret",
        )
    if not data:
        raise InvalidInput(f"{source} is empty", hint="sealspace secret put NAME < FILE")
    return data
