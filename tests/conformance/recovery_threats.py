"""Tests for the threat model's rows about shares of an owner's key, as in `threats.py`."""

_ATTACKS = "attacks/test_recovery.py::"
_COMMANDS = "sealspace/cli/test_recovery_commands.py::"
_SHARES = "sealspace/test_recovery_shares.py::"
_SHEETS = "sealspace/test_recovery_sheets.py::"

TESTS_OF_RECOVERY_THREATS: dict[str, tuple[str, ...]] = {
    "3.5 holders of shares of an owner's key, one fewer than the threshold, put them together": (
        _SHARES + "test_RV2_one_share_less_gives_nothing",
        _SHARES + "test_RV2_no_share_says_nothing_of_the_key",
        _SHARES + "test_RV9_a_passphrase_is_part_of_the_key",
    ),
    "3.5 shares are lost, mistyped or damaged, which is found only when the key is needed": (
        _SHARES + "test_RV3_shares_of_another_key_are_not_returned",
        _SHARES + "test_RV4_one_wrong_word_is_named_by_its_position",
        _SHARES + "test_RV5_a_changed_share_does_not_fit",
        _COMMANDS + "test_RV13_check_writes_nothing_and_needs_no_node",
    ),
    "3.5 a printed share is photographed, or a file of one is copied": (
        _COMMANDS + "test_RV10_one_private_file_for_each_share",
        _COMMANDS + "test_RV14_typed_words_are_not_shown",
    ),
    "3.5 shares of a former set, which the owner believes replaced, are put together": (
        _ATTACKS + "test_RV15_a_former_set_still_gives_the_key",
    ),
    "3.5 a holder changes the owner, node or numbers of a file, or the words under a right "
    "checksum, before a recovery": (
        _SHEETS + "test_RV6_a_changed_file_is_refused",
        _SHEETS + "test_RV7_files_that_disagree_are_refused",
        _SHEETS + "test_RV8_the_key_is_that_of_the_stated_owner",
        _COMMANDS + "test_RV12_the_node_of_typed_shares",
    ),
    "3.5 a recovery is made at a malicious node": (
        _ATTACKS + "test_RV12_a_node_gets_no_share_and_no_key",
    ),
}

UNTESTED_RECOVERY_THREATS: dict[str, str] = {
    "3.5 somebody asks the holders for their shares in the owner's name": "outside the program",
    "3.5 other programs of the owner's machine read the key or words while they are split or "
    "joined": "Python does not erase memory",
}
