"""The tests of threats to secrets that people share, which `threats` includes."""

_SHARING = "sealspace/test_sharing.py::"
_CONTACTS = "sealspace/test_contacts.py::"

TESTS_OF_SHARING_THREATS: dict[str, tuple[str, ...]] = {
    "3.5 a person reads on after a share has ended, or a member after leaving a team": (
        "attacks/test_sharing.py::test_SH5_an_ended_share_is_over_in_every_worker",
        _SHARING + "test_SH7_a_member_who_joins_and_leaves",
    ),
    "3.5 the node, or a delegate that may write there, gives a name in the owner's list of "
    "contacts to its own DID, so that the owner shares with it": (
        "attacks/test_contacts.py::test_SH9_lists_that_others_store",
        "attacks/test_contacts.py::test_SH9_any_changed_byte_at_the_node",
        _CONTACTS + "test_SH9_a_list_that_the_owner_did_not_make",
        _CONTACTS + "test_SH11_an_older_list_is_refused",
    ),
    "3.5 a colleague, an app or a page calls itself by a name that the owner gave to somebody "
    "else": (
        "attacks/test_contacts.py::test_SH13_names_of_others_are_no_names_of_contacts",
        "sealspace/cli/test_contacts.py::test_SH14_a_did_from_a_file",
    ),
    "3.5 a node, a relay or a writer of the store offers its own key for the network of a person, "
    "to receive a secret": (
        _SHARING + "test_SH4_a_node_that_gives_another_descriptor",
        _SHARING + "test_SH4_a_replaced_network_is_refused",
    ),
    "3.5 a path or a grant is planted, so that new values are sealed to an attacker's key": (
        _SHARING + "test_SH3_a_copy_that_somebody_else_planted_is_not_renewed",
        _SHARING + "test_SH3_only_the_owners_own_signature_counts",
    ),
    "3.5 a recipient who may also write below `vault/secrets/`, another delegate or the node "
    "plants names in a shared folder, to get secrets that were never shared": (
        "attacks/test_sharing.py::test_SH6_names_that_a_writer_plants_are_not_copied",
        _SHARING + "test_SH3_only_names_that_the_owner_signed_count",
    ),
    "3.5 a person with a share tries other names, folders or teams, or writes": (
        "attacks/test_sharing.py::test_SH5_a_reader_who_tries_other_paths",
    ),
    "3.5 a shared secret takes the place of one's own in a program": (
        "sealspace/cli/test_sharing.py::test_SH8_a_name_that_one_has_too",
    ),
}
