"""Storing a secret for a person at a terminal: questions, conditions, copies, and how to undo it.

Example:
    await store_secret(client, name, read_value, scope=None, if_absent=False, yes=False)
"""

import re
from collections.abc import Callable, Iterable

from ...client import Client
from ...errors import (
    InvalidSecretName,
    PreconditionFailed,
    SealspaceError,
)
from ...kv import Value
from ...secrets import (
    SECRETS_SPACE,
    SecretName,
    is_secret_name,
    writable_name,
)
from ...service.command_errors import AlreadyThere
from ..terminal import (
    age_text,
    confirm,
    is_interactive,
    tell,
)
from .named_secrets import secret_command


async def store_secret(
    client: Client,
    name: str,
    read_value: Callable[[], str | bytes],
    *,
    scope: str | None,
    if_absent: bool,
    yes: bool,
) -> None:
    """Store a secret.

    On a terminal, this asks for confirmation before an existing secret is replaced. The question
    comes before `read_value`, so that no value is typed in vain.
    """
    secret = name_to_write(name, scope)
    earlier = (await stored_secrets(client, [secret])).get(secret.path)
    if earlier is not None and if_absent:
        raise already_exists(name, scope)
    stored_when = ""
    if earlier is not None and earlier.stored_at is not None:
        stored_when = f", stored {age_text(earlier.stored_at)}"
    is_asked = is_interactive() and not yes
    if is_asked and earlier is not None:
        confirm(f"replace the existing secret {name}{stored_when}?")
    value = read_value()
    # A person agreed to store a new secret or to replace this version. Scripts replace any version.
    if is_asked or if_absent:
        error_if_changed = written_meanwhile(name)
        if if_absent:
            error_if_changed = already_exists(name, scope)
        await put_instead_of(client, secret, value, earlier, error_if_changed)
        await put_copies(client, secret, value)
    else:
        await client.sharing.put_many({secret.label: value}, own=True)
    if earlier is not None:
        undo = await undo_step(client, name, scope)
        tell(f"replaced the earlier value{stored_when}{undo}")


def name_to_write(name: str, scope: str | None) -> SecretName:
    """Validate the name of a secret to store, and suggest the spelling that is valid."""
    try:
        return writable_name(name, scope)
    except InvalidSecretName as error:
        meant = re.sub("[-. ]", "_", name).upper()
        if not is_secret_name(name) and is_secret_name(meant):
            error.step = f"did you mean {meant}?"
        raise


async def put_instead_of(
    client: Client,
    secret: SecretName,
    value: str | bytes,
    earlier: Value | None,
    changed: AlreadyThere,
) -> None:
    """Store a secret, but only if the stored version is the earlier one.

    Args:
        client: a client with the owner's session.
        secret: name of the secret.
        value: the new value.
        earlier: the version to replace; None: nothing may be stored.
        changed: the error to raise if another version is stored.
    """
    try:
        await client.secrets().put(
            secret.name,
            value,
            scope=secret.scope,
            if_absent=earlier is None,
            if_match=None if earlier is None else earlier.etag,
        )
    except PreconditionFailed:
        raise changed from None


async def put_copies(client: Client, secret: SecretName, value: str | bytes) -> None:
    """Store the copies of a secret for other people, after the secret itself.

    A commit of several values cannot be conditional, so the copies come second.
    """
    try:
        await client.sharing.put_many({secret.label: value}, own=False)
    except SealspaceError as error:
        error.step = "run the command again: copies for other people have the earlier value"
        raise


def already_exists(name: str, scope: str | None) -> AlreadyThere:
    """Return the error for a secret that must be new and is stored already."""
    return AlreadyThere(
        f"the secret {name} already exists",
        hint=f"to replace it, run first: {secret_command('delete', name, scope)}",
    )


async def stored_secrets(client: Client, secrets: Iterable[SecretName]) -> dict[str, Value]:
    """Return the metadata of stored secrets by path.

    The secrets are not read. Missing secrets are omitted.
    """
    return await client.kv(SECRETS_SPACE).metadata_many(secret.path for secret in secrets)


async def undo_step(client: Client, name: str, scope: str | None) -> str:
    """Return how to bring back the previous version, or "" if none is kept."""
    try:
        versions = await client.secrets().versions(name, scope=scope)
    except SealspaceError:  # the value is stored, whether or not versions are kept
        return ""
    if len(versions) < 2:
        return ""
    previous = versions[1]  # the newest comes first
    return f"; to undo this: {secret_command('rollback', name, scope)} {previous.version}"


def written_meanwhile(names: str) -> AlreadyThere:
    """Return the error for secrets that another process has changed."""
    return AlreadyThere(
        f"{names} changed in the meantime; nothing was stored",
        hint="read the stored value with sealspace secret get, then run the same command again",
    )
