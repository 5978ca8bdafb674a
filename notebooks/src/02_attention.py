# # Attention over a memory
#
# One step of a Feedback Transformer asks one question. The past answers with a handful of vectors,
# one for each earlier step. Which of them should the step listen to, and does it matter how long
# ago they were written?
#
# We build this attention from tensors small enough to print, one term at a time, and end with the
# attention of the package, which agrees with ours up to rounding.

# @title Imports
import math

import matplotlib.pyplot as plt
import torch

from feedback.support.figures import use_style

use_style()
torch.manual_seed(0)
torch.set_printoptions(precision=3, sci_mode=False)

# ## One query, five slots
#
# Sizes first: one sequence ($B = 1$), two heads, heads four wide, and a memory of five slots. The
# state of the present step, `z`, is one vector; the memory `m` has a vector for each slot, the
# oldest first. The symbols are those of the [notation](../../docs/pages/notation.md).

B, S, D, H, K = 1, 5, 8, 2, 4
z = torch.randn(B, D)
m = torch.randn(B, S, D)
print(z.shape, m.shape)

# A query says what the present step is looking for. A key says what a slot contains, and a value is
# what the slot hands over. All three are computed by linear maps and split into heads.

W_q, W_k, W_v = (torch.randn(H * K, D) / math.sqrt(D) for _ in range(3))
q = (z @ W_q.T).view(B, H, K)
k = (m @ W_k.T).view(B, S, H, K).transpose(1, 2)
v = (m @ W_v.T).view(B, S, H, K).transpose(1, 2)
print("q", tuple(q.shape), " k", tuple(k.shape), " v", tuple(v.shape))

# The score of a slot is how well its key fits the query, $q^\top k_j / \sqrt{K}$. A parallel
# Transformer would have a *matrix* of scores here, one row for each step. A recurrence has one row:
# every other step is either over or has not begun.

content = torch.einsum("bhk,bhsk->bhs", q, k)
attn = (content / math.sqrt(K)).softmax(-1)
print(attn[0])

# Each row sums to one. Head 0 prefers one slot, head 1 treats them nearly alike; with random
# parameters that means nothing yet.
#
# ## What this attention cannot see
#
# Shuffle the memory. Nothing changes: each slot gets the same attention weight, wherever it stands.

order = torch.tensor([3, 0, 4, 1, 2])
shuffled = (torch.einsum("bhk,bhsk->bhs", q, k[:, :, order]) / math.sqrt(K)).softmax(-1)
assert torch.allclose(shuffled, attn[:, :, order])
change = (shuffled - attn[:, :, order]).abs().max()
print(f"by the shuffle an attention weight changes by {change:.5f} at most")

# Attention that cannot tell the last step from the first is of little use to a recurrence. The
# usual remedy is to add a vector for the *position* to every input. But our memory slides: the slot
# that was the newest a moment ago is now the second newest, and its stored key cannot change to say
# so. So what attention needs is not where a slot stands, but how long ago it was written: its
# **distance** $d = t - j$.
#
# ## Four terms
#
# Transformer-XL spells out what a score may depend on: what the slot holds and how long ago it was
# written, each of them either together with the query or independently of it:
#
# $$\mathrm{score}_j = \frac{1}{\sqrt{K}} \Big( q^\top k_j + u^\top k_j + q^\top p_{t-j} + s_{t-j}
#   \Big)$$
#
# Each head has a vector $p_d$ and a number $s_d$ for each distance, and one vector $u$. The package
# starts them at zero; we fill them with random numbers, so that there is something to see.

mem_len = 5
u = torch.randn(H, K)
p = torch.randn(mem_len, H, K)  # oldest first, like the memory: row -d is distance d
s = torch.randn(mem_len, H)

terms = {
    r"$q^\top k_j$": torch.einsum("bhk,bhsk->bhs", q, k),
    r"$u^\top k_j$": torch.einsum("hk,bhsk->bhs", u, k),
    r"$q^\top p_d$": torch.einsum("bhk,shk->bhs", q, p),
    r"$s_d$": s.T.expand(B, H, S),
}
scores = sum(terms.values()) / math.sqrt(K)
print(scores[0])

# Each head has four short rows, one for each term, and their sum. Read the picture from left to
# right: content, content independent of the query, distance, distance independent of the query.

# @title Drawing code
rows = {**terms, "sum": scores * math.sqrt(K)}
limit = math.ceil(max(term.abs().max().item() for term in rows.values()))
fig, axes = plt.subplots(1, 5, figsize=(7.5, 2), sharey=True, layout="constrained")
for ax, (name, term) in zip(axes, rows.items(), strict=True):
    image = ax.imshow(term[0], cmap="RdBu", vmin=-limit, vmax=limit)
    ax.set_title(name, fontsize=11)
    ax.set_xticks(range(S), [str(d) for d in range(S, 0, -1)])
    ax.set_yticks(range(H))
axes[0].set_ylabel("head")
axes[2].set_xlabel("distance $d$ (steps)")
fig.colorbar(image, ax=axes, ticks=range(-6, 7, 3), label="score × √K")
# caption: The four terms of the score and their sum, for one query and five slots.
# alt: Five heat maps side by side, two heads by five distances: the four terms of the score, and
# their sum. The second and the fourth have the same values whatever the query is.
plt.show()

# Now the order matters. If the memory is shuffled, the contents move and the distances stay.

moved = torch.einsum("bhk,bhsk->bhs", q + u, k[:, :, order])
moved = (moved + torch.einsum("bhk,shk->bhs", q, p) + s.T) / math.sqrt(K)
assert not torch.allclose(moved, scores[:, :, order])
change = (moved - scores[:, :, order]).abs().max()
print(f"by the shuffle a score changes by up to {change:.1f}")

# Nothing here is an absolute position. When the memory slides on by one step, the rows of $p$ and
# $s$ stay where they are: they belong to distances. That is why a model trained with `mem_len`
# slots can read a text of any length.
#
# ## The same in the package
#
# Below is the whole class, as it stands in [attention](../../feedback/attention.py). Compare its
# `scores` with our four terms: $q$ and $u$ are added first, since both are multiplied by the same
# keys, and that saves a product.

from torch import Tensor, nn

from feedback import ModelConfig

# Besides its imports the class needs only the sizes of the model, which `config` holds. (Editing
# the cell changes this notebook and not the package.)

from feedback.attention import FeedbackAttention  # shown

# Give the class our numbers, and compare its scores with ours.

config = ModelConfig(vocab_size=2, d_model=D, n_layers=1, n_heads=H, mem_len=mem_len)
module = FeedbackAttention(config)
with torch.no_grad():
    module.query.weight.copy_(W_q)
    module.query_bias.copy_(u)
    module.pos_key.copy_(p)
    module.pos_bias.copy_(s)
assert torch.allclose(module.scores(q, k), scores, atol=1e-6)
difference = (module.scores(q, k) - scores).abs().max()
print(f"scores up to {scores.abs().max():.1f}, largest difference {difference:.5f}")

# The output of a head is a mean of the values, weighted by the attention. The heads are placed side
# by side, and one more linear map follows.

heads = torch.einsum("bhs,bhsk->bhk", scores.softmax(-1), v)
ours = heads.flatten(1) @ module.output.weight.T + module.output.bias
assert torch.allclose(module(z, k, v), ours, atol=1e-6)
difference = (module(z, k, v) - ours).abs().max()
print(f"outputs up to {ours.abs().max():.1f}, largest difference {difference:.5f}")

# The class shown above was a copy. Import the original, give it our numbers, and try something
# else: what if only three slots are filled so far? They stand at distances 3, 2 and 1, so the class
# has to take the *last* three rows of $p$ and $s$. In our own computation, the three newest slots
# keep the scores they had.

import feedback

imported = feedback.attention.FeedbackAttention(config)
imported.load_state_dict(module.state_dict())
heads = torch.einsum("bhs,bhsk->bhk", scores[:, :, -3:].softmax(-1), v[:, :, -3:])
ours = heads.flatten(1) @ module.output.weight.T + module.output.bias
theirs = imported(z, k[:, :, -3:], v[:, :, -3:])
assert torch.allclose(theirs, ours, atol=1e-6)
difference = (theirs - ours).abs().max()
print(f"three slots: outputs up to {ours.abs().max():.1f}, largest difference {difference:.5f}")

# ## Attention that has learnt
#
# So far the parameters were random. The package comes with a model that has read Shakespeare. In
# each of its layers, how much attention does a distance get, whatever the slot holds? With $q$ and
# $k$ at zero only the last of the four terms is left, and its softmax is a preference for
# distances.

from feedback import FeedbackLM

trained = FeedbackLM.from_pretrained("tiny_shakespeare")
shown = 16

# @title Drawing code
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
preference = []
looks = zip("os^D", ("C0", "C5", "C3", "C4"), strict=True)
for l, (marker, colour) in enumerate(looks):
    learnt = trained.transformer.layers[l].attn
    s_d = learnt.pos_bias.detach() / math.sqrt(learnt.d_k)
    preference.append(s_d.softmax(0).mean(1).flip(0))
    style = {"marker": marker, "color": colour, "markersize": 4, "label": f"layer {l + 1}"}
    ax.plot(range(1, shown + 1), preference[-1][:shown], **style)
ax.axhline(1 / len(s_d), color="0.5", linestyle=":", label="no preference")
ax.set_ylim(0, 0.031)
ax.set_xlabel("distance $d$ (characters)")
ax.set_ylabel("share of attention")
ax.legend(frameon=False, ncols=3, loc="lower center", columnspacing=1)
# caption: The share of attention that each distance gets from its bias alone, in the trained model.
# alt: Curves for the four layers of the trained model: the share of attention that a distance gets
# by its bias alone, from one to sixteen characters, on an axis that begins at zero. At small
# distances all four lie above the line of no preference, by two fifths at most, and at sixteen
# they have come down to it, or nearly.
plt.show()

# Before training every distance got the same share, 1 in 48. After training the near ones get more,
# in every layer, but surprisingly little more: without any preference the eight nearest characters
# together would get a sixth of the attention, and with it they get not much more than that.

assert 1.3 < torch.stack(preference).max() * 48 < 1.45
assert (torch.stack(preference)[:, 15] * 48 - 1).abs().max() < 0.05
for l, share in enumerate(preference, 1):
    near = share[:8].sum().item()
    assert 8 / 48 < near < 0.22
    print(f"layer {l}: the 8 nearest get {near:.1%}; without a preference {8 / len(share):.1%}")

# So this number alone does not make the model look only a little way back. The model does look at
# its last few characters, as [inside a trained model](../../docs/pages/inside.md) shows, but it
# does so because of the other terms.
#
# ## Exercises
#
# 1. The term $u^\top k_j$ looks useless: it does not depend on the query. Show that a bias on the
#    query, $W_q z + b$, does the same work and something more. What else would $b$ change?

# @title Solution
# $(q + b)^\top (k_j + p_d)$ has the terms $b^\top k_j$, which acts like $u$, and $b^\top p_d$, a
# number for each distance, which acts like $s$. A bias would be both at once, tied together.
b = torch.randn(H, K)
biased = torch.einsum("bhk,bhsk->bhs", q + b, k) + torch.einsum("bhk,shk->bhs", q + b, p) + s.T
split = torch.einsum("bhk,bhsk->bhs", q + b, k) + torch.einsum("bhk,shk->bhs", q, p)
split = split + (s + torch.einsum("hk,shk->sh", b, p)).T
assert torch.allclose(biased, split, atol=1e-5)
difference = (biased - split).abs().max()
print(f"a bias is u = b, and s_d + b·p_d: largest difference {difference:.4f}")

# 2. Why do keys have no bias? Add one constant vector to every key and see what the softmax makes
#    of it. And what would become of a bias on the values?

# @title Solution
# $q^\top c$ is the same for every slot, and adding the same number to all inputs of a softmax does
# not change its output. A constant on the values comes out as it went in, since the weights sum to
# one: it is a bias of the output.
c = torch.randn(H, 1, K)
with_c = (torch.einsum("bhk,bhsk->bhs", q, k + c) / math.sqrt(K)).softmax(-1)
assert torch.allclose(with_c, attn, atol=1e-6)
print(f"a constant on all keys changes attention by {(with_c - attn).abs().max():.5f} at most")
out, out_c = (torch.einsum("bhs,bhsk->bhk", attn, values) for values in (v, v + c))
assert torch.allclose(out_c - out, c.squeeze(1).expand_as(out), atol=1e-6)
print(f"on all values it is added to the output, up to {(out_c - out - c[:, 0]).abs().max():.5f}")

# The vectors in this memory were random. Where do real ones come from? From all layers of a step at
# once. That is the next notebook, on [the memory](03_memory.py).
