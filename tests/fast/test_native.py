"""The native loop: compiled where that is possible, replaced where it is not."""

import itertools
import subprocess

import pytest
import torch
from parity import SMALL, assert_same, needs_the_library, outputs_and_gradients, same_models

from feedback import FeedbackLM, ModelConfig
from feedback.fast import backward, compiled, native
from feedback.fast.compiled import missing
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
    seen = commands(monkeypatch)
    for _ in range(2):
        found, _ = compiled.load.__wrapped__(compiled.compiler(), tmp_path)
        assert found is not None
    assert len(seen) == 1
    assert [p.suffix for p in tmp_path.iterdir()] == [".so"]


def commands(monkeypatch) -> list[list[str]]:
    """The list to which every command that is run from now on is added."""
    seen, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda c, **k: seen.append(c) or run(c, **k))
    return seen


@needs_the_library
def test_several_words_and_options(monkeypatch, tmp_path):
    """`$CXX` may begin with a wrapper, and its options come last, so that they win."""
    monkeypatch.setenv("CXX", "env c++ -march=x86-64 -DMARGIN=16")
    seen = commands(monkeypatch)
    found, why = compiled.load(compiled.compiler(), tmp_path)
    assert found is not None and why is None
    assert seen[0][:2] == ["env", "c++"]
    assert seen[0].index("-march=native") < seen[0].index("-march=x86-64") < len(seen[0]) - 3


@needs_the_library
@pytest.mark.parametrize("refused", [1, 2, 3])
def test_flags_that_the_compiler_accepts(monkeypatch, tmp_path, refused):
    """Flags that this compiler refuses are left out, one choice after the other."""
    wrong = [("-no-such-flag",)] * refused
    monkeypatch.setattr(compiled, "CHOICES", (*wrong, *compiled.CHOICES[:1]))
    seen = commands(monkeypatch)
    found, _ = compiled.load.__wrapped__(compiled.compiler(), tmp_path)
    assert found is not None and len(seen) == refused + 1


LEVELS = {"x86-64-v2": {"sse4_2"}, "x86-64-v3": {"avx2", "fma"}, "x86-64-v4": {"avx512f"}}


@needs_the_library
@pytest.mark.parametrize("level", LEVELS)
def test_parity_under_other_instructions(monkeypatch, level):
    """Vectors of 16, 32 and 64 bytes: outputs and gradients are the reference's."""
    if not set(compiled.processor("flags").split()) >= LEVELS[level]:
        pytest.skip(f"this processor has no {level}")
    monkeypatch.setenv("CXX", f"c++ -march={level}")
    grid = itertools.product([1, 2, 33], [False, True], ["relu", "gelu", "swiglu"], [0.0, 0.3])
    for T, share_kv, activation, dropout in grid:
        config = ModelConfig(
            **SMALL, share_kv=share_kv, norm_memory=share_kv, activation=activation, dropout=dropout
        )
        segments = [torch.arange(7 * T).view(7, T) % 11, torch.arange(14).view(7, 2) % 11]
        expected, actual = (
            outputs_and_gradients(model, segments)
            for model in same_models(config, "reference", "native")
        )
        assert_same(actual, expected)


@pytest.mark.parametrize("add_product", [backward.add_product, native.add_product, None])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 33), (100, 70, 64), (256, 29, 100)])
def test_the_product_of_a_weight_gradient(monkeypatch, add_product, kind, shape):
    """In PyTorch, as it is chosen here, and (`None`) in C++: $G^\\top X$ is added to the sum."""
    if add_product is not backward.add_product and missing():
        pytest.skip(f"the C++ loop cannot be had here: {missing()}")
    if add_product is None:
        monkeypatch.setattr(compiled.library().functions, "faster_products", lambda: 1)
        add_product = native.add_product
    depth, rows, columns = shape
    grad, x = torch.randn(depth, rows, dtype=kind), torch.randn(depth, columns, dtype=kind)
    total = torch.ones(rows, columns, dtype=kind)
    add_product(total, grad, x)
    exact = 1 + grad.double().T @ x.double()
    atol = 1e-12 if kind == torch.float64 else 1e-4
    torch.testing.assert_close(total.double(), exact, rtol=0, atol=atol)


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
    assert found is None and "lays out its arguments differently" in why


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
