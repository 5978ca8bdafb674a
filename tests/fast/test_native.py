"""The native loop: compiled where that is possible, replaced where it is not."""

import subprocess

import pytest
import torch
from parity import SMALL, needs_the_library

from feedback import FeedbackLM, ModelConfig
from feedback.fast import compiled, native
from feedback.fast.forward import EPSILON
from feedback.fast.tape import MARGIN


def step(implementation: str) -> None:
    """Forward and backward."""
    logits, _ = FeedbackLM(ModelConfig(**SMALL), implementation)(
        torch.zeros(2, 5, dtype=torch.long)
    )
    logits.sum().backward()


@pytest.mark.parametrize(
    ("compiler", "words"),
    [
        ("/no/such/compiler", r"the C\+\+ loop could not be built or loaded: .*No such file"),
        ("false", "false could not compile the C\\+\\+ loop: exit code 1"),
        ("c++ -no-such-option", r"c\+\+ could not compile .*no-such-option"),
        (" ", None),
    ],
)
def test_a_broken_compiler_is_no_error(monkeypatch, tmp_path, compiler, words):
    """Where nothing can be compiled, "auto" still runs, "native" says why, and no file is left."""
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("FEEDBACK_CACHE", str(tmp_path))
    if words is None:
        monkeypatch.setenv("PATH", "")
        words = "there is no C\\+\\+ compiler here; install one, or name it in"
    step("auto")
    with pytest.raises(ValueError, match=f"'native' cannot run here: {words}"):
        step("native")
    assert list(tmp_path.iterdir()) == []


@needs_the_library
def test_compiled_once(monkeypatch, tmp_path):
    """The second process finds the library in the cache."""
    monkeypatch.setenv("FEEDBACK_CACHE", str(tmp_path))
    commands, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda c, **k: commands.append(c) or run(c, **k))
    for _ in range(2):
        found, _ = compiled.load.__wrapped__(compiled.compiler(), tmp_path)
        assert found is not None
    assert len(commands) == 1
    assert [p.suffix for p in tmp_path.iterdir()] == [".so"]


@needs_the_library
def test_several_words_and_options(monkeypatch, tmp_path):
    """`$CXX` may begin with a wrapper, and its options come last, so that they win."""
    monkeypatch.setenv("CXX", "env c++ -march=x86-64 -DMARGIN=32")
    command = compiled.compiler()
    assert command[:2] == ("env", "c++") and command[-2:] == ("-march=x86-64", "-DMARGIN=32")
    assert command.index("-march=native") < command.index("-march=x86-64")
    monkeypatch.setenv("CXX", "env c++")
    found, why = compiled.load(compiled.compiler(), tmp_path)
    assert found is not None and why is None


@needs_the_library
def test_what_python_and_c_share():
    """Constants come from Python, the struct from C++: every name used is one of its fields."""
    assert f"-DMARGIN={MARGIN}" in compiled.FLAGS and f"-DEPSILON={EPSILON}" in compiled.FLAGS
    names = compiled.library().names
    assert {*native.Tape._fields, *native.Weights._fields, *native.Sizes._fields} <= names
    with pytest.raises(AssertionError, match="the library knows no witdh"):
        compiled.library().arguments(witdh=3)


@needs_the_library
def test_another_layout_is_refused(monkeypatch, tmp_path):
    """A library whose struct has another size than the fields it names is not used."""
    source = tmp_path / "native.cpp"
    text = compiled.SOURCE.read_text().replace("sizeof(Arguments<float>)", "8")
    source.write_text(text.replace("cpp/", f"{compiled.SOURCE.parent}/cpp/"))
    monkeypatch.setattr(compiled, "SOURCE", source)
    found, why = compiled.load(compiled.compiler(), tmp_path)
    assert found is None and "lays out its arguments in another way" in why


@needs_the_library
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("shape", [(5, 8), (33, 16), (7, 50)])
def test_panels(shape, transpose):
    """A packed matrix holds panels of columns one after the other, the last filled with zeros."""
    matrices = torch.randn(3, *shape)
    for matrix, packed in zip(matrices, native.pack(matrices, transpose), strict=True):
        matrix = matrix.T if transpose else matrix
        panels = packed.view(-1, len(matrix), compiled.library().call("panel", "float"))
        back = panels.transpose(0, 1).flatten(1)
        assert torch.equal(back[:, : matrix.shape[1]], matrix)
        assert (back[:, matrix.shape[1] :] == 0).all()
