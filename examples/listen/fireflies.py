"""A stand-in for the service of the meetings: it answers whoever has its API key.

    python examples/listen/fireflies.py

The real service is https://api.fireflies.ai; the other programs know only its address and the form
of the request.
"""

import hmac
import os

from aiohttp import web

PORT = int(os.environ.get("PORT", "8070"))
KEY = os.environ.get("FIREFLIES_KEY", "a key of the service")
MEETINGS = [
    {"id": "1", "title": "Plan of the week"},
    {"id": "2", "title": "Interview with Ada"},
]


async def transcripts(request: web.Request) -> web.Response:
    """Answer with the meetings of the key's owner."""
    sent = request.headers.get("Authorization", "")
    if not hmac.compare_digest(sent.encode(), f"Bearer {KEY}".encode()):
        return web.json_response({"error": "this API key is not valid"}, status=401)
    return web.json_response(MEETINGS)


def main() -> web.Application:
    """Return the application."""
    app = web.Application()
    app.router.add_get("/transcripts", transcripts)
    return app


if __name__ == "__main__":
    web.run_app(main(), host="127.0.0.1", port=PORT)
