# # Shared keys and values, appended without copies
#
# A memory vector is written once, and then read by every layer of every later step. How often does
# it have to be turned into a key and a value? And how often does a list have to be copied if it
# grows by one row at each step?
#
# The answers are: once, and never. For the second we have to do something that autograd normally
# forbids. We derive the gradient of "append one row", build it, break it in two ways that raise no
# error, and end with the `Append` of the package.

# @title Imports
import statistics
import time
from typing import Any

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.ticker import LogLocator
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from feedback import FeedbackLM, FeedbackTransformer, ModelConfig
from feedback.model import IMPLEMENTATIONS
from feedback.support.figures import use_style

use_style()
torch.manual_seed(0)
torch.set_printoptions(precision=3, sci_mode=False)
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

# ## Whose keys?
#
# In an ordinary Transformer each layer has keys of its own, since each reads different vectors:
# layer 1 reads the past inputs of layer 1, layer 2 those of layer 2. Here all layers read the same
# vector $m_j$. Their keys can differ in one thing only, the matrix:
#
# $$k_j^l = W_k^l\, m_j \qquad \text{or, shared,} \qquad k_j = W_k\, m_j$$
#
# So share the matrix. Each layer still has its own queries: $W_q^l$ and the positions are not
# shared. Note that these are two different models, with different parameters. Sharing changes what
# is computed; everything else in this notebook changes only how.

L, D, H, B, T = 4, 32, 2, 2, 12
K = D // H
sizes = {"vocab_size": 11, "d_model": D, "n_layers": L, "n_heads": H, "d_ff": 64, "mem_len": T}
tokens = torch.randint(11, (B, T))
for share_kv in (False, True):
    # Without the norm of the memory, to keep what follows short.
    config = ModelConfig(**sizes, share_kv=share_kv, norm_memory=False)
    model = FeedbackLM(config, implementation="reference")
    weights = sum(p.numel() for name, p in model.named_parameters() if ".kv." in name)
    _, memory = model(tokens)
    cache = sum(t.numel() for pair in model.transformer.remembered(memory) for t in pair)
    per_token = cache // (B * T)
    print(f"share_kv={share_kv!s:5}  numbers a token: {per_token:3}  weights of kv: {weights}")
    assert per_token == (2 * H * K if share_kv else 2 * L * H * K)
    assert weights == per_token * D

# For each token, decoding has to keep a key and a value for each head and layer, $2LHK$ numbers, or
# only $2HK$ if the layers share them. With four layers, that is a quarter. And a step projects its
# memory vector with a quarter of the parameters.
#
# ## The same work, again and again
#
# We keep the second model, the one that shares, and walk through its recurrence as
# [reference](../../feedback/reference.py) does: each step computes all keys of the window from all
# memory vectors. Watch the first three numbers of the key of slot 0.

with torch.no_grad():
    for p in model.parameters():
        p.add_(0.1 * torch.randn_like(p))  # as if it had been trained
stack = model.transformer


def step(x: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Up through the layers; `k` and `v` are `(B, H, S, K)`. Returns the output and the memory."""
    states = [x]
    for layer in stack.layers:
        x = layer(x, k, v)
        states.append(x)
    return x, stack.mix(torch.stack(states))


memory, keys_of_slot_0 = [], []
for x in model.embedding(tokens).unbind(1):
    window = torch.stack(memory, 1) if memory else x.new_empty(B, 0, D)
    k, v = (rows.transpose(1, 2) for rows in stack.kv(window))
    keys_of_slot_0.append(k[0, 0, :1, :3])
    memory.append(step(x, k, v)[1])
for t in (1, 2, 3, 11):
    print(f"step {t:2}: k_0 =", keys_of_slot_0[t][0].detach())
    assert torch.allclose(keys_of_slot_0[t], keys_of_slot_0[1], rtol=0, atol=1e-12)

# Of course it is the same key. $m_0$ does not change, and neither does $W_k$. How much work is
# repeated like this? A hook on the projection counts the rows that go through it.

def projected(implementation: str) -> int:
    """The number of rows of a sequence that are projected to keys in one forward pass."""
    counted = []
    count = stack.kv.key.register_forward_hook(lambda _, x, y: counted.append(x[0].numel() // D))
    stack.implementation = implementation
    model(tokens)
    count.remove()
    return sum(counted) // B


again, once = projected("reference"), projected("append")
assert again == T * (T - 1) // 2 and once == T
print(f"reference: {again} rows a sequence;  append: {once};  steps: {T}")

# $T(T-1)/2$ rows against $T$. So compute $k_t$ and $v_t$ when $m_t$ is made, and keep them.
#
# ## Keeping them is not free either
#
# Where are they kept? The next step needs all rows as *one* tensor. `torch.cat` and `torch.stack`
# make one, but a new one each time:

def with_cat(x: Tensor) -> tuple[Tensor, Tensor]:
    """All outputs and memory vectors from embeddings `(T, B, D)`, each key computed once."""
    k = v = x.new_empty(x.shape[1], H, 0, K)
    outputs, memory = [], []
    for x_t in x:
        y, m = step(x_t, k, v)
        k, v = (torch.cat([a, b.unsqueeze(2)], 2) for a, b in zip((k, v), stack.kv(m), strict=True))
        outputs.append(y)
        memory.append(m)
    return torch.stack(outputs), torch.stack(memory)

# How many rows does this loop copy? Below autograd, every operation passes through a dispatcher,
# where we can watch it.

class Watch(TorchDispatchMode):
    """Notes the name of every operation that makes a new tensor, and the size of what it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        """Runs one operation and notes it. Views are left out: they allocate nothing."""
        result = func(*args, **(kwargs or {}))
        results = result if isinstance(result, list | tuple) else [result]
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        new = [r for r in results if r is not None and r.untyped_storage().data_ptr() not in given]
        if new:
            self.made.append((func.overloadpacket.__name__, sum(tensor.numel() for tensor in new)))
        return result


with Watch() as watch:
    with_cat(model.embedding(tokens).transpose(0, 1))
numbers = sum(size for name, size in watch.made if name == "cat")
copied = numbers // (2 * B * H * K)  # a row of keys and a row of values for each sequence
assert copied == T * (T + 1) // 2
print(f"{T} steps: {copied} rows copied to store {T}")

# That is $\mathcal{O}(T^2)$ time, but time is the lesser evil. Each of those tensors was read by
# attention, whose gradient will need what was read, so all of them stay in memory until the
# backward pass. Yet each is a prefix of the next. Why not use one buffer with room for $T$ rows,
# and let each step read the beginning of it?
#
# Because autograd forbids it. Write row 3 into a tensor whose rows 0 to 2 have been saved for the
# backward pass:

buffer = torch.zeros(4, 3)
weight = torch.ones(3, requires_grad=True)
buffer[:3] = torch.randn(3, 3)
answer = buffer[:3] @ weight  # saves rows 0 to 2 for the gradient of the weight
buffer[3] = 7.0  # a row that was not saved
try:
    answer.sum().backward()
except RuntimeError as error:
    why = "modified by an inplace operation"
    assert why in str(error)
    print("refused:", why)

answer = buffer[:3] @ weight
buffer.data[3] = 8.0  # the same write, in secret
(grad,) = torch.autograd.grad(answer.sum(), weight)
assert torch.equal(grad, buffer[:3].sum(0))
print("in secret: ", grad)
print("it must be:", buffer[:3].sum(0))

# Row 3 is not one of the rows that were saved. But all views of a tensor share one version number,
# and the write raised it; autograd does not check which rows were written. A write through `.data`
# leaves the number alone. Then the backward pass runs, and its gradient is right.
#
# ## Appending is linear
#
# So we have to write the function that appends ourselves, and then we also have to say what its
# gradient is. Take a window $P$ of $S$ rows and a new row $r$. The next window is
#
# $$P' = \begin{bmatrix} P \\ r \end{bmatrix} = A\,P + e\,r$$
#
# $$A = \begin{bmatrix} 1 & & \\ & \ddots & \\ & & 1 \\ 0 & \cdots & 0 \end{bmatrix}, \qquad
#   e = \begin{bmatrix} 0 \\ \vdots \\ 0 \\ 1 \end{bmatrix}$$
#
# The map is linear: neither $A$ nor $e$ depends on the values in $P$ and $r$. If $G$ is the
# gradient of the loss with respect to $P'$, then a small change of $P$ and $r$ changes the loss by
#
# $$\langle G,\; A\,dP + e\,dr \rangle
#   = \langle A^\top G,\; dP \rangle + \langle e^\top G,\; dr \rangle$$
#
# and the gradients are the factors that multiply these changes, $A^\top G$ and $e^\top G$.

S = 3
A, e = torch.eye(S + 1, S), torch.eye(S + 1)[:, -1:]
P, r, G = torch.randn(S, K), torch.randn(1, K), torch.randn(S + 1, K)
assert torch.equal(A @ P + e @ r, torch.cat([P, r]))
assert torch.equal(A.T @ G, G[:-1])
assert torch.equal(e.T @ G, G[-1:])
print(A, A.T, sep="\n")

# Transposed, $A$ picks the first $S$ rows and $e$ the last one. That is all: **the gradient of the
# window is $G$ without its last row, and the gradient of the row is the last row of $G$.** Nothing
# has to be saved for the backward pass.
#
# Row $j$ is read by all later steps. What adds up their gradients? Autograd does. The window of
# step $t$ goes to two places, to attention and to the next append, and autograd adds the gradients
# of a tensor that was used twice. What arrives at the append of row $j$ is already the sum over all
# later steps.

class Grow(torch.autograd.Function):
    """The next window, as a view of `buffer`; `window` is `(..., S, K)` and `row` `(..., K)`."""

    @staticmethod
    def forward(ctx: Any, window: Tensor, row: Tensor, buffer: Tensor) -> Tensor:
        """Writes the row after those of the window."""
        end = window.shape[-2]
        # Behind autograd's back: no version number goes up.
        buffer.data[..., end, :] = row
        return buffer[..., : end + 1, :]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Applies the transposes."""
        return grad[..., :-1, :], grad[..., -1, :], None

# With `.data` we have given up the protection of autograd, so we need an argument of our own: **a
# row is written once, before any step reads it, and the buffer belongs to one call.** So a view
# that was saved never changes.
#
# ## Is it right?
#
# Test it on a small recurrence, in which each row is made from what attention found in the rows
# before it.

def recurrence(x: Tensor, append: Any) -> Tensor:
    """`x` is `(T, K)`; `append` turns a window and a row into the next window. Returns all rows."""
    window = append(x.new_empty(0, x.shape[1]), x[0])
    for x_t in x[1:]:
        found = (window @ x_t).softmax(0) @ window
        window = append(window, torch.tanh(found + x_t))
    return window


def grow(T: int, K: int) -> Any:
    """`Grow` on a new buffer."""
    buffer = torch.empty(T, K)
    return lambda window, row: Grow.apply(window, row, buffer)


def cat(window: Tensor, row: Tensor) -> Tensor:
    """Appends by copying."""
    return torch.cat([window, row[None]])

# `torch.autograd.gradcheck` moves every input a little, measures how the outputs change, and
# compares that with the gradients. `gradgradcheck` checks the gradients of those gradients in the
# same way.

x = torch.randn(5, 3, requires_grad=True)
first = torch.autograd.gradcheck(lambda x: recurrence(x, grow(5, 3)), x)
second = torch.autograd.gradgradcheck(lambda x: recurrence(x, grow(5, 3)), x)
assert first and second
assert torch.equal(recurrence(x, grow(5, 3)), recurrence(x, cat))
print(f"{x.numel() ** 2} derivatives checked, then those of {x.numel()} gradients")

# ## Two silent failures
#
# It is tempting to make the buffer once, in the module, and to use it for every call. And if there
# is a buffer for the rows, why not one for their gradients, to which every step adds its own? That
# saves an allocation at every step. Here is such a version:

class Careless(nn.Module):
    """Rows and their gradients in buffers that belong to the module."""

    def __init__(self, T: int, K: int):
        super().__init__()
        self.rows, self.grads = torch.empty(T, K), torch.empty(T, K)

    def forward(self, x: Tensor) -> Tensor:
        """All rows of the recurrence."""
        self.grads.zero_()
        return recurrence(x, lambda window, row: CarelessAppend.apply(window, row, self))


class CarelessAppend(torch.autograd.Function):
    """Adds up the gradients itself."""

    @staticmethod
    def forward(ctx: Any, window: Tensor, row: Tensor, owner: Careless) -> Tensor:
        """Right, until another call writes to the same buffer."""
        ctx.owner, ctx.end = owner, len(window)
        owner.rows.data[ctx.end] = row
        return owner.rows[: ctx.end + 1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        """The sum over all readers of the row."""
        ctx.owner.grads[: ctx.end + 1] += grad
        return None, ctx.owner.grads[ctx.end].clone(), None

# In the usual order, one forward pass and one backward pass, this version is right, and an ordinary
# training loop would never expose it. Now try two unusual orders: a second forward pass before the
# backward pass, as for a loss with two parts, and two backward passes, as for the gradients of two
# losses.

T_small, K_small = 8, 4
x = torch.randn(T_small, K_small, requires_grad=True)
other = torch.randn(T_small, K_small)
direction = torch.randn(T_small, K_small)


def gradients(forward: Any) -> dict[str, Tensor]:
    """The same gradient three times, in one usual and two unusual orders of passes."""
    found = {}
    (found["one forward, one backward"],) = torch.autograd.grad(forward(x), x, direction)
    y = forward(x)
    forward(other)
    (found["another forward in between"],) = torch.autograd.grad(y, x, direction)
    y = forward(x)
    torch.autograd.grad(y, x, direction, retain_graph=True)
    (found["the second of two backwards"],) = torch.autograd.grad(y, x, direction)
    return found


(right,) = torch.autograd.grad(recurrence(x, cat), x, direction)
careless = gradients(Careless(T_small, K_small))
ours = gradients(lambda x: recurrence(x, grow(T_small, K_small)))
for name in ours:
    off = [((g[name] - right).norm() / right.norm()).item() for g in (careless, ours)]
    assert off[1] < 1e-12 and (off[0] < 1e-12) == name.startswith("one")
    print(f"{name}: careless off by {off[0]:4.0%}, ours by {off[1]:.0%}")

# No exception, no warning, and errors about as large as the gradient itself. The formulas are the
# same in both versions, and they are right. What is wrong is *who owns the buffers*. In the first
# failure another call wrote over rows that were still needed; in the second the sums of the first
# backward pass were still there. Our version has a buffer for each call, and stores no gradients at
# all: it leaves the summing to autograd. Neither failure is made up: labml's implementation with
# shared keys and values has both, as [differences](../../docs/pages/differences.md) explains.
#
# ## The same in the package
#
# `Append`, from [append](../../feedback/fast/append.py), does two things more. The memory has only
# `mem_len` slots, so when it is full the oldest row slides out of the window. The new window does
# not contain that row and sends it a gradient of zero: one more row of zeros in $A^\top G$. And
# `Append` refuses a window that is not the last rows of its buffer, because such a window would get
# the gradients of other rows.

from feedback.fast.append import check_window

# Here is the function itself:

from feedback.fast.append import Append  # shown

# A small class keeps the buffer together with the position of its end, and lives as long as one
# sequence:

from feedback.fast.append import GrowingWindow  # shown

# First we check the gradients again, for a window from which rows slide out. Then we compare whole
# loops: our own around `Grow`, with the layers of the model, next to `"reference"` and `"append"`.
# Outputs, memory, and the gradient of every parameter have to agree.

def sliding(x: Tensor) -> Tensor:
    """Every window of at most three rows out of `x`, `(T, K)`, cubed."""
    memory = GrowingWindow(x.new_empty(1, 1, 0, x.shape[1]), len(x), 3)
    seen = []
    for row in x:
        memory.append(row[None, None])
        seen.append(memory.rows.flatten() ** 3)
    return torch.cat(seen)


x = torch.randn(5, 2, requires_grad=True)
assert torch.autograd.gradcheck(sliding, x) and torch.autograd.gradgradcheck(sliding, x)
plain = torch.cat([x[max(0, t - 3) : t].flatten() ** 3 for t in range(1, 6)])
assert torch.equal(sliding(x), plain)
print("windows of 3 out of 5 rows:", len(plain) // 2, "rows read, gradients right")

# And this is our own loop:

def with_grow(x: Tensor) -> tuple[Tensor, Tensor]:
    """Like `with_cat`, with two buffers instead of copies."""
    buffers = [x.new_empty(x.shape[1], H, len(x), K) for _ in "kv"]
    pair = [buffer[:, :, :0] for buffer in buffers]
    outputs, memory = [], []
    for x_t in x:
        y, m = step(x_t, *pair)
        pair = [Grow.apply(*it) for it in zip(pair, stack.kv(m), buffers, strict=True)]
        outputs.append(y)
        memory.append(m)
    return torch.stack(outputs), torch.stack(memory)


def package(implementation: str) -> Any:
    """A loop of the package, called like ours."""
    return lambda x: IMPLEMENTATIONS[implementation](stack, x, x.new_empty(0, *x.shape[1:]), None)

# Now all four, one after the other:

loops = {"reference": package("reference"), "torch.cat": with_cat}
loops |= {"Grow": with_grow, "append": package("append")}
x = torch.randn(T, B, D, requires_grad=True)
names, weights = zip(("x", x), *stack.named_parameters(), strict=True)
dy, dm = torch.randn(2, T, B, D)
results, largest = {}, {}
for name, loop in loops.items():
    y, m = loop(x)
    loss = (y * dy).sum() + (m * dm).sum()
    grads = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    results[name] = [y, m, *grads]
    for ours, theirs in zip(results[name], results["reference"], strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    largest[name] = max(grad.abs().max().item() for grad in grads)
for name, size in largest.items():
    print(f"{name:9} {len(grads)} gradients, up to {size:.1f}; no number differs by 1e-12")

# ## What is kept
#
# Now count what autograd saves. If we ask for it, every tensor saved for the backward pass goes
# through a hook. Many of these tensors are views of one storage, so we count each storage once, and
# leave out the parameters.

def saved_bytes(loop: Any, x: Tensor) -> int:
    """The bytes that a forward pass leaves for its backward pass."""
    weights = {p.untyped_storage().data_ptr() for p in stack.parameters()}
    kept = {}

    def note(tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage

    with torch.autograd.graph.saved_tensors_hooks(note, lambda nothing: nothing):
        loop(x)
    return sum(storage.nbytes() for storage in kept.values())


L, D, H, B = 1, 64, 2, 1
K = D // H
stack = FeedbackTransformer(ModelConfig(2, D, L, H, d_ff=128, mem_len=256, norm_memory=False))
lengths = (32, 64, 128, 256)
inputs = {T: torch.randn(T, B, D) for T in lengths}
kept = {name: [saved_bytes(loop, inputs[T]) for T in lengths] for name, loop in loops.items()}
print("T        ", *(f"{T:6}" for T in lengths))
for name, row in kept.items():
    print(f"{name:9}", *(f"{n / 2**20:6.1f}" for n in row), "MiB")
assert kept["Grow"] == kept["append"]
assert kept["reference"][-1] > 3.5 * kept["reference"][-2]  # twice the length, four times as much
assert kept["torch.cat"][-1] > 3.5 * kept["torch.cat"][-2]
assert kept["Grow"][-1] < 2.5 * kept["Grow"][-2]
assert kept["torch.cat"][-1] > 10 * kept["Grow"][-1]

# When the length doubles, the first two keep four times as much, and `"append"` a little more than
# twice as much. Why more than twice? The attention weights are still there: one number for each
# step, slot, head and layer. They should be all that grows with the square of the length.

square = 2 * (kept["Grow"][-1] - 2 * kept["Grow"][-2])
weights = L * H * B * 256**2 / 2 * torch.zeros(1).element_size()
assert abs(square / weights - 1) < 0.02
print(f"grows with the square: {square / 2**20:.2f} MiB")
print(f"the attention weights:  {weights / 2**20:.2f} MiB")

# And how long does it take? We time one forward and backward pass. The three loops take turns, and
# run on one thread so that none has to wait for a second core that is busy elsewhere.

# NBVAL_IGNORE_OUTPUT
def seconds(loop: Any, x: Tensor) -> float:
    """The time of one forward and backward pass."""
    begun = time.perf_counter()
    y, m = loop(x)
    (y.sum() + m.sum()).backward()
    return time.perf_counter() - begun


taken = {name: [] for name in ("reference", "torch.cat", "Grow")}
for T in lengths:
    rounds = [{name: seconds(loops[name], inputs[T]) for name in taken} for _ in range(3)]
    for name, row in taken.items():
        row.append(statistics.median(turn[name] for turn in rounds))
print("T        ", *(f"{T:6}" for T in lengths))
for name, row in taken.items():
    print(f"{name:9}", *(f"{s:6.3f}" for s in row), "s")
assert taken["Grow"][-1] < taken["reference"][-1] < 10 * taken["Grow"][-1]

# The left plot shows bytes, the right one seconds; on all axes each mark is twice the one before.

# @title Drawing code
# NBVAL_IGNORE_OUTPUT
fig, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
for ax, numbers in zip(axes, (kept, taken), strict=True):
    for name, marker, colour in zip(taken, "os^", ("C2", "C3", "C0"), strict=True):
        unit = 2**20 if ax is axes[0] else 1
        row = [number / unit for number in numbers[name]]
        ax.plot(lengths, row, f"{marker}-", color=colour, markersize=5, label=name)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xlabel("length $T$ (steps)")
    ax.yaxis.set_major_locator(LogLocator(2, numticks=20))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
axes[0].set_ylabel("kept for the backward (MiB)")
axes[1].set_ylabel("forward and backward (s)")
axes[0].legend(frameon=False)
# caption: What is kept for the backward pass and how long both passes take, as the sequence grows.
# alt: Two pictures over lengths from 32 to 256. Left, the memory kept: reference and torch.cat rise
# much more steeply than Grow and end more than ten times higher. Right, the time: the
# curves lie far closer together.
plt.show()

# The memory falls by a factor that grows with the length. The time is a disappointment: nearly all
# of the projections are avoided, and at short lengths it makes no visible difference. Computing
# keys is not the slow part there. The [log](../../docs/pages/log.md) found what is: the number of
# small operations, each on a few rows. Count those of one step of one layer.

layer, x = stack.layers[0], torch.randn(1, D)
k, v = torch.randn(2, 1, H, 9, K, requires_grad=True)
with Watch() as up:
    y = layer(x, k, v)
with Watch() as down:
    torch.autograd.grad(y.sum(), [k, v, *layer.parameters()])
operations = len(up.made) + len(down.made)
assert 40 < operations < 60
print(*(name for name, _ in up.made))
print(f"{len(up.made)} operations, and with the backward about {round(operations, -1)}")

# In the forward pass appending removes hardly any operations. It makes some of them smaller: at 32
# steps, all its operations together produce little more than a third as many numbers as those of
# the reference.

made = {}
for name in ("reference", "Grow"):
    with Watch() as watch:
        loops[name](inputs[32])
    made[name] = [len(watch.made), sum(size for _, size in watch.made)]
    print(f"{name:9}: {made[name][0] / 32:.0f} operations a step forward")
fewer, less = (a / b for a, b in zip(made["Grow"], made["reference"], strict=True))
assert fewer > 0.9 and 0.34 < less < 0.4
print(f"operations {fewer:.1f} times as many, numbers made {less:.2f} times as many")

# ## Exercises
#
# 1. Does sharing lose anything? With one head as wide as the model, $K = D$, it does not. Given any
#    matrices of layers that do not share, find query and output matrices that give the same result
#    with shared keys and values. Why does that fail with more heads?

# @title Solution
# $q^\top W_k^l\, m = (W_k^{-\top} W_k^{l\top} q)^\top W_k\, m$: the query matrix can do what the
# key matrix did, and the output matrix what the value matrix did:
# $W_o^l W_v^l\, m = (W_o^l W_v^l W_v^{-1})\, W_v\, m$.
L, S, D = 3, 5, 6
z, m = torch.randn(D), torch.randn(S, D)
own = torch.randn(L, 4, D, D)
W_k, W_v = torch.randn(2, D, D)
for W_q_l, W_k_l, W_v_l, W_o_l in own:
    before = W_o_l @ (W_v_l @ m.T) @ (m @ W_k_l.T @ W_q_l @ z).softmax(0)
    new_q, new_o = W_k.inverse().T @ W_k_l.T @ W_q_l, W_o_l @ W_v_l @ W_v.inverse()
    after = new_o @ (W_v @ m.T) @ (m @ W_k.T @ new_q @ z).softmax(0)
    assert torch.allclose(before, after, atol=1e-6)
# With more heads, $W_k$ of one head is $K \times D$ and has no inverse. In every layer the first
# head would have to look in the same $K$ directions; without sharing there are up to $L K$ of them.
# Its scores are $z^\top W_q^{l\top} W_k^l\, m$. Put the matrices $W_q^{l\top} W_k^l$ of all layers
# on top of each other: with shared keys the result has rank $K$ at most, and the best such matrix
# leaves the other singular values out.
scores = torch.cat([W_q_l[:2].T @ W_k_l[:2] for W_q_l, W_k_l, _, _ in own])
squares = torch.linalg.svdvals(scores) ** 2
lost = (squares[2:].sum() / squares.sum()).item()
assert 0.1 < lost < 1
print(f"one head loses nothing;  first heads of width 2 at least {lost:.0%} of the squared scores")

# 2. Write down $A$ and $e$ for a window that is full: three slots, and a row that pushes the oldest
#    out. Compare with what autograd finds for `Append`.

# @title Solution
P, r = torch.randn(1, 1, 3, 1), torch.randn(1, 1, 1)
buffer = torch.cat([P, torch.zeros(1, 1, 1, 1)], 2)
found = torch.autograd.functional.jacobian(
    lambda P, r: Append.apply(P, r, buffer, 3, 3), (P, r), strict=True
)
A = torch.tensor([[0.0, 1, 0], [0, 0, 1], [0, 0, 0]])  # each row moves up, the first one drops out
e = torch.tensor([[0.0], [0], [1]])
assert torch.equal(found[0].view(3, 3), A) and torch.equal(found[1].view(3, 1), e)
print(found[0].view(3, 3))

# Appending computes each key once, copies nothing, and is still not fast. What would it take? That
# is the next notebook, on [training fast and exactly](05_fast_and_exact.py).
