# # A group in the memory
#
# Five cards lie on a table. Sixty ways of shuffling them amount to an even number of swaps. Number
# these from 0 to 59 in any order, and read out one number after another. After each, what has
# become of the cards? The answer is one of the same sixty, so it is a number too.
#
# A Feedback Transformer learns this here, live, in about a minute. Nobody tells it about cards. It
# is given numbers, it is told which numbers to answer, and it has one vector of memory to get from
# one step to the next. What will it write there?

# @title Imports
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feedback import ModelConfig
from feedback.experiments.course import Course, teach
from feedback.experiments.groups import WordProblem, elements, table
from feedback.experiments.rivals import RIVALS
from feedback.memory import Memory
from feedback.support.figures import use_style

use_style()
torch.set_num_threads(1)  # a model this small gains nothing from more

# ## Five cards
#
# Follow six shuffles by hand. A shuffle says for each of the five places where the card that lies
# there goes.

shuffles, task = elements("a5"), WordProblem("a5")
batch = task.draw(1, 6, torch.Generator().manual_seed(0))
cards = list("ABCDE")
for t, token in enumerate(batch.tokens[0].tolist()):
    moved = [""] * 5
    for place, card in enumerate(cards):
        moved[shuffles[token][place]] = card
    cards = moved
    label = shuffles.index(tuple(cards.index(card) for card in "ABCDE"))
    print(f"shuffle {token:2} -> {' '.join(cards)}, which is number {label:2}")
    # the first label, which is the first token itself, is not asked for
    assert t == 0 or label == batch.targets[0, t]

# The labels of the package's [word problem](../../feedback/experiments/groups.py) are the same. In
# the language of algebra the shuffles are the *group* $A_5$, and the label is the product
# $y_t = x_t\, y_{t-1}$ of all shuffles so far.
#
# Why these sixty, and not sixty hours to be added up on a clock? Any such product can be computed
# in a tree, but a tree becomes deeper as the sequence becomes longer. A sum needs no such depth: it
# is enough to count. And in many groups, the *solvable* ones, the product can be taken apart into a
# few sums. $A_5$ is the smallest group in which it cannot. No way is known for a parallel model of
# fixed depth to keep up with it at every length. With feedback it takes one multiplication a step.
#
# ## Teach it
#
# Two layers, a width of 64, and **one slot** of memory: a step sees what the step before wrote, and
# nothing else of the past. The [course](../../feedback/experiments/course.py) begins with sequences
# of two steps, which are nothing but the table of 3,600 products. Whenever 95 % of the answers are
# right, they become half as long again, up to 16 steps.

config = ModelConfig(vocab_size=60, d_model=64, n_layers=2, n_heads=4, d_ff=256, mem_len=1)
course = Course(
    tokens=2_400_000, batch_tokens=2048, seq_len=16, ready=0.95, learning_rate=3e-3, decay=0.4
)


def taught(
    who: str, course: Course, task: WordProblem = task, config: ModelConfig = config
) -> tuple[nn.Module, list[dict]]:
    """A contestant after the course, and how it went."""
    torch.manual_seed(1)
    model = RIVALS[who](config)
    with torch.enable_grad():
        curve = teach(model, task, course, seed=1)
    return model.eval(), curve


model, curve = taught("feedback", course)

# @title Drawing code
tokens = [row["tokens"] / 1e6 for row in curve]
fig, axes = plt.subplots(2, 1, figsize=(5, 3.6), layout="constrained", sharex=True)
axes[0].plot(tokens, [100 * row["accuracy"] for row in curve])
axes[0].set_ylabel("right answers (%)")
axes[0].set_ylim(0, 103)
axes[1].step(tokens, [row["seq_len"] for row in curve], color="C2")
axes[1].set_ylabel("length (steps)")
axes[1].set_yticks([2, 5, 8, 12, 16])
axes[1].set_xlabel("tokens read in training (millions)")
assert curve[5]["accuracy"] < 0.1 and curve[-1]["accuracy"] > 0.97
assert curve[5]["seq_len"] == 2 and curve[-1]["seq_len"] == 16
lengths = [row["seq_len"] for row in curve]
assert lengths.index(16) - lengths.count(2) > len(lengths) / 8
# caption: The course: right answers, and the length of the sequences.
# alt: Two curves over 2.4 million tokens. The share of right answers stays near zero at first,
# then jumps up to nearly 100 per cent and dips each time that the sequences in the panel below
# become longer: 2, 3, 5, 8, 12 and at last 16 steps.
plt.show()

# For half a million tokens next to nothing happens, and then the table is learnt at once. To use it
# again and again without mistakes has to be learnt as well, and takes its time.
#
# ## Beyond the course
#
# Now go on to 64 steps, four times the length of the course, and next to ours take two rivals: a
# GRU on the same course, and a parallel Transformer, which gets only half of the tokens, to save
# your time. Both have a few more parameters than ours, and the same learning rate. (Theirs might be
# chosen better. The [experiments](../../feedback/experiments/catalog.py) do that.)

gru, gru_curve = taught("gru", course)
parallel, parallel_curve = taught("transformer_2", replace(course, tokens=course.tokens // 2))
_ = torch.set_grad_enabled(False)


def share(model: nn.Module, T: int) -> Tensor:
    """The share of right answers at each step after the first, over 512 new sequences."""
    batch = task.draw(512, T, torch.Generator().manual_seed(2))
    return (model(batch.tokens)[0].argmax(-1) == batch.targets)[:, 1:].double().mean(0)


names = {"with feedback": model, "GRU": gru, "parallel Transformer": parallel}
right = {name: share(contestant, 64) for name, contestant in names.items()}

# @title Drawing code
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for name, style in zip(names, ("C0-", "C2--", "C1-."), strict=True):
    ax.plot(range(2, 65), 100 * right[name], style, label=name)
ax.axvline(16, color="0.5", linestyle=":", label="end of the course")
ax.set_xlabel("step")
ax.set_ylabel("right answers (%)")
ax.set_ylim(0, 103)
ax.legend(frameon=False, loc="center right")
# caption: Beyond the course: right answers at each step of sequences four times as long.
# alt: Right answers at each of 64 steps. With feedback close to 100 per cent throughout. The GRU is
# right for two or three steps, then falls, and is guessing by step 30. The parallel Transformer is
# right at step 2 and is guessing soon after.
plt.show()

# The parallel Transformer knows the table, for it is right at step 2. But when its budget ended,
# the course had not taken it beyond sequences of a few steps. The GRU carries a state from step to
# step, as ours does, and knows the table too. What it is slow to learn is to use the table again
# and again. A longer course may well take it further: a state is not the privilege of feedback.

ours, theirs = right["with feedback"], right["parallel Transformer"]
assert ours[:15].min() > 0.98 and ours.min() > 0.85
assert right["GRU"][0] > 0.9 and right["GRU"][30:].max() < 0.2 and gru_curve[-1]["seq_len"] < 16
assert theirs[0] > 0.9 and theirs[4:].max() < 0.2 and parallel_curve[-1]["seq_len"] < 8
print("with feedback, up to step 16: more than 98 % right at each, up to step 64: more than 85 %")
print("GRU, from step 32 on: less than 20 %")
print("parallel Transformer, from step 6 on: less than 20 %")

# ## What the vector depends on
#
# So the product must be in the memory. What else is? Let the model read 1024 new sequences, and
# collect the memory after each step. (A memory vector is normalised before it is read. So we
# normalise it too, and make sure that the model does not notice.)

D, T = config.d_model, 16
generator = torch.Generator().manual_seed(3)
batch = task.draw(1024, T, generator)


def remember(model: nn.Module, tokens: Tensor) -> Tensor:
    """The memory after each step, normalised, `(B, T, D)`."""
    memory, seen = None, []
    for t in range(tokens.shape[1]):
        _, memory = model(tokens[:, t : t + 1], memory)
        seen.append(F.layer_norm(memory.m[:, 0], (D,)))
    return torch.stack(seen, dim=1)


m = remember(model, batch.tokens)
whole, _ = model(batch.tokens)
second_half, _ = model(batch.tokens[:, 9:], Memory(m[:, 8:9], config))
assert torch.allclose(second_half, whole[:, 9:], atol=1e-2)
same = (second_half.argmax(-1) == whole[:, 9:].argmax(-1)).double().mean()
assert same > 0.999
print(f"continued from a normalised vector, {same:.0%} of the answers are the same")

# Split the variance of these vectors into a part for each product $y_t$, then a part for each last
# token $x_t$, and the rest. And fit three linear probes by least squares: they are to read the
# product, the last token, and the token before it, on sequences that they were not fitted on. The
# same network before training is the control.

late = slice(2, T)
y, x = batch.targets[:, late].flatten(), batch.tokens[:, late].flatten()
before = batch.tokens[:, 1:-1].flatten()
test = (torch.arange(1024) >= 768).repeat_interleave(T - 2)


def vectors(model: nn.Module) -> Tensor:
    """The memory after the third step and later, less the mean, `(N, D)`."""
    z = remember(model, batch.tokens)[:, late].flatten(0, 1).double()
    return z - z.mean(0)


def means(z: Tensor, labels: Tensor) -> Tensor:
    """The mean of the vectors with each label, `(60, D)`."""
    one = F.one_hot(labels, 60).double()
    return one.T @ z / one.sum(0)[:, None]


def probe(z: Tensor, wanted: Tensor) -> Tensor:
    """The linear map that reads `wanted` from `z`, fitted on the sequences outside `test`."""
    z, wanted = F.pad(z, (0, 1), value=1.0)[~test], wanted[~test]
    ridge = 1e-6 * z.pow(2).sum() * torch.eye(z.shape[1]).double()
    return torch.linalg.solve(z.T @ z + ridge, z.T @ wanted)


def read(z: Tensor, weights: Tensor) -> Tensor:
    """What a probe reads."""
    return F.pad(z, (0, 1), value=1.0) @ weights


def account(z: Tensor) -> tuple[list[float], list[float]]:
    """The shares of the variance, and of what the probes read correctly."""
    by_product = means(z, y)[y]
    by_last = means(z - by_product, x)[x]
    parts = (by_product, by_last, z - by_product - by_last)
    variance = [(part.pow(2).sum() / z.pow(2).sum()).item() for part in parts]
    found = []
    for labels in (y, x, before):
        guess = read(z[test], probe(z, F.one_hot(labels, 60).double())).argmax(-1)
        found.append((guess == labels[test]).double().mean().item())
    return variance, found


torch.manual_seed(1)
z, z_untrained = vectors(model), vectors(RIVALS["feedback"](config).eval())
accounts = {"before training": account(z_untrained), "after training": account(z)}

# Here are both, side by side.

# @title Drawing code
fig, axes = plt.subplots(1, 2, figsize=(7.5, 2.9), layout="constrained", width_ratios=(3, 4))
colors = {"the product": "C0", "the last token": "C5", "the rest": "0.8"}
for n, (name, (variance, found)) in enumerate(accounts.items()):
    below = 0.0
    for part, (what, color) in zip(variance, colors.items(), strict=True):
        axes[0].bar(name, 100 * part, 0.6, below, color=color, label=None if n else what)
        below += 100 * part
    places = [i + 0.4 * n - 0.2 for i in range(3)]
    axes[1].bar(places, [100 * s for s in found], 0.36, color=("0.7", "C0")[n], label=name)
axes[0].set_xlabel("what the vector depends on")
axes[0].set_ylabel("share of the variance (%)")
axes[0].legend(frameon=False, loc="upper left")
axes[1].axhline(100 / 60, color="0.4", linestyle=":", label="guessing")
axes[1].set_xticks(range(3), ["product", "last token", "token before"])
axes[1].set_xlabel("what a linear probe is to read")
axes[1].set_ylabel("read correctly (%)")
axes[1].legend(frameon=False, loc="upper right", ncols=2)
for ax in axes:
    ax.set_ylim(0, 148)
    ax.set_yticks(range(0, 101, 25))
(variance_0, found_0), (variance_1, found_1) = accounts.values()
assert abs(below - 100) < 1e-6 and variance_0[1] > 0.9
assert variance_1[0] > 0.6 and variance_1[2] < 0.1
assert found_0[0] < 0.05 < 0.5 < found_0[2] and found_1[2] < 0.05 and 0.3 < found_1[0] < 0.9
# caption: What the memory vector depends on, and what a linear probe reads from it.
# alt: Two pictures, before and after training. Stacked bars of variance: before, nearly all belongs
# to the last token; after, about four fifths to the product, most of the others to the last token,
# hardly anything to the rest. Bars for the probes: the last token is always read. The product is
# not read at all before training, and in half of the cases or so after. The token before is read
# in most cases before training and not at all after.
plt.show()
print("of the variance the product has more than 60 %,")
print("and less than 10 % is neither the product nor the last token")
print("the token before the last is read in less than 5 % of the cases")

# Before training the vector is an echo: it holds the last token, and a trace of the one before.
# Training has turned this round. Most of the vector is the product now. The last token is still
# there, because the embedding is one of the layers that are mixed into the memory. But the token
# before it is gone, as far as a linear probe can tell. Take two histories with the same product and
# the same last token: little of the variance is left between them, and in that the probe finds
# nothing of the token before.
#
# Yet something is odd. The model's answers are all but perfect, and the probe reads the product in
# far fewer cases. Sixty labels, each in a direction of its own, would be easy to read. The product
# must be written in some other way.
#
# ## Is the group there?
#
# For each element $g$ of the group, take the mean $f(g)$ of all memory vectors with this product,
# less the mean of all. That makes sixty points in 64 dimensions. If they are mere labels, any
# element may be at any point. If the *group* is there, it should have arranged them. Draw the
# cosine between $f(g)$ and $f(ga)$, with a row for each $g$ and a column for each $a$, and beside
# it the one between $f(g)$ and $f(ag)$. Columns are sorted by their mean, rows are not sorted.

product = table("a5")
f = means(z, y)
f = f - f.mean(0)
cosine = F.normalize(f) @ F.normalize(f).T
every = torch.arange(60)[:, None]
grids = {"f(g) and f(ga)": cosine[every, product], "f(g) and f(ag)": cosine[every, product.T]}

# @title Drawing code
fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.7), layout="constrained", sharey=True)
depends = []
for ax, (name, grid) in zip(axes, grids.items(), strict=True):
    columns = grid.mean(0).argsort(descending=True)
    drawn = ax.imshow(grid[:, columns].numpy(), cmap="RdBu", vmin=-1, vmax=1)
    ax.set_title(f"cosine of {name}", fontsize=10)
    ax.set_xlabel("a (sorted)")
    others = grid[:, 1:]  # without the identity, number 0, at which the cosine is 1
    within = others.var(0, correction=0).mean() / others.var(correction=0)
    depends.append(1 - within.item())
axes[0].set_ylabel("g")
fig.colorbar(drawn, ax=axes)
assert depends[0] > 0.9 and depends[1] < 0.75
# caption: Cosines between the means of the group's elements, multiplied from the right and from the
# left.
# alt: Two heat maps of 60 times 60 cosines. On the left there are clean vertical stripes: all rows
# are the same. On the right there are none.
plt.show()
print("of the variance of the cosine, a alone explains")
print("for f(g) and f(ga) more than 90 %, for f(g) and f(ag) less than 75 %")
length = f.norm(dim=1)
assert length.std() < 0.1 * length.mean()
print("the lengths of the f(g) have a standard deviation of less than a tenth of their mean")

# On the left all rows are the same: the angle between $f(g)$ and $f(ga)$ does not depend on $g$. So
# replace $g$ by $xg$, that is, let a step multiply by $x$: all sixty points move, and all angles
# between them stay as they are. So, nearly, do their lengths, which are much alike. **A step turns
# the memory like a rigid body.** Mere labels do not do that.
#
# ## Which group of rotations?
#
# A way in which a group acts by rotations and reflections is a *representation*. For a finite group
# each of them is put together from a few that cannot be taken apart any further, the *irreducible*
# ones. $A_5$ has five. Their dimensions $d$ are 1, 3, 3, 4 and 5. Among the functions on the group
# those that belong to one of dimension $d$ have $d^2$ dimensions, and $\sum d^2 = 60$. In dimension
# 1 nothing moves. In both of dimension 3 the group turns an icosahedron. In dimension 4 it permutes
# five numbers whose sum is zero, and in dimension 5 six numbers whose sum is zero, one for each
# axis through two corners of the icosahedron.
#
# As a Fourier series takes a sound apart into frequencies, so the *characters* $\chi_\rho$ take a
# function on the group apart into representations:
#
# $$f_\rho(g) = \frac{d_\rho}{60} \sum_k \chi_\rho(g k^{-1})\, f(k)$$
#
# A character has one value for each kind of element: the identity, two swaps, a cycle of three, and
# two kinds of cycles of five, at which the golden ratio appears.

golden = (1 + 5**0.5) / 2
characters = [
    [1, 1, 1, 1, 1],
    [3, -1, 0, golden, 1 - golden],
    [3, -1, 0, 1 - golden, golden],
    [4, 0, 1, -1, -1],
    [5, 1, -1, 0, 0],
]
inverse = product.argmin(1)  # $k^{-1}$: the product is number 0, the identity
stay = torch.tensor([sum(i == j for i, j in enumerate(p)) for p in shuffles])
cycle = shuffles.index((1, 2, 3, 4, 0))
alike = set(product[product[:, cycle], inverse].tolist())  # $g c g^{-1}$ for all $g$
kind = [{5: 0, 1: 1, 2: 2, 0: 3 if g in alike else 4}[n] for g, n in enumerate(stay.tolist())]
chi = torch.tensor(characters, dtype=torch.float64)[:, kind]
d = chi[:, 0]
P = d[:, None, None] / 60 * chi[:, product[:, inverse]]
assert torch.allclose(P @ P, P) and torch.allclose(P.sum(0), torch.eye(60).double())
print("five projections, onto", [round(p.trace().item()) for p in P], "of 60 dimensions")

# How much of the trained $f$ belongs to each, how much of the untrained one, and how much would of
# sixty points thrown at random?

def energy(f: Tensor) -> Tensor:
    """The share of each representation in a function on the group, less its mean."""
    parts = (P[1:] @ f).pow(2).sum((1, 2))
    return parts / parts.sum()


trained, untrained, chance = energy(f), energy(means(z_untrained, y)), d[1:].pow(2) / 59

# @title Drawing code
at = torch.arange(4).numpy()
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.bar(at - 0.2, 100 * untrained.numpy(), 0.36, color="0.7", label="before training")
ax.bar(at + 0.2, 100 * trained.numpy(), 0.36, color="C0", label="after training")
ax.hlines(100 * chance.numpy(), at - 0.4, at + 0.4, "k", ":", label="random points")
ax.set_xticks(range(4), ["3", "3'", "4", "5"])
ax.set_xlabel("representation (its dimension)")
ax.set_ylabel("share (%)")
ax.legend(frameon=False, loc="upper left")
spread = torch.linalg.svdvals(f).pow(2)
four = (spread[:4].sum() / spread.sum()).item()
assert (untrained - chance).abs().max() < 0.06
assert trained[2] > 0.9 and four > 0.9 and spread[3] > 0.4 * spread[0]
# caption: How much of the sixty means belongs to each representation of the group.
# alt: Bars for the representations of dimension 3, 3, 4 and 5. Before training they are those of
# random points: 15, 15, 27 and 42 per cent. After training nearly everything belongs to the one of
# dimension 4.
plt.show()
print(f"the representation of dimension 4 has more than 90 %, by chance {chance[2]:.0%}")
print("and more than 90 % lies in 4 of the 64 dimensions")

# The network has 64 dimensions, and might have spread its sixty points over 59 of them. It uses
# four, and of five representations it has picked one. That is why the probe failed: sixty points in
# four dimensions are crowded, and least squares is too blunt to tell them apart. (Which
# representation wins depends on the model and on chance.)
#
# ## The cards
#
# A step is a rotation, then, in four dimensions. Find its matrix by least squares:
# $f(xg) = R_x f(g)$ for all $g$. If the group is there, the matrices multiply as its elements do.
# And what does the trace of each kind say?

points = f @ torch.linalg.svd(f, full_matrices=False)[2][:4].T  # in the four dimensions
R = (torch.linalg.pinv(points) @ points[product]).mT
wrong = (R[:, None] @ R - R[product]).abs().max().item()
trace = torch.einsum("xii->x", R)
assert wrong < 0.05 and (trace - chi[3]).abs().max() < 0.05
print("R_x R_y and R_xy, for all 3600 pairs: no entry differs by 0.05")
for n, name in enumerate(("nothing", "two swaps", "cycle of 3", "cycle of 5", "other cycle of 5")):
    g = kind.index(n)
    print(f"{name:16}: cards that stay {stay[g]}, trace {round(trace[g].item()):2}")

# The trace is the number of cards that stay in their places, less one. Nobody said that there were
# cards! The tokens were numbers, the labels were numbers, and all that the network ever saw was who
# times whom is what. If it has found the cards, the memory should look like this: a number $w_i$
# for each card, a direction $E_j$ for each place, and
#
# $$f(g) = \sum_i w_i\, E_{g(i)}$$
#
# where $g(i)$ is the place at which $g$ has put card $i$. To find them, average $f(g)$ over all $g$
# with card $i$ at place $j$. The mean of $f$ is zero, so we may choose numbers and directions that
# sum to zero as well. Then what remains is $\frac{5}{4}\, w_i E_j$, a number times a direction.

where = torch.tensor(shuffles)  # the place of each card, `(60, 5)`
held = F.one_hot(where, 5).double()
average = torch.einsum("gij,gd->ijd", held, f) / held.sum(0)[..., None]
u, s, _ = torch.linalg.svd(average.flatten(1), full_matrices=False)
w = u[:, 0] / u[:, 0].abs().max()
E = 4 / 5 * torch.einsum("i,ijd->jd", w, average) / w.pow(2).sum()


def lay(places: Tensor) -> Tensor:
    """The vector for cards at these places, `(N, 5)`, by the formula; returns `(N, D)`."""
    return torch.einsum("i,nid->nd", w, E[places])


missing = ((f - lay(where)).pow(2).sum() / f.pow(2).sum()).item()
rank_one = (s[0].pow(2) / s.pow(2).sum()).item()
assert missing < 0.1 and rank_one > 0.95
print("a number times a direction: more than 95 % of the averages")
print("the formula: more than 90 % of f")

# Does it hold for single vectors too, and not only for their means? A linear probe now has an
# easier task. It reads five numbers, one at each place, on new sequences. We know which card has
# which number, so sorting the five tells where each card lies.

numbers_of = w[where.argsort(1)]  # the number at each place, `(60, 5)`
reader = probe(z, numbers_of[y])
rank = w.argsort().argsort()


def cards_in(z: Tensor) -> Tensor:
    """The place of each card, as read from memory vectors `(N, D)` by sorting; `(N, 5)`."""
    return read(z, reader).argsort(1)[:, rank]


correct = (cards_in(z[test]) == where[y[test]]).all(1).double().mean().item()

# @title Drawing code
numbers, card_at = read(z[test][:400], reader), where.argsort(1)[y[test][:400]]
shift = 0.6 * torch.rand(400, generator=generator) - 0.3
gram = E @ E.T / E.pow(2).sum(1).mean()
fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.3), layout="constrained", width_ratios=(5, 3))
for card, color in zip(w.argsort().tolist(), ("C0", "C1", "C2", "C3", "C5"), strict=True):
    for place in range(5):
        there = card_at[:, place] == card
        height = place + 1 + shift[there]
        axes[0].plot(numbers[there, place], height, ".", color=color, markersize=3)
    axes[0].text(w[card], 0.35, f"card {'ABCDE'[card]}", color=color, ha="center", fontsize=9)
axes[0].set_xlabel("number read")
axes[0].set_yticks(range(1, 6))
axes[0].set_ylim(5.6, 0.1)
drawn = axes[1].imshow(gram.numpy(), cmap="RdBu", vmin=-1, vmax=1, extent=(0.5, 5.5, 5.5, 0.5))
axes[1].set_title("products of the directions", fontsize=10)
axes[1].set_xlabel("place")
for ax in axes:
    ax.set_ylabel("place")
fig.colorbar(drawn, ax=axes[1], shrink=0.8)
assert correct > 0.97
assert (w.sort().values - torch.tensor([-1, -0.45, 0, 0.45, 1])).abs().max() < 0.15
assert (gram - (1.25 * torch.eye(5) - 0.25)).abs().max() < 0.2
# caption: Five numbers read from the memory, one for each place: each card has a number of its own.
# alt: On the left the numbers that the probe reads at each of five places, coloured by the card
# that lies there. At every place there are the same five clusters, near -1, -0.4, 0, 0.4 and 1,
# each of one colour. On the right the products of the five directions: 1 on the diagonal, and the
# same small negative number everywhere else.
plt.show()
print("all five cards read rightly from more than 97 % of the new memory vectors")

# There they are. Each card has its number, near -1, -0.4, 0, 0.4 and 1. The five directions make
# equal angles, like those to the corners of a regular simplex in four dimensions. The memory is a
# table with five places, and on it lie five cards.
#
# ## Put something else there
#
# So far we have only looked. If this vector *is* the state, then we may write it ourselves, and the
# model should go on as if it had been there. We write four things: the mean $f(g)$, which no single
# history ever produced; only the part of it in the representation of dimension 4; only the other
# parts; and cards laid out by the formula. After each follow eight random tokens.

centre = remember(model, batch.tokens)[:, late].flatten(0, 1).double().mean(0)


def go_on(states: Tensor, places: Tensor, T: int) -> tuple[Tensor, Tensor]:
    """
    Continues from vectors that hold cards at these `places`, `(60, 5)`, with 16 random sequences
    each. Returns how many cards each answer has right, and each vector, `(T, N)`.
    """
    tokens = torch.randint(60, (60 * 16, T), generator=torch.Generator().manual_seed(4))
    memory = Memory((states + centre).float().repeat(16, 1)[:, None], config)
    now, answers, vectors = places.repeat(16, 1), [], []
    for t in range(T):
        logits, memory = model(tokens[:, t : t + 1], memory)
        now = where[tokens[:, t]].gather(1, now)
        answers.append((where[logits[:, 0].argmax(-1)] == now).sum(1))
        vector = F.layer_norm(memory.m[:, 0], (D,)).double() - centre
        vectors.append((cards_in(vector) == now).sum(1))
    return torch.stack(answers), torch.stack(vectors)


part = P[3] @ f
written = {"mean": f, "only 4": part, "the others": f - part, "formula": lay(where)}
for name, states in written.items():
    answers, _ = go_on(states, where, 8)
    share_right = (answers == 5).double().mean().item()
    assert share_right < 0.06 if name == "the others" else share_right > 0.97
    print(f"{name:10}: over 97 % right" if share_right > 0.97 else f"{name:10}: under 6 % right")

# The part in the other representations is worthless, and without it nothing is lost.
#
# Now for a test that the model cannot have prepared for. Swap two cards. That is an *odd*
# arrangement: no sequence of even shuffles leads there, so the model has never been in such a
# state, and there is not even a label for it. But the formula has no objection. Lay the cards out
# in the sixty odd arrangements, and go on.

odd = where[:, [1, 0, 2, 3, 4]]
assert not any(tuple(p) in shuffles for p in odd.tolist())
results = {"even": go_on(lay(where), where, 16), "odd": go_on(lay(odd), odd, 16)}

# @title Drawing code
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for (name, (_, found)), style in zip(results.items(), ("C0o-", "C2s--"), strict=True):
    share_right = 100 * (found == 5).double().mean(1)
    ax.plot(range(1, 17), share_right, style, markersize=4, label=f"{name} arrangements")
ax.axhline(100 / 120, color="0.5", linestyle=":", label="guessing")
ax.set_xlabel("step after the cards were laid out")
ax.set_ylabel("all five cards right (%)")
ax.set_ylim(0, 103)
ax.legend(frameon=False, loc="center right")
answers, found = results["odd"]
four_steps = (found[:4] == 5).double().mean().item()
three_cards = (answers[:4] == 3).double().mean().item()
assert four_steps > 0.95 and three_cards > 0.95 and (found == 5).double().mean(1).min() > 0.5
# caption: Cards that were laid out by hand, in arrangements that training has seen and in others.
# alt: The share of memory vectors with all five cards in their right places, at each of 16 steps
# after the cards were laid out by hand. For even arrangements it is close to 100 per cent
# throughout. For odd arrangements it is so at first and falls a little by step 16.
plt.show()
print("odd, during the first four steps: all five cards right in more than 95 % of the vectors,")
print("and three of the five in more than 95 % of the answers")

# It shuffles cards that it cannot have seen in this order, and it does so correctly. The answers
# cannot be right, as there is no label for what lies on the table. They are the next best thing:
# two cards are swapped, and the other three are right. It was taught the multiplication table of a
# group of sixty. What it has learnt is to move five cards.
#
# ## Exercises
#
# 1. With one slot there is nothing to choose, and the softmax is always 1. Which weights of the
#    attention does this model not need at all?

# @title Solution
idle = RIVALS["feedback"](config).eval()
idle.load_state_dict(model.state_dict())
for layer in idle.transformer.layers:
    for weight in ("query.weight", "query_bias", "pos_key", "pos_bias"):
        layer.attn.get_parameter(weight).zero_()
idle.transformer.kv.key.weight.zero_()
# No queries, no keys, no positions, the same answers: attention is a linear map of the last memory
# vector.
assert torch.allclose(idle(batch.tokens)[0], whole, atol=1e-4)
print("without queries, keys and positions no logit changes by more than 0.001")

# 2. Disturb the memory by a third of the smallest distance between two of the sixty points, once
#    within the four dimensions of the cards, once across them. How far are the cards moved by that
#    after one step? What does this say about very long sequences?

# @title Solution
plane = torch.linalg.svd(f, full_matrices=False)[2][:4]
nearest = torch.pdist(f).min()
tokens = torch.randint(60, (6000, 1), generator=generator)


def after(states: Tensor) -> Tensor:
    """The part in the four dimensions, one step later."""
    _, memory = model(tokens, Memory((states + centre).float()[:, None], config))
    return F.layer_norm(memory.m[:, 0], (D,)).double() @ plane.T


states, noise = f.repeat(100, 1), torch.randn(6000, D, generator=generator).double()
inside = noise @ plane.T @ plane
left = {}
for name, push in {"within": inside, "across": noise - inside}.items():
    push = F.normalize(push) * nearest / 3
    moved = (after(states + push) - after(states)).norm(dim=1).mean()
    left[name] = (moved / (nearest / 3)).item()
# What is not about cards moves them less. A misplaced card stays nearly as misplaced as it was: the
# numbers are not rounded to the nearest of the five, so small errors add up, step after step.
assert left["within"] > 0.6 and left["across"] < 0.4
print("after a step, of a push within the four dimensions more than 60 % is found in them,")
print("of one across them less than 40 %")

# 3. Are the five numbers good ones? The more two arrangements differ, the safer they are from being
#    mistaken for each other. Compare the smallest distance between two with that for five numbers
#    drawn at random.

# @title Solution
def safety(w: Tensor) -> Tensor:
    """The smallest squared distance of two arrangements, for sets of five numbers `(N, 5)`."""
    w = w - w.mean(1, keepdim=True)
    w = w / w.norm(dim=1, keepdim=True)
    return (w[:, where[1:]] - w[:, None]).pow(2).sum(-1).min(1).values


drawn = safety(torch.randn(20_000, 5, generator=generator).double())
found = safety(w[None]).item()
assert (drawn < found).double().mean() > 0.99 and found > 0.9 * drawn.max()
print("better than 99 % of 20,000 random choices")

# 4. Train on `"s5"`, all 120 permutations, or on `"z60"`, sums modulo 60, which have only
#    representations of dimension 1 and 2, one for each speed of a hand on a clock. What do you
#    expect to find in the memory? (`taught` takes another task and another configuration.
#    `"s5"` has a vocabulary of 120, which `means` and `account` have to know too.)
