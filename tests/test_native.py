"""The native loop: compiled where it can be, done without where it cannot."""

import shutil
import subprocess

import pytest
import torch
from parity import SMALL

from feedback import FeedbackLM, ModelConfig
from feedback.fast import native


@pytest.fixture
def fresh():
    """The library is looked for anew, in the test and after it."""
    native.library.cache_clear()
    yield
    native.library.cache_clear()


def test_used_where_there_is_a_compiler(monkeypatch):
    """With a C++ compiler on the path, both sweeps of a training step are native."""
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler, so the loop in PyTorch is used")
    called, call = [], native.call
    monkeypatch.setattr(native, "call", lambda sweep, *a: called.append(sweep) or call(sweep, *a))
    logits, _ = FeedbackLM(ModelConfig(**SMALL))(torch.zeros(2, 5, dtype=torch.long))
    logits.sum().backward()
    assert called == ["forward", "backward"]


def test_switched_off(monkeypatch, fresh):
    """`FEEDBACK_NATIVE=0` asks for the loop in PyTorch."""
    monkeypatch.setenv("FEEDBACK_NATIVE", "0")
    assert native.library() is None


@pytest.mark.parametrize("compiler", ["/no/such/compiler", "false"])
def test_a_broken_compiler_is_no_error(monkeypatch, fresh, tmp_path, compiler):
    """Where nothing can be compiled, the model runs all the same, and no file is left behind."""
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("FEEDBACK_CACHE", str(tmp_path))
    logits, _ = FeedbackLM(ModelConfig(**SMALL))(torch.zeros(2, 5, dtype=torch.long))
    logits.sum().backward()
    assert native.library() is None
    assert list(tmp_path.iterdir()) == []


def test_compiled_once(monkeypatch, fresh, tmp_path):
    """The second process finds the library in the cache."""
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler, so the loop in PyTorch is used")
    monkeypatch.setenv("FEEDBACK_CACHE", str(tmp_path))
    commands, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda c, **k: commands.append(c) or run(c, **k))
    for _ in range(2):
        native.library.cache_clear()
        assert native.library() is not None
    assert len(commands) == 1
    assert [p.suffix for p in tmp_path.iterdir()] == [".so"]


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("shape", [(5, 8), (33, 16), (7, 50)])
def test_panels(shape, transpose):
    """A packed matrix holds panels of columns one after the other, the last filled with zeros."""
    if native.library() is None:
        pytest.skip("there is no C++ compiler, so the loop in PyTorch is used")
    matrices = torch.randn(3, *shape)
    for matrix, packed in zip(matrices, native.pack(matrices, transpose), strict=True):
        matrix = matrix.T if transpose else matrix
        panels = packed.view(-1, len(matrix), native.library().panel_float())
        back = panels.transpose(0, 1).flatten(1)
        assert torch.equal(back[:, : matrix.shape[1]], matrix)
        assert (back[:, matrix.shape[1] :] == 0).all()
