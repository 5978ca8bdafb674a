# # Training fast and exactly
#
# A step of the recurrence waits for the step before it, layer after layer, and no cleverness will
# change that. So the Feedback Transformer has a reputation for being slow: labml's
# [page](https://nn.labml.ai/transformers/feedback/index.html) says that its training is 5 to 10
# times slower. How much of that is the waiting, and how much is the way it was computed?
#
# We take the recurrence apart, find the part that waits for nothing, write the backward pass by
# hand and compare every gradient. At the end comes a race against parallel Transformers.

# @title Imports
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from feedback import FeedbackLM, FeedbackTransformer, ModelConfig, TransformerLM
from feedback.benchmark.contestants import FusedTransformer
from feedback.fast.compiled import missing
from feedback.model import IMPLEMENTATIONS
from feedback.support.figures import use_style

use_style()
torch.manual_seed(0)
torch.set_printoptions(precision=3, sci_mode=False)
torch.set_num_threads(1)

# ## Where this leads
#
# The end comes first. The project's [benchmark](../../docs/runs/README.md) times one training step
# of a small language model on two cores. Each bar says how many times as long the step takes as
# that of a parallel Transformer with PyTorch's fused attention. The four from `reference` to
# `native` are one model, with the same outputs and gradients: this notebook goes down these stairs.

# @title Drawing code
recorded = {
    "labml": 11.42,
    "labml, shared keys and values": 6.69,
    "reference": 4.67,
    "append": 3.51,
    "sequence": 2.43,
    "native": 0.80,
    "parallel, fused": 1.00,
}
fig, ax = plt.subplots(figsize=(5, 2.6), layout="constrained")
colours = ["C2" if "labml" in name else "C1" if "parallel" in name else "C0" for name in recorded]
bars = ax.barh(list(recorded), list(recorded.values()), color=colours)
ax.bar_label(bars, fmt="%.2f", padding=3)
ax.invert_yaxis()
ax.margins(x=0.1)
ax.spines[["top", "right"]].set_visible(False)
ax.set_xlabel("step, over that of the fused Transformer (ratio)")
*steps, fused = recorded.values()
assert steps == sorted(steps, reverse=True) and steps[-1] < fused
# caption: The recorded benchmark at its first size. Brown: this package; grey: labml; blue: without
# feedback.
# alt: A staircase of bars, each shorter than the one above it: labml's two models, then reference,
# append, sequence and native. Only native is shorter than the last bar, the fused Transformer.
plt.show()

# ## What waits, and what does not
#
# Take one matrix, used at each of $T$ steps: $y_t = W x_t$. In the backward pass autograd has
# $g_t$, the gradient of $y_t$, and computes two things from it:
#
# $$\frac{\partial\mathcal{L}}{\partial x_t} = W^\top g_t, \qquad
#   \frac{\partial\mathcal{L}}{\partial W} = \sum_t g_t\, x_t^\top$$
#
# The first is needed at once: $x_t$ came from an earlier step, whose backward pass waits for it.
# Nothing waits for the second. But autograd computes that at each step too, an outer product as
# large as the matrix, and adds it to the sum.
#
# A sum of outer products has another name. With the $g_t$ as the rows of $G$ and the $x_t$ as those
# of $X$, it is the matrix product $G^\top X$.

T, B, D = 64, 16, 128
W = torch.randn(D, D, dtype=torch.float64, requires_grad=True)
X, G = torch.randn(2, T, B, D, dtype=torch.float64)
y = torch.stack([x @ W.T for x in X])
(by_steps,) = torch.autograd.grad(y, W, G)
at_once = G.flatten(0, 1).T @ X.flatten(0, 1)
assert torch.allclose(at_once, by_steps, rtol=0, atol=1e-10)
print("64 outer products and sums, or one product:", tuple(at_once.shape), "and the same")

# The product needs the same multiplications and additions. Is it any faster? We let the contestants
# take turns, so that whatever else the machine is doing affects them all alike, and give each one
# thread, so that none has to wait for a second core that is busy elsewhere.

def race(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of each contestant, after one warm-up turn."""
    seconds = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, run in contestants.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def show(medians: dict[str, float]) -> None:
    """Prints the medians in milliseconds."""
    for name, s in medians.items():
        print(f"{name:32} {s * 1e3:8.2f} ms")

# Each step has $B = 16$ rows for a matrix of 128 by 128; all steps together have 1024.

# NBVAL_IGNORE_OUTPUT
x32, g32 = X.float(), G.float()
total = torch.zeros(D, D)


def step_by_step() -> None:
    """One product a step, added up."""
    for g, x in zip(g32, x32, strict=True):
        total.add_(g.T @ x)


products = race(
    {"64 products": step_by_step, "1 product": lambda: g32.flatten(0, 1).T @ x32.flatten(0, 1)},
    rounds=50,
)
show(products)
assert products["1 product"] < products["64 products"]

# That is the whole idea, and it has three parts: **sweep forward** and record what will be needed,
# **sweep backward** for the gradients of activations only, and then **all weight gradients at
# once**, one large product for each matrix. Nothing is left out; only the order of the sum changes.
# The middle part is the one that autograd will not do for us: we have to know the gradient of every
# operation. In the small model below, only attention takes more than a line of school algebra.
#
# ## Attention, backwards
#
# Take one query and $S$ slots:
#
# $$s_j = q^\top k_j, \qquad a = \mathrm{softmax}(s), \qquad o = \sum_j a_j v_j$$
#
# We are given $\delta o = \partial\mathcal{L}/\partial o$. The last sum is linear in the attention
# weights and in the values, so $\delta v_j = a_j\, \delta o$ and $\delta a_j = \delta o^\top v_j$.
# Next comes the softmax. With $a_i = e^{s_i} / \sum_n e^{s_n}$ the quotient rule says
#
# $$\frac{\partial a_i}{\partial s_j} = a_i\,(\delta_{ij} - a_j)$$
#
# where $\delta_{ij}$, unlike the other deltas here, is Kronecker's: one if $i = j$ and zero
# otherwise. Multiply by $\delta a_i$ and sum over $i$:
#
# $$\delta s_j = \sum_i \delta a_i\, a_i\,(\delta_{ij} - a_j)
#   = a_j \Big( \delta a_j - \sum_i a_i\, \delta a_i \Big)$$
#
# A score should grow if its slot helps more than the attention-weighted mean. And $s_j$ is a
# product, so $\delta q = \sum_j \delta s_j\, k_j$ and $\;\delta k_j = \delta s_j\, q$. Five lines.

S, K = 5, 4
q, k, v, do = (torch.randn(*n, dtype=torch.float64) for n in [(K,), (S, K), (S, K), (K,)])
q, k, v = (leaf.requires_grad_() for leaf in (q, k, v))
a = (k @ q).softmax(0)
o = a @ v

dv = torch.outer(a, do)
da = v @ do
ds = a * (da - (a * da).sum())
dq = ds @ k
dk = torch.outer(ds, q)

for ours, theirs in zip((dq, dk, dv), torch.autograd.grad(o, (q, k, v), do), strict=True):
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
print("ds", *(f"{x:.3f}" for x in ds), " sum", abs(round(ds.sum().item(), 9)))

# The $\delta s_j$ add up to zero: the same number added to all scores changes no weight.
#
# ## A small model
#
# For our own function we take the Feedback Transformer without everything that would only make the
# code longer: one head, ReLU, no norms, and the positions fixed at zero. It is the package's own
# model with these parts taken out, so that it can be compared with the package's own
# reference. These are the equations that remain, for a step $t$ and all layers $l$, each with its
# backward counterpart. Read the backward column from the bottom to the top:
#
# | forward | backward |
# |---|---|
# | $q = W_q\, x^{l-1} / \sqrt{K}$ | $\delta x^{l-1} = \delta y + W_q^\top \delta q / \sqrt{K}$ |
# | $a = \mathrm{softmax}_j(q^\top k_j), \; o = \sum_j a_j v_j$ | as above |
# | $y = x^{l-1} + W_o\, o + b_o$ | $\delta o = W_o^\top \delta y$ |
# | $h = \phi(W_1 y + b_1)$ | $\delta y = \delta x^l + W_1^\top (\delta h \odot \phi')$ |
# | $x^l = y + W_2 h + b_2$ | $\delta h = W_2^\top \delta x^l$ |
# | $m_t = \sum_l \alpha_l\, x^l$ | each $\delta x^l$ gets $\alpha_l\,\delta m_t$ more |
# | $k_t = W_k m_t, \; v_t = W_v m_t$ | $\delta m_t = W_k^\top \delta k_t + W_v^\top \delta v_t$ |
#
# $\phi$ is the ReLU, and its derivative $\phi'$ is one where the unit is above zero and zero
# elsewhere.

def small_model(D: int, L: int, F: int, T: int) -> FeedbackTransformer:
    """A stack with one head, and without norms and positions."""
    config = ModelConfig(2, D, L, n_heads=1, d_ff=F, mem_len=T, norm_memory=False)
    stack = FeedbackTransformer(config)
    for layer in stack.layers:
        layer.norm_attn = layer.norm_ff = nn.Identity()
        for positions in (layer.attn.query_bias, layer.attn.pos_key, layer.attn.pos_bias):
            positions.requires_grad_(False)
    stack.norm = nn.Identity()
    return stack


def weights_of(stack: FeedbackTransformer) -> list[Tensor]:
    """The mix, the projections of the memory, and seven tensors of each layer."""
    weights = [stack.mix.weight.softmax(0), stack.kv.key.weight, stack.kv.value.weight]
    for layer in stack.layers:
        output, up, down = layer.attn.output, layer.ff.up, layer.ff.down
        weights += [layer.attn.query.weight, output.weight, output.bias]
        weights += [up.weight, up.bias, down.weight, down.bias]
    return weights

# ## Sweep forward
#
# Here is the recurrence, written into buffers that were allocated beforehand. In all but keys and
# values time comes first, so that all steps of a layer are one matrix. Autograd records none of it.

def sweep_forward(x0: Tensor, alpha: Tensor, wk: Tensor, wv: Tensor, *flat: Tensor) -> list[Tensor]:
    """`x0` is `(T, B, D)`. Returns the tape: all that the backward sweep reads."""
    (T, B, D), K, F, L = x0.shape, len(wk), len(flat[3]), len(flat) // 7
    new, layers = x0.new_zeros, [flat[7 * l : 7 * l + 7] for l in range(L)]
    x, m, k, v = new(L + 1, T, B, D), new(T, B, D), new(B, T, K), new(B, T, K)
    q, attn, o = new(L, T, B, K), new(L, T, B, T), new(L, T, B, K)
    y, h = new(L, T, B, D), new(L, T, B, F)
    x[0] = x0
    for t in range(T):
        for l, (wq, wo, bo, w1, b1, w2, b2) in enumerate(layers):
            y[l, t] = x[l, t]
            if t > 0:
                q[l, t] = x[l, t] @ wq.T / math.sqrt(K)
                a = (k[:, :t] @ q[l, t, :, :, None]).squeeze(-1).softmax(-1)
                attn[l, t, :, :t] = a
                o[l, t] = (a[:, None] @ v[:, :t]).squeeze(1)
                y[l, t] += torch.addmm(bo, o[l, t], wo.T)
            h[l, t] = torch.addmm(b1, y[l, t], w1.T).relu()
            x[l + 1, t] = y[l, t] + torch.addmm(b2, h[l, t], w2.T)
        m[t] = torch.einsum("l,lbd->bd", alpha, x[:, t])
        k[:, t], v[:, t] = m[t] @ wk.T, m[t] @ wv.T
    return [x, m, k, v, q, attn, o, y, h]

# ## Sweep backward, and then the weights
#
# These are the same lines from the last to the first. Look for a gradient of a weight in the loop
# over $t$: there is none. The loop writes each $\delta$ to a row of a buffer, and these buffers are
# the $G$ of the products at the end. One thing is reversed: in the forward sweep every later step
# reads the $k$ and $v$ of a slot, and here every later step adds to its `dk` and `dv`. They are
# complete when the sweep arrives at the slot.

def sweep_backward(tape: tuple, weights: tuple, dout: Tensor, dm_out: Tensor) -> list[Tensor]:
    """The gradients of `x0` and of all weights."""
    (x, m, k, v, q, attn, o, y, h), (alpha, wk, wv, *flat) = tape, weights
    T, L, K = len(m), len(y), len(wk)
    layers = [flat[7 * l : 7 * l + 7] for l in range(L)]
    dk, dv, dx, dm = map(torch.zeros_like, (k, v, x, m))
    dq, dy, dpre = map(torch.zeros_like, (q, y, h))
    for t in reversed(range(T)):
        dm[t] = dm_out[t] + dk[:, t] @ wk + dv[:, t] @ wv
        dx[L, t] = dout[t] + alpha[L] * dm[t]
        for l in reversed(range(L)):
            wq, wo, _, w1, _, w2, _ = layers[l]
            dpre[l, t] = (dx[l + 1, t] @ w2) * (h[l, t] > 0)
            g = dx[l + 1, t] + dpre[l, t] @ w1
            if t > 0:
                dy[l, t], a = g, attn[l, t, :, :t]
                do = g @ wo
                da = (v[:, :t] @ do[:, :, None]).squeeze(-1)
                ds = a * (da - (a * da).sum(-1, keepdim=True))
                dq[l, t] = (ds[:, None] @ k[:, :t]).squeeze(1) / math.sqrt(K)
                dk[:, :t] += ds[:, :, None] * q[l, t, :, None]
                dv[:, :t] += a[:, :, None] * do[:, None]
                g = g + dq[l, t] @ wq
            dx[l, t] = g + alpha[l] * dm[t]
    # All weight gradients at once.
    k_rows, v_rows = dk.transpose(0, 1), dv.transpose(0, 1)
    grads = [dx[0], torch.einsum("ltbd,tbd->l", x, dm), product(k_rows, m), product(v_rows, m)]
    for l in range(L):
        grads += [product(dq[l], x[l]), product(dy[l], o[l]), dy[l].sum((0, 1))]
        grads += [product(dpre[l], y[l]), dpre[l].sum((0, 1))]
        grads += [product(dx[l + 1], h[l]), dx[l + 1].sum((0, 1))]
    return grads

# Each of these products is over the rows of all steps:

def product(grad: Tensor, rows: Tensor) -> Tensor:
    r"""$G^\top X$ over the rows of all steps."""
    return grad.flatten(0, 1).T @ rows.flatten(0, 1)

# ## One function
#
# Autograd sees a single operation. From the loss back to here it works as usual, and so it does
# from here back to the embeddings.

class WholeSequence(torch.autograd.Function):
    """Two sweeps and a set of products."""

    @staticmethod
    def forward(ctx: Any, x0: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs and the memory vectors, both `(T, B, D)`."""
        tape = sweep_forward(x0, *weights)
        ctx.save_for_backward(*tape, *weights)
        return tape[0][-1].clone(), tape[1].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dout: Tensor, dm: Tensor) -> tuple[Tensor, ...]:
        """The gradients of `x0` and of all weights."""
        saved = ctx.saved_tensors
        return tuple(sweep_backward(saved[:9], saved[9:], dout, dm))


def package(stack: FeedbackTransformer, implementation: str) -> Callable:
    """A loop of the package, called like our function."""
    loop = IMPLEMENTATIONS[implementation]
    return lambda x: loop(stack, x, x.new_empty(0, *x.shape[1:]), None)


def three(stack: FeedbackTransformer) -> dict[str, Callable]:
    """Three ways to compute one model."""
    return {
        "reference": package(stack, "reference"),
        "append": package(stack, "append"),
        "our own": lambda x: WholeSequence.apply(x, *weights_of(stack)),
    }

# Is it right? We compare outputs, memory vectors, and the gradients of every parameter and of the
# embeddings.

stack = small_model(D=16, L=3, F=24, T=9).double()
with torch.no_grad():
    for p in stack.parameters():
        if p.requires_grad:
            p.add_(0.2 * torch.randn_like(p))  # as if it had been trained
x = torch.randn(9, 2, 16, dtype=torch.float64, requires_grad=True)
learned = [x, *(p for p in stack.parameters() if p.requires_grad)]
dy, dm = torch.randn(2, 9, 2, 16, dtype=torch.float64)
results = {}
for name, run in three(stack).items():
    y, m = run(x)
    grads = torch.autograd.grad((y * dy).sum() + (m * dm).sum(), learned)
    results[name] = [y, m, *grads]
    for ours, theirs in zip(results[name], results["reference"], strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    largest = max(grad.abs().max().item() for grad in grads)
    print(f"{name:9} {len(grads)} gradients, up to {largest:.1f}; no number differs by 1e-12")

# It is right, and no gradient was truncated or approximated. Is it fast? We time one training step,
# 64 characters long, in float32.

# NBVAL_IGNORE_OUTPUT
stack = small_model(D=128, L=4, F=512, T=64)
x = torch.randn(64, 16, 128)


def training_step(run: Callable) -> Callable[[], None]:
    """Forward and backward."""

    def step() -> None:
        y, _ = run(x)
        y.square().mean().backward()

    return step


small = race({name: training_step(run) for name, run in three(stack).items()}, rounds=3)
show(small)
assert small["our own"] < small["reference"]

# It is faster, but by less than one would hope. The weight gradients were wasteful, but they were
# not the only cost. The [log](../../docs/pages/log.md) counted what remains: for the whole model,
# some twenty small operations forward and thirty-five back, for each step and layer. Each is called
# from Python, looks up its kernel, gets memory, and then many compute for a few microseconds only.
# That is overhead, not waiting.
#
# ## The same in the package
#
# The package does the same with the whole model: heads, positions, norms, dropout, three kinds of
# feed-forward sublayer, a memory that slides, and one that was carried in. Its
# [tape](../../feedback/fast/tape.py) keeps what ours keeps. But it goes back through one stretch of
# steps after the other, and adds up their weight gradients before it goes on, so the deltas need
# little room. And the package has the two sweeps twice, in PyTorch and in C++, where a layer step
# is a loop and not fifty calls. A `Plan` says for which sizes.

# @title Imports
from feedback.fast.backward import add_weight_gradients, finish
from feedback.fast.border import check_saved
from feedback.fast.sequence import Plan, Sweeps, unpack
from feedback.fast.tape import Call, Gradients, Stretch, Tape

# Our function is two there, one forward and one back, and both are operators that PyTorch knows by
# name. This is the one back. The loop at its end adds up the weight gradients of each stretch:

from feedback.fast.sequence import backward  # shown

# So there are four ways to compute one function. They have to agree on the whole model too: with
# heads, positions and norms, with another nonlinearity, and with a window shorter than the
# sequence. (The tests of the package compare them with dropout and carried memory.)

config = ModelConfig(11, 16, n_layers=2, n_heads=2, d_ff=24, mem_len=5, activation="gelu")
model = FeedbackLM(config).double()
with torch.no_grad():
    for p in model.parameters():
        p.add_(0.2 * torch.randn_like(p))
tokens, targets = torch.randint(11, (2, 3, 12))


def gradients(implementation: str) -> list[Tensor]:
    """The logits, and the gradient of every parameter."""
    model.transformer.implementation = implementation
    logits, _ = model(tokens)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    return [logits, *torch.autograd.grad(loss, list(model.parameters()))]


whole = {name: gradients(name) for name in ("reference", "append", "sequence")}
whole["as it runs here"] = gradients("auto")  # in C++, if there is a compiler
for name, result in whole.items():
    for ours, theirs in zip(result, whole["reference"], strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    largest = max(grad.abs().max().item() for grad in result[1:])
    number = len(result) - 1
    print(f"{name:15} {number} gradients, up to {largest:.1f}; no number differs by 1e-12")

# ## The race
#
# Now the whole model races two parallel Transformers of the same width and depth. `TransformerLM`
# differs in two things: it has no feedback, and each of its layers has its own keys and values.
# `FusedTransformer` gives up relative positions, so that PyTorch's fused attention can be used; it
# is the faster of the two.

# NBVAL_IGNORE_OUTPUT
config = ModelConfig(65, d_model=128, n_layers=4, n_heads=4, d_ff=512, mem_len=64)
tokens, targets = torch.randint(65, (2, 16, 64))


def training(model: nn.Module) -> Callable[[], None]:
    """From tokens to gradients."""

    def step() -> None:
        logits = model(tokens)
        logits = logits[0] if isinstance(logits, tuple) else logits  # ours return a memory too
        nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()

    return step


ours = ["reference", "append", "sequence"] + ["native"] * (missing() is None)  # with a compiler
entries = {name: training(FeedbackLM(config, name)) for name in ours}
entries["parallel, TransformerLM"] = training(TransformerLM(config))
entries["parallel, fused"] = training(FusedTransformer(config))
medians = race(entries, rounds=3)
show(medians)
assert medians["sequence"] < medians["reference"]
if "native" in medians:
    assert medians["native"] < medians["reference"] / 2
    assert medians["native"] < 2 * medians["parallel, TransformerLM"]

# The upper panel is our small model, the lower one the whole model.

# @title Drawing code
# NBVAL_IGNORE_OUTPUT
order = [*ours, "parallel, TransformerLM", "parallel, fused"]
fig, axes = plt.subplots(
    2, 1, figsize=(5, 3.6), layout="constrained", sharex=True, height_ratios=[3, len(order)]
)
for ax, taken in zip(axes, (small, {name: medians[name] for name in order}), strict=True):
    colours = ["C1" if "parallel" in name else "C0" for name in taken]
    bars = ax.barh(list(taken), [s * 1e3 for s in taken.values()], color=colours)
    ax.bar_label(bars, fmt="%.0f", padding=3)
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_title("one head, no norms, no positions", fontsize=10)
axes[1].set_title("the whole model, and two without feedback (blue)", fontsize=10)
axes[1].set_xlabel("one training step (ms)")
axes[1].margins(x=0.1)
assert list(small) == [*order[:2], "our own"] and medians.keys() == set(order)
# caption: A training step of each implementation, on the machine that ran this notebook.
# alt: Bars of milliseconds for a training step. Above, for the small model: the reference takes
# longest, then append, then our own function. Below, for the whole model: reference, append and
# sequence are long, and native, where there is a compiler, about as short as the parallel ones.
plt.show()

# The recurrence is still there, 64 steps of four layers, one after the other, and yet a training
# step of `native`, the C++ loop, takes about as long as that of a Transformer that computes all
# steps side by side. It was not the waiting that cost so much. It was the way each step was
# computed.
#
# The bars show one moment, on a machine that others may be using too. The project's
# [benchmark](../../docs/runs/README.md) took more care, with two cores and at four sizes. On the
# first of three machines, compared with the fused Transformer, the C++ loop takes 0.62 to 1.05
# times as long, `TransformerLM` 1.07 to 1.90, the sweeps in PyTorch 2.1 to 4.4, appending 2.6 to
# 7.4, and labml's model with shared keys and values 4.0 to 11.6. The picture at the beginning has
# the first of the sizes on that machine. On the two others the C++ loop takes 1.06 to 1.52 and 1.38
# to 1.48 times as long as the fused Transformer.
#
# The same benchmark shows the limits of the C++ loop. All of it was measured on a CPU. With a batch
# of one, each product has a single row, and the ratio is 2.2; with 1024 steps, each of which has to
# read up to 1023 slots by itself, it is 2.1.
#
# ## Exercises
#
# 1. Our tape has nine buffers. Which of them needed the recurrence? Take the states $x$ of all
#    steps from it, and recompute all the others *without a loop over time*.

# @title Solution
stack = small_model(D=16, L=3, F=24, T=9).double()
x0, slots = torch.randn(9, 2, 16, dtype=torch.float64), torch.arange(9)
alpha, wk, wv, *flat = (w.detach() for w in weights_of(stack))
x, *known, q, attn, o, y, h = sweep_forward(x0, alpha, wk, wv, *flat)
m = torch.einsum("l,ltbd->tbd", alpha, x)
k, v = ((m @ w.T).transpose(0, 1) for w in (wk, wv))
for ours, kept in zip((m, k, v), known, strict=True):
    assert torch.allclose(ours, kept, rtol=0, atol=1e-12)
later = slots >= slots[1:, None]  # what steps 1, 2, ... must not read; step 0 reads nothing
for l in range(3):
    wq, wo, bo, w1, b1, _, _ = flat[7 * l : 7 * l + 7]
    again = [x[l, 1:] @ wq.T / math.sqrt(len(wk))]
    scores = torch.einsum("tbk,bsk->tbs", again[0], k).masked_fill(later[:, None], -math.inf)
    again.append(scores.softmax(-1))
    again.append(torch.einsum("tbs,bsk->tbk", again[1], v))
    again.append(x[l, 1:] + again[2] @ wo.T + bo)
    again.append((again[3] @ w1.T + b1).relu())
    for ours, kept in zip(again, (q, attn, o, y, h), strict=True):
        assert torch.allclose(ours, kept[l, 1:], rtol=0, atol=1e-12)
# Once the states are known, this is a parallel Transformer. For every other buffer the question is
# which is cheaper, to keep it or to recompute it.
print("all from the states, all steps after the first at once: equal to 1e-12")

# 2. A cheaper gradient: detach the memory vectors before a step reads them. Then no gradient
#    travels back in time. Compare with the exact gradients. Which parameter would never learn
#    anything?

# @title Solution
from feedback.reference import recurrent_step


def outputs(cut: bool) -> Tensor:
    """The outputs of the reference; with `cut`, no gradient goes back in time."""
    memory, ys = [], []
    for x_t in x0:
        m = torch.stack(memory) if memory else x0[:0]
        y, m_t = recurrent_step(stack, x_t, stack.window(m.detach() if cut else m))
        ys.append(y)
        memory.append(m_t)
    return torch.stack(ys)


named = {name: p for name, p in stack.named_parameters() if p.requires_grad}
results = {}
for cut in (False, True):
    y = outputs(cut)
    grads = torch.autograd.grad(
        y.square().sum(), named.values(), allow_unused=True, materialize_grads=True
    )
    results[cut] = dict(zip(named, grads, strict=True))
assert torch.equal(outputs(False), outputs(True))
never = [name for name in named if not results[True][name].any()]
assert never == ["mix.weight"] and results[False]["mix.weight"].any()
# The mix acts only on later steps. Without gradients back through time all layers would keep their
# equal shares in the memory.
print("same outputs; learns nothing:", *never)

# The model is fast enough to be trained on two cores. So we train it, on Shakespeare, in the [next
# notebook](06_training.py).
