"""What can go wrong when a program uses a node, one class for each thing that can be wrong.

    SealspaceError
    ├── InvalidInput                    the caller's own argument breaks a rule; nothing was sent
    │   ├── InvalidSecretName
    │   ├── InvalidSecretScope
    │   ├── InvalidSecretValue          neither a text nor bytes
    │   ├── InvalidKeystore
    │   ├── WrongPassword
    │   ├── InvalidNetworkId
    │   ├── InvalidPolicy
    │   ├── InvalidPortableDelegation
    │   ├── InvalidSession
    │   └── ManifestInvalid             (faults)
    ├── ClientNotReady                  the client is not in the state that the call needs; a RuntimeError too
    │   ├── NotSignedIn
    │   └── ClientClosed
    ├── NotGranted                      no grant of the session covers the request; nothing was sent (missing)
    ├── SessionExpired
    ├── LifetimeTooLong                 what was asked for would end earlier (asked_s, possible_s)
    ├── NodeEvidenceRefused             the node's own evidence is not good enough (reason); no token was sent
    ├── SpacesNotHosted                 the node does not host a space that was signed in to (spaces)
    ├── TransportError                  no usable answer came
    │   ├── NodeUnreachable
    │   ├── NodeTimeout
    │   ├── TransferBroken              a value's bytes broke off on their way (moved_bytes)
    │   ├── ResponseTooLarge
    │   ├── MalformedAnswer
    │   └── NodeMismatch                the node is not the one that was pinned, or speaks another protocol
    ├── NodeRefused                     the node answered with an error (status, text)
    │   ├── Unauthorized                401 or 403
    │   │   ├── ActionNotAuthorized     the grant does not cover it (resource, action)
    │   │   ├── DelegationRevoked       a delegation in the chain was revoked
    │   │   ├── TokenOutsideWindow      the token or the delegation is not valid at this time
    │   │   └── ReleaseRefused          the release gate requires evidence that is missing or does not fit (reason)
    │   ├── AttestationRefused          the node did not accept a quote, a nonce or what came with them (problem)
    │   ├── NotFound                    404
    │   │   └── SpaceNotFound           the space is not hosted
    │   ├── DuplicateRequest            409, this token was used before
    │   ├── PreconditionFailed          412, or a lost race under a condition
    │   ├── QuotaExceeded               402
    │   ├── ValueTooLarge               413
    │   ├── RateLimited                 429
    │   └── NodeFailure                 5xx
    ├── BatchIncomplete                 some of several writes were done, and then one failed (done, left)
    ├── BackendError                    a backend, or what it says of itself, is not to be granted to
    │   ├── BackendUnreachable
    │   ├── BackendAnswerInvalid        its answer is cut off, too long, or of another shape
    │   ├── BackendNotProven            its evidence does not hold (problem)
    │   ├── CollateralNeeded            no collateral, or a stale one, to judge its quote by (problem)
    │   ├── BackendNotExpected          it runs other code than was expected
    │   ├── BackendNotAcceptable        the node would refuse it under the strict terms (problem)
    │   ├── GrantNotTaken               it did not take up a grant
    │   └── GrantsFull                  it holds as many grants as it can
    ├── ReceiptInvalid                  a receipt, or a document it names, is not what it says
    └── EncryptionError
        ├── NetworkNotFound
        ├── NetworkNotActive            (state)
        ├── NetworkKeyChanged           another key than this session used before (pinned, offered)
        ├── DescriptorUnsigned          the node did not sign what would be sealed to
        ├── InvalidEnvelope
        ├── LabelMismatch               the envelope was written for another place
        ├── DecryptDenied               wraps the refusal that came
        ├── InvalidResponse
        ├── ResponseBindingMismatch     (field)
        ├── ResponseSignatureInvalid
        └── InvalidSecretPayload

Every class has a stable `code`: its name in lower case, with dashes and without `Error`. The text
of an error says what was asked for, why it was not done, and what to do next; `message` and `hint`
are its two parts, and `step` is the hint for a person at a command line. Notes (`__notes__`) say
what surrounds it: the request's id at the node, the secret that was read. No text holds a token, a
key or a secret value.

Example:
    try:
        await client.kv().get("todo/1")
    except NotFound as error:
        print(error.message, error.hint, sep="\\n")
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._node_errors import *  # noqa: F403  # classes of the tree above
from ._node_errors import SealspaceError as SealspaceError

if TYPE_CHECKING:  # a program that only maps errors loads no tokens for them
    from capabilities.tokens import Capability


class InvalidInput(SealspaceError):
    """An argument breaks a rule; nothing was sent."""

    default_hint = "correct the argument that the message names; nothing was sent"


class InvalidSecretName(InvalidInput):
    """A secret's name does not match `^[A-Z][A-Z0-9_]*$`."""

    default_hint = "capitals, digits and underscores, a capital first: API_KEY"


class InvalidSecretScope(InvalidInput):
    """A secret's scope is empty, reserved, or nothing is left of it."""

    default_hint = (
        "a scope has letters, digits or dashes, and is neither default nor global; without one a"
        " secret is global"
    )


class InvalidSecretValue(InvalidInput):
    """A secret's value is neither a text nor bytes, is too long, or cannot be written as UTF-8."""

    default_hint = "a secret is a text or bytes; of anything else, json.dumps(value) makes a text"
    default_step = "store a text or bytes, at most 1 MiB"


class InvalidKeystore(InvalidInput):
    """A file is no Web3 keystore of version 3, or asks for more work than is allowed."""

    default_hint = (
        "export the key again, as a keystore file of version 3 (scrypt or pbkdf2, aes-128-ctr)"
    )


class WrongPassword(InvalidInput):
    """The password does not open a keystore, or the keystore was changed."""

    default_hint = (
        "type the password again; if it is right, the file is damaged: export the key again"
    )


class InvalidNetworkId(InvalidInput):
    """A text is not the id of an encryption network."""

    default_hint = "a DID of the owner and a name of lower-case letters, digits and dashes"


class InvalidPolicy(InvalidInput):
    """An attestation policy says something the node could not judge by."""

    default_hint = "correct the member of the policy that the message names"


class InvalidPortableDelegation(InvalidInput):
    """A portable delegation cannot be read, is for another key, or has expired."""

    default_hint = "ask the owner for the delegation again, as a whole file"
    default_step = "ask whoever gave it for the file as it was written, or for a new one"


class InvalidSession(InvalidInput):
    """A stored session cannot be read."""

    default_hint = "sign in again, and store the new session"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with a manifest.

    Attributes:
        path: the member: `permissions[0].actions[1]`, `secrets.API_KEY.scope`; "" for the whole.
        detail: what is wrong with it; never a word that could be a secret's value.
    """

    path: str
    detail: str

    @property
    def text(self) -> str:
        """The detail, with the path where the detail does not name it."""
        return (
            self.detail
            if not self.path or self.path in self.detail
            else f"{self.detail} (at {self.path})"
        )


class ManifestInvalid(InvalidInput):
    """An app manifest breaks a rule; the message and `faults` name the member."""

    default_hint = "correct what the message names"
    default_step = "correct it, then: sealspace manifest check FILE"
    faults: tuple[Fault, ...] = ()


class ClientNotReady(SealspaceError, RuntimeError):
    """The client is not in the state that the call needs: the program calls in the wrong order."""

    default_hint = "prepare the client first, as the message says"


class NotSignedIn(ClientNotReady):
    """No session is signed in."""

    default_hint = "call `client.sign_in(wallet)` first, or make the client with a session"
    default_step = "sealspace login"


class ClientClosed(ClientNotReady):
    """The client was closed; its connections are gone."""

    default_hint = (
        "make a new client with the same session, or keep the work inside the `with` block"
    )


class NotGranted(SealspaceError):
    """No grant of the session covers what was asked for (`missing`, see `escalation`); nothing was
    sent."""

    default_hint = (
        "sign in with it (own spaces: `SignIn(spaces=…)`), or take up a delegation that holds it"
    )
    default_step = (
        "for a space of yours: sealspace login --space NAME; for one of another owner, ask that"
        " owner for a grant, then: sealspace grant accept FILE"
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


class SessionExpired(SealspaceError):
    """The session's own delegation has ended, or ends within the minute."""

    default_hint = "sign in again"
    default_step = "sealspace login"


class LifetimeTooLong(SealspaceError):
    """What was asked for would end earlier than asked, because what it rests on does; it was not
    handed out.

    Attributes:
        asked_s: seconds that were asked for.
        possible_s: seconds that are possible at most.
    """

    default_hint = "ask for less, sign in for longer, or take what is possible with `at_most=True`"
    default_step = "ask for less, or log in for longer: sealspace login --days N"

    def __init__(self, what: str, *, asked_s: float, possible_s: float) -> None:
        super().__init__(
            f"{what} for {asked_s:.0f} s is not possible: it would end after"
            f" {max(0, int(possible_s))} s"
        )
        self.asked_s = asked_s
        self.possible_s = possible_s


class BatchIncomplete(SealspaceError):
    """Several writes did not fit into one commit; some were done, and then one failed. The cause is
    `__cause__`.

    Attributes:
        done: the keys that are written or deleted, durably.
        left: the keys of which nothing is known to have changed.
    """

    default_hint = "remove the cause, then repeat it for the keys in `left`"
    default_step = "remove the cause, then start the same command again"

    def __init__(
        self, cause: SealspaceError, *, done: tuple[str, ...], left: tuple[str, ...]
    ) -> None:
        super().__init__(
            f"of {len(done) + len(left)} keys {len(done)} are done, then: {cause.message}"
        )
        self.done = done
        self.left = left


class BackendError(SealspaceError):
    """A backend must not be granted to, as far as this client can judge.

    Attributes:
        problem: stable name of what is wrong, where one is known.
    """

    default_hint = "do not grant before the cause is known"

    def __init__(self, message: str, *, problem: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problem = problem


class BackendUnreachable(BackendError):
    """The connection to a backend failed, broke off or took too long."""

    default_hint = "check the address and that the backend is running, then ask again"


class BackendAnswerInvalid(BackendError):
    """The server is not a backend, or its answer is cut off, too long, or of another shape."""

    default_hint = "ask again; if it stays, ask the backend's operator whether this is its address"


class BackendNotProven(BackendError):
    """The evidence does not hold: quote, event log, or what they are bound to.

    Attributes:
        problem: stable name of what does not hold, as nodes name it: `report-data`,
            `td-attributes`, …
    """

    default_hint = "do not grant: ask the backend's operator why its evidence does not hold"


class CollateralNeeded(BackendError):
    """There is nothing current to judge the backend's platform by.

    Attributes:
        problem: stable name of what is wrong with it: `collateral-missing`, `collateral-window`, …
    """

    default_hint = "get current collateral for the platform family, then look again"


class BackendNotExpected(BackendError):
    """The evidence holds, and is about other code than was expected."""

    default_hint = (
        "do not grant: this is not the code you meant; find out what changed, and expect that if it"
        " is right"
    )


class BackendNotAcceptable(BackendError):
    """A grant on the strict terms would open nothing: the node would refuse this backend.

    Attributes:
        problem: what the node would refuse it for: `tcb_status`, `advisory`, `attributes`, …
    """


class GrantNotTaken(BackendError):
    """The backend did not take up a grant that is registered at the node."""

    default_hint = "the grant stands: hand it to the backend another way, or revoke it"


class GrantsFull(BackendError):
    """The backend holds as many grants of this owner, or in all, as it can, and something was read
    from each."""

    default_hint = (
        "revoke grants to it that are not needed any more, and wait until they have ended"
    )


class ReceiptInvalid(SealspaceError):
    """A receipt or a document is not what it says: changed, of another node, or of another
    release."""

    default_hint = "fetch it again; if it stays, keep both copies and ask the node's operator"


class StatementInvalid(SealspaceError):
    """A signed statement cannot be read, is of another type or signer, or its signature does not
    hold."""

    default_hint = "ask whoever signed it to publish it again"


class CallRefused(SealspaceError):
    """The caller did not show who it is, or not for this call; the text says why."""

    default_hint = "sign the call anew: for this runner, this program and this body, once"


__all__ = [
    name
    for name, value in globals().items()
    if isinstance(value, type) and issubclass(value, SealspaceError)
]
for _name in __all__:
    _class = globals()[_name]
    _class.__module__ = __name__  # a traceback names the module that programs import them from
    _class.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", _name.removesuffix("Error")).lower()
