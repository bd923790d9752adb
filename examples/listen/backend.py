"""The backend of Listen: in a TEE, it fetches meetings with a key that nobody else sees.

    sealspace backend simulate tee
    python examples/listen/backend.py

Its manifest asks each owner for the secret FIREFLIES_API_KEY, and for the right to store meetings
in a space of theirs. `POST /fetch?owner=DID` uses the key once, and stores what the service
answers. It returns nothing: the owner reads the meetings from the own space, so nobody else learns
anything by asking.
"""

import json
import logging
import os
from pathlib import Path

import aiohttp
from aiohttp import web

from capabilities.abilities import KV_PUT
from sealspace import SealspaceError
from sealspace.session import Grant, covers, space_capability, space_of
from tee_backend.backend import Backend
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import SimulatedSource

NODE = os.environ.get("SEALSPACE_NODE", "http://127.0.0.1:8000")
FIREFLIES = os.environ.get("FIREFLIES_URL", "http://127.0.0.1:8070/transcripts")
PORT = int(os.environ.get("PORT", "8080"))
COMPOSE = f"services: {{notes: {{image: 'acme/notes@sha256:{'01' * 32}'}}}}"
MANIFEST = json.loads((Path(__file__).parent / "manifest.json").read_text("utf-8"))
FOLDER = "com.example.listen/meetings"  # below the manifest's app_id


def grant_of(owner: str, backend: Backend) -> Grant | None:
    """Return the newest grant by which the backend may store meetings of an owner."""
    wanted = space_capability(space_of(owner, "applications"), "kv", f"{FOLDER}/", KV_PUT)
    for held in backend.grants:
        if any(covers(one, wanted) for one in held.grant.capabilities):
            return held.grant
    return None


async def meetings_of(key: str) -> list[dict[str, str]]:
    """Return the meetings that the service has for an API key."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(FIREFLIES, headers={"Authorization": f"Bearer {key}"}) as answer,
    ):
        answer.raise_for_status()
        meetings: list[dict[str, str]] = await answer.json()
        return meetings


async def main() -> web.Application:
    """Return the application: it publishes evidence, accepts grants, and fetches meetings."""
    agent = SimulatedSource.load(Path("tee"), compose=COMPOSE)
    backend = Backend.open(NODE, agent, folder=Path("listen"), keys=agent)

    async def fetch(request: web.Request) -> web.Response:
        owner = request.query.get("owner", "")
        try:
            grant = grant_of(owner, backend)
            if grant is None:
                return web.Response(status=403, text="this owner granted nothing\n")
            key = await backend.read_secret(owner, "FIREFLIES_API_KEY", by=grant)
            meetings = await meetings_of(str(key))
            async with backend.values(space_of(owner, "applications").text, by=grant) as values:
                for meeting in meetings:
                    await values.put(f"{FOLDER}/{meeting['id']}", meeting["title"])
        except SealspaceError as error:
            return web.Response(status=403, text=f"{error}\n")
        except aiohttp.ClientError:  # its message may contain what was sent
            return web.Response(status=502, text="the service of the meetings refused the key\n")
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/fetch", fetch)
    BackendSurface(
        agent, did=backend.did, manifest=MANIFEST, compose=COMPOSE, on_grant=backend.accept
    ).mount(app)
    app.on_cleanup.append(lambda _: backend.close())
    return app


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    web.run_app(main(), host="127.0.0.1", port=PORT, auto_decompress=False)
