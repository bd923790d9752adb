"""Exceptions raised by the SDK.

    SealspaceError
    ├── InvalidInput                   an argument breaks a rule; nothing was sent
    │   ├── InvalidSecretName
    │   ├── InvalidSecretScope
    │   ├── InvalidSecretValue         neither text nor bytes, or too long
    │   ├── InvalidKeystore
    │   ├── WrongPassword
    │   ├── InvalidNetworkId
    │   ├── InvalidPolicy
    │   ├── InvalidPortableDelegation
    │   ├── InvalidSession
    │   ├── InvalidShare               a share of a key is mistyped, damaged or of another set
    │   ├── SharesMissing              fewer shares of a key than are needed (missing)
    │   └── ManifestInvalid            (faults)
    ├── ClientNotReady                 calls in the wrong order; a RuntimeError too
    │   ├── NotSignedIn
    │   └── ClientClosed
    ├── NotGranted                     the session lacks a right; nothing was sent (missing)
    ├── NotShared                      a secret is not shared, or does not exist
    ├── NotAMember                     somebody is not a member of a team, or not an admin
    ├── SuccessionInvalid              the statements do not prove that a team has moved
    ├── InvitationInvalid              an invitation is altered, used, withdrawn, or has ended
    ├── NoSuchContact                  the owner gave this name to no DID
    ├── ContactsInvalid                the list of contacts was not made by its owner
    ├── SessionExpired
    ├── LifetimeTooLong                the requested lifetime is too long (asked_s, possible_s)
    ├── NodeEvidenceRefused            the node's evidence was rejected (reason)
    ├── SpacesNotHosted                the node does not host a requested space (spaces)
    ├── TransportError                 no usable answer arrived
    │   ├── NodeUnreachable
    │   ├── NodeTimeout
    │   ├── TransferBroken             a transfer was cut off or damaged (moved_bytes)
    │   ├── ResponseTooLarge
    │   ├── MalformedAnswer
    │   └── NodeMismatch               not the pinned node, or another protocol version
    ├── NodeRefused                    the node answered with an error (status, text)
    │   ├── Unauthorized               401 or 403
    │   │   ├── ActionNotAuthorized    no grant covers the request (resource, action)
    │   │   ├── DelegationRevoked      a delegation in the chain was revoked (cid)
    │   │   ├── OwnerMoved             the owner has another wallet (owner, successor)
    │   │   ├── TokenOutsideWindow     expired, not yet valid, or valid for too long
    │   │   └── ReleaseRefused         the node does not release the key (reason)
    │   ├── AttestationRefused         the node rejected a quote or a nonce (problem)
    │   ├── NotFound                   404
    │   │   └── SpaceNotFound          the node does not host the space
    │   ├── DuplicateRequest           409: the token was used before
    │   ├── PreconditionFailed         412, or a concurrent write won
    │   ├── QuotaExceeded              402
    │   ├── SqlRefused                 a statement is not valid, not allowed, failed, or too large
    │   ├── ValueTooLarge              413
    │   ├── RateLimited                429
    │   └── NodeFailure                5xx
    │       └── StoreFull              507: no disk space left at the node
    ├── BatchIncomplete                some writes succeeded, then one failed (done, left)
    ├── BackendError                   a backend cannot be trusted with a grant (problem)
    │   ├── BackendUnreachable
    │   ├── BackendAnswerInvalid       truncated, too long, or malformed
    │   ├── BackendNotProven           its evidence is not valid (problem)
    │   ├── CollateralNeeded           no current collateral to verify its quote (problem)
    │   ├── BackendNotExpected         it runs other code than expected
    │   ├── BackendNotAcceptable       the node would reject its evidence (problem)
    │   ├── GrantNotTaken              it did not accept a grant
    │   └── GrantsFull                 it has no room for another grant
    ├── ReceiptInvalid                 a receipt, or a document that it names, is not valid
    ├── StatementInvalid               a signed statement is not valid
    ├── ProvenanceInvalid              the origin of a program is not proven (claim)
    ├── DatasetInvalid                 an encrypted data set or its key is not valid
    ├── CallRefused                    a call to a runner is not authorised
    ├── RecoveredKeyMismatch           shares give another key than the stated owner's
    ├── ReplicaError                   a local copy cannot be used
    │   ├── SourceChanged              it is of another node, space or prefix
    │   ├── ReplicaExpired             the right to read it has ended
    │   ├── ReplicaRevoked             the right to read it was revoked
    │   ├── ReplicaCorrupt             its file was changed, or is of another version
    │   ├── ReplicaInUse               another process uses it
    │   ├── ReplicaUnusable            its folder or disk does not allow it
    │   ├── ReplicaFull                more bytes than were allowed
    │   ├── ReplicaIncomplete          the value is not stored yet
    │   └── ClockWentBack              the time is before the last one seen
    └── EncryptionError
        ├── NetworkNotFound
        ├── NetworkNotActive           (state)
        ├── NetworkKeyChanged          not the key that the session pinned (pinned, offered)
        ├── DescriptorUnsigned         the node did not sign the network's key
        ├── InvalidEnvelope
        ├── LabelMismatch              the envelope belongs to another path
        ├── PlaceMismatch              the value belongs to another place
        ├── UnboundValue               the value does not state its place
        ├── DecryptDenied              the node does not release the key (refusal)
        ├── InvalidResponse
        ├── ResponseBindingMismatch    (field)
        ├── ResponseSignatureInvalid
        └── InvalidSecretPayload

Every class has a stable `code`, such as `not-found`, by which programs tell errors apart.
`str(error)` is `message; next: hint`: what failed, why, and what to do. `step` is the hint for a
person at a command line. Notes (`__notes__`) give the context, such as the request id at the node
or the name of the secret. No text contains a token, a key or a secret value.

Example:
    try:
        await client.kv().get("todo/1")
    except NotFound as error:
        print(error.message, error.hint, sep="\\n")
"""

from typing import TYPE_CHECKING

from capabilities.frozen import frozen

from ._node_errors import *  # noqa: F403  # classes of the tree above
from ._node_errors import SealspaceError as SealspaceError

if TYPE_CHECKING:  # a program that only maps errors loads no tokens for them
    from capabilities.tokens import Capability


class InvalidInput(SealspaceError):
    """An argument is invalid.

    No request was sent.
    """

    code = "invalid-input"
    default_hint = "correct the argument named in the message; nothing was sent"


class InvalidSecretName(InvalidInput):
    """The name of a secret is invalid.

    Names match `^[A-Z][A-Z0-9_]*$`.
    """

    code = "invalid-secret-name"
    default_hint = "use capital letters, digits and underscores, beginning with a letter: API_KEY"
    default_step = (
        "for a secret in a scope, write API_KEY --scope prod, not prod/API_KEY; a name has capital"
        " letters, digits and underscores, and begins with a letter"
    )


class InvalidSecretScope(InvalidInput):
    """The scope of a secret is invalid.

    The scope is empty or reserved, or contains no usable character.
    """

    code = "invalid-secret-scope"
    default_hint = (
        "use letters, digits and dashes, but not `default` or `global`; for a global secret, leave"
        " the scope out"
    )


class InvalidSecretValue(InvalidInput):
    """The value of a secret cannot be stored.

    The value is neither text nor bytes, is too long, or cannot be written as UTF-8.
    """

    code = "invalid-secret-value"
    default_hint = "pass text or bytes; convert anything else to text, as with json.dumps(value)"
    default_step = "store text or bytes, at most 1 MiB"


class InvalidKeystore(InvalidInput):
    """The file is not a usable Web3 keystore (version 3).

    Also raised if opening the file would take too much time or memory.
    """

    code = "invalid-keystore"
    default_hint = (
        "export the key again as a version 3 keystore file (scrypt or pbkdf2, aes-128-ctr)"
    )


class WrongPassword(InvalidInput):
    """The password does not open the keystore file.

    The password is wrong, or the file was altered.
    """

    code = "wrong-password"
    default_hint = (
        "type the password again; if it is right, the file is damaged: export the key again"
    )


class InvalidNetworkId(InvalidInput):
    """The id of an encryption network is invalid."""

    code = "invalid-network-id"
    default_hint = "use the owner's DID and a name of lower-case letters, digits and dashes"


class InvalidPolicy(InvalidInput):
    """The attestation policy is invalid.

    A node cannot apply the policy.
    """

    code = "invalid-policy"
    default_hint = "correct the part of the policy named in the message"


class InvalidPortableDelegation(InvalidInput):
    """The portable delegation is invalid or has expired.

    Also raised if the delegation is for another key.
    """

    code = "invalid-portable-delegation"
    default_hint = "ask the owner to send the complete delegation again"
    default_step = "ask the sender for the original file, or for a new delegation"


class InvalidSession(InvalidInput):
    """The session cannot be saved or loaded."""

    code = "invalid-session"
    default_hint = "sign in again and store the new session"


class InvalidShare(InvalidInput):
    """A share of a key is mistyped, damaged, or of another set.

    The message contains no word of the share.
    """

    code = "invalid-share"
    default_hint = "compare every word with the written share, and correct it"


class SharesMissing(InvalidInput):
    """Fewer shares of a key were given than are needed.

    Attributes:
        missing: how many more are needed; 1 also if no share was given, which states the number.
    """

    code = "shares-missing"
    default_hint = "add shares of the same set"

    def __init__(self, message: str, *, missing: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.missing = missing


@frozen
class Fault:
    """An error in an app manifest.

    Attributes:
        path: the member: `permissions[0].actions[1]`, `secrets.API_KEY.scope`; "" is the manifest.
        detail: what is wrong with the member; never contains a text that could be a secret's value.
    """

    path: str
    detail: str

    @property
    def text(self) -> str:
        """The error's message and location in the manifest.

        The location is left out if the detail contains it already.
        """
        if not self.path or self.path in self.detail:
            return self.detail
        return f"{self.detail} (at {self.path})"


class ManifestInvalid(InvalidInput):
    """The app manifest is invalid.

    The message and `faults` name the invalid JSON members.
    """

    code = "manifest-invalid"
    default_hint = "correct the member of the manifest named in the message"
    default_step = "correct the manifest, then run: sealspace manifest check FILE"
    faults: tuple[Fault, ...] = ()


class ClientNotReady(SealspaceError, RuntimeError):
    """The client is not in the right state for this call."""

    code = "client-not-ready"
    default_hint = "make the missing call named in the message first"


class NotSignedIn(ClientNotReady):
    """The client is not signed in."""

    code = "not-signed-in"
    default_hint = "call `client.sign_in(wallet)` first, or create the client with a session"
    default_step = "sealspace login"


class ClientClosed(ClientNotReady):
    """The client is closed."""

    code = "client-closed"
    default_hint = (
        "create a new client with the same session, or make the call inside the `with` block"
    )


class NotGranted(SealspaceError):
    """The session does not have the rights for this request.

    No request was sent.

    Attributes:
        missing: the capabilities that the session lacks; see `sealspace.apps.escalation`.
    """

    code = "not-granted"
    default_hint = (
        "for an own space, sign in with `SignIn(spaces=…)`; otherwise accept a delegation that"
        " includes this right"
    )
    default_step = (
        "for your own space, run: sealspace login --space NAME; for another owner's space, ask the"
        " owner for a grant, then run: sealspace grant accept FILE"
    )

    def __init__(
        self,
        message: str,
        *,
        missing: "tuple[Capability, ...]" = (),
        hint: str | None = None,
        step: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, step=step)
        self.missing = missing


class NotShared(SealspaceError):
    """A secret is not shared with this person, or does not exist."""

    code = "not-shared"
    default_hint = "ask the owner; if several teams are named, pass one, or '' for you alone"
    default_step = (
        "ask the owner; if several teams are named, choose one with --from DID/TEAM, or those for"
        " you alone with --from DID/; if the owner uses another node, use --from FILE"
    )


class NotAMember(SealspaceError):
    """Somebody is not a member of a team, or not one of its admins."""

    code = "not-a-member"
    default_hint = (
        "ask an admin of the team for a membership; `client.teams.memberships()` lists yours"
    )
    default_step = (
        "ask an admin of the team for an invitation; to list your teams: sealspace team list; if"
        " the team is at another node, log in there with a folder of its own: sealspace login URL"
        " --home DIR --key-file FILE; for your own secrets, add --as me"
    )


class InvitationInvalid(SealspaceError):
    """An invitation to a team is altered, was used or withdrawn, or has ended."""

    code = "invitation-invalid"
    default_hint = "ask an admin of the team for a new invitation, and copy the whole line"


class SuccessionInvalid(SealspaceError):
    """The statements by which a team moves to another wallet are altered or incomplete."""

    code = "succession-invalid"
    default_hint = (
        "do not use the new DID: ask an admin of the team in person what it is, and for a new line"
    )


class NoSuchContact(SealspaceError):
    """The owner has no contact of this name."""

    code = "no-such-contact"
    default_hint = "list the names with `client.contacts.list()`"
    default_step = "sealspace contact list"


class ContactsInvalid(SealspaceError):
    """The list of contacts is not one that its owner made, or is an older one.

    It is malformed, or has an invalid signature. No name of it is used.
    """

    code = "contacts-invalid"
    default_hint = (
        "name people by their DIDs, and ask the node's operator who changed the value"
        " `vault/contacts` of your space `default`"
    )
    default_step = (
        "write DIDs instead of names, and ask the node's operator who changed the list; to begin a"
        " new one: sealspace kv delete vault/contacts --space default, and delete the file"
        " contacts.json in your folder ~/.sealspace"
    )


class SessionExpired(SealspaceError):
    """The session or a required grant has expired.

    Also raised if it expires within a minute.
    """

    code = "session-expired"
    default_hint = "sign in again"
    default_step = "sealspace login"


class LifetimeTooLong(SealspaceError):
    """The requested lifetime is longer than allowed.

    Nothing was issued.

    Attributes:
        asked_s: the requested lifetime, seconds.
        possible_s: the longest possible lifetime, seconds.
    """

    code = "lifetime-too-long"
    default_hint = (
        "request a shorter lifetime, pass `at_most=True` to accept the longest possible one, or"
        " sign in for longer"
    )
    default_step = "request a shorter lifetime, or log in for longer: sealspace login --expires 30d"

    def __init__(self, what: str, *, asked_s: float, possible_s: float) -> None:
        super().__init__(
            f"{what} cannot be valid for {asked_s:.0f} s: the longest possible lifetime is"
            f" {max(0, int(possible_s))} s"
        )
        self.asked_s = asked_s
        self.possible_s = possible_s


class BatchIncomplete(SealspaceError):
    """A batch failed after some of its writes were committed.

    `__cause__` is the failure.

    Attributes:
        done: the keys that are durably written or deleted.
        left: the other keys; the failed commit may or may not have changed some of them.
    """

    code = "batch-incomplete"
    default_hint = "fix the cause, then repeat the call for the keys in `left`"
    default_step = "fix the cause, then run the same command again"

    def __init__(
        self, cause: SealspaceError, *, done: tuple[str, ...], left: tuple[str, ...]
    ) -> None:
        super().__init__(
            f"{len(done)} of {len(done) + len(left)} keys are done, then one write failed:"
            f" {cause.message}"
        )
        self.done = done
        self.left = left


class BackendError(SealspaceError):
    """The base class of errors about backends.

    Attributes:
        problem: the stable name of the problem; "" if it has none.
    """

    code = "backend"
    default_hint = "do not grant anything to this backend until the cause is known"

    def __init__(self, message: str, *, problem: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problem = problem


class BackendUnreachable(BackendError):
    """The connection to the backend failed.

    The connection was refused or interrupted, or timed out.
    """

    code = "backend-unreachable"
    default_hint = "check the address and that the backend is running, then try again"


class BackendAnswerInvalid(BackendError):
    """The backend's response is invalid.

    The response is truncated, oversized or malformed.
    """

    code = "backend-answer-invalid"
    default_hint = "try again; if it fails again, check the address with the backend's operator"


class BackendNotProven(BackendError):
    """The backend's attestation evidence is invalid.

    The quote, the event log or the report data is not valid.

    Attributes:
        problem: the stable name of the problem, the same as at a node: `report-data`,
            `td-attributes`, …
    """

    code = "backend-not-proven"
    default_hint = "do not grant; ask the backend's operator why its evidence is not valid"


class CollateralNeeded(BackendError):
    """Attestation collateral is missing or outdated.

    The collateral is needed to verify a backend's quote.

    Attributes:
        problem: the stable name of the problem: `collateral-missing`, `collateral-window`, …
    """

    code = "collateral-needed"
    default_hint = "get current collateral for the platform family, then try again"


class BackendNotExpected(BackendError):
    """The backend runs different code than expected.

    The evidence of the backend is valid.
    """

    code = "backend-not-expected"
    default_hint = (
        "do not grant; find out what changed, and expect the new values only if the change is right"
    )


class BackendNotAcceptable(BackendError):
    """The node does not accept the backend's evidence.

    A grant to the backend would be useless.

    Attributes:
        problem: the reason for which the node would reject it: `tcb_status`, `advisory`, …
    """

    code = "backend-not-acceptable"


class GrantNotTaken(BackendError):
    """The backend did not accept the grant.

    The node has registered the grant, so the grant is active.
    """

    code = "grant-not-taken"
    default_hint = "deliver the grant to the backend another way, or revoke it: it is still active"


class GrantsFull(BackendError):
    """The backend has reached its maximum number of grants.

    The maximum is for this owner or in total.
    """

    code = "grants-full"
    default_hint = (
        "revoke grants to this backend that are no longer needed, and wait until they have ended"
    )


class ReceiptInvalid(SealspaceError):
    """The receipt of a key release is invalid.

    The receipt or a cited document was altered, or belongs to another node or release.
    """

    code = "receipt-invalid"
    default_hint = "fetch it again; if it fails again, keep both copies and ask the node's operator"


class StatementInvalid(SealspaceError):
    """The signed statement is invalid.

    The statement is malformed, or has an invalid signature, type or signer.
    """

    code = "statement-invalid"
    default_hint = "ask the signer to publish the statement again"


class ProvenanceInvalid(SealspaceError):
    """The provenance of a program is invalid, or names another origin than the wanted one.

    Attributes:
        claim: the stable name of the check that failed first: `bundle`, `root`, `signature`,
            `statement`, `digest`, `issuer`, `signer`, `environment`, `trigger`, `repository`,
            `repository-id`, `ref`, `commit`, `config` or `workflow`.
    """

    code = "provenance-invalid"
    default_hint = "compare the options; do not use this program until the cause is known"

    def __init__(self, message: str, *, claim: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.claim = claim


class DatasetInvalid(SealspaceError):
    """The encrypted data set or its key is invalid.

    For example, the file was cut off, or the key is another one.
    """

    code = "dataset-invalid"
    default_hint = "encrypt the data set again: sealspace dataset encrypt FILE"


class CallRefused(SealspaceError):
    """The runner refused the call.

    For example, the token of the call is for another program.
    """

    code = "call-refused"
    default_hint = "sign a new call for this runner, this program and this body; each serves once"


class RecoveredKeyMismatch(SealspaceError):
    """Shares give a key that is not the stated owner's.

    The passphrase is wrong or missing, or the shares are of another owner.
    """

    code = "recovered-key-mismatch"
    default_hint = (
        "give the passphrase with which the shares were made, and compare the owner's DID with the"
        " shares"
    )


__all__ = [
    name
    for name, value in globals().items()
    if isinstance(value, type) and issubclass(value, SealspaceError)
]
for _name in __all__:
    globals()[_name].__module__ = __name__  # tracebacks show the public module, not the private one
