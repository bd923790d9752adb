"""Tests of the names and addresses under which iExec's secrets are stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealspace.documents.iexec_names import (
    address_of,
    app_secret,
    dataset_secret,
    requester_secret,
    wallet_secret,
)
from sealspace.documents.project_names import parse_project
from sealspace.documents.secret_names import SecretName, parse_secret_label
from sealspace.errors import InvalidInput

NAMES = st.text("abzABZ019_-", min_size=1, max_size=64)
PROJECT = parse_project("did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp/digest")
ADDRESS = "0x3Eca1b216a7df1c7689aeb259ffb83adfb894e7f"


def test_secrets_of_iexec() -> None:
    """Each kind of iExec's secrets has its own scope, and a name that shows the original."""
    upper = ADDRESS[2:].upper()
    assert requester_secret("my-namespace").label == "iexec-requester/NAME_MY_HNAMESPACE"
    assert wallet_secret("Dropbox token").label == "iexec-result/NAME_DROPBOX_X20TOKEN"
    assert app_secret(ADDRESS) == SecretName(f"APP_{upper}", "iexec-app")
    assert dataset_secret(ADDRESS.lower()) == SecretName(f"DATASET_{upper}", "iexec-dataset")


@given(NAMES, NAMES)
def test_different_names_are_different_secrets(one: str, other: str) -> None:
    """iexec-S7: the names of requesters are case-sensitive; all are valid names of secrets."""
    assert (requester_secret(one) == requester_secret(other)) == (one == other)
    label = requester_secret(one).label
    assert parse_secret_label(label).label == label


@given(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8))
def test_names_of_wallets_ignore_case(one: str, other: str) -> None:
    """The names of wallets' secrets are equal in any letter case (iexec-S8)."""
    assert (wallet_secret(one) == wallet_secret(other)) == (one.lower() == other.lower())


@pytest.mark.parametrize("name", ["", "a" * 65, "a" * 66, "$", "a b", "\u0661", "a\n", "a\0"])
def test_requesters_names_that_are_refused(name: str) -> None:
    """A malformed name of a requester's secret is refused (iexec-S6)."""
    with pytest.raises(InvalidInput, match="at most 64 characters"):
        requester_secret(name)


@pytest.mark.parametrize("name", ["", "a" * 65, "\u20ac" * 22])
def test_wallets_names_that_are_refused(name: str) -> None:
    """Names of wallets have 1 to 64 bytes."""
    with pytest.raises(InvalidInput, match="64 bytes"):
        wallet_secret(name)


@pytest.mark.parametrize("address", ["", ADDRESS[2:], ADDRESS + "0", ADDRESS[:-1] + "g", "0x"])
def test_malformed_addresses(address: str) -> None:
    """Only `0x` and 40 hexadecimal digits are an address."""
    with pytest.raises(InvalidInput, match="40 hex digits"):
        app_secret(address)


def test_addresses_of_projects() -> None:
    """The address is a digest of a label and the id, so applications and data sets differ."""
    assert address_of("app", PROJECT) == "0xcec653a021511554d91d35efeb745c17f82821e4"
    assert address_of("dataset", PROJECT) != address_of("app", PROJECT)
