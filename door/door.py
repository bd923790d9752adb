"""The application of a door: the paths that it answers (DR1).

Example:
    door = Door(client, mounts, cache=cache, roles={}, clock=clock, entropy=entropy)
    token = door.add_own_grant()
    async with listening(door.application(list_method=LIST_METHOD), bound, limits):
        ...
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Set
from typing import Any

from aiohttp import web

from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.limits import counted_address
from capabilities.principals import Principal
from sealspace import __version__
from sealspace.client import Client
from sealspace.errors import SealspaceError
from serving.shares import ResourceUse, parts_of
from tee_backend.backend import Backend
from tee_backend.backend.publishing import BackendSurface

from .api_answers import ApiAnswer, plain_response, refusal_response
from .api_requests import ApiRequest, read_request
from .cache import Cache
from .door_errors import DoorRefusal, refusal_of, unserved
from .door_grants import DoorGrant, DoorGrants
from .key_values import KeyValues
from .limits import MAX_BODY_BYTES, MAX_REQUESTS, share_refusal
from .logins import APPROLE, JWT, KUBERNETES, Logins
from .mounts import Mount
from .named_callers import NamedCallers
from .readings import Readings

_LISTED = "docs/how-to/vault-clients.md lists what a door answers"
OWN_PATH = "auth/token/door"
"""The path of the door's own grant in `auth/token/lookup-self`."""
_UI_MOUNTS = "sys/internal/ui/mounts"
_HEALTH_PARAMETERS = frozenset(
    {
        "activecode",
        "drsecondarycode",
        "performancestandbycode",
        "perfstandbyok",
        "sealedcode",
        "standbycode",
        "standbyok",
        "uninitcode",
    }
)
_REFUSED_BY_NAME = {
    "sys/wrapping": "a door wraps no answers",
    "sys/policies": "a door has no policies: a grant says what its token may do",
    "sys/policy": "a door has no policies: a grant says what its token may do",
    "sys/namespaces": "a door has no namespaces",
    "sys/seal": "a door cannot be sealed: end its process instead",
    "auth/token/create": "a door makes no tokens for others: each caller logs in",
}
_MOST_PATHS = 64
"""Paths in one request to `sys/capabilities-self`."""

OpenHandler = Callable[[ApiRequest], Awaitable[web.Response]]
ClientOf = Callable[[web.Request], str | None]
Handler = Callable[[DoorGrant, ApiRequest], Awaitable[ApiAnswer]]


class Door:
    """A door: its grants, and the handlers of its paths.

    Args:
        client: a client of the node, which outlives the door.
        mounts: the mounts, by name.
        cache: where values are kept.
        roles: name to the id of a trust, for logins with ID tokens.
        allowed: the owners whose machine tokens log in; empty: those of all owners.
        clock: source of the time.
        entropy: source of the tokens.
        is_writable: whether an owner's session may write.
        backend: the door itself as a program that proves its code; its own grant then stands for
            what owners grant to this program. None: it stands for the session of the client.
    """

    def __init__(
        self,
        client: Client,
        mounts: Mapping[str, Mount],
        *,
        cache: Cache,
        roles: Mapping[str, str],
        clock: Clock,
        entropy: Entropy,
        allowed: Set[Principal] = frozenset(),
        is_writable: bool = False,
        backend: Backend | None = None,
    ) -> None:
        self._client = client
        self._backend = backend
        self._mounts = mounts
        self._clock = clock
        self._grants = DoorGrants(cache, clock=clock, entropy=entropy)
        readings = Readings(self._grants, cache, clock)
        self._values = KeyValues(readings, is_writable=is_writable)
        self._places = ResourceUse(
            share_refusal("requests are under way at this door", "send fewer at the same time")
        )
        named = NamedCallers(roles=roles, owners=allowed)
        logins = Logins(client, self._grants, named=named, clock=clock)
        # Path and operation -> handler. These need no token.
        self._open_handlers: dict[tuple[str, str], OpenHandler] = {
            ("sys/health", "read"): self._health,
            ("sys/init", "read"): self._init,
            ("sys/leader", "read"): self._leader,
            ("sys/seal-status", "read"): self._seal_status,
            (APPROLE, "write"): logins.approle,
            (JWT, "write"): logins.identity,
            (KUBERNETES, "write"): logins.identity,
        }
        # Path and operation -> handler. These need the token of a grant.
        self._token_handlers: dict[tuple[str, str], Handler] = {
            ("auth/token/lookup-self", "read"): self._lookup,
            ("auth/token/renew-self", "write"): self._renew,
            ("auth/token/revoke-self", "write"): self._revoke,
            (_UI_MOUNTS, "read"): self._all_mounts,
            ("sys/capabilities-self", "write"): self._capabilities,
        }

    def application(
        self,
        *,
        list_method: str,
        own_host: str | None = None,
        surface: BackendSurface | None = None,
        client_of: ClientOf = lambda request: counted_address(request.remote),
    ) -> web.Application:
        """Return the application, which answers every path.

        Args:
            list_method: the method by which the listener passes on the method LIST.
            own_host: the host that the door listens on without TLS, see `read_request`.
            surface: publishes the evidence of the door's backend; None: nothing is published.
            client_of: returns the address by which the client of a request is counted; None for
                clients on this machine.
        """

        async def handle(source: web.Request) -> web.Response:
            try:
                request = read_request(
                    source,
                    list_method=list_method,
                    own_host=own_host,
                    client=client_of(source),
                )
                return await self._route(request)
            except DoorRefusal as refusal:
                return refusal_response(refusal)
            except SealspaceError as error:
                return refusal_response(refusal_of(error))

        app = web.Application()
        if surface is not None:
            surface.mount(app)
        # One handler for everything: aiohttp's router would decode the path.
        app.router.add_route("*", "/{path:.*}", handle)
        return app

    def add_own_grant(self) -> str:
        """Return a token that stands for the session of the door's client, or for its backend."""
        # A backend has grants of several owners, each with an end of its own.
        ends_at = None
        if self._backend is None:
            ends_at = self._client.session.expires_at
        grant = self._grants.add(
            self._client, path=OWN_PATH, role="", ends_at=ends_at, backend=self._backend
        )
        return grant.token

    async def _route(self, request: ApiRequest) -> web.Response:
        """Call the handler of a request's path and operation.

        Raises:
            DoorRefusal: there is no such path or operation, the token is not valid, or the handler
                refuses the request.
            SealspaceError: the handler refuses the request.
        """
        open_handler = self._open_handlers.get((request.path, request.operation))
        if open_handler is not None:
            return await open_handler(request)
        # Everything else needs a token, also to learn which mounts exist (DR6).
        grant = self._grants.find(request.token)
        # A holder has a share of the places, until its answer is sent: also a caller who reads it
        # slowly leaves places to others (DR14).
        with self._places.reserve(parts_of(grant.holder), 1, MAX_REQUESTS):
            response = await self._answer(grant, request)
            await response.prepare(request.source)
            await response.write_eof()
        return response

    async def _answer(self, grant: DoorGrant, request: ApiRequest) -> web.Response:
        """Answer a request with a valid token; see `_route` for the errors."""
        mount = self._mount_at(request.path)
        if mount is not None:
            answer = await self._values.answer(grant, mount, request)
            return answer.response()
        is_ui_mount = request.path.startswith(f"{_UI_MOUNTS}/")
        if is_ui_mount and request.operation == "read":
            request.require_parameters(())
            answer = self._describe_one_mount(request.path.removeprefix(f"{_UI_MOUNTS}/"))
            return answer.response()
        handler = self._token_handlers.get((request.path, request.operation))
        if handler is not None:
            request.require_parameters(())
            answer = await handler(grant, request)
            return answer.response()
        if is_ui_mount or self._has_path(request.path):
            raise DoorRefusal(
                405,
                f"unsupported operation: {request.operation} of {request.path}; next: {_LISTED}",
            )
        raise _unserved_path(request.path)

    def _mount_at(self, path: str) -> Mount | None:
        """Return the mount that the first segment of a path names."""
        first_segment, _, _ = path.partition("/")
        return self._mounts.get(first_segment)

    def _has_path(self, path: str) -> bool:
        """Return whether a path outside the mounts has a handler for any operation."""
        handled = (*self._open_handlers, *self._token_handlers)
        return any(path == handled_path for handled_path, _ in handled)

    # --- the state of the door --------------------------------------------------------------------

    async def _health(self, request: ApiRequest) -> web.Response:
        request.require_parameters(_HEALTH_PARAMETERS)
        return plain_response(
            {
                "initialized": True,
                "sealed": False,
                "standby": False,
                "performance_standby": False,
                "replication_performance_mode": "disabled",
                "replication_dr_mode": "disabled",
                "server_time_utc": int(time.time()),
                "version": __version__,
                "cluster_name": "sealspace-door",
                "cluster_id": "",
            }
        )

    async def _init(self, request: ApiRequest) -> web.Response:
        request.require_parameters(())
        return plain_response({"initialized": True})

    async def _leader(self, request: ApiRequest) -> web.Response:
        request.require_parameters(())
        return plain_response({"ha_enabled": False, "is_self": False, "leader_address": ""})

    async def _seal_status(self, request: ApiRequest) -> web.Response:
        request.require_parameters(())
        return plain_response(
            {
                "type": "sealspace",
                "initialized": True,
                "sealed": False,
                "t": 1,
                "n": 1,
                "progress": 0,
                "nonce": "",
                "version": __version__,
                "build_date": "",
                "migration": False,
                "cluster_name": "sealspace-door",
                "cluster_id": "",
                "recovery_seal": False,
                "storage_type": "sealspace",
            }
        )

    # --- the caller's token -----------------------------------------------------------------------

    async def _lookup(self, grant: DoorGrant, request: ApiRequest) -> ApiAnswer:
        return ApiAnswer(data=grant.lookup_data(self._clock.now()))

    async def _renew(self, grant: DoorGrant, request: ApiRequest) -> ApiAnswer:
        await request.body(most_bytes=MAX_BODY_BYTES)  # raises for a malformed body
        return ApiAnswer(
            auth=grant.auth(self._clock.now()),
            warnings=("the token ends when its grant ends; a renewal does not move this end",),
        )

    async def _revoke(self, grant: DoorGrant, request: ApiRequest) -> ApiAnswer:
        await request.body(most_bytes=MAX_BODY_BYTES)  # raises for a malformed body
        self._grants.end(grant)
        return ApiAnswer(status=204)

    async def _capabilities(self, grant: DoorGrant, request: ApiRequest) -> ApiAnswer:
        """Answer what the grant may do at each path of a list, or at one path."""
        body = await request.body(most_bytes=MAX_BODY_BYTES)
        paths = body.get("paths", body.get("path"))
        if isinstance(paths, str):
            paths = [paths]
        if not isinstance(paths, list) or not 0 < len(paths) <= _MOST_PATHS:
            raise DoorRefusal(
                400, f"the body has no paths; next: send 1 to {_MOST_PATHS} paths as a list"
            )
        words_by_path: dict[str, Any] = {}
        for path in paths:
            if not isinstance(path, str):
                raise DoorRefusal(400, "a path is not a text; next: send texts")
            words_by_path[path] = self._ability_words(grant, path)
        # Clients that ask for one path read it from `capabilities`.
        if len(words_by_path) == 1:
            (only_words,) = words_by_path.values()
            words_by_path["capabilities"] = only_words
        return ApiAnswer(data=words_by_path, top=words_by_path)

    def _ability_words(self, grant: DoorGrant, path: str) -> list[str]:
        """Return what a grant may do at a path, in the API's words; `deny` for nothing."""
        mount = self._mount_at(path)
        if mount is not None:
            return self._values.abilities(grant, mount, path)
        word_of = {"read": "read", "write": "update"}
        words = []
        for handled_path, operation in self._token_handlers:
            if handled_path == path:
                words.append(word_of[operation])
        return words or ["deny"]

    # --- the mounts -------------------------------------------------------------------------------

    async def _all_mounts(self, grant: DoorGrant, request: ApiRequest) -> ApiAnswer:
        descriptions = {}
        for mount in self._mounts.values():
            descriptions[f"{mount.name}/"] = _mount_description(mount)
        return ApiAnswer(data={"auth": {}, "secret": descriptions})

    def _describe_one_mount(self, path: str) -> ApiAnswer:
        """Answer with the description of the mount that contains a path."""
        mount = self._mount_at(path)
        if mount is None:
            raise DoorRefusal(
                403,
                f"permission denied: the door has no mount for {path}; next: use one of"
                f" {', '.join(self._mounts)}",
            )
        return ApiAnswer(data={"path": f"{mount.name}/", **_mount_description(mount)})


def _unserved_path(path: str) -> DoorRefusal:
    """Return the answer for a path that a door does not have, with the reason if it has one."""
    for prefix, reason in _REFUSED_BY_NAME.items():
        if path == prefix or path.startswith(f"{prefix}/"):
            return unserved(reason, _LISTED)
    return unserved(f"a door does not serve {path}", _LISTED)


def _mount_description(mount: Mount) -> Mapping[str, Any]:
    """Return what Vault says about a mount, as far as a door's mount has it."""
    return {
        "type": "kv",
        "description": f"secrets of sealspace, {mount.form}",
        "options": {"version": str(mount.kv)},
        "accessor": f"kv_{mount.name}",
        "config": {"default_lease_ttl": 0, "max_lease_ttl": 0},
        "local": False,
        "seal_wrap": False,
        "external_entropy_access": False,
        "uuid": "",
    }
