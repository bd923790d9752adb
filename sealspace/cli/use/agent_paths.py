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
from typing import NamedTuple

_SEPARATOR_CHARS = r"\s=@:,;|&<>()`\"'"
_SEPARATORS = f"[{_SEPARATOR_CHARS}]+"
_NOT_IN_NAMES = r"[^\w./~-]+"
"""Further characters that separate words, such as the braces of `cd ${X:-/srv}`.

They may be part of a name, too.
"""
_MOST_JOINED_WORDS = 5
"""Words of a script that are one name at most, with the separators between them."""
_MOST_PLACES = 20_000
"""Most files and folders that are looked at for a command, in 0.25 s. A longer search is a yes."""
_WRITABLE_BY_ALL = 0o002
_MOST_LINKS = 40
"""Most links on the way to a path, as in Linux. Links could name each other for ever."""


def leads_into_project(program: str, arguments: Sequence[str], folder: str) -> bool:
    """Return whether an agent could change what a command runs or reads (AG4).

    Returns True if the program, its folder, or a path in an argument is in the agent's project, or
    below a folder that every user can write to; if an argument names a folder above the project;
    and if the search would look at more than _MOST_PLACES files and folders.
    """
    text = _spell_out(arguments)
    search = _Search()
    # The path of the project may contain separators. Then it is not one of the words below.
    if re.search(rf"{re.escape(str(search.project))}(?![\w.-])", text):
        return True
    # The folder in which a command runs may be above the project, as `/` is, which is the default.
    # Only a word that names such a folder is a reason to ask (AG4).
    if search.is_changeable(Path("/"), folder, may_be_above=True):
        return True
    named_paths = _find_paths(program, arguments, text)
    for path in sorted(named_paths.absolute):
        if search.is_changeable(Path("/"), path):
            return True
    # Existing folders are in the list already. Relative paths count below the command's folder even
    # if it does not exist yet (AG4).
    if not _is_folder(Path(folder)):
        search.folders.append(Path(folder))
    # The loop also visits the folders that `is_changeable` appends: `-C /srv -C shop` names
    # /srv/shop.
    for base in search.folders:
        if _names_project_below(base, search.project, text):
            return True
        for path in sorted(named_paths.relative):
            if search.is_changeable(base, path):
                return True
    return False


class _Search:
    """A search for files that an agent could change.

    Attributes:
        project: the agent's project.
        folders: the existing folders that the search came to, without links.
    """

    def __init__(self) -> None:
        self.project = Path.cwd()
        self.folders: list[Path] = []
        self._known_folders: set[Path] = set()
        self._places_left = _MOST_PLACES

    def is_changeable(self, base: Path, path: str, *, may_be_above: bool = False) -> bool:
        """Return whether the agent could change a path, or what is on the way to it.

        Returns True too if the search has looked at _MOST_PLACES files and folders before.

        Args:
            base: the folder that a relative path is relative to, without links.
            path: the path. If it is an existing folder, it is added to `folders`.
            may_be_above: whether the path may name a folder above the project.
        """
        reached = base
        for place in _way_to(base, Path(path)):
            if self._places_left == 0 or place.is_relative_to(self.project):
                return True
            self._places_left -= 1
            if _is_folder(place) and place.stat().st_mode & _WRITABLE_BY_ALL:
                return True
            reached = place
        if not may_be_above and self.project.is_relative_to(reached):
            return True  # programs such as `find` run or read what they come to
        if reached not in self._known_folders and _is_folder(reached):
            self._known_folders.add(reached)
            self.folders.append(reached)
        return False


def _is_folder(place: Path) -> bool:
    return os.path.isdir(place)  # noqa: PTH112  # is_dir raises for a word too long for a name


def is_in_project(path: Path) -> bool:
    """Return whether a path leads into or through the agent's project, the current folder."""
    return any(place.is_relative_to(Path.cwd()) for place in _way_to(Path("/"), Path.cwd() / path))


def _spell_out(arguments: Sequence[str]) -> str:
    """Return all arguments as one text, followed by the forms in which a shell could read it.

    A search of this text also finds paths within a script or an option, such as `cd /project &&
    make` or `--file=/project/a`.
    """
    return " ".join(_possible_readings(" ".join(arguments)))


def _possible_readings(text: str) -> list[str]:
    """Return a text as it is, and as a shell could read it."""
    # `~` counts without a shell too, because git and others expand it themselves.
    below_home = re.sub(r"~[\w.-]*|['\"]?\$\{?HOME}?['\"]?", str(Path.home()), text)
    readings = [text, below_home]
    # Quotes and backslashes are removed, because a shell reads /pro"ject" as /project.
    readings += [re.sub(r"[\\'\"]", "", reading) for reading in readings]
    return list(dict.fromkeys(readings))


class _NamedPaths(NamedTuple):
    """The paths that a command could mean."""

    absolute: set[str]
    relative: set[str]


def _find_paths(program: str, arguments: Sequence[str], text: str) -> _NamedPaths:
    """Return all paths that a command could mean; `text` is what `_spell_out` returns for it."""
    words = {program, *arguments, *re.split(_SEPARATORS, text), *re.split(_NOT_IN_NAMES, text)}
    for argument in arguments:
        words.add(argument.partition("=")[2])  # `--chdir=my folder`
        for reading in _possible_readings(argument):
            words.update(_join_neighbours(reading))
    for word in [*words]:
        words.update(_values_behind_letters(word))
        if re.fullmatch(r"\w+(\.\w+)+", word):  # a module, such as `shop.deploy`
            words.add(word.replace(".", "/"))
    paths = _NamedPaths(absolute=set(), relative=set())
    for word in words:
        # What follows the letters of an option may be an absolute path, as in `-xC/srv`.
        _, slash, rest = word.partition("/")
        if rest.strip("/"):
            paths.absolute.add(slash + rest)
        if word and not word.startswith("/"):
            paths.relative.add(word)
        elif word and not word.strip("/"):
            paths.absolute.add("/")  # the word is the root folder; the end of `folder/` is not
    return paths


def _join_neighbours(text: str) -> Iterator[str]:
    """Yield neighbouring words of a script as one name, with the separators between them."""
    words = [*re.finditer(f"[^{_SEPARATOR_CHARS}]+", text)]
    for first, word in enumerate(words[:-1]):
        for last in words[first : first + _MOST_JOINED_WORDS]:
            yield text[word.start() : last.end()]
            yield text[word.start() : last.end() + 1]  # a name may end with a bracket


def _values_behind_letters(word: str) -> Iterator[str]:
    """Yield what could be the value of a short option, such as `srv` in `-Csrv` and `-xCsrv`."""
    if not word.startswith("-") or word.startswith("--"):
        return
    for start in range(2, len(word)):
        if not word[start - 1].isalnum():
            return
        yield word[start:]


def _names_project_below(folder: Path, project: Path, text: str) -> bool:
    """Return whether a text contains the project's path below a folder.

    Returns False for a path without separators, because it is one of the words of the command.
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
    # Links are yielded too: the agent can change a link of its project that leads out of it (AG4).
    place = base
    remaining_parts = [*reversed(path.parts)]  # the next part is the last one
    links = 0
    while remaining_parts and links <= _MOST_LINKS:
        # Two slashes at the start are the root folder, too.
        part = remaining_parts.pop().replace("//", "/")
        here = place.parent if part == ".." else place / part
        yield here
        if os.path.islink(here):  # noqa: PTH114  # as in `_is_folder`
            links += 1
            remaining_parts += reversed(here.readlink().parts)
        else:
            place = here
