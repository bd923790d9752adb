"""The tests of the threats about teams with members."""

_TEAMS = "sealspace/test_teams.py::"
_INVITATIONS = "sealspace/test_invitations.py::"
_COMMANDS = "sealspace/cli/test_team_members.py::"
_MOVES = "attacks/test_team_moves.py::"
_MOVING = "sealspace/test_team_moves.py::"
_MOVE_COMMANDS = "sealspace/cli/test_team_move_commands.py::"

TESTS_OF_TEAM_THREATS: dict[str, tuple[str, ...]] = {
    "3.5 a reader of a team writes, or a member opens more than the listed secrets": (
        _TEAMS + "test_a_writer_writes_and_a_reader_reads",
        _TEAMS + "test_a_member_for_some_secrets",
        "attacks/test_members.py::test_TM1_malformed_memberships_are_not_registered",
    ),
    "3.5 a writer of a team stores a wrong value, or deletes one": (
        _COMMANDS + "test_five_people",
        _COMMANDS + "test_CL1_run_with_a_team",
    ),
    "3.5 moving a secret into a team is interrupted, or meets a member who writes the same name, "
    "and a value is lost or replaced": (
        "sealspace/test_adoption.py::test_TM23_interrupted_at_each_write",
        "sealspace/test_adoption.py::test_TM23_a_value_of_the_team_is_not_replaced",
        "sealspace/cli/test_team_adoption.py::test_TM23_adopt_is_killed_at_each_write",
    ),
    "3.5 a malicious admin admits a stranger, or removes the others": (
        "attacks/test_members.py::test_TM7_two_admins_remove_each_other",
        _TEAMS + "test_TM2_memberships_that_a_node_invents",
        "sealspace/cli/test_team_removal.py::test_TM15_an_admin_needs_a_yes",
    ),
    "3.5 somebody steals, alters or repeats an invitation, or answers between the two people": (
        _INVITATIONS + "test_TM10_altered_lines",
        _INVITATIONS + "test_TM11_a_second_joiner",
        _INVITATIONS + "test_TM12_a_replaced_answer",
        _INVITATIONS + "test_TM13_somebody_in_the_middle",
    ),
    "3.5 somebody who has the line of an open invitation fills the team's space, so that former "
    "values of secrets are removed or nothing can be stored": (
        _INVITATIONS + "test_TM10_the_line_writes_answers_alone",
        _INVITATIONS + "test_TM24_a_line_stores_small_answers_alone",
    ),
    "3.5 a cloned repository, or a stranger who signs a membership for the user, directs commands "
    "to a team of theirs": (
        _COMMANDS + "test_TM14_whose_secrets",
        _TEAMS + "test_a_membership_of_a_stranger",
    ),
    "3.5 somebody who has the team's key, from a stolen machine, reads, writes and admits "
    "members": (
        _MOVES + "test_TM18_nobody_uses_the_former_wallet",
        _MOVES + "test_TM18_nothing_new_is_signed",
        "attacks/test_moved_owners.py::test_TM18_every_token_on_every_route",
        "attacks/test_moved_owners.py::test_TM18_a_commit_after_the_move",
        _MOVE_COMMANDS + "test_TM20_killed_at_each_change",
        _MOVES + "test_TM18_a_write_that_was_under_way",
        _MOVE_COMMANDS + "test_TM20_members_are_confirmed",
    ),
    "3.5 the thief of a team's key, or one admin, moves the team to a wallet of their own": (
        _MOVES + "test_TM16_what_is_no_first_statement",
        _MOVES + "test_TM17_what_moves_no_team",
        _MOVES + "test_TM17_two_admins_whom_a_third_one_admitted",
        _MOVES + "test_TM17_of_two_moves_at_once_one_counts",
    ),
    "3.5 somebody tells a second admin or a member another new wallet": (
        _MOVING + "test_TM21_lines_that_are_refused",
        _MOVING + "test_TM22_a_node_that_names_another_wallet",
        _MOVE_COMMANDS + "test_TM21_other_words",
        _MOVE_COMMANDS + "test_TM22_another_wallet",
    ),
}
