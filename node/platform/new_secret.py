"""The root secret that replaces the present one (RK6).

It comes from where the present one comes from: a file, or the platform. The operator never learns a
secret of the platform, so it is not replaced by one that the operator knows.
"""

import os
from pathlib import Path

from msgspec.structs import replace

from capabilities.clock_and_entropy import Entropy
from capabilities.frozen_struct import FrozenStruct
from sealspace.private_files import make_file, read_key, sync_folder
from sealspace.service.command_errors import ConfigurationError, SecretUnusable, StoreMisused

from ..config.tree import Config
from ..config.tree import Secret as SecretSettings
from .root_secret import (
    MAX_SECRET_BYTES,
    MIN_SECRET_BYTES,
    SECRET_FILE_NAME,
    load_root_secret,
    secret_origin,
)

NEXT_FILE_NAME = "secret-next"


class NewSecret(FrozenStruct):
    """A new root secret, and where it is.

    Attributes:
        secret: 32 bytes or more.
        file: the file with the secret; None for a secret of the platform.
        platform_path: the name of the secret at the platform; None for a file.
    """

    secret: bytes
    file: Path | None = None
    platform_path: str | None = None

    def __repr__(self) -> str:
        """Return a representation without the secret."""
        return f"NewSecret(file={self.file!r}, platform_path={self.platform_path!r})"


def load_new_secret(
    config: Config,
    *,
    file: Path | None,
    platform_path: str | None,
    number: int,
    entropy: Entropy,
) -> NewSecret:
    """Load the new root secret, or create it.

    Args:
        config: names the source of the present secret.
        file: with the new secret; it is created if it does not exist. None for the file
            `secret-next` in the data folder.
        platform_path: the name of the new secret at the platform. None for the name of the present
            one, followed by the number of the new one.
        number: of the new secret.
        entropy: the random source for a new secret.

    Raises:
        ConfigurationError: the source cannot be that of the present secret.
        SecretUnusable: the new secret is unreadable, too short or too long, or other users can read
            its file; or the platform does not provide it.
    """
    if secret_origin(config) == "platform":
        if file is not None:
            # Whoever has the file could open the networks of a node that states the opposite.
            raise ConfigurationError(
                "the present root secret comes from the platform, and a secret in a file cannot"
                " replace it",
                hint="use --new-platform-path PATH, or no option",
            )
        new_path = platform_path or numbered_path(config.secret.platform_path, number)
        if new_path == config.secret.platform_path:
            raise ConfigurationError(
                f"the present root secret has the platform path {new_path} already",
                hint="use another --new-platform-path",
            )
        return NewSecret(secret=_read_from_platform(config, new_path), platform_path=new_path)
    if platform_path is not None:
        # The former secret, which the operator knows, opened the same networks.
        raise ConfigurationError(
            "the present root secret does not come from the platform, and a secret of the platform"
            " cannot replace it",
            hint="use --new-secret-file FILE",
        )
    is_in_data_folder = config.secret.file is None and config.secret.value is None
    if file is None and not is_in_data_folder:
        raise ConfigurationError(
            "no file was named for the new root secret",
            hint="use --new-secret-file FILE; the file is created if it does not exist",
        )
    secret_file = file or config.data / NEXT_FILE_NAME
    return NewSecret(secret=_read_or_create_file(secret_file, entropy), file=secret_file.absolute())


def numbered_path(path: str, number: int) -> str:
    """Return the platform path of a root secret by its number (RK6).

    The path of number 2 is `path/2`. The path of number 3 is `path/3`, whether `path` is given with
    the number 2 or without it.
    """
    return f"{path.removesuffix(f'/{number - 1}')}/{number}"


def put_in_place(config: Config, new: NewSecret, *, former_number: int) -> Path | None:
    """Replace the file `secret` in the data folder, if the new secret is in `secret-next`.

    The former secret is kept as `secret-former-1`, with its number. Each step can be repeated after
    an interruption.

    Args:
        config: names the data folder.
        new: as `load_new_secret` returned it.
        former_number: number of the secret that was replaced.

    Returns:
        The file with the former secret, or None if the new secret is not in `secret-next`. Then
        nothing is changed, and the operator changes the settings.

    Raises:
        StoreMisused: there is another file of that name.
    """
    next_file = config.data / NEXT_FILE_NAME
    if new.file != next_file.absolute():
        return None
    present_file = config.data / SECRET_FILE_NAME
    former_file = config.data / f"{SECRET_FILE_NAME}-former-{former_number}"
    if not former_file.exists():
        os.link(present_file, former_file)
    elif not former_file.samefile(present_file):
        raise StoreMisused(
            f"the former root secret was not renamed: there is a file {former_file} already",
            hint=f"move {former_file} away, then run the same command again",
        )
    sync_folder(config.data)
    next_file.rename(present_file)  # replaces the name `secret`; the former file keeps its own
    sync_folder(config.data)
    return former_file.absolute()


def _read_from_platform(config: Config, path: str) -> bytes:
    """Return the secret that the platform has for a path."""
    settings = SecretSettings(platform=True, platform_path=path)
    return load_root_secret(replace(config, secret=settings), None)


def _read_or_create_file(path: Path, entropy: Entropy) -> bytes:
    """Return the secret in a file, which is created with a random secret if it does not exist.

    Raises:
        SecretUnusable: the file cannot be read or created, or the secret is too short or too long.
    """
    try:
        if not path.exists():
            make_file(path, entropy.token(MIN_SECRET_BYTES))  # durable before anything is sealed
        secret = read_key(path, "new root secret", SecretUnusable, most_bytes=MAX_SECRET_BYTES)
    except OSError as error:
        raise SecretUnusable(
            f"the new root secret cannot be read or created in {path}: {error.strerror}",
            hint="name a file in a folder that exists and that you can write",
        ) from None
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise SecretUnusable(
            f"the new root secret in {path} has {len(secret)} bytes; a root secret must have"
            f" {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}",
            hint="name a file that does not exist; the command then creates a secret of 32 bytes",
        )
    return secret
