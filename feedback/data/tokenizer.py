r"""
---
title: Tokenizers
summary: Three ways to number a text: by its characters, its bytes, or the pieces of a file.
---

# Tokenizers

A model sees numbers. What do they stand for? In this chapter for characters, which are few and can
be read. Bytes are fewer still and know every file, whatever it holds. Pieces of words, learnt from
a text, make sequences three or four times shorter; such a tokenizer comes as a file in the
format of Hugging Face's `tokenizers`.

The loss in nats per token does not compare across them, since a token is not always as much text.
Bits per byte do, if no text is lost (a tokenizer that lower-cases, or has one token for all unknown
words, makes them look too low). For $N$ tokens that stand for $M$ bytes,

$$\text{bits per byte} = \frac{N}{M} \cdot \frac{\text{nats per token}}{\ln 2}$$

A trained model is of no use without its tokenizer, so `Tokenizer.to_dict` goes into the
`config.json` beside the weights, and the file of the third kind is copied beside it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..support.checks import expect, require, shown
from ..support.files import read_file

PIECE = 2**21
"""How many characters or bytes are numbered at once."""

TOKENIZER = "tokenizer.json"
"""The file beside a model whose tokenizer is one of Hugging Face's."""


class Tokenizer(Protocol):
    """
    ## What every tokenizer can do
    """

    json: str | None
    """The contents of `tokenizer.json`, if it has one."""

    def __len__(self) -> int:
        """$V$, the size of the vocabulary."""

    def encode(self, text: str) -> Tensor:
        """Token ids of `text`, `(T,)`."""

    def decode(self, tokens: Tensor) -> str:
        """The text of token ids `(T,)`."""

    def to_dict(self) -> dict[str, Any]:
        """What `config.json` says about it; `stored_tokenizer` is the inverse."""


class Characters:
    """
    ## Characters

    A character's id is its place in the sorted list of those that occur. Raises `ValueError` if
    `characters` is not such a list.
    """

    json: str | None = None

    def __init__(self, characters: str):
        words = "different characters in order"
        expect(list(characters) == sorted(set(characters)), "characters", characters, words)
        self.characters = characters
        # The id of each character by its number in Unicode; -1 where there is none, and at the end
        # for all characters beyond.
        codes = code_points(characters).long()
        self._ids = torch.full((max(codes.tolist(), default=-1) + 2,), -1, dtype=torch.int32)
        self._ids[codes] = torch.arange(len(codes)).int()

    @classmethod
    def of(cls, text: str) -> "Characters":
        """The tokenizer of all the characters of `text`."""
        seen: set[int] = set()
        for piece in in_pieces(text):
            seen.update(torch.bincount(code_points(piece)).nonzero().flatten().tolist())
        return cls("".join(map(chr, sorted(seen))))

    def __len__(self) -> int:
        """$V$, the size of the vocabulary."""
        return len(self.characters)

    def encode(self, text: str) -> Tensor:
        """Token ids of `text`, `(T,)`; raises `ValueError` for a character it does not know."""
        codes = code_points(text)
        ids = self._ids.index_select(0, codes.clamp(max=len(self._ids) - 1))
        missing = codes[ids < 0] if len(ids) and ids.min() < 0 else codes[:0]
        unknown = [chr(code) for code in missing.unique().tolist()]
        require(
            not unknown,
            f"the model has no token for {', '.join(map(repr, unknown[:8]))}"
            f"{' ...' * (len(unknown) > 8)}; expected only the characters {shown(self.characters)}",
        )
        return ids.long()

    def decode(self, tokens: Tensor) -> str:
        """The text of token ids `(T,)`."""
        return "".join(self.characters[i] for i in tokens.tolist())

    def to_dict(self) -> dict[str, Any]:
        """Its name and its characters, in order."""
        return {"tokenizer": "characters", "characters": self.characters}


def code_points(text: str) -> Tensor:
    """The number of each character in Unicode, `(T,)`, int32; no Python object for each."""
    data = bytearray(text.encode("utf-32-le", "surrogatepass"))
    return torch.frombuffer(data, dtype=torch.int32) if data else torch.empty(0, dtype=torch.int32)


def in_pieces(text: str | bytes, start: int = 0, end: int | None = None) -> Iterator[Any]:
    """
    `text[start:end]` in pieces of moderate length: what is done with a piece needs little memory,
    and between two of them Python hears a Ctrl-C.
    """
    end = len(text) if end is None else end
    for at in range(start, end, PIECE):
        yield text[at : min(at + PIECE, end)]


def number(
    tokenizer: Tokenizer, text: str | bytes, start: int = 0, end: int | None = None
) -> Tensor:
    """
    The ids of `text[start:end]`, `(T,)`, in 32 bits. Characters, or bytes, are numbered a piece at
    a time, one id each; a tokenizer from a file reads the whole, as its tokens cross any border.
    """
    encode: Callable[[Any], Tensor] = tokenizer.encode
    if tokenizer.json is not None or (isinstance(tokenizer, Bytes) and isinstance(text, str)):
        return encode(text[start:end]).int()
    start, end, _ = slice(start, end).indices(len(text))
    ids, at = torch.empty(max(0, end - start), dtype=torch.int32), 0
    for piece in in_pieces(text, start, end):
        ids[at : at + len(piece)] = encode(piece)
        at += len(piece)
    return ids


class Bytes:
    """
    ## Bytes

    A byte's id is its value. Every file can be read in this way, text or not.
    """

    json: str | None = None

    def __len__(self) -> int:
        """$V$, the size of the vocabulary."""
        return 256

    def encode(self, text: str | bytes) -> Tensor:
        """The bytes of `text`, in UTF-8 unless it is bytes already, `(T,)`."""
        data = bytearray(text.encode() if isinstance(text, str) else text)
        return (torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0)).long()

    def decode(self, tokens: Tensor) -> str:
        """The text of token ids `(T,)`; what is not UTF-8 becomes the replacement character."""
        return bytes(tokens.tolist()).decode("utf-8", "replace")

    def to_dict(self) -> dict[str, Any]:
        """Its name."""
        return {"tokenizer": "bytes"}


class Pieces:
    """
    ## Pieces of words

    A tokenizer of the package `tokenizers`, from the contents of its file. Raises `ValueError` if
    the package is not installed or the file is not one of its tokenizers.
    """

    def __init__(self, json: str, name: str):
        try:
            from tokenizers import Tokenizer as HuggingFace
        except ImportError as error:
            raise ValueError(
                f"the tokenizer {name} needs a package: pip install tokenizers"
            ) from error
        self.json: str | None = json
        try:
            self._tokenizer = HuggingFace.from_str(json)
        except Exception as error:  # The package raises bare exceptions.
            words = "the JSON of a tokenizer, as saved by Hugging Face's tokenizers"
            raise ValueError(f"{name} is not a tokenizer ({error}), expected {words}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def __len__(self) -> int:
        """$V$, the size of the vocabulary: one more than the largest id."""
        return max(self._tokenizer.get_vocab().values(), default=-1) + 1

    def encode(self, text: str) -> Tensor:
        """Token ids of `text`, `(T,)`, without the special tokens that begin or end a document."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return torch.tensor(ids, dtype=torch.long)

    def decode(self, tokens: Tensor) -> str:
        """The text of token ids `(T,)`."""
        return self._tokenizer.decode(tokens.tolist(), skip_special_tokens=False)

    def to_dict(self) -> dict[str, Any]:
        """Its name; the file is stored beside."""
        return {"tokenizer": TOKENIZER}


def path_of(field: str, value: str, expected: str) -> Path:
    """
    The path that a setting names, `~` being the home folder; `ValueError` if it names none, or the
    home folder of nobody. An empty name would be the current folder, which is never meant.
    """
    try:
        expect(value.strip() != "", field, value, expected)
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{field} is {value!r}, but there is no such home folder") from None


def make_tokenizer(name: str, text: str | bytes) -> Tokenizer:
    """
    ## The tokenizer of a run

    `name` is `characters`, `bytes` or a file; `text` is what it will be trained on. Raises
    `ValueError` for a file that is missing or no tokenizer.
    """
    if isinstance(text, bytes):
        return Bytes()
    if name == "characters":
        return Characters.of(text)
    path = path_of("tokenizer", name, "characters, bytes, or a tokenizer.json")
    expect(path.is_file(), "tokenizer", name, "characters, bytes, or a tokenizer.json")
    return Pieces(read_json(path), name)


def stored_tokenizer(values: dict[str, Any], folder: Path) -> Tokenizer:
    """
    The tokenizer of the model in `folder`, whose `config.json` holds `values`. A folder that names
    none but lists characters is from before there was a choice. Raises `ValueError` if there is
    no tokenizer.
    """
    name = values.get("tokenizer", "characters")
    if name == "bytes":
        return Bytes()
    if name == TOKENIZER:
        return Pieces(read_tokenizer(folder), str(folder / TOKENIZER))
    require(
        isinstance(values.get("characters"), str),
        f"{folder} has no vocabulary, expected a folder made by: python -m feedback train",
    )
    return Characters(values["characters"])


def read_tokenizer(folder: Path) -> str:
    """The contents of the `tokenizer.json` in `folder`; raises `ValueError` if it is missing."""
    path = folder / TOKENIZER
    require(path.is_file(), f"{folder} holds no {TOKENIZER}, which its config.json names")
    return read_json(path)


def read_json(path: Path) -> str:
    """The text of a file; raises `ValueError` if it cannot be read as UTF-8."""
    try:
        return read_file(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a tokenizer, expected UTF-8 JSON ({error})") from error
