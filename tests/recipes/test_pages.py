"""Tests that run every block of README.md, `docs` and spec/recipes.md in order."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from forked_programs import program_folder
from iexec_client import IEXEC_ABSENT, IexecPrograms, iexec_programs, is_installed
from page_blocks import Block, PageError, blocks_of
from page_shell import run_page
from running_node import RunningNode
from tests_support import REPOSITORY

from sealspace.cli.root import main

README = REPOSITORY / "README.md"
DOCS = sorted((REPOSITORY / "docs").rglob("*.md"))
BLOCKS = {
    path.relative_to(REPOSITORY).as_posix(): blocks_of(path.read_text("utf-8"))
    for path in (README, *DOCS, REPOSITORY / "spec" / "recipes.md")
}
RUN = [name for name, blocks in BLOCKS.items() if any(block.kind != "left out" for block in blocks)]
# A page that begins with one of these has a node of its own; the others suppose that of the
# tutorial.
OWN_NODE = ("sealspace serve ", "sealspace dev")


@dataclass(frozen=True)
class Supposed:
    """The environment that a page assumes: a node at its usual address, and a platform that it
    trusts."""

    port: int
    tee: Path


@pytest.fixture
def programs() -> Path:
    """Return stand-ins for programs that pages run only for a moment."""
    return program_folder()


@pytest.fixture(scope="module")
def iexec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IexecPrograms]:
    """Return iExec's client."""
    with iexec_programs(tmp_path_factory.mktemp("iexec")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def supposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supposed]:
    """One node for all pages that start none; each page has its own owner."""
    folder = tmp_path_factory.mktemp("supposed")
    tee = folder / "tee"
    assert main(["backend", "simulate", str(tee), "--quiet"]) == 0
    trust = ("--trust-root", str(tee / "root-ca.pem"), "--collateral", str(tee / "collateral"))
    node = RunningNode(folder, "--workers", "1", *trust)
    try:
        yield Supposed(int(node.url.rpartition(":")[2]), tee)
    finally:
        node.close()


def starts_a_node(block: Block) -> bool:
    return block.stays and any(command in block.text for command in OWN_NODE)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("name", RUN)
def test_every_block_does_what_it_says(
    name: str,
    tmp_path: Path,
    programs: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each block ends as the page says, and prints the output below it."""
    if any("runner serve" in block.text for block in BLOCKS[name]):
        pytest.importorskip("re2", reason="google-re2 is not installed: no runner starts")
    if name == "docs/how-to/iexec.md":
        if not is_installed():
            pytest.skip(IEXEC_ABSENT)
        iexec: IexecPrograms = request.getfixturevalue("iexec")
        monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{iexec.folder}")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "ENV").symlink_to(sys.prefix)  # as the README's installation leaves it
    (tmp_path / "sealspace").symlink_to(REPOSITORY)
    port = None
    if not any(map(starts_a_node, BLOCKS[name])):
        given: Supposed = request.getfixturevalue("supposed")
        port = given.port
        shutil.copytree(given.tee, folder / "tee")
    ended = run_page(
        (REPOSITORY / name).read_text("utf-8"), folder, programs=programs, node_port=port
    )
    assert ended.problem is None, ended.problem
    assert len(ended.printed) == sum(block.kind != "left out" for block in BLOCKS[name])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_tutorial_holds_after_the_quick_start(tmp_path: Path, programs: Path) -> None:
    """The tutorial works after the quick start too, and does not change what that left in the home
    and the clone."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (quick_start,) = re.findall(
        r"^## The first secret.*?(?=^## )", README.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    # the commands as they are; the page's own test has the names
    quick_start = quick_start.replace("ENV/bin/", "")
    ended_node = (
        "```sh\nkill %1\nwait %1 || true\nCLONE=$PWD\nsha256sum ~/.sealspace/*.* > ~/before\n```\n"
    )
    unchanged = '```sh\ntest "$PWD" != "$CLONE"\nsha256sum --check --strict ~/before\n```\n'
    tutorial = (REPOSITORY / "docs" / "tutorial.md").read_text("utf-8")
    ended = run_page(
        "\n".join([quick_start, ended_node, tutorial, unchanged]), folder, programs=programs
    )
    assert ended.problem is None, ended.problem
    assert "wallet.key: OK" in ended.printed[-1] and "session.json: OK" in ended.printed[-1]


def test_what_is_left_out_says_why(record_property: Callable[[str, object], None]) -> None:
    """A block that is not run names its reason, or the test that runs it; their number is
    printed."""
    left_out = [
        (name, block)
        for name, blocks in BLOCKS.items()
        for block in blocks
        if block.kind == "left out"
    ]
    for name, block in left_out:
        assert block.why, (name, block.text)
        tests = [word.strip(",;.") for word in block.why.split() if word.startswith("tests/")]
        assert all((REPOSITORY / test).exists() for test in tests), (name, block.why)
    ran = sum(map(len, BLOCKS.values())) - len(left_out)
    assert ran > 60
    reasons = [f"  {name}: {block.why}" for name, block in left_out]
    said = [f"blocks of the documentation: {ran} are run here, {len(left_out)} are not", *reasons]
    record_property("printed", "\n".join(said))


@pytest.mark.parametrize(
    "page",
    [
        "```\nls\n```\n",
        "```toml\n[http]\n```\n",
        "```text\nno commands\n```\n",
        "```sh\nls\n```\n\n```text\n1\n```\n\n```text\n2\n```\n",
        "```sh\nls\n",
        "<!-- stays -->\n```sh\ncd data\nsealspace serve\n```\n",
        "- in a list\n\n  ```sh\n  ls\n  ```\n",
    ],
    ids=["no-word", "no-title", "box-alone", "two-boxes", "not-closed", "two-commands", "indented"],
)
def test_a_block_that_nobody_would_run_is_a_fault(page: str) -> None:
    """A block that is neither run nor marked fails, and so does a malformed fence."""
    with pytest.raises(PageError):
        blocks_of(page)


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("```sh\nfalse\necho on\n```\n", "ended with 1"),
        ("```sh\necho one\n```\n\n```text\ntwo\n```\n", "and not\ntwo"),
        ("<!-- status: 3 -->\n```sh\nsh -c 'exit 4'\n```\n", "ended with 4"),
        ("<!-- stays -->\n```sh\necho nothing listens\n```\n", "nothing listens"),
        ("```python\nraise SystemExit(5)\n```\n", "ended with 5"),
    ],
    ids=["status", "output", "other-status", "does-not-stay", "program"],
)
def test_a_page_that_is_wrong_is_found_out(
    page: str, found: str, tmp_path: Path, programs: Path
) -> None:
    """A page fails if a command's status or output differs from what it says."""
    folder = tmp_path / "folder"
    folder.mkdir()
    problem = run_page(page, folder, programs=programs).problem
    assert problem is not None and found in problem
