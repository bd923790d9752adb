"""The names that an owner gives to DIDs (SH9, SH10).

Only the owner chooses these names. A name is unique in the list, and so is a DID.

Example:
    found = ContactList().with_contact("alice", friend.session.did)
    assert found.did_of("alice") == friend.session.did
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, NamedTuple

import msgspec

from capabilities.capability_errors import CapabilityError, InvalidJson
from capabilities.principals import (
    Principal,
    did_key_content,
    is_wallet,
    parse_principal,
    principal_of,
)
from capabilities.strict_json import JsonObject, StrictRecord, shaped

from ..errors import ContactsInvalid, InvalidInput, NoSuchContact

MOST_CONTACTS = 500
MAX_NAME_CHARS = 32
MAX_DID_CHARS = 128

_LEAST_KEY_BYTES = 34
"""Length of the shortest public key in a did:key, with the two bytes that name its type."""

RESERVED_NAMES = frozenset(
    {"all", "anybody", "did", "everybody", "everyone", "file", "me", "nobody", "none"}
    | {"owner", "self", "team", "url", "you"}
)
"""Words that commands take, or may take, in the place of a DID."""
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_DID_LIKE = re.compile(r"did[_-]|z6mk")
"""How names begin that could be taken for a DID or a part of one."""
_HINT = (
    f"use 1 to {MAX_NAME_CHARS} lower-case letters, digits, `-` and `_`, beginning with a letter:"
    " alice"
)


class Contact(NamedTuple):
    """A DID with the name that the owner gave to it.

    Attributes:
        name: 1 to 32 characters of `a-z0-9_-`, beginning with a letter.
        did: the DID of a wallet or a key, in canonical spelling.
    """

    name: str
    did: Principal


class ContactList(NamedTuple):
    """All contacts of an owner.

    Attributes:
        contacts: ordered by name.
        serial: number of changes until now; a list with a lower number is older.
    """

    contacts: tuple[Contact, ...] = ()
    serial: int = 0

    def did_of(self, name: str) -> Principal:
        """Return the DID of a name.

        Raises:
            NoSuchContact: the name is not in the list.
        """
        for contact in self.contacts:
            if contact.name == name:
                return contact.did
        near = get_close_matches(name, [contact.name for contact in self.contacts], n=1)
        meant = f"did you mean {near[0]}? or " if near else ""
        raise NoSuchContact(
            f"there is no contact {name[:MAX_NAME_CHARS]}",
            hint=f'add it: `client.contacts.add("{name[:MAX_NAME_CHARS]}", did)`',
            step=f"{meant}list the names: sealspace contact list; to add one: sealspace contact add"
            " NAME DID",
        )

    def name_of(self, did: str) -> str | None:
        """Return the name of a DID, in any spelling of the DID, or None."""
        principal = principal_of(did)
        for contact in self.contacts:
            if contact.did == principal:
                return contact.name
        return None

    def with_contact(self, name: str, did: str) -> "ContactList":
        """Return the list with a contact added.

        Raises:
            InvalidInput: the name or the DID is not valid or already in the list, or the list is
                full.
        """
        added = Contact(checked_name(name), checked_did(did))
        self._require_free(name)
        known_as = self.name_of(added.did)
        if known_as is not None:
            raise InvalidInput(
                f"this DID is already the contact {known_as}",
                hint="rename that contact, or remove it first",
                step=f"sealspace contact rename {known_as} {name}",
            )
        if len(self.contacts) >= MOST_CONTACTS:
            raise InvalidInput(
                f"there are already {MOST_CONTACTS} contacts, which is the limit",
                hint="remove a contact that is no longer needed",
                step="sealspace contact remove NAME",
            )
        return self._next_list([*self.contacts, added])

    def renamed(self, name: str, new_name: str) -> "ContactList":
        """Return the list with another name for a contact.

        Raises:
            NoSuchContact: the name is not in the list.
            InvalidInput: the new name is not valid, or already in the list.
        """
        renamed = Contact(checked_name(new_name), self.did_of(name))
        self._require_free(new_name)
        return self._next_list([renamed, *self._others(name)])

    def without(self, name: str) -> "ContactList":
        """Return the list without a contact.

        Raises:
            NoSuchContact: the name is not in the list.
        """
        self.did_of(name)  # raises NoSuchContact
        return self._next_list([*self._others(name)])

    def _others(self, name: str) -> Iterator[Contact]:
        for contact in self.contacts:
            if contact.name != name:
                yield contact

    def _require_free(self, name: str) -> None:
        for contact in self.contacts:
            if contact.name == name:
                raise InvalidInput(
                    f"the name {name} is taken: it is the contact {contact.did}",
                    hint="choose another name, or remove or rename that contact",
                    step=f"choose another name, or: sealspace contact remove {name}",
                )

    def _next_list(self, contacts: list[Contact]) -> "ContactList":
        return ContactList(tuple(sorted(contacts)), self.serial + 1)


def is_contact_name(text: str) -> bool:
    """Return whether a text can be the name of a contact (SH10)."""
    return (
        len(text) <= MAX_NAME_CHARS
        and _NAME.fullmatch(text) is not None
        and text not in RESERVED_NAMES
        and _DID_LIKE.match(text) is None
    )


def checked_name(name: str) -> str:
    """Return the name of a contact if it is valid (SH10).

    Raises:
        InvalidInput: the name is not valid.
    """
    if is_contact_name(name):
        return name
    # A name that could be read as something else would make a command mean another person.
    if name in RESERVED_NAMES:
        reason = f"{name} is a word that commands take in the place of a DID"
    elif ":" in name or _DID_LIKE.match(name):
        reason = "it looks like a DID"
    else:
        reason = "it is too long, or contains other characters"
    raise InvalidInput(f"this cannot be the name of a contact: {reason}", hint=_HINT)


def checked_did(did: str) -> Principal:
    """Return the DID of a wallet or a key in canonical spelling.

    Raises:
        InvalidInput: the text is not such a DID.
    """
    try:
        principal = parse_principal(did)
    except CapabilityError:
        principal = None
    is_usable = principal is not None and len(principal) <= MAX_DID_CHARS
    if principal is None or not is_usable or not _is_person_or_key(principal):
        raise InvalidInput(
            "a contact has the DID of a wallet or a key: did:pkh:eip155:… or did:key:…",
            hint="ask the person for the value of `client.session.owner`",
            step="ask the person to run `sealspace whoami`, and to send you the DID of the owner",
        )
    return principal


def _is_person_or_key(principal: Principal) -> bool:
    content = did_key_content(principal)
    return is_wallet(principal) or (content is not None and len(content) >= _LEAST_KEY_BYTES)


class _Entry(StrictRecord):
    name: str
    did: str


class _Statement(StrictRecord):
    owner: str
    serial: Annotated[int, msgspec.Meta(ge=1, lt=1 << 53)]
    contacts: Annotated[list[_Entry], msgspec.Meta(max_length=MOST_CONTACTS)]


def contacts_statement(contacts: ContactList, owner: str) -> JsonObject:
    """Return a list as the JSON that its owner's session signs (SH9)."""
    return {
        "owner": owner,
        "serial": contacts.serial,
        "contacts": [{"name": contact.name, "did": contact.did} for contact in contacts.contacts],
    }


def parse_contacts_statement(statement: JsonObject, owner: str) -> ContactList:
    """Parse the signed JSON of a list (SH9).

    Args:
        statement: verified to be signed for this owner, but otherwise untrusted.
        owner: DID of the owner.
    Raises:
        ContactsInvalid: a member is missing, unknown or malformed, the list is of another owner, a
            name or a DID appears twice, or the order is wrong.
    """
    try:
        stated = shaped(statement, _Statement)
        contacts = [
            Contact(checked_name(stated_contact.name), checked_did(stated_contact.did))
            for stated_contact in stated.contacts
        ]
    except InvalidJson as error:
        raise ContactsInvalid(f"the list of contacts is malformed: {error.text}") from error
    except InvalidInput as error:
        raise ContactsInvalid(
            "the list of contacts is malformed: it has a name or a DID that is not valid"
        ) from error
    # Equal to the text: another spelling of a DID would be a second name for one person.
    is_canonical = all(
        contact.did == entry.did for contact, entry in zip(contacts, stated.contacts, strict=True)
    )
    names = [contact.name for contact in contacts]
    is_ordered = names == sorted(set(names))
    has_distinct_dids = len({contact.did for contact in contacts}) == len(contacts)
    if not (is_canonical and is_ordered and has_distinct_dids):
        raise ContactsInvalid(
            "the list of contacts is malformed: a name or a DID is there twice, or out of order"
        )
    if stated.owner != principal_of(owner):
        raise ContactsInvalid("the list of contacts was made by another owner")
    return ContactList(tuple(contacts), stated.serial)
