# # Looking inside a trained model
#
# A Feedback Transformer may write into its memory whatever it likes. It is only trained to predict
# the next character, and nobody tells it what to keep. So what does it keep, how far back does it
# look, and what is all that worth?
#
# We open the model that comes with the package and let it read text that it was not trained
# on. Some of what we find is not what we would have guessed.

# @title Imports
import math
import re
from collections import Counter
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from feedback import FeedbackLM
from feedback.data.text import split
from feedback.data.tiny_shakespeare import load_tiny_shakespeare
from feedback.data.tokenizer import Characters
from feedback.lm.pretrained import TRAINED, read_config
from feedback.memory import Memory
from feedback.support.figures import HEAT, use_style
from feedback.training.evaluate import evaluate

use_style()
_ = torch.set_grad_enabled(False)
torch.set_num_threads(1)  # a step is too little work to share

# The model was [trained](../../docs/runs/README.md) on windows of 64 characters from the first nine
# tenths of Tiny Shakespeare, each with an empty memory at its beginning. It now reads the last
# tenth.

model = FeedbackLM.from_pretrained("tiny_shakespeare")
tokenizer = Characters(read_config(TRAINED / "tiny_shakespeare")["characters"])
stack, config = model.transformer, model.config
L, H, D, mem_len = config.n_layers, config.n_heads, config.d_model, config.mem_len
text = load_tiny_shakespeare()
train, val, *_ = split(text, tokenizer)
val_text = text[len(train) :]
print(f"{len(val):,} characters; L = {L}, H = {H}, D = {D}, {mem_len} slots of memory")

# ## A model of glass
#
# The fast implementations do not show what happens on the way. So here is the recurrence once more,
# written so that everything can be inspected: the states of all layers, the attention of all heads,
# and the memory vectors.

def look(tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """
    Reads `tokens`, `(B, T)`. Returns the states `(L + 1, B, T, D)`, the attention
    `(L, B, T, H, mem_len)`, nearest slot last, and the memory vectors `(B, T, D)`.
    """
    B, T = tokens.shape
    states, m = torch.zeros(L + 1, B, T, D), torch.zeros(B, T, D)
    attn = torch.zeros(L, B, T, H, mem_len)
    k = v = torch.zeros(B, H, 0, config.head_dim)
    for t in range(T):
        x = states[0, :, t] = model.embedding(tokens[:, t])
        for l, layer in enumerate(stack.layers):
            if t > 0:
                q = layer.attn.query(layer.norm_attn(x)).unflatten(-1, (H, -1))
                a = layer.attn.scores(q, k).softmax(-1)
                attn[l, :, t, :, mem_len - a.shape[-1] :] = a
                o = torch.einsum("bhs,bhsk->bhk", a, v).flatten(1)
                x = x + layer.attn.output(o)
            x = x + layer.ff(layer.norm_ff(x))
            states[l + 1, :, t] = x
        m[:, t] = torch.einsum("l,lbd->bd", stack.mix.weight.softmax(0), states[:, :, t])
        ((new_k, new_v),) = stack.project(m[:, t])
        k = torch.cat([k, new_k.unsqueeze(2)], dim=2)[:, :, -mem_len:]
        v = torch.cat([v, new_v.unsqueeze(2)], dim=2)[:, :, -mem_len:]
    return states, attn, m


tokens = val[: 8 * 4000].view(8, 4000)[:, :192]
states, attn, m = look(tokens)
ours = model.head(stack.norm(states[-1]))
theirs, memory = model(tokens)
assert torch.allclose(ours, theirs, atol=1e-3) and torch.allclose(
    m[:, -mem_len:], memory.m, atol=1e-3
)
difference = (ours - theirs).abs().max()
print(f"logits up to {theirs.abs().max():.1f}, largest difference {difference:.3f}")

# ## What goes in, and what it is worth
#
# A memory vector is $m_t = \sum_l \alpha_l x_t^l$. The weights $\alpha_l$ can be read off. What a
# layer is *worth* is another question. To answer it, leave the layer out of the memory, let the
# others share its weight, and see by how much the loss rises. Then try the other extreme, a memory
# made of one layer alone.

def loss_with(alpha: Tensor) -> float:
    """The loss on some validation text, with `alpha` as the weights of the mix."""
    learned = stack.mix.weight.clone()
    stack.mix.weight.copy_(alpha.log())
    loss = evaluate(model, val[:6400], seq_len=64, batch_size=32)
    stack.mix.weight.copy_(learned)
    return loss


alpha, eye = stack.mix.weight.softmax(0), torch.eye(L + 1)
whole = loss_with(alpha)
without = [loss_with(alpha * (1 - eye[l]) / (1 - alpha[l])) for l in range(L + 1)]
alone = [loss_with(eye[l]) for l in range(L + 1)]
assert abs(whole - evaluate(model, val[:6400], seq_len=64, batch_size=32)) < 1e-4
length = states.norm(dim=-1).mean((1, 2))  # of $x^l$
print("             weight   weight times length   left out    alone (nats more)")
for l in range(L + 1):
    name, missed, only = f"layer {l}" if l else "embedding", without[l] - whole, alone[l] - whole
    size = alpha[l] * length[l]
    print(f"{name:11}{alpha[l]:8.2f}{size:22.1f}{round(missed, 2) + 0:11.2f}{only:9.2f}")

# The same in a picture:

# @title Drawing code
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained", sharey=True)
names = ["embedding", *(f"layer {l}" for l in range(1, L + 1))]
axes[0].barh(names, alpha)
axes[0].axvline(1 / (L + 1), color="0.4", linestyle=":")
axes[0].set_xlabel("weight in the memory (dotted: equal)")
axes[1].barh(names, [loss - whole for loss in without], color="C5")
axes[1].set_xlabel("cost of leaving it out (nats)")
axes[0].invert_yaxis()
assert alpha.argmax() == 0 and alpha[0] > 1.5 * alpha[4] and max(alpha[1], alpha[2]) < 0.05
assert without[4] - whole > without[0] - whole > 0.03 and max(without[1:3]) - whole < 0.005
assert max(alone) == alone[0] and min(alone) - whole > 0.1
assert length[4] > 3 * length[0] and alpha[4] * length[4] > 1.5 * alpha[0] * length[0]
# caption: The weight of each layer in the memory, and what it costs to leave that layer out.
# alt: Two pictures over the embedding and the four layers. Bars on the left show the weights in the
# memory: the embedding has nearly half, layers 3 and 4 a quarter each, layers 1 and 2 next to
# nothing. Bars on the right show the cost of leaving one out: most for layer 4, a little less for
# the embedding, half as much for layer 3, and nothing for layers 1 and 2.
plt.show()

# There are two things to notice. The states after layers 1 and 2 are hardly used as such, and are
# not missed. (What these layers have added is in the memory all the same: the states after layers 3
# and 4 contain it.) And the embedding has nearly twice the weight of layer 4, yet leaving out layer
# 4 costs more. A weight alone says little, since the states differ in length: that after layer 4 is
# more than three times as long as the embedding, so it puts more into the memory. No single layer
# will do, neither the embedding nor the top layer, which is what a recurrent network would
# remember. (This model was trained on the mix. One trained on a single layer would have adapted to
# it.)
#
# ## How far back it looks
#
# In the [notebook on attention](02_attention.py) we saw which distances a layer prefers by its bias
# $s_d$, and found that preference weak. Here is where it looks in real text.

real = attn[:, :, mem_len:].mean((1, 2, 3)).flip(-1)  # nearest first
bias = torch.stack([layer.attn.pos_bias / math.sqrt(config.head_dim) for layer in stack.layers])
bias = bias.softmax(1).mean(2).flip(-1)
assert torch.allclose(real.sum(-1), torch.ones(L), atol=1e-3)

# @title Drawing code
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for l, (marker, color) in enumerate(zip("os^D", ("C0", "C5", "C3", "C4"), strict=True)):
    label = f"layer {l + 1}"
    ax.loglog(range(1, mem_len + 1), real[l], color, marker=marker, markersize=3, label=label)
ax.loglog(range(1, mem_len + 1), bias.mean(0), "k:", label="by the bias alone (mean)")
ax.set_xticks([1, 2, 4, 8, 16, 32, 48], [1, 2, 4, 8, 16, 32, 48])
ax.minorticks_off()
ax.set_xlabel("distance (characters)")
ax.set_ylabel("share of attention")
ax.legend(frameon=False)
near, habit = real[:, :8].sum(-1), bias[:, :8].sum(-1)
assert near.min() > 0.77 and habit.max() < 0.22 and real[:, 31:].max() < 0.01
# caption: Where each layer looks in real text.
# alt: Share of attention against distance, both logarithmic. All four layers fall from between 0.3
# and 0.6 at one character to below 0.01 beyond thirty. The line for the bias alone is nearly flat.
plt.show()
print("layer                  ", *(f"{l:6}" for l in range(1, L + 1)))
print("to the 8 nearest slots ", *(f"{share:6.0%}" for share in near))
print("by the bias alone      ", *(f"{share:6.0%}" for share in habit))

# So the preference for near slots is not in $s_d$. Does it come through $q^\top k_j$, $u^\top k_j$
# or $q^\top p_d$? Take the last step of each row, with the keys that it sees, and
# compute the attention from one term at a time.

k = stack.project(m[:, -1 - mem_len : -1])[0][0].transpose(1, 2)
print("to the 8 nearest slots, by one term alone (%, rounded down)")
for l, layer in enumerate(stack.layers):
    q = layer.attn.query(layer.norm_attn(states[l, :, -1])).unflatten(-1, (H, -1))
    terms = {
        "q k": torch.einsum("bhk,bhsk->bhs", q, k),
        "u k": torch.einsum("hk,bhsk->bhs", layer.attn.query_bias, k),
        "q p": torch.einsum("bhk,shk->bhs", q, layer.attn.pos_key),
        "s": layer.attn.pos_bias.T.expand(len(q), -1, -1),
    }
    scores = sum(terms.values()) / math.sqrt(config.head_dim)
    assert torch.allclose(scores.softmax(-1), attn[l, :, -1], atol=1e-4)
    terms["mean q, p"] = torch.einsum("hk,shk->hs", q.mean(0), layer.attn.pos_key)[None]
    shares = {n: (x / math.sqrt(config.head_dim)).softmax(-1) for n, x in terms.items()}
    shares = {n: share[..., -8:].sum(-1).mean().item() for n, share in shares.items()}
    by_place, others = ("q p", "mean q, p"), ("q k", "u k", "s")
    assert min(shares[n] for n in by_place) > 0.8 and max(shares[n] for n in others) < 0.26
    print(f"layer {l + 1}", *(f"  {n} {int(100 * share):2}" for n, share in shares.items()))

# Eight slots of 48 are a sixth of them, and content alone, $q^\top k_j$ or $u^\top k_j$, gives them
# about that share. The preference for near slots comes from $q^\top p_d$. But not from what
# distinguishes one query from another: the mean query of each head, the same for all steps, prefers
# near slots as strongly. So it is a habit after all, kept in what the queries have in common and
# not in $s_d$.
#
# ## Is every slot worth having?
#
# The training windows have 64 characters and begin with an empty memory. A memory of 64 slots would
# then have one that no step of training ever reads, and others that are hardly read. (It was so in
# an earlier version of this model, and forgetting those slots made it better.) With 48 slots even
# the farthest is read by sixteen steps of each window. Is it worth reading? A shorter memory is the
# same model with fewer rows of $p$ and $s$:

def shortened(slots: int) -> FeedbackLM:
    """The same model with a memory of only `slots` slots."""
    lm = FeedbackLM(replace(config, mem_len=slots)).eval()
    ends = ("pos_key", "pos_bias")
    rows = {n: w[-slots:] if n.endswith(ends) else w for n, w in model.state_dict().items()}
    lm.load_state_dict(rows)
    return lm


few = (8, 16, 32, 40)
shorter = [evaluate(shortened(n), val[:6400], seq_len=64, batch_size=32) - whole for n in few]
assert shorter == sorted(shorter, reverse=True) and 0.06 < shorter[0] < 0.13 and shorter[-1] > 0
for n, cost in zip(few, shorter, strict=True):
    print(f"{n:2} slots instead of {mem_len} cost {cost:.3f} nats")

# Each shortening costs something, but the last slots are worth little: with eight slots, a sixth of
# its memory, the model loses a tenth of a nat.
#
# ## A head with an interest
#
# On average over their heads the layers look alike. The heads themselves do not. For each of the
# 16, how much of its attention falls on the last line break, wherever that is?

windows = tokens.unfold(1, mem_len, 1)[:, :-1]  # what a step can see, `(B, T - mem_len, mem_len)`
breaks = windows == tokenizer.encode("\n")[0]
last = breaks & (breaks.flip(-1).cumsum(-1).flip(-1) == 1)
seen = last.any(-1)
on_last = (attn[:, :, mem_len:] * last[:, :, None]).sum(-1)[:, seen].mean(1)
l, h = divmod(int(on_last.argmax()), H)
others = on_last.flatten().sort().values[-2].item()
assert (l, h) == (2, 1) and on_last[l, h] > 0.22 and others < 0.13
print("attention to the last line break:", end=" ")
print(f"layer {l + 1}, head {h + 1}: {on_last[l, h]:.0%}; the other 15 heads: {others:.0%} at most")

# Watch that head while it reads.

start = val_text.index("\n\nPETRUCHIO:\n", 2000) + 2
line = val_text[start : start + 30]
_, a, _ = look(tokenizer.encode(line)[None])
grid = torch.zeros(2, len(line), len(line))
for t in range(1, len(line)):
    grid[0, t, :t] = a[1, 0, t].mean(0)[-t:]
    grid[1, t, :t] = a[2, 0, t, 1][-t:]
assert torch.allclose(grid.sum(-1)[:, 1:], torch.ones(2, len(line) - 1), atol=1e-3)
first = line.index(" ") + 1  # of the second word of the speech
assert grid[1, first + 1 :, first].mean() > 5 * grid[1, first:, first - 1].mean()

# @title Drawing code
fig, axes = plt.subplots(1, 2, figsize=(8.5, 4.4), layout="constrained", sharey=True)
signs = [{"\n": "↵", " ": "·"}.get(c, c) for c in line]
for ax, image, title in zip(axes, grid, ("layer 2, mean", "layer 3, head 2"), strict=True):
    drawn = ax.imshow(image.sqrt(), cmap=HEAT, vmin=0, vmax=1)
    ax.set_xticks(range(len(line)), signs)
    ax.set_yticks(range(len(line)), signs)
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("looked at (character)")
axes[0].set_ylabel("reading (character)")
bar = fig.colorbar(drawn, ax=axes, ticks=[0, 0.5**0.5, 1])
bar.set_ticklabels(["0", "0.5", "1"])
bar.set_label("attention")
# caption: Two ways of looking back, on a speech of Petruchio.
# alt: Two triangular heat maps of attention over a speech of Petruchio, characters against
# characters. Layer 2 is a dark diagonal: the last few characters. Layer 3, head 2 has dark vertical
# stripes instead: one at the line break after the name, paler ones at first letters of words.
plt.show()

# The strong stripe on the right is the line break after the name, where the speech began. The
# weaker ones are the first letters of words: the one with which it all begins, and the B of
# Baptista.
#
# ## What a memory vector knows
#
# Now the memory itself. A *probe* is a linear map, fitted by least squares, that tries to read
# something off $m_t$: the present character, or the one before, or the eighth before. It is fitted
# on some rows of the text and judged on others. There are two controls. One is the same kind of
# probe on the embedding alone, which knows of the past only what the present character gives away.
# The other is fitted to shuffled answers.

from feedback.fast.sequence import sequence_forward

rows = val[: 48 * 1000].view(48, 1000)
x = model.embedding(rows).transpose(0, 1)
_, m = sequence_forward(stack, x, x.new_empty(0, *x.shape[1:]), None)
m, x = m.transpose(0, 1), x.transpose(0, 1)


def probe(features: Tensor, labels: Tensor, test: Tensor) -> float:
    """Fits on rows outside `test`, `(N,)`; returns the share of right answers on those inside."""
    f = torch.cat([features, torch.ones_like(features[:, :1])], dim=1).double()
    known, answers = f[~test], F.one_hot(labels)[~test].double()
    gram = known.T @ known
    ridge = 1e-3 * gram.diagonal().mean() * torch.eye(len(gram))
    weights = torch.linalg.solve(gram + ridge, known.T @ answers)
    return ((f[test] @ weights).argmax(-1) == labels[test]).double().mean().item()


some = slice(mem_len, 1000, 2)  # every second place, all with a full window
test_rows = (torch.arange(48) >= 36).repeat_interleave((1000 - mem_len) // 2)
back, right = (0, 1, 2, 3, 4, 6, 8, 12), {"memory": [], "embedding": [], "shuffled": []}
for d in back:
    labels = rows.roll(d, 1)[:, some].flatten()
    for name, features in (("memory", m), ("embedding", x)):
        right[name].append(probe(features[:, some].flatten(0, 1), labels, test_rows))
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
right["shuffled"] = [probe(m[:, some].flatten(0, 1), labels[order], test_rows)] * len(back)
for d, share in zip(back[:3], right["memory"], strict=False):
    print(f"{d} characters back: {share:.0%}")

# Here are all three probes in one picture.

# @title Drawing code
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for (name, share), style in zip(right.items(), ("C0o-", "C3s--", "C2:"), strict=True):
    ax.plot(back, [100 * s for s in share], style, markersize=4, label=name)
ax.set_xlabel("characters back")
ax.set_ylabel("read off correctly (%)")
ax.set_ylim(0, 102)
ax.legend(frameon=False)
assert right["memory"][0] > 0.98 and right["memory"][1] > 0.7 and right["embedding"][1] < 0.4
assert max(right["memory"][6:]) < 0.2 and max(right["shuffled"]) < 0.2
assert all(a - b < 0.03 for a, b in zip(right["memory"][6:], right["embedding"][6:], strict=True))
# caption: What a linear probe reads from one memory vector: the character just read, and those
# before it.
# alt: Share of characters that a linear probe reads off, against how far back they are. From the
# memory it is all for the present one, four fifths for the one before, half for the one before
# that, and from eight back on no more than for the embedding and the shuffled control, a sixth.
plt.show()

# A memory vector holds the present character, the one before in most cases, the one before that in
# half of them, and from the eighth on next to nothing that the probe can find. It is a small word
# ending, not a record of the play. This is less of a loss than it seems, since there are 47 other
# slots beside it.
#
# ## Who is speaking
#
# It may hold more than letters, though. A play says `PETRUCHIO:`, and then come his words. Does the
# memory vector of the colon, or of the words, know who is speaking? Take the eight most frequent
# names, and fit a probe at each place before and after the end of the name line.

marks = [(s.end(), s[1]) for s in re.finditer(r"\n\n([^\n]*):\n", val_text[: 48 * 1000])]
cast = [name for name, _ in Counter(name for _, name in marks).most_common(8)]
inside = [(e, name) for e, name in marks if name in cast and mem_len + 10 < e % 1000 < 970]
ends = torch.tensor([e for e, _ in inside])
speaker = torch.tensor([cast.index(name) for _, name in inside])
third = torch.arange(len(ends)) % 3 == 2
places, known = list(range(-4, 13)), {"memory": [], "embedding": []}
for o in places:
    known["memory"].append(probe(m.flatten(0, 1)[ends + o], speaker, third))
    known["embedding"].append(probe(x.flatten(0, 1)[ends + o], speaker, third))
usual = (torch.bincount(speaker[third]).max() / third.sum()).item()

# @title Drawing code
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for (name, share), style in zip(known.items(), ("C0o-", "C3s--"), strict=True):
    ax.plot(places, [100 * s for s in share], style, markersize=4, label=name)
ax.axhline(100 * usual, color="0.5", linestyle=":", label="always the most frequent")
ax.set_xticks([-4, -2, -1, 0, 4, 8, 12], ["-4", ":", "↵", "0", "4", "8", "12"])
ax.set_xlabel("place (characters after the beginning of the speech)")
ax.set_ylabel("speaker read off (%)")
ax.set_ylim(0, 102)
ax.legend(frameon=False)
at = dict(zip(places, known["memory"], strict=True))
assert min(at[-2], at[-1]) > 0.95 and at[0] > 0.75 and max(at[o] for o in range(6, 13)) < 0.4
assert max(known["embedding"][2:]) < 0.4
# caption: Who is speaking, read from the memory vector at each place around the beginning of a
# speech.
# alt: Share of speakers read off, against the place. The memory is at 100 per cent up to the colon
# and the line break after the name, falls within five characters of the speech to about a fifth,
# and stays there. The embedding is that low from the colon on.
plt.show()
print(f"{len(ends)} speeches of {len(cast)}; at the line break more than 95 % are read off")

# The line break is the same character after every name, and yet the probe of its memory vector is
# hardly ever wrong about whose speech begins. (The last letters of a name may be enough to tell
# eight names apart; we did not check.) Then the speech begins, and within five characters the probe
# finds next to nothing of the name in the new memory vectors. (With so few speeches to fit it on, a
# little may escape it.) The name is still in the slots of the name line, where every later
# step can read it until the window has moved on.
#
# ## Reading on, with and without a past
#
# What is a memory worth in nats? Read the same characters twice: with an empty memory at the
# beginning, and with the memory of the 128 characters before.

starts = torch.arange(96) * 1150 + 128


def losses(before: int, T: int, memory: Memory | None = None) -> Tensor:
    """The loss at `T` places from `starts`, `(96, T)`, with `before` characters read first."""
    part = val[starts[:, None] + torch.arange(-before, T + 1)]
    logits = model(part[:, :-1], memory)[0][:, before:]
    return F.cross_entropy(logits.mT, part[:, before + 1 :], reduction="none")


fresh, carried = losses(0, 128).mean(0), losses(128, 128).mean(0)

# @title Drawing code
edges = [0, 1, 2, 4, 8, 16, 32, 64, 128]
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
means = []
for name, loss in (("empty memory", fresh), ("carried memory", carried)):
    means.append([loss[i:j].mean().item() for i, j in zip(edges, edges[1:], strict=False)])
    color = "C0" if loss is carried else "C2"
    ax.stairs(
        means[-1], [e + 1 for e in edges], label=name, color=color, linewidth=2, baseline=None
    )
ax.set_xscale("log")
ax.set_xticks([1, 2, 3, 5, 9, 17, 33, 65, 129], [1, 2, 3, 5, 9, 17, 33, 65, 129])
ax.minorticks_off()
ax.set_xlabel("character after the beginning")
ax.set_ylabel("loss (nats)")
ax.legend(frameon=False)
assert means[0][0] - means[1][0] > 0.7 and abs(means[0][-1] - means[1][-1]) < 0.01
assert max(abs(a - b) for a, b in zip(means[0][5:], means[1][5:], strict=True)) < 0.02
# caption: What a memory is worth: the loss with that of the 128 characters before, and without.
# alt: Loss against the number of characters read, in steps. With an empty memory it begins about
# one nat above the loss with a carried one, and after sixteen characters the two are the same.
plt.show()

# Without a past the first characters are expensive; after sixteen it is hardly missed. And the past
# beyond the window? Each slot was computed from earlier ones, which have left the window since, so
# the model *could* know what was said a thousand characters before. Let it read up to 128
# characters before the same first sixteen.

table = {n: losses(n, 16).mean().item() for n in (0, 4, 16, 64, 128)}
for n in (0, 4, 16, 64):
    extra = round(table[n] - table[128], 2) + 0
    print(f"{n:3} characters before instead of 128: {extra:.2f} nats more")
assert abs(table[64] - table[128]) < 0.005 and table[0] > table[4] > table[16] + 0.01

# It gains nothing. Beyond 64 characters the loss stays where it was, and, as the next picture
# shows, beyond some 32 already. So it is not the training windows of 64 characters alone that set
# this limit. The recurrence reaches further, but either the next few characters depend little on
# what is further back, or the model has not learnt how. With [parity](01_why_feedback.py) we saw
# what feedback *can* do.
#
# ## What a slot is worth
#
# So is a slot that was written with a long past at least better than one without? Take the
# carried memory and keep its last $n$ slots. Compare this with a model that has read no more than
# those $n$ characters, so that its slots know of nothing else.

read = val[starts[:, None] + torch.arange(-128, 0)]
_, full = model(read)
kept = (1, 2, 4, 8, 16, 32, 48)
cut = [losses(0, 16, Memory(full.m[:, mem_len - n :], config)).mean().item() for n in kept]
short = [losses(n, 16).mean().item() for n in kept]

# @title Drawing code
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.semilogx(kept, cut, "o-", markersize=4, label="the last n slots of a long past")
ax.semilogx(kept, short, "C2s--", markersize=4, label="a past of n characters")
ax.set_xticks(kept, kept)
ax.minorticks_off()
ax.set_xlabel("slots in the memory")
ax.set_ylabel("loss on the next 16 (nats)")
ax.legend(frameon=False)
differences = [c - s for c, s in zip(cut, short, strict=True)]
assert max(map(abs, differences)) < 0.05 and differences[0] < -0.01 and differences[3] > 0.01
assert max(map(abs, differences[5:])) < 0.005
# caption: How many slots are needed, and whether it matters what their writers had read.
# alt: Loss on the next sixteen characters against the number of slots in the memory, for slots of a
# long past and for slots of a short one. Both fall up to thirty-two slots and lie close together;
# with one or two slots those of a long past are a little lower, with four to sixteen a little
# higher.
plt.show()

# Only if there are very few of them. A single slot of a long past is worth more than one that knows
# a single character. With eight slots those *without* a long past serve better, by some hundredths
# of a nat, and with 32 there is no difference. Our guess is that two things are at work. A slot of
# a long past knows more. But in training a memory of so few slots was always that of a window that
# had just begun, and here it is not: that is a case for which the model was never trained.
#
# ## Exercises
#
# 1. A wrong memory. Give each row the carried memory of another row. Is that better or worse than
#    an empty one, and for how long?

# @title Solution
# Much worse: presumably the model expects the end of another word. After sixteen characters a few
# hundredths of a nat are left, and after 32 hardly anything.
wrong = losses(0, 64, Memory(full.m.roll(1, 0), config)).mean(0)
right_memory, empty = losses(0, 64, full).mean(0), losses(0, 64).mean(0)
print("loss with the                right       no    wrong memory")
for i, j in ((0, 1), (1, 4), (4, 16), (16, 32), (32, 64)):
    triple = [loss[i:j].mean().item() for loss in (right_memory, empty, wrong)]
    assert j > 32 or triple == sorted(triple)
    print(f"characters {i + 1:2} to {j:2}     ", *(f"{loss:10.2f}" for loss in triple))
assert wrong[0] - empty[0] > 1 and (wrong - empty)[16:32].mean() < 0.05
assert (wrong - empty)[32:].mean() < 0.01

# 2. Does the memory know where in a word it is? Probe $m_t$ for the number of letters since the
#    word began, and compare with what the embedding gives away.

# @title Solution
count, position = 0, []
for c in val_text[: 48 * 1000]:
    count = count + 1 if c.isalpha() else 0
    position.append(min(count, 7))
position = torch.tensor(position).view(48, 1000)[:, some].flatten()
pair = [probe(f[:, some].flatten(0, 1), position, test_rows) for f in (m, x)]
assert pair[0] > 0.75 and pair[0] > pair[1] + 0.15
print(f"right at {pair[0]:.0%} of the places; from the embedding {pair[1]:.0%}")

# This model keeps what helps to predict the next few characters, and it was never asked for more.
# To see something kept for longer, go back to [parity](01_why_feedback.py).
