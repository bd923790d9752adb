"""A client for the names that an owner gives to DIDs (SH9).

The list of names is one document in the owner's space `default`. It is sealed to the owner's
encryption network, and signed by a session key of the owner. So neither the node nor somebody who
may write to the space can put a name there.

Example:
    await client.contacts.add("alice", friend.session.did)
    assert await client.contacts.did("alice") == friend.session.did
    assert [contact.name for contact in await client.contacts.list()] == ["alice"]
"""

from collections.abc import Callable
from dataclasses import field

import msgspec

from capabilities.abilities import DECRYPT, KV_PUT
from capabilities.capability_errors import CapabilityError, InvalidJson
from capabilities.frozen import frozen
from capabilities.principals import Principal, same_principal
from capabilities.resources import SpaceId
from capabilities.sign_ins import is_session
from capabilities.strict_json import StrictRecord, parse_json, shaped
from capabilities.tokens import Delegation, parse_delegation, verify_delegation
from encryption_network.canonical_json import canonical_bytes
from encryption_network.envelope import parse_envelope
from encryption_network.network_errors import EncryptionError as NetworkLibraryError
from encryption_network.network_errors import InvalidCanonicalJson

from ..documents.contact_list import (
    Contact,
    ContactList,
    checked_name,
    contacts_statement,
    parse_contacts_statement,
)
from ..documents.secret_names import VAULT_PREFIX
from ..documents.signed_statements import (
    MAX_STATEMENT_BYTES,
    read_statement,
    sign_statement,
)
from ..encryption import Encryption, envelope_bytes
from ..errors import (
    ContactsInvalid,
    InvalidInput,
    InvalidResponse,
    LabelMismatch,
    NotFound,
    NotGranted,
    PreconditionFailed,
    StatementInvalid,
)
from ..kv import Kv, Value
from ..session import (
    Session,
    capability,
    covers,
    network_of_owner,
    space_capability,
    space_of,
)
from ..wire.caller import Caller

CONTACTS_SPACE = "default"
CONTACTS_PATH = f"{VAULT_PREFIX}contacts"
"""Sign-ins have every right on the space `default` already, so this needs no further right. It is
not below `vault/secrets/`, to which owners grant rights."""
STATEMENT_TYPE = "sealspace.contacts/v1"

MAX_RECORD_BYTES = 2 * MAX_STATEMENT_BYTES
"""Longest plaintext, bytes: the signed list and the sign-in of the key that signed it."""
_MAX_ENVELOPE_BYTES = 2 * MAX_RECORD_BYTES
_MOST_TRIES = 32
"""How often a change is tried while other machines change the list."""


class _Record(StrictRecord):
    """The plaintext of the document.

    Attributes:
        proof: the sign-in of the session key, as text; None: the owner's own key signed.
        signed: the signed statement.
    """

    proof: str | None
    signed: dict[str, object]


@frozen
class StoredContacts:
    """The list of contacts as it is stored.

    Attributes:
        found: the contacts.
        etag: version of the document; empty if there is none.
        record: the plaintext of the document, for `Contacts.start_from`; empty if there is none.
    """

    found: ContactList = ContactList()
    etag: str = ""
    record: bytes = field(default=b"", repr=False)


class Contacts:
    """A client that reads and changes the names that an owner gives to DIDs.

    Use `Client.contacts` to get an instance. Names are chosen by the owner alone, and are never
    taken from a grant, a page or a receipt.

    Args:
        caller: sends requests with the session's authority.
        encryption: the encryption service of the same client.
    """

    def __init__(self, caller: Caller, encryption: Encryption) -> None:
        self._caller = caller
        self._encryption = encryption
        self._known = StoredContacts()

    def start_from(self, known: StoredContacts) -> None:
        """Use a list that this program read before.

        Reading then takes one request if the list has not changed, and an older list is refused.
        """
        self._known = known

    @property
    def known(self) -> StoredContacts:
        """The list that this object read or stored last, or was started from."""
        return self._known

    async def read(self) -> StoredContacts:
        """Read the list of contacts, and verify the signature (SH9).

        Raises:
            ContactsInvalid: the document is not a list that the owner signed, or is older than the
                one that this object has read before.
            NotGranted, Unauthorized: the session may not read the document.
            DecryptDenied: the node does not release the key.
            SealspaceError: the same errors as `Kv.get` and `Encryption.decrypt`.
        """
        known = self._known
        try:
            if known.etag:
                value = await self._kv.get_if_changed(
                    CONTACTS_PATH, known.etag, max_bytes=_MAX_ENVELOPE_BYTES
                )
            else:
                value = await self._kv.get(CONTACTS_PATH, max_bytes=_MAX_ENVELOPE_BYTES)
        except NotFound:
            # Removing the last contact stores an empty list, so the document does not vanish.
            if known.found.serial:
                raise _outdated() from None
            return known
        if value is None:
            return known
        stored = await self._open_stored(value)
        # SH11: a node could return a list with the former DID of a name.
        if stored.found.serial < known.found.serial:
            raise _outdated()
        self._known = stored
        return stored

    async def list(self) -> tuple[Contact, ...]:
        """Return the contacts, ordered by name.

        Raises:
            SealspaceError: the same errors as `read`.
        """
        return (await self.read()).found.contacts

    async def did(self, name: str) -> Principal:
        """Return the DID of a name.

        Raises:
            NoSuchContact: there is no contact of this name.
            SealspaceError: the same errors as `read`.
        """
        return (await self.read()).found.did_of(checked_name(name))

    async def name(self, did: str) -> str | None:
        """Return the name of a DID, or None.

        Raises:
            SealspaceError: the same errors as `read`.
        """
        return (await self.read()).found.name_of(did)

    async def add(self, name: str, did: str) -> Contact:
        """Give a name to a DID.

        Args:
            name: 1 to 32 lower-case letters, digits, `-` and `_`, beginning with a letter. Words
                that commands take in the place of a DID, and names that look like a DID, are
                refused.
            did: DID of a wallet or a key.
        Raises:
            InvalidInput: the name or the DID is not valid or already in the list, or the list is
                full.
            NotGranted: the session is not a sign-in of the owner.
            PreconditionFailed: other programs changed the list with each try.
            SealspaceError: the same errors as `read`, `Encryption.encrypt` and `Kv.put`.
        """
        changed = await self._change(lambda contacts: contacts.with_contact(name, did))
        return Contact(name, changed.did_of(name))

    async def rename(self, name: str, new_name: str) -> Contact:
        """Give another name to a contact.

        Raises:
            NoSuchContact: there is no contact of this name.
            SealspaceError: the same errors as `add`.
        """
        changed = await self._change(lambda contacts: contacts.renamed(name, new_name))
        return Contact(new_name, changed.did_of(new_name))

    async def replace(self, name: str, former: str, did: str) -> Contact:
        """Give the name of a contact to another DID.

        Args:
            name: name of the contact.
            former: the DID that the contact has.
            did: the new DID.
        Raises:
            NoSuchContact: there is no contact of this name.
            InvalidInput: the contact has another DID than `former`, or for the same reasons as in
                `add`.
            SealspaceError: the same errors as `add`.
        """

        def edit(contacts: ContactList) -> ContactList:
            if not same_principal(contacts.did_of(name), former):
                raise InvalidInput(f"the contact {name} has another DID by now")
            return contacts.without(name).with_contact(name, did)

        changed = await self._change(edit)
        return Contact(name, changed.did_of(name))

    async def remove(self, name: str) -> None:
        """Remove a contact. Grants and shares stay as they are.

        Raises:
            NoSuchContact: there is no contact of this name.
            SealspaceError: the same errors as `add`.
        """
        await self._change(lambda contacts: contacts.without(name))

    async def _change(self, edit: Callable[[ContactList], ContactList]) -> ContactList:
        """Store an edited list, and try again if somebody else changed it meanwhile (SH12)."""
        tries = 0
        while True:
            stored = await self.read()
            changed = edit(stored.found)
            tries += 1
            try:
                await self._put(changed, stored.etag)
            except PreconditionFailed:
                if tries == _MOST_TRIES:
                    raise
            else:
                return changed

    async def _put(self, changed: ContactList, etag: str) -> None:
        """Sign, seal and store a list, if the stored one still has this version; "" for no list."""
        session = self._caller.session
        record = sign_contacts(changed, session, now=self._caller.clock.now())
        envelope = await self._encryption.encrypt(
            record, network=network_of_owner(session.owner), label=_label(self._space)
        )
        written = await self._kv.put(
            CONTACTS_PATH,
            envelope_bytes(envelope).decode(),
            if_absent=not etag,
            if_match=etag or None,
        )
        self._known = StoredContacts(found=changed, etag=written, record=record)

    async def _open_stored(self, value: Value) -> StoredContacts:
        """Decrypt and verify the stored list.

        Raises:
            ContactsInvalid: it is not a list that the owner signed and sealed for this place.
        """
        owner = self._caller.session.owner
        try:
            envelope = parse_envelope(value.body)
        except NetworkLibraryError as error:
            raise ContactsInvalid("the list of contacts is not sealed") from error
        # J15: another owner's network would open it for whoever may decrypt there.
        if not same_principal(envelope.network.owner, owner):
            raise ContactsInvalid("the list of contacts is sealed to another owner's network")
        try:
            record = await self._encryption.decrypt(envelope, expected_label=_label(self._space))
        except LabelMismatch as error:
            raise ContactsInvalid("the list of contacts was sealed for another place") from error
        except InvalidResponse as error:
            raise ContactsInvalid(
                "the list of contacts cannot be opened: it is damaged, or the node's answer is"
            ) from error
        return StoredContacts(found=read_contacts(record, owner), etag=value.etag, record=record)

    @property
    def _space(self) -> SpaceId:
        return space_of(self._caller.session.owner, CONTACTS_SPACE)

    @property
    def _kv(self) -> Kv:
        return Kv(self._caller, self._space)


def sign_contacts(contacts: ContactList, session: Session, *, now: float) -> bytes:
    """Sign a list of contacts with a session's key, and return the plaintext to seal (SH9).

    Args:
        contacts: the list.
        session: a sign-in of the owner, or a session of the owner's own key.
        now: epoch seconds.
    Raises:
        NotGranted: the session is not a sign-in of the owner.
        InvalidInput: the plaintext would be too long.
    """
    signed = sign_statement(
        STATEMENT_TYPE, contacts_statement(contacts, session.owner), session.signer
    )
    record = canonical_bytes(
        {
            "proof": _proof_of(session, now),
            "signed": parse_json(signed, max_bytes=MAX_STATEMENT_BYTES),
        }
    )
    if len(record) > MAX_RECORD_BYTES:
        raise InvalidInput(
            "the list of contacts is too long together with this session's sign-in",
            hint="sign in with fewer spaces, and try again",
            step="run sealspace login again, with fewer --space options",
        )
    return record


def read_contacts(record: bytes, owner: str) -> ContactList:
    """Parse a list of contacts, and verify that the owner made it (SH9).

    Args:
        record: the plaintext, untrusted: everybody can seal to the public key of a network.
        owner: DID of the owner.
    Raises:
        ContactsInvalid: the plaintext is malformed, or was not signed by a key that the owner's
            wallet signed in, or by the owner's own key.
    Does not check:
        Whether the sign-in has ended or was revoked since: the list stays valid after it. Whether
        it is the latest list; see `Contacts.start_from`.
    """
    try:
        stated = shaped(parse_json(record, max_bytes=MAX_RECORD_BYTES), _Record)
        signed = canonical_bytes(msgspec.to_builtins(stated.signed))
    except (InvalidJson, InvalidCanonicalJson) as error:
        raise ContactsInvalid("the list of contacts cannot be parsed") from error
    signer: str | None = owner
    if stated.proof is not None:
        signer = _signed_in_key(stated.proof, owner)
    if signer is None:
        raise ContactsInvalid("the list of contacts is not signed by a sign-in of yours")
    try:
        statement = read_statement(signed, STATEMENT_TYPE, signer=signer)
    except StatementInvalid as error:
        raise ContactsInvalid("the signature of the list of contacts is not valid") from error
    return parse_contacts_statement(statement, owner)


def _proof_of(session: Session, now: float) -> str | None:
    """Return the sign-in that shows whose key signs; None for the owner's own key."""
    if same_principal(session.did, session.owner):
        return None
    for grant in session.grants:
        if grant.is_live(now) and _signed_in_key(grant.header, session.owner) is not None:
            return grant.header
    raise NotGranted(
        "this session may not change contacts: only a sign-in of the owner may",
        hint="sign in with the owner's wallet: `client.sign_in(wallet)`",
        step="sealspace login",
    )


def _signed_in_key(token: str, owner: str) -> Principal | None:
    """Return the session key of an owner's sign-in, or None if the token is no such sign-in (SH9).

    Its signature is verified.
    """
    try:
        delegation = verify_delegation(parse_delegation(token))
    except CapabilityError:
        return None
    return delegation.delegate if _is_sign_in(delegation, owner) else None


def _is_sign_in(delegation: Delegation, owner: str) -> bool:
    """Return whether a delegation is a sign-in of the owner's that may change the list.

    A grant to somebody else could have the same rights, except for the one to read the owner's
    capabilities, which no client grants. So only a session (IP2) counts.
    """
    if delegation.issued_at is None or not same_principal(delegation.delegator, owner):
        return False
    # The node knows when it was registered. The life from its own issue time is checked here.
    if not is_session(delegation, registered_at=delegation.issued_at):
        return False
    needed = (
        space_capability(space_of(owner, CONTACTS_SPACE), "kv", CONTACTS_PATH, KV_PUT),
        capability(network_of_owner(owner).text, DECRYPT),
    )
    for needed_right in needed:
        if not any(covers(granted, needed_right) for granted in delegation.capabilities):
            return False
    return True


def _label(space: SpaceId) -> bytes:
    """Return the label of the envelope, which names its place."""
    return f"tinycloud.vault:{space.text}:{CONTACTS_PATH.removeprefix(VAULT_PREFIX)}".encode()


def _outdated() -> ContactsInvalid:
    return ContactsInvalid(
        "the node returned an older list of contacts than the one read before",
        hint="ask the operator whether the node was restored from a backup",
        step="ask the operator whether the node was restored from a backup; only then, delete the"
        " file contacts.json in your folder ~/.sealspace",
    )
