r"""
---
title: Text
summary: From a text to batches, in windows drawn at random or segments that carry on.
---

# Text

The data of this chapter is one text. Three things turn it into training batches: a split that
keeps the last tenth for validation, a [tokenizer](tokenizer.py) that numbers what it is made of,
and a way to cut sequences from the rest.

There are two ways to cut. *Random* windows are independent of each other, and a model trained
on them starts each one with an empty memory. With *carried* segments the text is
laid out in `batch_size` long rows, and each batch continues where the last one ended, memory
included:

$$\underbrace{x_1 \dots x_T}_{\text{batch } 1}\;
  \underbrace{x_{T+1} \dots x_{2T}}_{\text{batch } 2}\;\dots$$

The gradient still stops at the border of a batch, but the memory that the model reads there is of
the kind that it will read when it is used.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..support.checks import expect, require, require_fits
from ..support.files import read_file
from .enwik8 import TRAIN, VAL, load_enwik8
from .tiny_shakespeare import load_tiny_shakespeare
from .tokenizer import Tokenizer, in_pieces, make_tokenizer, number, path_of


def read_text(path: Path) -> str:
    """
    The text of a UTF-8 file, each line break as `\\n`, without the byte order mark that some
    editors put before it. Raises `ValueError` if it is unreadable or not UTF-8.
    """
    try:
        text = read_file(path).decode().removeprefix("\N{BYTE ORDER MARK}")
        return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}; "
            "save it as UTF-8"
        ) from error
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


def load_text(data: str) -> str:
    """
    The text that `data` names: `"tiny_shakespeare"`, the path of a text file, or that of a folder,
    whose `.txt` files are joined in the order of their names. Raises `ValueError` if that gives no
    text.
    """
    if data == "tiny_shakespeare":
        return load_tiny_shakespeare()
    expect(data != "enwik8", "data", data, "a text; enwik8 is bytes: use tokenizer bytes")
    text = "\n".join(read_text(file) for file in files_of(data))
    require(bool(text), f"{data} is empty, expected some text to learn from")
    return text


def load_bytes(data: str) -> bytes:
    """
    As `load_text`, but the bytes as they are, so a file may hold anything. `"enwik8"` is that text
    without its last part, on which models are tested.
    """
    if data == "tiny_shakespeare":
        return load_tiny_shakespeare().encode()
    if data == "enwik8":
        whole = load_enwik8()
        return whole[: len(whole) * (TRAIN + VAL) // 100]
    try:
        content = b"\n".join(read_file(file) for file in files_of(data))
    except OSError as error:
        raise ValueError(f"cannot read {error.filename}: {error.strerror}") from error
    require(bool(content), f"{data} is empty, expected some bytes to learn from")
    return content


def files_of(data: str) -> list[Path]:
    """The file `data`, or the `.txt` files of the folder; raises `ValueError` if there is none."""
    words = "tiny_shakespeare, a text file, a folder of .txt files, or, with bytes, enwik8"
    path = path_of("data", data, words)
    try:
        folder, exists = path.is_dir(), path.exists()
        files = sorted(path.rglob("*.txt")) if folder else [path] * exists
        size = sum(file.stat().st_size for file in files)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    require(bool(files) or not folder, f"the folder {path} has no .txt file")
    expect(bool(files), "data", data, words)
    # The text, and four bytes for the number of each character.
    require_fits(5 * size, f"the text {data}")
    return files


class Corpus(NamedTuple):
    """
    ## A text in two parts

    Token ids of the first part, for training, int32, and of the rest, for validation, int64; how
    many bytes of the text a token of the latter stands for; and a digest that tells this text, in
    these tokens, from any other.
    """

    train: Tensor
    val: Tensor
    bytes_per_token: float
    digest: str


def split(text: str | bytes, tokenizer: Tokenizer, border: int | None = None) -> Corpus:
    """The parts of `text`, cut at `border`, or after nine tenths, before they are numbered."""
    border = int(0.9 * len(text)) if border is None else border
    train, val = number(tokenizer, text, end=border), number(tokenizer, text, border).long()
    digest = hashlib.sha256()
    for start, end in ((0, border), (border, len(text))):
        rest = 0
        for piece in in_pieces(text, start, end):
            content = piece if isinstance(piece, bytes) else piece.encode()
            digest.update(content)
            rest += len(content)
    digest.update((tokenizer.json or "").encode())
    return Corpus(train, val, rest / max(1, len(val)), digest.hexdigest())


def load_corpus(data: str, tokenizer: str) -> tuple[Tokenizer, Corpus]:
    """The text that `data` names, in two parts, and the tokenizer that `tokenizer` names."""
    text = load_bytes(data) if tokenizer == "bytes" else load_text(data)
    chosen = make_tokenizer(tokenizer, text)
    border = len(text) * TRAIN // (TRAIN + VAL) if data == "enwik8" else None
    return chosen, split(text, chosen, border)


def require_enough(corpus: Corpus, seq_len: int) -> None:
    """
    Raises `ValueError` if the first part is shorter than one sequence and its targets, or the
    second has nothing to predict.
    """
    train, val = len(corpus.train), len(corpus.val)
    require(
        train > seq_len and val > 1,
        f"the text has {train + val} tokens, {train} for training and {val} for validation, "
        f"expected at least {seq_len + 1} and 2; use more text or a smaller seq_len",
    )


class Batch(NamedTuple):
    """Tokens and the tokens that follow them, both `(B, T)`; `new` if no memory is carried in."""

    tokens: Tensor
    targets: Tensor
    new: bool


def random_batch(tokens: Tensor, B: int, T: int, generator: torch.Generator | None = None) -> Batch:
    """`B` windows of `T` tokens, at places drawn from `generator`, or PyTorch's global one."""
    starts = torch.randint(len(tokens) - T, (B, 1), generator=generator)
    rows = tokens[starts + torch.arange(T + 1)].long()
    return Batch(rows[:, :-1], rows[:, 1:], new=True)


def carried_batch(tokens: Tensor, B: int, T: int, position: int) -> Batch:
    """
    The text is cut into `B` rows; the batch is the segment of each that begins after `position`
    tokens, a multiple of `T`. It depends on nothing else, so a run need not store where it was in
    order to be resumed. After the last whole segment the rows start over, with a new memory.
    """
    rows = (len(tokens) - 1) // B
    require(
        rows >= T,
        f"{len(tokens)} tokens for training, cut into batch_size = {B} rows, give rows of "
        f"{rows}, expected at least {T}; use more text, a smaller batch_size or a smaller seq_len",
    )
    at = position % (rows // T * T)
    places = torch.arange(B)[:, None] * rows + at + torch.arange(T + 1)
    segment = tokens[places].long()
    return Batch(segment[:, :-1], segment[:, 1:], new=at == 0)


IGNORE = -100
"""Marks a position without a target; `F.cross_entropy` leaves it out."""


def validation_batches(tokens: Tensor, B: int, T: int) -> Iterator[Batch]:
    """
    All of `tokens`, in at most `B` rows, carried: every token but the first is a target exactly
    once. Positions after the end of the text have the target `IGNORE`.
    """
    N = len(tokens) - 1
    B = min(B, N)
    rows = -(-N // B)
    inputs = torch.zeros(B * rows, dtype=torch.long)
    targets = torch.full((B * rows,), IGNORE)
    inputs[:N], targets[:N] = tokens[:-1], tokens[1:]
    inputs, targets = inputs.view(B, rows), targets.view(B, rows)
    for at in range(0, rows, T):
        yield Batch(inputs[:, at : at + T], targets[:, at : at + T], new=at == 0)
