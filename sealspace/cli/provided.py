"""Typed access to modules of the packages above this one, for the commands of owners.

Imports go downwards only, so those packages name what they provide by the entry point group
`sealspace.provided`. Each has a type here; that the modules fit is checked by `tests/house`.

Example:
    lines = node_evidence().in_words(attestation.statement, facts)
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from encryption_network.policy import Evidence, Policy

from ..client import Client
from ..documents.node_evidence import NodeAttestation, NodeStatement, NodeVerifier

if TYPE_CHECKING:  # importing the HTTP library takes half of the time of a command
    from aiohttp import ClientResponse


class NodeExaminer(NodeVerifier, Protocol):
    """A verifier that also tells what a node runs, without a policy to compare it with."""

    async def examine(self, attestation: NodeAttestation, *, now: float) -> Evidence:
        """Return the verified facts of a node's evidence.

        Raises:
            NodeEvidenceRefused: the evidence is not valid at `now`, epoch seconds.
        """


class NodeJudging(Protocol):
    """Verification of nodes' evidence, which needs the extra `verify`."""

    def read_trust_root(self, path: Path | None) -> object:
        """Read a root certificate; without a path, return Intel's."""

    def node_verifier(self, *, trust_root: Path | None, collateral: Path | None) -> NodeExaminer:
        """Return a verifier of nodes' evidence.

        Without a root, it trusts Intel's; without collateral, it asks Intel's service.
        """

    async def ask_node(self, client: Client) -> NodeAttestation:
        """Fetch a node's evidence, and check that it names the node."""

    def in_words(self, statement: NodeStatement, facts: Evidence) -> tuple[str, ...]:
        """Describe verified evidence in lines of text."""

    def exact_code(self, facts: Evidence) -> Policy:
        """Return a policy that approves only the measurements in the evidence."""


class ConsoleFiles(Protocol):
    """The files of the web console."""

    @property
    def TYPES(self) -> Mapping[str, str]:
        """The content type for each file suffix."""

    @property
    def HEADERS(self) -> Mapping[str, str]:
        """Extra headers for every response that serves a file."""

    def read_files(self) -> dict[str, bytes]:
        """Return the contents of all files by relative path."""


class HttpsRequests(Protocol):
    """HTTPS requests to one public host."""

    def https_response(
        self,
        method: str,
        url: str,
        headers: Iterable[tuple[str, str]],
        body: str,
        *,
        loopback_ca: Path | None,
    ) -> "AbstractAsyncContextManager[ClientResponse]":
        """Send a request, and yield the response, whose body is not read yet.

        Raises:
            InvalidInput: the request is not allowed, or no valid response arrived.
        """


def node_evidence() -> NodeJudging:
    """Return the module that judges the evidence of nodes."""
    loaded: NodeJudging = load("node-evidence")
    return loaded


def console_files() -> ConsoleFiles:
    """Return the module with the web console's files."""
    loaded: ConsoleFiles = load("console-files")
    return loaded


def https_requests() -> HttpsRequests:
    """Return the module that sends HTTPS requests."""
    loaded: HttpsRequests = load("https-requests")
    return loaded


def load(name: str) -> Any:
    """Load the module that an entry point of the group `sealspace.provided` names."""
    from importlib.metadata import entry_points  # imported here to keep the start fast

    (point,) = entry_points(group="sealspace.provided", name=name)
    return point.load()
