# # A program in the memory
#
# ```
# x = 3 ; x ++ ; y = 9 ; if x < y : y -- ; print y ;
# ```
#
# What does it print? Whoever reads this once, from left to right, keeps a box for each variable in
# mind, and in each box a number. A Feedback Transformer of a single layer has learnt to read such
# programs. We open it, look for the boxes, and find something else.

# @title Imports
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from feedback import FeedbackLM
from feedback.data.text import IGNORE
from feedback.experiments.programs import FALSE, TRUE, Programs, WholePrograms
from feedback.fast.sequence import sequence_forward
from feedback.memory import Memory
from feedback.support.figures import HEAT, use_style

use_style()
_ = torch.set_grad_enabled(False)
torch.set_num_threads(1)  # a step is too little work to share

# ## Read aloud
#
# The [programs](../../feedback/experiments/programs.py) are those of the paper: three variables,
# values from 1 to 10, a hundred statements. There a model is told only what is printed. Ours was
# told more. It was taught to *read aloud*: at nearly every word there is a label, the value that a
# person with a finger on the page would have in mind just then. So its task is easier than the
# paper's, though its examination is the same.

model = FeedbackLM.from_pretrained("programs_3").eval()
stack, layer, config = model.transformer, model.transformer.layers[0], model.config
S, D, H = config.mem_len, config.d_model, config.n_heads
task = WholePrograms(3, dense=True)
words = task.words
token = {word: i for i, word in enumerate(words)}


def read(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Reads whole rows; returns what the model says, `(B, T)`, and all its memory, `(B, T, D)`."""
    x = model.embedding(tokens).transpose(0, 1)
    y, m = sequence_forward(stack, x, x.new_empty(0, *x.shape[1:]), None)
    return model.head(stack.norm(y).transpose(0, 1)).argmax(-1), m.transpose(0, 1)


tokens, labels, _ = task.draw(128, 448, torch.Generator().manual_seed(0))
said, m = read(tokens)
names = {IGNORE: "", FALSE: "no", TRUE: "yes"}
part = slice(0, 23)
print(config.n_layers, "layer,", S, "slots of memory; the first words of a program:")
for title, row in {"label": labels[0], "model": said[0].where(labels[0] >= 0, IGNORE)}.items():
    spoken = [names.get(i, str(i + 1)) for i in row[part].tolist()]
    if title == "label":
        print("word ", *(f"{words[i]:>5}" for i in tokens[0, part].tolist()), sep="")
    print(title, *(f"{word:>5}" for word in spoken), sep="")
assert (said == labels)[0, part][labels[0, part] >= 0].all()

# At a variable's name the model says what its value is, at `++` what becomes of it. At `<` it says
# the one side of the comparison, then the other, and at the colon whether it holds. Between these
# words there is no other thinking: one layer, one thought a word.
#
# How well does it do on 128 new programs? (A quarter of them are longer than 448 words, and are
# cut.)

right, spoken = said == labels, labels >= 0
paper = WholePrograms(3).draw(128, 448, torch.Generator().manual_seed(0))
printed = paper.targets >= 0
assert (paper.tokens == tokens).all()
share = right[printed].double().mean().item()
assert share > 0.975 and right[spoken].double().mean() > 0.98
assert 0.2 < (tokens != token["END"]).all(1).double().mean() < 0.3
print(f"of {printed.sum():,} prints more than 97 % are right")

# The paper reports 99.1 % for a Feedback Transformer of 4 layers and 33.7 % for a parallel
# Transformer of 8, neither of which had anything read aloud to it. These figures cannot be set
# beside ours. What can be done with ours is to ask how.
#
# ## Where are the boxes?
#
# In the [notebook before this one](09_a_group_in_the_memory.py) there was one slot of memory, and
# five cards lay in its vector side by side. The natural guess is the same once more: a vector with
# three boxes. To test it we need to know what is in the boxes, so here is an interpreter.

def follow(row: list[int]) -> list[list[int]]:
    """The values of `x`, `y` and `z` after each word; 0 is none."""
    box, statement, live, out = dict.fromkeys("xyz", 0), [], True, []
    for word in (words[i] for i in row):
        statement.append(word)
        name = statement[0]
        if word == ":":
            _, a, sign, c, _ = statement
            a, c = box[a], box[c] if c in box else int(c)
            live = a < c if sign == "<" else a > c
        elif live and name in box and len(statement) > 1 and word not in "=;":
            box[name] = {"++": box[name] + 1, "--": box[name] - 1}.get(word) or int(word)
        live = live or word == ";"
        statement = [] if word in ";:" else statement
        out.append(list(box.values()))
    return out


T = tokens.shape[1]
steps = torch.arange(T)
values = torch.tensor([follow(row) for row in tokens.tolist()])
named = torch.where(tokens < 3, steps, -1).cummax(1).values.clamp(min=0)  # where a name stood last
who = tokens.gather(1, named)  # and which
mine = values.gather(2, who[..., None])[..., 0]
ends = tokens == token[";"]
agree = (mine - 1 == labels)[ends & (labels >= 0)]
print(f"the interpreter and the labels agree at {agree.sum():,} of {len(agree):,} places")
assert agree.all()

# Take the memory of those steps that changed a variable, say `x`, at its `++` or `--`. A linear
# probe, fitted by least squares on three quarters of the programs, is to read from it the value of
# `x` at that time, and others are to read those of `y` and `z`. Here is how often they are right on
# the other programs.

previous = F.pad(values, (0, 0, 1, 0))[:, :-1].gather(2, who[..., None])[..., 0]
step_of = (tokens == token["++"]) | (tokens == token["--"])
done = step_of & (mine != previous)  # not so after a condition that is false
known, z = torch.arange(128)[:, None].expand_as(tokens) < 96, F.layer_norm(m, (D,)).double()


def probe(where: Tensor, wanted: Tensor) -> float:
    """The share of `wanted` values that are read rightly at these steps of new programs."""
    f = F.pad(z[where], (0, 1), value=1.0)
    fit, answer = known[where], wanted[where]
    a = f[fit]
    ridge = 1e-4 * a.pow(2).sum() / len(a.T) * torch.eye(D + 1).double()
    W = torch.linalg.solve(a.T @ a + ridge, a.T @ F.one_hot(answer[fit], 11).double())
    return ((f[~fit] @ W).argmax(-1) == answer[~fit]).double().mean().item()


grid = torch.tensor(
    [[probe(done & (who == v), values[..., u]) for u in range(3)] for v in range(3)]
)

# @title Drawing code
fig, ax = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
drawn = ax.imshow(100 * grid, cmap=HEAT, vmin=0, vmax=100)
for v in range(3):
    for u in range(3):
        color = "white" if u == v else "black"
        ax.text(u, v, f"{100 * grid[v, u]:.0f} %", ha="center", va="center", color=color)
ax.set_xticks(range(3), [f"value of {u}" for u in "xyz"])
ax.set_xlabel("what a probe is to read")
ax.set_yticks(range(3), [f"{v} was changed" for v in "xyz"])
fig.colorbar(drawn, ax=ax, shrink=0.8, label="read rightly (%)")
own, others = grid.diagonal(), grid[~torch.eye(3, dtype=torch.bool)]
untold = [values[..., u][done & (who != u)] for u in range(3)]
guesses = [(there == n).double().mean() for there in untold for n in range(11)]
assert own.min() > 0.93 and others.max() < 0.5 and others.min() > 0.15 > max(guesses)
# caption: What a step writes down: the variable that it has changed.
# alt: A table of three by three: how often the values of x, y and z are read rightly from the
# memory of steps at which x, y or z was changed. On the diagonal nearly 100 per cent, elsewhere
# between 20 and 30.
plt.show()
print("the variable that was changed: more than 90 % read rightly, any other: less than half")
print("always to say the commonest value: less than 15 %")

# The probes find no three boxes. A vector is a *note*, "`x` is 4", and of the other two variables
# they read little from it. (It is more than by guessing. Why, we have not looked.) So the state of
# the program does not seem to be in any one vector. It is spread over the window, a note here and a
# note there.
#
# ## Which note is found?
#
# Then each look-up is a search. There are some three notes about `x` in the window, or as many as
# ten, with different numbers on them, and only the newest is right. Where does the model look when
# it reads `x`?
#
# With one layer, the query is made of the present word alone: the same question every time. Take
# the look-ups at which the newest note is still in the window, compute the attention, and ask how
# much of it falls on all steps about the variable, and how much on three candidates: its last `++`
# or `--`; the last one that was *carried out*, not ruled out by a condition; and its last mention,
# from its name to the next variable's name, where that is not the same place.

query = layer.attn.query(layer.norm_attn(model.embedding.weight)).unflatten(-1, (H, -1))
k = stack.project(m)[0][0]
windows = [k[:, t - S : t].transpose(1, 2) for t in range(S, T)]
asked = query[tokens[:, S:]].unbind(1)
attn = [layer.attn.scores(q, window) for q, window in zip(asked, windows, strict=True)]
attn = torch.stack([layer.attn.weights(scores) for scores in attn], dim=1)
# `(B, T - S, H, S)`, the nearest slot last


def latest(mask: Tensor) -> Tensor:
    """The last step before each where `mask` holds, for each variable, `(B, T, 3)`."""
    rows = [torch.where(mask & (who == v), steps, -9999).cummax(1).values for v in range(3)]
    return F.pad(torch.stack(rows, -1), (0, 0, 1, 0), value=-9999)[:, :-1]


look = (tokens < 3) & (labels >= 0)
variable = tokens.clamp(max=2)[..., None]
mention = latest(tokens < 3).gather(2, variable)[..., 0]
last_step, note = (latest(mask).gather(2, variable)[..., 0] for mask in (step_of, done))
inside = look & (note >= steps - S) & (steps >= S)
inside = inside[:, S:]
a = attn[inside]
slots = (steps[:, None] - S + torch.arange(S))[S:].expand(128, -1, -1)[inside]
window = named.unfold(1, S, 1)[:, :-1][inside]
name = who.unfold(1, S, 1)[:, :-1][inside]
candidates = {
    "all steps\nabout it": name == variable[:, S:, 0][inside][:, None],
    "last mention,\nif elsewhere": window == mention[:, S:][inside][:, None],
    "last\n++ or $--$": slots == last_step[:, S:][inside][:, None],
    "the same,\nif carried out": slots == note[:, S:][inside][:, None],
}
elsewhere = (mention != note - 1)[:, S:][inside]  # the name stands before its `++`
counted = {n: elsewhere if "mention" in n else elsewhere | ~elsewhere for n in candidates}
falls = {n: (a * hit[:, None]).sum(-1)[counted[n]].mean(0) for n, hit in candidates.items()}

# @title Drawing code
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for h in range(H):
    heights = [100 * fall[h].item() for fall in falls.values()]
    color, x = ("0.75", "C0", "0.55", "C5")[h], torch.arange(4).numpy() + 0.2 * h - 0.3
    ax.bar(x, heights, 0.18, color=color, label=f"head {h + 1}")
ax.set_xticks(range(4), list(falls))
ax.set_xlabel("which steps")
ax.set_ylabel("share of attention (%)")
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
found = [fall[[1, 3]] for fall in falls.values()]
assert found[0].min() > 0.98 and found[2].min() > 0.65 and found[2].max() < 0.87
assert found[3].min() > 0.89 and found[1].max() < 0.08 and elsewhere.double().mean() > 0.5
# caption: What each head looks for when a variable is asked for.
# alt: Shares of attention at look-ups, for four heads. Heads 2 and 4 give all of it to steps about
# the variable, some four per cent to its last mention where that is elsewhere, nearly 80 per cent
# to its last plus plus or minus minus, and about 94 per cent to the last one that was carried out.
# Heads 1 and 3 give little.
plt.show()
print("heads 2 and 4: more than 98 % of their attention is on steps about the variable,")
print("more than 87 % on its last change that was carried out;")
print("where the last mention is elsewhere, less than 10 % on that")

# Two of the four heads do the search, and they do not look where we expected. The last mention
# would be a good place: whatever was said there is up to date. Where it is not itself the last
# change, as in more than half of these look-ups, they pass over it. They pass over a `++` that a
# condition has ruled out as well, although what was said there was right too. They go to the last
# step at which the value *became* what it is, wherever that is. Here are three
# look-ups with such distractions in between.

far = (steps - note > 22) & (steps - note < 34) & (last_step > note) & look & right
far[:, :S] = False

# @title Drawing code
fig, axes = plt.subplots(3, 1, figsize=(7.8, 4.6), layout="constrained", sharey=True)
for ax, b in zip(axes, far.any(1).nonzero().flatten()[:3].tolist(), strict=True):
    t = int(far[b].nonzero()[0])
    shown = attn[b, t - S, [1, 3], -36:].mean(0)
    at_note = int(note[b, t]) - t + 36
    colors = ["C0" if i == at_note else "0.6" for i in range(36)]
    ax.bar(range(36), 100 * shown, color=colors)
    ax.set_xticks(range(37), [words[i] for i in tokens[b, t - 36 : t + 1].tolist()], rotation=90)
    ax.get_xticklabels()[at_note].set_color("C0")
    ax.get_xticklabels()[36].set_weight("bold")
    ax.set_ylim(0, 103)
axes[1].set_ylabel("attention, heads 2 and 4 (%)")
axes[2].set_xlabel("the words before the look-up; it happens at the last one, in bold")
# caption: Three look-ups, with other mentions of the variable in between.
# alt: Attention over the last 36 words at three look-ups. In each nearly all of it is on a single
# word, a plus plus or minus minus some thirty words back, although the variable was named again
# in between.
plt.show()
assert far.any(1).sum() >= 3

# ## Put another note there
#
# If it is a note, we can forge it. Stop at the end of a statement, take the note about a variable
# out of the memory, and put in another about the same variable, with another number, nearly always
# from another program. Then go on with `print x ;`.

generator = torch.Generator().manual_seed(1)
places = (ends & (steps >= 150) & (steps < 440)).nonzero()
places = places[torch.randperm(len(places), generator=generator)[:1200]]
v = torch.randint(3, (len(places),), generator=generator)
b, t = places.T
at = latest(done)[b, t].gather(1, v[:, None])[:, 0] - t + S - 1
fits = at >= 0
b, t, v, at = b[fits], t[fits], v[fits], at[fits]
N, state = len(b), values[b, t]
value, other = state.gather(1, v[:, None])[:, 0], (v + 1) % 3
memories = m[b[:, None], t[:, None] + torch.arange(1 - S, 1)]  # `(N, S, D)`
notes = done & (mine < 10) & (steps > 20)
note_m, note_v, note_value = m[notes], who[notes], mine[notes]


def forged(pick: Tensor) -> Tensor:
    """The memories, with the notes `pick` in the place of their own."""
    new = memories.clone()
    new[torch.arange(N), at] = note_m[pick]
    return new


def say(memories: Tensor, text: str, v: Tensor) -> tuple[Tensor, Memory]:
    """What the model says at the last word of `text`, where `v` stands for a variable."""
    row = torch.tensor([token.get(word, -1) for word in text.split()]).expand(len(v), -1)
    logits, memory = model(torch.where(row < 0, v[:, None], row), Memory(memories, config))
    return logits[:, -1].argmax(-1) + 1, memory


fitting = (note_v == v[:, None]) & (note_value != value[:, None])
any_note = fitting.double().multinomial(1, generator=generator)[:, 0]
answer, _ = say(forged(any_note), "print v ;", v)
believed = answer == note_value[any_note]
share = believed.double().mean().item()
was = previous[b, t - S + 1 + at]  # the value before the note was written
instead = (answer == was)[~believed].double().mean().item()
assert instead > 0.7
assert 0.5 < share < 0.75 and (say(memories, "print v ;", v)[0] == value).double().mean() > 0.97
print("with another note it says what stands there in 50 to 75 % of the cases;")
print("where it does not, it says the value before in more than 65 %")

# So it often believes the forged note, but far from always. Where it does not, it mostly says what
# the value was *before* the note that we took away. It has gone back to an older note, as though
# ours were not there. Something on a note matters besides the name and the number.
#
# What makes a head choose one note among many? The [score](../../feedback/attention.py). It is the
# sum of two things. One depends on how far away the slot is, and on the word that asks. The other
# is $(q + u)^\top k_j / \sqrt K$, a product of the query and the key that is made of the note
# itself. Average this one over heads 2 and 4, and call it the *loudness* of a note: how loudly it
# calls when its variable is asked for. How loud are the notes of a program?

def loudness(vectors: Tensor, v: Tensor) -> Tensor:
    """How loudly memory vectors `(N, D)` call when the variables `v` are asked for."""
    k = stack.project(vectors)[0][0]
    both = ((query[v] + layer.attn.query_bias) * k).sum(-1) / math.sqrt(config.head_dim)
    return both[:, [1, 3]].mean(-1)


loud, own_loud = loudness(note_m, note_v), loudness(memories[torch.arange(N), at], v)
idle = step_of & (mine == previous) & (steps > 20)
idle_loud = loudness(m[idle], who[idle])
difference = loud[any_note] - own_loud
bins = torch.arange(-18, 16, 3.0)
curve = [believed[(difference - c).abs() <= 1.5].double().mean().item() for c in bins]

# @title Drawing code
fig, axes = plt.subplots(1, 2, figsize=(7.8, 3.2), layout="constrained")
on_step = steps.expand_as(tokens)
axes[0].plot(on_step[idle], idle_loud, ".", color="0.6", markersize=1.5, label="not carried out")
axes[0].plot(on_step[notes], loud, ".", color="C0", markersize=1.5, label="carried out")
one = (notes & (who == 0))[0]
series = loudness(m[0][one], who[0][one])
axes[0].plot(steps[one], series, "k.-", markersize=4, linewidth=1, label="x in one program")
axes[0].set_xlabel("step")
axes[0].set_ylabel("loudness of a note")
axes[0].legend(frameon=False, markerscale=2, loc="lower right")
axes[1].plot(bins, [100 * c for c in curve], "o-", markersize=4)
axes[1].axvline(0, color="0.5", linestyle=":")
axes[1].set_xlabel("loudness: forged note less its predecessor")
axes[1].set_ylabel("forged note is believed (%)")
axes[1].set_ylim(0, 103)
louder, softer = believed[difference > 0], believed[difference < -9]
early, late = (loud[on_step[notes] // 50 == n].mean() for n in (0, 7))
assert late - early > 15 and loud.mean() - idle_loud.mean() > 8
assert louder.double().mean() > 0.93 and softer.double().mean() < 0.3
# caption: How loudly notes call, and when a forged note is believed.
# alt: On the left the loudness of all notes against the step of the program. It rises from below 40
# to above 60, more and more slowly; notes of steps that were not carried out lie well below. On the
# right how often a forged note is believed: below 20 per cent if it is much softer than the note
# that it replaces, nearly always if it is at least as loud.
plt.show()
print("a forged note is believed, if it is louder, in more than 90 % of the cases,")
print("if it is softer by more than 9, in less than 35 %")

# From note to note the loudness mostly rises, as though each had a number like the *version* of a
# file. Is that how the newest is found, or is it simply the nearest? Let a softmax choose among the
# notes about the variable alone: by their loudness, by the part of the score that depends on the
# distance, and by both.

scale = math.sqrt(config.head_dim)
called = torch.einsum("vhk,bthk->bvth", query[:3] + layer.attn.query_bias, k)[..., [1, 3]] / scale
near = torch.einsum("vhk,shk->vsh", query[:3], layer.attn.pos_key) + layer.attn.pos_bias
near = near[..., [1, 3]] / scale
program, asks = inside.nonzero()[:, :1], variable[:, S:, 0][inside][:, None]
parts = {"loudness": called[program, asks, slots], "distance": near[asks[:, 0]]}
parts["both"] = parts["loudness"] + parts["distance"]
among = done[program, slots] & (who[program, slots] == asks)
assert 2.5 < among.sum(1).double().mean() < 3.5 and among.sum(1).max() == 10
newest = slots == note[:, S:][inside][:, None]
second = slots.masked_fill(~among | newest, -1).amax(1)
gap = note[:, S:][inside] - second
rows = {"at most 6 words apart": gap <= 6, "more than 12 words apart": gap > 12}
lows = [
    {"distance": 0.6, "loudness": 0.75, "both": 0.9},
    {"distance": 0.9, "loudness": 0.55, "both": 0.95},
]
for (which, row), low in zip(rows.items(), lows, strict=True):
    row = row & (second >= 0)
    print(f"the two newest notes are {which} (in {int(row.sum()):,} look-ups):")
    for by, least in low.items():
        attends = parts[by].masked_fill(~among[..., None], -math.inf).softmax(1).mean(-1)
        low[by] = (attends * newest).sum(1)[row].mean().item()
        assert low[by] > least + 0.02
        print(f"  by {by} the newest has more than {least:.0%}")
close, far_apart = lows
assert close["loudness"] > close["distance"] + 0.05
assert far_apart["distance"] > far_apart["loudness"] + 0.2
print("loudness does more than distance where they are close, less where they are far apart")

# It takes both. Where notes are far apart, the newest is found by its place, and the preference for
# near slots does nearly all of it. But between two notes a few words apart that preference is too
# weak to decide alone, and the loudness does more. A step that was not carried out leaves a note
# that is softer than the rest. And a note from the beginning of another program, put near the end
# of this one, has an old version number: it loses in spite of its place, and older notes, still in
# the window, drown it.
#
# Then a forgery must be as loud as the note that it replaces. Choose it so, and let it not only be
# printed but worked with: `x ++`.

closest = ((loud - own_loud[:, None]).abs() + 1e6 * ~fitting).argmin(1)
memory = forged(closest)
number = note_value[closest]
checks = {
    "print v ; says what stands there": say(memory, "print v ;", v)[0] == number,
    "v ++ ; print v ; says one more": say(memory, "v ++ ; print v ;", v)[0] == number + 1,
    "print of another says its own": say(memory, "print v ;", other)[0]
    == state.gather(1, other[:, None])[:, 0],
}
for text, hit in checks.items():
    assert hit.double().mean() > 0.94
    print(f"{text:32} in more than 93 %")

# It is the note, then: the model reads our number, works with it, and leaves the other variables
# alone. And who counts the versions? The step that writes a new note has just read the old one. So
# it should count on from whatever loudness it finds, a forged one too.

answer, after = say(forged(any_note), "v ++ ;", v)
took = (answer == note_value[any_note] + 1) & (at > S - 20)  # no more than 20 steps old
old, usual, new = loud[any_note][took], own_loud[took], loudness(after.m[:, -2], v)[took]
causes = torch.stack([old, usual, torch.ones_like(old)], 1).double()
weight = torch.linalg.lstsq(causes, new[:, None].double()).solution[:, 0]
correlation = torch.corrcoef(torch.stack([old, new]))[0, 1].item()

# @title Drawing code
fig, ax = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
ax.plot(old, new, ".", markersize=3)
ax.plot([30, 72], [30, 72], "k:", label="equal")
ax.set_xlabel("loudness of the forged note")
ax.set_ylabel("loudness of the next note")
ax.legend(frameon=False)
assert correlation > 0.6 and weight[:2].min() > 0.28 and weight[:2].max() < 0.6
# caption: The louder the note that a step has read, the louder the one that it writes.
# alt: The loudness of a note against that of the forged note before it. The points lie along a
# line that is less steep than the diagonal: above it for soft notes, close to it for loud ones.
plt.show()
print("the louder the forged note, the louder the next: a correlation of more than 0.6")
print("for each point by which the forged note, or the one that it replaces, is louder,")
print("the next one is louder by 0.25 to 0.6")

# It does, but only in part. By least squares, the next note follows the loudness of the forged note
# and that of the note that had to make way for it, with weights of about a half or less. So the
# model must have a second source for how late it is. We have not looked for it; the notes about the
# other variables are still there, and are as good a clock as any.
#
# ## When the note is gone
#
# A slot is kept for 64 steps. If its variable is not changed for longer, the note is lost. We make
# this happen: after a note about `x` that is at most 15 words old, write `y ++ ; y -- ;` again and
# again, and print `x` at the end. In between, `x` is either not named at all or named once, halfway
# through, by `print x ;` or by `if x > 10 : y -- ;`, which does nothing.

fresh = (v == 0) & (at > S - 16)
start, expected = memories[fresh], value[fresh]
low = state[fresh][:, 1] < 10
texts = {"not named again": "", "printed": "print v ;", "compared": "if v > 10 : y -- ;"}
counts, kept = (2, 4, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 20), {}
for text, middle in texts.items():
    kept[text] = []
    for n in counts:
        hits = []
        for some, busy in ((low, "y ++ ; y -- ;"), (~low, "y -- ; y ++ ;")):
            whole = [*[busy] * (n // 2), middle, *[busy] * (n - n // 2), "print v ;"]
            zero = torch.zeros(int(some.sum()), dtype=torch.long)
            hits.append(say(start[some], " ".join(whole), zero)[0] == expected[some])
        kept[text].append(torch.cat(hits).double().mean().item())

# @title Drawing code
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for (text, curve), style in zip(kept.items(), ("C2o-", "C0s--", "C3^:"), strict=True):
    ax.plot([6 * n for n in counts], [100 * c for c in curve], style, markersize=4, label=text)
ax.axvline(S, color="0.5", linewidth=1)
ax.text(S + 1, 55, "64 slots", fontsize=9)
ax.set_xlabel("words about another variable")
ax.set_ylabel("x printed rightly (%)")
ax.set_ylim(0, 103)
ax.legend(frameon=False, title="in between, x is", title_fontsize=9)
never, once, also = kept.values()
assert min(never[:4]) > 0.95 and max(never[7:]) < 0.3
assert min(once[:10]) > 0.93 and min(also[:10]) > 0.93 and max(also[-1], never[-1]) < 0.3
# caption: How long a variable is remembered, and that a look-up refreshes it.
# alt: How often x is printed rightly against the number of words about another variable. If x is
# not named in between, it falls from nearly 100 per cent at 48 words to guessing at 66. If it is
# printed or compared halfway through, it stays up to 96 words and more.
plt.show()
print("up to 42 words, always: more than 95 %")
print("not named for 66 words: less than 30 %")
print("named halfway through, up to 84 words: more than 93 %")

# Without its note the model guesses. (The curve begins to fall before 64 words, since the note is
# some words old when we start to count.) But one mention in between is enough. As long as the note
# is there, mentions are passed over, as we saw. Once it is gone, the model finds the value where
# the variable was mentioned, since it was said there once more. So nothing has to be renewed on
# purpose, because programs mention their variables: hardly any look-up in them has to reach back
# further than the window.

reach = (steps - mention)[look & (mention >= 0)]
assert (reach > S).double().mean() < 0.002
print(f"of {len(reach):,} look-ups, {(reach > S).sum()} of a variable not named for 64 steps")

# ## As deep as the program is long
#
# A value is made from the value before it, in a step that looks up what an earlier step has
# written, and writes what a later one will look up. How long do these chains become? Count how
# often the variable of a look-up has been changed since it was first given a value, and see whether
# long chains are less reliable.

links = torch.stack([(done & (who == u)).cumsum(1) for u in range(3)], -1)
links = links.gather(2, variable)[..., 0]
short, long = (right[look & mask].double().mean().item() for mask in (links <= 10, links >= 20))
assert short > 0.98 and long > 0.95 and (look & (links >= 20)).sum() > 500
print("look-ups after at most 10 changes: more than 98 % right, after 20 or more: more than 93 %")

# One layer suffices for a chain of twenty links and more, because each step begins where an earlier
# one has ended. A parallel Transformer passes through its layers once, however long the text, and
# must make do with as many stages as it has layers. Whether it could is a question that we have not
# put to it here.
#
# Nobody asked for version numbers. The model was told what to say at each word, and never how to
# find the newest of many notes. Anyone who has kept copies of a file knows the problem: the newest
# is on top of the pile, and where that is not plain, it has a number.
#
# ## Exercises
#
# 1. At the colon of a condition the model has to say whether it holds. Where must it look for that,
#    and where does it look?

# @title Solution
# At the two values it said last: the one at the sign, two steps back, and the one after it.
colon = (tokens == token[":"])[:, S:]
nearest = attn[colon].mean(0)[:, [-2, -1]]
assert nearest[[0, 3]].min() > 0.35 and nearest[[1, 2]].max() < 0.1
print("heads 1 and 4 have more than 35 % of their attention on each of the two")

# 2. Blot out the newest note about a variable: put in its place what the memory has at some `if`.
#    What will the model say that the value is?

# @title Solution
# What it was before, if the note before is still in the window: now that one is the newest.
ifs = m[(tokens == token["if"]) & (steps > 100)]
without = memories.clone()
without[torch.arange(N), at] = ifs[torch.randint(len(ifs), (N,), generator=generator)]
alone = latest(done)[b, t - S + 1 + at].gather(1, v[:, None])[:, 0] >= t - S + 6
answer, _ = say(without, "print v ;", v)
back = (answer == was)[alone].double().mean().item()
assert back > 0.88 and (answer == value)[alone].double().mean() < 0.12
print("where an earlier note is in the window: the value before, in more than 85 %;")
print("the value of the note, in less than 12 %")

# 3. A version number cannot grow for ever. What do you expect in programs of 300 statements, three
#    times as many as in training?

# @title Solution
long_task = Programs(3, statements=300, dense=True)
longer = long_task.draw(32, 1152, torch.Generator().manual_seed(5))
answers, vectors = read(longer.tokens)
asked = (longer.tokens < 3) & (longer.targets >= 0)
wrong = [(answers != longer.targets)[:, s][asked[:, s]].double().mean().item()
         for s in (slice(0, 384), slice(768, 1152))]  # fmt: skip
x_step = ((longer.tokens == token["++"]) | (longer.tokens == token["--"])) & (
    longer.tokens.roll(1, 1) == token["x"]
)
level = [loudness(vectors[:, s][x_step[:, s]], torch.tensor(0)).median().item()
         for s in (slice(0, 128), slice(384, 512), slice(1024, 1152))]  # fmt: skip
# The loudness rises by less and less, and the look-ups go wrong more and more. (Part of that is no
# new error: a wrong note is read like a right one, and is handed on.)
assert wrong[0] < 0.03 and wrong[1] > 0.04
assert level[1] - level[0] > 15 and level[2] - level[1] < 12
print("look-ups that are wrong: in the first third less than 3 %, in the last more than 4 %")
print("the loudness gains more than 15 from the first words to the middle, then less than 12")
