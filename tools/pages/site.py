"""The files of the documentation site, at the same paths as in the repository, so that links work.

A hook of mkdocs, named in `mkdocs.yml`. The home page is README.md.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_REPOSITORY = Path(__file__).parents[2]
_PARTS = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "CODE_OF_CONDUCT.md",
    "SECURITY.md",
    "action.yml",
    "LICENSE",
)
_FOLDERS = ("docs", "spec", "examples")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return all files of the site: those of the theme, and the pages at their repository paths."""
    of_theme = [file for file in files if file.src_dir != config.docs_dir]
    paths = [_REPOSITORY / name for name in _PARTS]
    paths += sorted(
        path for name in _FOLDERS for path in (_REPOSITORY / name).rglob("*") if path.is_file()
    )
    paths.append(_REPOSITORY / "tests" / "README.md")
    return Files(
        [
            *of_theme,
            *(File.generated(config, _name(path), abs_src_path=str(path)) for path in paths),
        ]
    )


def _name(path: Path) -> str:
    return path.relative_to(_REPOSITORY).as_posix()
