"""The error codes for refusing requests, and the exception that carries one.

A code states the cause and is independent of HTTP. One table, `node/http/messages/refusals.py`,
gives the status, title and hint for every code, including those that lower packages raise.
"""

REFUSALS = {
    # The body's framing is broken, or it is not JSON.
    "not-readable": "",
    # The request needs a token and has none.
    "unauthenticated": "",
    # A request to the operator's routes lacks the operator's secret.
    "operator-locked": "",
    # The route does not exist, or does not accept this method.
    "not-found": "",
    # One of the node's own paths (not TinyCloud's) does not accept this method.
    "wrong-method": "",
    # The client stopped sending its body for too long.
    "too-slow": "",
    # The body is longer than this route accepts.
    "too-large": "",
    # The body is JSON, but lacks a required member or has one of the wrong type.
    "wrong-shape": "",
    # The client exceeded its rate limit; it may retry once its bucket contains a token.
    "too-many-requests": "Rate limit exceeded",
    # Requests of the client's address decoded many bytes of delegations in the last minute (D34).
    "decoding-rate": (
        "requests of this client address read very large or very many delegations in the last"
        " minute, and this one would read more; next: wait, and cite fewer or smaller delegations"
    ),
    # The token is authorised, but this node does not offer the requested service.
    "not-enabled": "{} support is not enabled on this node",
    # No operator's secret is configured, so the operator's routes are disabled.
    "operator-absent": "",
    # A header is malformed, or requests a condition or combination that this call does not support.
    "bad-option": "{}",
    # A nonce has a wrong length or encoding, or the request contains two (AT40, EN28).
    "bad-nonce": "{}",
    # The token was used before, in this encoding or another (I20, Q25).
    "duplicate-invocation": "duplicate invocation",
    # The replay records for the token's expiry minute were deleted (ST4, ST9) or predate a restore,
    # so the node cannot tell whether the token was used before.
    "replay-unknown": (
        "duplicate invocation cannot be ruled out: by the clock of the node's store this token"
        " ended minutes ago, or the store was restored from a backup minutes ago; set the clocks of"
        " client and node, or wait, then sign a new one"
    ),
    # The store was restored a moment ago. A token that expires this soon may have been used before
    # (BK5).
    "restored-recently": (
        "the node was restored from a backup, and cannot yet tell new requests from repeated ones:"
        " try again in {} s"
    ),
    # The token mentions a space that this node does not host.
    "space-not-found": "Space not found",
    # The key has no live value.
    "key-not-found": "",
    # A delete names a key that was never written (M31).
    "no-such-key": "No Such Key: {}",
    # The version of the value was never written, or is not kept any more (M56).
    "version-not-found": "version {} is not kept (kept: {})",
    # Only the owner in person may read or remove versions (M58).
    "versions-not-in-person": "versions are for the owner in person",
    # The key has no live value; the plain-text answer of public values and signed URLs.
    "no-value": "Key not found",
    # A signed URL's ticket is unknown or expired, or a delegation that it depends on was revoked;
    # the message says which.
    "ticket-refused": "{}",
    # The token is authorised, but none of its capabilities covers the value to sign a URL for.
    "scope-refused": "signed URL scope is not authorized",
    # The space is not named `public` (U8).
    "not-public": "Not a public space",
    # The signed URL was made for another version of the value.
    "value-changed": "signed URL content hash does not match",
    # The current value does not match the caller's precondition.
    "precondition-failed": "KV precondition failed",
    # The cursor of a change feed is not for this feed, or its position is not in this store.
    # Clients read the reason from the text, which is JSON.
    "sync-reset": '{{"error":{{"code":"RESET_REQUIRED","reason":"{}"}}}}',
    # The retention grant that a call of a change feed names does not allow to keep its values.
    "retention-refused": '{{"error":{{"code":"RETENTION_GRANT_REFUSED","reason":"{}"}}}}',
    # The space is full; clients read both numbers from the text (J8).
    "quota-exceeded": "Storage quota exceeded. Used: {} bytes, Limit: {} bytes",
    # The value does not fit into the space; a smaller one would.
    "value-exceeds-quota": "Write exceeds remaining storage. Used: {} bytes, Limit: {} bytes",
    # The value is larger than the caller's limit for the response.
    "response-too-large": "KV response is {} bytes, exceeding the requested limit of {} bytes",
    # The values of a batch read exceed the limit for one response.
    "batch-too-large": "KV batch read holds {} bytes, more than the {} bytes of one answer",
    # The request body exceeds this node's limit (Q2).
    "body-too-large": "KV value exceeds this node's limit of {} bytes",
    # The owner retires the version of the network's key to which the value is sealed (EN38).
    "key-retiring": (
        "the value is sealed to version {} of the network's key, which is retired; seal it to"
        " version {}"
    ),
    # A writer, or all writers but the owner, added too many rows of content keys (ST22).
    "key-rows-full": (
        "{} may add {} bytes of rows of content keys to this space, one row for each new encrypted"
        " value; its owner can still store this one"
    ),
    # Below the folder of an invitation to a team, only small answers are stored (TM24).
    "answer-refused": (
        "the answers to an invitation are {}, of at most {} bytes each, and not encrypted: {}"
    ),
    # The token of a delegation status request is invalid. The message reveals nothing about any
    # delegation (wire 5.3).
    "status-token-refused": "Invalid status invocation",
    # The token is for another delegation, or requests more than a status (wire 5.3).
    "status-not-bound": "Status invocation is not bound to the requested CID",
    # The delegation in a status request is not given as a valid CID (wire 5.3).
    "status-cid-invalid": "Invalid delegation CID",
    # The token does not permit listing the account's delegations, or the cursor names none of them.
    "query-refused": "Delegation query proof is not authorized",
    # A member of the body of `/delegation/query` is unknown or invalid.
    "bad-query": "Invalid delegation query: {}",
    # A delegation states that it is a machine token, and is no valid one (MT2).
    "machine-token-refused": "Invalid machine token: {}",
    "membership-refused": "Invalid membership: {}",
    # The token's authority depends on a wallet that has moved to another one (TM18).
    "owner-moved": "Owner moved: {} is now {}",
    # No machine token is made for the ID token. The node's log has the reason. The audit log has it
    # for the first refusal of a token that is valid and for this node (OX5).
    "oidc-refused": "The ID token was refused",
    # A delegation is not given as a valid CID (wire 4.5).
    "bad-delegation-cid": "Invalid delegation CID: {}",
    # The name is not valid for a space.
    "bad-space-name": "Invalid space name",
    # The node already hosts a space of this name.
    "space-exists": "Space already exists",
    # The node's hosting mode, one of its limits or its rule for names forbids the space.
    "space-not-made": "Space cannot be hosted here",
    # A member is missing, has the wrong type, is too long or is not canonical.
    "request-malformed": "",
    # The token must contain exactly one capability and one fact that bind it to this request.
    "session-not-bound": "",
    # The challenge's nonce was used before.
    "challenge-used": "",
    # The operator is replacing the node's root secret, or has replaced it, and this process still
    # has the former one (RK4).
    "root-secret-replaced": (
        "the node's root secret was replaced; its operator must restart the node with the new one"
    ),
    # The encryption network does not exist on this node.
    "network-unknown": "",
    # No document with this digest is stored.
    "document-unknown": "",
    # The policy can only be written by the owner in person.
    "policy-not-in-person": "",
    # The node has no collateral for the quote's platform.
    "collateral-missing": "",
    # The queue of quotes to verify is full.
    "quotes-busy": "",
    # The queue for the node's own quotes is full.
    "own-quotes-busy": "too many wait for a quote",
    # The platform failed to make a quote.
    "own-quote-failed": "quote generation failed: {}",
    # The signature over the challenge is not that of the owner of the secret.
    "sms-unauthorized": "",
    # The owner has not granted this to the secret management service, or has revoked the grant.
    "sms-not-enabled": "",
    # The challenge was used before (SM12).
    "sms-challenge-used": "",
    # The name of a secret is not valid (X1.2).
    "sms-bad-name": "",
    # The secret has more bytes than the service accepts.
    "sms-too-large": "",
    # The secret is empty, blank or not UTF-8.
    "sms-not-text": "",
    # The secret exists, and may not be replaced.
    "sms-exists": "",
    # The secret to replace does not exist.
    "sms-absent": "",
    # None of the token's abilities for SQL is known.
    "sql-no-ability": "No supported sql capabilities found",
    # A PRAGMA needs the ability `tinycloud.sql/admin`; clients parse the text.
    "sql-admin-needed": "Unauthorized Action: {} / tinycloud.sql/admin",
    # The body of an SQL request exceeds its limit.
    "sql-too-large": "SQL request exceeds {} bytes",
    # The space has the maximum number of databases.
    "sql-too-many-databases": "Too many databases in this space",
    # Nothing was ever written to the database.
    "sql-no-database": "Database not found",
}
"""The message template of each refusal code; clients parse some of the messages.

A message contains limits and what the caller sent, never a secret.
"""


class Refusal(Exception):
    """Raised when the node refuses a request."""

    def __init__(
        self, code: str, *about: object, hint: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(REFUSALS[code].format(*about) or code)
        self.code = code
        self.about = about
        self.hint = hint
        self.retry_after_s = retry_after_s
