"""Each arithmetic for the notebooks changes what its name says, and nothing else."""

import os
import re
import subprocess
import sys

import arithmetics
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from feedback.fast.compiled import missing

CELLS = {
    "threads": "import torch\nprint(torch.get_num_threads())",
    "library": "from feedback.fast import compiled\nprint(compiled.missing() is not None)",
    "compiler": "print(compiled.compiler()[-1])",
    "vectors": "print(torch.backends.cpu.get_cpu_capability() in ('DEFAULT', 'NO AVX'))",
    "loaded": "from feedback import FeedbackLM, ModelConfig\n"
    "model = FeedbackLM.from_pretrained('tiny_shakespeare')\n"
    "print(repr(model.head.weight.double().sum().item()))",
    "trained": "model = FeedbackLM(ModelConfig(d_model=8, n_heads=2))\n"
    "torch.nn.init.constant_(model.head.weight, 0.1)\n"
    "optimizer = torch.optim.SGD(model.parameters(), 1.0)\n"
    "optimizer.step()\n"
    "print(repr(model.head.weight[0].tolist()))",
    "rounded": "print(round(model.head.weight[0].norm().item(), 2))",
}
"""What a notebook prints of how it is computed."""

DIFFER = {
    "two-threads": {"threads"},
    "no-compiler": {"library", "compiler", "vectors"},
    "oldest": {"compiler"},
    "noise": {"loaded", "trained"},
}
"""The cells that print something else than on one thread of this machine."""

CASES = [([name], cells) for name, cells in DIFFER.items()]
CASES.append((["oldest", "noise"], DIFFER["oldest"] | DIFFER["noise"]))


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A notebook of these cells, with what they print on one thread of this machine."""
    if missing() is not None:
        pytest.skip(f"there is one arithmetic less here: {missing()}")
    script = "\n".join(f"{code}\nprint('---')" for code in CELLS.values())
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    cells = []
    for number, (code, text) in enumerate(
        zip(CELLS.values(), run.stdout.split("---\n"), strict=False)
    ):
        output = new_output("stream", name="stdout", text=text)
        cells.append(new_code_cell(code, outputs=[output], execution_count=number + 1))
    path = tmp_path_factory.mktemp("arithmetics") / "how.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_each_is_known():
    """No arithmetic is left out here."""
    assert tuple(DIFFER) == arithmetics.NAMES


@pytest.mark.parametrize(("names", "cells"), CASES, ids=lambda x: "-".join(sorted(x)))
def test_an_arithmetic_is_what_it_says(notebook, names, cells):
    """The cells that should differ do, the rounded one does not, and the exit code says so."""
    command = [sys.executable, arithmetics.__file__, "--together", str(notebook)]
    command += [option for name in names for option in ("--only", name)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    failed = {int(n) for n in re.findall(r"^FAILED .*::Cell (\d+)", run.stdout, re.M)}
    assert {list(CELLS)[n] for n in failed} == cells, run.stdout
    assert run.returncode == 1
    assert run.stdout.endswith(f"differ under: {' and '.join(names)}\n")
