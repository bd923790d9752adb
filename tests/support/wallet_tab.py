"""The page of `sealspace login --browser` without a browser: its requests and answers, and a wallet
with a real key.

Example:
    tab = WalletTab(url, wallet)
    await asyncio.to_thread(tab.serve)  # answers whatever the command asks, until it ends
"""

import http.client
import json
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from patience import PATIENCE_S

from capabilities.principals import eip55
from capabilities.signatures import WalletSigner


class WalletTab:
    """A tab at the address that a command printed.

    Attributes:
        views: what it was shown, in order.
    """

    def __init__(self, url: str, wallet: WalletSigner) -> None:
        self.place = urlsplit(url)
        self.wallet = wallet
        self.name = secrets.token_hex(16)
        self.views: list[dict[str, Any]] = []
        self._version = 0

    @property
    def texts(self) -> list[str]:
        """Return the texts that the wallet was asked to sign."""
        return [view["text"] for view in self.views if view["kind"] == "sign"]

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Send a request below the token, or at a path that begins with a slash; None leaves a
        header out."""
        assert self.place.hostname is not None
        connection = http.client.HTTPConnection(
            self.place.hostname, self.place.port, timeout=PATIENCE_S
        )
        own: dict[str, str | None] = {"Host": self.place.netloc}
        if body is not None:
            own |= {
                "Origin": f"http://{self.place.netloc}",
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
            }
        try:
            target = path if path.startswith("/") else self.place.path + path
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in (own | dict(headers or {})).items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.headers)
        finally:
            connection.close()

    def next(self) -> dict[str, Any]:
        """Wait for the next view."""
        status, view = self.post()
        assert status == 200, (status, view)
        if view["version"] != self._version:
            self._version = view["version"]
            self.views.append(view)
        return view

    def post(self, **said: Any) -> tuple[int, dict[str, Any]]:
        """Ask for the next view, or send an answer to the last one. None cancels."""
        body = json.dumps({"tab": self.name, "version": self._version, **said}).encode()
        status, answer, _ = self.ask("POST", "", body=body)
        return status, json.loads(answer)

    def connect(self) -> tuple[int, dict[str, Any]]:
        """Send the wallet's account."""
        return self.post(
            answer={"address": eip55(self.wallet.address).lower(), "chainId": self.wallet.chain_id}
        )

    def sign(self, view: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Sign the text of a view with the wallet."""
        return self.post(answer={"signature": self.wallet.sign_eip191(view["text"]).hex()})

    def serve(self) -> dict[str, Any]:
        """Answer every view until the command ends; return the last view."""
        while True:
            view = self.next()
            if view["kind"] == "connect":
                assert self.connect()[0] == 200
            elif view["kind"] == "sign":
                assert self.sign(view)[0] == 200
            elif view["kind"] in ("done", "failed"):
                return view
