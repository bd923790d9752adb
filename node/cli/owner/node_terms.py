"""What an owner demands of a node: the options for it, and the format in which a login stores it.

Example:
    @click.command()
    @accepting_options
    def command(accepted: Accepted) -> None: ...
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, Final, get_args

import click

from capabilities.strict_json import Json
from encryption_network.errors import PolicyError
from encryption_network.key_providers import DEFAULT_KEY_PROVIDERS
from encryption_network.policy import Policy, parse_policy, policy_json
from sealspace.errors import InvalidPolicy
from sealspace.node_evidence import STORE_ID_BYTES, NodePolicy, SecretOrigin

from ...errors import ConfigurationError
from ...term_files import key_providers_named
from ..paths import FILE, NamedFile

_ROOT_BYTES: Final = 32
_STRICT_ORIGINS: Final[tuple[SecretOrigin, ...]] = ("platform",)
_MEMBERS: Final = frozenset({"code", "secretOrigins", "releaseRoots", "acceptsNodePolicy", "keyProviders", "storeId"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What the caller accepts of a node in addition to the strict terms, which are the defaults.

    Attributes:
        operator_secret: a root secret that the operator has.
        release_roots: SHA-256 of further roots under which the node may believe backends.
        node_policy: the operator's list of code may replace an owner's.
        key_providers: those whose evidence the node may accept.
    """

    operator_secret: bool = False
    release_roots: frozenset[bytes] = frozenset()
    node_policy: bool = False
    key_providers: tuple[str, ...] = DEFAULT_KEY_PROVIDERS

    def policy(self, code: Policy) -> NodePolicy:
        """Return the policy about a node that runs this code.

        Raises:
            InvalidPolicy: it approves no code, or demands something that a node cannot prove.
        """
        return NodePolicy(
            code=code,
            secret_origins=frozenset(get_args(SecretOrigin) if self.operator_secret else _STRICT_ORIGINS),
            release_roots=self.release_roots,
            accepts_node_policy=self.node_policy,
            release_key_providers=self.key_providers,
        )


def accepting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that accept what the strict terms refuse; the command receives them as one, `accepted`."""

    @click.option("--accept-operator-secret", is_flag=True, help="Accept a root secret that the operator has.")
    @click.option(
        "--accept-root", "accept_roots", multiple=True, metavar="HEX", help="Accept backends under this root (SHA-256)."
    )
    @click.option("--accept-node-policy", is_flag=True, help="Accept that the operator may approve code for owners.")
    @click.option(
        "--accept-key-provider",
        "accept_key_providers",
        multiple=True,
        default=DEFAULT_KEY_PROVIDERS,
        show_default=True,
        metavar="PROVIDER",
        help="Who may give applications their keys, for the node to take their evidence: kms or tpm, or one of them by "
        "its id (kms:<hex>); repeatable, in place of the default.",
    )
    @wraps(command)
    def gathered(
        *arguments: Any,
        accept_operator_secret: bool,
        accept_roots: tuple[str, ...],
        accept_node_policy: bool,
        accept_key_providers: tuple[str, ...],
        **others: Any,
    ) -> object:
        accepted = Accepted(
            operator_secret=accept_operator_secret,
            release_roots=frozenset(_root(text) for text in accept_roots),
            node_policy=accept_node_policy,
            key_providers=key_providers_named(accept_key_providers, where="--accept-key-provider"),
        )
        return command(*arguments, accepted=accepted, **others)

    return gathered


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the owner wants a node to prove about itself.

    Attributes:
        insists: whether it has to prove its code; None: as at the previous login.
        code_file: approved code; None: what is seen now, if the owner approves of it.
        accepted: what is accepted in addition to the strict terms.
        trust_root: root certificate instead of Intel's.
        collateral: folder of documents instead of Intel's service.
    """

    insists: bool | None
    code_file: Path | None
    accepted: Accepted
    trust_root: Path | None
    collateral: Path | None


def demand_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for what the node has to prove; the command receives them as one, `demand`."""

    @click.option(
        "--require-node-evidence/--no-node-evidence",
        "insists",
        default=None,
        help="Whether the node has to prove what code it runs, before this and every later command; remembered.",
    )
    @click.option(
        "--node-policy",
        "code_file",
        type=FILE,
        help="Which code the node may run, as JSON; without it you are shown what runs there, and asked.",
    )
    @accepting_options
    @click.option(
        "--trust-root",
        type=NamedFile(resolve_path=True),
        help="Root certificate that quotes have to end at, instead of Intel's; remembered.",
    )
    @click.option(
        "--collateral",
        type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
        help="Folder of collateral to judge quotes by, instead of asking Intel; remembered.",
    )
    @wraps(command)
    def gathered(*arguments: Any, **options: Any) -> object:
        demand = Demand(**{field.name: options.pop(field.name) for field in fields(Demand)})
        if demand.insists is not True and (demand.code_file is not None or demand.accepted != Accepted()):
            raise click.UsageError("--node-policy and --accept-… go with --require-node-evidence")
        return command(*arguments, demand=demand, **options)

    return gathered


def node_policy_json(policy: NodePolicy) -> dict[str, Json]:
    """Encode what is demanded of a node, as a login stores it; modes are always those of the default."""
    return {
        "code": policy_json(policy.code),
        "secretOrigins": [*sorted(policy.secret_origins)],
        "releaseRoots": [*sorted(root.hex() for root in policy.release_roots)],
        "acceptsNodePolicy": policy.accepts_node_policy,
        "keyProviders": list(policy.release_key_providers),
        "storeId": None if policy.store_id is None else policy.store_id.hex(),
    }


def parse_node_policy(value: Json) -> NodePolicy | None:
    """Parse the output of `node_policy_json`; None for anything else."""
    if not isinstance(value, dict) or value.keys() != _MEMBERS:
        return None
    origins, providers = _texts(value["secretOrigins"]), _texts(value["keyProviders"])
    roots, accepts, store_id = _texts(value["releaseRoots"]), value["acceptsNodePolicy"], value["storeId"]
    if origins is None or providers is None or roots is None or not isinstance(accepts, bool):
        return None
    try:
        return NodePolicy(
            code=parse_policy(value["code"]),
            secret_origins=frozenset(origin for origin in get_args(SecretOrigin) if origin in origins),
            release_roots=frozenset(_digits(root, _ROOT_BYTES) for root in roots),
            accepts_node_policy=accepts,
            release_key_providers=providers,
            store_id=None if store_id is None else _digits(store_id, STORE_ID_BYTES),
        )
    except (PolicyError, InvalidPolicy, ValueError):
        return None


def _root(text: str) -> bytes:
    try:
        return _digits(text, _ROOT_BYTES)
    except ValueError:
        raise ConfigurationError("--accept-root is no SHA-256", hint="write 64 hex digits") from None


def _texts(value: Json) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    texts = tuple(text for text in value if isinstance(text, str))
    return texts if len(texts) == len(value) else None


def _digits(value: Json, size_bytes: int) -> bytes:
    data = bytes.fromhex(value) if isinstance(value, str) else b""
    if len(data) != size_bytes:
        raise ValueError("not that many hex digits")
    return data
