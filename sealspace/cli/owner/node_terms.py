"""Command line options that state an owner's requirements for a node.

Example:
    @click.command()
    @accepting_options
    def command(accepted: Accepted) -> None: ...
"""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

import click
import msgspec

from capabilities.frozen import frozen
from capabilities.strict_json import Json, JsonObject, StrictStruct
from encryption_network.key_providers import DEFAULT_KEY_PROVIDERS
from encryption_network.network_errors import PolicyError
from encryption_network.policy import Policy, parse_policy, policy_json

from ...documents.node_evidence import NodePolicy, SecretOrigin
from ...errors import InvalidPolicy
from ...service.command_errors import ConfigurationError
from ...service.term_files import key_providers_named
from ..options.paths import NamedFile, file_option
from ..terminal import flag_option, repeatable_option

_ROOT_BYTES = 32


class Accepted(NamedTuple):
    """An owner's exceptions to the default node policy.

    They come from the options `--accept-…`.
    """

    operator_secret: bool = False
    release_roots: tuple[bytes, ...] = ()
    node_policy: bool = False
    key_providers: tuple[str, ...] = DEFAULT_KEY_PROVIDERS

    def policy(self, code: Policy) -> NodePolicy:
        """Return the default node policy with the owner's exceptions."""
        origins: tuple[SecretOrigin, ...] = ("platform",)
        if self.operator_secret:
            origins = get_args(SecretOrigin)
        return NodePolicy(
            code=code,
            secret_origins=frozenset(origins),
            release_roots=frozenset(self.release_roots),
            accepts_node_policy=self.node_policy,
            release_key_providers=self.key_providers,
        )


@frozen(kw_only=True)
class Demand:
    """The options of `sealspace login` that require attestation of the node."""

    insists: bool | None
    code_file: Path | None
    accepted: Accepted
    trust_root: Path | None
    collateral: Path | None

    def __post_init__(self) -> None:
        """Reject options that need `--require-node-evidence` if it is not set."""
        if self.insists is not True and (self.code_file is not None or self.accepted != Accepted()):
            raise click.UsageError(
                "--node-policy and the --accept options are allowed only with"
                " --require-node-evidence"
            )


def _root(text: str) -> bytes:
    try:
        root = bytes.fromhex(text)
    except ValueError:
        root = b""  # refused below by its length
    if len(root) != _ROOT_BYTES:
        raise ConfigurationError("--accept-root is not a SHA-256", hint="write 64 hex digits")
    return root


def gathering(
    name: str, kind: Callable[..., object], *options: Callable[..., Any]
) -> Callable[..., Any]:
    """Return a decorator that combines several command options into one object.

    Args:
        name: the command's parameter for the object.
        kind: the class of the object. It has a parameter for each option; others have a default.
        options: option decorators, in the order of help.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_object(*arguments: Any, **parameters: Any) -> object:
            members = signature(kind).parameters.keys() & parameters.keys()
            values = {member: parameters.pop(member) for member in members}
            parameters[name] = kind(**values)
            return command(*arguments, **parameters)

        # The decorator that is applied last is the first option in the help.
        decorated: Callable[..., Any] = with_object
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


accepting_options = gathering(
    "accepted",
    Accepted,
    flag_option(
        "--accept-operator-secret",
        "operator_secret",
        help="Accept a node even if the operator knows the node's root secret.",
    ),
    repeatable_option(
        "--accept-root",
        "release_roots",
        metavar="HEX",
        type=_root,
        help="Accept a node that trusts the root certificate with this SHA-256 for the signatures"
        " of quotes; repeatable.",
    ),
    flag_option(
        "--accept-node-policy",
        "node_policy",
        help="Accept a node whose operator approves code on behalf of owners.",
    ),
    repeatable_option(
        "--accept-key-provider",
        "key_providers",
        default=DEFAULT_KEY_PROVIDERS,
        show_default=True,
        metavar="PROVIDER",
        callback=lambda _context, _option, texts: key_providers_named(
            texts, where="--accept-key-provider"
        ),
        help="Accept a node that trusts this provider of backends' keys: kms, tpm, or one id"
        " (kms:<hex>). Repeatable. The default does not apply if you give this option.",
    ),
)
"""Adds the options `--accept-…`; the command receives them as one object, `accepted`."""

demand_options = gathering(
    "demand",
    Demand,
    click.option(
        "--require-node-evidence/--no-node-evidence",
        "insists",
        default=None,
        help="Before this and every later command, require the node to prove which code it runs."
        " `--no-node-evidence` removes this requirement.",
    ),
    file_option(
        "--node-policy",
        "code_file",
        help="JSON policy: the code that the node may run. Without it, you are shown the node's"
        " code and asked to approve it.",
    ),
    accepting_options,
    click.option(
        "--trust-root",
        type=NamedFile(resolve_path=True),
        help="Verify quotes with this root certificate instead of Intel's. Later commands use it"
        " too.",
    ),
    click.option(
        "--collateral",
        type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
        help="Verify quotes with the collateral in this folder. Later commands use it too.",
    ),
)
"""Adds the options for node evidence; the command receives them as one object, `demand`."""


class _StoredPolicy(StrictStruct, rename="camel", kw_only=True):
    """The stored JSON form of a node policy.

    Attestation modes are not stored.
    """

    code: Any  # JSON; `parse_policy` judges it
    secret_origins: frozenset[SecretOrigin]
    release_roots: list[Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]]
    accepts_node_policy: bool
    key_providers: tuple[str, ...]
    store_id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")] | None


def node_policy_json(policy: NodePolicy) -> JsonObject:
    """Convert a node policy to JSON for storage."""
    return {
        "code": policy_json(policy.code),
        "secretOrigins": [*sorted(policy.secret_origins)],
        "releaseRoots": [root.hex() for root in sorted(policy.release_roots)],
        "acceptsNodePolicy": policy.accepts_node_policy,
        "keyProviders": list(policy.release_key_providers),
        "storeId": None if policy.store_id is None else policy.store_id.hex(),
    }


def parse_node_policy(value: Json) -> NodePolicy | None:
    """Parse a stored node policy.

    Returns None if the JSON is malformed.
    """
    try:
        stored = msgspec.convert(value, _StoredPolicy)
        return NodePolicy(
            code=parse_policy(stored.code),
            secret_origins=stored.secret_origins,
            release_roots=frozenset(map(bytes.fromhex, stored.release_roots)),
            accepts_node_policy=stored.accepts_node_policy,
            release_key_providers=stored.key_providers,
            store_id=None if stored.store_id is None else bytes.fromhex(stored.store_id),
        )
    except (msgspec.ValidationError, PolicyError, InvalidPolicy):
        return None
