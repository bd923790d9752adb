"""The HTTPS client of one run (RN102, RN109).

Example:
    async with Outbound() as outbound:
        client = RunClient(outbound, frozenset({"api.example.com"}))
        answer = await client.answer(message)
        client.contacted
"""

from serving.messages import pack_parts
from serving.outbound import Outbound, RequestRefused, parse_request


class RunClient:
    """An HTTPS client that may contact only the given hosts.

    Each run has its own client.
    """

    def __init__(self, outbound: Outbound, hosts: frozenset[str]) -> None:
        self._outbound = outbound
        self._hosts = hosts
        self._left = outbound.most_requests
        self._is_told = False  # whether the program was told that no requests are left
        self.contacted: set[str] = set()

    async def answer(self, message: bytes) -> bytes:
        """Check and send an HTTP request, and return the response.

        The result is an encoded response, or an encoded error code.

        Raises:
            EOFError: the child sends another request after `requests-exhausted` (RN109).
        """
        if self._is_told:
            raise EOFError
        try:
            if not self._left:  # each request costs the runner a connection (RN109)
                self._is_told = True
                raise RequestRefused("requests-exhausted")
            self._left -= 1
            request = parse_request(
                message, hosts=self._hosts, any_port=self._outbound.loopback_ca is not None
            )
            was_contacted = request.host in self.contacted
            # Noted before sending, because the run may end while the request is under way.
            self.contacted.add(request.host)
            try:
                return await self._outbound.send(request)
            except RequestRefused as refused:
                # RN110: a host whose name led nowhere, or inward, was not contacted
                if not was_contacted and refused.code in ("name-unknown", "address-refused"):
                    self.contacted.discard(request.host)
                raise
        except RequestRefused as refused:
            return pack_parts([refused.code.encode()])
