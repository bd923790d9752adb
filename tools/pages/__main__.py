"""Write all generated pages, or check that they are current.

    python tools/pages --write | --check

A generator is a module of this folder with `PAGE`, the path of a page, and `page()`, which returns
its text. Each is listed in `GENERATED`. If a page is generated in part, `page()` replaces only the
text between its markers (`marked`).
"""

import sys
from functools import partial
from pathlib import Path

# A folder that is run has no other folder on its path.
sys.path += [
    str(Path(__file__).parents[2] / folder) for folder in ("tools", "tests", "tests/support")
]

from pages import (
    commands_page,
    compose_members,
    conformance_page,
    iexec_cases_page,
    in_person_page,
    metrics_table,
    openapi_page,
    package_tables,
    refusals_page,
    runner_cases_page,
    runner_metrics_table,
    runner_page,
    settings_page,
    variables_table,
    versus_page,
)
from pages.writing import Generated, check, write

GENERATED = (
    # First the table of recorded cases: the page of conformance reads it.
    Generated(
        conformance_page.CASES_TABLE, conformance_page.case_table, source=conformance_page.RECORDED
    ),
    Generated(conformance_page.PAGE, conformance_page.page),
    Generated(in_person_page.PAGE, in_person_page.page),
    Generated(refusals_page.PAGE, refusals_page.page),
    Generated(openapi_page.PAGE, openapi_page.page),
    Generated(runner_page.PAGE, runner_page.page),
    Generated(runner_cases_page.PAGE, runner_cases_page.page),
    Generated(iexec_cases_page.PAGE, iexec_cases_page.page),
    Generated(compose_members.PAGE, compose_members.page),
    Generated(compose_members.CONSOLE, compose_members.console),
    Generated(commands_page.PAGE, commands_page.page),
    Generated(settings_page.PAGE, settings_page.page),
    Generated(metrics_table.PAGE, metrics_table.page),
    Generated(runner_metrics_table.PAGE, runner_metrics_table.page),
    Generated(variables_table.PAGE, variables_table.page),
    Generated(versus_page.PAGE, versus_page.page),
    Generated(versus_page.COMPARED, versus_page.compared),
    *[Generated(path, partial(package_tables.page, path)) for path in package_tables.PAGES],
)
_COMMANDS = {"--write": write, "--check": check}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in _COMMANDS:
        sys.exit("usage: python tools/pages --write | --check")
    sys.exit(_COMMANDS[sys.argv[1]](GENERATED))
