"""Tests of which commands an agent could change, judged by the paths in their arguments (AG4)."""

from pathlib import Path

import pytest

from sealspace.cli.use.agent_rules import Command


def changeable(*words: str, folder: str = "/") -> bool:
    """Return whether the agent of the current folder could change a command."""
    command = Command(
        program=words[0], arguments=(*words[1:],), secrets=("API_KEY",), folder=folder
    )
    return command.can_be_changed()


@pytest.mark.parametrize(
    ("words", "folder", "is_changeable"),
    [
        (["/usr/bin/env", "a", "b/c", "--d=/usr/bin"], "/", False),
        (["/bin/sh", "-c", "cd /usr/bin && echo 'a' >/dev/null"], "/usr", False),
        (["/bin/sh", "-c", "x" * 5000], "/", False),
        (["/usr/lib/a"], "/", True),
        (["/usr/bin/../lib/a"], "/", True),
        (["/bin/a", "/b"], "/usr/lib", True),
        (["/bin/sh", "/usr/lib"], "/", True),
        (["/bin/sh", "lib/a"], "/usr", True),
        (["/bin/sh", "../lib/a"], "/usr/bin", True),
        (["/bin/a", "--file=/usr/lib/a"], "/", True),
        (["/bin/a", "-C/usr/lib"], "/", True),
        (["/bin/a", "--volume=/x:/usr/lib/a:ro"], "/", True),
        (["/bin/a", "@/usr/lib/a"], "/", True),
        (["/bin/sh", "-c", "cd /usr/lib&&make"], "/", True),
        (["/bin/sh", "-c", "A='/usr/lib/a' b"], "/", True),
        (["/bin/sh", "-c", "b <lib/a"], "/usr", True),
        (["//usr/lib/a"], "/", True),
        (["/bin/sh", "-c", "/usr/li'b'/a"], "/", True),
        (["/bin/sh", "-c", "'/usr'/lib/a"], "/", True),
        (["/bin/sh", "-c", "/usr/li\\b/a"], "/", True),
        (["/bin/sh", "-c", "a /usr/lib64/b /usr/lib-a"], "/", False),
        (["/bin/a", "/a" * 950], "/", False),
    ],
)
def test_AG4_paths_that_lead_into_the_project(
    words: list[str], folder: str, is_changeable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AG4: a path of the project is found in every part of a command."""
    monkeypatch.chdir("/usr/lib")
    assert changeable(*words, folder=folder) == is_changeable


@pytest.mark.parametrize(
    ("text", "is_changeable"),
    [
        ("cd '/srv/ann.b/my ~ (shop)'&&make", True),
        ("cd /srv/ann.b/my\\ ~\\ \\(shop\\)/a", True),
        ("a:/srv/ann.b/my ~ (shop)/a:ro", True),
        ("a '/srv/ann.b/my (shop)-a' ~ann.b/a", False),
        ("make -C ~ann.b/shop", True),
    ],
)
def test_AG4_unusual_names(text: str, is_changeable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """AG4: the names of the project and the home may have blanks, dots and separators."""
    project = "/srv/ann.b/shop" if "-C" in text else "/srv/ann.b/my ~ (shop)"
    monkeypatch.setattr(Path, "cwd", lambda: Path(project))
    monkeypatch.setenv("HOME", "/srv/ann.b")
    assert changeable("/bin/sh", "-c", text) == is_changeable


@pytest.mark.parametrize("name", ["40/a", "loop/a", "bin/sh"])
def test_AG4_links_of_every_user(tmp_path: Path, name: str) -> None:
    """AG4: a link in a folder that every user can write to counts, wherever it leads. Links that
    name each other end the search."""
    tmp_path.chmod(0o777)
    for number in range(40):
        (tmp_path / f"{number + 1}").symlink_to(f"{number}/{number}")
    (tmp_path / "0").symlink_to(".")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "bin").symlink_to("/bin")
    assert changeable(f"{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("argument", "is_changeable"),
    [
        ("cd ~/share && make", True),
        ("~anyone/share/a", True),
        ("$HOME/share/a", True),
        ('"${HOME}"/share/a', True),
        ("core.hooksPath=~/share", True),
        ("~/bin/a $HOMES/x", False),
    ],
)
def test_AG4_paths_below_the_home(
    argument: str, is_changeable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AG4: paths that a shell or a program resolves below the home are found too."""
    monkeypatch.chdir("/usr/share")
    monkeypatch.setenv("HOME", "/usr")
    assert changeable("/bin/sh", "-c", argument) == is_changeable


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        # The folder of an option, in each way in which options have values.
        (["make", "-C", "/usr", "-f", "share/Makefile"], "/"),
        (["make", "-C/usr", "-f", "share/Makefile"], "/"),
        (["make", "-f", "share/Makefile", "--directory=/usr"], "/"),
        (["make", "--directory", "/usr", "-f", "share/Makefile"], "/"),
        (["env", "--chdir=/usr", "sh", "share/x.sh"], "/"),
        (["env", "--chdir=usr", "sh", "share/x.sh"], "/"),
        (["docker", "run", "-w", "/usr", "image", "share/x.sh"], "/"),
        (["terraform", "-chdir=/usr", "apply", "share/plan"], "/"),
        (["tar", "-xC/usr", "-f", "share/a.tar"], "/"),
        (["tar", "-xzCusr", "-f", "share/a.tar"], "/"),
        (["make", "-Cusr", "-fshare/Makefile"], "/"),
        (["make", "-C", "/usr", "--file=share/Makefile"], "/"),
        (["make", "-C../share", "deploy"], "/usr/bin"),
        (["sh", "-c", "cd /usr && share/x.sh"], "/"),
        (["sh", "-c", "cd 'usr'; . ./share/x.sh"], "/"),
        (["sh", "-c", "cd ${X:-/usr} && share/x.sh"], "/"),
        (["sh", "-c", "cd {/usr,/etc}; share/x.sh"], "/"),
        # In turn.
        (["git", "-C", "/", "-C", "usr", "-C", "share", "push"], "/usr/bin"),
        (["git", "-C", "..", "-C", "..", "-C", "usr", "log", "share/x"], "/usr/bin"),
        (["make", "-C", "/usr/bin", "-C", "..", "-f", "share/Makefile"], "/etc"),
        # A folder of the project's that does not exist, and one that is named in another way.
        (["make", "-C", "/usr", "-f", "share/none/at/all"], "/"),
        (["make", "-C", "/usr/bin", "-f", "../share/Makefile"], "/"),
        (["make", "-C", "~/usr", "-f", "share/Makefile"], "/etc"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else None,
)
def test_AG4_paths_relative_to_a_folder_of_another_argument(
    words: list[str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AG4: a relative path counts below every folder that a word of the command names."""
    monkeypatch.chdir("/usr/share")
    monkeypatch.setenv("HOME", "/")
    assert changeable(f"/usr/bin/{words[0]}", *words[1:], folder=folder)


@pytest.mark.parametrize(
    "words",
    [
        ["make", "-C", "/usr/bin", "-f", "share/Makefile"],
        ["make", "-C", "/usr/none", "-f", "share/Makefile"],
        ["make", "-f", "share/Makefile"],
        ["gh", "pr", "list", "--repo", "ann/share"],
        ["tar", "-xC/usr/bin", "-f", "/usr/lib/a.tar", "--files=x"],
    ],
    ids=" ".join,
)
def test_AG4_paths_that_lead_elsewhere(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """AG4: a relative path that leads outside the project is not counted as a path of the
    project."""
    monkeypatch.chdir("/usr/share")
    assert not changeable(f"/usr/bin/{words[0]}", *words[1:], folder="/usr/lib")


def test_AG4_a_command_with_too_many_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """AG4: a command with too many paths to check is confirmed by the person."""
    monkeypatch.chdir("/usr/share")
    names = [f"name{number}" for number in range(9_000)]
    assert not changeable("/bin/echo", *names, folder="/usr/lib")
    assert changeable("/bin/echo", "/usr/bin", "/usr", "/etc", *names, folder="/usr/lib")


def test_AG4_a_project_with_a_blank(private_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AG4: a relative path may contain separators, in an argument of its own and in a script."""
    parent = private_folder
    (parent / "my shop").mkdir()
    monkeypatch.chdir(parent / "my shop")
    assert changeable("/bin/make", "-C", str(parent), "-f", "my shop/Makefile")
    assert changeable("/bin/make", "-C", str(parent), "--file=my shop/Makefile")
    assert changeable("/bin/sh", "-c", f"cd {parent} && 'my shop/x.sh'")
    assert changeable("/bin/sh", "-c", f"cd {parent} && my\\ shop/x.sh")
    assert not changeable("/bin/sh", "-c", "cd /usr && 'my shop-a/x.sh' my_shop")


@pytest.mark.parametrize(
    "words",
    [
        ["python3", "-m", "share.deploy"],
        ["python3", "-c", "import share.deploy"],
        ["gunicorn", "share.web.wsgi:app"],
    ],
    ids=" ".join,
)
def test_AG4_names_of_modules(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """AG4: the name of a module is a path too, below the folder of the command."""
    monkeypatch.chdir("/usr/share")
    assert changeable(f"/usr/bin/{words[0]}", *words[1:], folder="/usr")
    assert not changeable(f"/usr/bin/{words[0]}", *words[1:], folder="/usr/lib")


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (["find", "/usr", "-name", "x.sh", "-exec", "sh", "{}", ";"], "/"),
        (["find", ".", "-name", "x.sh", "-exec", "sh", "{}", ";"], "/usr"),
        (["find", "/", "-name", "x.sh"], "/"),
        (["sh", "-c", "find /usr -name x.sh | xargs -n1 sh"], "/"),
        (["sh", "-c", "cd /usr/lib/..; for d in */; do $d/x.sh; done"], "/"),
        (["pytest", "../.."], "/usr/lib"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else None,
)
def test_AG4_folders_above_the_project(
    words: list[str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AG4: a folder above the project counts, because a program may run files below it."""
    monkeypatch.chdir("/usr/share")
    assert changeable(f"/usr/bin/{words[0]}", *words[1:], folder=folder)


@pytest.mark.parametrize("name", ["my tools", "a=b", "ann@host", "a:b, (c)"])
def test_AG4_a_folder_with_separators_in_a_script(
    name: str, private_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AG4: a relative path is found below a folder whose name contains separators."""
    (private_folder / "shop").mkdir()
    (private_folder / "other" / name).mkdir(parents=True)
    monkeypatch.chdir(private_folder / "shop")
    other = private_folder / "other"
    assert changeable("/bin/sh", "-c", f"cd '{other}/{name}' && ../../shop/x.sh")
    assert changeable("/bin/sh", "-c", f"cd {other}; cd '{name}' && ../../shop/x.sh")
    assert not changeable("/bin/sh", "-c", f"cd '{other}/{name}' && ../shop/x.sh")
