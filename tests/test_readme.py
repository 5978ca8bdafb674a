"""What the README says is true: commands parse, code runs, the tree and links exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from docs.annotate.order import module_files, reading_order
from docs.annotate.settings import Settings
from feedback import FeedbackLM
from feedback.__main__ import parse

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = (ROOT / "docs" / "pages" / "short.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
BLOCKS = BLOCK.findall(README)
COMMANDS = re.findall(r"python -m feedback (.+)$", README + SHORT, re.M)


def test_the_two_commands_stand_on_the_first_screen():
    """Training and testing, each complete in one line, within the first 30 lines."""
    first_screen = README.splitlines()[:30]
    assert "pip install -r requirements.txt && python -m feedback train" in first_screen
    assert "pip install -r requirements.txt && python -m pytest" in first_screen


@pytest.mark.parametrize("command", [c for c in COMMANDS if "--help" not in c])
def test_commands_parse(command):
    """Each command is one that the command line understands."""
    parse(shlex.split(command))


@pytest.mark.parametrize("page", [README, SHORT], ids=["README", "short"])
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """The code of the README and of the page *In short*, top to bottom, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    code = "\n".join(body for language, body in BLOCK.findall(page) if language == "python")
    assert code
    exec(compile(code, "page", "exec"), {})


def test_the_tree_is_the_tree():
    """Each module is listed in its folder, in the order in which the package says to read them."""
    tree = next(body for _, body in BLOCKS if body.startswith("feedback/"))
    listed: dict[str, list[str]] = {}
    folders: list[str] = []
    for line in tree.split("notebooks/")[0].splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()
        # Two spaces for each folder that it is in.
        inside = "".join(folders[: len(indent) // 2])
        if name.endswith("/"):
            folders[len(indent) // 2 :] = [name]
            listed[inside + name] = []
        else:
            listed[inside].append(name)
    assert listed.pop("feedback/trained/") == []
    expected: dict[str, list[str]] = {}
    settings = Settings.read(ROOT)
    files = module_files(settings)
    for names in reading_order(settings).values():
        for name in names:
            folder, _, file = files[name].rpartition("/")
            expected.setdefault(f"{folder}/", []).append(file)
    assert listed == expected


def test_links_within_the_repository_exist():
    """Relative links lead somewhere."""
    links = [t for t in re.findall(r"\]\(([^)]+)\)", README) if not t.startswith("http")]
    assert links
    for target in links:
        assert (ROOT / target).exists(), target


def test_style():
    """ruff has nothing to say, neither of form nor of content."""
    for arguments in (["format", "--check"], ["check"]):
        result = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "."],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr


def test_types():
    """mypy has nothing to say of the package and of the generator of the site."""
    command = [sys.executable, "-m", "mypy"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_requirements_satisfy_the_package():
    """Each dependency of the package is pinned in requirements.txt, within its range."""
    import tomllib

    from packaging.requirements import Requirement

    pins = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            (specifier,) = pin.specifier
            assert specifier.operator == "==", line
            pins[pin.name] = specifier.version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins[requirement.name]), line


@pytest.mark.parametrize("page", ["scaling", "demo"])
def test_the_pages_know_how_large_the_model_is(page):
    """The default model's numbers are counted; what a step sends is four bytes for each."""
    size = sum(p.numel() for p in FeedbackLM.from_pretrained("tiny_shakespeare").parameters())
    text = (ROOT / "docs" / "pages" / f"{page}.md").read_text(encoding="utf-8")
    assert f"{size:,}" in text
    if page == "scaling":
        assert f"{4 * size / 1e6:.1f} MB" in text and f"{8 * size / 1e6:.1f} MB" in text
