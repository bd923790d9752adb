"""The commands below `sealspace contact`, for the owner's names of DIDs."""

import click

from ...client import Client
from ...documents.contact_list import Contact, ContactList, checked_did, checked_name
from ...errors import NoSuchContact
from ..owner.contact_names import contacts_of, keep_contacts, require_no_typo
from ..owner.owner_profile import at_node
from ..terminal import print_documents, print_result, tell

_name = click.argument("name", metavar="NAME")


@click.command(
    epilog="Example: `sealspace contact add alice did:pkh:…`, then `sealspace secret share API_KEY"
    " --with alice`. Compare the DID with the person first, over another channel, such as a call.",
)
@_name
@click.argument("did", metavar="DID")
@at_node
async def add(client: Client, name: str, did: str) -> None:
    """Give NAME to DID.

    A name has 1 to 32 lower-case letters, digits, `-` and `_`, and begins with a letter. A DID has
    one name.
    """
    # Refused before the list is read.
    checked_name(name)
    checked_did(did)
    require_no_typo(did)
    contacts = contacts_of(client)
    added = await contacts.add(name, did)
    keep_contacts(client, await contacts.read())
    _print(added, f"added {added.name}: {added.did}")


@click.command()
@at_node
async def list_(client: Client) -> None:
    """List your contacts with their DIDs."""
    contacts = contacts_of(client)
    stored = await contacts.read()
    if stored.record:
        keep_contacts(client, stored)
    print_documents(
        [_json(contact) for contact in stored.found.contacts],
        {"name": "name", "did": "DID"},
        nothing="no contacts; next: sealspace contact add NAME DID",
    )


@click.command(epilog="Examples: `sealspace contact show alice`; `sealspace contact show did:…`.")
@click.argument("text", metavar="NAME|DID")
@at_node
async def show(client: Client, text: str) -> None:
    """Print the DID of a contact, or the name of a DID."""
    # Refused before the list is read.
    is_did = text.startswith("did:")
    wanted = checked_did(text) if is_did else checked_name(text)
    contacts = contacts_of(client)
    stored = await contacts.read()
    if stored.record:
        keep_contacts(client, stored)
    shown = _of_did(stored.found, wanted) if is_did else _of_name(stored.found, wanted)
    print_result(_json(shown), [f"{shown.name}  {shown.did}"])


@click.command()
@_name
@click.argument("new_name", metavar="NEW_NAME")
@at_node
async def rename(client: Client, name: str, new_name: str) -> None:
    """Give NEW_NAME to the contact NAME."""
    checked_name(new_name)  # raises before the list is read
    contacts = contacts_of(client)
    renamed = await contacts.rename(name, new_name)
    keep_contacts(client, await contacts.read())
    _print(renamed, f"renamed {name} to {renamed.name}: {renamed.did}")


@click.command()
@_name
@at_node
async def remove(client: Client, name: str) -> None:
    """Remove the contact NAME.

    What you share with the person and what you granted stays as it is.
    """
    contacts = contacts_of(client)
    removed = Contact(name, await contacts.did(name))
    await contacts.remove(name)
    keep_contacts(client, await contacts.read())
    _print(removed, f"removed {removed.name}: {removed.did}; grants and shares stay as they are")


def _of_name(contacts: ContactList, name: str) -> Contact:
    return Contact(name, contacts.did_of(name))


def _of_did(contacts: ContactList, did: str) -> Contact:
    name = contacts.name_of(did)
    if name is None:
        raise NoSuchContact(
            f"none of your contacts is {did}", hint=f"sealspace contact add NAME {did}"
        )
    return Contact(name, checked_did(did))


def _json(contact: Contact) -> dict[str, object]:
    return {"name": contact.name, "did": contact.did}


def _print(contact: Contact, line: str) -> None:
    """Print what a command did."""
    tell(line)
    print_result(_json(contact))
