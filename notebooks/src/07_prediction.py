# # Prediction
#
# A language model does not write. It reads a text and says how likely each character is to be next;
# somebody chooses one, and the text is read again with one more character at its end. What has to
# be kept so that the model need not begin again at the first character each time? And how should
# one choose?
#
# We write the loop in the naive way, then with a cache, compare the size and the speed of the cache
# with those of a parallel Transformer's, and end with the knobs of sampling.

# @title Imports
import math
import statistics
import time

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from feedback import FeedbackLM, ModelConfig, TransformerLM
from feedback.data.tokenizer import Characters
from feedback.lm.pretrained import TRAINED, read_config
from feedback.support.figures import use_style

use_style()
torch.manual_seed(0)
_ = torch.set_grad_enabled(False)  # nothing is trained here

# The model comes with the package. It has four layers, was trained on Shakespeare, and knows 65
# characters. Each of its steps sees a memory of 48 slots, its window.

model = FeedbackLM.from_pretrained("tiny_shakespeare")
tokenizer = Characters(read_config(TRAINED / "tiny_shakespeare")["characters"])
stack, mem_len = model.transformer, model.config.mem_len
tokens = tokenizer.encode("ROMEO:")[None]
print("tokens", tuple(tokens.shape), " window", mem_len, " vocabulary", len(tokenizer))

# ## The naive way
#
# Read everything, take the likeliest character, append it, read everything again.

new, steps, rows, naive = 80, 0, [], tokens
for _ in range(new):
    logits, _ = model(naive)
    steps += naive.shape[1]
    rows.append(logits[0, -1])
    naive = torch.cat([naive, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
naive_rows = torch.stack(rows)
T, S = naive.shape[1], tokens.shape[1]
assert steps == T * (T - 1) // 2 - S * (S - 1) // 2
print(tokenizer.decode(naive[0]))
print(f"\n{steps} steps for {new} characters")

# To get from one character to $T$ takes $1 + 2 + \dots + (T - 1)$ steps, about $T^2/2$, and here
# each step must wait for the one before.
#
# The likeliest character is not well defined if two are nearly equally likely: another processor
# rounds differently and might choose the other one. So for every text below that is written this
# way we check that the choice was never that close.

def margin(logits: Tensor) -> float:
    """How far the likeliest token was ahead of the second, at the closest call."""
    first, second = logits.topk(2).values.unbind(-1)
    return (first - second).min().item()


assert margin(naive_rows) > 1e-3
print(f"the closest call: {margin(naive_rows):.2f} between the logits of the first and the second")

# ## Can the prefix be cut?
#
# The window has 48 slots. So why not read only the last 48 characters? No step looks back further.

whole, _ = model(naive)
cut, _ = model(naive[:, -mem_len:])
far = (whole[0, -1] - cut[0, -1]).abs().max().item()
assert far > 0.02
print(f"{T} characters, or the last {mem_len}: logits differ by up to {far:.1f}")

# They do not. A slot of the memory was itself computed from 48 slots before it, and those from
# others, back to the first character. In a parallel Transformer this ends after $L$ windows, one
# for each layer. Here it never ends, because the memory holds the results of all layers, and the
# first layer reads it. Change the first of 40 characters, and see how far the change is felt in two
# models with two layers and windows of four slots:

sizes = {"vocab_size": 65, "d_model": 16, "n_layers": 2, "n_heads": 2, "mem_len": 4}
before = torch.randint(65, (1, 40))
after = before.clone()
after[0, 0] = (before[0, 0] + 1) % 65
felt = []
for lm in (TransformerLM(ModelConfig(**sizes)), FeedbackLM(ModelConfig(**sizes))):
    difference = (lm.double()(before)[0] - lm(after)[0]).abs().amax(-1)[0]
    felt.append(int((difference > 1e-15).nonzero().max()))
assert felt[0] == 2 * 4 and felt[1] > 24
print(f"parallel: felt up to step {felt[0]}, two windows; with feedback beyond step 24")

# So the naive way cannot be shortened without changing the answer. (The next notebook measures what
# that costs in loss.) It has to read the whole prefix, each time.
#
# ## Keep the memory
#
# But the past does not change. A memory vector is computed once, and no later step alters it. So
# keep its key and its value, and a new character costs one step. The package has such a step,
# `recurrent_step`: embedding, keys and values in, the state of the top layer and a new memory
# vector out.

from feedback.reference import recurrent_step

H, K = model.config.n_heads, model.config.head_dim
keys, values = torch.zeros(2, 1, H, 0, K)  # no slots yet
cached, rows, steps = tokens, [], 0
for t in range(T - 1):
    x, m = recurrent_step(stack, model.embedding(cached[:, t]), [(keys, values)])
    steps += 1
    # One more row, but never more rows than the window has.
    ((k, v),) = stack.project(m)
    keys = torch.cat([keys, k.unsqueeze(2)], dim=2)[:, :, -mem_len:]
    values = torch.cat([values, v.unsqueeze(2)], dim=2)[:, :, -mem_len:]
    if t >= S - 1:
        rows.append(model.head(stack.norm(x))[0])
        cached = torch.cat([cached, rows[-1].argmax()[None, None]], dim=1)
error = (torch.stack(rows) - naive_rows).abs().max().item()
assert torch.equal(cached, naive) and error < 1e-3
same = (cached == naive)[0, S:].sum()
print(f"{same} of {new} characters the same; no logit differs by 0.001")
print(f"{steps} steps, and a cache of {tuple(keys.shape)} keys and as many values")

# Two tensors hold all that later steps need. Note what is *not* kept: no states of layers, no text,
# and no second pair for the second layer, since all four layers read this one.
#
# ## The same in the package
#
# `torch.cat` copies the whole window for one new row. The package writes into a buffer of twice the
# length instead, and moves the last rows to the front when the end is reached.

from feedback.lm.decode import Window  # shown

# At every step, reading from it gives the same rows as our slices:

window, plain = Window(torch.zeros(1, 1, 0, 2), mem_len=5, steps=50), torch.zeros(1, 1, 0, 2)
for row in torch.randn(50, 1, 1, 2):
    window.append(row)
    plain = torch.cat([plain, row.unsqueeze(2)], dim=2)[:, :, -5:]
    assert torch.equal(window.read(), plain)
print("50 rows through a buffer of", window.buffer.shape[2], "rows, the last 5 always in order")

# And the whole loop is `generate`: it reads the prompt in one call of the model, which may use its
# fast implementation, and then takes one step for each character. On a CPU with a compiler that
# step is a single call into C++.

written = model.generate(tokens, new, temperature=0)
assert torch.equal(written, naive)
print(f"generate: {(written == naive)[0, S:].sum()} of {new} characters the same")

# ## What a character costs to remember
#
# A step leaves a key and a value behind, $H$ heads of $K$ numbers each: $2HK$. In a parallel
# Transformer each layer reads its own past, so a step leaves $2LHK$. We count the bytes of the
# tensors with which decoding begins, for four layers and for twelve.

def cache_bytes(lm: FeedbackLM | TransformerLM, length: int) -> int:
    """Bytes of the keys and values that are kept after reading `length` tokens."""
    _, memory = lm(torch.zeros(1, length, dtype=torch.long))
    pairs = lm.transformer.remembered(memory)
    return sum(t.numel() * t.element_size() for pair in pairs for t in pair)


lengths, kib = (16, 32, 48, 64, 96, 128), {}
for L in (4, 12):
    sizes = {"d_model": 128, "n_layers": L, "n_heads": 4, "mem_len": 64}
    for name, lm in {
        f"Transformer, {L} layers": TransformerLM(ModelConfig(**sizes)),
        f"Feedback, {L} layers": FeedbackLM(ModelConfig(**sizes)),
        f"Feedback, {L} layers, own keys": FeedbackLM(ModelConfig(share_kv=False, **sizes)),
    }.items():
        counted = [cache_bytes(lm, n) for n in lengths]
        shared = name == f"Feedback, {L} layers"
        assert counted == [min(n, 64) * 2 * (1 if shared else L) * 128 * 4 for n in lengths]
        kib[name] = [n / 1024 for n in counted]
        print(f"{name:30} {counted[0] // 16:6} bytes a character, {kib[name][-1]:4.0f} KiB at most")

# So the cache does not depend on the number of layers: it is 1 KiB a character with four layers and
# with twelve. This is due to `share_kv`. Where each layer has its own key and value projection, as
# in the rows with "own keys", there are as many keys and values as in `TransformerLM`.
# (One could then keep the memory vectors, $D$ numbers each, and project them again at every step.)

# @title Drawing code
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for name, style in {
    "Transformer, 12 layers": "C1s--",
    "Transformer, 4 layers": "C1o--",
    "Feedback, 12 layers": "C0s-",
    "Feedback, 4 layers": "C0o-",
}.items():
    wide, alpha = (5, 0.4) if name == "Feedback, 12 layers" else (1.5, 1)
    ax.plot(lengths, kib[name], style, label=name, linewidth=wide, markersize=4, alpha=alpha)
ax.axvline(64, color="0.5", linestyle=":", label="the window")
ax.set_xlabel("characters read")
ax.set_ylabel("cache (KiB)")
ax.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
assert kib["Feedback, 4 layers"] == kib["Feedback, 12 layers"]
# caption: What has to be kept in order to go on, for two depths of each model.
# alt: Size of the cache against characters read. All lines rise up to the window of 64 characters
# and are level after it: a Transformer of twelve layers at 768 KiB, one of four at 256, and the
# Feedback Transformer at 64, with four layers or with twelve, so that its two lines coincide.
plt.show()

# ## What a character costs to write
#
# In training, feedback has its price: a Transformer computes all steps of a text at once, and this
# model cannot. In writing, every model goes step by step. Is the smaller cache also a faster one?
# We time a character after prefixes of different lengths, in four ways that take turns: reading the
# whole prefix again; one step with a cache in PyTorch, as we wrote it above; the same for a
# parallel Transformer with *its* cache; and the step of the package. The weights are random, and
# the windows are 1024 slots wide.

# NBVAL_IGNORE_OUTPUT
from feedback.fast.compiled import missing
from feedback.lm.decode import Windows, decoder

threads = torch.get_num_threads()
torch.set_num_threads(1)  # a step is too little work to share
sizes = {"d_model": 128, "n_layers": 4, "n_heads": 4, "mem_len": 1024}
ours, theirs = FeedbackLM(ModelConfig(**sizes)), TransformerLM(ModelConfig(**sizes))
lengths, turns, token = (64, 128, 256, 512, 1023), 5, torch.zeros(1, dtype=torch.long)
names = "whole prefix", "cache, in PyTorch", "Transformer, cache, in PyTorch", "cache, generate"
milliseconds = {name: [] for name in names}
for n in lengths:
    prefix = torch.randint(65, (1, n))
    parts = [(lm, lm(prefix)[1]) for lm in (ours, theirs)]
    in_pytorch = [(lm, Windows(lm.transformer, memory, 4 * turns)) for lm, memory in parts]
    decode = decoder(*parts[0], 4 * turns)
    ways = dict(zip(names, (
        lambda prefix=prefix: ours(prefix),
        *(lambda lm=lm, s=step: lm.head(s(lm.embedding(token))) for lm, step in in_pytorch),
        lambda decode=decode: decode(token),
    ), strict=True))  # fmt: skip
    seconds = {name: [] for name in names}
    for _ in range(turns):
        for name, way in ways.items():
            calls = 1 if name == "whole prefix" else 4
            start = time.perf_counter()
            for _ in range(calls):
                way()
            seconds[name].append((time.perf_counter() - start) / calls)
    for name in names:
        milliseconds[name].append(1000 * statistics.median(seconds[name]))
print(f"{'characters before':30}", *(f"{n:7}" for n in lengths))
for name, row in milliseconds.items():
    print(f"{name:30}", *(f"{value:7.2f}" for value in row), "ms")
torch.set_num_threads(threads)
whole_prefix, in_pytorch, parallel, with_cache = (row[-1] for row in milliseconds.values())
assert 1 / 3 < in_pytorch / parallel < 3
assert whole_prefix > 2 * milliseconds["whole prefix"][0] and whole_prefix > 4 * with_cache
assert missing() or with_cache < in_pytorch

# Both axes of the picture are logarithmic, so a cost in proportion to the prefix is a straight
# line: twice the prefix, twice the time.

# @title Drawing code
# NBVAL_IGNORE_OUTPUT
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for (name, row), style in zip(milliseconds.items(), ("C2^:", "C3o-", "C1s--", "C0o-"), strict=True):
    ax.loglog(lengths, row, style, label=name, markersize=4)
ax.set_xticks(lengths, lengths)
ax.minorticks_off()
ax.set_xlabel("characters before")
ax.set_ylabel("time for one more (ms)")
ax.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
# caption: What the next character costs, with a cache and without.
# alt: Time for one more character against the length of the prefix. Reading the whole prefix again
# costs more the longer it is. The three ways with a cache rise slowly; the step of the package is
# far below the two in PyTorch, which lie close together.
plt.show()

# The two ways with a cache in PyTorch take times of the same order, though one cache has four times
# the bytes. After a short prefix a step spends its time neither on memory nor on arithmetic, but on
# dispatch: each of its many small operations takes a few microseconds to call, whatever the
# architecture. With a thousand characters the cache begins to be felt. The large gap is between
# those two and the step of the package, which is one call where there is a compiler. The
# [log](../../docs/pages/log.md) has that story, and the [results](../../docs/runs/README.md) a
# benchmark of decoding with more contestants. So at this size what the smaller cache saves is,
# first of all, memory, and some time once the prefix is long.
#
# ## From probabilities to a character
#
# So far we have always taken the likeliest character. Look at more of such a text:

greedy = model.generate(tokenizer.encode("JULIET:\n")[None], 400, temperature=0)
logits, _ = model(greedy)
assert margin(logits[0, 7:-1]) > 1e-3
text = tokenizer.decode(greedy[0])
assert text.count("of the sea") >= 10
print(text)

# The model never takes a risk, so it goes in circles. The remedy is sampling. After `ROMEO:` and
# `I` many characters may follow, and the **temperature** $\tau$ decides how much probability is
# left to the unlikely ones:
#
# $$p_i \propto \exp(\mathrm{logit}_i / \tau)$$

def next_logits(prompt: str) -> Tensor:
    """The logits for the character after `prompt`, `(V,)`."""
    return model(tokenizer.encode(prompt)[None])[0][0, -1]


def entropy(p: Tensor) -> Tensor:
    """In bits: the number of fair coin tosses that are as uncertain."""
    return -(p * p.clamp_min(1e-30).log2()).sum(-1)

# @title Drawing code
logits, shown = next_logits("ROMEO:\nI"), 10
order = logits.argsort(descending=True)
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
taus = (0.5, 1.0, 2.0)
spread = [(logits / tau).softmax(-1)[order] for tau in taus]
for i, (tau, p) in enumerate(zip(taus, spread, strict=True)):
    left = torch.arange(shown + 1) + 0.27 * (i - 1)
    bars = torch.cat([p[:shown], p[shown:].sum()[None]])
    words, pale = f"τ = {tau}: {entropy(p):.1f} bits", (1, 0.65, 0.35)[i]
    ax.bar(left, bars, 0.26, color="C0", alpha=pale, label=words)
names = [repr(tokenizer.characters[c])[1:-1].replace(" ", "·") for c in order[:shown]]
ax.set_xticks(range(shown + 1), [*names, "the\nother 55"])
ax.set_xlabel("next character")
ax.set_ylabel("probability")
ax.legend(frameon=False)
assert spread[0][0] > 2 * spread[2][0]
assert spread[2][shown:].sum() > 10 * spread[1][shown:].sum()
# caption: What may follow the I of Romeo's first line, at three temperatures.
# alt: Bars for the ten likeliest characters after "ROMEO: I" and for all others together, at
# temperatures 0.5, 1 and 2. At 0.5 nearly all goes to the likeliest, a space, drawn as a dot. At 2
# the others together, hardly visible at 1, have become a large bar.
plt.show()

# The order never changes, only the contrast. And see what happens on the right: none of the other
# characters is likely by itself, but there are many of them, and together they become a danger. How
# often, on real text, does a draw fall on a character that has less than one chance in a hundred?

from feedback.data.text import split
from feedback.data.tiny_shakespeare import load_tiny_shakespeare
from feedback.lm.generate import TINY
from feedback.support.checks import require

val = split(load_tiny_shakespeare(), tokenizer).val
read, _ = model(val[:8000].view(8, 1000))
read = read[:, mem_len:].flatten(0, 1)
p = read.softmax(-1)
unlikely = p < 0.01
for tau in (0.5, 1.0, 2.0):
    mass = ((read / tau).softmax(-1) * unlikely).sum(-1).mean().item()
    print(f"temperature {tau}: about one draw in {float(f'{1 / mass:.1g}'):.0f}")
    assert tau != 1 or 35 < 1 / mass < 50
many = unlikely.float().sum(-1).mean().item()
assert many > 55
print("of 65 characters, more than 55 are as unlikely as that")

# One in about forty, at temperature 1: that is one in a line of verse. It need not be a mistake: a
# model whose probabilities are right *should* draw such characters that often. But where they are
# wrong, the model must then go on from a text that nobody would have written. So one cuts off the
# tail.
#
# ## Cutting the tail
#
# There are two ways to cut: keep the `top_k` likeliest characters, or keep as many as it takes for
# their total probability to reach `top_p`. This is all of it, in the package:

from feedback.lm.generate import choose  # shown

# Which one cuts better? Take three places: in the middle of a name, after `I`, and before a new
# word.

torch.manual_seed(1)
places = {"O Jul": "ROMEO:\nO Jul", "I": "ROMEO:\nI", "The ": "ROMEO:\nThe "}

# @title Drawing code
fig, axes = plt.subplots(1, 3, figsize=(8.5, 2.6), sharey=True, layout="constrained")
for ax, (name, prompt) in zip(axes, places.items(), strict=True):
    logits = next_logits(prompt)
    p, order = logits.softmax(-1).sort(descending=True)
    kept = int((p.cumsum(-1) - p < 0.9).sum())
    ax.bar(range(20), p[:20], color=["C0" if i < kept else "0.75" for i in range(20)])
    ax.axvline(4.5, color="0.2", linestyle="--")
    ax.set_title(f"after {name!r}: top_p keeps {kept}", fontsize=10)
    signs = [repr(tokenizer.characters[c])[1:-1].replace(" ", "·") for c in order[:20]]
    ax.set_xticks(range(20), signs)
    # And does the package draw from these, and from no others?
    drawn = choose(logits.expand(4000, -1), top_p=0.9)
    count = torch.bincount(drawn, minlength=65)[order] / 4000
    assert torch.allclose(count[:kept], p[:kept] / p[:kept].sum(), atol=0.04)
    assert count[kept:].sum() == 0
    assert set(choose(logits.expand(4000, -1), top_k=5).tolist()) <= set(order[:5].tolist())
    print(f"after {name!r}: top_p = 0.9 keeps {kept}, top_k = 5 keeps 5")
axes[0].set_ylabel("probability")
axes[1].set_xlabel("next character, likeliest first (dashed: the cut of top_k = 5)")
# caption: Two ways to cut off what is unlikely. Coloured: kept by top_p; left of the dashes: kept
# by top_k.
# alt: Probabilities of the twenty likeliest characters at three places. Inside a name one character
# has nearly everything and top_p keeps it alone; after I it keeps five; before a new word the
# bars are low and even, and it keeps more than a dozen. top_k keeps five each time.
plt.show()

# `top_k` is the same everywhere: too wide where one letter is nearly certain, too narrow where any
# word may begin. `top_p` adapts to how sure the model is. Measured on the validation text from
# above:

sorted_p = read.softmax(-1).sort(descending=True).values
kept = (sorted_p.cumsum(-1) - sorted_p < 0.9).sum(-1)
alone, wide = (kept == 1).float().mean().item(), (kept > 10).float().mean().item()
five = sorted_p[:, :5].sum(-1)
assert 0.25 < alone < 0.35 and 0.15 < wide < 0.2
print(f"top_p = 0.9 keeps one character at {alone:.0%} of the places, over ten at {wide:.0%}")
print(f"top_k = 5 cuts off more than a quarter at {(five < 0.75).float().mean():.0%}")

# ## Write
#
# Change the prompt and the temperature as you like. On Colab they are a field and a slider;
# elsewhere they are plain assignments. The fixed seed makes it the same text each time.

prompt = "ROMEO:"  # @param {type:"string"}
temperature = 0.8  # @param {type:"slider", min:0, max:2, step:0.1}
generator = torch.Generator().manual_seed(1)
written = model.generate(
    tokenizer.encode(prompt)[None], 300, temperature, top_p=0.95, generator=generator
)
print(tokenizer.decode(written[0]))

# How close were these draws? Noise of 1e-5 on the output bias does not change any of them.

exact = model.head.bias.clone()
model.head.bias += 1e-5 * torch.randn(len(exact), generator=torch.Generator().manual_seed(3))
noisy = model.generate(
    tokenizer.encode(prompt)[None], 300, temperature, top_p=0.95, generator=generator.manual_seed(1)
)
model.head.bias.copy_(exact)
assert torch.equal(noisy, written) or (prompt, temperature) != ("ROMEO:", 0.8)
print(f"with noise of 1e-5: {(noisy == written).sum()} of {written.numel()} characters the same")

# ## Exercises
#
# 1. `generate` returns a text, and no memory. Let it write 60 characters, and then 60 more, without
#    reading the first 60 again for every new character. What must the second call be given so that
#    both together write what one call of 120 would have written?

# @title Solution
# The memory after all characters but the last. The last has not been read yet; it is the prompt.
once = model.generate(tokens, 120, temperature=0)
first = model.generate(tokens, 60, temperature=0)
_, memory = model(first[:, :-1])
second = model.generate(first[:, -1:], 60, temperature=0, memory=memory)
assert torch.equal(torch.cat([first[:, :-1], second], dim=1), once)
print(f"a memory of {len(memory)} slots and one character: the text goes on as if in one call")

# 2. Here is a third cut: keep every character that has at least a tenth of the probability of the
#    likeliest one. Write it. Where does it differ from `top_p`, and what does it cut from a
#    distribution over 65 characters that are all equally likely?

# @title Solution
# It compares each character with the likeliest, not with a sum. If all are equally likely it cuts
# none; `top_p = 0.9` cuts a tenth of the probability.
def min_p(logits: Tensor, share: float) -> Tensor:
    """Which tokens stay, `(B, V)`."""
    p = logits.softmax(-1)
    return p >= share * p.amax(-1, keepdim=True)


equal = torch.zeros(4000, 65)
assert min_p(equal, 0.1).all()
torch.manual_seed(0)
assert len(choose(equal, top_p=0.9).unique()) == math.ceil(0.9 * 65)
for name, prompt in places.items():
    print(f"after {name!r}: keeps {min_p(next_logits(prompt)[None], 0.1).sum()}")

# We have asked the model what comes next. What does it keep in memory in order to answer? That is
# the question of the [next notebook](08_inside_a_trained_model.py).
