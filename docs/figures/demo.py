r"""
---
title: Recorded runs
summary: What the page with the living models shows before they are loaded, or without a script.
---

# Recorded runs

On the page `demo` two models run in the reader's browser, once they are asked to. Until then, and
where there are no scripts, each has a drawing in its place: what it said once, and what its memory
was like at the end. `python -m docs figures` draws both from the models in the package.
"""

from html import escape

import torch

from feedback import FeedbackLM
from feedback.experiments.groups import Permutation, elements, products, table

from .drawing import ACCENT, INK, LINE, SOFT
from .inside import attention, mix, trained

PROMPT, TEMPERATURE, SEED, WRITTEN = "ROMEO:\n", 0.7, 2, 135
SHUFFLES = 6


def text(x: float, y: float, words: str, color: str = INK, more: str = "") -> str:
    """A line of text."""
    return (
        f'<text x="{round(x, 1)}" y="{y}" fill="{color}" {more}>{escape(words, quote=False)}</text>'
    )


def bar(x: float, y: float, width: float, height: float, opacity: float = 1) -> str:
    """A rectangle in the colour of feedback."""
    return (
        f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{height}" rx="2" fill="{ACCENT}" '
        f'fill-opacity="{opacity:.2f}"/>'
    )


@torch.no_grad()
def write() -> str:
    """The prompt, and what the model wrote after it."""
    model, tokenizer = trained()
    tokens = model.generate(
        tokenizer.encode(PROMPT)[None], WRITTEN, temperature=TEMPERATURE,
        generator=torch.Generator().manual_seed(SEED),
    )  # fmt: skip
    return PROMPT + tokenizer.decode(tokens[0])[-WRITTEN:]


@torch.no_grad()
def draw_demo(written: str) -> str:
    """The text, the next character, the mix, and the attention of each layer at the last one."""
    model, tokenizer = trained()
    reference = FeedbackLM.from_pretrained("tiny_shakespeare", implementation="reference")
    tokens = tokenizer.encode(written)
    alpha, mem_len = mix(model), model.config.mem_len
    rows = [layer[-1][-mem_len:] for layer in attention(reference, tokens)]
    p, order = model(tokens[None])[0][0, -1].softmax(-1).sort(descending=True)
    lines = written.split("\n")
    top, cell, left = 52 + 20 * len(lines), 11, 176
    height = top + 26 * len(alpha) + 54
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" data-figure="demo">',
        text(8, 18, "it writes", SOFT),
        text(520, 18, "the next character", SOFT),
        text(8, top, "share in memory", SOFT),
        text(left, top, "what each layer reads of the last 48 characters", SOFT),
    ]
    mono = 'font-family="ui-monospace, monospace" font-size="15"'
    svg += [text(8, 42 + 20 * i, line, more=mono) for i, line in enumerate(lines)]
    for i in range(6):
        y = 30 + 22 * i
        character = tokenizer.decode(order[i : i + 1])
        svg += [
            text(520, y + 12, {"\n": "↵", " ": "space"}.get(character, character), more=mono),
            bar(572, y, 90 * p[i].item(), 14),
            text(580 + 90 * p[i].item(), y + 12, f"{100 * p[i].item():.0f} %", SOFT),
        ]
    for l, a in enumerate(alpha):
        y = top + 12 + 26 * (len(alpha) - 1 - l)
        svg += [
            text(8, y + 15, f"layer {l}" if l else "embedding"),
            bar(92, y + 3, 64 * a / max(alpha), 14),
        ]
        for j, weight in enumerate(rows[l - 1] if l else []):
            svg.append(
                f'<rect x="{left + cell * j}" y="{y}" width="{cell - 1}" height="22" '
                f'fill="{ACCENT}" fill-opacity="{(weight / 100) ** 0.5:.2f}" stroke="{LINE}"/>'
            )
    slots = [{"\n": "↵", " ": "·"}.get(c, c) for c in written[-1 - mem_len : -1]]
    y, middle = top + 12 + 26 * len(alpha) + 14, 'text-anchor="middle" font-family="monospace"'
    svg += [text(left + cell * (j + 0.5), y, c, more=middle) for j, c in enumerate(slots)]
    return "\n".join([*svg, text(8, y, "memory"), "</svg>"]) + "\n"


def cards(y: Permutation) -> str:
    """The letters of the cards, from left to right, once the permutation `y` is carried out."""
    return "".join("ABCDE"[y.index(place)] for place in range(len(y)))


@torch.no_grad()
def shuffle() -> tuple[list[int], list[int], list[int]]:
    """Random shuffles, the model's answer after each, and the true one."""
    model = FeedbackLM.from_pretrained("a5")
    tokens = torch.randint(60, (1, SHUFFLES), generator=torch.Generator().manual_seed(SEED))
    said = model(tokens)[0].argmax(-1)
    return tokens[0].tolist(), said[0].tolist(), products(table("a5"), tokens)[0].tolist()


def draw_cards() -> str:
    """Each shuffle as five lines, and the cards as the model says they lie after it."""
    group = elements("a5")
    tokens, said, _ = shuffle()
    svg = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 150" data-figure="cards">']
    for t in range(SHUFFLES):
        x = 8 + 120 * t
        svg.append(text(x, 18, f"shuffle {t + 1}", SOFT))
        svg += [
            f'<path d="M{x + 8 + 20 * i} 28 L{x + 8 + 20 * place} 78" stroke="{INK}" '
            'stroke-width="2" fill="none"/>'
            for i, place in enumerate(group[tokens[t]])
        ]
        for place, card in enumerate(cards(group[said[t]])):
            svg += [
                f'<rect x="{x + 20 * place}" y="88" width="17" height="28" rx="3" fill="none" '
                f'stroke="{ACCENT}" stroke-width="1.5"/>',
                text(x + 8.5 + 20 * place, 107, card, more='text-anchor="middle"'),
            ]
    return "\n".join([*svg, text(8, 140, "the cards, as the model says", SOFT), "</svg>"]) + "\n"


def draw_runs() -> dict[str, str]:
    """Both drawings, by the names of their files."""
    return {"demo.svg": draw_demo(write()), "cards.svg": draw_cards()}
