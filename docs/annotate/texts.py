r"""
---
title: Texts
summary: Sections of sources that are not Python: C++, Markdown, and the folder of a run.
---

# Texts

Three more kinds of source. A C++ file is cut at the comments that have lines to themselves, a text
at its headings, and a recorded run is written out as Markdown first.
"""

import json
import re
from pathlib import Path

from .markup import slug
from .sections import Section


def first_words(prose: str) -> str:
    """A name for a section without a heading, unchanged when lines are added above it."""
    return slug(" ".join(prose.split()[:6]))


def split_cpp(text: str) -> list[Section]:
    """
    Cuts a C++ file at the comments that have lines to themselves: each is prose, and what follows
    is its code. A comment after code on the same line stays with the code.
    """
    sections: list[Section] = []
    comment = False
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.lstrip()
        if not bare.startswith("//"):
            comment = False
            if bare or (sections and sections[-1].code):
                sections = sections or [Section("begin", None, "", 1)]
                sections[-1].code.append((number, line))
            continue
        if not comment:
            # Named after its first words, which stay the same when lines are added above.
            anchor = first_words(bare.removeprefix("//"))
            while any(section.anchor == anchor for section in sections):
                anchor += "-2"
            sections.append(Section(anchor, None, "", number))
        comment = True
        sections[-1].prose += bare.removeprefix("//").removeprefix(" ") + "\n"
    return sections


def split_text(text: str, first: int) -> list[Section]:
    """Cuts a text at headings of the first two levels; each section is named after its heading."""
    sections = [Section("text", None, "", first)]
    fenced = False
    for number, line in enumerate(text.split("\n"), first):
        fenced ^= line.startswith("```")
        if not fenced and re.match("##? ", line) and sections[-1].prose.strip():
            sections.append(Section(slug(line), None, "", number))
        sections[-1].prose += line + "\n"
    for section in sections:
        section.prose = section.prose.rstrip()
    return sections


def run_text(folder: Path) -> str:
    """The page of a recorded run, as Markdown."""
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines]
    last = metrics[-1]
    settings = {k: v for k, v in stored.items() if k not in ("train", "characters")}
    settings |= stored["train"]
    rows = "\n".join(f"| `{key}` | {value} |" for key, value in settings.items())
    losses = "\n".join(
        f"| {m['step']} | {m['tokens']:,} | {m['seconds']:.0f} | {m['val_loss']:.4f} |"
        for m in metrics if m["val_loss"] is not None
    )  # fmt: skip
    sample = (folder / "sample.txt").read_text(encoding="utf-8").strip()
    return f"""---
title: The run {folder.name}
summary: {last["tokens"]:,} characters in {last["seconds"]:.0f} s, to a validation loss of \
{last["val_loss"]:.4f} nats.
---

# The run {folder.name}

![Training and validation loss of the run {folder.name}, against the characters seen. The
validation loss ends at {last["val_loss"]:.4f} nats.](loss.png "The loss on the training text, pale
and smoothed, and on the validation text, with a point for each validation.")

## Validation

| step | characters | seconds | loss |
|---|---|---|---|
{losses}

## What it writes

```
{sample}
```

## Settings

| setting | value |
|---|---|
{rows}
""".replace("\\\n", "")


def first_two(text: str) -> dict[str, str]:
    """The first two paragraphs of a text are its title and its summary."""
    heading, first = (part.strip() for part in f"{text}\n\n".split("\n\n")[:2])
    return {"title": heading.lstrip("# "), "summary": " ".join(first.split())}
