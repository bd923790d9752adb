"""Vectors of Python programs, written with a general library for JSON."""

import hashlib
import json

from .cases import Case, Documents

_BASE = "5a" * 32
_FILES = {"app.py": 'print("1")\n', "b/__init__.py": "", "b/c.py": "# é, ☃\n"}


def documents() -> Documents:
    """Return the vectors of each file: description, cases, and shared values."""
    return {"documents": ("Python programs, read", [*_readable(), *_refused()], {})}


def _spelt(members: Case) -> bytes:
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _readable() -> list[Case]:
    cases = []
    for name, files in (
        ("a script", {"app.py": ""}),
        ("modules", _FILES),
        ("control characters", {"app.py": '\0\x1f\t\\"\x7f\u2028'}),
    ):
        data = _spelt({"base": _BASE, "files": files})
        expect = {"sha256": hashlib.sha256(data).hexdigest(), "base": _BASE, "files": files}
        rules = ["PY1", "PY3", "PY4"]
        cases.append({"name": name, "rules": rules, "document_hex": data.hex(), "expect": expect})
    return cases


def _refused() -> list[Case]:
    good = _spelt({"base": _BASE, "files": _FILES})
    documents = {
        "a space": ("PY1", good.replace(b":", b": ", 1)),
        "a line behind it": ("PY1", good + b"\n"),
        "an escape": ("PY1", good.replace("é".encode(), b"\\u00e9")),
        "files in another order": (
            "PY1",
            good.replace(b'"b/c.py"', b'"a.py"'),
        ),
        "a member is repeated": ("PY1", good.replace(b'"app.py":', b'"app.py":"","app.py":')),
        "an unknown member": ("PY1", _spelt({"base": _BASE, "files": _FILES, "time": 0})),
        "no base": ("PY1", _spelt({"files": _FILES})),
        "capital digits": ("PY1", good.replace(b"5a" * 32, b"5A" * 32)),
        "a short base": ("PY1", good.replace(b"5a" * 32, b"5a" * 31)),
        "not UTF-8": ("PY1", good.replace("é".encode(), b"\xe9")),
        "a number as text": ("PY1", _spelt({"base": _BASE, "files": {"app.py": 1}})),
        "too many files": (
            "PY2",
            _spelt(
                {"base": _BASE, "files": {"app.py": ""} | {f"m{n}.py": "" for n in range(1000)}}
            ),
        ),
        "no app.py": ("PY3", _spelt({"base": _BASE, "files": {"b.py": ""}})),
    }
    for path in ("", "/a.py", "a//b.py", "a/", "..", "a/../b.py", ".a.py", "-a.py", "a b.py"):
        files = {"app.py": "", path: ""}
        documents[f"the path {path!r}"] = ("PY3", _spelt({"base": _BASE, "files": files}))
    files = {"app.py": "", "a" * 201: ""}
    documents["a long path"] = ("PY3", _spelt({"base": _BASE, "files": files}))
    return [
        {
            "name": f"{name}_fail",
            "rules": [rule],
            "document_hex": data.hex(),
            "expect": {"code": "invalid-input"},
        }
        for name, (rule, data) in documents.items()
    ]
