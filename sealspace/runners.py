"""Granting to runners: an owner's secrets, for the programs and callers that the owner names.

A runner is a backend that executes programs of others. It is looked at as any backend is, by `sealspace.backends`; the
grant then says beside the runner's code for which programs, callers and hosts the secrets may be used.

Example:
    seen = await client.backends.look(runner_url, inspector)
    run = RunStatement(programs=(ByHash(wasm_sha256),))
    portable = await client.runners.grant(seen, ["prod/API_KEY"], run, wallet=wallet)
    await hand_over(seen.url, portable)
"""

from collections.abc import Sequence

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.principals import same_principal

from ._caller import Caller
from ._capability import capability
from ._secret_names import SECRETS_SPACE, parse_secret_label
from .backends import LOOK_TTL_S, Backends, Leniency, Pin, Seen, policy_for
from .delegations import DELEGATION_TTL_S, Delegations
from .errors import BackendNotAcceptable, InvalidInput
from .portable import PortableDelegation
from .run_grants import MAX_SECRETS, RunStatement, read_run_grant
from .session import network_of_owner, space_of
from .wallets import AnyWallet, wallet_of


class Runners:
    """Granting to runners; made by `Client.runners`."""

    def __init__(self, caller: Caller, backends: Backends, delegations: Delegations) -> None:
        self._caller = caller
        self._backends = backends
        self._delegations = delegations

    async def grant(
        self,
        seen: Seen,
        secrets: Sequence[str],
        run: RunStatement,
        *,
        ttl_s: float = DELEGATION_TTL_S,
        accept: Sequence[Leniency] = (),
        pin: Pin = "compose",
        wallet: AnyWallet | None = None,
    ) -> PortableDelegation:
        """Delegate secrets to exactly the runner that was seen, for named programs and callers alone.

        Args:
            seen: from `Backends.look`, at most LOOK_TTL_S ago.
            secrets: labels, `NAME` or `scope/NAME`, at most 32; a name that is added later needs a new grant.
            run: programs, callers, hosts and limits; the runner enforces them, the node does not.
            ttl_s: lifetime in seconds.
            accept: what may deviate from the strict terms; see `policy_for`.
            pin: see `policy_for`.
            wallet: the owner's; None: the session's key is the owner itself.
        Returns:
            The grant, registered at the node; `backends.hand_over` takes it to the runner.
        Raises:
            InvalidInput: a name, the number of names, or the signer is not the owner itself: a runner takes no grant
                that rests on another delegation (RN41).
            BackendNotAcceptable, NodeRefused, TransportError: as `Backends.grant`.
        """
        session = self._caller.session
        if not same_principal(session.did if wallet is None else wallet_of(wallet).did, session.owner):
            raise InvalidInput("a run grant is signed by the owner itself", hint="pass the owner's wallet")
        if not 0 <= self._caller.clock.now() - seen.seen_at <= LOOK_TTL_S:
            raise BackendNotAcceptable("what was seen is too old to grant to", problem="age", hint="look again")
        paths = [parse_secret_label(label).path for label in dict.fromkeys(secrets)]
        if not 1 <= len(paths) <= MAX_SECRETS:
            raise InvalidInput(f"a run grant names 1 to {MAX_SECRETS} secrets")
        space = space_of(session.owner, SECRETS_SPACE)
        resources = [f"{space.text}/kv/{path}" for path in paths]
        policy = policy_for(seen, paths=resources, accept=accept, pin=pin, ttl_s=ttl_s)
        await self._backends.require_judgeable(seen)  # before anything is signed
        wanted = [capability(resource, KV_GET) for resource in resources]
        wanted.append(capability(network_of_owner(session.owner).text, DECRYPT))
        portable = await self._delegations.delegate(
            seen.did, wanted, ttl_s=ttl_s, policy=policy, run=run, wallet=wallet
        )
        read_run_grant(portable.header, runner=seen.did)  # what a runner would refuse is not handed on
        return portable
