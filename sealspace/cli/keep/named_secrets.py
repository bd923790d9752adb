"""The scope of secrets, and the next step for a name or a scope that does not exist.

Example:
    async with with_next_step(secrets, name, scope):
        ...
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from difflib import get_close_matches
from shlex import quote

import click

from ...client import Client
from ...documents.secret_names import canonical_scope
from ...errors import (
    DecryptDenied,
    NotFound,
    NotGranted,
    PreconditionFailed,
    SealspaceError,
)
from ...secrets import (
    Secrets,
    is_protected,
)
from ...service.command_errors import AlreadyThere, NotThere
from ...wire.token_line import token_of

_NEAR = 0.8
"""Least similarity of a name that is suggested for a mistyped one; 1.0 means identical."""


_MOST_SEARCHED = 10
"""Most scopes in which a missing secret is searched, with one request each."""


scope_option = click.option(
    "--scope",
    metavar="SCOPE",
    help="Use the secrets of this scope (a separate set, such as prod or ci). Default: the global"
    " secrets.",
)


def scope_for(client: Client, scope: str | None) -> str | None:
    """Return the scope to read from.

    The default is the scope of a machine token's secrets.
    """
    if scope is not None:
        return scope
    token = token_of(client.session)
    return None if token is None else token.scope


def secret_command(verb: str, name: str, scope: str | None) -> str:
    """Return a command about a secret, as a next step."""
    option = f" --scope {quote(scope)}" if scope else ""
    return f"sealspace secret {verb} {name}{option}"


@asynccontextmanager
async def with_next_step(secrets: Secrets, name: str, scope: str | None) -> AsyncIterator[Secrets]:
    """Add the next step to the error for a missing or existing secret, or a missing version."""
    try:
        yield secrets
    except PreconditionFailed:
        raise AlreadyThere(
            f"the secret {name} exists, or changed in the meantime; nothing was stored",
            hint=secret_command("versions", name, scope),
        ) from None
    except (NotGranted, DecryptDenied) as error:
        if is_protected(name):
            error.step = (
                "only programs can read a generated secret; to let a program read it: sealspace"
                f" runner grant URL --secret {name} --program DID/NAME"
            )
        raise
    except NotFound as error:
        # The node's text tells a missing version ("version 3 is not kept") from a missing secret.
        if not error.text.startswith("version "):
            raise await no_secret(secrets, name, scope) from None
        error.step = secret_command("versions", name, scope)
        raise


async def find_near_names(secrets: Secrets, name: str, scope: str | None) -> str:
    """Find stored secrets with similar names.

    Returns their names joined by "or", or an empty string.
    """
    try:
        existing = await secrets.list(scope=scope)
    except SealspaceError:  # the command has failed already; this would only add a suggestion
        return ""
    return " or ".join(get_close_matches(name.upper(), existing, n=2, cutoff=_NEAR))


async def scopes_instead(secrets: Secrets, scope: str | None) -> str:
    """Name the scopes that have secrets, if the scope that the user gave has none.

    Returns an empty string if it has some, or if the scopes cannot be listed.
    """
    if scope is None:
        return ""
    try:
        scopes = await secrets.scopes()
    except SealspaceError:  # the command has failed already; this would only add a suggestion
        return ""
    canonical = canonical_scope(scope)
    if canonical in scopes:
        return ""
    if not scopes:
        return "no scope has secrets; omit --scope for the secrets without a scope"
    near = get_close_matches(canonical, scopes, n=1)
    meant = f"did you mean --scope {near[0]}? " if near else ""
    return f"{meant}the scopes with secrets are {', '.join(scopes):.300}"


async def _find_scopes_with(secrets: Secrets, name: str) -> list[str]:
    """Find scopes, of the first few, that have a secret of this name."""
    matching_scopes = []
    with suppress(SealspaceError):  # the command has failed already; this only adds a suggestion
        for scope in (await secrets.scopes())[:_MOST_SEARCHED]:
            if name in await secrets.list(scope=scope):
                matching_scopes.append(scope)
    return matching_scopes


async def no_secret(secrets: Secrets, name: str, scope: str | None) -> NotThere:
    """Return the error for a missing secret.

    Its hint suggests similar names.
    """
    near = await find_near_names(secrets, name, scope)
    where = "" if scope is None else f" in the scope {scope}"
    meant = f"did you mean {near}? or list all: " if near else ""
    if other_scopes := await scopes_instead(secrets, scope):
        meant = f"{other_scopes}; list all: "
    elif scopes := await _find_scopes_with(secrets, name):
        options = " or ".join(
            f"--scope {quote(other_scope)}" for other_scope in scopes if other_scope != scope
        )
        meant = f"did you mean {options}? or list all: " if options else meant
    return NotThere(
        f"there is no secret {name}{where}",
        hint=f"{meant}sealspace secret list --all; if you deleted it in the last 7 days:"
        f" {secret_command('restore', name, scope)}",
    )
