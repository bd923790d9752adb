"""A backend for Intel TDX that proves its code, accepts a grant, and uses a secret.

    python notes.py                      # in a dstack application
    QUOTES=tsm python notes.py           # in a bare TDX guest, as root: quotes of the kernel
    QUOTES=agent.sock python notes.py    # with a guest agent on another socket, or a simulated one

`SEALSPACE_NODE` is the address of the node, `SEALSPACE_DATA` a folder for grants (default:
`notes-data`), and the backend listens on `HOST` and `PORT`.
"""

import logging
import os
from pathlib import Path

from aiohttp import web

from sealspace import SealspaceError
from tee_backend.backend import Backend
from tee_backend.backend.key import KeyFile
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.dstack import DstackSource
from tee_backend.evidence.source import EvidenceSource, KeySource
from tee_backend.evidence.tsm import TsmSource

NODE = os.environ.get("SEALSPACE_NODE", "http://127.0.0.1:8000")
DATA = Path(os.environ.get("SEALSPACE_DATA", "notes-data"))
QUOTES = os.environ.get("QUOTES", "dstack")
HOST = os.environ.get("HOST", "127.0.0.1")
PORT = int(os.environ.get("PORT", "8080"))
MANIFEST = {
    "app_id": "com.example.notes",
    "name": "Notes",
    "defaults": False,
    "secrets": {"API_KEY": True},
}


def machine() -> tuple[EvidenceSource, KeySource]:
    """Return the sources of quotes and of the backend's key."""
    if QUOTES == "tsm":
        # The kernel has no key service. The operator of the disk can copy this file.
        return TsmSource(), KeyFile(DATA / "backend.key")
    agent = DstackSource.find() if QUOTES == "dstack" else DstackSource(Path(QUOTES))
    return agent, agent


async def main() -> web.Application:
    """Return the application: it publishes evidence, accepts grants, and works with the secret."""
    quotes, keys = machine()
    backend = Backend.open(NODE, quotes, folder=DATA, keys=keys)

    async def work(request: web.Request) -> web.Response:
        try:
            api_key = await backend.read_secret(request.query["owner"], "API_KEY")
        except SealspaceError as error:
            return web.Response(status=403, text=f"{error}\n")
        return web.Response(text=f"worked with a key of {len(api_key)} characters\n")

    app = web.Application()
    app.router.add_get("/work", work)
    BackendSurface(quotes, did=backend.did, manifest=MANIFEST, on_grant=backend.accept).mount(app)
    app.on_cleanup.append(lambda _: backend.close())
    backend.watch()
    return app


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tee_backend").setLevel("INFO")  # says when a grant was fetched
    web.run_app(main(), host=HOST, port=PORT, auto_decompress=False)
