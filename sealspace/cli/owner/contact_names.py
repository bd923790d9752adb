"""The owner's names for DIDs, in the arguments and the output of commands (SH10, SH13).

The list is read at most once by a command, and only if a name is needed. The file `contacts.json`
in the owner's folder has the list that was read last, so reading takes one request unless the list
has changed. A name is never taken from anything but this list.

Example:
    did = await did_named(client, "alice")
    names = await names_for(client, [did])
    tell(f"shared with {names.whole(did)}")
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
import msgspec

from capabilities.capability_errors import CapabilityError
from capabilities.principals import parse_principal
from capabilities.strict_json import StrictRecord
from encryption_network.canonical_json import canonical_bytes

from ...client import Client
from ...documents.contact_list import ContactList, is_contact_name
from ...errors import ContactsInvalid, InvalidInput, SealspaceError
from ...printable import printable
from ...private_files import read_file, replace_file
from ...wire.team_session import member_of_session
from ..terminal import confirm, tell, what_happened
from .owner_profile import at_node, owner_home, uses_machine_token

# The list is imported where it is read: most commands need no name, and scripts wait for imports.
if TYPE_CHECKING:
    from ...apps.contacts import Contacts, StoredContacts

Result = TypeVar("Result")

_META = "sealspace.contacts"
_MOST_FILE_BYTES = 512 * 1024
_SHOWN_CHARS = 8
"""How many characters at each end of a DID's last part are shown in a column."""


class _Kept(StrictRecord):
    """The content of the file `contacts.json`.

    Attributes:
        node: DID of the node that stores the list.
        owner: DID of the owner.
        etag: version of the document at the node.
        record: the plaintext of the document; it is verified again when it is read.
    """

    node: str
    owner: str
    etag: str
    record: str


class Names(NamedTuple):
    """The names to print beside DIDs."""

    found: ContactList = ContactList()

    def name(self, did: object) -> str | None:
        """Return the owner's name for a DID, or None."""
        return self.found.name_of(did) if isinstance(did, str) else None

    def whole(self, did: str) -> str:
        """Return `name (DID)`, or the DID if it has no name."""
        name = self.name(did)
        return did if name is None else f"{name} ({did})"

    def short(self, did: str) -> str:
        """Return the name with the DID shortened, for a column; or the DID if it has no name."""
        name = self.name(did)
        return did if name is None else f"{name} ({_shorten(did)})"


def _shorten(did: str) -> str:
    method, colon, rest = did.rpartition(":")
    if len(rest) <= 2 * _SHOWN_CHARS:
        return did
    return f"{method}{colon}{rest[:_SHOWN_CHARS]}…{rest[-_SHOWN_CHARS:]}"


def require_no_typo(did: str) -> None:
    """Refuse a wallet's DID whose checksum does not match, because it would name another wallet.

    The checksum is the case of the address's letters (EIP-55). Letters of one case have none.

    Raises:
        InvalidInput: the checksum does not match.
    """
    address = did.partition("#")[0].rpartition(":")[2].removeprefix("0x")
    if not did.startswith("did:pkh:eip155:") or address in (address.lower(), address.upper()):
        return
    try:
        canonical = parse_principal(did)
    except CapabilityError:  # the caller refuses it as no DID
        return
    if not canonical.endswith(address):
        raise InvalidInput(
            f"{printable(did, most=100)} has a typing error: the checksum in its capitals does not"
            " match",
            hint="copy the whole DID again, as `sealspace whoami` prints it for the person",
        )


async def did_named(client: Client, text: str) -> str:
    """Return the DID of a contact's name. A DID is returned as it was typed.

    Raises:
        InvalidInput: the text is neither a DID nor a possible name, or a DID with a typing error.
        NoSuchContact: there is no contact of this name.
        SealspaceError: the same errors as `Contacts.read`.
    """
    if text.startswith("did:"):
        require_no_typo(text)
        return text
    if not is_contact_name(text):
        raise InvalidInput(
            f"{printable(text, most=100)} is neither a DID nor the name of a contact",
            hint="write the whole DID, which begins with did:, or a name that `sealspace contact"
            " list` prints",
        )
    return (await _read_contact_list(client)).did_of(text)


async def target_named(client: Client, text: str) -> str:
    """Return the DID of a contact's name. A DID or an address is returned as it was typed.

    Raises:
        SealspaceError: the same errors as `did_named`.
    """
    return await did_named(client, text) if is_contact_name(text) else text


@at_node
async def dids_named(client: Client, *texts: str) -> tuple[str, ...]:
    """Return the DIDs of names, for options that are parsed before the command begins.

    Raises:
        SealspaceError: the same errors as `did_named`.
    """
    return tuple([await did_named(client, text) for text in texts])


def naming(
    *, projects: Sequence[str] = (), owners: Sequence[str] = ()
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Return a decorator that puts DIDs in the place of contacts' names in arguments.

    It works before the command begins, outside an event loop.

    Args:
        projects: the command's parameters that are `DID/NAME` or several of them. A text without a
            slash is left as it is.
        owners: the command's parameters that are `DID` or `DID/MORE`.
    """

    def decorate(command: Callable[..., Result]) -> Callable[..., Result]:
        @wraps(command)
        def with_dids(*arguments: object, **parameters: Any) -> Result:
            for parameter in (*projects, *owners):
                value = parameters[parameter]
                needs_slash = parameter in projects
                if isinstance(value, tuple):
                    parameters[parameter] = tuple(
                        [_with_did(text, needs_slash=needs_slash) for text in value]
                    )
                elif value is not None:
                    parameters[parameter] = _with_did(value, needs_slash=needs_slash)
            return command(*arguments, **parameters)

        return with_dids

    return decorate


def _with_did(text: str, *, needs_slash: bool) -> str:
    """Return a text `NAME/MORE` or `NAME` with the DID of the contact in the place of its name."""
    name, slash, more = text.partition("/")
    if not is_contact_name(name) or (needs_slash and not slash):
        return text
    (did,) = dids_named(name)
    return did + slash + more


async def names_for(client: Client, dids: Iterable[object]) -> Names:
    """Return the owner's names for DIDs that a command prints.

    If the list cannot be read, this says so once, and the command prints DIDs alone.
    """
    # A machine token has no right to the list, and its commands print no DIDs of people.
    if not any(dids) or uses_machine_token():
        return Names()
    context = click.get_current_context(silent=True)
    meta = {} if context is None else context.meta
    if f"{_META}.unreadable" in meta:
        return Names()
    try:
        return Names(await _read_contact_list(client))
    except SealspaceError as error:
        meta[f"{_META}.unreadable"] = True
        reason = what_happened(error, own=client.session.owner)
        tell(f"warning: cannot read the names of your contacts, so only DIDs are shown: {reason}")
        return Names()


async def name_or_none(client: Client, text: str) -> str | None:
    """Return the DID of a contact's name, or None if no contact has this name.

    If the list cannot be read, this says so, and returns None.
    """
    if not is_contact_name(text):
        return None
    for contact in (await names_for(client, [text])).found.contacts:
        if contact.name == text:
            return contact.did
    return None


def confirm_first_use(names: Names, did: str, *, source: str, gets: str, yes: bool) -> None:
    """Ask whether a DID that was read from a file or a page is the right one (SH14).

    A DID that the owner gave a name to is not asked about again.

    Args:
        names: the owner's names.
        did: the DID, untrusted; it is shown whole.
        source: the file or page.
        gets: description of what the DID gets.
        yes: whether the option `--yes` was given.
    """
    if names.name(did) is None:
        confirm(
            f"{source} names {did}, which is none of your contacts; it gets: {gets}. Is this the"
            " right DID?",
            yes=yes,
            hint=f"compare the DID with the person; then add --yes, or: sealspace contact add NAME"
            f" {did}",
        )


# --- reading --------------------------------------------------------------------------------------


async def _read_contact_list(client: Client) -> ContactList:
    """Read the list, once for each command."""
    context = click.get_current_context(silent=True)
    meta = {} if context is None else context.meta
    if _META not in meta:
        client = _own_session(client)  # a team has no contacts
        contacts = contacts_of(client)
        before = contacts.known
        stored = await contacts.read()
        if stored != before:
            keep_contacts(client, stored)
        meta[_META] = stored.found
    contact_list: ContactList = meta[_META]
    return contact_list


def _own_session(client: Client) -> Client:
    """Return a client with the owner's own session, for what belongs to the owner alone.

    Raises:
        NotSignedIn: the owner's session has ended.
    """
    if member_of_session(client.session) is None:
        return client
    session = owner_home().live_session().session
    return client.acting(session)


def contacts_of(client: Client) -> "Contacts":
    """Return the client of the list, which starts from the list that was read last."""
    from ...apps.contacts import StoredContacts, read_contacts

    contacts = client.contacts
    session = client.session
    try:
        kept_file = msgspec.json.decode(read_file(_path(), most_bytes=_MOST_FILE_BYTES), type=_Kept)
        if (kept_file.node, kept_file.owner) == (session.node_id, session.owner):
            record = kept_file.record.encode()
            contact_list = read_contacts(record, session.owner)
            contacts.start_from(
                StoredContacts(found=contact_list, etag=kept_file.etag, record=record)
            )
    except (OSError, ValueError, ContactsInvalid):
        pass  # without the file, the list is read from the node
    return contacts


def keep_contacts(client: Client, stored: "StoredContacts") -> None:
    """Store the list in the owner's folder. Without the file, only one request less is saved."""
    session = client.session
    kept_file = _Kept(
        node=session.node_id or "",
        owner=session.owner,
        etag=stored.etag,
        record=stored.record.decode(),
    )
    with suppress(OSError):
        replace_file(_path(), canonical_bytes(msgspec.to_builtins(kept_file)))


def _path() -> Path:
    return owner_home().folder / "contacts.json"
