"""Fixtures of attestation tests: a simulated platform, its root and its collateral."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from deviating_platform import SimulatedPlatform

from encryption_network.policy import Measurements
from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.attestation.trust_root import TrustRoot, parse_trust_root
from tee_backend.evidence.simulated import measurements_of

NOW = 1_795_000_000.0


@pytest.fixture
def now() -> float:
    """The time at which the simulated collateral is published."""
    return NOW


@pytest.fixture(scope="session")
def machine() -> SimulatedPlatform:
    """One simulated platform."""
    return SimulatedPlatform.from_seed(b"the platform of the tests")


@pytest.fixture(scope="session")
def root(machine: SimulatedPlatform) -> TrustRoot:
    """The platform's root, as an operator configures it."""
    return parse_trust_root(machine.root_der)


@pytest.fixture(scope="session")
def document(machine: SimulatedPlatform) -> bytes:
    """The platform's collateral as published."""
    return machine.collateral_json(NOW)


@pytest.fixture(scope="session")
def collateral(document: bytes) -> Collateral:
    """The platform's collateral, parsed."""
    return parse_collateral(document)


@pytest.fixture(scope="session")
def code() -> Measurements:
    """Measurements of the backend's code."""
    return measurements_of("backend")


@pytest.fixture(scope="session")
def quote(machine: SimulatedPlatform, code: Measurements) -> bytes:
    """An ordinary quote."""
    return machine.mint_quote(code, bytes(range(64)))


@pytest.fixture
def edited(document: bytes) -> Callable[..., bytes]:
    """Return the collateral with members replaced (None removes one)."""

    def edit(**members: Any) -> bytes:
        changed = {**json.loads(document), **members}
        return json.dumps(
            {name: value for name, value in changed.items() if value is not None}
        ).encode()

    return edit
