"""A backend in 15 lines that proves its code, accepts a grant, and uses a secret.

    sealspace backend simulate tee      # a simulated TDX platform in the folder tee; proves nothing
    trust="--trust-root tee/root-ca.pem --collateral tee/collateral"
    sealspace serve --data ./data $trust           # in another terminal
    python examples/backend.py                     # in a third terminal
    sealspace login http://127.0.0.1:8000 --new $trust
    sealspace secret put API_KEY
    sealspace backend grant http://127.0.0.1:8080
    curl 'http://127.0.0.1:8080/work?owner=DID'    # the DID that `sealspace whoami` prints

Inside a TDX guest, use `agent = DstackSource.find()` instead of the simulation.
"""

import logging
import os
from functools import partial
from pathlib import Path

from aiohttp import web

from sealspace import SealspaceError
from tee_backend.backend import Backend
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import SimulatedSource

NODE = os.environ.get("SEALSPACE_NODE", "http://127.0.0.1:8000")
PORT = int(os.environ.get("PORT", "8080"))
COMPOSE = f"services: {{notes: {{image: 'acme/notes@sha256:{'01' * 32}'}}}}"
MANIFEST = {
    "app_id": "com.example.notes",
    "name": "Notes",
    "defaults": False,
    "secrets": {"API_KEY": True},
}
surface_of = partial(BackendSurface, manifest=MANIFEST, compose=COMPOSE)


async def main() -> web.Application:
    """Return the application: it publishes evidence, accepts grants, and works with the secret."""
    agent = SimulatedSource.load(Path("tee"), compose=COMPOSE)
    backend = Backend.open(NODE, agent, folder=Path("example"), keys=agent)

    async def work(request: web.Request) -> web.Response:
        try:
            api_key = await backend.read_secret(request.query["owner"], "API_KEY")
        except SealspaceError as error:
            return web.Response(status=403, text=f"{error}\n")
        return web.Response(text=f"worked with a key of {len(api_key)} characters\n")

    app = web.Application()
    app.router.add_get("/work", work)
    surface_of(agent, did=backend.did, on_grant=backend.accept).mount(app)
    app.on_cleanup.append(lambda _: backend.close())
    backend.watch()
    return app


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tee_backend").setLevel("INFO")  # says when a grant was fetched
    web.run_app(main(), host="127.0.0.1", port=PORT, auto_decompress=False)
