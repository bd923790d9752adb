"""An outsider cannot tell from an answer whether a thing exists."""

from collections.abc import Callable

import pytest
from attacks.parties import (
    DECRYPT,
    DELETE,
    GET,
    LIST,
    PUT,
    READ_CAPABILITIES,
    SECRET,
    Delegate,
    Owner,
    Stage,
)
from running_node import Reply, fresh_nonce, key_token, network_path, new_key, send

from capabilities.signatures import WalletSigner
from sealspace.wallets import new_wallet

pytestmark = pytest.mark.slow

METADATA = "tinycloud.kv/metadata"


def _without_names(reply: Reply, *names: str) -> tuple[int, str, dict[str, str]]:
    """Return status, body and headers without the requested names and varying parts."""
    text = reply.text
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "…")
    headers = {
        name: value
        for name, value in reply.headers.items()
        if name not in ("date", "tinycloud-trace-id", "content-length")
    }
    return reply.status, text, headers


def _space_of(wallet: WalletSigner, name: str = "default") -> str:
    return f"tinycloud:{wallet.did.removeprefix('did:')}:{name}"


def _secret_in(space: str) -> str:
    return f"{space}/kv/vault/secrets/{SECRET}"


ASKED: dict[str, Callable[[str], dict[str, list[str]]]] = {
    "get": lambda space: {_secret_in(space): [GET]},
    "metadata": lambda space: {_secret_in(space): [METADATA]},
    "list": lambda space: {f"{space}/kv/vault/": [LIST]},
    "put": lambda space: {_secret_in(space): [PUT]},
    "delete": lambda space: {_secret_in(space): [DELETE]},
    "capabilities": lambda space: {f"{space}/capabilities/all": [READ_CAPABILITIES]},
    "sql": lambda space: {f"{space}/sql/db": ["tinycloud.sql/read"]},
    "nothing known": lambda space: {f"{space}/unknown/x": ["unknown/read"]},
}


@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize(
    "with_proof", [False, True], ids=["without proof", "with a grant of another"]
)
async def test_spaces_and_values_cannot_be_distinguished(
    stage: Stage, what: str, with_proof: bool
) -> None:
    """An outsider gets equal answers for existing and missing values and spaces."""
    owner = await stage.owner()
    outsider = await _outsider(stage, with_proof=with_proof)
    answers = set()
    absent = new_wallet()
    spaces = [owner.space("secrets"), owner.space("never-made"), _space_of(absent, "secrets")]
    body = b"x" if what == "put" else None
    for space in spaces:
        reply = await stage.invoke(
            outsider.signer, ASKED[what](space), proofs=outsider.proofs, body=body
        )
        assert reply.status == 401, reply.said
        answers.add(repr(_without_names(reply, space)))
    assert len(answers) == 1, answers


async def test_values_of_a_space_cannot_be_distinguished(stage: Stage) -> None:
    """A delegate gets equal answers for existing and missing values outside its grant."""
    owner, delegate = await stage.owner(), Delegate()
    space = owner.space("secrets")
    delegate.proofs = [
        await stage.register(
            owner.grant(delegate.did, {f"{space}/kv/mine": [GET, PUT, DELETE, LIST]})
        )
    ]
    there, absent = _secret_in(space), f"{space}/kv/vault/secrets/ABSENT"
    for ability in (GET, METADATA, LIST, PUT, DELETE):
        for headers in ({}, {"If-None-Match": "*"}, {"x-tinycloud-max-response-bytes": "1"}):
            if headers and ability not in (GET, PUT):
                continue
            replies = [
                await stage.invoke(
                    delegate.signer,
                    {resource: [ability]},
                    proofs=delegate.proofs,
                    headers=headers,
                    body=b"x" if ability == PUT else None,
                )
                for resource in (there, absent)
            ]
            assert {reply.status for reply in replies} == {401}
            assert len({repr(_without_names(one, there, absent)) for one in replies}) == 1


async def _outsider(stage: Stage, *, with_proof: bool) -> Delegate:
    outsider = Delegate()
    if with_proof:
        other = await stage.owner()
        outsider.proofs = [
            await stage.register(other.grant(outsider.did, {f"{other.space()}/kv/x": [GET]}))
        ]
    return outsider


async def test_keys_of_networks_cannot_be_distinguished(stage: Stage) -> None:
    """An outsider gets equal answers for existing and missing networks."""
    owner, absent, outsider = await stage.owner(), _absent_owner(await stage.owner()), Delegate()
    for proofs in ([], (await _outsider(stage, with_proof=True)).proofs):
        for route in ("route", "invoke"):
            said = set()
            for who in (owner, absent):
                reply = await stage.ask(outsider, who, route, proofs=proofs)
                assert reply.status in (401, 403)
                said.add(repr(_without_names(reply, who.network)))
            assert len(said) == 1, said


class _Absent(Owner):
    """An owner that the node does not know, with another owner's envelope."""

    @property
    def network(self) -> str:
        return f"urn:tinycloud:encryption:{self.wallet.did}:default"


def _absent_owner(like: Owner) -> Owner:
    return _Absent(like.client, new_wallet(), like.envelope)


async def test_evidence_and_policies_cannot_be_distinguished(stage: Stage) -> None:
    """Quotes and policies get equal answers for existing and missing networks."""
    owner, absent, outsider = await stage.owner(), _absent_owner(await stage.owner()), Delegate()
    said = set()
    for who in (owner, absent):
        nonce = await stage.nonce(outsider.did)
        quote = stage.quote(outsider.did, outsider.receiver.public_key, nonce)
        reply = await stage.submit_quote(outsider, who.network, nonce=nonce, quote=quote)
        assert reply.status == 401
        said.add((reply.status, reply.value["code"], reply.value["hint"]))
    assert len(said) == 1
    said = set()
    for who in (owner, absent):
        token = key_token(
            outsider.signer, stage.node_did, {who.network: ["sealspace.encryption/policy"]}
        )
        reply = await send(
            stage.url, "PUT", network_path(who.network, "policy"), token=token, body=b"{}"
        )
        said.add((reply.status, reply.value["code"], reply.value["hint"]))
    assert len(said) == 1


async def test_delegations_cannot_be_distinguished(stage: Stage) -> None:
    """Revocations get equal answers for existing and missing delegations."""
    owner, outsider = await stage.owner(), Delegate()
    there = owner.client.session.grants[0].cid
    absent = "bafkr4ibxxskb2v2jyxzgfyiwzx3wwopsyo6cpcjthzxmwz4ojmqykhrxjq"
    # The wire's texts tell a known id from an unknown one (W20, W22); an id is a hash of a token,
    # which nobody guesses.
    for cid in (there, absent):
        token = key_token(
            outsider.signer, outsider.did, {f"urn:cid:{cid}": ["tinycloud.delegation/revoke"]}
        )
        assert (await stage.post("/revoke", token)).status == 403
    said = set()
    for space in (owner.space("secrets"), owner.space("never-made"), _space_of(new_wallet())):
        reply = await stage.post(
            "/delegate", outsider.grant(new_key().did, {f"{space}/kv/x": [GET]}, proofs=[])
        )
        assert reply.status == 401
        said.add(repr(_without_names(reply, space)))
    assert len(said) == 1


async def test_a_wallet_of_another_chain_is_another_owner(stage: Stage) -> None:
    """The owner's address on another chain is another owner."""
    owner = await stage.owner()
    address = owner.wallet.did.rpartition(":")[2]
    digit = "0" if address[-1] != "0" else "1"
    for space in (
        f"tinycloud:pkh:eip155:137:{address}:secrets",
        f"tinycloud:pkh:eip155:1:{address[:-1].lower()}{digit}:secrets",
    ):
        session = owner.session
        reply = await stage.invoke(
            session.signer, {_secret_in(space): [GET]}, proofs=session.proofs
        )
        assert reply.status == 401, reply.said


async def test_an_outsider_cannot_take_a_space(stage: Stage) -> None:
    """An outsider cannot host, register or write in a space before its owner comes."""
    wallet, outsider = new_wallet(), Delegate()
    space = _space_of(wallet)
    host = key_token(
        outsider.signer, new_key().did, {f"{space}/space": ["tinycloud.space/host"]}, ttl_s=600
    )
    assert (await stage.post("/delegate", host)).status == 401
    reply = await stage.invoke(outsider.signer, {f"{space}/kv/x": [PUT]}, body=b"x")
    assert reply.status == 401
    body = b'{"name":"default","ownerDid":"' + wallet.did.encode() + b'"}'
    token = key_token(
        outsider.signer,
        stage.node_did,
        {
            f"urn:tinycloud:encryption:{wallet.did}:default": [
                "tinycloud.encryption/network.create",
                DECRYPT,
            ]
        },
        nonce=fresh_nonce(),
    )
    assert (
        await send(stage.url, "POST", "/encryption/networks", token=token, body=body)
    ).status == 401
