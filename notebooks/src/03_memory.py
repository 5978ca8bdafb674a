# # The memory
#
# A step is over. Its embedding went in at the bottom, each layer added something, and a prediction
# came out at the top. All of that is about to be forgotten. What should the step leave behind
# for the ones that follow?
#
# The Feedback Transformer leaves one vector, mixed from all of its layers. We build the mix and the
# recurrence around it by hand, meet the implementation that defines what all others must compute,
# and then follow a gradient back through time to see what the mix makes possible.

# @title Imports
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from feedback import FeedbackLM, ModelConfig, TransformerLM
from feedback.support.figures import use_style

use_style()
torch.manual_seed(0)
torch.set_printoptions(precision=3, sci_mode=False)
torch.set_default_dtype(torch.float64)

# ## One vector from many
#
# Take a step of a model with $L = 3$ layers. It has four states: the embedding $x^0$ and
# what each layer made of it, $x^1, x^2, x^3$. Each is `(B, D)`.

L, B, D = 3, 1, 6
states = torch.randn(L + 1, B, D)
print(states[:, 0])

# The memory vector is their weighted sum, with weights that are positive and add up to one:
#
# $$m = \sum_{l=0}^{L} \alpha_l \, x^l, \qquad \alpha = \mathrm{softmax}(w)$$
#
# $w$ is learned: $L + 1$ numbers for the whole model. When they are all zero, every state counts
# the same.

w = torch.zeros(L + 1)
alpha = w.softmax(0)
m = torch.einsum("l,lbd->bd", alpha, states)
print("alpha", alpha)
print("m    ", m[0])

# That sum is all that the idea adds to a Transformer, and so the class is short.

from feedback.layers import LayerMix  # shown

# Same numbers in, same vector out:

mix = LayerMix(L)
assert torch.equal(mix(states), m)
numbers, difference = sum(p.numel() for p in mix.parameters()), (mix(states) - m).abs().max()
print(f"{numbers} parameters; largest difference {difference:.1f}")

# ## Three ways to set four numbers
#
# What do the weights decide? Raise one of them far enough, and the sum becomes a choice of one
# state.

for name, l in {"the embedding": 0, "the top layer": 3}.items():
    chosen = LayerMix(L)
    chosen.weight.data[l] = 100
    assert torch.allclose(chosen(states), states[l])
    print(f"all weight on {name}: m = x^{l}")

# With all weight on the top layer this is a recurrent network with attention: later steps read what
# this step concluded. With all weight on the embedding, later steps read what this step was *told*,
# and nothing of what it concluded. Keep this second case in mind. It looks harmless, and we come
# back to it.
#
# ## Around the loop
#
# Now a sequence. For each step in turn: go up through the layers, each of which reads the memory,
# then mix, then append. Take a small model and run this loop by hand, with the model's own layers.

sizes = {"d_model": 16, "n_layers": L, "n_heads": 2, "mem_len": 8}
# Without the norm of the memory, which would add a line to what follows.
config = ModelConfig(vocab_size=11, **sizes, norm_memory=False)
model = FeedbackLM(config, implementation="reference")
with torch.no_grad():
    for p in model.parameters():
        p.add_(0.3 * torch.randn_like(p))  # as if it had been trained
tokens = torch.randint(11, (1, 6))
stack = model.transformer

memory, outputs = [], []
for t in range(tokens.shape[1]):
    # $x_t^0$
    x = model.embedding(tokens[:, t])
    states = [x]
    # $m_{t-S} \dots m_{t-1}$: what came before, never the present step
    window = torch.stack(memory[-config.mem_len :], 1) if memory else x.new_empty(1, 0, 16)
    k, v = (rows.transpose(1, 2) for rows in stack.kv(window))
    for layer in stack.layers:
        # $x_t^l$
        x = layer(x, k, v)
        states.append(x)
    # $m_t$
    memory.append(stack.mix(torch.stack(states)))
    outputs.append(model.head(stack.norm(x)))
    print(f"step {t}: {len(states)} states become 1 vector; {k.shape[2]} slots were read")

# Look again at the order of this loop, because everything else follows from it. The first layer of
# step 3 needs the memory of step 2, and the memory of step 2 needs its *last* layer. The attention
# of step 3 cannot begin before all of step 2 is over. A parallel Transformer computes its steps
# side by side, and only its $L$ layers one after the other; here there are $T \cdot L$ layers to
# run one after the other.
#
# ## The reference
#
# The package has this loop too, in [reference](../../feedback/reference.py). It is written to be
# obviously right rather than fast, and it has what we left out. `DropoutMasks` say which attention
# weights and units survive. `Pairs` are pairs of keys and values: one pair if they are shared, else
# one for each layer.

from feedback.layers import DropoutMasks
from feedback.reference import Pairs, Recurrence

# One step of time:

from feedback.reference import recurrent_step  # shown

# Do the two loops agree? Compare the outputs first, and then the memory, from which the next call
# would continue.

logits, after = model(tokens)
assert torch.allclose(torch.stack(outputs, 1), logits, rtol=0, atol=1e-12)
assert torch.allclose(torch.stack(memory, 1), after.m, rtol=0, atol=1e-12)
print("logits", tuple(logits.shape), "memory", tuple(after.m.shape))
print(f"numbers up to {after.m.abs().max():.1f}, and no two differ by 1e-12")

# Everything faster in this package has to equal this loop to 1e-12, in its outputs and in every
# gradient. That is what "exact" means here, and the next two notebooks rely on it: [what is shared
# and kept](04_shared_keys_and_values.py) and [training fast](05_fast_and_exact.py).
#
# ## How far does a thought travel?
#
# Here is what feedback is for. Give the model a window of only four slots, and change one token.
# Which later steps notice? In a parallel Transformer one layer reads four steps back and two layers
# reach eight steps back. There it ends: no path leads further. In a recurrence each step passes on
# what it received.

T, far, mem_len = 40, 2, 4
small = {"vocab_size": 11, "d_model": 32, "n_layers": far, "n_heads": 2, "mem_len": mem_len}
feedback = FeedbackLM(ModelConfig(**small))
parallel = TransformerLM(ModelConfig(**small, share_kv=False))
tokens = torch.randint(11, (1, T))


def reach(model: nn.Module) -> Tensor:
    """For each input, the length of the gradient of the last output in one direction."""
    x = model.embedding(tokens).detach().requires_grad_()
    y, _ = model.transformer(x)
    direction = torch.randn(y.shape[-1], generator=torch.Generator().manual_seed(1))
    (grad,) = torch.autograd.grad(y[0, -1] @ direction, x)
    return grad[0].norm(dim=-1).flip(0)


reaches = {"with feedback": reach(feedback), "parallel": reach(parallel)}

# @title Drawing code
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for name, marker in zip(reaches, "os", strict=True):
    there = reaches[name] > 0
    ax.semilogy(torch.arange(T)[there], reaches[name][there], marker, markersize=4, label=name)
ax.axvline(far * mem_len, color="0.5", linestyle=":", label="layers × mem_len")
ax.set_xlabel("distance to the last step (tokens)")
ax.set_ylabel("gradient (length)")
ax.legend(frameon=False)
# caption: How far back the last output reaches: its gradient with respect to each earlier input.
# alt: The length of the gradient of the last output with respect to earlier inputs. The parallel
# model's points stop at a distance of eight; those of feedback go on, ever smaller, to forty.
plt.show()

# The parallel model's gradient is not small beyond eight steps: it is zero, and no training will
# change that. With feedback the gradient is nonzero over all forty. It is faint, though: each step
# passes on only a part of what it received, so the line falls steadily, as in many recurrent
# networks before training. Whether the path is used depends on training. That there is a path does
# not.

beyond = slice(far * mem_len + 1, None)
assert reaches["parallel"][beyond].max() == 0
assert reaches["with feedback"][beyond].min() > 0
print("parallel, beyond", far * mem_len, "steps:", reaches["parallel"][beyond].max().item())
print(f"with feedback, at the farthest: {reaches['with feedback'][-1]:.0e}")

# ## Feedback can be switched off
#
# Now the case that looked harmless. Put all weight of the mix on the embedding. The memory of a
# step is then known before the step is computed, so no step has to wait for another. The class and
# the loop are the same, but the recurrence is gone.

with torch.no_grad():
    feedback.transformer.mix.weight[0] = 100
off = reach(feedback)
assert off[mem_len + 1 :].max() < 1e-30 and off[1 : mem_len + 1].min() > 1e-30
print("reach with all weight on the embedding:", int((off > 1e-30).sum()) - 1, "steps")

# Four steps, the width of the window: *less* than the parallel Transformer's eight, because its
# second layer reads what the first layer of earlier steps has already gathered. So $\alpha$ sets
# how recurrent the model is, and it is learned. The model that comes with the package chose
# something in between:

trained = FeedbackLM.from_pretrained("tiny_shakespeare").transformer.mix.weight.softmax(0)
assert 0.4 < trained[0] < 0.5
print("weight of the embedding:", round(trained[0].item(), 1))
print("of the four layers together:", round(1 - trained[0].item(), 1))

# @title Drawing code
mixes = {
    "only the embedding:\nno recurrence": [1, 0, 0, 0, 0],
    "before training": [0.2] * 5,
    "trained on Shakespeare": trained.tolist(),
    "only the top layer:\na recurrent network": [0, 0, 0, 0, 1],
}
fig, ax = plt.subplots(figsize=(5, 2.8), layout="constrained")
at = torch.zeros(len(mixes))
for l, colour in enumerate(("0.75", "C0", "C5", "C3", "C4")):
    share = torch.tensor([weights[l] for weights in mixes.values()])
    label = f"layer {l}" if l else "embedding"
    ax.barh(list(mixes), share.tolist(), 0.6, left=at.tolist(), color=colour, label=label)
    at += share
ax.invert_yaxis()
ax.set_xlim(0, 1)
ax.set_xlabel("share of the memory vector")
ax.spines[["top", "right"]].set_visible(False)
fig.legend(frameon=False, loc="outside lower center", ncols=5, columnspacing=1)
assert torch.allclose(at, torch.ones(4)) and trained[1] + trained[2] < 0.05 < trained[3]
# caption: Four choices of weights, and the share that each layer then has in the memory.
# alt: Four bars, each divided among the embedding and four layers. Without recurrence all belongs
# to the embedding, before training each has a fifth, and in a recurrent network all belongs to the
# top layer. In the trained model the embedding has nearly half, layers 3 and 4 a quarter each, and
# layers 1 and 2 next to nothing.
plt.show()

# ## What the loss says about a layer
#
# How are the weights of the mix learned? By their gradient, like everything else, but this gradient
# has a special form. If one layer's share grows, the others' shrink, so the gradients of $w$ always
# sum to zero:
#
# $$\frac{\partial \mathcal{L}}{\partial w_l} = \alpha_l \Big( g_l - \sum_i \alpha_i g_i \Big),
#   \qquad g_l = \frac{\partial \mathcal{L}}{\partial \alpha_l}$$
#
# Training raises a layer's weight if more of that layer would lower the loss more than more of the
# present mix would. To see $g$, we let a hook do the mixing with our own copy of the shares
# $\alpha$, which autograd treats as independent numbers.

tokens, targets = torch.randint(11, (4, 12)), torch.randint(11, (48,))


def loss() -> Tensor:
    """The loss of the model as it is."""
    return nn.functional.cross_entropy(model(tokens)[0].flatten(0, 1), targets)


(grad,) = torch.autograd.grad(loss(), stack.mix.weight)
alpha = stack.mix.weight.detach().softmax(0).requires_grad_()
hook = stack.mix.register_forward_hook(lambda _, x, m: torch.einsum("l,lbd->bd", alpha, x[0]))
(g,) = torch.autograd.grad(loss(), alpha)
hook.remove()
formula = alpha.detach() * (g - alpha.detach() @ g)
print("alpha          ", alpha.detach())
print("g              ", g)
print("by the formula ", formula)
print("gradient of w  ", grad)
assert torch.allclose(grad, formula, rtol=1e-9, atol=0)
assert abs(grad.sum()) < 1e-12 < 1e-6 < grad.abs().max()

# ## Exercises
#
# 1. Cut a sequence in two. Run the first part, hand its memory to the second, and show that the
#    outputs are those of the uncut sequence. Then detach the memory between them: what stays the
#    same, and what does not?

# @title Solution
tokens = torch.randint(11, (1, 12))
whole, _ = model(tokens)
first, memory = model(tokens[:, :5])
second, _ = model(tokens[:, 5:], memory=memory)
assert torch.allclose(torch.cat([first, second], 1), whole, rtol=0, atol=1e-12)
cut, _ = model(tokens[:, 5:], memory=memory.detach())
assert torch.equal(cut, second)
# The outputs are the same. What is lost is the gradient's way back: no loss after the cut can
# train the steps before it.
weight = model.transformer.layers[0].ff.up.weight
grads = [torch.autograd.grad(y.sum(), weight, retain_graph=True)[0] for y in (second, cut)]
assert not torch.allclose(*grads)
apart, size = (grads[0] - grads[1]).norm(), grads[0].norm()
print(f"outputs differ by {(cut - second).abs().max():.1f}, gradients by {apart / size:.0%}")

# 2. With all weight on the embedding no step waits for another, so all keys can be computed at
#    once, before the first step. Do it, and compare with the loop.

# @title Solution
with torch.no_grad():
    stack.mix.weight.zero_()
    stack.mix.weight[0] = 100
tokens = torch.randint(11, (1, 7))
embedded = model.embedding(tokens)
keys, values = (rows.transpose(1, 2) for rows in stack.kv(embedded))
logits = []
for t in reversed(range(7)):  # in any order: no step has to wait
    x = embedded[:, t]
    for layer in stack.layers:
        x = layer(x, keys[:, :, :t], values[:, :, :t])
    logits.insert(0, model.head(stack.norm(x)))
assert torch.allclose(torch.stack(logits, 1), model(tokens)[0], rtol=0, atol=1e-12)
print("backwards in time: no logit differs by 1e-12")

# The loop at the beginning computed every key anew at every step. A key never changes once its
# memory vector is known, so why not keep it? The next notebook, on [shared keys and
# values](04_shared_keys_and_values.py), does that.
