"""What an owner demands of a node: the options for it, and the format in which a login stores it.

Example:
    @click.command()
    @accepting_options
    def command(accepted: Accepted) -> None: ...
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce, wraps
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import click
import msgspec

from capabilities.strict_json import Json
from encryption_network.key_providers import DEFAULT_KEY_PROVIDERS
from encryption_network.network_errors import PolicyError
from encryption_network.policy import Policy, parse_policy, policy_json

from ..documents.node_evidence import NodePolicy, SecretOrigin
from ..errors import InvalidPolicy
from .command_errors import ConfigurationError
from .paths import FILE, NamedFile
from .term_files import key_providers_named

_ROOT_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What the caller accepts of a node in addition to the strict terms, which are the defaults."""

    operator_secret: bool = False
    release_roots: tuple[bytes, ...] = ()
    node_policy: bool = False
    key_providers: tuple[str, ...] = DEFAULT_KEY_PROVIDERS

    def policy(self, code: Policy) -> NodePolicy:
        """Return the policy about a node that runs this code."""
        return NodePolicy(
            code=code,
            secret_origins=frozenset(
                get_args(SecretOrigin) if self.operator_secret else ("platform",)
            ),
            release_roots=frozenset(self.release_roots),
            accepts_node_policy=self.node_policy,
            release_key_providers=self.key_providers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the owner wants a node to prove about itself."""

    insists: bool | None
    code_file: Path | None
    accepted: Accepted
    trust_root: Path | None
    collateral: Path | None

    def __post_init__(self) -> None:
        """Refuse terms of a demand that is not made."""
        if self.insists is not True and (self.code_file is not None or self.accepted != Accepted()):
            raise click.UsageError("--node-policy and --accept-… go with --require-node-evidence")


def _root(text: str) -> bytes:
    try:
        root = bytes.fromhex(text)
    except ValueError:
        root = b""
    if len(root) != _ROOT_BYTES:
        raise ConfigurationError("--accept-root is no SHA-256", hint="write 64 hex digits")
    return root


def gathering(
    name: str, kind: Callable[..., object], *options: Callable[..., Any]
) -> Callable[..., Any]:
    """Return a decorator that adds options to a command, which receives them as one argument.

    Args:
        name: of the argument.
        kind: has a parameter for each option, and may have others with a default.
        options: decorators, in the order in which help lists them.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def gathered(*arguments: Any, **given: Any) -> object:
            members = signature(kind).parameters.keys() & given.keys()
            given[name] = kind(**{member: given.pop(member) for member in members})
            return command(*arguments, **given)

        return reduce(lambda made, option: option(made), reversed(options), gathered)

    return decorate


accepting_options: Final = gathering(
    "accepted",
    Accepted,
    click.option(
        "--accept-operator-secret",
        "operator_secret",
        is_flag=True,
        help="Accept a root secret that the operator has.",
    ),
    click.option(
        "--accept-root",
        "release_roots",
        multiple=True,
        metavar="HEX",
        type=_root,
        help="Accept backends under this root (SHA-256).",
    ),
    click.option(
        "--accept-node-policy",
        "node_policy",
        is_flag=True,
        help="Accept that the operator may approve code for owners.",
    ),
    click.option(
        "--accept-key-provider",
        "key_providers",
        multiple=True,
        default=DEFAULT_KEY_PROVIDERS,
        show_default=True,
        metavar="PROVIDER",
        callback=lambda _context, _option, texts: key_providers_named(
            texts, where="--accept-key-provider"
        ),
        help=(
            "Who may give applications their keys, for the node to take their evidence: kms or tpm,"
            " or one of them by its id (kms:<hex>); repeatable, in place of the default."
        ),
    ),
)
"""Adds the options that accept what the strict terms refuse; the command receives them as one,
`accepted`."""

demand_options: Final = gathering(
    "demand",
    Demand,
    click.option(
        "--require-node-evidence/--no-node-evidence",
        "insists",
        default=None,
        help=(
            "Whether the node has to prove what code it runs, before this and every later command;"
            " remembered."
        ),
    ),
    click.option(
        "--node-policy",
        "code_file",
        type=FILE,
        help=(
            "Which code the node may run, as JSON; without it you are shown what runs there, and"
            " asked."
        ),
    ),
    accepting_options,
    click.option(
        "--trust-root",
        type=NamedFile(resolve_path=True),
        help="Root certificate that quotes have to end at, instead of Intel's; remembered.",
    ),
    click.option(
        "--collateral",
        type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
        help="Folder of collateral to judge quotes by, instead of asking Intel; remembered.",
    ),
)
"""Adds the options for what the node has to prove; the command receives them as one, `demand`."""


class _Demanded(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """What is demanded of a node as a login stores it; modes are always those of the default."""

    code: Any  # JSON; `parse_policy` judges it
    secret_origins: frozenset[SecretOrigin]
    release_roots: list[Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]]
    accepts_node_policy: bool
    key_providers: tuple[str, ...]
    store_id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")] | None


def node_policy_json(policy: NodePolicy) -> dict[str, Json]:
    """Encode what is demanded of a node, as a login stores it."""
    return {
        "code": policy_json(policy.code),
        "secretOrigins": [*sorted(policy.secret_origins)],
        "releaseRoots": [root.hex() for root in sorted(policy.release_roots)],
        "acceptsNodePolicy": policy.accepts_node_policy,
        "keyProviders": list(policy.release_key_providers),
        "storeId": None if policy.store_id is None else policy.store_id.hex(),
    }


def parse_node_policy(value: Json) -> NodePolicy | None:
    """Parse the output of `node_policy_json`; None for anything else."""
    try:
        said = msgspec.convert(value, _Demanded)
        return NodePolicy(
            code=parse_policy(said.code),
            secret_origins=said.secret_origins,
            release_roots=frozenset(map(bytes.fromhex, said.release_roots)),
            accepts_node_policy=said.accepts_node_policy,
            release_key_providers=said.key_providers,
            store_id=None if said.store_id is None else bytes.fromhex(said.store_id),
        )
    except (msgspec.ValidationError, PolicyError, InvalidPolicy):
        return None
