"""Section 2.3 and rules C8 to C10: the sign-in text and its times."""

import pytest
from capability_cases import message

from capabilities.capability_errors import InvalidIdentifier
from capabilities.siwe import parse_rfc3339, siwe_text

HEAD = (
    "app.example wants you to sign in with your Ethereum"
    " account:\n0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\n"
)
TAIL = "Version: 1\nChain ID: 1\nNonce: nonce0001\nIssued At: 2026-01-02T03:04:05.000Z"


def test_text_without_statement():
    """Two empty lines separate address and URI, and no newline ends the text."""
    assert f"{HEAD}\n\nURI: did:key:z\n{TAIL}" == siwe_text(message(uri="did:key:z"))


def test_text_with_everything():
    """Optional lines appear in their order."""
    text = siwe_text(
        message(
            uri="did:key:z",
            scheme="https",
            statement="hi",
            expiration_time="E",
            not_before="B",
            request_id="R",
            resources=("x:a", "x:b"),
        )
    )
    expected = (
        f"https://{HEAD}\nhi\n\nURI: did:key:z\n{TAIL}\n"
        "Expiration Time: E\nNot Before: B\nRequest ID: R\nResources:\n- x:a\n- x:b"
    )
    assert expected == text


def test_text_with_empty_optionals():
    """An empty text still gets its line, but an empty resource list does not."""
    assert f"{HEAD}\n\n\nURI: did:key:z\n{TAIL}\nRequest ID: " == siwe_text(
        message(uri="did:key:z", statement="", request_id="", resources=())
    )


def test_C9_chain_is_rendered_in_decimal():
    """The chain is a decimal number in text and DID."""
    assert "\nChain ID: 137\n" in siwe_text(message(chain_id=137))
    assert message(chain_id=137).iss.startswith("did:pkh:eip155:137:0xf39F")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-02T03:04:05.000Z", 1767323045),
        ("2026-01-02t03:04:05z", 1767323045),
        ("2026-01-02 03:04:05Z", 1767323045),
        ("2026-01-02_03:04:05.5Z", 1767323045.5),
        ("2026-01-02T03:04:05.123456789123Z", 1767323045.123456789),
        ("2026-01-02T03:04:05+02:00", 1767323045 - 7200),
        ("2026-01-02T03:04:05-23:59", 1767323045 + 86340),
        ("2026-01-02T03:04:05-00:00", 1767323045),
        ("2024-02-29T00:00:00Z", 1709164800),
        ("2000-02-29T00:00:00Z", 951782400),
        ("0000-02-29T00:00:00Z", -62162121600),
        ("0000-01-01T00:00:00Z", -62167219200),
        ("0000-01-01T00:01:00+00:01", -62167219200),
        ("9999-12-31T23:59:59Z", 253402300799),
        ("2016-12-31T23:59:60Z", 1483228800),
        ("2017-01-01T05:29:60+05:30", 1483228800),
        ("2015-06-30T23:59:60.25Z", 1435708800.25),
    ],
)
def test_C10_times(text, seconds):
    """All allowed forms of RFC 3339 times are parsed."""
    assert seconds == parse_rfc3339(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-02",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T03:60:00Z",
        "2026-01-02T03:04:61Z",
        "2026-01-02T03:04:05,5Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02TT03:04:05Z",
        "2026-01-02é03:04:05Z",
        "2026-01-02T03:04:05+2:00",
        "2026-01-02T03:04:05+0200",
        "2026-01-02T03:04:05+24:00",
        "2026-01-02T03:04:05+23:60",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "026-01-02T03:04:05Z",
        "-2026-01-02T03:04:05Z",
        "2016-12-30T23:59:60Z",
        "2016-12-31T23:58:60Z",
        "2016-12-31T23:59:60+01:00",
        "9999-12-31T23:59:60Z",
        "9999-12-31T23:59:59-00:01",
        "0000-01-01T00:00:00+00:01",
        "0000-01-01T00:00:59+00:01",
        "２０２６-01-02T03:04:05Z",
        "2026-01-02T03:04:05Z\n",
    ],
)
def test_C10_what_is_no_time(text):
    """A time without zone or seconds, or out of range, is rejected."""
    with pytest.raises(InvalidIdentifier):
        parse_rfc3339(text)
