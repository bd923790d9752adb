"""Recovery sheets: shares of an owner's key, with what a person needs to use them (RV6 to RV8).

A sheet is a text file for a person and a program. It has the words of one share, the owner's DID,
the node's URL, and what to do.

Example:
    from sealspace.documents.recovery_shares import split_key
    from sealspace.wallets import new_wallet

    wallet = new_wallet()
    made = split_key(wallet.secret, threshold=2, shares=3)
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
        for share in made
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
_ANSWERS = {"yes": True, "no": False}
_WORDS_LINE = "words:"
_WORDS_IN_ROW = 3

_FIELD = re.compile(r"([a-z]+): ([!-~]+(?: [!-~]+)*)")
_NUMBER_OF = re.compile(r"([1-9][0-9]?) of ([1-9][0-9]?)")
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
        sheet: what the sheet states.
        is_team: whether the owner is a team, for which the text for people is another one.
    Returns:
        ASCII text with the words of the share, which is secret.
    """
    threshold = sheet.share.threshold
    rows = []
    for start in range(0, WORDS, _WORDS_IN_ROW):
        row = sheet.share.words[start : start + _WORDS_IN_ROW]
        rows.append(f"{start + 1:2} {' '.join(row)}")
    about = (_ABOUT_TEAM if is_team else _ABOUT).format(needed=threshold, shares=sheet.shares)
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
        about + (_ALSO_NEEDED if sheet.has_passphrase else ""),
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
    lines = [
        _Line(number, line.rstrip())
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    if not lines or lines[0].text != _FIRST_LINE:
        raise InvalidShare(f"the file does not begin with `{_FIRST_LINE}`", hint=_DAMAGED)
    fields, rows = _parts(lines[1:])
    share = parse_share(" ".join(_words_of(rows)))
    return _sheet_of(share, fields)


class _Line(NamedTuple):
    """A line of a file that is not empty, and its number from 1."""

    number: int
    text: str


def _parts(lines: list[_Line]) -> tuple[dict[str, str], list[_Line]]:
    """Return the fields, and the lines after the line that announces the words."""
    texts = [line.text for line in lines]
    if _WORDS_LINE not in texts:
        raise InvalidShare(f"the line `{_WORDS_LINE}` is missing", hint=_DAMAGED)
    end = texts.index(_WORDS_LINE)
    fields: dict[str, str] = {}
    for line in lines[:end]:
        found = _FIELD.fullmatch(line.text)
        is_field = found is not None and found[1] in _FIELDS and found[1] not in fields
        if found is None or not is_field or len(found[2]) > _MAX_FIELD_CHARS:
            raise InvalidShare(f"line {line.number} is not valid", hint=_DAMAGED)
        fields[found[1]] = found[2]
    for name in _FIELDS:
        if name not in fields:
            raise InvalidShare(f"the line `{name}:` is missing", hint=_DAMAGED)
    return fields, lines[end + 1 :]


def _words_of(lines: list[_Line]) -> list[str]:
    """Return the words in the numbered rows."""
    words: list[str] = []
    for line in lines:
        if len(words) == WORDS:
            break
        found = _ROW.fullmatch(line.text)
        if found is None or int(found[1]) != len(words) + 1:
            raise InvalidShare(
                f"line {line.number} does not have the number {len(words) + 1} and"
                f" {_WORDS_IN_ROW} words",
                hint=_DAMAGED,
            )
        words += found[2].split()
    return words


def _sheet_of(share: Share, fields: dict[str, str]) -> RecoverySheet:
    """Check the fields, also against what the words say."""
    numbers = _NUMBER_OF.fullmatch(fields["share"])
    if numbers is None or _NUMBER.fullmatch(fields["needed"]) is None:
        raise InvalidShare("the line `share:` or `needed:` is not valid", hint=_DAMAGED)
    shares = int(numbers[2])
    stated = (int(numbers[1]), int(fields["needed"]))
    if stated != (share.number, share.threshold) or not share.threshold <= shares <= MOST_SHARES:
        raise InvalidShare(
            f"the words are share {share.number} of a set of which {share.threshold} are needed,"
            " but the lines `share:` and `needed:` say otherwise",
            hint=_DAMAGED,
        )
    if share.number > shares:
        raise InvalidShare("the line `share:` is not valid", hint=_DAMAGED)
    if _TIME.fullmatch(fields["created"]) is None:
        raise InvalidShare("the line `created:` is not a time", hint=_DAMAGED)
    has_passphrase = _ANSWERS.get(fields["passphrase"])
    if has_passphrase is None:
        raise InvalidShare("the line `passphrase:` is neither yes nor no", hint=_DAMAGED)
    return RecoverySheet(
        share=share,
        shares=shares,
        owner=_owner(fields["owner"]),
        node=fields["node"],
        created=fields["created"],
        has_passphrase=has_passphrase,
    )


def _owner(text: str) -> str:
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
        """How many more shares are needed; 1 if there is none yet, which states the number."""
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
        first = self.sheet
        if first is not None:
            compared = {
                "owner": (sheet.owner, first.owner),
                "node": (sheet.node, first.node),
                "date": (sheet.created, first.created),
                "number of shares": (sheet.shares, first.shares),
                "need of a passphrase": (sheet.has_passphrase, first.has_passphrase),
            }
            for what, (one, other) in compared.items():
                if one != other:
                    raise InvalidShare(
                        f"{name} and {self._first_name} differ in the {what}",
                        hint="use shares that were made together; if they were, one of the files"
                        " was changed: compare them with a third one",
                    )
        self._shares.add(sheet.share, name=name)
        if first is None:
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
            owner: the owner's DID; None: the one that the sheets state.
            passphrase: the one with which the shares were made.
        Returns:
            32 bytes, which are the key of exactly this owner.
        Raises:
            InvalidInput: no sheet states the owner, or another one than `owner`.
            SharesMissing: more shares are needed.
            InvalidShare: a share was changed.
            RecoveredKeyMismatch: the shares give the key of another owner.
        """
        stated = self.sheet
        if owner is None:
            if stated is None:
                raise InvalidInput(
                    "nothing states whose key is recovered", hint="state the owner's DID"
                )
            owner = stated.owner
        elif stated is not None and not same_principal(stated.owner, owner):
            raise InvalidInput(
                f"the shares are of {stated.owner}, not of {printable(owner, most=100)}",
                hint="use the shares of this owner, or correct the DID",
            )
        found = self._shares.key(passphrase)
        if not _is_key_of(found, owner):
            raise _mismatch(owner, has_passphrase=bool(passphrase))
        return found


def _is_key_of(key: bytes, owner: str) -> bool:
    """Return whether a wallet with a key is the owner."""
    try:
        did = wallet_from_key(key).did
    except InvalidInput:  # no key of the curve: a wrong passphrase gave it
        return False
    return same_principal(did, owner)


def _mismatch(owner: str, *, has_passphrase: bool) -> RecoveredKeyMismatch:
    shown = printable(owner, most=100)
    if has_passphrase:
        return RecoveredKeyMismatch(
            f"with this passphrase, the shares do not give the key of {shown}",
            hint="check the passphrase and the DID; a wrong passphrase always gives another key",
        )
    return RecoveredKeyMismatch(
        f"the shares do not give the key of {shown}",
        hint="if a passphrase was chosen when the shares were made, give it; otherwise these are"
        " the shares of another owner: compare the DID",
    )
