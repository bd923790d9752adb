"""Recovery sheets: shares of an owner's key, with what a person needs to use them (RV6 to RV8).

A sheet is a text file for a person and a program. It has the words of one share, the owner's DID,
the node's URL, and what to do.

Example:
    from sealspace.documents.recovery_shares import split_key
    from sealspace.wallets import new_wallet

    wallet = new_wallet()
    shares = split_key(wallet.secret, threshold=2, shares=3)
    texts = [
        format_sheet(
            RecoverySheet(
                share=share,
                shares=3,
                owner=wallet.did,
                node="https://node.example",
                created="2026-11-26T05:00:00Z",
                has_passphrase=False,
            )
        )
        for share in shares
    ]
    recovery = OwnerRecovery()
    recovery.add_sheet(parse_sheet(texts[2].encode()), name="the third")
    recovery.add_sheet(parse_sheet(texts[0].encode()), name="the first")
    assert recovery.missing == 0
    assert recovery.key() == wallet.secret
"""

import re
from typing import NamedTuple

from capabilities.capability_errors import CapabilityError
from capabilities.frozen import frozen
from capabilities.principals import is_wallet, parse_principal, same_principal

from ..errors import InvalidInput, InvalidShare, RecoveredKeyMismatch
from ..printable import printable
from ..wallets import wallet_from_key
from .recovery_shares import MOST_SHARES, WORDS, Share, ShareSet, parse_share

MAX_SHEET_BYTES = 8 * 1024
_MAX_FIELD_CHARS = 512

_FIRST_LINE = "sealspace recovery share, format 1"
_FIELDS = ("share", "needed", "owner", "node", "created", "passphrase")
_YES_OR_NO = {"yes": True, "no": False}
_WORDS_LINE = "words:"
_WORDS_IN_ROW = 3

_FIELD = re.compile(r"([a-z]+): ([!-~]+(?: [!-~]+)*)")
_NUMBER_AND_COUNT = re.compile(r"([1-9][0-9]?) of ([1-9][0-9]?)")
_NUMBER = re.compile(r"[1-9][0-9]?")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_ROW = re.compile(r" *([0-9]{1,2})((?: +[A-Za-z]{1,16}){3})")
_DAMAGED = "the file was changed, or is not a recovery share: use the file as it was written"

_ABOUT = """\
what this is:

This is one share of the key of the owner above. The key opens the owner's
secrets. {needed} of the {shares} shares give the key. Fewer shares give nothing.

Keep this file, or a printed copy, where nobody else can read it. Whoever has
{needed} shares can act as the owner. Do not send it by e-mail or chat, and do not
keep two shares in one place.

If the owner asks for it, for example after losing a computer: make sure that
it is the owner who asks, and give it to them in person.

To recover the key, install sealspace and run, with {needed} files like this one:

    sealspace recovery use FILE FILE ...

To type the words of a printed copy instead, run: sealspace recovery use -
To try it without changing anything, run: sealspace recovery check FILE FILE ...
"""
_ABOUT_TEAM = """\
what this is:

This is one share of the key of a team, the owner above. {needed} of the {shares} shares
give the key. Fewer shares give nothing.

Keep this file, or a printed copy, where nobody else can read it. Whoever has
{needed} shares can do everything that the team can. Do not send it by e-mail or
chat, and do not keep two shares in one place.

The key is needed if no admin of the team is left. Make sure that the team agrees
before you give the share to somebody, and give it to them in person.

To make somebody an admin, install sealspace, log in at the node above and run,
with {needed} files like this one:

    sealspace team recover FILE FILE ...

To type the words of a printed copy instead, run: sealspace team recover -
To try it without changing anything, run: sealspace recovery check FILE FILE ...
"""
_ALSO_NEEDED = """
A passphrase was chosen, which is on no share. It is needed too.
"""


@frozen(kw_only=True)
class RecoverySheet:
    """The content of a sheet.

    Attributes:
        share: the share, with its words.
        shares: how many shares the set has, 2 to 16.
        owner: the owner's DID, `did:pkh:eip155:1:0x…`.
        node: the URL of the owner's node.
        created: when the set was made, RFC 3339 in UTC and whole seconds.
        has_passphrase: whether a passphrase is needed beside the shares.
    """

    share: Share
    shares: int
    owner: str
    node: str
    created: str
    has_passphrase: bool


def format_sheet(sheet: RecoverySheet, *, is_team: bool = False) -> str:
    """Write a sheet.

    Args:
        sheet: the content of the sheet.
        is_team: whether the owner is a team; the explanation for people is then another text.
    Returns:
        ASCII text with the words of the share, which is secret.
    """
    threshold = sheet.share.threshold
    rows = []
    for start in range(0, WORDS, _WORDS_IN_ROW):
        row = sheet.share.words[start : start + _WORDS_IN_ROW]
        rows.append(f"{start + 1:2} {' '.join(row)}")
    template = _ABOUT_TEAM if is_team else _ABOUT
    explanation = template.format(needed=threshold, shares=sheet.shares)
    if sheet.has_passphrase:
        explanation += _ALSO_NEEDED
    lines = (
        _FIRST_LINE,
        "",
        f"share: {sheet.share.number} of {sheet.shares}",
        f"needed: {threshold}",
        f"owner: {sheet.owner}",
        f"node: {sheet.node}",
        f"created: {sheet.created}",
        f"passphrase: {'yes' if sheet.has_passphrase else 'no'}",
        "",
        _WORDS_LINE,
        *rows,
        "",
        explanation,
    )
    return "\n".join(lines)


def parse_sheet(data: bytes) -> RecoverySheet:
    """Read a sheet (RV6).

    Line ends of Windows, blanks at the ends of lines and empty lines are allowed. The text after
    the words is ignored.

    Args:
        data: the file, untrusted, at most 8 KiB.
    Raises:
        InvalidShare: the file is no sheet, or was changed. The message says where, and contains no
            word of the share.
    """
    if len(data) > MAX_SHEET_BYTES:
        raise InvalidShare(f"the file is longer than {MAX_SHEET_BYTES} bytes", hint=_DAMAGED)
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        # The cause is left out, because it quotes the file.
        raise InvalidShare("the file is not ASCII text", hint=_DAMAGED) from None
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            lines.append(_Line(number=number, text=line.rstrip()))
    if not lines or lines[0].text != _FIRST_LINE:
        raise InvalidShare(f"the file does not begin with `{_FIRST_LINE}`", hint=_DAMAGED)
    texts = [line.text for line in lines]
    if _WORDS_LINE not in texts:
        raise InvalidShare(f"the line `{_WORDS_LINE}` is missing", hint=_DAMAGED)
    words_index = texts.index(_WORDS_LINE)
    fields = _read_fields(lines[1:words_index])
    words = _read_words(lines[words_index + 1 :])
    share = parse_share(" ".join(words))
    return _check_fields(fields, share)


class _Line(NamedTuple):
    """A line of a file that is not empty, and its number from 1."""

    number: int
    text: str


def _read_fields(lines: list[_Line]) -> dict[str, str]:
    """Read the lines before the words: each field once, in any order, and nothing else."""
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line.text)
        if match is None:
            raise _invalid_line(line)
        name, value = match.groups()
        is_new_field = name in _FIELDS and name not in fields
        if not is_new_field or len(value) > _MAX_FIELD_CHARS:
            raise _invalid_line(line)
        fields[name] = value
    for name in _FIELDS:
        if name not in fields:
            raise InvalidShare(f"the line `{name}:` is missing", hint=_DAMAGED)
    return fields


def _invalid_line(line: _Line) -> InvalidShare:
    return InvalidShare(f"line {line.number} is not valid", hint=_DAMAGED)


def _read_words(rows: list[_Line]) -> list[str]:
    """Read the words from numbered rows.

    The lines after the last row are ignored. If rows are missing, there are fewer words.
    """
    words: list[str] = []
    for row in rows:
        if len(words) == WORDS:
            break
        match = _ROW.fullmatch(row.text)
        next_number = len(words) + 1
        if match is None or int(match[1]) != next_number:
            raise InvalidShare(
                f"line {row.number} does not have the number {next_number} and"
                f" {_WORDS_IN_ROW} words",
                hint=_DAMAGED,
            )
        words += match[2].split()
    return words


def _check_fields(fields: dict[str, str], share: Share) -> RecoverySheet:
    """Check the fields of a sheet against its share, and return both as a sheet."""
    number_and_count = _NUMBER_AND_COUNT.fullmatch(fields["share"])
    if number_and_count is None or _NUMBER.fullmatch(fields["needed"]) is None:
        raise InvalidShare("the line `share:` or `needed:` is not valid", hint=_DAMAGED)
    share_number = int(number_and_count[1])
    share_count = int(number_and_count[2])
    threshold = int(fields["needed"])
    is_same_share = share_number == share.number and threshold == share.threshold
    is_possible_count = share.threshold <= share_count <= MOST_SHARES
    if not is_same_share or not is_possible_count:
        raise InvalidShare(
            f"the words are share {share.number} of a set of which {share.threshold} are needed,"
            " but the lines `share:` and `needed:` say otherwise",
            hint=_DAMAGED,
        )
    if share_number > share_count:
        raise InvalidShare("the line `share:` is not valid", hint=_DAMAGED)
    if _TIME.fullmatch(fields["created"]) is None:
        raise InvalidShare("the line `created:` is not a time", hint=_DAMAGED)
    has_passphrase = _YES_OR_NO.get(fields["passphrase"])
    if has_passphrase is None:
        raise InvalidShare("the line `passphrase:` is neither yes nor no", hint=_DAMAGED)
    return RecoverySheet(
        share=share,
        shares=share_count,
        owner=_parse_owner(fields["owner"]),
        node=fields["node"],
        created=fields["created"],
        has_passphrase=has_passphrase,
    )


def _parse_owner(text: str) -> str:
    """Read the DID of a wallet in its canonical spelling."""
    try:
        owner = parse_principal(text)
    except CapabilityError:
        owner = None
    if owner is None or owner != text or not is_wallet(owner):
        raise InvalidShare("the line `owner:` is not the DID of a wallet", hint=_DAMAGED)
    return owner


# --- recovery -------------------------------------------------------------------------------------


class OwnerRecovery:
    """Shares of an owner's key, which are given one after the other.

    Attributes:
        sheet: the first sheet, or None if all shares were typed.
        has_typed: whether a share was given without a sheet, so that nothing confirms the node.
    """

    def __init__(self) -> None:
        self.sheet: RecoverySheet | None = None
        self.has_typed = False
        self._first_name = ""
        self._shares = ShareSet()

    def __len__(self) -> int:
        return len(self._shares)

    @property
    def missing(self) -> int:
        """How many more shares are needed.

        Before the first share, the threshold is not known, and this is 1.
        """
        return self._shares.missing

    def add_sheet(self, sheet: RecoverySheet, *, name: str) -> None:
        """Add the share of a sheet (RV5, RV7).

        Args:
            sheet: the sheet.
            name: how messages name it, such as the path of its file.
        Raises:
            InvalidShare: the share does not fit to the others, or the sheets state different
                owners, nodes, dates or numbers.
        """
        if self.sheet is not None:
            first_values = _values_by_description(self.sheet)
            for description, value in _values_by_description(sheet).items():
                if value != first_values[description]:
                    raise InvalidShare(
                        f"{name} and {self._first_name} differ in the {description}",
                        hint="use shares that were made together; if they were, one of the files"
                        " was changed: compare them with a third one",
                    )
        self._shares.add(sheet.share, name=name)
        if self.sheet is None:
            self.sheet = sheet
            self._first_name = name

    def add_typed(self, share: Share, *, name: str) -> None:
        """Add a share without a sheet (RV5).

        Raises:
            InvalidShare: the share does not fit to the others.
        """
        self._shares.add(share, name=name)
        self.has_typed = True

    def key(self, *, owner: str | None = None, passphrase: str = "") -> bytes:
        """Return the owner's key (RV2, RV8).

        Args:
            owner: the owner's DID; None: the DID that the sheets state.
            passphrase: the one with which the shares were made.
        Returns:
            32 bytes, which are the key of exactly this owner.
        Raises:
            InvalidInput: `owner` is None and no sheet was given, or the sheets state another owner
                than `owner`.
            SharesMissing: more shares are needed.
            InvalidShare: a share was changed.
            RecoveredKeyMismatch: the shares give the key of another owner.
        """
        sheet = self.sheet
        if owner is None:
            if sheet is None:
                raise InvalidInput(
                    "nothing states whose key is recovered", hint="state the owner's DID"
                )
            owner = sheet.owner
        elif sheet is not None and not same_principal(sheet.owner, owner):
            raise InvalidInput(
                f"the shares are of {sheet.owner}, not of {printable(owner, most=100)}",
                hint="use the shares of this owner, or correct the DID",
            )
        key = self._shares.key(passphrase)
        if not _is_key_of(key, owner):
            raise _key_mismatch(owner, has_passphrase=bool(passphrase))
        return key


def _values_by_description(sheet: RecoverySheet) -> dict[str, object]:
    """Return the values that all sheets of a set have in common, by their words in messages."""
    return {
        "owner": sheet.owner,
        "node": sheet.node,
        "date": sheet.created,
        "number of shares": sheet.shares,
        "need of a passphrase": sheet.has_passphrase,
    }


def _is_key_of(key: bytes, owner: str) -> bool:
    """Return whether the wallet with a key is the owner."""
    try:
        did = wallet_from_key(key).did
    except InvalidInput:
        # A wrong passphrase can give 32 bytes that are no key of the curve.
        return False
    return same_principal(did, owner)


def _key_mismatch(owner: str, *, has_passphrase: bool) -> RecoveredKeyMismatch:
    owner_text = printable(owner, most=100)
    if has_passphrase:
        return RecoveredKeyMismatch(
            f"with this passphrase, the shares do not give the key of {owner_text}",
            hint="check the passphrase and the DID; a wrong passphrase always gives another key",
        )
    return RecoveredKeyMismatch(
        f"the shares do not give the key of {owner_text}",
        hint="if a passphrase was chosen when the shares were made, give it; otherwise these are"
        " the shares of another owner: compare the DID",
    )
