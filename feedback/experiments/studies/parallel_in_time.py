r"""
---
title: Parallel in time?
summary: The recurrence as an equation for all steps at once: few passes on text, no gain on A5.
---

# Parallel in time?

The recurrence says how each memory vector follows from earlier ones. Read it once more, as an
*equation* for all of them together:

$$m_t = f_t(m_{t-S}, \dots, m_{t-1}), \qquad t = 0 \dots T-1$$

An equation can be solved by guessing. Guess all memory vectors, put the guess in on the right, for
all steps at once, and get a better guess on the left. A pass like this is as parallel as a
Transformer, and a few passes may do what takes $T$ steps one after the other. May they?

It depends on what is remembered. The model of Tiny Shakespeare that comes with the package is
solved to 1 % in about ten passes, whether the text has 64 steps or 256. The model that multiplies
in $A_5$, the [word problem](../groups.py) on which feedback is worth most, needs 64 passes for 64
steps and 256 for 256. That is exactly as many as there are steps, and nothing is gained at all. The
one forgets, and need not wait for what it forgets. The other keeps a state in which each step
counts, and such a state has to be carried through all of them.

## A family of iterations

Two members of it are old acquaintances. Split the steps into $G$ groups, step $t$ in group
$t \bmod G$. A *pass* visits the groups in turn; the steps of a group are updated together, and each
reads the newest values there are.

- $G = 1$ is Jacobi's iteration: all steps at once, from the values of the last pass.
- $G = T$ is stepping, which needs one pass.
- Those between are called *cyclic Gauss-Seidel*. White Matter[^white] reports, for a model of four
  layers trained exactly, 75 passes of Jacobi and 4 with 16 groups, to within 1 % of perplexity,
  which is a loose criterion.

**What is certain.** Nothing reads the future, so every member of the family ends in the exact
solution: after $p$ passes at least the first $pG$ steps are right, whatever the guess, and
$\lceil T / G \rceil$ passes suffice. But these are $T$ visits, one after the other, as many as
stepping has steps. An iteration has won something only if it is there *earlier*. So a number of
passes says little without the number of visits, $G$ to a pass, and without $T$.

**How far news travels.** There is a bound from below as well. If the guess has nothing to do with
the tokens, a state knows only those whose news has reached it. After $p$ passes of Jacobi with $S$
slots these are the last $(p-1)S + 1$; of $G$ groups with one slot, at most the last $pG$. But the
product of random elements cannot be told from the last of them: as long as one is missing, each of
the 60 is as likely as any other. So whoever keeps a product in one slot needs all
$\lceil T / G \rceil$ passes. Whoever forgets does not.

**The gradient** is the same question once more, and a linear one. With the loss $\mathcal{L}$, the
outputs $y_t = x_t^L$ and the total derivatives $\lambda_t = d\mathcal{L} / dm_t$,

$$\lambda_t = \sum_{s > t} \Big(
      \Big(\frac{\partial m_s}{\partial m_t}\Big)^{\!\top} \lambda_s
    + \Big(\frac{\partial y_s}{\partial m_t}\Big)^{\!\top} \frac{\partial \mathcal{L}}{\partial y_s}
    \Big)$$

which is iterated in the same groups, against the direction of time.

## What is measured, and what is not

The exact solution is that of the [reference](../../reference.py), in float64, and its gradient that
of autograd. Each window begins with an empty memory and each iteration with zeros. Gradients are
taken at the exact states, so their errors do not include those of the states. The cost is counted,
not timed: a pass has the operations of a whole forward, $T \cdot L$ layers of a step, in $G \cdot
L$ operations one after the other; stepping has as many operations as one pass, in $T \cdot L$ after
each other. A program that leaves out what is already exact would save up to half of the operations,
and none of the visits. Newton's method and its relatives, which use derivatives to make a better
guess, are not tried.

The model of text has four layers and 48 slots, that of $A_5$ one layer and one slot; both normalise
the memory. For each of the seeds 1, 2 and 3 and each task there are two windows of 64 steps and one
of 256: text on which the model was not trained, and elements drawn at random, with the products as
targets.

## What was found

Passes until the error is below 1 % and below $10^{-6}$, from the window with the fewest to that
with the most:

| task | groups | steps | states, 1 % | states, $10^{-6}$ | gradient, 1 % | gradient, $10^{-6}$ |
|---|---|---|---|---|---|---|
| text | 1 | 64 | 8 to 10 | 22 to 25 | 7 to 9 | 20 to 26 |
| text | 4 | 64 | 4 to 5 | 9 to 11 | 4 | 9 to 10 |
| text | 16 | 64 | 2 to 3 | 4 | 2 to 3 | 4 |
| text | 1 | 256 | 9 | 25 to 26 | 8 to 9 | 23 to 24 |
| text | 4 | 256 | 4 to 5 | 11 to 12 | 4 | 10 to 11 |
| text | 16 | 256 | 3 | 6 | 2 to 3 | 6 |
| $A_5$ | 1 | 64 | 64 | 64 | 11 to 28 | 34 to 53 |
| $A_5$ | 4 | 64 | 16 | 16 | 4 to 8 | 9 to 14 |
| $A_5$ | 16 | 64 | 4 | 4 | 2 to 3 | 3 to 4 |
| $A_5$ | 1 | 256 | 256 | 256 | 15 to 16 | 42 to 50 |
| $A_5$ | 4 | 256 | 64 | 64 | 5 | 11 to 13 |
| $A_5$ | 16 | 256 | 16 | 16 | 2 | 4 |

**On $A_5$ nothing is gained.** In each window, with each number of groups, to 1 % as to $10^{-6}$,
the states need all passes that there can be, which makes $T$ visits. The perplexity needs them too.
There is not even an approach: after 32 passes of Jacobi over 64 steps the first 32 states are
exact, and the others as far off as they were after the second pass. Gauss-Seidel saves operations
here, and no visit: with 16 groups 256 steps take 256 visits, as in stepping, and 16 times its
operations; with Jacobi, 256 times.

**On text little has to be waited for.** The surprise is Jacobi: for 256 steps to 1 % it makes 9
visits where stepping makes 256, and pays with 9 times the operations. With 16 groups there are 48
visits, and three times the operations: Gauss-Seidel buys fewer operations with more visits. Four
times as many steps hardly need more passes. To within 1 % of the perplexity Jacobi takes 5 to 8
passes. With 16 groups and 64 steps, 4 passes are certain anyway: those at $10^{-6}$ have won
nothing.

**The gradient on $A_5$ is another matter.** At the exact states it is found to 1 % in 11 to 28
passes of Jacobi for 64 steps, and in 15 to 16 for 256. With one slot, $p$ passes are
backpropagation that is cut off after $p$ steps. So the derivatives of this model fade, sooner in
one window and later in another, while the product does not fade at all: a nudge to a memory vector
is forgotten, and what is passed on is which *element* it stands for. The way back might be
shortened, then, but not before the steps have been taken that lead to the states.

**Training made the equations harder.** An untrained model like that of text needs 2 passes of
Jacobi to 1 % and 6 to 7 to $10^{-6}$, one like that of $A_5$ needs 3 and 7, for 64 steps and for
256.

## What follows, and what does not

Where a product is kept in one slot, iterations of this kind take as long as stepping, from any
guess that does not know it already; and that is where feedback is worth most. Might more slots
help? They lower the bound, to about $T / S$ passes of Jacobi, and what a model needs that keeps a
product in many was not measured. But a number of passes and groups that stays the same for all $T$
would make a network of fixed depth, a Transformer in all but name, and it is widely believed that
none of these multiplies in $A_5$ at all lengths.

The model of text, on this text, need not be stepped through in order to be computed closely. It
does not follow that this is faster, for nothing was timed; nor that one can train in this way, for
that was not tried. Nor is the task all that differs between the two models: so do their layers and
slots. And they are two models, a few windows, and one first guess; others may behave differently.

[^white]: [arXiv:2608.18486](https://arxiv.org/abs/2608.18486). Versions of the paper differ; the
    numbers are as reported to us, not read in its tables.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.text import IGNORE, Batch, load_corpus, random_batch
from ...lm.language_model import FeedbackLM
from ...reference import Recurrence, recurrent_step, reference_forward
from ...support.checks import expect, require
from ..groups import WordProblem

GROUPS = (1, 4, 16)
"""Jacobi, and two kinds of Gauss-Seidel."""
TOLERANCES = (1e-2, 1e-4, 1e-6)
"""Relative errors of which the passes are counted."""
WINDOWS = {64: 2, 256: 1}
"""How many windows of each length `run` measures, for each task."""
MODELS = {"text": "tiny_shakespeare", "a5": "a5"}
"""The tasks, and for each the model that comes with the package."""


def require_groups(G: int, T: int) -> None:
    """Raises `ValueError` unless `T` steps can be split into `G` groups."""
    expect(1 <= G <= T, "G", G, f"from 1 to T = {T} groups")


def read(model: Recurrence, x: Tensor, m: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    r"""
    ## Many steps at once

    $x_t^L$ and $m_t$, `(N, D)`, for the `steps`, `(N,)` in order, if `m` are all the memory vectors
    and `x` the embeddings, both `(T, D)`. The step is that of the reference: time stands in the
    place of its batch, and each step has a window of its own.
    """
    skip = model.config.empty_memory == "skip"
    if skip and steps[0] == 0 and len(steps) > 1:
        # The first step has nothing to read: it goes through the layers without attention.
        first, rest = (read(model, x, m, part) for part in (steps[:1], steps[1:]))
        return torch.cat([first[0], rest[0]]), torch.cat([first[1], rest[1]])
    S = min(model.config.mem_len, int(steps[-1])) if skip else model.config.mem_len
    # $m_{t-S}, \dots, m_{t-1}$; before the first step there are S slots of zeros.
    slots = steps[:, None] + torch.arange(S)
    pairs = [
        (k[slots].transpose(1, 2), v[slots].transpose(1, 2))
        for k, v in model.project(F.pad(m, (0, 0, S, 0)))
    ]
    empty = x.new_zeros(slots.shape).masked_fill(slots < S, -math.inf)
    # (N, 1, S): the same for all heads.
    return recurrent_step(model, x[steps], pairs, mask=empty[:, None] if skip else None)


def solve(model: Recurrence, x: Tensor, m: Tensor, G: int) -> Iterator[tuple[Tensor, Tensor]]:
    r"""
    ## Pass after pass, the states

    From a first guess `m`, `(T, D)`, for embeddings `x`, `(T, D)`. Yields, after each pass,
    $x_t^L$ as the pass has found it, and the memory vectors, both `(T, D)`.
    """
    T = len(x)
    require_groups(G, T)
    while True:
        y, m = torch.empty_like(x), m.clone()
        for g in range(G):
            steps = torch.arange(g, T, G)
            y[steps], m[steps] = read(model, x, m, steps)
        yield y, m


def solve_adjoint(
    model: Recurrence, x: Tensor, m: Tensor, dy: Tensor, G: int
) -> Iterator[tuple[Tensor, Tensor]]:
    r"""
    ## Pass after pass, the gradient

    At states `m`, with $\partial \mathcal{L} / \partial y_t$ in `dy`, both `(T, D)`. The groups are
    visited from the last step on. At a visit a group sends its gradient to the slots that it has
    read, in place of what it sent before; what a slot has been sent, by all groups, is $\lambda_t$.
    Yields, after each pass, the gradients of memory vectors and embeddings, `(T, D)`.
    """
    T = len(x)
    require_groups(G, T)
    x, m = (t.detach().requires_grad_() for t in (x, m))
    groups = [torch.arange((T - 1 - g) % G, T, G) for g in range(G)]
    with torch.enable_grad():
        graphs = [read(model, x, m, steps) for steps in groups]
    sent, dx = x.new_zeros(G, *x.shape), torch.zeros_like(x)
    while True:
        for g, steps in enumerate(groups):
            # $\lambda_t$ as it is known now
            dm = sent.sum(0)[steps]
            dx_g, sent[g] = torch.autograd.grad(
                graphs[g], (x, m), (dy[steps], dm), retain_graph=True, materialize_grads=True
            )
            dx[steps] = dx_g[steps]
        yield sent.sum(0), dx.clone()


@dataclass(frozen=True)
class Exact:
    """
    ## The exact solution

    All tensors are `(T, D)`.
    """

    x: Tensor
    """Embeddings."""
    m: Tensor
    """Memory vectors."""
    loss: Tensor
    """The mean cross-entropy."""
    dy: Tensor
    """Gradient of the loss for the outputs of the top layer, each by itself."""
    dm: Tensor
    """Gradient for the memory vectors, through everything that reads them."""
    dx: Tensor
    """Gradient for the embeddings."""


def loss_at(model: Any, y: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of top-layer outputs `y`, `(T, D)`, in their own precision."""
    return F.cross_entropy(model.head(model.transformer.norm(y)), targets, ignore_index=IGNORE)


def step_through(model: Any, tokens: Tensor, targets: Tensor) -> Exact:
    """The reference steps through `tokens`, autograd goes back; both tensors are `(T,)`."""
    made: list[Tensor] = []
    # The mix makes the memory vectors; one that was only stacked would not have their gradient.
    handle = model.transformer.mix.register_forward_hook(lambda *call: made.append(call[-1]))
    with torch.enable_grad():
        x = model.embedding(tokens)[:, None].detach().requires_grad_()
        y, m = reference_forward(model.transformer, x, x.new_empty(0, *x.shape[1:]), None)
        handle.remove()
        loss = loss_at(model, y.squeeze(1), targets)
        dy, dx, *dm = torch.autograd.grad(loss, [y, x, *made], materialize_grads=True)
    found = (t.detach().squeeze(1) for t in (x, m, dy, torch.stack(dm), dx))
    x, m, dy, dm_all, dx = found
    return Exact(x, m, loss.detach(), dy, dm_all, dx)


def error(found: Tensor, exact: Tensor) -> float:
    """The norm of the difference, relative to the norm of what is exact, to three digits."""
    return float(f"{((found - exact).norm() / exact.norm()).item():.2e}")


def passes_to(errors: list[float], tolerance: float) -> int | None:
    """After how many passes the error is below `tolerance` for good; None: not in these passes."""
    late = [i for i, e in enumerate(errors) if not e < tolerance]
    last = late[-1] + 1 if late else 0
    return last + 1 if last < len(errors) else None


def measure(
    model: FeedbackLM,
    tokens: Tensor,
    targets: Tensor | None = None,
    passes: int | None = None,
    groups: tuple[int, ...] = GROUPS,
) -> dict[str, Any]:
    r"""
    ## One window

    `tokens` and `targets`, both `(T,)`, with `IGNORE` where nothing is asked; without `targets`,
    `tokens` are a text, `(T + 1,)`, and the last is only a target. For each number of groups the
    passes to each of `TOLERANCES`, or None: of the states, of the perplexity that these outputs
    give, and of the gradients for memory vectors and embeddings. An iteration ends when all its
    errors are below the least tolerance, after `passes`, or when it must be exact. `sequential`
    counts the layers of a pass that wait for each other, `work` all of them, layers of one step;
    `stepping` has the same number of both.
    """
    length = "(T + 1,), at least 2" if targets is None else "(T,), at least 1"
    enough = tokens.dim() == 1 and len(tokens) > (targets is None)
    require(enough, f"tokens are {tuple(tokens.shape)}, expected {length}; give one window")
    if targets is None:
        tokens, targets = tokens[:-1], tokens[1:]
    same = targets.shape == tokens.shape
    require(same, f"targets are {tuple(targets.shape)}, expected {tuple(tokens.shape)} like tokens")
    asked = targets[targets != IGNORE]
    require(len(asked) > 0, "targets are all IGNORE, expected at least one label")
    for ids in (tokens, asked):
        model.check_tokens(ids)
    expect(passes is None or passes > 0, "passes", passes, "at least 1, or None")
    T, L = len(tokens), model.config.n_layers
    for G in groups:
        require_groups(G, T)
    exactly: Any = copy.deepcopy(model).double().eval().requires_grad_(False)
    true = step_through(exactly, tokens, targets)
    result: dict[str, Any] = {"T": T, "L": L, "mem_len": model.config.mem_len}
    result.update(loss=true.loss.item(), stepping=T * L, iterations=[])
    for G in groups:
        limit = min(passes or T, math.ceil(T / G))
        row = {"groups": G, "sequential": G * L, "work": T * L}
        result["iterations"].append(row | follow(exactly, targets, true, G, limit))
    return result


def follow(model: Any, targets: Tensor, true: Exact, G: int, limit: int) -> dict[str, Any]:
    """Passes to each tolerance, and errors of states and gradients after each pass."""
    stack = model.transformer

    def states() -> Iterator[tuple[float, float]]:
        for y, m in solve(stack, true.x, torch.zeros_like(true.x), G):
            loss = loss_at(model, y, targets)
            yield error(m, true.m), error(loss.exp(), true.loss.exp())

    def gradients() -> Iterator[tuple[float, float]]:
        for dm, dx in solve_adjoint(stack, true.x, true.m, true.dy, G):
            yield error(dm, true.dm), error(dx, true.dx)

    errors = dict(zip(("states", "perplexity"), columns(states(), limit), strict=True))
    errors |= zip(("gradient", "embedding_gradient"), columns(gradients(), limit), strict=True)
    counts = {
        name: {f"{tolerance:g}": passes_to(column, tolerance) for tolerance in TOLERANCES}
        for name, column in errors.items()
    }
    return {"passes": counts, "errors": {name: errors[name] for name in ("states", "gradient")}}


def columns(rows: Iterator[tuple[float, ...]], limit: int) -> list[list[float]]:
    """The columns of `rows`, up to one in which all are below the least tolerance, or `limit`."""
    taken = []
    for row in islice(rows, limit):
        taken.append(row)
        if max(row) < min(TOLERANCES):
            break
    return [list(column) for column in zip(*taken, strict=True)]


def streams() -> dict[str, Callable[[int, int, torch.Generator], Batch]]:
    """For each task who draws `B` windows of `T` steps: text not trained on, and products."""
    _, corpus = load_corpus("tiny_shakespeare", "characters")
    return {"text": partial(random_batch, corpus.val), "a5": WordProblem("a5").draw}


def run(seed: int, windows: dict[int, int] | None = None) -> dict[str, Any]:
    """
    ## The experiment

    For each task windows drawn by `seed`, each read by the model that comes with the package and by
    an untrained one of the same configuration. The `seconds` are those of the processor.
    """
    started = time.process_time()
    results = []
    for task, draw in streams().items():
        generator = torch.Generator().manual_seed(seed)
        trained = FeedbackLM.from_pretrained(MODELS[task])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            models = {"trained": trained, "untrained": FeedbackLM(trained.config)}
        for T, count in (windows or WINDOWS).items():
            for tokens, targets in zip(*draw(count, T, generator)[:2], strict=True):
                for name, model in models.items():
                    found = measure(model, tokens, targets)
                    results.append({"task": task, "model": name, **found})
    return {"seed": seed, "seconds": time.process_time() - started, "results": results}
