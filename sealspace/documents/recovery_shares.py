"""Shares of a key, in the form of SLIP-39 (RV1 to RV5).

A key of 32 bytes is split into up to 16 shares. A share is a line of 33 words with a checksum. A
chosen number of shares, the threshold, gives the key back. Fewer shares contain no information
about it. The words are secret: whoever has enough of them has the key.

Python cannot erase a key from memory. So keys and words are kept in as few objects as possible, and
the texts of errors and of `repr` contain neither.

Example:
    shares = split_key(seed, threshold=2, shares=3)
    assert join_shares([shares[2], shares[0]]) == seed
"""

from collections.abc import Iterable, Sequence
from dataclasses import field

from shamir_mnemonic import MnemonicError, decode_mnemonics, generate_mnemonics, recover_ems
from shamir_mnemonic.constants import (
    CHECKSUM_LENGTH_WORDS,
    CUSTOMIZATION_STRING_EXTENDABLE,
    CUSTOMIZATION_STRING_ORIG,
)
from shamir_mnemonic.rs1024 import create_checksum
from shamir_mnemonic.shamir import EncryptedMasterSecret
from shamir_mnemonic.share import Share as Slip39Share
from shamir_mnemonic.wordlist import WORD_INDEX_MAP

from capabilities.frozen import frozen

from ..errors import InvalidInput, InvalidShare, RecoveredKeyMismatch, SharesMissing

KEY_BYTES = 32
WORDS = 33
"""Number of words in a share of a key of 32 bytes."""
LEAST_THRESHOLD = 2
"""A share of a set with the threshold 1 would be the key itself."""
MOST_SHARES = 16
"""SLIP-39 writes the number of a share in four bits."""
MAX_PASSPHRASE_CHARS = 128
MAX_TYPED_CHARS = 1024
"""Length of a typed share, which has at most 33 words of 8 letters."""

_EXPONENT_WITHOUT_PASSPHRASE = 0
_EXPONENT_WITH_PASSPHRASE = 6
"""10,000 × 2^6 rounds of PBKDF2-HMAC-SHA-256, which take 0.3 s; OWASP recommends 600,000."""
_MOST_EXPONENT = 8
"""The reader's limit. A share could ask for 2^15 times 10,000 rounds, which take minutes."""
_EXTENDABLE_BIT = 1 << 4
"""Of the second word's number: the flag that selects the text in the checksum."""
_WORD_BITS = 10
_NO_DIFFERENCE = (0,) * CHECKSUM_LENGTH_WORDS
"""The difference between a computed checksum and the written one if the share is right."""


@frozen(kw_only=True)
class Share:
    """A share of a key.

    Attributes:
        set_id: 15 random bits that all shares of a set have in common.
        number: number of the share, from 1 to the number of shares of the set, at most 16.
        threshold: how many shares give the key, 2 to 16.
        words: 33 words; secret.
    """

    set_id: int
    number: int
    threshold: int
    words: tuple[str, ...] = field(repr=False)


def split_key(
    seed: bytes, *, threshold: int, shares: int, passphrase: str = ""
) -> tuple[Share, ...]:
    """Split a key into shares (RV1, RV3).

    Each call makes a new set with other words. Shares of former sets stay valid.

    Args:
        seed: the key, 32 bytes.
        threshold: how many shares give the key, 2 to `shares`.
        shares: how many are made, at most 16.
        passphrase: up to 128 printable ASCII characters. Shares give another key without it. The
            empty text means that no passphrase is needed.
    Returns:
        The shares by number. They were joined, and gave the key.
    Raises:
        InvalidInput: an argument is outside of its limits.
        RecoveredKeyMismatch: the shares do not give the key; use none of them.
    """
    if len(seed) != KEY_BYTES:
        raise InvalidInput(
            f"the key has {len(seed)} bytes instead of {KEY_BYTES}", hint="pass 32 bytes"
        )
    if not LEAST_THRESHOLD <= threshold <= shares <= MOST_SHARES:
        raise InvalidInput(
            f"{threshold} of {shares} is not possible",
            hint=f"make at most {MOST_SHARES} shares, and require at least {LEAST_THRESHOLD} and at"
            " most all of them",
        )
    exponent = _EXPONENT_WITH_PASSPHRASE if passphrase else _EXPONENT_WITHOUT_PASSPHRASE
    (lines,) = generate_mnemonics(
        1,  # one group
        [(threshold, shares)],
        seed,
        passphrase=_encode_passphrase(passphrase),
        iteration_exponent=exponent,
    )
    new_shares = tuple([parse_share(line) for line in lines])
    _require_shares_give(seed, new_shares, passphrase)
    return new_shares


def _require_shares_give(seed: bytes, new_shares: Sequence[Share], passphrase: str) -> None:
    """Join all new shares, and check that they give the key (RV3).

    Without the check, a fault in memory or in the library would be found when the key is lost.
    """
    if ShareSet(new_shares).key(passphrase) != seed:
        raise RecoveredKeyMismatch(
            "the new shares do not give the key back",
            hint="use none of these shares, and report this fault",
        )


def join_shares(shares: Iterable[Share], *, passphrase: str = "") -> bytes:
    """Return the key that shares give (RV2).

    A wrong passphrase gives another key without an error. So compare the result with what is known
    of the key, such as the owner's DID (RV8).

    Args:
        shares: shares of one set, at least as many as their threshold, in any order. Surplus shares
            are checked too.
        passphrase: the one with which the shares were made.
    Returns:
        32 bytes.
    Raises:
        SharesMissing: there are fewer shares than the threshold.
        InvalidShare: the shares are not of one set, a share is given twice, or one was changed.
        InvalidInput: the passphrase is too long, or not printable ASCII.
    """
    return ShareSet(shares).key(passphrase)


class ShareSet:
    """Shares of one set, which are given one after the other.

    Args:
        shares: the first shares.
    """

    def __init__(self, shares: Iterable[Share] = ()) -> None:
        self._shares: dict[int, Share] = {}
        self._names: dict[int, str] = {}
        for position, share in enumerate(shares, start=1):
            self.add(share, name=f"share {position} of those given")

    def __len__(self) -> int:
        return len(self._shares)

    @property
    def missing(self) -> int:
        """How many more shares are needed.

        Before the first share, the threshold is not known, and this is 1.
        """
        if not self._shares:
            return 1
        first_share = next(iter(self._shares.values()))
        return max(0, first_share.threshold - len(self._shares))

    def add(self, share: Share, *, name: str) -> None:
        """Add a share (RV5).

        Args:
            share: the share.
            name: how messages name it, such as the path of its file.
        Raises:
            InvalidShare: the share is of another set, or its number was added before.
        """
        for other_share in self._shares.values():
            if _set_parameters(share) != _set_parameters(other_share):
                other_name = self._names[other_share.number]
                raise InvalidShare(
                    f"{name} is of another set than {other_name}",
                    hint="use shares that were made together: their files state the same date",
                )
        earlier_share = self._shares.get(share.number)
        if earlier_share is not None:
            earlier_name = self._names[share.number]
            if earlier_share.words == share.words:
                raise InvalidShare(
                    f"{name} and {earlier_name} are the same share, number {share.number}",
                    hint="use a share with another number",
                )
            raise InvalidShare(
                f"{name} and {earlier_name} are different shares with the number {share.number}",
                hint="one of them was changed, or is of another set: use shares with other numbers",
            )
        self._shares[share.number] = share
        self._names[share.number] = name

    def key(self, passphrase: str = "") -> bytes:
        """Return the key that the shares give. The errors are those of `join_shares`."""
        passphrase_bytes = _encode_passphrase(passphrase)
        if self.missing > 0:
            raise SharesMissing(
                _missing_text(given_count=len(self._shares), missing_count=self.missing),
                missing=self.missing,
            )
        shares = list(self._shares.values())
        threshold = shares[0].threshold
        encrypted_key = _join_encrypted(shares[:threshold])
        # Each surplus share takes the place of the last needed one, and has to give the same
        # result. A changed share gives another result, or one whose digest is wrong.
        for surplus_share in shares[threshold:]:
            needed_shares = [*shares[: threshold - 1], surplus_share]
            if _join_encrypted(needed_shares) != encrypted_key:
                raise InvalidShare(
                    f"{self._names[surplus_share.number]} does not fit to the other shares",
                    hint="it was changed, or is of another set: leave it out",
                )
        key: bytes = encrypted_key.decrypt(passphrase_bytes)
        return key


def _missing_text(*, given_count: int, missing_count: int) -> str:
    if given_count == 0:
        return "no share was given"
    threshold = given_count + missing_count
    noun = "share is" if missing_count == 1 else "shares are"
    return f"{missing_count} more {noun} needed; {given_count} of {threshold} given"


def _join_encrypted(shares: Sequence[Share]) -> EncryptedMasterSecret:
    """Join exactly as many shares as the threshold, without the passphrase."""
    try:
        return recover_ems(decode_mnemonics([" ".join(share.words) for share in shares]))
    except MnemonicError:
        # The cause is left out, because it quotes words.
        raise InvalidShare(
            "the shares do not fit together",
            hint="one of them was changed, or is of another set: replace one after the other by"
            " another share",
        ) from None


def _set_parameters(share: Share) -> tuple[int, int, tuple[str, ...]]:
    """Return the parameters that all shares of a set have in common."""
    # The first two words contain the id, the extendable flag and the exponent.
    return (share.set_id, share.threshold, share.words[:2])


# --- words ----------------------------------------------------------------------------------------


def parse_share(text: str) -> Share:
    """Read a typed share (RV4).

    Args:
        text: 33 words in either case, at most 1024 characters, with white space between them.
    Raises:
        InvalidShare: a word is missing or wrong. The message says which word, from 1, if that is
            known, and contains no word.
    """
    if len(text) > MAX_TYPED_CHARS:
        raise InvalidShare(
            f"the share is longer than {MAX_TYPED_CHARS} characters",
            hint=f"give one share of {WORDS} words",
        )
    words = tuple(text.lower().split())
    if len(words) != WORDS:
        raise InvalidShare(
            f"the share has {len(words)} words instead of {WORDS}",
            hint="compare it with the written share: a word is missing, or is written in two parts",
        )
    unknown_positions = []
    for position, word in enumerate(words, start=1):
        if word not in WORD_INDEX_MAP:
            unknown_positions.append(position)
    if unknown_positions:
        raise InvalidShare(
            f"{_positions_text(unknown_positions)} not in the list of words for shares"
        )
    word_numbers = [WORD_INDEX_MAP[word] for word in words]
    difference = _checksum_difference(word_numbers, is_extendable=_is_extendable(word_numbers))
    if difference != _NO_DIFFERENCE:
        raise InvalidShare(_wrong_words_text(word_numbers))
    return _read_parameters(words)


def _read_parameters(words: tuple[str, ...]) -> Share:
    """Read the parameters of a share from words with a valid checksum."""
    try:
        parsed = Slip39Share.from_mnemonic(" ".join(words))
    except MnemonicError:
        # The cause is left out, because it quotes words.
        raise InvalidShare(
            "the share has a right checksum, but its content is not valid",
            hint="use another share, and make new shares after the recovery",
        ) from None
    has_groups = parsed.group_count != 1
    is_whole_key = parsed.member_threshold < LEAST_THRESHOLD
    if has_groups or is_whole_key:
        raise InvalidShare(
            "the share is of a set with groups, or contains the whole key",
            hint="recover it with the program that made it",
        )
    if parsed.iteration_exponent > _MOST_EXPONENT:
        raise InvalidShare(
            "the share demands too many rounds for its passphrase",
            hint="recover it with the program that made it",
        )
    return Share(
        set_id=parsed.identifier,
        number=parsed.index + 1,
        threshold=parsed.member_threshold,
        words=words,
    )


def _positions_text(positions: Sequence[int]) -> str:
    if len(positions) == 1:
        return f"word {positions[0]} is"
    return f"words {', '.join(map(str, positions))} are"


def _wrong_words_text(word_numbers: list[int]) -> str:
    position = _find_wrong_word(word_numbers)
    if position is None:
        return "the checksum is wrong: at least two words are wrong or exchanged"
    return f"the checksum is wrong: word {position} is wrong, unless several words are"


def _is_extendable(word_numbers: Sequence[int]) -> bool:
    return bool(word_numbers[1] & _EXTENDABLE_BIT)


def _checksum_difference(word_numbers: list[int], *, is_extendable: bool) -> tuple[int, ...]:
    """Compare the checksum of a share with the one in its last three words.

    Returns the exclusive or of each pair of words; `_NO_DIFFERENCE` if the checksum is right.
    """
    customization = CUSTOMIZATION_STRING_ORIG
    if is_extendable:
        customization = CUSTOMIZATION_STRING_EXTENDABLE
    computed_checksum = create_checksum(word_numbers[:-CHECKSUM_LENGTH_WORDS], customization)
    written_checksum = word_numbers[-CHECKSUM_LENGTH_WORDS:]
    return _xor(computed_checksum, written_checksum)


def _xor(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    """Return the exclusive or of two sequences, number by number."""
    return tuple(
        [left_item ^ right_item for left_item, right_item in zip(left, right, strict=True)]
    )


def _find_wrong_word(word_numbers: list[int]) -> int | None:
    """Return the position of the only wrong word, from 1.

    None means that no change of one word makes the checksum right. SLIP-39 allows naming the place
    of an error, but not the word that would be right.
    """
    # The flag that selects the checksum's customization is in the second word. That word may be
    # the wrong one, so both values of the flag are tried.
    for is_extendable in (True, False):
        difference = _checksum_difference(word_numbers, is_extendable=is_extendable)
        for index in range(len(word_numbers)):
            mask = _correcting_mask(index, difference)
            if mask is None:
                continue
            corrected_numbers = list(word_numbers)
            corrected_numbers[index] ^= mask
            if _is_extendable(corrected_numbers) == is_extendable:
                return index + 1
    return None


def _correcting_mask(index: int, difference: tuple[int, ...]) -> int | None:
    """Return the mask for the word at an index that changes the checksum by a difference.

    The number of the word is changed by exclusive or with the mask. None means that no change of
    this word has that effect on the checksum.

    The checksum is linear: each bit of a word has a fixed effect, whatever the other words and the
    customization are, and the effects of several bits are combined by exclusive or.
    """
    all_zero = [0] * WORDS
    zero_checksum = _checksum_difference(all_zero, is_extendable=True)
    mask_by_effect = {_NO_DIFFERENCE: 0}
    for bit in range(_WORD_BITS):
        bit_mask = 1 << bit
        one_bit_set = list(all_zero)
        one_bit_set[index] = bit_mask
        bit_effect = _xor(_checksum_difference(one_bit_set, is_extendable=True), zero_checksum)
        # Each mask of the bits so far also exists with this bit set.
        for effect, mask in list(mask_by_effect.items()):
            mask_by_effect[_xor(effect, bit_effect)] = mask | bit_mask
    return mask_by_effect.get(difference)


def _encode_passphrase(passphrase: str) -> bytes:
    """Encode a passphrase (RV9)."""
    is_printable = passphrase.isascii() and passphrase.isprintable()
    if not is_printable or len(passphrase) > MAX_PASSPHRASE_CHARS:
        raise InvalidInput(
            "the passphrase cannot be used for shares",
            hint=f"use at most {MAX_PASSPHRASE_CHARS} printable ASCII characters",
        )
    return passphrase.encode("ascii")
