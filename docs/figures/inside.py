r"""
---
title: Figures of a trained model
summary: Drawings of what the model that comes with the package has learnt.
---

# Figures of a trained model

`python -m docs figures` looks into the trained model of the package and draws two figures: the
weights $\alpha_l$ that mix its layers into the memory, and the characters each layer attends to.
The figures are drawn once and stored in the repository, so building the site needs no model; a test
looks into the model again and compares.

A weight says how much of a layer goes into the memory, not how much worse the model is without it.
So each layer is also left out once, and a click on its bar shows the loss without it.
"""

import json
from pathlib import Path

import torch

from feedback import FeedbackLM
from feedback.data.text import split
from feedback.data.tiny_shakespeare import load_tiny_shakespeare
from feedback.data.tokenizer import Characters
from feedback.lm.pretrained import TRAINED, read_config
from feedback.training.evaluate import evaluate

from .drawing import ACCENT, INK, LINE, PAPER, SOFT

HERE = Path(__file__).parent
TEXT = "JULIET:\nO Romeo, Romeo! wherefore art thou Romeo?\n"
CELL, ROW, LEFT = 15, 24, 70

READ = 16_000
"""The number of characters of the validation text on which these losses are measured."""


def mix(model: FeedbackLM) -> list[float]:
    r"""$\alpha_0 \dots \alpha_L$, to three digits."""
    return [round(a, 3) for a in model.transformer.mix.weight.softmax(0).tolist()]


@torch.no_grad()
def without(model: FeedbackLM, tokens: torch.Tensor, layers: list[int | None]) -> list[float]:
    r"""
    For each of `layers` the loss, in nats, when $\alpha_l$ is zero and the others are scaled up to
    sum to one; for `None` nothing is left out. `tokens` is `(T,)`.
    """
    weight, losses = model.transformer.mix.weight, []
    learned = weight.clone()
    for l in layers:
        if l is not None:
            weight[l] = -torch.inf
        losses.append(evaluate(model, tokens, seq_len=64, batch_size=32))
        weight.copy_(learned)
    return losses


@torch.no_grad()
def attention(model: FeedbackLM, tokens: torch.Tensor) -> list[list[list[int]]]:
    """
    For each layer and step, the attention weight of each earlier step, averaged over the heads, in
    percent. `tokens` is `(T,)`.
    """
    rows: list[list[list[int]]] = [[] for _ in model.transformer.layers]

    def look(l: int, module: torch.nn.Module, inputs: tuple) -> None:
        z, k = inputs[:2]
        q = module.query(z).unflatten(-1, (module.n_heads, module.d_k))
        weights = module.scores(q, k).softmax(-1)[0].mean(0)
        rows[l].append((100 * weights).round().int().tolist())

    hooks = [
        layer.attn.register_forward_pre_hook(lambda m, inputs, l=l: look(l, m, inputs))
        for l, layer in enumerate(model.transformer.layers)
    ]
    model(tokens[None])
    for hook in hooks:
        hook.remove()
    # The first step has nothing to attend to, and what has left the window gets nothing.
    every = [[[], *steps] for steps in rows]
    return [[[0] * (t - len(row)) + row for t, row in enumerate(steps)] for steps in every]


def in_words(loss: float, whole: float) -> str:
    """
    The loss, with digits only where they are stable. A model far from what it was trained on
    amplifies rounding, and processors round differently: then only a lower bound is given.
    """
    if loss - whole < 0.5:
        return f"{loss:.2f}"
    assert loss - int(loss) > 0.1, "too close to the bound"
    return f"above {int(loss)}"


def draw_mix(alpha: list[float], losses: list[float]) -> str:
    """
    A bar for the weight of each layer, and a line at the weight that all would have if they were
    equal. `losses` has the loss with all layers, then the loss without each of them; the page's
    script shows them one at a time.
    """
    width, height, top = 520, 40 + 30 * len(alpha), max(alpha)
    names = ["the embedding", *(f"layer {l}" for l in range(1, len(alpha)))]
    says = [f"With all layers in memory the loss is {losses[0]:.2f} nats"]
    pairs = zip(names, losses[1:], strict=True)
    says += [f"Without {name} it is {in_words(loss, losses[0])}" for name, loss in pairs]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'data-figure="mix" data-says="{"|".join(says)}">'
    ]
    for l, a in enumerate(alpha):
        y = 10 + 30 * l
        end = round(100 + 340 * a / top, 1)
        name = names[l].removeprefix("the ")
        lines += [
            f'<g class="bar" data-l="{l}"><text x="92" y="{y + 16}" text-anchor="end" '
            f'fill="{INK}">{name}</text>',
            f'<rect x="100" y="{y}" width="{round(end - 100, 1)}" height="22" rx="3" '
            f'fill="{ACCENT}"/>',
            f'<text x="{end + 8}" y="{y + 16}" fill="{INK}">{a:.3f}</text></g>',
        ]
    x = round(100 + 340 / len(alpha) / top, 1)
    lines += [
        *(
            f'<path d="M{x} 4 V{height - 26}" stroke="{color}" stroke-width="{w}" {dash}/>'
            for color, w, dash in [
                (PAPER, 4, ""),
                (INK, 1.5, 'stroke-dasharray="4 3"'),
            ]
        ),
        f'<text x="{x}" y="{height - 8}" text-anchor="middle" fill="{SOFT}">'
        f"all equal, {1 / len(alpha):.3f}</text>",
    ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def draw_attention(text: str, weights: list[list[list[int]]], chosen: int) -> str:
    """A row of cells for each layer; the page's script lets a reader choose another character."""
    T, L = len(text), len(weights)
    width, height = LEFT + CELL * T + 10, 50 + ROW * L
    data = json.dumps(weights, separators=(",", ":"))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'data-figure="attention" data-chosen="{chosen}" data-weights="{data}">'
    ]
    for l in range(L):
        y = 40 + ROW * l
        lines.append(
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end" fill="{INK}">layer {l + 1}</text>'
        )
        for t in range(T):
            weight = weights[l][chosen][t] if t < chosen else 0
            lines.append(
                f'<rect class="cell" data-l="{l}" data-t="{t}" x="{LEFT + CELL * t}" y="{y}" '
                f'width="{CELL - 1}" height="{ROW - 4}" fill="{ACCENT}" '
                f'stroke="{LINE}" fill-opacity="{(weight / 100) ** 0.5:.2f}"/>'
            )
    for t, character in enumerate(text):
        shown = {"\n": "↵", " ": "·", "<": "&lt;", "&": "&amp;"}.get(character, character)
        weight = "bold" if t == chosen else "normal"
        lines.append(
            f'<text class="character" data-t="{t}" x="{LEFT + CELL * t + CELL // 2}" y="26" '
            f'text-anchor="middle" font-family="monospace" font-weight="{weight}" '
            f'fill="{INK}">{shown}</text>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def trained() -> tuple[FeedbackLM, Characters]:
    """The model in the package, and its characters."""
    model = FeedbackLM.from_pretrained("tiny_shakespeare")
    return model, Characters(read_config(TRAINED / "tiny_shakespeare")["characters"])


def draw() -> dict[str, str]:
    """Both figures, by the names of their files."""
    model, tokenizer = trained()
    val = split(load_tiny_shakespeare(), tokenizer).val[:READ]
    losses = without(model, val, [None, *range(model.config.n_layers + 1)])
    reference = FeedbackLM.from_pretrained("tiny_shakespeare", implementation="reference")
    weights = attention(reference, tokenizer.encode(TEXT))
    return {
        "mix.svg": draw_mix(mix(model), losses),
        "attention.svg": draw_attention(TEXT, weights, TEXT.rindex("R") + 3),
    }
