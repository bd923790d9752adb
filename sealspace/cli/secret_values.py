"""Reading secrets for other programs: all that are named, or none.

Example:
    values = read_values(["API_KEY"], scope=None)
    values["API_KEY"].text
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from capabilities.strict_base64 import encode_standard

from ..client import Client
from .owner_profile import at_node
from .secret import near_names, no_secret


@dataclass(frozen=True, slots=True)
class Value:
    """The value of a secret as other programs get it.

    Attributes:
        text: the value; base64 of a value that is bytes, as clients of other languages see it.
        forms: the UTF-8 of the text, and of a value that is bytes those.
    """

    text: str = field(repr=False)
    forms: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of(cls, value: str | bytes) -> "Value":
        """Return the forms of a value."""
        if isinstance(value, bytes):
            text = encode_standard(value)
            return cls(text, (text.encode(), value))
        return cls(value, (value.encode(),))


@at_node
async def read_values(
    client: Client, names: Sequence[str] | Callable[[Sequence[str]], Sequence[str]], *, scope: str | None
) -> dict[str, Value]:
    """Read secrets by their names.

    Args:
        names: which secrets; or a function that chooses among the names of the scope.
        scope: None: the secrets without a scope.
    Raises:
        NotThere: there is no such secret.
        NotSignedIn, SealspaceError: see `OwnerHome.client` and `Secrets.get_many`.
    """
    secrets = client.secrets()
    wanted = names(await secrets.list(scope=scope)) if callable(names) else names
    found = await secrets.get_many(wanted, scope=scope)
    for name in wanted:
        if name not in found:
            raise no_secret(name, scope, near=await near_names(secrets, name, scope))
    return {name: Value.of(value) for name, value in found.items()}
