"""The commands `login`, `logout`, `whoami` and `status`."""

import hashlib
import json
import re
import shutil
import stat
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from owner_desk import OwnerDesk, owner_desk

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.principals import parse_principal
from capabilities.signatures import WalletSigner, keccak256
from node.config.tree import Hosting
from node.operations.values.admission import change_admission
from sealspace.cli.owner.owner_profile import OwnerHome
from sealspace.cli.terminal import time_text
from sealspace.delegations import allow
from sealspace.errors import NotSignedIn, Unauthorized
from sealspace.private_files import replace_file
from sealspace.session import save_session
from sealspace.wire.portable import grant_of
from spaces.keyspace import REPLAY_FLOOR_KEY, RESTORED_KEY
from spaces.store.contract import Commit, Put

NOBODY = "http://127.0.0.1:1"
RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@pytest.fixture
async def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OwnerDesk]:
    """An owner who has not logged in, and a node."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        yield desk


def _owner(desk: OwnerDesk) -> str:
    return OwnerHome(desk.home).profile().owner


async def test_how_long_a_login_lasts(desk: OwnerDesk) -> None:
    """`--expires` is the lifetime of the session, and the former `--days` is still accepted."""
    for option in (("--expires", "36h"), ("--days", "1.5")):
        said = json.loads((await desk.run("login", desk.node, "--new", *option, "--json")).out)
        desk.home.joinpath("wallet.key").unlink()
        ends = datetime.fromisoformat(said["expiresAt"]).timestamp()
        assert abs(ends - SystemClock.now() - 36 * 3600) < 300


async def test_a_key_file_that_is_gone(desk: OwnerDesk) -> None:
    """The next step names the keys that are still in the folder, first that of the last login."""
    await desk.log_in()
    await desk.run("secret", "put", "A", given="1")
    key, owner = desk.home / "wallet.key", _owner(desk)
    other = desk.home / "a.key"
    other.write_text("11" * 32)
    other.chmod(0o600)
    (desk.home / "b.key").write_text("no key")
    moved = desk.home / "moved to"
    key.rename(moved)
    for command in (("login",), ("token", "create", "t", "--secret", "A")):
        gone = await desk.run(*command)
        assert gone.status == 10, gone
        assert gone.happened.startswith(f"cannot read the wallet's key in {key}: No such file")
        assert gone.next == (
            f"the key of your last login is in {moved}; to use it: sealspace login --key-file"
            f" '{moved}'"
        )
    assert (await desk.run("login", "--key-file", str(moved))).status == 0
    assert _owner(desk) == owner
    moved.unlink()
    gone = await desk.run("login")
    assert gone.next.startswith("a key of did:pkh:eip155:1:0x") and str(other) in gone.next, gone
    other.chmod(0o644)
    assert "add --new" in (await desk.run("login")).next


async def test_a_login_is_remembered(desk: OwnerDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login reuses the address, key and spaces of the last one unless options change them."""
    await desk.log_in("--space", "notes")
    owner = _owner(desk)
    again = await desk.run("login", "--space", "more", "--json")
    said = json.loads(again.out)
    assert again.status == 0
    assert said["owner"] == owner
    assert OwnerHome(desk.home).profile().spaces == ("notes", "more")
    assert RFC3339.fullmatch(said["expiresAt"])
    async with desk.client() as client:
        await client.kv("notes").put("a", "b")


@pytest.mark.parametrize("way", ["argument", "option", "variable"])
async def test_the_node_is_named_in_three_ways(
    desk: OwnerDesk, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The node can be named by an argument, by the shared option, or in the environment."""
    if way == "variable":
        monkeypatch.setenv("SEALSPACE_NODE", desk.node)
    words = {"argument": (desk.node,), "option": ("--node", desk.node), "variable": ()}[way]
    assert (await desk.run("login", "--new", *words)).status == 0
    assert OwnerHome(desk.home).profile().node == desk.node


@pytest.mark.parametrize("page", ["/console/#/secrets", "/console", "/console/?a#/b"])
async def test_the_address_of_a_console_page(desk: OwnerDesk, page: str) -> None:
    """A login with the address of a console page uses the node at that address, and says so."""
    ran = await desk.run("login", desk.node + page, "--new")
    said = f"this is the address of the console; the command uses the node {desk.node}"
    assert (ran.status, ran.err.splitlines()[0]) == (0, said)
    assert json.loads((await desk.run("whoami", "--json")).out)["node"] == desk.node


async def test_nothing_says_which_node(desk: OwnerDesk) -> None:
    """Without an address the command fails and creates nothing."""
    ran = await desk.run("login", "--new")
    assert ran.status == 2
    assert "specify the node" in ran.err
    assert not desk.home.exists()


@pytest.mark.parametrize(
    ("address", "status"), [(NOBODY, 11), ("http://node.example", 2), ("no address", 2)]
)
async def test_a_login_that_fails_leaves_nothing(
    desk: OwnerDesk, address: str, status: int
) -> None:
    """The address is checked first, so a failed login leaves no key that the next attempt would
    refuse to replace."""
    for _ in range(2):
        ran = await desk.run("login", address, "--new")
        assert ran.status == status, ran
        assert ran.next != ""
        assert list(desk.home.glob("*")) == [], ran
    await desk.log_in()


@pytest.mark.parametrize("broken", ["session.json", "profile.json"])
async def test_the_key_outlives_a_login_that_is_not_stored(desk: OwnerDesk, broken: str) -> None:
    """If storing the login fails, the owner's new key is kept."""
    (desk.home / broken).mkdir(parents=True, mode=0o700)
    desk.home.chmod(0o700)
    ran = await desk.run("login", desk.node, "--new")
    key = (desk.home / "wallet.key").read_bytes()
    assert ran.status != 0 or broken in ran.err, ran
    (desk.home / broken).rmdir()
    assert (await desk.run("login", desk.node, "--new")).status == 0
    assert (desk.home / "wallet.key").read_bytes() == key


async def test_what_is_no_node_does_not_say_what_is_absent(desk: OwnerDesk) -> None:
    """A web server that answers 404 is reported as not being a node."""
    await desk.log_in()
    assert (await desk.run("secret", "put", "API_KEY", given="a value")).status == 0
    for command in (
        ("secret", "get", "API_KEY"),
        ("kv", "get", "x"),
        ("secret", "delete", "API_KEY"),
    ):
        ran = await desk.run(*command, "--node", f"{desk.node}/elsewhere")
        assert ran.status == 11, ran
        assert "is not a sealspace node" in ran.err


async def test_commands_at_once_lose_nothing_of_a_session(desk: OwnerDesk) -> None:
    """Concurrent commands each add a grant to the session, and do not restore an ended session."""
    await desk.log_in()
    home = OwnerHome(desk.home)
    opened = home.session()
    received = []
    async with desk.client() as client:
        for path in ("a", "b"):
            wanted = [allow(f"{client.kv().space.text}/kv/{path}", "tinycloud.kv/get")]
            received.append(
                grant_of(await client.delegations.delegate(opened.did, wanted), now=0.0)
            )
    for grant in received:
        home.keep_session(opened.with_grant(grant))
    assert {grant.cid for grant in received} <= {grant.cid for grant in home.session().grants}
    home.forget_session()
    with pytest.raises(NotSignedIn):
        home.keep_session(opened)
    await desk.run("login")
    with pytest.raises(NotSignedIn):
        home.keep_session(opened)


async def test_half_of_a_login_is_none(desk: OwnerDesk) -> None:
    """The session of one login is not used with the profile of another login."""
    await desk.log_in()
    other = desk.home.parent / "other"
    assert (await desk.run("login", desk.node, "--new", home=other)).status == 0
    (desk.home / "session.json").write_bytes((other / "session.json").read_bytes())
    ran = await desk.run("secret", "list")
    assert ran.status == 10
    assert "not completed" in ran.err
    assert ran.next == f"sealspace login {desk.node}"
    assert (await desk.run("login")).status == 0
    assert (await desk.run("secret", "list")).status == 0


async def test_a_key_that_is_in_use_is_not_replaced(desk: OwnerDesk) -> None:
    """A second --new changes nothing, and the message says how to continue."""
    await desk.log_in()
    key = (desk.home / "wallet.key").read_bytes()
    ran = await desk.run("login", "--new")
    assert ran.status == 10
    assert ran.next == "omit --new to use the existing key"
    assert (desk.home / "wallet.key").read_bytes() == key
    assert stat.S_IMODE((desk.home / "wallet.key").stat().st_mode) == 0o600


async def test_an_owner_who_is_not_admitted_keeps_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of an owner who is not admitted is kept, and `--new` uses it again."""
    async with owner_desk(tmp_path, capsys, monkeypatch, hosting=Hosting(mode="permit")) as desk:
        first = await desk.run("login", desk.node, "--new")
        (owner,) = re.findall(r"did:pkh:\S+(?=,)", first.next)
        assert first.status != 0 and not (desk.home / "profile.json").exists()
        again = await desk.run("login", desk.node, "--new")
        assert owner in again.next and "using the existing key file" in again.err
        now, entropy = SystemClock().now(), SystemEntropy()
        store = desk.served.services.store
        await change_admission(store, parse_principal(owner), admits=True, now=now, entropy=entropy)
        assert (await desk.run("login", desk.node)).status == 0
        assert _owner(desk) == owner


async def test_whoami_asks_no_node(desk: OwnerDesk) -> None:
    """`whoami` prints the owner, the node and the end of the session."""
    assert (await desk.run("whoami")).status == 10
    await desk.log_in()
    said = json.loads((await desk.run("whoami", "--json", "--node", NOBODY)).out)
    assert said["owner"] == _owner(desk)
    assert said["node"] == NOBODY
    assert RFC3339.fullmatch(said["expiresAt"]) and said["nodeDid"].startswith("did:key:")
    ran = await desk.run("whoami")
    assert ran.status == 0
    assert _owner(desk) in ran.out


async def test_status_says_when_a_restored_node_opens_secrets(desk: OwnerDesk) -> None:
    """A node that was just restored is `not-ready` (BK5), and the time is printed.

    A command that reads a secret says when to try again.
    """
    await desk.log_in()
    assert (await desk.run("secret", "put", "API_KEY", given="a value")).status == 0
    services = desk.served.services
    minute = int(services.clock.now()) // 60 + 7
    closed = Put(REPLAY_FLOOR_KEY, minute.to_bytes(4, "big"))
    await services.store.commit(Commit(puts=(closed, Put(RESTORED_KEY, b"/former"))))
    ran = await desk.run("status")
    assert ran.status != 0
    assert "not-ready: closed: until" in ran.out
    assert time_text(60 * minute) in ran.out
    ran = await desk.run("doctor")
    assert "wrong    node: the node is not ready: closed: until" in ran.out
    ran = await desk.run("secret", "get", "API_KEY")
    assert ran.status != 0
    assert "restored" in ran.happened
    assert re.fullmatch(r"try again in [0-9]+ s", ran.next), ran


async def test_status_and_doctor_say_that_a_node_is_not_ready(desk: OwnerDesk) -> None:
    """If /readyz answers 503 the state is `not-ready` with the cause, and both commands fail."""
    await desk.log_in()
    folder = desk.served.services.config.data / "blobs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.symlink_to(folder)
    ran = await desk.run("status")
    assert ran.status != 0
    assert "not-ready: objects: " in ran.out
    assert ran.happened.startswith("the node is not ready: objects: ")
    ran = await desk.run("doctor")
    assert ran.status == 1
    assert "wrong    node: the node is not ready" in ran.out


async def test_status_says_whether_commands_would_work(desk: OwnerDesk) -> None:
    """The status is 0 if commands would work, and otherwise the status of the failing command."""
    assert (await desk.run("status")).status == 10
    await desk.log_in()
    ran = await desk.run("status", "--json")
    assert ran.status == 0
    assert json.loads(ran.out)["standing"] == "ready"
    assert json.loads(ran.out)["demands"] == "nothing"
    away = await desk.run("status", "--node", NOBODY)
    assert away.status == 11
    assert "node-unreachable" in away.out
    assert NOBODY in away.out
    home = OwnerHome(desk.home)
    session = home.session()
    async with desk.client() as client:
        await client.delegations.revoke(session.grants[0].cid)
    ended = await desk.run("status")
    assert ended.status == 10
    assert "revoked" in ended.err
    assert ended.next == f"sealspace login {desk.node}"


async def test_logout_ends_the_session_everywhere(desk: OwnerDesk) -> None:
    """A copied session is useless after logout. The key stays, and a login without options works
    again."""
    await desk.log_in()
    copied = desk.home.parent / "copied.json"
    async with desk.client() as client:
        save_session(client.session, copied)
        await client.kv().put("a", "b")
        assert (await desk.run("logout")).status == 0
        with pytest.raises(Unauthorized):
            await client.kv().get("a")
    assert not (desk.home / "session.json").exists() and (desk.home / "wallet.key").exists()
    for command in (("whoami",), ("secret", "list")):
        ran = await desk.run(*command)
        assert (ran.status, ran.next) == (10, f"sealspace login {desk.node}"), ran
    again = await desk.run("logout")  # what is asked for is so
    assert again.status == 0
    assert "not logged in" in again.err
    assert (await desk.run("login")).status == 0


async def test_a_session_that_ended_elsewhere(desk: OwnerDesk) -> None:
    """A command with a revoked session says how to log in again."""
    await desk.log_in()
    kept = (desk.home / "session.json").read_bytes()
    await desk.run("logout")
    replace_file(desk.home / "session.json", kept)
    ran = await desk.run("secret", "list")
    login = f"sealspace login {desk.node}, which"
    assert ran.status == 22, ran
    assert ran.next.startswith(login)


async def test_a_home_that_was_copied_has_its_own_key(desk: OwnerDesk) -> None:
    """A home uses the key in its own folder. If an older login names a key in another home, a
    message says so."""
    await desk.log_in()
    profile, former = desk.home / "profile.json", desk.home
    assert json.loads(profile.read_text())["keyFile"] == "wallet.key"
    copied = desk.home.parent / "copied"
    shutil.copytree(desk.home, copied)
    assert OwnerHome(copied).profile().key_file == copied / "wallet.key"
    profile = copied / "profile.json"
    profile.write_text(
        json.dumps(json.loads(profile.read_text()) | {"keyFile": str(former / "wallet.key")})
    )
    assert OwnerHome(copied).wallet().did == OwnerHome(former).wallet().did
    ran = await desk.run("login", home=copied)
    assert ran.status == 0, ran
    assert f"the folder of another login: {former / 'wallet.key'}" in ran.err
    found = await desk.run("doctor", home=copied)
    assert (
        f"warn     login: the key file {former / 'wallet.key'} is outside the folder of this owner"
        in found.out
    )
    for own in (former, copied):
        assert not OwnerHome(own).is_of_another_home(own / "wallet.key")


async def test_logout_without_the_node(desk: OwnerDesk) -> None:
    """Logout without the node still removes the session from this machine, and reports the
    failure."""
    await desk.log_in()
    ran = await desk.run("logout", "--node", NOBODY)
    assert ran.status == 0
    assert "could not end the session" in ran.err
    assert RFC3339.search(ran.err)
    assert not (desk.home / "session.json").exists()


def _keystore(path: Path, secret: bytes, password: str) -> None:
    """Write a Web3 keystore (version 3) with a low work factor."""
    key = hashlib.scrypt(password.encode(), salt=bytes(32), n=2, r=8, p=1, dklen=32)
    encryptor = Cipher(AES(key[:16]), CTR(bytes(16))).encryptor()
    ciphertext = encryptor.update(secret) + encryptor.finalize()
    params = {"dklen": 32, "n": 2, "r": 8, "p": 1, "salt": bytes(32).hex()}
    crypto = {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": bytes(16).hex()},
        "ciphertext": ciphertext.hex(),
        "kdf": "scrypt",
        "kdfparams": params,
        "mac": keccak256(key[16:] + ciphertext).hex(),
    }
    path.write_text(
        json.dumps({"version": 3, "address": WalletSigner(secret).address.hex(), "crypto": crypto})
    )


async def test_a_keystore_signs_in(
    desk: OwnerDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keystore's password is typed or in the environment. The login stores only the keystore's
    path."""
    path, secret = tmp_path / "UTC--keystore", bytes([7]) * 32
    _keystore(path, secret, "open sesame")
    assert (
        await desk.run("login", desk.node, "--keystore", str(path), typed="open sesame\n")
    ).status == 0
    assert _owner(desk) == WalletSigner(secret).did
    unasked = await desk.run("login")
    assert (unasked.status, unasked.next) == (10, "set SEALSPACE_KEYSTORE_PASSWORD")
    monkeypatch.setenv("SEALSPACE_KEYSTORE_PASSWORD", "open sesame")
    assert (await desk.run("login")).status == 0
    assert (await desk.run("space", "create", "notes")).status == 0  # which takes the wallet
    for kept in desk.home.iterdir():
        assert not {secret.hex(), "open sesame"} & set(re.split(r"\W+", kept.read_text()))
    monkeypatch.setenv("SEALSPACE_KEYSTORE_PASSWORD", "something else")
    wrong = await desk.run("login")
    assert wrong.status == 10
    assert "something else" not in wrong.err
    assert "password" in wrong.err
    path.write_text("{}")
    assert (await desk.run("login")).status == 10
    assert (await desk.run("login", "--keystore", str(tmp_path / "absent"))).status == 2
    assert (await desk.run("login", "--keystore", str(path), "--new")).status == 2
