# # A group in the memory
#
# Five cards lie on a table. There are 60 shuffles that amount to an even number of swaps. Number
# them from 0 to 59, in any order, and read out one number after another. After each: what has become
# of the cards? That is again one of 60 arrangements, with the same numbers.
#
# A Feedback Transformer learns this here, live, in a minute. Nobody tells it about cards. It is
# given numbers for the shuffles and numbers for the arrangements, and one vector of memory to get
# from one step to the next. What will it write there?

from dataclasses import replace

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feedback import FeedbackLM, ModelConfig
from feedback.experiments.course import Course, teach
from feedback.experiments.groups import WordProblem, elements, table
from feedback.experiments.rivals import RIVALS
from feedback.memory import Memory

plt.style.use("tableau-colorblind10")
plt.rcParams["figure.dpi"] = 120
torch.set_num_threads(1)  # a model this small gains nothing from more

# ## Five cards
#
# Follow six shuffles by hand. A shuffle is a list of five places: where the card at each place
# goes.

shuffles, task = elements("a5"), WordProblem("a5")
batch = task.draw(1, 6, torch.Generator().manual_seed(0))
cards = list("ABCDE")
for t, token in enumerate(batch.tokens[0].tolist()):
    moved = [""] * 5
    for place, card in enumerate(cards):
        moved[shuffles[token][place]] = card
    cards = moved
    label = shuffles.index(tuple(cards.index(card) for card in "ABCDE"))
    print(f"shuffle {token:2} -> {' '.join(cards)}, arrangement {label:2}")
    # the first label, which is the first token itself, is not asked for
    assert t == 0 or label == batch.targets[0, t]

# The labels of the package's [word problem](../../feedback/experiments/groups.py) are the same. In
# the language of algebra the shuffles are the *group* $A_5$, and the label is the product
# $y_t = x_t\, y_{t-1}$ of all shuffles so far.
#
# Why these 60, and not 60 numbers to be added up on a clock? A sum can be computed in a tree, and
# in many groups, the *solvable* ones, the product can be taken apart into a few sums. $A_5$ is the
# smallest group in which it cannot. No way is known for a parallel model of fixed depth to keep up
# with it at every length. With feedback it takes one multiplication a step.
#
# ## Teach it
#
# Two layers, a width of 64, and a memory of **one slot**: a step sees what the step before wrote,
# and nothing else of the past. Every contestant takes the same
# [course](../../feedback/experiments/course.py). It begins with sequences of two steps, which are
# nothing but the table of 3,600 products, and makes them half as long again whenever 95 % of the
# answers are right, up to 16 steps.

config = ModelConfig(vocab_size=60, d_model=64, n_layers=2, n_heads=4, d_ff=256, mem_len=1)
course = Course(
    tokens=3_000_000, batch_tokens=2048, seq_len=16, ready=0.95, learning_rate=3e-3, decay=0.5
)


def taught(who: str, course: Course) -> tuple[nn.Module, list[dict]]:
    """A contestant after the course, and how it went."""
    torch.manual_seed(1)
    model = RIVALS[who](config)
    curve = teach(model, task, course, seed=1)
    return model.eval(), curve


model, curve = taught("feedback", course)
tokens = [row["tokens"] / 1e6 for row in curve]
fig, axes = plt.subplots(2, 1, figsize=(7, 3.6), layout="constrained", sharex=True)
axes[0].plot(tokens, [100 * row["accuracy"] for row in curve])
axes[0].set_ylabel("right answers (%)")
axes[0].set_ylim(0, 103)
axes[1].step(tokens, [row["seq_len"] for row in curve], color="C1", where="pre")
axes[1].set_ylabel("length (steps)")
axes[1].set_yticks([2, 5, 8, 12, 16])
axes[1].set_xlabel("tokens read in training (millions)")
assert curve[9]["accuracy"] < 0.1 and curve[-1]["accuracy"] > 0.98
assert curve[-1]["seq_len"] == 16
# alt: Two curves over three million tokens. The share of right answers stays at a few per cent for
# the first half million, then jumps to nearly 100, and dips each time that the sequences in the
# panel below become longer: 2, 3, 5, 8, 12 and at last 16 steps.
plt.show()

# For a long time nothing happens, and then everything does. Once the table is known, the longer
# sequences cost little more: each step is another use of the same table.
#
# ## Beyond the course
#
# Now up to 64 steps, four times the length of the course, and next to ours two rivals: a GRU on the
# same course, and a parallel Transformer, which has only half of it to save your time.

gru, _ = taught("gru", course)
parallel, far = taught("transformer_2", replace(course, tokens=course.tokens // 2))
_ = torch.set_grad_enabled(False)


def share(model: nn.Module, T: int) -> Tensor:
    """The share of right answers at each step after the first, over 512 new sequences."""
    batch = task.draw(512, T, torch.Generator().manual_seed(2))
    return (model(batch.tokens)[0].argmax(-1) == batch.targets)[:, 1:].double().mean(0)


names = {"with feedback": model, "GRU": gru, "parallel Transformer": parallel}
right = {name: share(contestant, 64) for name, contestant in names.items()}
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for name, style in zip(names, ("-", "--", "-."), strict=True):
    ax.plot(range(2, 65), 100 * right[name], style, label=name)
ax.axvline(16, color="0.5", linestyle=":", label="end of the course")
ax.set_xlabel("step")
ax.set_ylabel("right answers (%)")
ax.set_ylim(0, 103)
ax.legend(frameon=False, loc="center right")
# alt: Right answers at each of 64 steps. With feedback close to 100 per cent throughout. The
# parallel Transformer is right at step 2 and is guessing from step 5 on.
plt.show()

# Words to come.

ours, theirs = right["with feedback"], right["parallel Transformer"]
assert ours[:15].min() > 0.98 and ours.min() > 0.85
assert theirs[0] > 0.9 and theirs[4:].max() < 0.2 and far[-1]["seq_len"] < 8
print("with feedback, right up to step 16 more than 98 %:", bool(ours[:15].min() > 0.98))
print("and at every step up to 64 more than 85 %:", bool(ours.min() > 0.85))
print("parallel, less than 20 % from step 6 on:", bool(theirs[4:].max() < 0.2))

# ## What the vector depends on
#
# So the arrangement must be in the memory. What else is? Let the model read 1024 new sequences and
# collect what it has in its memory after each step. (A memory vector is normalised before it is
# read. So we normalise it too, and check that the model does not notice.)

D, T = config.d_model, 16


def remember(model: nn.Module, tokens: Tensor) -> Tensor:
    """The memory after each step, normalised, `(B, T, D)`."""
    memory, seen = None, []
    for t in range(tokens.shape[1]):
        _, memory = model(tokens[:, t : t + 1], memory)
        seen.append(F.layer_norm(memory.m[:, 0], (D,)))
    return torch.stack(seen, dim=1)


generator = torch.Generator().manual_seed(3)
batch = task.draw(1024, T, generator)
m = remember(model, batch.tokens)
first, rest = batch.tokens[:, :9], batch.tokens[:, 9:]
again = model(rest, Memory(m[:, 8:9], config))[0]
assert torch.allclose(again, model(batch.tokens)[0][:, 9:], atol=1e-2)
print("cut after nine steps and continued from the normalised vector, the same answers:", True)

# Split the variance of these vectors into a part for each product $y_t$, a part for each last token
# $x_t$, and the rest. (The two are independent from the second step on, so the parts add up.) And
# fit three linear probes, by least squares: they are to read the product, the last token and the
# token before it, on sequences that they were not fitted on. The control is the same network before
# training.

late = slice(2, T)
y, x, before = batch.targets[:, late], batch.tokens[:, late], batch.tokens[:, 1 : T - 1]
test = (torch.arange(1024) >= 768).repeat_interleave(T - 2)


def means(z: Tensor, labels: Tensor) -> Tensor:
    """The mean of the vectors with each label, `(60, D)`."""
    one = F.one_hot(labels, 60).double()
    return one.T @ z / one.sum(0)[:, None]


def fit(z: Tensor, wanted: Tensor) -> Tensor:
    """What a linear probe, fitted on other sequences, reads from the vectors of the test."""
    z = F.pad(z, (0, 1), value=1.0)
    gram = z[~test].T @ z[~test]
    ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram)).double()
    return z[test] @ torch.linalg.solve(gram + ridge, z[~test].T @ wanted[~test])


def account(model: nn.Module) -> tuple[list[float], list[float]]:
    """The shares of the variance, and those that the probes read correctly."""
    z = remember(model, batch.tokens)[:, late].flatten(0, 1).double()
    z = z - z.mean(0)
    product, last = (means(z, labels.flatten())[labels.flatten()] for labels in (y, x))
    parts = [part.pow(2).sum() / z.pow(2).sum() for part in (product, last, z - product - last)]
    read = []
    for labels in (y.flatten(), x.flatten(), before.flatten()):
        guess = fit(z, F.one_hot(labels, 60).double()).argmax(-1)
        read.append((guess == labels[test]).double().mean().item())
    return [part.item() for part in parts], read


torch.manual_seed(1)
untrained = FeedbackLM(config).eval()
accounts = {"before training": account(untrained), "after training": account(model)}
fig, axes = plt.subplots(1, 2, figsize=(7.5, 2.9), layout="constrained", width_ratios=(3, 4))
colors = {"the product": "C0", "the last token": "C1", "the rest": "0.8"}
for n, (name, (parts, read)) in enumerate(accounts.items()):
    below = 0.0
    for part, (what, color) in zip(parts, colors.items(), strict=True):
        axes[0].bar(name, 100 * part, 0.6, below, color=color, label=None if n else what)
        below += 100 * part
    places = [i + 0.4 * n - 0.2 for i in range(3)]
    axes[1].bar(places, [100 * r for r in read], 0.36, color=("0.7", "C0")[n], label=name)
axes[0].set_xlabel("what the vector depends on")
axes[0].set_ylabel("share of the variance (%)")
axes[0].set_ylim(0, 148)
axes[0].set_yticks(range(0, 101, 25))
axes[0].legend(frameon=False, fontsize=8, loc="upper left")
axes[1].axhline(100 / 60, color="0.4", linestyle=":", label="guessing")
axes[1].set_xticks(range(3), ["product", "last token", "token before"])
axes[1].set_xlabel("what a linear probe is to read")
axes[1].set_ylabel("read correctly (%)")
axes[1].set_ylim(0, 148)
axes[1].set_yticks(range(0, 101, 25))
axes[1].legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
(shares_before, read_before), (shares_after, read_after) = accounts.values()
assert shares_before[1] > 0.9 and shares_after[0] > 0.6 and shares_after[2] < 0.1
assert read_before[0] < 0.05 < 0.5 < read_before[2] and read_after[2] < 0.05
# alt: Two pictures, before and after training. Stacked bars of variance: before, nearly all belongs
# to the last token; after, four fifths to the product, a seventh to the last token, hardly anything
# to the rest. Bars for the probes: the last token is always read. The product is never read before
# training and in about half of the cases after; the token before it is read in most cases before
# training and never after.
plt.show()

# Before training the vector is an echo: it holds the last token and a trace of the one before.
# Training has turned this round. Most of the vector is now the product. The last token is still
# there, because the embedding is one of the layers that are mixed into the memory. The token before
# it is gone without a trace: of two histories with the same product, nothing is left by which to
# tell them apart.
#
# But something is odd. The model answers all but perfectly, and yet the probe reads the product
# in little more than half of the cases. Sixty labels side by side would be easy to read. It must
# be written in some other way.

print("variance that is the product, over 60 %:", shares_after[0] > 0.6)
print("neither product nor last token, under 10 %:", shares_after[2] < 0.1)
print("token before the last, read after training in under 5 %:", read_after[2] < 0.05)

# ## Is the group there?
#
# For each element $g$ of the group, take the mean $f(g)$ of all memory vectors with this product
# (and subtract the mean of all). That makes 60 points in 64 dimensions. If they are only labels,
# any arrangement of them is as good as any other. If the *group* is there, the points should be
# arranged by it. Draw the cosine between $f(g)$ and $f(ga)$: one row for each $g$, one column for
# each $a$. And next to it that between $f(g)$ and $f(ag)$. We sort the columns, no more.

product = table("a5")
late_m, late_y = m[:, late].flatten(0, 1).double(), y.flatten()
centre = late_m.mean(0)
f = means(late_m, late_y) - centre
cosine = F.normalize(f) @ F.normalize(f).T
every = torch.arange(60)[:, None]
grids = {"f(g) and f(ga)": cosine[every, product], "f(g) and f(ag)": cosine[every, product.T]}
explained = {}
fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.7), layout="constrained", sharey=True)
for ax, (name, grid) in zip(axes, grids.items(), strict=True):
    drawn = ax.imshow(grid[:, grid.mean(0).argsort(descending=True)], cmap="RdBu", vmin=-1, vmax=1)
    ax.set_title(f"cosine of {name}", fontsize=10)
    ax.set_xlabel("a (sorted)")
    others = grid[:, 1:]  # number 0 is the identity, where the cosine is 1
    explained[name] = (others.var(0, correction=0).mean() / others.var(correction=0)).item()
axes[0].set_ylabel("g")
fig.colorbar(drawn, ax=axes)
same, other = (1 - left for left in explained.values())
assert same > 0.9 and other < 0.6
# alt: Two heat maps of 60 times 60 cosines. On the left there are clean vertical stripes: all rows
# are the same. On the right there are none.
plt.show()

# On the left all rows are the same. So $\cos(f(xg), f(xga)) = \cos(f(g), f(ga))$ for every $x$: when
# a step multiplies by $x$ from the left, as it does here, the whole cloud of points keeps its
# angles. It turns like a rigid body. This is more than sixty labels.

print("cos(f(g), f(ga)) depends on a alone, over 90 % of its variance:", same > 0.9)
print("cos(f(g), f(ag)) does not, under 60 %:", other < 0.6)

# ## In how many dimensions?
#
# A group that acts by turning something is a *representation*, and all representations of a finite
# group are put together from a few irreducible ones. $A_5$ has five. Their dimensions $d$ are 1, 3,
# 3, 4 and 5, and $\sum d^2 = 60$. The trivial one does nothing. In the two of dimension 3 the group
# turns an icosahedron. In dimension 4 it moves five numbers whose sum is zero. In dimension 5 it
# moves six numbers whose sum is zero, one on each axis of the icosahedron.
#
# As Fourier analysis splits a signal into frequencies, the characters $\chi_\rho$ split a function
# on the group into the parts that belong to each representation:
#
# $$f_\rho(g) = \frac{d_\rho}{60} \sum_k \chi_\rho(g k^{-1})\, f(k)$$
#
# A character has one value for each of the five kinds of elements: the identity, two swaps, cycles
# of three, and two kinds of cycles of five, in which the golden ratio appears.

inverse = product.argmin(1)
fixed = [sum(i == j for i, j in enumerate(p)) for p in shuffles]
cycle = shuffles.index((1, 2, 3, 4, 0))
alike = set(product[product[:, cycle], inverse].tolist())  # $x c x^{-1}$
kinds = [{5: 0, 1: 1, 2: 2, 0: 3 if g in alike else 4}[fixed[g]] for g in range(60)]
golden = (1 + 5**0.5) / 2
characters = torch.tensor(
    [
        [1, 1, 1, 1, 1],
        [3, -1, 0, golden, 1 - golden],
        [3, -1, 0, 1 - golden, golden],
        [4, 0, 1, -1, -1],
        [5, 1, -1, 0, 0],
    ],
    dtype=torch.float64,
)[:, kinds]
quotients = product[:, inverse]  # $g k^{-1}$
dims = characters[:, 0]
P = dims[:, None, None] / 60 * characters[:, quotients]
assert torch.allclose(P @ P, P) and torch.allclose(P.sum(0), torch.eye(60).double())
assert [round(p.trace().item()) for p in P] == [1, 9, 9, 16, 25]
print("five projections, onto", [round(p.trace().item()) for p in P], "of 60 dimensions")

# For how much of $f$ does each of them account?

def energies(f: Tensor) -> Tensor:
    """The share of each representation in what is not constant."""
    parts = (P[1:] @ f).pow(2).sum((1, 2))
    return parts / parts.sum()


vague = means(remember(untrained, batch.tokens)[:, late].flatten(0, 1).double(), late_y)
found = {"after training": energies(f), "before training": energies(vague)}
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for n, (name, energy) in enumerate(found.items()):
    places = [i - 0.4 * n + 0.2 for i in range(4)]
    ax.bar(places, 100 * energy, 0.36, color=("C0", "0.7")[n], label=name)
ax.plot(range(4), 100 * dims[1:] ** 2 / 59, "k_", markersize=40, label="random points")
ax.set_xticks(range(4), ["3", "3'", "4", "5"])
ax.set_xlabel("representation, by its dimension")
ax.set_ylabel("share (%)")
ax.legend(frameon=False, loc="upper left", markerscale=0.4)
assert (found["before training"] - dims[1:] ** 2 / 59).abs().max() < 0.06
assert found["after training"][2] > 0.9
spread = torch.linalg.svdvals(f).pow(2)
four = (spread[:4].sum() / spread.sum()).item()
assert four > 0.9 and spread[3] > 0.4 * spread[0]
# alt: Bars for the representations of dimension 3, 3, 4 and 5. Before training they are those of
# random points: 15, 15, 27 and 42 per cent. After training nearly everything belongs to the one of
# dimension 4.
plt.show()
print("share of the representation of dimension 4, over 90 %:", bool(found["after training"][2] > 0.9))
print("and 4 of the 64 dimensions hold over 90 % of the variance:", four > 0.9)

# There it is. The network had 64 dimensions, and could have used 59 of them to keep 60 points apart.
# It uses four, and one representation: the one in which the group moves **five numbers whose sum is
# zero**. Five numbers, in five places.
#
# ## The cards
#
# If that is so, then there is a number $w_i$ for each card $i$, and a direction $E_j$ for each place
# $j$, and the memory is
#
# $$f(g) = \sum_i w_i\, E_{g(i)}$$
#
# with the card's number along the direction of its place. Average $f(g)$ over all $g$ that take card
# $i$ to place $j$. What remains is $\frac{5}{4} w_i E_j$, a product of a number and a direction, so
# both can be read off.

where = torch.tensor(shuffles)  # the place of each card, `(60, 5)`
held = F.one_hot(where, 5).double()  # is card i at place j?
average = torch.einsum("gij,gd->ijd", held, f) / held.sum(0)[..., None]
u, s, _ = torch.linalg.svd(average.flatten(1), full_matrices=False)
w = u[:, 0] / u[:, 0].abs().max()
E = 0.8 * torch.einsum("i,ijd->jd", w, average) / w.pow(2).sum()
laid = torch.einsum("i,gid->gd", w, E[where])
gram = E @ E.T / E.pow(2).sum(1).mean()
missing = ((f - laid).pow(2).sum() / f.pow(2).sum()).item()
assert missing < 0.1 and (s[0] ** 2 / s.pow(2).sum()) > 0.95
print(missing, s, w.sort().values, gram)

# Words.

target = w[where.argsort(1)][late_y]  # the number at each place
numbers = fit(late_m - centre, target)
by_size = w.argsort()
guess = torch.empty(len(numbers), 5, dtype=torch.long)
guess.scatter_(1, numbers.argsort(1), by_size.expand_as(guess))  # the card at each place
seen = where.argsort(1)[late_y][test]
sorted_right = (guess == seen).all(1).double().mean().item()
print(sorted_right)
fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.1), layout="constrained", width_ratios=(5, 3))
few = slice(0, 400)
jitter = torch.rand(400, generator=generator) * 0.6 - 0.3
for rank, (card, color) in enumerate(zip(by_size.tolist(), ("C0", "C1", "C2", "C3", "C5"), strict=True)):
    for place in range(5):
        here = seen[few, place] == card
        label = f"card {'ABCDE'[card]}" if place == 0 else None
        axes[0].plot(numbers[few, place][here], place + 1 + jitter[here], ".", color=color, markersize=3, label=label)
axes[0].set_xlabel("number that a linear probe reads at the place")
axes[0].set_ylabel("place")
axes[0].invert_yaxis()
drawn = axes[1].imshow(gram, cmap="RdBu", vmin=-1, vmax=1)
axes[1].set_xticks(range(5), range(1, 6))
axes[1].set_yticks(range(5), range(1, 6))
axes[1].set_xlabel("place")
axes[1].set_ylabel("place")
fig.colorbar(drawn, ax=axes[1])
# alt: to come
plt.show()

# ## Put something else there

answers = product.T  # not used yet


def go_on(states: Tensor, arrangement: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """
    Continues from memory vectors, `(60, D)`, that hold arrangements, `(60, 5)`; returns the shares
    of right answers, and of right arrangements read from the memory.
    """
    B = 16
    x = torch.randint(60, (60 * B, steps), generator=torch.Generator().manual_seed(4))
    memory = Memory((states + centre).repeat(B, 1)[:, None].float(), config)
    now, answered, carried = arrangement.repeat(B, 1), [], []
    for t in range(steps):
        logits, memory = model(x[:, t : t + 1], memory)
        now = where[x[:, t]].gather(1, now)
        answered.append((where[logits[:, 0].argmax(-1)] == now).sum(1))
        m = F.layer_norm(memory.m[:, 0], (D,)).double() - centre
        numbers = m @ reader[:-1] + reader[-1]
        card = torch.empty_like(now).scatter_(1, numbers.argsort(1), by_size.expand_as(now))
        carried.append((card.argsort(1) == now).all(1))
    return torch.stack(answered), torch.stack(carried).double().mean(1)


z = F.pad(late_m - centre, (0, 1), value=1.0)
reader = torch.linalg.lstsq(z, target).solution
def mean(x): return (x == 5).double().mean(1)
for name, states in {"f": f, "only 4": P[3] @ f, "without 4": f - P[3] @ f, "laid": laid}.items():
    answered, carried = go_on(states, where, 8)
    print(name, mean(answered), carried)
swapped = where[:, [1, 0, 2, 3, 4]]
odd = torch.einsum("i,gid->gd", w, E[swapped])
answered, carried = go_on(odd, swapped, 16)
print(carried, torch.bincount(answered[0]))

# End.
