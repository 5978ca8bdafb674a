"""The native loop: compiled where that is possible, replaced where it is not."""

import itertools

import pytest
import torch
from parity import SMALL, assert_same, needs_the_library, outputs_and_gradients, same_models

from feedback import ModelConfig
from feedback.fast import backward, compiled, native
from feedback.fast.compiled import missing
from feedback.fast.forward import EPSILON
from feedback.fast.tape import MARGIN

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
