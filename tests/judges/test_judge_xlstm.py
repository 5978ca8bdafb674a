"""The cell of our sLSTM is that of its authors' package, `xlstm`."""

import pytest
import torch
from conftest import require_or_skip

from feedback import ModelConfig
from feedback.experiments.rivals import SLSTM


@pytest.fixture(scope="module")
def theirs():
    """Their functions in plain PyTorch."""
    require_or_skip("xlstm")
    return require_or_skip("xlstm.blocks.slstm.src.vanilla")


@pytest.mark.parametrize("seq_len", [1, 2, 3, 17])
def test_the_cell_is_that_of_xlstm(theirs, seq_len):
    """Outputs, and gradients of the gates and of the recurrent weights, in float64."""
    B, H, K = 3, 2, 4
    torch.manual_seed(seq_len)
    config = ModelConfig(vocab_size=5, d_model=H * K, n_layers=1, n_heads=H, d_ff=8, mem_len=1)
    layer = SLSTM(config).double()
    torch.nn.init.normal_(layer.recurrent)
    gates = torch.randn(B, seq_len, 4 * H * K, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(seq_len, B, H * K, dtype=torch.float64)
    # Ours, (H, B, K) a step, in their order.
    ours = torch.stack(layer.steps(gates)).transpose(1, 2).reshape(seq_len, B, H * K)
    (ours * weights).sum().backward()
    found = gates.grad, layer.recurrent.grad

    theirs_gates = gates.detach().view(B, seq_len, H, 4, K).permute(1, 0, 3, 2, 4)
    x = theirs_gates.reshape(seq_len, B, -1).requires_grad_()
    R = layer.recurrent.detach().mT.contiguous().requires_grad_()
    zeros = torch.zeros(4, B, H * K, dtype=torch.float64)
    states, _, _ = theirs.slstm_forward(
        x, zeros, R, zeros.new_zeros(4 * H * K), theirs.slstm_pointwise_function_registry["slstm"]
    )
    (states[0, 1:] * weights).sum().backward()
    torch.testing.assert_close(ours, states[0, 1:])
    expected = x.grad.view(seq_len, B, 4, H, K).permute(1, 0, 3, 2, 4).reshape(gates.shape)
    torch.testing.assert_close(found, (expected, R.grad.mT))
