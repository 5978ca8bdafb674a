"""The notebooks: converted without loss, the same when run twice, and never silently stale."""

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.__main__ import main
from docs.annotate import execute, notebook, outputs
from docs.annotate.mistake import Mistake
from docs.annotate.pull import pull
from docs.annotate.settings import Settings
from docs.annotate.walkthrough import Cell, definition, read_cells, write_cells

ROOT = Path(__file__).parents[2]
SETTINGS = Settings.read(ROOT)
NAMES = list(SETTINGS.notebooks)

TINY = """# # A tiny one
#
# See [layers](../../feedback/layers.py) and `LayerMix`.

import warnings

x = 1
print(x)

# Then time.

# NBVAL_IGNORE_OUTPUT
import time

print(time.perf_counter())

# And a definition.

import torch
from torch import Tensor, nn

# It is this:

from feedback.layers import LayerMix  # shown

# Done, but for a picture, of which only the code is folded, and an exercise.

y = x

# @title Drawing code
# NBVAL_IGNORE_OUTPUT
import matplotlib.pyplot as plt

plt.plot([y])
# caption: Where it is.
# alt: A point.
plt.show()
print(time.perf_counter())

# @title Solution
assert LayerMix(1).weight.shape == (2,)
x
"""


@pytest.mark.parametrize("name", NAMES)
def test_walkthroughs_come_back_byte_for_byte(name):
    """From the source to cells to the source; and each cell begins at the line it says."""
    source = (ROOT / notebook.source_path(name)).read_text(encoding="utf-8")
    cells = read_cells(name, source)
    assert write_cells(cells, name) == source
    lines = source.split("\n")
    for cell in cells:
        first = cell.text.split("\n")[0]
        assert lines[cell.line - 1] == ("# " + first if cell.kind == "prose" else first)


WORDS = st.text("ab $#*`_xyz.é", min_size=1, max_size=20).map(str.strip)
WORDS = WORDS.filter(lambda words: words[:1].isalnum())
PROSE = st.lists(WORDS, min_size=1, max_size=3).map("\n\n".join)
CODE = st.lists(
    st.sampled_from(
        [
            "x = 1",
            "# a note\ny = 2",
            "def f():\n    # inside\n    return 1",
            "s = '# none'",
            "if x:\n    y",
        ]
    ),
    min_size=1,
    max_size=3,
).map("\n\n\n".join)


@given(WORDS, st.lists(st.tuples(CODE, PROSE), max_size=4))
def test_cells_come_back(title, pairs):
    """Any alternation of prose and code survives the way through a file."""
    cells = [Cell("prose", f"# {title}")]
    for code, prose in pairs:
        cells += [Cell("code", code), Cell("prose", prose)]
    again = read_cells("x.py", write_cells(cells, "x.py"))
    assert [(c.kind, c.text) for c in again] == [(c.kind, c.text) for c in cells]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1\n", "x.py:1: the walkthrough is not in normal form"),
        ("# # T\n\n\nx = 1\n", "x.py:3: the walkthrough is not in normal form"),
        ("# # T\n\nx = 1", "x.py:4: the walkthrough is not in normal form"),
        ("# # T\n\nx = 1\n\n\n# Two lines above.\n", "x.py:5: the walkthrough is not in normal"),
        ("# # T\n\nx = 1\n# @title A\ny\n", "x.py:4: a title begins a cell; leave one blank line"),
        ("# # T\n\nx = 1\n\n\n# @title A\ny\n", "x.py:4: a title begins a cell; leave one blank"),
        ("# # T\n\nx = (\n", "x.py:3: '(' was never closed; correct the cell"),
    ],
)
def test_wrong_sources(source, words):
    """What would not come back, or is no Python, is refused with its line."""
    with pytest.raises(Mistake) as error:
        read_cells("x.py", source)
    assert words in str(error.value)


def test_code_needs_words_in_between():
    """Two code cells side by side cannot be written as a walkthrough, unless one has a title."""
    cells = [Cell("prose", "# T"), Cell("code", "x = 1"), Cell("code", "y = 1")]
    with pytest.raises(Mistake, match="cell 3 is code and follows code; write a sentence"):
        write_cells(cells, "x.ipynb")
    cells[2].text = "# @title Drawing code\ny = 1"
    source = write_cells(cells, "x.py")
    assert source == "# # T\n\nx = 1\n\n# @title Drawing code\ny = 1\n"
    assert [(c.kind, c.text, c.line) for c in read_cells("x.py", source)[1:]] == [
        ("code", "x = 1", 3), ("code", "# @title Drawing code\ny = 1", 5)
    ]  # fmt: skip


def test_a_definition_that_is_not_there():
    """A cell that shows something the package does not have."""
    cell = Cell("code", "from feedback.layers import LayerMixx  # shown", 7)
    with pytest.raises(Mistake, match=r"x.py:7: feedback/layers.py defines no LayerMixx"):
        definition(SETTINGS, "x.py", cell)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A repository with one small, executed notebook."""
    tmp_path = tmp_path_factory.mktemp("repository")
    for part in ("feedback", "docs/pages"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks/src").mkdir(parents=True)
    (tmp_path / "notebooks/src/tiny.py").write_text(TINY)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    settings = Settings.read(tmp_path)
    execute.update(settings, set())
    return tmp_path


@pytest.fixture
def tiny(executed, tmp_path):
    """A copy of it that a test may damage."""
    shutil.copytree(executed, tmp_path / "tiny")
    return Settings.read(tmp_path / "tiny")


def path_of(settings: Settings) -> Path:
    return settings.root / "notebooks/tiny.ipynb"


def source_of(settings: Settings) -> Path:
    return settings.root / "notebooks/src/tiny.py"


def whys(settings: Settings) -> list[str]:
    return [str(why) for _, why in execute.stale(settings)]


def test_executed_twice_it_is_the_same(tiny):
    """Byte for byte, measured times included, as long as nothing has changed."""
    before = path_of(tiny).read_bytes()
    assert whys(tiny) == []
    execute.update(tiny, {"tiny"})
    assert path_of(tiny).read_bytes() == before
    stored = nbformat.read(path_of(tiny), 4)
    printed = [o for c in stored.cells if c.cell_type == "code" for o in c.outputs]
    assert printed[0].text == "1\n"
    assert printed[-1].data == {"text/plain": "1"}
    assert "class LayerMix(nn.Module)" in stored.cells[9].source
    assert [c.metadata.get("cellView") for c in stored.cells[-3:]] == [None, "form", "form"]
    section = outputs_of(tiny)[-1]
    parts = [(part.folded, len(part.outputs)) for part in (section, *section.more)]
    assert parts == [("", 0), ("Drawing code", 2), ("Solution", 1)]
    assert [line for _, line in section.more[0].code if "#" in line] == []
    assert f"]({tiny.site}layers.html) and `LayerMix`" in stored.cells[1].source


def test_what_makes_it_stale(tiny):
    """Changes of its source or the code it imports; not prose of the package or other modules."""
    names = "layers", "benchmark/report"
    layers, report = (tiny.root / f"feedback/{name}.py" for name in names)
    layers.write_text(layers.read_text().replace("# Layers\n", "# Layers and more\n"))
    report.write_text(report.read_text() + "\nx = 1\n")
    assert whys(tiny) == []
    attention = tiny.root / "feedback/attention.py"
    attention.write_text(attention.read_text() + "\nx = 1\n")
    assert whys(tiny) == [
        "notebooks/tiny.ipynb:1: cell 10 ran with another feedback/attention.py; run: python -m "
        "docs build"
    ]
    (tiny.root / "feedback/trained/x").write_text("data")
    (tiny.root / "feedback/.attention.py.swp").write_text("not data")
    assert "cell 10 ran with another feedback/attention.py" in whys(tiny)[0]
    attention.write_text(attention.read_text().removesuffix("\nx = 1\n"))
    assert "cell 10 ran with another feedback/trained/x;" in whys(tiny)[0]
    layers.write_text(layers.read_text().replace("## Mix $L", "## To mix $L"))
    assert "cell 10 is not what notebooks/src/tiny.py says; run: python" in whys(tiny)[0]
    path_of(tiny).unlink()
    assert "there is no such notebook yet; run: python -m docs build" in whys(tiny)[0]


def outputs_of(settings: Settings):
    """The sections of the page, with code and outputs."""
    return outputs.notebook_sections(settings, "tiny")


def edit(settings: Settings, number: int, old: str, new: str) -> None:
    """Edits a cell of the notebook, as Jupyter would."""
    stored = nbformat.read(path_of(settings), 4)
    assert old in stored.cells[number - 1].source
    stored.cells[number - 1].source = stored.cells[number - 1].source.replace(old, new)
    path_of(settings).write_text(nbformat.writes(stored))


def test_an_edit_is_not_written_over_but_pulled(tiny):
    """The build refuses and says how; after the pull the source has the edit, and it runs again."""
    edit(tiny, 4, "x = 1", "x = 2")
    edit(tiny, 5, "Then time.", f"Then the time, and [more]({tiny.site}layers.html).")
    before = path_of(tiny).read_bytes()
    with pytest.raises(
        Mistake, match="cell 4 was edited in the notebook; run: python -m docs pull"
    ):
        execute.update(tiny, set())
    assert path_of(tiny).read_bytes() == before
    assert pull(tiny, "tiny") == source_of(tiny)
    text = TINY.replace("x = 1", "x = 2")
    text = text.replace("Then time.", "Then the time, and [more](../../feedback/layers.py).")
    assert source_of(tiny).read_text() == text
    assert "cell 4 has not been run since it was edited; run: python" in whys(tiny)[0]
    assert pull(tiny, "tiny") == source_of(tiny) and source_of(tiny).read_text() == text
    execute.update(tiny, set())
    assert whys(tiny) == [] and '"2\\n"' in path_of(tiny).read_text()


@pytest.mark.parametrize(
    ("number", "old", "new", "words"),
    [
        (10, "class LayerMix", "class LayerMax", "cell 10 shows LayerMix of feedback/layers.py"),
        (1, "github", "gitlab", "cell 1, which the build makes, was edited; restore it"),
        (3, "pip", "pipx", "cell 3, which the build makes, was edited; restore it"),
        (2, "# A tiny one", "A tiny one", "cell 2 comes first and is no title"),
        (4, "x = 1", "%timeit x", "cell 4 is no Python at '%timeit x' (invalid syntax); write"),
        (4, "x = 1", "x = (", "cell 4 is no Python at 'x = (' ('(' was never closed); correct"),
        (4, "x = 1", "# one\n\nx = 1", "cell 4 would come back changed from a walkthrough"),
        (4, "x = 1", "x = 1\n\n# two\n\ny = 1", "cell 4 would come back changed"),
        (4, "x = 1", 'x = """a  \nb"""', "cell 4 has a string with blanks at the end of a line"),
        (4, "x = 1", "if 1:\n\tx = 1", "cell 4 would come back changed"),
        (5, "Then", "    x = 1\n\nThen", "cell 5 would come back changed"),
    ],
)
def test_edits_that_have_no_place_in_a_walkthrough(tiny, number, old, new, words):
    """What the build makes, what belongs to a module, and what would come back changed."""
    edit(tiny, number, old, new)
    with pytest.raises(Mistake) as error:
        pull(tiny, "tiny")
    assert words in str(error.value) and source_of(tiny).read_text() == TINY


def test_cells_of_another_kind_or_without_words_between(tiny):
    """The error names the cell by its number in the notebook."""
    stored = nbformat.read(path_of(tiny), 4)
    stored.cells.insert(4, nbformat.v4.new_code_cell("y = 1"))
    path_of(tiny).write_text(nbformat.writes(stored))
    with pytest.raises(Mistake, match="cell 5 is code and follows code; write a sentence"):
        pull(tiny, "tiny")
    stored.cells[4] = nbformat.v4.new_raw_cell("y = 1")
    path_of(tiny).write_text(nbformat.writes(stored))
    assert "cell 5 was edited in the notebook" in whys(tiny)[0]
    with pytest.raises(Mistake, match="cell 5 is raw; make it a cell of Markdown or code"):
        pull(tiny, "tiny")


def test_blanks_at_the_end_of_lines(tiny):
    """In code they are removed; in a paragraph two of them become the equivalent backslash."""
    edit(tiny, 4, "x = 1", "x = 2  ")
    edit(tiny, 5, "Then time.", "Then  \ntime. ")
    pull(tiny, "tiny")
    text = TINY.replace("x = 1\n", "x = 2\n").replace("# Then time.", "# Then\\\n# time.")
    assert source_of(tiny).read_text() == text


def test_two_edits(tiny):
    """If both files were edited, neither edit is lost unless somebody says so."""
    with pytest.raises(Mistake, match="no cell of it was edited; run: python -m docs build"):
        pull(tiny, "tiny")
    edit(tiny, 4, "x = 1", "x = 2")
    both = TINY.replace("Done,", "All done,")
    source_of(tiny).write_text(both)
    with pytest.raises(Mistake, match=r"src/tiny.py:1: both this and .* pull tiny --force"):
        pull(tiny, "tiny")
    assert source_of(tiny).read_text() == both
    pull(tiny, "tiny", force=True)
    assert source_of(tiny).read_text() == TINY.replace("x = 1", "x = 2")


def test_an_edit_beside_a_change_of_the_package(tiny):
    """A new release or definition is not an edit of the notebook, and does not prevent a pull."""
    edit(tiny, 4, "x = 1", "x = 2")
    for file, old, new in (
        ("feedback/layers.py", "## Mix $L", "## To mix $L"),
        ("feedback/__init__.py", tiny.tag[1:], "9.9"),
        ("pyproject.toml", tiny.tag, "v9.9"),
    ):
        path = tiny.root / file
        path.write_text(path.read_text().replace(old, new))
    settings = Settings.read(tiny.root)
    assert "cell 4 was edited in the notebook" in whys(settings)[0]
    pull(settings, "tiny")
    assert source_of(tiny).read_text() == TINY.replace("x = 1", "x = 2")


def test_saved_by_another_program(tiny):
    """Jupyter stores its own outputs, Colab drops cell ids: run again, nothing is lost."""
    good = path_of(tiny).read_bytes()
    jupyter = nbformat.read(path_of(tiny), 4)
    jupyter.cells[3].outputs[0].text = "2\n"
    colab = json.loads(good)
    colab["nbformat_minor"] = 0
    for cell in colab["cells"]:
        del cell["id"]
        cell["metadata"]["id"] = "XYZ"
    for text in (nbformat.writes(jupyter), json.dumps(colab)):
        path_of(tiny).write_text(text)
        assert whys(tiny) == [
            "notebooks/tiny.ipynb:1: it was saved by another program, and its outputs are not "
            "those of the build; run: python -m docs build"
        ]
        with pytest.raises(Mistake) as error:
            outputs.notebook_sections(tiny, "tiny")
        assert str(error.value) == whys(tiny)[0]
    colab["cells"][3]["source"] = "import warnings\n\nx = 1\nprint(x + 1)"
    del colab["metadata"]["made_from"]
    path_of(tiny).write_text(json.dumps(colab))
    pull(tiny, "tiny")
    assert source_of(tiny).read_text() == TINY.replace("print(x)", "print(x + 1)")
    execute.update(tiny, set())
    source_of(tiny).write_text(TINY)
    execute.update(tiny, set())
    again = json.loads(path_of(tiny).read_text())
    # All but the time, which was measured again.
    assert [c for c in again["cells"] if "time" not in str(c)] == [
        c for c in json.loads(good)["cells"] if "time" not in str(c)
    ]


def test_hashes_of_code_are_those_of_all_versions_of_python():
    """A notebook made with one version must not be stale with another: recorded with 3.11."""
    source = b'def f(x: int = -1) -> str:\n    """Doc."""\n    return f"{x!r:>{3}} {x=}" or None\n'
    code, _ = notebook.code_of("x.py", source)
    assert code == "2e91c63db5c1380ada62d4c2b7fa1dc2"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("print(x)", "print(y)", "tiny.py:5: cell 4 (import warnings) raises NameError: name 'y'"),
        (
            "print(x)",
            "while True:\n    pass",
            "cell 4 (import warnings) runs past its limit of 2 s",
        ),
        (
            "print(x)",
            "assert x == 2",
            "cell 4 (import warnings) raises AssertionError: assert x == 2;",
        ),
        (
            "print(x)",
            "from IPython.display import HTML\n\nHTML('<b>x</b>')",
            "cell 4 puts out text/html; print it, or draw it",
        ),
        ("print(x)", 'warnings.warn("old", stacklevel=1)', "tiny.py:5: cell 4 warns: "),
        (
            "print(x)",
            "import matplotlib.pyplot as plt\n\nplt.plot([1])\nplt.show()",
            "cell 4 draws a picture without words; add a comment that says them: # alt: ... and",
        ),
        (
            "print(x)",
            "import matplotlib.pyplot as plt\n\n# alt: One.\nplt.plot([1])\nplt.show()",
            "cell 4 draws a picture without words; add a comment that says them: # caption: ...",
        ),
        (
            "print(x)",
            "import matplotlib.pyplot as plt\n\n# caption: A.\n# alt: B.\nfor n in (1, 2):\n"
            "    plt.plot([n])\n    plt.show()",
            "cell 4 draws 2 pictures; draw one a cell, each with its words",
        ),
        ("layers.py)", "lost.py)", "tiny.py:3: the link to ../../feedback/lost.py leads nowhere"),
    ],
)
def test_what_cannot_be_run_leaves_the_last_good_notebook(tiny, old, new, words):
    """Each is an error with file, line, cell and remedy."""
    before = path_of(tiny).read_bytes()
    source_of(tiny).write_text(TINY.replace(old, new, 1))
    with pytest.raises(Mistake) as error:
        execute.execute(tiny, "tiny", limit=2 if "while" in new else 60)
    assert words in str(error.value) and "; " in str(error.value)
    assert path_of(tiny).read_bytes() == before
    assert not path_of(tiny).with_suffix(".new").exists()


def test_sources_that_cannot_be_read(tiny):
    """A walkthrough in another encoding, and a module that is no Python: file and line."""
    source_of(tiny).write_bytes(TINY.replace("Then time.", "Sp\u00e4ter.").encode("latin-1"))
    with pytest.raises(Mistake, match=r"src/tiny.py:10: this is no UTF-8; save it as UTF-8"):
        execute.stale(tiny)
    source_of(tiny).write_text(TINY)
    (tiny.root / "feedback/attention.py").write_text("x = 1\ny = (\n")
    with pytest.raises(Mistake, match=r"feedback/attention.py:2: .*; correct the module"):
        execute.stale(tiny)


def test_lines_of_prose_are_short():
    """The formatter does not check this, since it leaves walkthroughs alone."""
    for name in NAMES:
        source = (ROOT / notebook.source_path(name)).read_text(encoding="utf-8")
        assert max(map(len, source.split("\n"))) <= 100, name


def test_no_notebook_at_all(tiny):
    """A file that is no notebook, one without a walkthrough, a name without one, a wrong tag."""
    path_of(tiny).write_text("{")
    with pytest.raises(Mistake, match=r"tiny.ipynb:1: this is no notebook .*; restore it"):
        execute.stale(tiny)
    path_of(tiny).rename(tiny.root / "notebooks/other.ipynb")
    assert any("other.ipynb:1: it has no walkthrough; remove it" in why for why in whys(tiny))
    (tiny.root / "notebooks/src/more.py").write_text("# # More\n")
    assert any("more.ipynb:1: there is no such notebook yet" in why for why in whys(tiny))
    path = tiny.root / "pyproject.toml"
    path.write_text(path.read_text().replace(f'tag = "{tiny.tag}"', 'tag = ""'))
    with pytest.raises(ValueError, match=r"tag is '', expected 'v' and the version"):
        Settings.read(tiny.root)


@pytest.fixture(params=NAMES)
def stored(request):
    """Each notebook, as it is stored."""
    return nbformat.read(ROOT / notebook.notebook_path(request.param), 4)


def test_all_are_in_step():
    """Each notebook is what its walkthrough and the package would give now."""
    assert whys(SETTINGS) == []


def test_metadata(stored):
    """The metadata has what Colab and nbval need, and nothing that differs between machines."""
    assert stored.metadata.kernelspec.name == "python3"
    assert stored.metadata.colab == {"provenance": [], "toc_visible": True}
    assert set(stored.metadata) == {"kernelspec", "language_info", "colab", "made_from"}
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(set(c.metadata) <= {"tags", "jupyter", "cellView"} for c in stored.cells)


def test_it_can_be_opened_on_colab(stored):
    """The badge leads to a file of this repository, of the release that is installed."""
    address = re.search(r"\(https://colab\.research\.google\.com/github/([^)]+)\)",
                        stored.cells[0].source)[1]  # fmt: skip
    owner = SETTINGS.repository.removeprefix("https://github.com/")
    prefix = f"{owner}/blob/{SETTINGS.release}/"
    assert address.startswith(prefix) and (ROOT / address.removeprefix(prefix)).exists()
    assert f'"git+{SETTINGS.repository}@{SETTINGS.release}"' in stored.cells[2].source


def git(folder, *arguments):
    """Runs git under a name of its own."""
    names = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True)


def releases(texts) -> set[str]:
    """All releases that badges open and cells install."""
    badge = r"colab\.research\.google\.com/github/[^/]+/[^/]+/blob/([^/]+)/"
    pattern = badge + r"|git\+https[^\"@]+@([^\\\"&]+)"
    return {one or other for text in texts for one, other in re.findall(pattern, text)}


def test_badges_and_installs_never_mix():
    """In all notebooks and on all pages they name one release: the tag, or else the branch."""
    files = [*ROOT.glob("notebooks/*.ipynb"), *(ROOT / "docs/site").rglob("*.html")]
    files += (ROOT / "docs/site").rglob("*.ipynb")
    assert releases(file.read_text(encoding="utf-8") for file in files) == {SETTINGS.release}


def test_the_branch_until_there_is_a_tag(tiny):
    """Git is asked when a notebook is made: no repository, no tag, another tag, the tag."""
    found = []

    def look():
        settings = Settings.read(tiny.root)
        cells = notebook.convert(settings, "tiny", notebook.read_source(settings, "tiny"))
        found.append(releases(cell.text for cell in cells))

    look()
    git(tiny.root, "init", "-q")
    git(tiny.root, "commit", "-q", "--allow-empty", "-m", "nothing")
    look()
    git(tiny.root, "tag", "v0.0.1")
    look()
    git(tiny.root, "tag", tiny.tag)
    look()
    assert found == [{tiny.branch}] * 3 + [{tiny.tag}]


def test_without_git(tiny, monkeypatch):
    """Where git is not installed, there is no tag."""
    monkeypatch.setenv("PATH", "")
    assert Settings.read(tiny.root).release == tiny.branch


def test_pictures_have_words_and_only_times_are_ignored(stored):
    """Pictures have words and named axes; nbval skips times, and what a model in training says."""
    pictures = 0
    for cell in stored.cells:
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                pictures += 1
                assert len(output.metadata["image/png"]["alt"]) > 40
                assert "set_xlabel" in cell.source or 'axis("off")' in cell.source
        if "NBVAL" in cell.source:
            assert notebook.measures(cell.source)
            if re.fullmatch(r"# NBVAL_IGNORE_OUTPUT\nprint\(written\[.+\]\)", cell.source):
                continue
            printed = "".join(o.get("text", "") for o in cell.outputs)
            # What it prints are times, about which something is asserted; or it draws them.
            if printed:
                assert re.search(r"\bm?s$", printed, re.M) and "assert" in cell.source
            else:
                assert re.search(r"\(m?s\)", cell.source)
    assert pictures > 0


def test_imports_and_drawing_are_folded(stored):
    """No text waits behind long imports or the code of a picture; outputs stay in view."""
    titles = {"Imports", "Drawing code", "Solution"}
    code = [cell for cell in stored.cells if cell.cell_type == "code" and cell.id != "install"]
    for cell in code:
        first, *lines = cell.source.split("\n")
        folded = first.startswith(notebook.TITLE)
        assert not folded or first.removeprefix(notebook.TITLE) in titles
        metadata = {"cellView": "form", "jupyter": {"source_hidden": True}, "tags": ["hide-input"]}
        assert cell.metadata == (metadata if folded else {})
        assert folded or "plt.show()" not in lines
        imports = [line for line in lines if re.match(r"from|import", line)]
        assert folded or len(imports) < 5
    assert code[0].source.startswith(f"{notebook.TITLE}Imports\n")


def test_numbers_stand_where_something_is_compared(stored):
    """A reader is told how large a difference is, and not only that the authors were content."""
    for cell in stored.cells:
        for output in cell.get("outputs", []):
            assert not re.search(r"(:|\?) (True|False)\b", output.get("text", ""))


def test_a_question_exercises_and_solutions(stored):
    """A question at the beginning, exercises at the end; folded solutions check something."""
    assert "?" in stored.cells[1].source
    solutions = [c for c in stored.cells if c.source.startswith(f"{notebook.TITLE}Solution")]
    assert len(solutions) >= 2 and any("## Exercises" in c.source for c in stored.cells)
    for cell in solutions:
        assert cell.metadata.tags == ["hide-input"] and "assert" in cell.source


def test_each_takes_something_from_the_package_and_compares(stored):
    """What the notebook builds is also imported from the package, and asserted to agree."""
    code = "\n".join(c.source for c in stored.cells if c.cell_type == "code")
    assert re.search(r"from feedback[.\w]* import", code) and code.count("assert") >= 5


def test_json_is_stable():
    """Stored with sorted keys and one final line end, so a diff shows only real changes."""
    for name in NAMES:
        text = (ROOT / notebook.notebook_path(name)).read_text(encoding="utf-8")
        assert text.endswith("}\n") and not text.endswith("\n\n")
        assert list(json.loads(text)) == ["cells", "metadata", "nbformat", "nbformat_minor"]


PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"


@pytest.mark.parametrize(
    "output",
    [
        {"output_type": "display_data", "data": {}, "metadata": {}},
        {"output_type": "display_data", "data": {"image/png": PNG}, "metadata": {}},
        {"output_type": "display_data", "data": {"image/png": {"a": 1}}, "metadata": {}},
        {"output_type": "display_data", "data": {"text/plain": {"a": 1}}, "metadata": {}},
        {
            "output_type": "display_data",
            "data": {"image/png": "iVBOR"},
            "metadata": {"image/png": {"alt": "a", "caption": "b"}},
        },
        {
            "output_type": "display_data",
            "data": {"image/png": PNG},
            "metadata": {"image/png": {"alt": "a"}},
        },
        {
            "output_type": "display_data",
            "data": {"image/png": PNG},
            "metadata": {"image/png": "words"},
        },
        {"output_type": "error", "ename": "a", "evalue": "b", "traceback": []},
    ],
)
def test_hostile_outputs(output):
    """What the build would not store is one error, never a `KeyError`; all text is escaped."""
    with pytest.raises(ValueError, match=r"picture|output|PNG|base64"):
        outputs.render_outputs([[output]], "", "x")
    (html,), _ = outputs.render_outputs([[{"text": "<script>"}]], "", "x")
    assert "<script>" not in html[0]


def test_a_notebook_without_cells_is_not_pulled(tiny):
    """It would empty the walkthrough."""
    path = tiny.root / notebook.notebook_path("tiny")
    before = source_of(tiny).read_text()
    stored = nbformat.read(path, as_version=4)
    for cells in ([], stored.cells[:1]):
        stored.cells = cells
        nbformat.write(stored, path)
        with pytest.raises(Mistake, match="it has no cell of a walkthrough"):
            pull(tiny, "tiny", force=True)
    assert source_of(tiny).read_text() == before


@pytest.mark.parametrize(("key", "value"), [("cell_type", [[]]), ("cell_type", 1), ("source", {})])
def test_cells_of_a_later_format(tiny, key, value):
    """nbformat does not look closely at a version that it does not know; we do."""
    path = tiny.root / notebook.notebook_path("tiny")
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["nbformat_minor"] = 2**31
    stored["cells"][-1][key] = value
    path.write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(Mistake, match=r"tiny.ipynb:1: this is no notebook \(.*; restore it"):
        notebook.read(tiny, "tiny")


@pytest.mark.parametrize("record", [[], {}, {"source": 1, "cells": [], "package": {}}, "x"])
def test_a_hostile_record(tiny, record):
    """What a notebook was made from is a record of the build, or else it is damaged."""
    path = tiny.root / notebook.notebook_path("tiny")
    stored = nbformat.read(path, as_version=4)
    stored.metadata["made_from"] = record
    nbformat.write(stored, path)
    with pytest.raises(Mistake, match="its record of what it was made from is damaged"):
        notebook.read(tiny, "tiny")


@pytest.mark.parametrize(
    "part",
    [
        "<script>alert(1)</script>",
        "<SCRIPT/src=x>",
        '<rect onload="x"/>',
        '<rect x="1"/onload = x>',
        '<a href="javascript:x"><text>a</text></a>',
        '<text href="#a">a</text>',
        '<image href="https://example.com/a.png"/>',
        '<rect fill="url(https://example.com/a)"/>',
        "<!--> <g> -->",
        "<style>@import 'x'</style>",
        "<foreignObject><p>a</p></foreignObject>",
    ],
)
def test_drawings_that_could_act(part):
    """A drawing becomes part of the page, so it may have nothing but shapes and text."""
    outputs.drawing('<svg><g fill="url(#a)"><text>a one = 1</text></g></svg>')
    with pytest.raises(LookupError, match="only shapes and text"):
        outputs.drawing(f"<svg>{part}</svg>")


def test_figures_are_drawings():
    """All that this project has."""
    for path in sorted((ROOT / "docs/figures").glob("*.svg")):
        assert outputs.drawing(path.read_text(encoding="utf-8"))


def test_serve_with_a_port_that_is_taken(capsys):
    """One line, and exit code 2; the same for a port that cannot be."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    assert main(["serve", "--port", "99999"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2 and f"port {port} cannot be used" in err[0] and "99999" in err[1]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_no_address_is_put_out(path):
    """What a cell prints has no place of an object in memory, which is another one each time."""
    assert " at 0x" not in path.read_text(encoding="utf-8")
