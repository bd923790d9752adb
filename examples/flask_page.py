"""A web page that signs a text with the secret API_KEY, read from a node at each request.

    sealspace serve --data ./data              # in another terminal
    sealspace login http://127.0.0.1:8000 --new
    sealspace secret put API_KEY
    flask --app examples/flask_page.py run     # then: curl 'http://127.0.0.1:5000/sign?text=hello'

The page uses the session of that login, which ends after a week. In production, give the page its
own wallet.
"""

import hashlib
import hmac
import os
from pathlib import Path

from flask import Flask, Response, request

from sealspace.sync import Client, SealspaceError, load_session

NODE = os.environ.get("SEALSPACE_NODE", "http://127.0.0.1:8000")
HOME = Path(os.environ.get("SEALSPACE_HOME", Path.home() / ".sealspace"))

app = Flask(__name__)
# One client for all threads. It connects at the first request of a page.
client = Client(NODE, session=load_session(HOME / "session.json"))


@app.get("/sign")
def sign() -> str:
    """Return the HMAC of a text. The key is read each time, so a new value takes effect at once."""
    key = client.secrets().get_text("API_KEY")
    return hmac.digest(key.encode(), request.args.get("text", "").encode(), hashlib.sha256).hex()


@app.errorhandler(SealspaceError)
def unavailable(error: SealspaceError) -> Response:
    """Log the error, whose message never contains a value, and show no details to the visitor."""
    app.logger.error("%s: %s", error.code, error)
    return Response("try again later", status=503)
