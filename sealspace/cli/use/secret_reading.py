"""Reading the secrets that are passed to programs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Protocol

from capabilities.frozen import frozen
from capabilities.principals import same_principal

from ...client import Client
from ...errors import InvalidInput
from ...secrets import Secret, Secrets
from ...wire.team_session import member_of_session
from ...wire.token_line import token_of
from ..keep.named_secrets import no_secret, scope_for
from ..keep.shared_secrets import shared_secrets
from ..owner.owner_profile import at_node, own_did
from .program_variables import ends_like_a_secret
from .project import Project


@frozen
class Reading:
    """Secrets that were read, and where they are.

    Attributes:
        secrets: name to secret.
        scope: their scope.
        source: the option `--from`.
        place: the node and the space, see `place_of_secrets`.
    """

    secrets: Mapping[str, Secret] = field(repr=False)
    scope: str | None
    source: str | None
    place: str

    @property
    def values(self) -> dict[str, str | bytes]:
        """The value of each secret."""
        return {name: secret.value for name, secret in self.secrets.items()}


def place_of_secrets(client: Client, secrets: Secrets) -> str:
    """Return a text that is the same for secrets of one owner at one node."""
    return f"{client.url} {secrets.resource('ANY')}"


class Choice(Protocol):
    """A function that selects the secrets to pass from the names that there are."""

    def __call__(self, names: Sequence[str], *, chosen_by_others: bool) -> Sequence[str]:
        """Return the selected names."""


@at_node
async def read_secrets(
    client: Client,
    names: Sequence[str] | Choice,
    *,
    scope: str | None,
    project: Project | None = None,
    source: str | None = None,
    unnamed: Collection[str] = (),
    places: Mapping[str, str] = {},
) -> Reading:
    """Read secrets by name.

    Args:
        names: the names, or a function that selects from the stored names. It is not called for
            a machine token of the user's own, of which all secrets are read.
        scope: the scope of the secrets.
        project: a project file. If it names another node or owner than the login's, the user has to
            confirm.
        source: the option `--from`.
        unnamed: variables that the user did not name one by one.
        places: where the user's file has a name, for the error about a missing secret.
    """
    if project is not None:
        project.confirm_login(client)
    token = token_of(client.session)
    scope = scope_for(client, scope)
    by_others = _are_chosen_by_others(client, source)
    if by_others:
        _require_secret_names(unnamed)
    async with shared_secrets(client, source) as secrets:
        if not callable(names):
            selected = names
        elif token is not None:
            selected = [secret.name for secret in token.secrets if secret.scope == scope]
            if by_others:
                selected = names(selected, chosen_by_others=True)
        else:
            selected = names(await secrets.list(scope=scope), chosen_by_others=by_others)
            if source:
                await _require_none_of_own(client, selected, scope)
        found_secrets = await secrets.read_many(selected, scope=scope)
        for name in selected:
            if name not in found_secrets:
                missing = await no_secret(secrets, name, scope)
                missing.message = places.get(name, "") + missing.message
                raise missing
        return Reading(
            secrets=found_secrets,
            scope=scope,
            source=source,
            place=place_of_secrets(client, secrets),
        )


async def _require_none_of_own(client: Client, selected: Sequence[str], scope: str | None) -> None:
    """Refuse shared values that would silently replace the user's own (SH8)."""
    own = await client.secrets().list(scope=scope)
    both = [name for name in selected if name in own]
    if both:
        raise InvalidInput(
            f"you have secrets of your own with the same names: {', '.join(both):.300}",
            hint=f"to pass the shared values, name them: --only {','.join(selected)}",
        )


def _are_chosen_by_others(client: Client, source: str | None) -> bool:
    """Return whether another owner chose the names and values of the secrets (CL1, CL5)."""
    # The members of a team choose its names and values.
    if source is not None or member_of_session(client.session) is not None:
        return True
    token = token_of(client.session)
    if token is None:
        return False
    # A machine without a login, such as that of a CI job, belongs to whoever set the token (CL5).
    login = own_did()
    return login != "" and not same_principal(login, token.owner)


def _require_secret_names(variables: Collection[str]) -> None:
    """Refuse variables that another owner's values must not have unnoticed (CL1)."""
    refused = [name for name in variables if not ends_like_a_secret(name)]
    if refused:
        raise InvalidInput(
            f"refusing to set {', '.join(refused):.300}: somebody else chose the values, and these"
            " names do not end like API_KEY, so the values could control how programs run",
            hint=f"if you trust the owner with these variables, name all that you want: --only"
            f" {','.join(variables):.300}",
        )
