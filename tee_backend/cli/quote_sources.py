"""The platform of a process that proves its code, chosen by options of a command.

A runner and a door have the same options: where quotes come from, which compose file they publish,
and where their key is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import click

from sealspace.cli.options.paths import read_named
from sealspace.service.command_errors import ConfigurationError

from ..backend.key import KeyFile
from ..evidence.dstack import DstackSource
from ..evidence.evidence_errors import EvidenceSourceError
from ..evidence.simulated import PlatformFolderError, SimulatedSource
from ..evidence.source import EvidenceSource, KeySource
from ..evidence.tsm import TsmSource

QUOTE_KINDS = ("dstack", "tsm", "simulated")
"""A guest agent, the kernel, and a simulated platform."""
KEY_KINDS = ("platform", "file")
KeyKind = Literal["platform", "file"]

_MAX_COMPOSE_BYTES = 64 * 1024
_EXAMPLE_COMPOSE = f"services:\n  example:\n    image: sealspace-example@sha256:{'0' * 64}\n"


@contextmanager
def platform_errors(simulated_folder: Path | None) -> Iterator[None]:
    """Convert errors of the platform to those of a command.

    Raises:
        ConfigurationError: the simulated platform's folder cannot be used, or this machine cannot
            produce quotes.
    """
    try:
        yield
    except PlatformFolderError as error:
        raise ConfigurationError(
            error.detail, hint=f"sealspace backend simulate {simulated_folder}"
        ) from None
    except EvidenceSourceError as error:
        raise ConfigurationError(
            f"this machine cannot produce quotes: {error.detail}",
            hint="for a trial, add --simulate FOLDER",
        ) from None


def read_compose(path: Path | None) -> str | None:
    """Read the text of a compose file; None if no file is given."""
    if path is None:
        return None
    not_a_compose_file = ConfigurationError(
        f"{path} is not a compose file",
        hint=f"pass a UTF-8 text file of at most {_MAX_COMPOSE_BYTES} bytes",
    )
    data = read_named(path, most_bytes=_MAX_COMPOSE_BYTES)
    if len(data) > _MAX_COMPOSE_BYTES:
        raise not_a_compose_file
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise not_a_compose_file from None


class ProvingPlatform(NamedTuple):
    """The platform that proves the code of a process.

    Attributes:
        source: makes quotes.
        compose: text of the compose file to publish; None: the process publishes none.
    """

    source: EvidenceSource
    compose: str | None


def choose_platform(
    kind: str, simulated_folder: Path | None, compose: str | None
) -> ProvingPlatform:
    """Return the source of quotes, and the compose file to publish.

    Args:
        kind: one of `QUOTE_KINDS`. A folder of a simulated platform takes precedence.
        simulated_folder: the folder of a simulated platform, or None.
        compose: text of the compose file. A simulated platform measures it, and has one of its own
            if there is none.
    Raises:
        click.UsageError: the simulated platform has no folder.
        EvidenceSourceError: the platform cannot be used.
    """
    if simulated_folder is not None:
        measured_compose = compose or _EXAMPLE_COMPOSE
        simulated_source = SimulatedSource.load(simulated_folder, compose=measured_compose)
        return ProvingPlatform(source=simulated_source, compose=measured_compose)
    if kind == "simulated":
        raise click.UsageError(
            "missing option --simulate FOLDER: the folder of the simulated platform"
        )
    if kind == "dstack":
        return ProvingPlatform(source=DstackSource.find(), compose=compose)
    return ProvingPlatform(source=TsmSource(), compose=compose)


def key_source(kind: str, folder: Path, source: EvidenceSource) -> KeySource:
    """Return where the process's own key comes from: a file in its folder, or the platform.

    Args:
        kind: one of `KEY_KINDS`.
        folder: the data folder of the process. The file is created later, if it is missing.
        source: the source of quotes of the platform.
    Raises:
        ConfigurationError: the key shall come from a platform without a key service.
    """
    if kind == "file":
        return KeyFile(folder / "backend.key")
    if not isinstance(source, KeySource):
        raise ConfigurationError("the platform has no key service", hint="add --key file")
    return source
