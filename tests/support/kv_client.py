"""A client that owns spaces by its own key and calls a node over HTTP."""

import io
import itertools
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from blake3 import blake3
from embedded_node import EmbeddedNode, embedded_node
from engines import store_at
from running_node import Reply
from tests_support import FixedClock
from wire_replay import token_id

from capabilities.resources import SpaceId, parse_space_id
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from capabilities.ucan import UcanPayload, encode_ucan
from node.config.tree import Config, Hosting, Http
from spaces.keyspace import space_keys
from spaces.store.contract import counter_of

_COUNT = itertools.count()


Wanted = tuple[str, str]
"""The last part of an ability and a path."""

Body = bytes | AsyncIterator[bytes] | None


class Owner:
    """A client that calls a node with tokens of its own key. Its first write hosts its space."""

    def __init__(
        self, node: EmbeddedNode, session: aiohttp.ClientSession, clock: FixedClock
    ) -> None:
        self.node = node
        self.clock = clock
        self.signer = Ed25519Signer(secrets.token_bytes(32))
        self.session = session

    @property
    def space(self) -> SpaceId:
        return self.space_named("default")

    def space_named(self, name: str) -> SpaceId:
        return parse_space_id(f"tinycloud:{self.signer.did.removeprefix('did:')}:{name}")

    @property
    def objects(self) -> Path:
        """Return the node's place for large values."""
        return self.node.services.config.data / "blobs"

    def files(self) -> list[Path]:
        return [place for place in self.objects.rglob("*") if place.is_file()]

    def token(
        self,
        wanted: Sequence[Wanted],
        *,
        space: str = "default",
        more: Mapping[str, str] | None = None,
        audience: str | None = None,
        proofs: Sequence[str] = (),
    ) -> str:
        """Return an invocation, or a delegation to an audience. `more`: resource to ability;
        `proofs` are tokens."""
        att: dict[str, dict[str, list[dict[str, Json]]]] = {}
        for name, path in wanted:
            resource = f"{self.space_named(space).text}/kv/{path}"
            att.setdefault(resource, {})[f"tinycloud.kv/{name}"] = [{}]
        for resource, ability in (more or {}).items():
            att.setdefault(resource, {})[ability] = [{}]
        return self.token_of(att, audience=audience, proofs=proofs)

    def token_of(
        self,
        att: dict[str, dict[str, list[dict[str, Json]]]],
        *,
        audience: str | None = None,
        proofs: Sequence[str] = (),
    ) -> str:
        """Return an invocation, or a delegation to an audience, with the given capabilities."""
        payload = UcanPayload(
            iss=self.signer.did_url,
            aud=audience or self.signer.did,
            exp=self.clock.now() + 60,
            nnc=f"n{next(_COUNT)}",
            prf=[token_id(proof) for proof in proofs],
            att=att,
        )
        return encode_ucan(payload, self.signer)

    async def invoke(
        self,
        *wanted: Wanted,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        space: str = "default",
        more: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> Reply:
        """Send one invocation."""
        sent = {
            "Authorization": token or self.token(wanted, space=space, more=more),
            **(headers or {}),
        }
        skipped = () if "Content-Type" in sent else ("Content-Type",)
        data = io.BytesIO(body) if isinstance(body, bytes) else body
        async with self.session.post(
            f"{self.node.url}/invoke", data=data, headers=sent, skip_auto_headers=skipped
        ) as answer:
            named = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, named, await answer.read())

    async def put(self, path: str, body: Body, **more: str) -> Reply:
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        return await self.invoke(("put", path), body=body, headers=headers)

    async def get(self, path: str) -> Reply:
        return await self.invoke(("get", path))

    async def used_bytes(self) -> int:
        """Return the usage of the space that the node reports."""
        return counter_of(
            (await self.node.services.store.read((space_keys(self.space).usage,))).records[0]
        )

    async def put_all(self, values: Mapping[str, bytes], *, headers: Sequence[str] = ()) -> Reply:
        return await self.invoke(
            *(("put", path) for path in values),
            body=form(values, headers=headers),
            headers=FORM_TYPE,
        )


@asynccontextmanager
async def owner_at(
    folder: Path, clock: FixedClock, *, http: Http, hosting: Hosting
) -> AsyncIterator[Owner]:
    """Return an owner of spaces at a new node in this process."""
    config = Config(http=http, store=store_at(folder), hosting=hosting)
    async with embedded_node(config, clock=clock) as node, aiohttp.ClientSession() as session:
        yield Owner(node, session, clock)


FORM_TYPE = {"Content-Type": "multipart/form-data; boundary=probe"}


def form(values: Mapping[str, bytes], *, headers: Sequence[str] = ()) -> bytes:
    """Encode values as a form with unchanged names."""
    lines = "".join(f"{line}\r\n" for line in headers).encode()
    parts = [
        b'--probe\r\nContent-Disposition: form-data; name="%b"\r\n%b\r\n%b\r\n'
        % (name.encode(), lines, value)
        for name, value in values.items()
    ]
    return b"".join(parts) + b"--probe--\r\n"


def etag(body: bytes) -> str:
    """Return the ETag of a body."""
    return f'"blake3-{blake3(body).hexdigest()}"'
