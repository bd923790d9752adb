"""The errors with which the node refuses a request: one class, with a stable code for each cause.

A code says what went wrong and nothing about HTTP. Status, title and hint of every code, of these
and of those that the packages below raise, are in one table: `node/http/messages/refusals.py`.
"""

from typing import Final

REFUSALS: Final = {
    # The framing of the body is broken, or it is no JSON.
    "not-readable": "",
    # There is no token where one is needed.
    "unauthenticated": "",
    # A request to the operator's routes does not bear the operator's secret.
    "operator-locked": "",
    # There is no such route, or no such method on it.
    "not-found": "",
    # A path of our own surface has other methods.
    "wrong-method": "",
    # No part of the body arrived for too long.
    "too-slow": "",
    # The body is longer than this route takes.
    "too-large": "",
    # The body is JSON of another shape.
    "wrong-shape": "",
    # A client exceeded its rate limit; it may try again when its bucket contains a token.
    "too-many-requests": "Rate limit exceeded",
    # The token is authorised, but this node does not offer the service it asks for.
    "not-enabled": "{} support is not enabled on this node",
    # The node has no operator's secret: its operator's routes are closed.
    "operator-absent": "",
    # A header is malformed, or asks for a condition or combination this call cannot have.
    "bad-option": "{}",
    # A nonce is not of the size or spelling that is signed or quoted, or there are two (AT40,
    # EN28).
    "bad-nonce": "{}",
    # The token was used before, in this spelling or another (I20, Q25).
    "duplicate-invocation": "duplicate invocation",
    # What was used under the token's last minute is not known: it was over (ST4, ST9), or is older
    # than a restore.
    "replay-unknown": (
        "duplicate invocation cannot be ruled out: by the clock of the node's store this token"
        " ended minutes ago, or the store was restored from a backup minutes ago; set the clocks of"
        " client and node, or wait, then sign a new one"
    ),
    # A space that the token mentions is not hosted here.
    "space-not-found": "Space not found",
    # There is no live value under the key.
    "key-not-found": "",
    # A delete names a key that was never written (M31).
    "no-such-key": "No Such Key: {}",
    # There is no live value; answered as a text, on routes whose callers know what they may read.
    "no-value": "Key not found",
    # The ticket of a signed URL is unknown, expired, or what it rests on was revoked; the message
    # says which.
    "ticket-refused": "{}",
    # The token is authorised, but holds nothing that covers the value its bearer asks a signed URL
    # for.
    "scope-refused": "signed URL scope is not authorized",
    # The space is not named `public` (U8).
    "not-public": "Not a public space",
    # A signed URL was made for another version of the value.
    "value-changed": "signed URL content hash does not match",
    # The current value is not the one that the caller's condition names.
    "precondition-failed": "KV precondition failed",
    # The space is full; clients read both numbers from the text (J8).
    "quota-exceeded": "Storage quota exceeded. Used: {} bytes, Limit: {} bytes",
    # The space would be full with this value, but takes a smaller one.
    "value-exceeds-quota": "Write exceeds remaining storage. Used: {} bytes, Limit: {} bytes",
    # The value is larger than the bound the caller set for the answer.
    "response-too-large": "KV response is {} bytes, exceeding the requested limit of {} bytes",
    # The values of a batch read are together larger than one answer may be.
    "batch-too-large": "KV batch read holds {} bytes, more than the {} bytes of one answer",
    # The request's body is larger than this node takes (Q2).
    "body-too-large": "KV value exceeds this node's limit of {} bytes",
    # The token of a status request for a delegation is not good; says nothing of any delegation
    # (wire 5.3).
    "status-token-refused": "Invalid status invocation",
    # The token asks about another delegation, or for more than a status (wire 5.3).
    "status-not-bound": "Status invocation is not bound to the requested CID",
    # The delegation asked about is named by a text that is no cid (wire 5.3).
    "status-cid-invalid": "Invalid delegation CID",
    # The token does not entitle its bearer to list an account's delegations, or the cursor is not
    # one of them.
    "query-refused": "Delegation query proof is not authorized",
    # A member of the body of `/delegation/query` is not what it has to be.
    "bad-query": "Invalid delegation query: {}",
    # A delegation is named by a text that is no cid (wire 4.5).
    "bad-delegation-cid": "Invalid delegation CID: {}",
    # A space cannot have this name.
    "bad-space-name": "Invalid space name",
    # A space of this name is hosted already.
    "space-exists": "Space already exists",
    # The node's hosting mode, a bound of it or its rule on names keeps the space from being made.
    "space-not-made": "Space cannot be hosted here",
    # A member is missing, of another type, too long or not canonical.
    "request-malformed": "",
    # The token holds something other than one capability and one fact that bind it to this request.
    "session-not-bound": "",
    # The nonce was used before.
    "challenge-used": "",
    # There is no such network on this node.
    "network-unknown": "",
    # There is no document with this digest.
    "document-unknown": "",
    # Another caller than the owner in person tries to write the owner's policy.
    "policy-not-in-person": "",
    # The node has no collateral for the platform that made the quote.
    "collateral-missing": "",
    # As many quotes wait as may.
    "quotes-busy": "",
    # As many wait as may.
    "own-quotes-busy": "too many wait for a quote",
    # The platform made no quote.
    "own-quote-failed": "quote generation failed: {}",
}
"""The message of each refusal, by its code: the exact body on the wire where the table says so. No
message has a secret; it names bounds and what the caller sent."""


class Refusal(Exception):
    """A request is refused."""

    def __init__(
        self, code: str, *about: object, hint: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(REFUSALS[code].format(*about) or code)
        self.code = code
        self.about = about
        self.hint = hint
        self.retry_after_s = retry_after_s
