"""
Somebody else's code as the judge: labml-nn's two Feedback Transformers, ported into ours.

The port is a differentiable function from labml's parameters to our state dict, so the gradients
that are compared are those of *labml's* parameters, all of them.

Two differences in form do not change the function:

- labml gives the values (in the unshared model only) a bias $b_v$. Attention weights sum to one, so
  it arrives whole at the output: $W_o(\\sum_j a_j (v_j + b_v)) + b_o = W_o \\sum_j a_j v_j +
  (W_o b_v + b_o)$, which is an output bias.
- labml has 4096 rows of positions, of which the last `mem_len` are ours.
"""

import pytest
import torch
from conftest import require_or_skip
from parity import ALL

from feedback import FeedbackTransformer, ModelConfig

D, L, H, F = 16, 3, 4, 24


@pytest.fixture
def labml():
    return require_or_skip("labml_nn.transformers.feedback")


def labml_model(labml, shared: bool) -> torch.nn.Module:
    """labml's model, with every parameter moved away from where it starts, no dropout."""
    from labml_nn.transformers.feed_forward import FeedForward

    layer = labml.FeedbackTransformerLayer(
        d_model=D,
        attn=labml.FeedbackAttention(H, D, 0.0, is_kv_precomputed=shared),
        feed_forward=FeedForward(D, F, 0.0),
        dropout_prob=0.0,
    )
    if shared:
        model = labml.FeedbackTransformerKV(layer, L, D, H)
    else:
        model = labml.FeedbackTransformer(layer, L)
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def port(theirs: dict[str, torch.Tensor], mem_len: int) -> dict[str, torch.Tensor]:
    """Our state dict, as a differentiable function of labml's parameters."""
    ours = {"mix.weight": theirs["weights"]}
    for p in ("weight", "bias"):
        ours[f"norm.{p}"] = theirs[f"norm.{p}"]
    if "key.linear.weight" in theirs:
        ours["kv.key.weight"] = theirs["key.linear.weight"]
        ours["kv.value.weight"] = theirs["value.linear.weight"]
    for i in range(L):
        get = lambda name, i=i: theirs[f"layers.{i}.{name}"]  # noqa: E731
        layer = {
            "attn.query.weight": get("attn.query.linear.weight"),
            "attn.output.weight": get("attn.output.weight"),
            "attn.output.bias": get("attn.output.bias"),
            "attn.query_bias": get("attn.query_pos_bias"),
            "attn.pos_key": get("attn.key_pos_embeddings")[-mem_len:],
            "attn.pos_bias": get("attn.key_pos_bias")[-mem_len:],
        }
        if "key.linear.weight" not in theirs:
            layer["kv.key.weight"] = get("attn.key.linear.weight")
            layer["kv.value.weight"] = get("attn.value.linear.weight")
            # $b_o + W_o b_v$
            layer["attn.output.bias"] = get("attn.output.bias") + (
                get("attn.output.weight") @ get("attn.value.linear.bias")
            )
        for p in ("weight", "bias"):
            layer[f"norm_attn.{p}"] = get(f"norm_self_attn.{p}")
            layer[f"norm_ff.{p}"] = get(f"norm_ff.{p}")
            layer[f"ff.up.{p}"] = get(f"feed_forward.layer1.{p}")
            layer[f"ff.down.{p}"] = get(f"feed_forward.layer2.{p}")
        ours.update({f"layers.{i}.{name}": value for name, value in layer.items()})
    return ours


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_which_of_the_two_has_which_trouble(labml, shared):
    """Only labml's shared model overwrites saved buffers and limits the length of a sequence."""
    judge = labml_model(labml, shared)
    x = torch.randn(2, 4, 2, D)

    def gradient(*forwards: int) -> torch.Tensor:
        """The gradient of the first forward pass, computed after all of `forwards`."""
        judge.zero_grad()
        first, *_ = [judge(x[i]) for i in forwards]
        first.sum().backward(retain_graph=True)
        return judge.weights.grad.clone()

    alone = gradient(0)
    assert torch.allclose(gradient(0, 1), alone) != shared
    y = judge(x[0])
    twice = [torch.autograd.grad(y.sum(), judge.weights, retain_graph=True)[0] for _ in range(2)]
    assert torch.allclose(*twice) != shared
    if shared:
        with pytest.raises(IndexError):
            judge(torch.zeros(513, 1, D))
    else:
        assert judge(torch.zeros(513, 1, D)).shape == (513, 1, D)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["f32", "f64"]
)
@pytest.mark.parametrize("T", [1, 2, 3, 33])
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("implementation", ALL)
def test_equals_labml(labml, implementation, shared, T, dtype, tolerance):
    """Outputs, and the gradients of the input and of each of labml's parameters."""
    judge = labml_model(labml, shared).to(dtype)
    theirs = dict(judge.named_parameters())
    x = torch.randn(T, 2, D, dtype=dtype, requires_grad=True)
    grad_y = torch.randn(T, 2, D, dtype=dtype)
    y = judge(x)
    expected = torch.autograd.grad(y, [x, *theirs.values()], grad_y, materialize_grads=True)

    sizes = dict(d_model=D, n_layers=L, n_heads=H, d_ff=F, mem_len=33)
    config = ModelConfig(**sizes, share_kv=shared, norm_memory=False)
    model = FeedbackTransformer(config, implementation).to(dtype)
    # Strict: every parameter of ours has one of labml's behind it.
    z, _ = torch.func.functional_call(model, port(theirs, 33), (x.transpose(0, 1),), strict=True)
    z = z.transpose(0, 1)
    actual = torch.autograd.grad(z, [x, *theirs.values()], grad_y, materialize_grads=True)

    torch.testing.assert_close(z, y, rtol=tolerance, atol=tolerance)
    for name, a, b in zip(["input", *theirs], actual, expected, strict=True):
        scale = max(1.0, b.abs().max().item())
        torch.testing.assert_close(
            a / scale, b / scale, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
