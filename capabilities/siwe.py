"""Sign-in messages in the format of EIP-4361 (section 2.3, rules C8 to C10).

The text is only built, never parsed: the node uses the fields. No field may contain a control
character, otherwise two sets of fields could give the same text. Code that reads fields from
outside checks this (see `cacao`).
"""

import re
from datetime import date

from .capability_errors import InvalidIdentifier
from .frozen import frozen
from .principals import eip55
from .signatures import eip191_digest

_RFC3339 = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})[\x00-\x7f]"
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<offset_hours>[0-9]{2}):(?P<offset_minutes>[0-9]{2}))"
)
_DAY_S = 86_400
_CYCLE_YEARS = 400
_CYCLE_DAYS = 146_097
"""The calendar repeats after this many days, which are 400 years."""
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_YEAR_0_S = -62_167_219_200

YEAR_10000_S = 253_402_300_800
"""First second after the last valid time (Q28)."""


@frozen(kw_only=True)
class SiweMessage:
    """The fields of a sign-in message."""

    domain: str
    address: bytes
    chain_id: int = 1
    uri: str
    nonce: str
    issued_at: str
    statement: str | None = None
    expiration_time: str | None = None
    not_before: str | None = None
    request_id: str | None = None
    resources: tuple[str, ...] = ()
    scheme: str | None = None

    @property
    def iss(self) -> str:
        """The wallet's DID in canonical form."""
        return f"did:pkh:eip155:{self.chain_id}:{eip55(self.address)}"

    @property
    def digest(self) -> bytes:
        """The 32-byte EIP-191 digest of the message."""
        return eip191_digest(siwe_text(self).encode())


def siwe_text(message: SiweMessage) -> str:
    """Return the text of a sign-in message.

    The wallet signs this text. Its lines are separated by LF. There is no LF at the end.
    """
    scheme = "" if message.scheme is None else f"{message.scheme}://"
    lines = [
        f"{scheme}{message.domain} wants you to sign in with your Ethereum account:",
        eip55(message.address),
        "",
    ]
    if message.statement is not None:
        lines.append(message.statement)
    lines += [
        "",
        f"URI: {message.uri}",
        "Version: 1",
        f"Chain ID: {message.chain_id}",
        f"Nonce: {message.nonce}",
        f"Issued At: {message.issued_at}",
    ]
    if message.expiration_time is not None:
        lines.append(f"Expiration Time: {message.expiration_time}")
    if message.not_before is not None:
        lines.append(f"Not Before: {message.not_before}")
    if message.request_id is not None:
        lines.append(f"Request ID: {message.request_id}")
    if message.resources:
        lines.append("Resources:")
        lines += [f"- {resource}" for resource in message.resources]
    return "\n".join(lines)


def parse_rfc3339(text: str) -> float:
    """Parse an RFC 3339 time (C10).

    Args:
        text: Untrusted. Any one ASCII character may replace the `T`, letters may be lower case.

    Returns:
        Epoch seconds with a fraction of at most nine digits. A leap second is read as the second
        after it.

    Raises:
        InvalidIdentifier: No zone, no seconds, an impossible date or time, or a moment outside the
            years 0 to 9999.
    """
    match = _RFC3339.fullmatch(text)
    moment = None if match is None else _moment_of(match)
    if moment is None:
        raise InvalidIdentifier("invalid time")
    return moment


def _moment_of(match: re.Match[str]) -> float | None:
    """Return the epoch seconds of a time, or None if there is no such time."""
    hour = int(match["hour"])
    minute = int(match["minute"])
    second = int(match["second"])
    offset_hours = int(match["offset_hours"] or 0)
    offset_minutes = int(match["offset_minutes"] or 0)
    if hour > 23 or minute > 59 or second > 60 or offset_hours > 23 or offset_minutes > 59:
        return None
    # The standard library has no year 0. So the date is moved by whole cycles of 400 years into the
    # years 2000 to 2399, which have the same calendar, and its day is moved back.
    cycles, year_of_cycle = divmod(int(match["year"]) - 2000, _CYCLE_YEARS)
    try:
        in_cycle = date(2000 + year_of_cycle, int(match["month"]), int(match["day"]))
    except ValueError:
        return None
    days = in_cycle.toordinal() + cycles * _CYCLE_DAYS - _EPOCH_DAY
    offset_s = offset_hours * 3600 + offset_minutes * 60
    if match["sign"] == "-":
        offset_s = -offset_s
    whole_s = days * _DAY_S + hour * 3600 + minute * 60 + second - offset_s
    if second == 60:
        # The leap second has become the second after it, which has to be midnight UTC on the first
        # of a month.
        utc_days, rest_s = divmod(whole_s, _DAY_S)
        utc_date = date.fromordinal(_EPOCH_DAY + utc_days % _CYCLE_DAYS)
        if rest_s != 0 or utc_date.day != 1:
            return None
    if not _YEAR_0_S <= whole_s < YEAR_10000_S:
        return None
    nanoseconds = (match["fraction"] or "0")[:9].ljust(9, "0")
    return whole_s + int(nanoseconds) / 1e9
