"""The people of a history: an owner with spaces and a secret, an attested delegate, and a reader.

They only make requests. Who sends them, and where, is up to the caller.

Example:
    party = await new_party(node.url, platform, clients)
    grant = party.new_grant(at=0)
    request = party.request(Did.PUT, "a", "value", grant=grant, at=0, under_grant=True)
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from attacks.parties import DECRYPT, DELETE, GET, PUT, Delegate, Owner, Stage, policy_for, stage_on
from deviating_platform import SimulatedPlatform
from history.checker import Did, Said
from running_node import Reply, key_token, network_path, new_key, wallet_token
from wire_replay import token_id

SPACES_OF_AN_OWNER = 12
KEYS = ("a", "b", "c")
_PROGRAM = "approved"
_GRANT_TTL_S = 6 * 3600
_TOKEN_TTL_S = 60.0


@dataclass(frozen=True)
class Request:
    """A request that was signed and can be sent more than once."""

    path: str
    token: str
    body: bytes | None


@dataclass
class Party:
    """An owner with a secret, an attested delegate, and a reader.

    Attributes:
        stage: where they were signed in; its address may be out of date.
        reading: the reader's grant for all spaces.
        age_s: how long ago grants say that they were signed, for nodes whose clock is slow.
        token_ttl_s: the lifetime of the other tokens.
    """

    stage: Stage
    owner: Owner
    delegate: Delegate
    reader: Delegate
    reading: str = ""
    age_s: float = 0.0
    token_ttl_s: float = _TOKEN_TTL_S

    def space(self, at: int) -> str:
        """Id of one of the owner's spaces."""
        return f"tinycloud:{self.owner.wallet.did.removeprefix('did:')}:space-{at}"

    def new_grant(self, *, at: int) -> str:
        """Return a new grant for the delegate, for one space and for decryption."""
        abilities = {f"{self.space(at)}/kv": [PUT, GET, DELETE], self.owner.network: [DECRYPT]}
        return wallet_token(
            self.owner.wallet,
            self.delegate.did,
            abilities,
            policy=policy_for(_PROGRAM),
            age_s=self.age_s,
            ttl_s=_GRANT_TTL_S,
        )

    def request(
        self, did: Did, key: str, value: str | None, *, grant: str, at: int, under_grant: bool
    ) -> Request:
        """Sign a request about one space.

        Args:
            did: what is requested.
            key: of the value.
            value: to put.
            grant: the delegate's, which a revocation ends.
            at: number of the space.
            under_grant: whether the delegate sends it, or the reader.
        """
        delegate, ttl_s = self.delegate, self.token_ttl_s
        if did is Did.REVOKE:
            target = {f"urn:cid:{token_id(grant)}": ["tinycloud.delegation/revoke"]}
            token = key_token(delegate.signer, delegate.did, target, ttl_s=ttl_s)
            return Request(path="/revoke", token=token, body=None)
        if did is Did.DECRYPT:
            asked = self.stage.decrypt(delegate, self.owner, proofs=[grant], ttl_s=ttl_s)
            path = network_path(asked.network, "decrypt")
            return Request(path=path, token=asked.token, body=asked.body)
        ability = {Did.PUT: PUT, Did.GET: GET, Did.DELETE: DELETE}[did]
        who, proof = (delegate, grant) if under_grant else (self.reader, self.reading)
        resource = {f"{self.space(at)}/kv/{key}": [ability]}
        token = key_token(who.signer, who.did, resource, proofs=[proof], ttl_s=ttl_s)
        return Request(path="/invoke", token=token, body=None if value is None else value.encode())


async def new_party(
    url: str,
    platform: SimulatedPlatform,
    clients: AsyncExitStack,
    *,
    age_s: float = 0.0,
    token_ttl_s: float = _TOKEN_TTL_S,
) -> Party:
    """Sign in an owner, attest a delegate of that owner, and let a reader read all spaces."""
    stage = await stage_on(url, platform, clients)
    owner = await stage.owner()
    party = Party(
        stage=stage,
        owner=owner,
        delegate=Delegate(new_key()),
        reader=Delegate(new_key()),
        age_s=age_s,
        token_ttl_s=token_ttl_s,
    )
    delegate = party.delegate
    decrypting = owner.grant_decrypt(delegate.did, policy=policy_for(_PROGRAM), age_s=age_s)
    delegate.proofs.append(await stage.register(decrypting))
    await stage.attest(delegate, owner.network, program=_PROGRAM)
    spaces = {f"{party.space(at)}/kv": [GET] for at in range(SPACES_OF_AN_OWNER)}
    reading = wallet_token(owner.wallet, party.reader.did, spaces, age_s=age_s, ttl_s=_GRANT_TTL_S)
    party.reading = await stage.register(reading)
    return party


class ImpossibleAnswer(Exception):
    """An answer that no history can contain."""


def said_of(did: Did, reply: Reply) -> Said:
    """Convert an answer.

    Raises ImpossibleAnswer for one that no history can contain.
    """
    match reply.status:
        case 200:
            return Said.DONE
        case 404 if did in (Did.GET, Did.DELETE):
            return Said.NOTHING_THERE
        case 401 if "revoked" in reply.text:
            return Said.NOT_ALLOWED
        case 402 | 413 if did is Did.PUT:
            return Said.NO_FREE_SPACE
        case 409 if "cannot be ruled out" in reply.text:
            return Said.TURNED_AWAY
        case 409 if "duplicate" in reply.text:
            return Said.USED_BEFORE
        case 412 if did is Did.PUT:
            return Said.CONDITION_FAILED
        case 507:
            return Said.TURNED_AWAY
        case 503:
            return Said.UNKNOWN
    raise ImpossibleAnswer(f"{did.name}: {reply.said}")
