r"""
---
title: Settings
summary: Whose repository this is, and which pages and notebooks it has.
---

# Settings

Every link to the repository, every badge and every installation follows from `[tool.annotate]` in
`pyproject.toml`, so a fork changes one line there and builds. The notebook that readers open on
Colab and the package that it installs come from the same release, the tag of the package's version:
readers run what was tested. Until that tag exists, both come from the branch.
"""

import re
import subprocess
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from pathlib import Path


def has_tag(root: Path, tag: str) -> bool:
    """Whether git knows a tag; without git, or without a repository, it does not."""
    command = ["git", "-C", str(root), "rev-parse", "--quiet", "--verify", f"refs/tags/{tag}"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


@dataclass
class Settings:
    """`[tool.annotate]` of `pyproject.toml`."""

    root: Path
    package: str
    repository: str
    branch: str
    tag: str
    """The tag of this version's release, which may not exist yet."""
    pages: dict[str, str]
    """Pages of prose: the name of each, and the file it is made from; `index` is the first."""
    known: list[str] = field(default_factory=list)
    """Names in backticks that look like names of the package but are not."""
    first: list[str] = field(default_factory=list)
    """Pages that stand before the notebooks, for readers who have only just arrived."""
    moved: dict[str, str] = field(default_factory=dict)
    """For each page that has moved, its old name and its new one."""

    @classmethod
    def read(cls, root: Path) -> "Settings":
        """Raises `ValueError` for a key that is missing or unknown, or a wrong address or tag."""
        path = root / "pyproject.toml"
        given = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("annotate", {})
        may = {f.name for f in fields(cls)} - {"root"}
        must = {f.name for f in fields(cls) if f.default_factory is MISSING} - {"root"}
        wrong = sorted((given.keys() - may) | (must - given.keys()))
        if wrong:
            raise ValueError(
                f"{path}: [tool.annotate] must have the keys {sorted(must)} and may have "
                f"{sorted(may - must)}; add or remove {', '.join(wrong)}"
            )
        settings = cls(root, **given)
        if "index" not in settings.pages:
            raise ValueError(
                f"{path}: [tool.annotate.pages] has no index, with which a site begins"
            )
        if unknown := sorted(set(settings.first) - (settings.pages.keys() - {"index"})):
            raise ValueError(
                f"{path}: first has {', '.join(unknown)}, expected names of [tool.annotate.pages], "
                "except index"
            )
        if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", settings.repository):
            raise ValueError(
                f"{path}: repository is {settings.repository!r}, expected "
                "'https://github.com/OWNER/NAME', without a slash at the end"
            )
        init = (root / settings.package / "__init__.py").read_text(encoding="utf-8")
        version = re.search(r'^__version__ = "(.+)"', init, re.M)
        if version is None or settings.tag != f"v{version[1]}":
            raise ValueError(
                f"{path}: tag is {settings.tag!r}, expected 'v' and the version that "
                f"{settings.package}/__init__.py has; Colab installs the release of that tag"
            )
        return settings

    @property
    def notebooks(self) -> list[str]:
        """The names of the walkthroughs; their numbers are the order in which they are read."""
        return sorted(path.stem for path in (self.root / "notebooks/src").glob("*.py"))

    @cached_property
    def release(self) -> str:
        """The tag or branch that Colab both opens and installs from."""
        return self.tag if has_tag(self.root, self.tag) else self.branch

    @property
    def site(self) -> str:
        """Where GitHub publishes the pages of the repository."""
        owner, name = self.repository.removeprefix("https://github.com/").split("/")
        return f"https://{owner.lower()}.github.io/{name}/"

    def source(self, path: str, line: int | None = None) -> str:
        """The address of a file, or of a line of it, in the repository."""
        return f"{self.repository}/blob/{self.branch}/{path}" + (f"#L{line}" if line else "")

    def colab(self, name: str) -> str:
        """The address that opens a notebook on Colab."""
        owner = self.repository.removeprefix("https://github.com/")
        return (
            f"https://colab.research.google.com/github/{owner}/blob/{self.release}/"
            f"notebooks/{name}.ipynb"
        )
