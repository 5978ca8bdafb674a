"""
The preset `fair` is the authors' model, even after training.

Their code cannot be installed, so the judge is a transcription: their pre-norm forward pass as
equations, derived by hand and written out below, as slowly as the reference. With
$n^l = \\mathrm{LN}_1^l$, a memory that begins with `attn_lim` vectors of zeros, and one $p$ for all
heads and layers:

$$k_j = W_k^l\\, n^l(m_j), \\quad v_j = W_v^l\\, n^l(m_j), \\quad
  a_j = \\mathrm{softmax}_j\\, (q^\\top k_j + q^\\top p_{t-j}) / \\sqrt{K}, \\quad
  q = W_q^l\\, n^l(x)$$

There is no $s$, no $u$ and no bias on the output; in our model these are zeros. Their parallel
Transformer differs in what is remembered: the inputs of each layer, for that layer.

So an empty slot gives zero keys and values only until the norm has learnt; then $W \\beta$.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from parity import ALL
from torch import Tensor

from feedback import FeedbackTransformer, Memory, ModelConfig
from feedback.transformer import Transformer

D, L, H, K, FF, LIMIT = 12, 3, 2, 5, 20, 7
SIZES = {"d_model": D, "n_layers": L, "n_heads": H, "d_k": K, "d_ff": FF, "mem_len": LIMIT}


def parameters(shared: bool) -> dict[str, Tensor]:
    """Parameters like those of a trained model: none of them is zero or one."""
    shapes = {"key_pe": (K, LIMIT), "mix": (L + 1,), "out_norm.weight": (D,), "out_norm.bias": (D,)}
    for l in range(L):
        own = {"query": (H * K, D), "out": (D, H * K), "norm2.weight": (D,), "norm2.bias": (D,)}
        own |= {"fc1.weight": (FF, D), "fc1.bias": (FF,), "fc2.weight": (D, FF), "fc2.bias": (D,)}
        if not shared or l == 0:
            own |= {"key": (H * K, D), "val": (H * K, D), "norm1.weight": (D,), "norm1.bias": (D,)}
        shapes |= {f"{l}.{name}": shape for name, shape in own.items()}
    torch.manual_seed(0)
    return {
        name: (0.5 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
        for name, shape in shapes.items()
    }


def tied(p: dict[str, Tensor], l: int) -> dict[str, Tensor]:
    """The parameters of a layer; shared keys and values are those of the first layer."""
    first = {name[2:]: w for name, w in p.items() if name.startswith("0.")}
    return first | {name[2:]: w for name, w in p.items() if name.startswith(f"{l}.")}


def authors_forward(p: dict[str, Tensor], x: Tensor, feedback: bool) -> Tensor:
    """`x` is `(T, B, D)`; returns the outputs, `(T, B, D)`."""
    T, B, _ = x.shape
    memory = [[x.new_zeros(B, D)] * LIMIT for _ in range(L)]
    outputs = []
    for t in range(T):
        states = [x[t]]
        for l in range(L):
            w, h = tied(p, l), states[-1]

            def norm1(z: Tensor, w: dict[str, Tensor] = w) -> Tensor:
                return F.layer_norm(z, (D,), w["norm1.weight"], w["norm1.bias"])

            q = (norm1(h) @ w["query"].T).view(B, H, K)
            past = norm1(torch.stack(memory[l][-LIMIT:]))
            k, v = ((past @ w[name].T).view(LIMIT, B, H, K) for name in ("key", "val"))
            scores = torch.einsum("bhk,sbhk->bhs", q, k) + q @ p["key_pe"]
            attn = (scores / math.sqrt(K)).softmax(-1)
            h = h + torch.einsum("bhs,sbhk->bhk", attn, v).flatten(1) @ w["out"].T
            z = F.layer_norm(h, (D,), w["norm2.weight"], w["norm2.bias"])
            inner = (z @ w["fc1.weight"].T + w["fc1.bias"]).relu()
            states.append(h + inner @ w["fc2.weight"].T + w["fc2.bias"])
        mixed = torch.einsum("l,lbd->bd", p["mix"].softmax(0), torch.stack(states))
        for l in range(L):
            memory[l] = [*memory[l], mixed if feedback else states[l]]
        outputs.append(states[-1])
    return F.layer_norm(torch.stack(outputs), (D,), p["out_norm.weight"], p["out_norm.bias"])


def port(p: dict[str, Tensor], shared: bool, feedback: bool) -> dict[str, Tensor]:
    """Our state dict, as a differentiable function of their parameters."""
    ours = {f"norm.{end}": p[f"out_norm.{end}"] for end in ("weight", "bias")}
    if feedback:
        ours["mix.weight"] = p["mix"]
    if shared:
        ours |= {"kv.key.weight": p["0.key"], "kv.value.weight": p["0.val"]}
        ours |= {f"norm_memory.{end}": p[f"0.norm1.{end}"] for end in ("weight", "bias")}
    for l in range(L):
        w = tied(p, l)
        layer = {
            "attn.query.weight": w["query"],
            "attn.output.weight": w["out"],
            "attn.output.bias": w["out"].new_zeros(D),
            "attn.query_bias": w["out"].new_zeros(H, K),
            # $p_d$, the same for all heads
            "attn.pos_key": p["key_pe"].T.unsqueeze(1).expand(LIMIT, H, K),
            "attn.pos_bias": w["out"].new_zeros(LIMIT, H),
        }
        if not shared:
            layer |= {"kv.key.weight": w["key"], "kv.value.weight": w["val"]}
        for end in ("weight", "bias"):
            layer |= {f"norm_attn.{end}": w[f"norm1.{end}"], f"norm_ff.{end}": w[f"norm2.{end}"]}
            layer |= {f"ff.up.{end}": w[f"fc1.{end}"], f"ff.down.{end}": w[f"fc2.{end}"]}
        ours |= {f"layers.{l}.{name}": value for name, value in layer.items()}
    return ours


def assert_equal_with_gradients(model: torch.nn.Module, shared: bool, T: int, feedback: bool):
    """Outputs, and the gradients of the input and of each of the authors' parameters."""
    p = parameters(shared)
    wanted = {n: w for n, w in p.items() if feedback or n != "mix"}
    x = torch.randn(T, 2, D, dtype=torch.float64, requires_grad=True)
    grad_y = torch.randn(T, 2, D, dtype=torch.float64)
    y = authors_forward(p, x, feedback)
    expected = torch.autograd.grad(y, [x, *wanted.values()], grad_y, materialize_grads=True)
    ours = port(p, shared, feedback)
    z, _ = torch.func.functional_call(model, ours, (x.transpose(0, 1),), strict=True)
    z = z.transpose(0, 1)
    actual = torch.autograd.grad(z, [x, *wanted.values()], grad_y, materialize_grads=True)
    torch.testing.assert_close(z, y, rtol=0, atol=1e-12)
    for name, a, b in zip(["input", *wanted], actual, expected, strict=True):
        scale = max(1.0, b.abs().max().item())
        torch.testing.assert_close(
            a / scale, b / scale, rtol=0, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("T", [1, 2, 3, 33])
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("implementation", ALL)
def test_fair_equals_the_authors_forward(implementation, shared, T):
    """`ModelConfig.fair()`, keys and values shared or not, starting from the empty memory."""
    config = ModelConfig.fair(**SIZES, share_kv=shared)
    model = FeedbackTransformer(config, implementation).double()
    assert_equal_with_gradients(model, shared, T, feedback=True)


@pytest.mark.parametrize("T", [1, 2, 3, 33])
def test_fair_equals_the_authors_parallel_forward(T):
    """Their Transformer is ours with the same preset."""
    model = Transformer(ModelConfig.fair(**SIZES)).double()
    assert_equal_with_gradients(model, False, T, feedback=False)


@pytest.mark.parametrize("feedback", [True, False], ids=["feedback", "parallel"])
def test_an_empty_slot_holds_what_the_norm_makes_of_zero(feedback):
    r"""$k = W_k \beta$ and $v = W_v \beta$: zero at the start, and not once $\beta$ has learnt."""
    config = ModelConfig.fair(**SIZES, share_kv=False)
    model = (FeedbackTransformer if feedback else Transformer)(config)
    layers = () if feedback else (L,)
    memory = Memory(torch.zeros(2, *layers, 0, D), config)
    for learnt in (False, True):
        for (k, v), layer in zip(model.remembered(memory), model.layers, strict=True):
            beta = layer.norm_attn.bias
            for rows, matrix in ((k, layer.kv.key.weight), (v, layer.kv.value.weight)):
                assert (rows.abs().max() > 0) == learnt
                expected = (matrix @ beta).view(1, H, 1, K).expand(2, H, LIMIT, K)
                torch.testing.assert_close(rows, expected)
        for layer in model.layers:
            torch.nn.init.normal_(layer.norm_attn.bias)
