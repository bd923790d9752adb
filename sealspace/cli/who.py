"""`sealspace logout`, `whoami` and `status`: the session of the last login, ended, named, and tried."""

import asyncio
from typing import Final

import click

from capabilities.strict_json import Json

from ..errors import NotSignedIn, SealspaceError
from ..session import Session
from .owner_profile import OwnerHome, Profile, has_ended, owner_home
from .terminal import facts, optional_time, print_found, time_text, what_happened, words

_WORDS: Final = {"expiresAt": "until", "nodeDid": "node DID", "keyFile": "key file"}
"""Member as JSON -> what a person reads."""


@click.command()
def logout() -> None:
    """End the session at the node, and remove it from this machine.

    The wallet's key and the files of grants stay, and so does what the login remembered: `sealspace login` signs in
    again.
    """
    home = owner_home()
    if not (home.folder / "session.json").exists():
        words("nobody is logged in on this machine: there is nothing to end")
        return
    session = home.session()
    ends = "" if session.expires_at is None else f", it ends at {time_text(session.expires_at)}"
    try:
        if not has_ended(session):
            asyncio.run(_revoke(home, session))
    except SealspaceError as error:
        words(f"the node could not be told{ends}: {what_happened(error)}")
    home.forget_session()
    words(f"logged out {session.owner}")


@click.command()
def whoami() -> None:
    """Print the owner, the session's key and the node; no node is asked."""
    home = owner_home()
    profile, session = home.profile(), home.session()
    _print(_who(home, profile, session))
    if has_ended(session):
        raise NotSignedIn("the session of the last login has ended", hint=f"sealspace login {profile.node}")


@click.command()
def status() -> None:
    """Say whether the node answers, until when the session lasts, and what the login demands of the node.

    The exit status says whether commands would work: 0, or why they would not.
    """
    home = owner_home()
    profile, session = home.profile(), home.session()
    said = _who(home, profile, session)
    try:
        asyncio.run(_ask(home))
        said["standing"] = "ready"
    except SealspaceError as error:
        said["standing"] = error.code
        raise
    finally:
        _print(said)


def _who(home: OwnerHome, profile: Profile, session: Session) -> dict[str, Json]:
    return {
        "owner": str(session.owner),
        "session": str(session.did),
        "expiresAt": optional_time(session.expires_at),
        "node": home.node or profile.node,
        "nodeDid": session.node_id,
        "demands": "nothing" if profile.node_policy is None else "proof of approved code",
        "keyFile": None if profile.key_file is None else str(profile.key_file),
    }


def _print(said: dict[str, Json]) -> None:
    print_found(said, facts({_WORDS.get(name, name): value for name, value in said.items()}))


async def _ask(home: OwnerHome) -> None:
    """Open the node as every command does: the node answers, is the same one, and proves what is demanded."""
    async with home.client() as client:
        await client.info()
        for grant in client.session.grants[:1]:  # the sign-in
            word = (await client.delegations.status(grant.cid)).word
            if word != "active":
                hint = f"sealspace login {client.url}"
                raise NotSignedIn(f"the session of the last login is {word} at the node", hint=hint)


async def _revoke(home: OwnerHome, session: Session) -> None:
    async with home.client() as client:
        for grant in reversed(session.grants):  # the sign-in last: it carries the right to revoke the others
            await client.delegations.revoke(grant.cid)
