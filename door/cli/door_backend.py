"""A door that is a backend: it proves its code, and reads what owners grant to it (DR18)."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace

from capabilities.frozen import frozen
from capabilities.strict_json import Json, JsonObject
from sealspace.client import Client
from sealspace.errors import BackendAnswerInvalid, InvalidInput
from sealspace.secrets import parse_secret_label
from sealspace.service.command_errors import ConfigurationError
from sealspace.session import key_session
from tee_backend.backend import Backend
from tee_backend.backend.grant_folder import GrantFolder
from tee_backend.backend.key import backend_seed
from tee_backend.backend.publishing import BackendSurface
from tee_backend.cli.quote_sources import choose_platform, key_source, read_compose

from ..limits import NODE_S
from ..mounts import Mount

_APP_ID = "sealspace.door"
_PATIENCE_S = NODE_S / 2
"""Seconds for which evidence waits for a node that asks for a later retry, within a request."""


@frozen
class OwnBackend:
    """The backend of a door, and the routes at which owners find it."""

    backend: Backend
    surface: BackendSurface


def require_owners(mounts: Mapping[str, Mount], *, is_writable: bool) -> None:
    """Check that a backend can serve the mounts, which have to name their owners.

    Raises:
        InvalidInput: a mount names no owner; it names a team; or the door may write.
    """
    if is_writable:
        raise InvalidInput(
            "a door with --data only reads", hint="leave out --write, or leave out --data"
        )
    for mount in mounts.values():
        if mount.owner is None or mount.team is not None:
            raise InvalidInput(
                f"the mount {mount.name} needs owner=DID and no team with --data: a backend reads"
                " what owners grant to it",
                hint=f"--mount {mount.name}={mount.form},owner=DID",
            )


@asynccontextmanager
async def open_own_backend(node: str, options: SimpleNamespace) -> AsyncIterator[OwnBackend]:
    """Open the backend of a door, and close it on exit.

    Args:
        node: address of the node.
        options: the options of `sealspace door`, by their parameter names.
    Raises:
        EvidenceSourceError: the platform makes no quotes.
        ConfigurationError: the options cannot be published.
        KeepingError: the key or the folder cannot be used.
    """
    compose = read_compose(options.compose_file)
    platform = choose_platform(options.quotes, options.platform_folder, compose)
    keys = key_source(options.key_kind, options.folder, platform.source)
    # In a thread: the key service may block.
    seed = await asyncio.to_thread(backend_seed, keys)
    client = Client(node, session=key_session(seed))
    folder = GrantFolder(options.folder, client.session.did)
    async with Backend(client, platform.source, folder=folder, patience_s=_PATIENCE_S) as backend:
        try:
            surface = BackendSurface(
                platform.source,
                did=backend.did,
                manifest=_manifest(options.name, options.secrets),
                compose=platform.compose,
                on_grant=backend.accept,
                signers=lambda: backend.signers,
            )
        except (BackendAnswerInvalid, ValueError) as error:
            raise ConfigurationError(
                f"cannot publish this door: {error}", hint="choose a short --name"
            ) from None
        yield OwnBackend(backend=backend, surface=surface)


def _manifest(name: str, labels: tuple[str, ...]) -> JsonObject:
    """Return the manifest of a door, which asks for secrets.

    Raises:
        InvalidInput: a label names no secret, or two scopes have a secret of the same name.
    """
    secrets: dict[str, Json] = {}
    for label in labels:
        secret = parse_secret_label(label)
        if secret.name in secrets:
            raise InvalidInput(
                f"--secret names {secret.name} twice",
                hint="a door asks for one secret of each name; owners may grant more",
            )
        # As manifests write it: `true` for a secret without a scope.
        secrets[secret.name] = True if secret.scope is None else {"scope": secret.scope}
    return {"app_id": _APP_ID, "name": name, "defaults": False, "secrets": secrets}
