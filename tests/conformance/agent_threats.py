"""Tests for the threat model's rows about agents and `sealspace run`, as in `threats.py`."""

_MCP = "sealspace/cli/test_mcp.py::"
_QUESTIONS = "sealspace/cli/test_agent_questions.py::"
_PATHS = "sealspace/cli/test_agent_paths.py::"
_VARIABLES = "sealspace/cli/test_program_variables.py::"
_RUN = "sealspace/cli/test_run.py::"
_PROJECT = "sealspace/cli/test_project.py::"

TESTS_OF_AGENT_THREATS: dict[str, tuple[str, ...]] = {
    "3.5 a web page tells an agent to steal a secret, and the agent calls `sealspace mcp`": (
        _MCP + "test_AG3_what_is_not_exactly_listed_is_refused",
        _QUESTIONS + "test_AG5_the_person_sees_what_runs",
        _MCP + "test_AG6_a_listed_request",
        _MCP + "test_AG8_long_output_is_cut_after_masking",
    ),
    "3.5 an agent edits files of its project, so that an allowed command runs its code with the "
    "secret": (
        _MCP + "test_AG4_edited_project_files_gain_nothing",
        _MCP + "test_AG4_files_relative_to_another_argument",
        _PATHS + "test_AG4_paths_relative_to_a_folder_of_another_argument",
        _MCP + "test_AG4_the_environment_is_minimal",
    ),
    "3.5 an agent allows itself more: by its project's files, a variable, a relative path or a "
    "link": (
        _MCP + "test_AG1_the_file_is_out_of_the_agent_s_reach",
        _MCP + "test_AG1_only_the_owner_writes_the_file",
    ),
    "3.5 an agent sends a secret to a host of its own: by redirect, port, DNS or a header": (
        _MCP + "test_AG6_other_requests_are_asked",
        _MCP + "test_AG6_redirects_long_answers_and_refusals",
        _MCP + "test_AG6_only_public_addresses",
        _MCP + "test_AG6_a_path_changes_no_port",
    ),
    "3.5 an agent tires a person with questions until one is answered yes, by many calls one after "
    "another or at once": (
        _QUESTIONS + "test_AG5_no_is_no",
        _QUESTIONS + "test_AG5_questions_are_bounded",
        _QUESTIONS + "test_AG5_a_no_ends_all_equal_calls",
        _QUESTIONS + "test_AG5_a_yes_is_for_one_call",
    ),
    "3.5 a client that may only write secrets, or another owner by a share or a machine token, "
    "chooses a variable that makes programs run code or talk to another server": (
        _RUN + "test_CL1_only_names_of_secrets_are_handed_over_unasked",
        _VARIABLES + "test_CL6_only_and_project_files",
        _VARIABLES + "test_CL1_of_shared_secrets_only_names_of_secrets_are_passed",
        _VARIABLES + "test_CL5_a_token_of_another_owner",
        _VARIABLES + "test_CL6_a_token_with_a_name_that_directs_programs",
    ),
    "3.5 a cloned repository contains a project file, and its user runs `sealspace run` in it": (
        _PROJECT + "test_CL3_a_command_gets_what_the_project_names",
        _PROJECT + "test_CL3_names_that_direct_programs",
        _PROJECT + "test_CL4_another_login_needs_confirmation",
    ),
}
