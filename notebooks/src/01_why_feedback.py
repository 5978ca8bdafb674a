# # Why feedback?
#
# Somebody reads out bits: one, zero, one, one. After each, say whether the number of ones so far is
# odd. A child can do it for hours, with one finger up or down. Can a Transformer?
#
# The parallel Transformer that we train here learns it for a few bits only, and that is why this
# site exists. We train it side by side with a Feedback Transformer, live, in a minute or two.

# @title Imports
import matplotlib.pyplot as plt
import torch
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from torch import nn

from feedback import FeedbackLM, ModelConfig, TransformerLM
from feedback.support.figures import use_style

use_style()
torch.set_num_threads(1)  # a model this small gains nothing from more

# ## Two small worlds
#
# The first is parity. The target is a running sum of the bits, modulo two.

torch.manual_seed(0)
bits = torch.randint(2, (1, 12))
odd = bits.cumsum(1) % 2
print("bits", bits[0].tolist())
print("odd ", odd[0].tolist())

# In the package, parity is one of the [tasks](../../feedback/data/tasks.py). Every batch is drawn
# afresh.

from feedback.data.tasks import parity

torch.manual_seed(0)
batch = parity(1, 12)
assert torch.equal(batch.tokens, bits) and torch.equal(batch.targets, odd)
print(f"{(batch.targets == odd).sum()} of {odd.numel()} targets are those from above")

# The second is a walk on a grid of nine cells whose opposite edges are joined. The walker turns
# left or right, goes a step forward, or stays, and after each action the question is: which cell is
# the walker in? Follow one walk by hand. The heading is never shown, and without it the cell cannot
# be known.

def follow(words: list[str]) -> list[tuple[int, int]]:
    """The row and column after each action, starting in the corner, facing along the row."""
    row, column, heading, cells = 0, 0, 0, []
    for word in words:
        heading = (heading + {"right": 1, "left": -1}.get(word, 0)) % 4
        if word == "forward":
            down, along = [(0, 1), (1, 0), (0, -1), (-1, 0)][heading]
            row, column = (row + down) % 3, (column + along) % 3
        cells.append((row, column))
    return cells


words = ["forward", "right", "forward", "forward", "forward", "left", "forward"]
for word, (row, column) in zip(words, follow(words), strict=True):
    print(f"{word:8} -> row {row}, column {column}")

# The package numbers the actions and the cells, and follows a whole batch of walks at once, with
# running sums.

from feedback.data.tasks import ACTIONS, random_walk, walk

torch.manual_seed(0)
batch = random_walk(20, 50)
for actions, cells in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
    assert [3 * row + column for row, column in follow([ACTIONS[a] for a in actions])] == cells
assert torch.equal(walk(batch.tokens, 3), batch.targets)
print("20 walks of 50 steps, the same cells as by hand")

# Both tasks are of the same kind. There is a small *state* (one finger, or a cell and a heading).
# Each event changes it a little, and every event matters for ever.
#
# ## Who can see what
#
# Draw three steps of each model. A box is a layer at one step, and an arrow leads to it from each
# result that it reads. Lines join or split only at a dot; where there is no dot, they cross.
# (Neither model attends to its own step: what that step has computed so far is in its state
# already.)

# @title Drawing code
def box(ax: plt.Axes, x: float, y: float, text: str, **style) -> None:
    """A word in a box, in front of the arrows."""
    style = {"boxstyle": "round", **style}
    ax.text(x, y, text, ha="center", va="center", fontsize=9, bbox=style, zorder=5)


def reads(t: int, l: int, L: int, feedback: bool) -> list[tuple[int, int]]:
    """The (step, layer) pairs that layer `l` reads; 0 is the embedding, `L + 1` the memory."""
    if l == 0:
        return []
    if l == L + 1:
        return [(t, i) for i in range(L + 1)]
    return [(t, l - 1), *((j, L + 1 if feedback else l - 1) for j in range(t))]


def way(t: int, l: int, j: int, i: int, L: int) -> list[tuple[float, float]]:
    """The corners of the arrow from layer `i` of step `j` to `l` of step `t`, around the boxes."""
    if l == L + 1:  # along the right side into the memory
        return [(3 * t, i), (3 * t + 0.95, i), (3 * t + 0.95, l), (3 * t + 0.6, l)]
    if i == L + 1:  # out of the memory, over all boxes, and down along the left side
        high, x, y = l + 0.1 - 0.2 * j, 3 * t - 1.3 + 0.3 * j, L + 1.9 - 0.25 * j
        return [(3 * j, i), (3 * j, y), (x, y), (x, high), (3 * t - 0.55, high)]
    if j == t:
        return [(3 * t, i + 0.25), (3 * t, l - 0.25)]
    return [(3 * j + 0.5, i), (3 * t - 0.5, l)]


def draw(ax: plt.Axes, title: str, feedback: bool) -> None:
    """Three steps, three layers; a memory vector above each step if there is feedback."""
    T, L = 3, 3
    for t in range(T):
        for l in range(L + 1 + feedback):
            name = "embedding" if l == 0 else f"layer {l}" if l <= L else "memory"
            edge = "C0" if l > L else "0.3"
            box(ax, 3 * t, l, name, fc=("C0", 0.3) if l > L else "white", ec=edge)
            for j, i in reads(t, l, L, feedback):
                corners = way(t, l, j, i, L)
                color = edge if j == t else "C0" if feedback else "C1"
                style = {"color": color, "arrowstyle": "->", "mutation_scale": 9}
                ax.add_patch(FancyArrowPatch(path=Path(corners), **style))
                for dot in corners[1:2] if l > L else corners[2:4]:
                    ax.plot(*dot, ".", color=style["color"])
        ax.text(3 * t, -0.8, f"step {t + 1}", ha="center", fontsize=9)
    ax.set_title(title, fontsize=10)
    ax.set_xlim(-1, 3 * T - 1.5)
    ax.set_ylim(-1, L + 2.1)
    ax.axis("off")


fig, axes = plt.subplots(1, 2, figsize=(8.5, 4), layout="constrained")
draw(axes[0], "parallel: a layer reads the layer below, of earlier steps", False)
draw(axes[1], "feedback: a layer reads the memory of earlier steps", True)
# caption: What each layer reads, in a parallel Transformer and with feedback.
# alt: Two drawings of three steps with an embedding and three layers each. On the left arrows lead
# from each layer to the next higher one of later steps. On the right each step has a memory on top,
# which its embedding and all its layers feed, and from each memory a line goes over the boxes and
# down to every layer of each later step.
plt.show()

# On the left every arrow climbs. However long the text, a result can pass through at most $L$
# layers. On the right all layers of a step, the top one included, are mixed into its memory, and
# from there arrows lead to the *bottom* of the next step. Follow the arrows backwards, and count
# the layers on the longest path to the top of step $t$:

def longest_chain(T: int, L: int, feedback: bool) -> list[int]:
    """The largest number of layers on any path to the top of each step."""
    most = {}
    for t in range(T):
        for l in range(L + 2):
            # a layer counts as one; the embedding and the memory, which only mixes, as zero
            longest = max((most[node] for node in reads(t, l, L, feedback)), default=0)
            most[t, l] = longest + (1 <= l <= L)
    return [most[t, L] for t in range(T)]


chains = {kind: longest_chain(32, 2, kind == "feedback") for kind in ("parallel", "feedback")}
assert chains["parallel"] == [2] * 32
assert chains["feedback"] == [2 * t for t in range(1, 33)]
print({kind: chain[-1] for kind, chain in chains.items()}, "layers after 32 steps")

# Parity of 32 bits is 31 exclusive ors, one after the other. (A cleverer circuit arranges them in a
# tree and needs only five levels. But a tree over 32 leaves does not work for 64, and it would have
# to be learnt.)
#
# ## Train both
#
# The same number of layers, the same widths, the same batches, the same optimiser. The parallel
# model may look at all 32 steps. In the feedback model, a *slot* of the memory holds the memory
# vector of one step, and here there is only **one slot**: each step sees the step before it and
# nothing else of the past. (`norm_memory` normalises the vector before it is read, which keeps the
# size of the state stable over a thousand steps.) The sequences start short and grow, as the paper
# recommends.

def train(model: nn.Module, task, steps: int, T: int, learning_rate: float) -> nn.Module:
    """Adam on fresh sequences that grow from 2 to `T` steps."""
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(steps):
        done = step / steps
        for group in optimizer.param_groups:
            # up during the first 20 steps, down during the last 30 %
            group["lr"] = learning_rate * min(1, (step + 1) / 20, (1 - done) / 0.3)
        batch = task(32, min(T, 2 + int((T - 1) * done / 0.8)))
        logits, _ = model(batch.tokens)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model

# A model is tested on new sequences, and we count how often it is right at each step.

@torch.no_grad()
def accuracy(model: nn.Module, task, T: int) -> torch.Tensor:
    """The share of right answers at each of `T` steps, over 512 new sequences."""
    torch.manual_seed(1)
    batch = task(512, T)
    return (model(batch.tokens)[0].argmax(-1) == batch.targets).float().mean(0)

# Both see the same sequences, in the same order.

sizes = {"d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 128}
torch.manual_seed(0)
feedback = FeedbackLM(ModelConfig(vocab_size=2, mem_len=1, norm_memory=True, **sizes))
parallel = TransformerLM(ModelConfig(vocab_size=2, mem_len=32, share_kv=False, **sizes))
for model in (feedback, parallel):
    torch.manual_seed(2)
    train(model, parity, steps=250, T=32, learning_rate=3e-3)

# How many parameters did each have to learn?

parts = {"distances": [".pos_"], "keys and values": [".kv."]}
parts |= {"the memory": [".mix.", ".norm_memory."], "all": [""]}
more = []
print("parameters of    feedback  parallel")
for name, words in parts.items():
    counts = [
        sum(p.numel() for key, p in model.named_parameters() if any(word in key for word in words))
        for model in (feedback, parallel)
    ]
    print(f"{name:15}{counts[0]:10}{counts[1]:10}")
    more.append(counts[1] - counts[0])
assert more[0] > 2000 and more[1] > 2000 and sum(more[:-1]) == more[-1]

# The parallel model has more parameters, for two reasons: each of its layers has parameters for 32
# distances instead of one, and each has its own matrices for keys and values.
#
# Now test both models, and go beyond the 32 steps they were trained on.

right = {
    "with feedback": accuracy(feedback, parity, 128),
    "parallel": accuracy(parallel, parity, 128),
}

# @title Drawing code
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for name, share in right.items():
    ax.plot(range(1, 129), 100 * share, label=name)
ax.axvline(32, color="0.5", linestyle=":", label="end of the training sequences")
ax.axhline(50, color="0.5", linewidth=0.8)
ax.text(128, 43, "guessing", color="0.4", ha="right")
ax.set_ylim(40, 103)
ax.set_xlabel("step")
ax.set_ylabel("right answers (%)")
ax.legend(frameon=False, loc="center right")
# caption: Parity: how many of 512 new sequences are answered rightly at each step.
# alt: Right answers at each of 128 steps. With feedback 100 per cent throughout, even beyond the 32
# steps of training. The parallel model is right for a few steps and is guessing soon after.
plt.show()

# Very little is needed. With a memory of one vector, the feedback model is right at every step, up
# to four times the length it was trained on. Nor does the state decay. Try a thousand steps:

far = accuracy(feedback, parity, 1000)
assert right["with feedback"].min() > 0.99 and far[-100:].min() > 0.99
assert right["parallel"][16:].max() < 0.75 and right["parallel"][:2].min() > 0.95
late, lost = far[-100:].mean(), right["parallel"][16:].mean()
assert late > 0.996 and 0.45 < lost < 0.55
print(f"with feedback, right at steps 901 to 1000: {late:.0%}")
print(f"parallel, at steps 17 to 128: about {round(lost.item(), 1):.0%}")

# The parallel model is right at the first steps. It has learnt something: the parity of a few bits,
# found by looking at all of them at once.
#
# ## The walk
#
# Now there are thirty-six states instead of two, nine cells times four headings, and the heading is
# never revealed. This takes more training, and two slots of memory.

sizes = {"d_model": 64, "n_layers": 2, "n_heads": 4, "d_ff": 256}
torch.manual_seed(0)
feedback = FeedbackLM(ModelConfig(vocab_size=9, mem_len=2, norm_memory=True, **sizes))
parallel = TransformerLM(ModelConfig(vocab_size=9, mem_len=16, share_kv=False, **sizes))
for model in (feedback, parallel):
    torch.manual_seed(2)
    train(model, random_walk, steps=2000, T=16, learning_rate=1e-3)
walked = {
    "with feedback": accuracy(feedback, random_walk, 32),
    "parallel": accuracy(parallel, random_walk, 32),
}

# @title Drawing code
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for name, share in walked.items():
    ax.plot(range(1, 33), 100 * share, label=name)
ax.axvline(16, color="0.5", linestyle=":", label="end of the training sequences")
ax.axhline(100 / 9, color="0.5", linewidth=0.8)
ax.text(32, 3, "guessing", color="0.4", ha="right")
ax.set_ylim(0, 103)
ax.set_xlabel("step")
ax.set_ylabel("right answers (%)")
ax.legend(frameon=False, loc="upper right")
# caption: The walk: how many of 512 new sequences are answered rightly at each step.
# alt: Right answers at each of 32 steps of the walk. With feedback most are right up to step 16,
# where training ends, and fewer after it. The parallel model falls off much earlier.
plt.show()

# With feedback more than three quarters of the answers are right at every step up to 16, where the
# training sequences end. At step 32 fewer are right than at step 16: this time the state is not
# kept perfectly, and errors add up. The parallel model has lost its way long before. (The exact
# numbers differ from processor to processor: over two thousand training steps, a difference in the
# last digit of the first step grows.)

with_feedback, without = walked["with feedback"], walked["parallel"]
assert with_feedback[:16].min() > 0.75 > 0.4 > without[15]
assert with_feedback[15] > with_feedback[31] > 0.35 > 0.2 > without[31]
print("right answers at step   16             32")
print("with feedback      over 75 %      over 35 %")
print("parallel          under 40 %     under 20 %")

# Is a Transformer hopeless at such things, then? This is one training of one small model, and no
# proof: more layers or other settings may carry it further. But the picture above stays true: the
# parallel model's chain of layers has a fixed length, and the walk does not. Why, then, does
# everybody train parallel models? Because training is slow when each step has to wait for the one
# before it. How slow, and how much of the lost time can be won back, is what the other notebooks
# are about.
#
# ## Exercises
#
# 1. Is it feedback that solves parity, or is it the single slot? Put all the weight of the mix on
#    the embedding, so that a step leaves behind what it read and nothing that it computed from it.

# @title Solution
sizes = {"d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 128}
torch.manual_seed(0)
deaf = FeedbackLM(ModelConfig(vocab_size=2, mem_len=1, norm_memory=True, **sizes))
mix = deaf.transformer.mix.weight.requires_grad_(False)
mix[0] = 100
torch.manual_seed(2)
train(deaf, parity, steps=250, T=32, learning_rate=3e-3)
share = accuracy(deaf, parity, 32)
# Each step sees two bits, so it is right only as long as there are no more than two.
assert share[:2].min() > 0.99 and (share[2:] - 0.5).abs().max() < 0.1
print(f"right at the first two steps {share[:2].mean():.0%}", end=", ")
print(f"from the third on about {round(share[2:].mean().item(), 1):.0%}")

# 2. Show that the walk really has thirty-six states: the cell and the heading, and nothing else
#    about the past, decide where an action leads.

# @title Solution
torch.manual_seed(3)
actions = random_walk(200, 60).tokens
cells = walk(actions, 3)
headings = ((actions == 1).long() - (actions == 0).long()).cumsum(1) % 4
leads_to = {}
for a, c, h in zip(actions.tolist(), cells.tolist(), headings.tolist(), strict=True):
    for t in range(1, 60):
        state, after = (c[t - 1], h[t - 1]), (c[t], h[t])
        leads_to.setdefault((state, a[t]), set()).add(after)
assert all(len(after) == 1 for after in leads_to.values())
print(len({state for state, _ in leads_to}), "states,", len(leads_to), "arrows, each to one state")

# How does a layer read a memory? That is the next notebook, on
# [attention over a memory](02_attention.py).
