"""Environment variables of a run, and names and values that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from runner.guest.environment import MAX_ENVIRONMENT_BYTES, environment_of
from runner.reasons import RunRefused
from sealspace.documents.secret_names import RESERVED_NAMES, is_reserved


def test_reserved_names() -> None:
    """RN4: a secret with a reserved name is left out of the environment."""
    for name in (*sorted(RESERVED_NAMES), "IEXEC_OUT", "IEXEC_", "SEALSPACE_ANYTHING"):
        assert is_reserved(name), name
        assert () == environment_of({}, {name: "forged"})
        assert ((name, "true"), ("KEY", "a")) == environment_of(
            {name: "true"}, {name: "forged", "KEY": "a"}
        )


def test_how_many_names_are_reserved() -> None:
    """RN4: OutLayer's 26 names are reserved; common names of secrets are not."""
    assert 26 == len(RESERVED_NAMES)
    assert not [
        name
        for name in ("NEAR_SENDER_PRIVATE_KEY", "NEAR", "IEXEC", "MY_IEXEC_OUT", "PATH")
        if is_reserved(name)
    ]


def test_the_order() -> None:
    """RN6: the runner's variables come first, then the secrets, each in the given order."""
    made = environment_of({"WALLET_ID": "", "NEAR_NETWORK_ID": "n"}, {"B": "2", "A": ""})
    assert (("WALLET_ID", ""), ("NEAR_NETWORK_ID", "n"), ("B", "2"), ("A", "")) == made


@pytest.mark.parametrize(
    "name",
    ["", "key", "1KEY", "_KEY", "KEY-A", "KEY=A", "KEY\0", "KEY\n", "../KEY", "K'; DROP", "KÉY"],
)
def test_names_that_are_none(name: str) -> None:
    """RN5: a name consists of capital letters, digits and underscores."""
    with pytest.raises(RunRefused) as refused:
        environment_of({}, {name: "a"})
    assert "environment-name" == refused.value.reason.code


@pytest.mark.parametrize("value", ["\0", "a\0b", "a\ud800"])
def test_values_that_are_none(value: str) -> None:
    """RN5: a value with a NUL or without Unicode text is refused by its name."""
    with pytest.raises(RunRefused) as refused:
        environment_of({}, {"KEY": value})
    assert refused.value.reason.code == "environment-value"
    assert refused.value.reason.detail == "KEY"


def test_the_length() -> None:
    """RN5: names, values and two bytes for each variable have at most 256 KiB."""
    room = MAX_ENVIRONMENT_BYTES - len("KEY") - 2
    assert 1 == len(environment_of({}, {"KEY": "x" * room}))
    for secrets in (
        {"KEY": "x" * (room + 1)},
        {"KEY": "é" * (room // 2 + 1)},
        {"KEY": "x" * (room - 2), "A": ""},
    ):
        with pytest.raises(RunRefused) as refused:
            environment_of({}, secrets)
        assert refused.value.reason.code == "environment-too-large"
        assert refused.value.reason.detail == ""


def test_what_the_runner_says_has_reserved_names() -> None:
    """A runner's variable with an unreserved name raises ValueError."""
    with pytest.raises(ValueError, match="KEY"):
        environment_of({"KEY": "a"}, {})


@fuzzed(1)
@given(
    st.dictionaries(st.text(), st.text()),
    st.dictionaries(st.sampled_from(sorted(RESERVED_NAMES)), st.text()),
)
def test_fuzz_environments(secrets: dict[str, str], system: dict[str, str]) -> None:
    """Any names and values give an environment without forged names, or a refusal."""
    try:
        made = environment_of(system, secrets)
    except RunRefused as refused:
        assert refused.reason.code in ("environment-name", "environment-value")
        return
    assert system == {name: value for name, value in made if is_reserved(name)}
    assert "\0" not in "".join(name + value for name, value in made)
