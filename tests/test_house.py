"""The structure of the package: each file in its folder, imports in one direction, no cycles."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from docs.annotate.order import imported_files, module_files, reading_order
from docs.annotate.settings import Settings

ROOT = Path(__file__).parent.parent
SETTINGS = Settings.read(ROOT)
FILES = module_files(SETTINGS)
ORDER = [name for names in reading_order(SETTINGS).values() for name in names]
FOLDERS = sorted({path.parent for path in (ROOT / "feedback").rglob("*.py")})


def imported(name: str) -> set[str]:
    """The modules that a module imports, those for a type checker alone included."""
    tree = ast.parse((ROOT / FILES[name]).read_text(encoding="utf-8"))
    found = imported_files(tree, SETTINGS, FILES[name])
    return {other for other, file in FILES.items() if file in found}


def test_imports_point_downwards():
    """
    A module imports only what is read before it, so there is no cycle; what is in `support` may be
    imported by all, and imports nothing else of the package.
    """
    support = {name for name, file in FILES.items() if "/support/" in file}
    for name in ORDER:
        before = set() if name in support else set(ORDER[: ORDER.index(name)])
        assert imported(name) <= before | support, name
    # The test would see one if there were any.
    assert "reference" in imported("append") and "checks" in imported("config")


def test_nothing_is_imported_for_types_alone():
    """Imports under `TYPE_CHECKING` could hide a cycle."""
    for file in FILES.values():
        assert "TYPE_CHECKING" not in (ROOT / file).read_text(encoding="utf-8"), file


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_a_folder_is_seen_at_a_glance(folder):
    """At most a dozen Python files, and an `__init__` that says what the folder is for."""
    files = list(folder.glob("*.py"))
    assert len(files) <= 12
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert "title: " in text and "summary: " in text


def test_tests_mirror_what_they_test():
    """Each folder of tests has the name of a folder that it tests, or holds the judges."""
    there = {path.parent.relative_to(ROOT / "tests").as_posix()
             for path in (ROOT / "tests").rglob("*.py")}  # fmt: skip
    folders = {folder.relative_to(ROOT / "feedback").as_posix() for folder in FOLDERS}
    assert there - {"docs", "judges"} <= folders
    for folder in there:
        assert len(list((ROOT / "tests" / folder).glob("*.py"))) <= 12, folder


def test_functions_and_modules_are_short():
    """At most 250 lines of code a module and 40 a function; prose and blank lines are not code."""
    for file in FILES.values():
        text = (ROOT / file).read_text(encoding="utf-8")
        lines, prose = text.split("\n"), set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                prose |= set(range(node.lineno, node.end_lineno + 1))

        def code(first: int, last: int, lines: list[str] = lines, prose: set[int] = prose) -> int:
            """The number of these lines that are code."""
            numbered = ((n, lines[n - 1].strip()) for n in range(first, last + 1))
            return sum(1 for n, l in numbered if n not in prose and l and not l.startswith("#"))

        assert code(1, len(lines)) <= 250, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert code(node.lineno, node.end_lineno) <= 40, (file, node.name)


def test_workflows_may_read_and_run_what_was_reviewed():
    """No more rights than they need by default, and each action by the hash of a commit."""
    for path in sorted((ROOT / ".github/workflows").glob("*.yml")):
        text = path.read_text(encoding="utf-8")
        assert re.search(r"^permissions:\n  contents: read\n", text, re.M), path.name
        assert "pull_request_target" not in text
        for used in re.findall(r"uses: (.+)", text):
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), used


def test_the_wheel_has_all_folders():
    """What setuptools is told to pack is every folder of the package and every file it reads."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packed = project["tool"]["setuptools"]
    assert packed["packages"]["find"] == {"include": ["feedback*"]}
    data = {file for pattern in packed["package-data"]["feedback"]
            for file in (ROOT / "feedback").glob(pattern)}  # fmt: skip
    hidden = {".pyc", ".py"}
    needed = {p for p in (ROOT / "feedback").rglob("*") if p.is_file() and p.suffix not in hidden}
    assert data == needed
