"""Protection of secret settings in output and in files."""

from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from capabilities.strict_json import StrictRecord
from sealspace.service.command_errors import ConfigurationError

_PASSWORDS = frozenset({"password", "sslpassword"})
_CREDENTIAL = (
    "a credential",
    "put it into a file with mode 0600 and set objects.secret_key_file, or use the environment",
)
# Setting -> its description, and a hint. These are refused in a settings file, because such files
# are copied, backed up and committed.
NOT_IN_A_FILE = {
    "secret.value": (
        "the root secret",
        "put the raw bytes into a file with mode 0600 and set secret.file",
    ),
    "admin.secret": (
        "the operator's secret",
        "put it into a file with mode 0600 and set admin.secret_file",
    ),
    "objects.secret_key": _CREDENTIAL,
    "objects.session_token": _CREDENTIAL,
}


# Settings that are never printed. The address of a database may contain a password.
HIDDEN = {*NOT_IN_A_FILE, "store.url", "objects.key_id"}


class Section(StrictRecord):
    """A section of settings whose `repr` masks secrets."""

    def __repr__(self) -> str:
        """Return the section as text, with secrets masked."""
        section = type(self).__name__
        shown = []
        for name in self.__struct_fields__:
            value = getattr(self, name)
            is_secret = f"{section.lower()}.{name}" in HIDDEN
            if is_secret and value:
                value = "…"
            shown.append(f"{name}={value!r}")
        return f"{section}({', '.join(shown)})"


def refuse_secrets(settings: Mapping[str, object], *, source: str) -> None:
    """Reject a settings file that contains secrets."""
    for name, (what, hint) in NOT_IN_A_FILE.items():
        if name in settings:
            raise ConfigurationError(
                f"{name} in {source}: {what} must not be in a settings file", hint=hint
            )
    refuse_password(settings.get("store.url"), source=source)


def refuse_password(url: object, *, source: str) -> None:
    """Reject a database URL that contains a password.

    Only the environment may set a URL with a password; others could read a file or a flag.
    """
    if not isinstance(url, str):
        return
    try:
        parts = urlsplit(url)
        has_password = bool(parts.password) or not _PASSWORDS.isdisjoint(parse_qs(parts.query))
    except ValueError:
        raise ConfigurationError(
            f"the setting store.url ({source}) is not a valid address",
            hint="use the form postgresql://user@host/database",
        ) from None
    if has_password:
        raise ConfigurationError(
            f"store.url ({source}) must not contain a password: others could read the password",
            hint="put the password into ~/.pgpass, or the whole address into SEALSPACE_STORE__URL",
        )
