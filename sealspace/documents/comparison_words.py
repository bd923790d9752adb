"""Words by which two people compare a hash in a call.

Example:
    words = comparison_words(bytes(32), 4)
    assert words == ("abandon",) * 4
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

_WORD_BITS = 11


def comparison_words(digest: bytes, count: int) -> tuple[str, ...]:
    """Return the first bits of a hash as words of the English list of BIP-39.

    Args:
        digest: the hash, at least 11 bits for each word.
        count: number of words, of 11 bits each.
    """
    bits = len(digest) * 8
    number = int.from_bytes(digest, "big") >> (bits - count * _WORD_BITS)
    words = []
    for place in range(count - 1, -1, -1):
        words.append(_word_list()[number >> (place * _WORD_BITS) & 0x7FF])
    return tuple(words)


@cache
def _word_list() -> Sequence[str]:
    """Return the 2,048 words of BIP-39 in their order.

    The file is `bip-0039/english.txt` of https://github.com/bitcoin/bips, unchanged.
    """
    text = (Path(__file__).parent / "bip39_english.txt").read_text("ascii")
    return tuple(text.split())
