"""Tests of shares of a key: what joins, what is refused, and what messages contain."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shamir_mnemonic.rs1024 import create_checksum
from shamir_mnemonic.share import Share as Slip39Share
from shamir_mnemonic.wordlist import WORDLIST

from sealspace.documents import recovery_shares
from sealspace.documents.recovery_shares import (
    WORDS,
    Share,
    ShareSet,
    join_shares,
    parse_share,
    split_key,
)
from sealspace.errors import (
    InvalidInput,
    InvalidShare,
    RecoveredKeyMismatch,
    SharesMissing,
)

SEED = bytes(range(32))
THREE_OF_FIVE = split_key(SEED, threshold=3, shares=5)
THRESHOLDS = st.integers(2, 16).flatmap(
    lambda shares: st.tuples(st.integers(2, shares), st.just(shares))
)


def line_of(share: Share) -> str:
    return " ".join(share.words)


def rewritten(share: Share, **changes: object) -> str:
    """Return the words of a share with other members and a right checksum."""
    read = Slip39Share.from_mnemonic(line_of(share))
    mnemonic: str = replace(read, **changes).mnemonic()
    return mnemonic


# --- joining --------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), numbers=THRESHOLDS, data=st.data())
def test_RV1_any_threshold_of_the_shares_gives_the_key(
    seed: bytes, numbers: tuple[int, int], data: st.DataObject
) -> None:
    """Any choice of as many shares as the threshold, in any order, gives the key."""
    threshold, shares = numbers
    made = split_key(seed, threshold=threshold, shares=shares)
    assert [share.number for share in made] == list(range(1, shares + 1))
    assert {share.threshold for share in made} == {threshold}
    order = data.draw(st.permutations(made))
    assert join_shares(order[:threshold]) == seed
    assert join_shares(order) == seed


@settings(max_examples=25, deadline=None)
@given(numbers=THRESHOLDS, data=st.data())
def test_RV2_one_share_less_gives_nothing(numbers: tuple[int, int], data: st.DataObject) -> None:
    """One share less is refused, also if the words are rewritten so that they say it is enough."""
    threshold, shares = numbers
    made = split_key(SEED, threshold=threshold, shares=shares)
    few = data.draw(st.permutations(made))[: threshold - 1]
    with pytest.raises(SharesMissing) as refused:
        join_shares(few)
    assert refused.value.missing == 1
    with pytest.raises(InvalidShare):
        join_shares([parse_share(rewritten(one, member_threshold=threshold - 1)) for one in few])


def test_RV2_no_share_says_nothing_of_the_key() -> None:
    """With one share missing, a share for another key completes the set just as well."""
    first, second = split_key(SEED, threshold=2, shares=2)
    value = Slip39Share.from_mnemonic(line_of(second)).value
    others = {
        parse_share(rewritten(second, value=bytes([value[0] ^ change]) + value[1:]))
        for change in range(1, 256)
    }
    # Each is a valid share. Only the digest, which needs both, tells them from the real one.
    assert len(others) == 255
    for one in itertools.islice(others, 5):
        with pytest.raises(InvalidShare, match="do not fit together"):
            join_shares([first, one])


def test_two_sets_of_one_key_have_different_words() -> None:
    """Each set is random."""
    again = split_key(SEED, threshold=3, shares=5)
    assert {share.words[5] for share in again} != {share.words[5] for share in THREE_OF_FIVE}
    assert join_shares(again[1:4]) == SEED


@pytest.mark.parametrize(
    ("threshold", "shares"), [(1, 1), (1, 5), (0, 5), (6, 5), (2, 17), (17, 17), (-1, 3)]
)
def test_RV1_impossible_numbers(threshold: int, shares: int) -> None:
    """The threshold is 2 to the number of shares, which is at most 16."""
    with pytest.raises(InvalidInput, match="is not possible"):
        split_key(SEED, threshold=threshold, shares=shares)


@pytest.mark.parametrize("size_bytes", [0, 16, 31, 33, 64])
def test_RV1_keys_of_another_length(size_bytes: int) -> None:
    """A key has 32 bytes."""
    with pytest.raises(InvalidInput, match=f"the key has {size_bytes} bytes"):
        split_key(bytes(size_bytes), threshold=2, shares=3)


def test_RV3_shares_of_another_key_are_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares that do not give the key back are refused, even if only the last one is wrong."""
    right = [line_of(share) for share in THREE_OF_FIVE]
    value = Slip39Share.from_mnemonic(right[4]).value
    wrong = rewritten(THREE_OF_FIVE[4], value=bytes([value[0] ^ 1]) + value[1:])
    other = [line_of(share) for share in split_key(bytes(32), threshold=3, shares=5)]
    for lines in ([*right[:4], wrong], other):
        monkeypatch.setattr(
            recovery_shares, "generate_mnemonics", lambda *_, lines=lines, **__: [lines]
        )
        with pytest.raises((RecoveredKeyMismatch, InvalidShare)):
            split_key(SEED, threshold=3, shares=5)


# --- words ----------------------------------------------------------------------------------------


def test_words_are_read_however_they_are_typed() -> None:
    """Case and white space do not matter."""
    line = line_of(THREE_OF_FIVE[0])
    for spelt in (line, f"  {line.upper()}\n", line.replace(" ", "\t\n"), line.title()):
        assert parse_share(spelt) == THREE_OF_FIVE[0]


@settings(max_examples=60, deadline=None)
@given(
    share=st.sampled_from(THREE_OF_FIVE),
    at=st.integers(0, WORDS - 1),
    word=st.sampled_from(WORDLIST),
)
def test_RV4_one_wrong_word_is_named_by_its_position(share: Share, at: int, word: str) -> None:
    """If one word is replaced by another one of the list, the message says which word is wrong."""
    words = list(share.words)
    words[at] = word
    if word == share.words[at]:
        return
    with pytest.raises(InvalidShare) as refused:
        parse_share(" ".join(words))
    # The whole text is compared, so it contains none of the words.
    assert (
        refused.value.message
        == f"the checksum is wrong: word {at + 1} is wrong, unless several words are"
    )
    assert refused.value.hint == InvalidShare.default_hint


@pytest.mark.parametrize("at", [0, 6, 32])
def test_RV4_an_unknown_word_is_named_by_its_position(at: int) -> None:
    """A word that is not in the list is named by its position, and is not repeated."""
    words = list(THREE_OF_FIVE[0].words)
    words[at] = "sesame"
    with pytest.raises(InvalidShare) as refused:
        parse_share(" ".join(words))
    assert refused.value.message == f"word {at + 1} is not in the list of words for shares"
    words[(at + 1) % WORDS] = "s" * 20
    with pytest.raises(InvalidShare, match=r"^words \d+, \d+ are not in the list") as refused:
        parse_share(" ".join(words))


def test_RV4_several_wrong_words() -> None:
    """Exchanged words are found, but their positions are not guessed."""
    words = list(THREE_OF_FIVE[0].words)
    words[4], words[9] = words[9], words[4]
    with pytest.raises(InvalidShare, match="at least two words are wrong or exchanged"):
        parse_share(" ".join(words))


@pytest.mark.parametrize("count", [0, 1, 20, 32, 34])
def test_RV4_another_number_of_words(count: int) -> None:
    """A share has 33 words."""
    words = itertools.islice(itertools.cycle(THREE_OF_FIVE[0].words), count)
    with pytest.raises(InvalidShare, match=f"the share has {count} words instead of 33"):
        parse_share(" ".join(words))


def test_RV4_a_long_text_is_refused_before_it_is_split() -> None:
    """The length is limited first."""
    with pytest.raises(InvalidShare, match="longer than 1024 characters"):
        parse_share(" " * 1024 + "a")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_count": 2}, "with groups"),
        ({"group_count": 3, "group_threshold": 2}, "with groups"),
        ({"member_threshold": 1}, "contains the whole key"),
        ({"iteration_exponent": 9}, "too many rounds"),
        ({"iteration_exponent": 15}, "too many rounds"),
    ],
)
def test_RV4_parameters_that_are_not_accepted(changes: dict[str, object], message: str) -> None:
    """Shares of groups, shares that are the key, and costly ones are refused."""
    line = rewritten(THREE_OF_FIVE[0], **changes)
    with pytest.raises(InvalidShare, match=message):
        parse_share(line)


def test_RV4_a_costly_share_within_the_limit_is_read() -> None:
    """The limit itself is accepted."""
    assert parse_share(rewritten(THREE_OF_FIVE[0], iteration_exponent=8)).number == 1


def test_RV4_bits_beyond_the_value() -> None:
    """A right checksum over a value that is too long is refused without the library's text."""
    numbers = [WORDLIST.index(word) for word in THREE_OF_FIVE[0].words]
    numbers[4] |= 0x3C0  # the four bits that fill the first word of the value
    numbers[-3:] = create_checksum(numbers[:-3], b"shamir_extendable")
    with pytest.raises(InvalidShare, match="its content is not valid") as refused:
        parse_share(" ".join(WORDLIST[number] for number in numbers))
    assert refused.value.__cause__ is None and refused.value.__suppress_context__


# --- sets -----------------------------------------------------------------------------------------


def test_RV5_shares_of_different_sets() -> None:
    """Shares of another set, of the same key or another one, are refused by name."""
    other = split_key(SEED, threshold=3, shares=5)
    with pytest.raises(InvalidShare, match="share 2 of those given is of another set than share 1"):
        join_shares([THREE_OF_FIVE[0], other[1], other[2]])


def test_RV5_a_set_with_the_same_id_is_another_set() -> None:
    """A set that happens to have the same id, but another threshold or rounds, is another set."""
    first = THREE_OF_FIVE[0]
    for changes in ({"member_threshold": 2}, {"iteration_exponent": 3}, {"extendable": False}):
        one = parse_share(rewritten(THREE_OF_FIVE[1], **changes))
        assert one.set_id == first.set_id
        with pytest.raises(InvalidShare, match="of another set"):
            join_shares([first, one, THREE_OF_FIVE[2]])


def test_RV5_the_same_share_twice() -> None:
    """A share that is given twice does not count twice."""
    held = ShareSet()
    held.add(THREE_OF_FIVE[1], name="one.txt")
    with pytest.raises(InvalidShare, match=r"two\.txt and one\.txt are the same share, number 2"):
        held.add(THREE_OF_FIVE[1], name="two.txt")
    assert held.missing == 2


def test_RV5_two_shares_with_one_number() -> None:
    """Two different shares with one number are refused."""
    value = bytes(32)
    other = parse_share(rewritten(THREE_OF_FIVE[1], value=value))
    with pytest.raises(InvalidShare, match="different shares with the number 2"):
        join_shares([THREE_OF_FIVE[1], other])


def test_RV5_a_changed_share_does_not_fit() -> None:
    """A share with a right checksum and another value is found among those needed and surplus
    ones."""
    changed = parse_share(rewritten(THREE_OF_FIVE[2], value=bytes(32)))
    with pytest.raises(InvalidShare, match="the shares do not fit together"):
        join_shares([*THREE_OF_FIVE[:2], changed])
    with pytest.raises(InvalidShare, match=r"share|do not fit"):
        join_shares([*THREE_OF_FIVE[:2], THREE_OF_FIVE[3], changed])


# --- passphrase -----------------------------------------------------------------------------------


def test_RV9_a_passphrase_is_part_of_the_key() -> None:
    """Another passphrase, or none, gives another key without an error."""
    made = split_key(SEED, threshold=2, shares=2, passphrase="open sesame")
    assert join_shares(made, passphrase="open sesame") == SEED
    assert SEED not in {join_shares(made), join_shares(made, passphrase="Open sesame")}
    read = Slip39Share.from_mnemonic(line_of(made[0]))
    assert read.iteration_exponent == 6
    assert Slip39Share.from_mnemonic(line_of(THREE_OF_FIVE[0])).iteration_exponent == 0


@pytest.mark.parametrize("passphrase", ["é", "a\tb", "a\n", "\x7f", "a" * 129])
def test_RV9_passphrases_that_are_refused(passphrase: str) -> None:
    """A passphrase is printable ASCII of at most 128 characters; the message does not repeat it."""
    for attempt in (
        lambda: split_key(SEED, threshold=2, shares=2, passphrase=passphrase),
        lambda: join_shares(THREE_OF_FIVE[:3], passphrase=passphrase),
    ):
        with pytest.raises(InvalidInput, match="passphrase cannot be used") as refused:
            attempt()
        assert passphrase not in str(refused.value)


# --- texts ----------------------------------------------------------------------------------------


def test_RV14_a_share_is_printed_without_its_words() -> None:
    """The text of a share contains none of its words."""
    share = THREE_OF_FIVE[0]
    assert repr(share) == f"Share(set_id={share.set_id}, number=1, threshold=3)"
    held = ShareSet([share])
    # The name of its class and its address. "object" can be a word of a share, too.
    assert repr(held) == object.__repr__(held)
