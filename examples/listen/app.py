"""The application Listen: a page on your machine where you store a key and see your meetings.

    sealspace serve --data ./data --trust-root tee/root-ca.pem --collateral tee/collateral
    sealspace login http://127.0.0.1:8000 --new    # makes the wallet that signs in here
    python examples/listen/app.py                  # then open the address that it prints

The application signs you in with a session of its own, which may do what its manifest and that of
its backend ask for, and no more: it stores the secret FIREFLIES_API_KEY, reads the meetings, and
passes on to the backend what the backend's manifest asks for. It cannot read your other secrets.
"""

import html
import os
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
from aiohttp import web

from sealspace import Client, SealspaceError, wallet_from_key
from sealspace.apps.backends import Seen, deliver, policy_for
from sealspace.documents.manifests import (
    Manifest,
    ManifestRequest,
    compose_manifests,
    parse_manifest,
    with_decrypt,
)
from sealspace.session import network_of_owner
from sealspace.wire.sign_in import SignIn
from tee_backend.attestation.inspection import CollateralFolder, Inspector
from tee_backend.attestation.trust_root import parse_trust_root

NODE = os.environ.get("SEALSPACE_NODE", "http://127.0.0.1:8000")
HOME = Path(os.environ.get("SEALSPACE_HOME", Path.home() / ".sealspace"))
BACKEND = os.environ.get("LISTEN_BACKEND", "http://127.0.0.1:8080")
PORT = int(os.environ.get("PORT", "8060"))
FOLDER = "com.example.listen/meetings"
OWN = {
    "app_id": "com.example.listen",
    "name": "Listen",
    "defaults": False,
    "secrets": {"FIREFLIES_API_KEY": ["write"]},
    "permissions": [{"service": "tinycloud.kv", "path": "meetings/", "actions": ["get", "list"]}],
}

# Another page in the same browser could send requests to this address. It does not know this word.
WORD = secrets.token_urlsafe(16)
PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>Listen</title>
<h1>Listen</h1>
<p>Signed in as {owner}. The session ends with this program.</p>
<p role="status">{said}</p>
<form method="post" action="key">
  <label>API key of Fireflies <input type="password" name="key" required></label>
  <button>Store</button>
</form>
<p>The backend at {backend} is {did}, with the compose hash {compose}.
  It asks for the secret FIREFLIES_API_KEY, and may store meetings.</p>
<form method="post" action="grant"><button>Let this code use the key</button></form>
<form method="post" action="fetch"><button>Fetch my meetings</button></form>
<ul>{meetings}</ul>
"""


def request_of(owner: str, *manifests: Manifest) -> ManifestRequest:
    """Return what the manifests ask of an owner; to read a secret is to decrypt it, too."""
    return with_decrypt(compose_manifests(manifests), network_of_owner(owner).text)


def backends_manifest(seen: Seen) -> Manifest:
    """Return what the backend asks for, to be granted to its DID."""
    return replace(seen.published.statement.manifest, did=seen.did)


class Listen:
    """The application of one person.

    Attributes:
        client: signed in with the rights that the two manifests ask for.
        wallet: it signs in, and signs the grant, which then outlasts this program.
        said: what the page says about the last step.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.said = ""
        self.wallet = wallet_from_key((HOME / "wallet.key").read_text())
        tee = Path("tee")
        root = parse_trust_root((tee / "root-ca.pem").read_bytes())
        self.inspector = Inspector(CollateralFolder(tee / "collateral"), root=root)

    async def sign_in(self) -> None:
        """Sign in for what this application and its backend need."""
        seen = await self.client.backends.look(BACKEND, self.inspector)
        asked = request_of(self.wallet.did, parse_manifest(OWN), backends_manifest(seen))
        await self.client.sign_in(self.wallet, SignIn(request=asked, domain=f"127.0.0.1:{PORT}"))

    async def show(self, _: web.Request) -> web.Response:
        """Show the page."""
        seen = await self.client.backends.look(BACKEND, self.inspector)
        values = self.client.kv("applications")
        meetings = []
        async for key in values.list(f"{FOLDER}/"):
            meetings.append((await values.get(key)).body.decode())
        page = PAGE.format(
            owner=self.client.session.owner,
            said=html.escape(self.said),
            backend=html.escape(BACKEND),
            did=seen.did,
            compose=(seen.verified.evidence.compose_hash or b"").hex(),
            meetings="".join(f"<li>{html.escape(title)}</li>" for title in meetings),
        )
        return web.Response(text=page, content_type="text/html")

    async def store_key(self, request: web.Request) -> None:
        """Seal the key and store it. Only the owner's network can have it opened again."""
        form = await request.post()
        await self.client.secrets().put("FIREFLIES_API_KEY", str(form["key"]))
        self.said = "The key is stored."

    async def grant(self, _: web.Request) -> None:
        """Grant the backend's code what its manifest asks for."""
        seen = await self.client.backends.look(BACKEND, self.inspector)
        asked = request_of(self.client.session.owner, backends_manifest(seen))
        (target,) = asked.delegation_targets
        paths = self.client.backends.resources(seen)
        policy = policy_for(seen, paths=paths, ttl_s=7 * 86_400)
        granted = await self.client.delegations.delegate_to_target(
            target, policy=policy, wallet=self.wallet
        )
        await deliver(BACKEND, *granted)
        self.said = "The backend may use the key until you revoke the grant."

    async def fetch(self, _: web.Request) -> None:
        """Ask the backend to fetch the meetings, which it stores in the owner's space."""
        query = {"owner": self.client.session.owner}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{BACKEND}/fetch", params=query) as answer,
        ):
            self.said = "Fetched." if answer.status == 204 else await answer.text()


async def main() -> web.Application:
    """Sign in, and return the application."""
    listen = Listen(Client(NODE))
    await listen.sign_in()

    def step(
        work: Callable[[web.Request], Awaitable[None]],
    ) -> Callable[..., Awaitable[web.Response]]:
        async def run(request: web.Request) -> web.Response:
            try:
                await work(request)
            except SealspaceError as error:  # its text names no secret
                listen.said = str(error)
            raise web.HTTPSeeOther(f"/{WORD}/")

        return run

    app = web.Application()
    app.router.add_get(f"/{WORD}/", listen.show)
    for name, work in (("key", listen.store_key), ("grant", listen.grant), ("fetch", listen.fetch)):
        app.router.add_post(f"/{WORD}/{name}", step(work))

    async def close(_: web.Application) -> None:
        await listen.client.close()

    app.on_cleanup.append(close)
    print(f"open http://127.0.0.1:{PORT}/{WORD}/", flush=True)
    return app


if __name__ == "__main__":
    web.run_app(main(), host="127.0.0.1", port=PORT, print=None)
