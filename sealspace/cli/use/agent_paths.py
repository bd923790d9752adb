"""Which files an agent could change for a command that it wants to run (AG4).

The agent may change every file of its project, which is the current folder. A command runs what it
is told to, and nobody knows the options of all programs. So every word of a command counts as a
path, relative to every folder that the command names:

    make -C /srv -f shop/Makefile          the project /srv/shop, by the option before
    env --chdir=/srv sh shop/deploy.sh     behind `=`
    tar -xC/srv -f shop/a.tar              behind the letter of an option
    git -C / -C srv -C shop push           in turn
    python3 -m shop.deploy                 the name of a module, in /srv
    sh -c "cd '/srv/my tools'; ../shop/x"  a name with separators, in a script
    find /srv -name x.sh -exec sh {} ;     a folder above the project, which a program walks
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

_SEPARATORS = r"[\s=@:,;|&<>()`\"']+"
_NOT_IN_NAMES = r"[^\w./~-]+"
"""What separates words too, such as the braces of `cd ${X:-/srv}`, but may be part of a name."""
_MOST_JOINED_WORDS = 5
"""Words of a script that are one name at most, with the separators between them."""
_MOST_PLACES = 20_000
"""Most files and folders that are looked at for a command, in 0.25 s. A longer search is a yes."""
_MOST_LINKS = 40
"""Most links on the way to a path, as in Linux. Links could name each other for ever."""


def leads_into_project(program: str, arguments: Sequence[str], folder: str) -> bool:
    """Return whether an agent could change what a command runs or reads (AG4).

    Returns True if the program, its folder, or a path in an argument is in the agent's project, or
    below a folder that every user can write to; if an argument names a folder above the project;
    and if the command names too many paths to say.
    """
    text = _expanded(arguments)
    search = _Search()
    # The name of the project may contain separators.
    if re.search(rf"{re.escape(str(search.project))}(?![\w.-])", text):
        return True
    if search.is_changeable(Path("/"), folder):
        return True
    absolute, relative = _paths_in(program, arguments, text)
    # The folder in which a command runs may be above the project: it is named by no word.
    search.may_be_above = False
    for path in sorted(absolute):
        if search.is_changeable(Path("/"), path):
            return True
    if not _is_folder(Path(folder)):
        search.folders.append(Path(folder))
    # The list grows while it is read: `-C /srv -C shop` names /srv/shop.
    for base in search.folders:
        if _names_project_below(base, search.project, text):
            return True
        for path in sorted(relative):
            if search.is_changeable(base, path):
                return True
    return False


class _Search:
    """A search for files that an agent could change.

    Attributes:
        project: the agent's project.
        folders: the existing folders that the search came to, without links.
        may_be_above: whether a folder above the project is no reason to ask.
    """

    def __init__(self) -> None:
        self.project = Path.cwd()
        self.folders: list[Path] = []
        self.may_be_above = True
        self._known: set[Path] = set()
        self._left = _MOST_PLACES

    def is_changeable(self, base: Path, path: str) -> bool:
        """Return whether the agent could change a path, or what is on the way to it.

        Args:
            base: the folder that a relative path is relative to, without links.
            path: the path. If it is an existing folder, it is added to `folders`.
        """
        place = base
        for place in _way_to(base, Path(path)):
            self._left -= 1
            if self._left < 0 or place.is_relative_to(self.project):
                return True
            if _is_folder(place) and place.stat().st_mode & 0o002:
                return True
        if not self.may_be_above and self.project.is_relative_to(place):
            return True  # programs such as `find` run or read what they come to
        if place not in self._known and _is_folder(place):
            self._known.add(place)
            self.folders.append(place)
        return False


def _is_folder(place: Path) -> bool:
    return os.path.isdir(place)  # noqa: PTH112  # is_dir raises for a word too long for a name


def is_in_project(path: Path) -> bool:
    """Return whether a path leads into or through the agent's project, the current folder."""
    return any(place.is_relative_to(Path.cwd()) for place in _way_to(Path("/"), Path.cwd() / path))


def _expanded(arguments: Sequence[str]) -> str:
    """Return the arguments as text, in which paths are written out as a shell does it."""
    # Paths within a script or an option, such as `cd /project && make` or `--file=/project/a`.
    return " ".join(_forms(" ".join(arguments)))


def _forms(text: str) -> list[str]:
    """Return a text as it is, and as a shell could read it."""
    # `~` counts without a shell too, because git and others expand it themselves.
    below_home = re.sub(r"~[\w.-]*|['\"]?\$\{?HOME}?['\"]?", str(Path.home()), text)
    forms = [text, below_home]
    forms += [re.sub(r"[\\'\"]", "", form) for form in forms]  # /pro"ject" is /project
    return list(dict.fromkeys(forms))


def _paths_in(program: str, arguments: Sequence[str], text: str) -> tuple[set[str], set[str]]:
    """Return all absolute and all relative paths that a command could mean."""
    words = {program, *arguments, *re.split(_SEPARATORS, text), *re.split(_NOT_IN_NAMES, text)}
    for argument in arguments:
        words.add(argument.partition("=")[2])  # `--chdir=my folder`
        for form in _forms(argument):
            words.update(_joined(form))
    for word in [*words]:
        words.update(_behind_letters(word))
        if re.fullmatch(r"\w+(\.\w+)+", word):  # a module, such as `shop.deploy`
            words.add(word.replace(".", "/"))
    absolute: set[str] = set()
    relative: set[str] = set()
    for word in words:
        if "/" in word and (path := word[word.index("/") :]).strip("/"):
            absolute.add(path)
        if word and not word.startswith("/"):
            relative.add(word)
        elif word and not word.strip("/"):
            absolute.add("/")  # the word itself, not the end of `folder/`
    return absolute, relative


def _joined(text: str) -> Iterator[str]:
    """Yield neighbouring words of a script with what separates them: a name may contain that."""
    words = [*re.finditer(rf"[^{_SEPARATORS[1:-2]}]+", text)]
    for first, word in enumerate(words[:-1]):
        for last in words[first : first + _MOST_JOINED_WORDS]:
            yield text[word.start() : last.end()]
            yield text[word.start() : last.end() + 1]  # a name may end with a bracket


def _behind_letters(word: str) -> Iterator[str]:
    """Yield what could be the value of a short option, such as `srv` in `-Csrv` and `-xCsrv`."""
    if not word.startswith("-") or word.startswith("--"):
        return
    for start in range(2, len(word)):
        if not word[start - 1].isalnum():
            return
        yield word[start:]


def _names_project_below(folder: Path, project: Path, text: str) -> bool:
    """Return whether a text contains the project's path below a folder, with separators in it.

    Without separators, the path is one of the words.
    """
    if not project.is_relative_to(folder):
        return False
    below = str(project.relative_to(folder))
    if re.search(_SEPARATORS, below) is None:
        return False
    return re.search(rf"(?<![\w.-]){re.escape(below)}(?![\w.-])", text) is not None


def _way_to(base: Path, path: Path) -> Iterator[Path]:
    """Yield the folders and links that lead to a path, and the path, as Linux follows them.

    Args:
        base: the folder that the path is relative to, without links.
        path: the path, which may be absolute.
    """
    # The agent can change a link of its project, also one that leads out of it (AG4).
    place, left, links = base, [*reversed(path.parts)], 0
    while left and links <= _MOST_LINKS:
        part = left.pop().replace("//", "/")
        here = place.parent if part == ".." else place / part
        yield here
        if os.path.islink(here):  # noqa: PTH114  # as in `_is_folder`
            links += 1
            left += reversed(here.readlink().parts)
        else:
            place = here
