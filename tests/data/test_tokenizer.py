"""Every tokenizer gives the text back, lives in its folder, and names what it does not know."""

import json
import math

import pytest
import torch
from conftest import require_or_skip
from hypothesis import given
from hypothesis import strategies as st

from feedback.data.tokenizer import (
    TOKENIZER,
    Bytes,
    Characters,
    Pieces,
    make_tokenizer,
    stored_tokenizer,
)


@given(st.text(min_size=1))
def test_characters(text):
    """Decoding what was encoded gives the text back; ids are places in the sorted characters."""
    tokenizer = Characters.of(text)
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert tokens.dtype == torch.int64
    assert len(tokenizer) == len(set(text)) == int(tokens.max()) + 1
    assert tokens.tolist() == [sorted(set(text)).index(c) for c in text]


def test_unknown_characters_are_named():
    """The error lists what the model does not know, and what it does."""
    with pytest.raises(ValueError, match="the model has no token for 'Q', 'x'; expected only"):
        Characters("abc").encode("aQcx")


@given(st.text())
def test_bytes(text):
    """Ids are the bytes in UTF-8, and give the text back."""
    text = text.encode("utf-8", "replace").decode()
    tokens = Bytes().encode(text)
    assert tokens.tolist() == list(text.encode())
    assert Bytes().decode(tokens) == text


def test_bytes_that_are_no_text():
    """All 256 can be read; written, those that are not UTF-8 become the replacement character."""
    everything = bytes(range(256))
    tokens = Bytes().encode(everything)
    assert tokens.tolist() == list(range(256))
    assert len(Bytes()) == 256
    assert Bytes().decode(tokens[250:]) == "\ufffd" * 6


@pytest.fixture
def pieces(tmp_path):
    """The file of a tokenizer learnt from a few words by the package itself."""
    require_or_skip("tokenizers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["to be, or not to be, that is the question"] * 9, trainer)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(tmp_path / "mine.json"))
    return tmp_path / "mine.json"


def test_pieces(pieces):
    """A file of Hugging Face's: text comes back, is shorter, and no setting cuts it off."""
    tokenizer = make_tokenizer(str(pieces), "whatever")
    text = "to be or not to be: naïve\n"
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert 3 < len(tokens) < len(text)
    assert int(tokens.max()) < len(tokenizer)


@pytest.mark.parametrize("name", ["characters", "bytes", "file"])
def test_stored_beside_a_model(name, pieces, tmp_path):
    """What `config.json` says, through JSON, and the file beside it, give the tokenizer back."""
    text = b"to be\xff" if name == "bytes" else "to be"
    tokenizer = make_tokenizer(str(pieces) if name == "file" else name, text)
    values = json.loads(json.dumps(tokenizer.to_dict()))
    if tokenizer.json is not None:
        (tmp_path / TOKENIZER).write_text(tokenizer.json, encoding="utf-8")
    again = stored_tokenizer(values, tmp_path)
    assert type(again) is type(tokenizer)
    assert len(again) == len(tokenizer)
    assert torch.equal(again.encode("to be"), tokenizer.encode("to be"))


def test_a_folder_from_before_there_was_a_choice(tmp_path):
    """It lists characters and names no tokenizer."""
    tokenizer = stored_tokenizer({"characters": "abc"}, tmp_path)
    assert isinstance(tokenizer, Characters)
    assert tokenizer.characters == "abc"


def test_mistakes_are_named(tmp_path, monkeypatch):
    """Missing, damaged, or without the package: a ValueError that says which."""
    with pytest.raises(ValueError, match=r"tokenizer is 'words', expected characters, bytes, or"):
        make_tokenizer("words", "text")
    with pytest.raises(ValueError, match="has no vocabulary, expected a folder made by"):
        stored_tokenizer({}, tmp_path)
    with pytest.raises(ValueError, match=r"holds no tokenizer.json, which its config.json names"):
        stored_tokenizer({"tokenizer": TOKENIZER}, tmp_path)
    (tmp_path / "latin.json").write_bytes(b"\xe9")
    with pytest.raises(ValueError, match=r"latin.json is not a tokenizer, expected UTF-8 JSON"):
        make_tokenizer(str(tmp_path / "latin.json"), "text")
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ValueError, match="the tokenizer x needs a package: pip install tokenizers"):
        Pieces("{}", "x")


def test_a_file_that_is_no_tokenizer(pieces):
    """Any other JSON is refused in one line."""
    for content in ("{}", "[1]", "not JSON", pieces.read_text()[:100]):
        with pytest.raises(ValueError, match=r"mine is not a tokenizer .*, expected the JSON of a"):
            Pieces(content, "mine")


def test_bits_per_byte():
    """A model that knows nothing needs 8 bits for a byte."""
    assert math.log(256) / math.log(2) / 1 == pytest.approx(8)
