"""The tests of the threats about teams with members."""

_TEAMS = "sealspace/test_teams.py::"
_INVITATIONS = "sealspace/test_invitations.py::"
_COMMANDS = "sealspace/cli/test_team_members.py::"

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
    "3.5 a cloned repository, or a stranger who signs a membership for the user, directs commands "
    "to a team of theirs": (
        _COMMANDS + "test_TM14_whose_secrets",
        _TEAMS + "test_a_membership_of_a_stranger",
    ),
}
