"""Checks of `sealspace doctor` on an owner's machine: the login, the key, the session, and the node."""

import asyncio
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

from capabilities.ambient import SystemClock
from capabilities.errors import InvalidJson
from capabilities.strict_json import parse_json

from ..errors import InvalidInput, InvalidSession
from ..printable import printable
from ..session import Session, load_session
from ..wire.transport import Transport
from .diagnosis import OK, WARNING, WRONG, Diagnosis, Found, diagnosed
from .errors import KeyFileUnusable, NotSignedIn
from .owner_profile import OwnerHome, Profile
from .terminal import time_text

_ANSWER_S: Final = 10.0
_ANSWER_BYTES: Final = 64 * 1024
_APART_S: Final = 60.0  # tokens are judged by the node's clock
_SOON_S: Final = 86_400.0


def owner_checks(home: OwnerHome, node: str | None) -> Iterator[Diagnosis]:
    """Check what an owner's commands need.

    Args:
        home: the owner's folder.
        node: the node that was named; None: that of the login.
    """
    try:
        profile = home.profile()
    except (NotSignedIn, KeyFileUnusable) as error:
        is_new = not (home.folder / "profile.json").exists()
        yield Diagnosis("login", OK if is_new else WRONG, error.text, error.hint)
        if node is not None:
            yield from diagnosed("node", lambda: asyncio.run(_node(node, None)))
        return
    yield Diagnosis("login", OK, f"{profile.owner} at {profile.node}")
    yield from diagnosed("key", lambda: _key(home, profile))
    session = _session(home)
    yield _standing(session, profile)
    answers = diagnosed("node", lambda: asyncio.run(_node(node or profile.node, session)))
    yield from answers
    if all(one.severity != WRONG for one in answers):
        yield from diagnosed("secrets", lambda: asyncio.run(_secrets(home)))


def _key(home: OwnerHome, profile: Profile) -> Found:
    if profile.key_file is None:
        return f"in a browser, of {profile.owner}"
    if home.is_of_another_home(profile.key_file):
        hint = f"sealspace login {profile.node} --key-file FILE names the one that is meant"
        return Diagnosis("key", WARNING, f"in another home: {profile.key_file}", hint)
    if not profile.is_keystore:
        return f"in {profile.key_file}, of {home.wallet().did}"
    try:
        with profile.key_file.open("rb"):
            return f"in the keystore {profile.key_file}, not opened: that takes its password"
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise KeyFileUnusable(
            f"cannot read the keystore {profile.key_file}: {reason}", hint="sealspace login --keystore FILE"
        ) from None


def _session(home: OwnerHome) -> Session | None:
    try:
        return load_session(home.folder / "session.json")
    except (OSError, InvalidSession):
        return None


def _standing(session: Session | None, profile: Profile) -> Diagnosis:
    again = f"sealspace login {profile.node}"
    if session is None:
        return Diagnosis("session", WRONG, "the one of the last login cannot be read", again)
    if session.expires_at is None:
        return Diagnosis("session", OK, "without an end")
    end, now = time_text(session.expires_at), SystemClock().now()
    if session.expires_at <= now:
        return Diagnosis("session", WRONG, f"ended at {end}", again)
    if session.expires_at <= now + _SOON_S:
        return Diagnosis("session", WARNING, f"ends at {end}", again)
    return Diagnosis("session", OK, f"until {end}")


async def _node(url: str, session: Session | None) -> Found:
    """Ask a node who it is, without a token; compare it with the login, and its clock with this one."""
    hint = "is it running, and is that its address? name another: sealspace login URL"
    try:
        url = Transport(url).url  # it may hold a password, and what is printed here is handed on
    except InvalidInput as error:
        return Diagnosis("node", WRONG, error.message, "name it without credentials, like https://node.example")
    try:
        timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(url.rstrip("/") + "/info", allow_redirects=False) as answer,
        ):
            body, date = await answer.content.read(_ANSWER_BYTES), answer.headers.get("Date")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        reason = printable(str(error))
        if isinstance(error, TimeoutError):
            reason = "it does not answer in time"
        elif isinstance(error, aiohttp.ClientConnectorError):  # its own text has the addresses of a library
            reason = "no connection"
        return Diagnosis("node", WRONG, f"{url} cannot be reached: {reason}", hint)
    try:
        node_id = parse_json(body, max_bytes=_ANSWER_BYTES).get("nodeId")
    except InvalidJson:
        node_id = None
    if not isinstance(node_id, str):
        return Diagnosis("node", WRONG, f"what answers at {url} is no node", hint)
    if session is not None and session.node_id not in (None, node_id):
        text = f"another node answers at {url} than at the login: {printable(node_id)}, not {session.node_id}"
        return Diagnosis(
            "node", WRONG, text, f"if it was replaced: sealspace login {url}; else ask who has that address"
        )
    apart_s = 0.0 if date is None else SystemClock().now() - _seconds(date)
    if abs(apart_s) > _APART_S:
        text = f"this clock is {abs(apart_s):.0f} s {'ahead of' if apart_s > 0 else 'behind'} that of the node"
        return Diagnosis("node", WRONG, text, "timedatectl set-ntp true, on the machine whose clock is wrong")
    return f"{printable(node_id)} answers at {url}"


def _seconds(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return SystemClock().now()  # no date: nothing is known


async def _secrets(home: OwnerHome) -> Found:
    async with home.client() as client:
        count = len(await client.secrets().list())
    return f"{count} without a scope"
