r"""
---
title: Execution
summary: Notebooks run from top to bottom, and stored the same way each time.
---

# Execution

A notebook runs in a fresh kernel. Its outputs are stored without anything that differs from one
execution to the next: no execution times, no versions, no thread counts. What remains is what the
cells printed and drew. The exception is a cell that measures time: its first line says so, and its
measurements are kept until the notebook or the package changes.

If a notebook cannot be run, the stored one stays as it was.
"""

import re
import time

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from traitlets.config import Config

from . import notebook
from .mistake import Mistake
from .notebook import WORDS, Edited, Notebook, measures, notebook_path, source_path
from .settings import Settings

LIMIT_SECONDS = 300
"""The limit for one cell."""

QUIET = Config({"KernelManager": {"transport_encryption": "auto"}})
"""Without this, each kernel warns that its connection, within this machine, is not encrypted."""


def run_cells(settings: Settings, name: str, made: Notebook, limit: float) -> None:
    """Runs all cells, in place. Raises `Mistake` for a cell that raises or takes too long."""
    client = NotebookClient(
        made, timeout=limit, kernel_name="python3", record_timing=False, coalesce_streams=True,
        config=QUIET,
        resources={"metadata": {"path": str(settings.root / "notebooks")}},
    )  # fmt: skip
    client.reset_execution_trackers()
    with client.setup_kernel():
        for i, cell in enumerate(made.cells):
            what, remedy = "", "correct it in the walkthrough"
            try:
                client.execute_cell(cell, i)
            except CellTimeoutError:
                what, remedy = f"runs past its limit of {limit:g} s", "make it do less"
            except CellExecutionError as error:
                said = error.evalue.strip().split("\n")[0] or failing_line(error.traceback)
                what = f"raises {error.ename}: {said}"
            except DeadKernelError:
                what = "kills its kernel"
            if what:
                first = cell.source.split("\n")[0]
                raise Mistake(source_path(name), line_of(settings, name, i),
                              f"cell {i + 1} ({first}) {what}", remedy)  # fmt: skip


def failing_line(traceback: str) -> str:
    """The line of the cell that raised an error without a message."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", traceback)
    return (re.findall(r"^-+> \d+ (.*)", plain, re.M) or ["no words"])[0].strip()


def line_of(settings: Settings, name: str, i: int) -> int:
    """The line of the walkthrough at which a cell of the notebook begins."""
    return notebook.convert(settings, name, notebook.read_source(settings, name))[i].line or 1


def tidy(output: Notebook, words: dict[str, str]) -> tuple[str, str] | None:
    """Reduces an output to what is stored; otherwise says what is wrong with it, and what to do."""
    if output.output_type == "stream":
        if output.name == "stdout":
            return None
        return f"warns: {output.text.strip()}", "repair what it warns of"
    data, metadata, output.metadata = output.data, output.metadata, {}
    more = data.keys() - {"text/plain", "image/png"}
    if more or not data:
        return f"puts out {', '.join(sorted(more)) or 'nothing'}", "print it, or draw it"
    if "image/png" in data:
        missing = " and ".join(f"# {kind}: ..." for kind in WORDS if kind not in words)
        if missing:
            return "draws a picture without words", f"add a comment that says them: {missing}"
        data["image/png"] = data["image/png"].strip()
        # The size at which a notebook shows the picture, if that is not the number of its pixels.
        sizes = metadata.get("image/png", {})
        output.metadata = {"image/png": {**sizes, **words}}
    return None


def normalise(settings: Settings, name: str, made: Notebook) -> None:
    """
    Reduces each output to what is stored, and gives each picture its words. Raises `Mistake` for an
    output that cannot be shown, and for a picture without an alternative text or a caption.
    """
    for i, cell in enumerate(made.cells):
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            found = {kind: words.search(cell.source) for kind, words in WORDS.items()}
            words = {
                kind: " ".join(match[1].replace("\n# ", " ").split())
                for kind, match in found.items() if match
            }  # fmt: skip
            wrongs = [tidy(output, words) for output in cell.outputs]
            pictures = sum("image/png" in output.get("data", {}) for output in cell.outputs)
            if pictures > 1:
                wrongs.append(
                    (f"draws {pictures} pictures", "draw one a cell, each with its words")
                )
            for what, remedy in filter(None, wrongs):
                line = line_of(settings, name, i)
                raise Mistake(source_path(name), line, f"cell {i + 1} {what}", remedy)


def execute(settings: Settings, name: str, limit: float = LIMIT_SECONDS) -> float:
    """Runs a notebook and stores it; returns how many seconds it took. Raises `Mistake`."""
    begun = time.perf_counter()
    stored = notebook.read(settings, name)
    made = notebook.new(settings, name, notebook.read_source(settings, name))
    run_cells(settings, name, made, limit)
    normalise(settings, name, made)
    if stored and not notebook.problem(settings, name, stored, made):
        for old, cell in zip(stored.cells, made.cells, strict=True):
            if measures(cell.source):
                cell.outputs = old.outputs
    made.metadata.made_from["stored"] = notebook.all_of(made)
    notebook.replace(settings.root / notebook_path(name), nbformat.writes(made) + "\n")
    return time.perf_counter() - begun


def stale(settings: Settings) -> list[tuple[str, Mistake]]:
    """The notebooks that are out of step, and why. Raises `Mistake` for an error in a source."""
    found: list[tuple[str, Mistake]] = []
    for name in settings.notebooks:
        wanted = notebook.new(settings, name, notebook.read_source(settings, name))
        why = notebook.problem(settings, name, notebook.read(settings, name), wanted)
        if why is not None:
            found.append((name, why))
    for path in sorted((settings.root / "notebooks").glob("*.ipynb")):
        if path.stem not in settings.notebooks:
            file, remedy = notebook_path(path.stem), "remove it or write one"
            found.append((path.stem, Edited(file, 1, "it has no walkthrough", remedy)))
    return found


def update(settings: Settings, again: set[str]) -> None:
    """
    Runs all notebooks that are stale, and those named in `again`. Raises `Mistake` rather than
    overwrite one that was edited by hand.
    """
    reasons = dict(stale(settings))
    for why in reasons.values():
        if isinstance(why, Edited):
            raise why
    for name in settings.notebooks:
        if name in reasons or name in again:
            print(f"{notebook_path(name)}: {execute(settings, name):.0f} s", flush=True)
