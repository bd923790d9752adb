"""One thing that is wrong with a manifest."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with a manifest.

    Attributes:
        path: the member: `permissions[0].actions[1]`, `secrets.API_KEY.scope`; "" for the whole.
        detail: what is wrong with it; never a word that could be a secret's value.
    """

    path: str
    detail: str

    @property
    def text(self) -> str:
        """The detail, with the path where the detail does not name it."""
        return self.detail if not self.path or self.path in self.detail else f"{self.detail} (at {self.path})"
