"""Text in, batches out: nothing lost, nothing twice, and errors that say what is wrong."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from feedback.data.text import (
    IGNORE,
    carried_batch,
    load_bytes,
    load_text,
    random_batch,
    require_enough,
    split,
    validation_batches,
)
from feedback.data.tokenizer import Bytes, Characters


def test_text_file(tmp_path):
    """Any UTF-8 file is a text."""
    (tmp_path / "a.txt").write_text("naïve", encoding="utf-8")
    assert load_text(str(tmp_path / "a.txt")) == "naïve"


def test_folder_of_text_files_in_order(tmp_path):
    """The .txt files of a folder and its folders, by name; other files do not count."""
    (tmp_path / "inner").mkdir()
    for name, text in (("b.txt", "two"), ("a.txt", "one"), ("inner/c.txt", "3"), ("d.md", "no")):
        (tmp_path / name).write_text(text)
    assert load_text(str(tmp_path)) == "one\ntwo\n3"


def test_not_utf8(tmp_path):
    """The error names the file, the place and the byte."""
    (tmp_path / "latin.txt").write_bytes("abcé".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.txt is not UTF-8: byte 3 is 0xe9"):
        load_text(str(tmp_path / "latin.txt"))


def test_no_text(tmp_path):
    """Empty, missing, and a folder without text: each says which."""
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match=r"empty\.txt is empty"):
        load_text(str(tmp_path / "empty.txt"))
    with pytest.raises(ValueError, match=r"'.*missing', expected tiny_shakespeare, a text file,"):
        load_text(str(tmp_path / "missing"))
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match=r"bare has no \.txt file"):
        load_text(str(tmp_path / "bare"))


@given(st.text(min_size=1))
def test_split_keeps_the_last_tenth(text):
    """Nine tenths and one tenth, in order, nothing lost, as characters and as bytes."""
    data = text.encode("utf-8", "replace")
    for whole, tokenizer in ((text, Characters.of(text)), (data, Bytes())):
        corpus = split(whole, tokenizer)
        assert len(corpus.train) == int(0.9 * len(whole))
        both = torch.cat([corpus.train, corpus.val])
        assert torch.equal(both, tokenizer.encode(whole))


def test_bytes_of_a_token():
    """How much of the validation text a token is; a byte is one byte, a character one or more."""
    text = "aé" * 50
    assert split(text, Characters.of(text)).bytes_per_token == 1.5
    assert split(text.encode(), Bytes()).bytes_per_token == 1


def test_too_short_a_text():
    """It is refused, with what there is and what is needed."""
    require_enough(split("a" * 20, Characters("a")), seq_len=8)
    with pytest.raises(
        ValueError, match="the text has 9 tokens, 8 for training and 1 for validation"
    ):
        require_enough(split("a" * 9, Characters("a")), seq_len=8)


def test_any_file_is_bytes(tmp_path):
    """What is no text is read as it is, a folder in order; empty or missing is an error."""
    everything = bytes(range(256))
    (tmp_path / "a.bin").write_bytes(everything)
    assert load_bytes(str(tmp_path / "a.bin")) == everything
    with pytest.raises(ValueError, match=r"has no \.txt file"):
        load_bytes(str(tmp_path))
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_bytes(name.encode() + b"\xff")
    assert load_bytes(str(tmp_path)) == b"a.txt\xff\nb.txt\xff"
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="empty is empty, expected some bytes"):
        load_bytes(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"'.*missing', expected tiny_shakespeare"):
        load_bytes(str(tmp_path / "missing"))


@given(N=st.integers(20, 200), B=st.integers(1, 4), T=st.integers(1, 4), steps=st.integers(1, 40))
def test_carried_segments_continue(N, B, T, steps):
    """Each batch begins where the last one ended, until the rows are used up and all start over."""
    tokens = torch.arange(N)
    previous = None
    for step in range(steps):
        batch = carried_batch(tokens, B, T, step * T)
        assert torch.equal(batch.targets, batch.tokens + 1)
        if batch.new:
            assert torch.equal(batch.tokens[:, 0], torch.arange(B) * ((N - 1) // B))
        else:
            assert torch.equal(batch.tokens[:, 0], previous.tokens[:, -1] + 1)
        previous = batch
    assert carried_batch(tokens, B, T, 0).new


def test_carried_rows_too_short():
    """More rows than the text has room for are refused."""
    with pytest.raises(ValueError, match="batch_size = 5 rows, give rows of 1, expected at least"):
        carried_batch(torch.arange(10), 5, 4, 0)


def test_random_windows():
    """Windows of the text, their targets one later, the same under the same seed."""
    batches = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        batches.append(random_batch(torch.arange(50), 6, 8))
    assert torch.equal(batches[0].tokens, batches[1].tokens)
    assert not torch.equal(batches[0].tokens, batches[2].tokens)
    assert torch.equal(batches[0].targets, batches[0].tokens + 1)
    assert (batches[0].tokens.diff() == 1).all()
    assert batches[0].new


@given(N=st.integers(2, 30), T=st.integers(1, 29))
def test_random_windows_reach_the_end(N, T):
    """The first and the last token are drawn too: as a token, and as a target."""
    T = min(T, N - 1)
    torch.manual_seed(0)
    batch = random_batch(torch.arange(N), 1000, T)
    assert batch.tokens.min() == 0
    assert batch.targets.max() == N - 1


@given(N=st.integers(2, 120), B=st.integers(1, 9), T=st.integers(1, 9))
def test_validation_predicts_every_token_once(N, B, T):
    """Every token but the first is a target exactly once, after the token before it."""
    tokens = torch.arange(N)
    seen = []
    for i, batch in enumerate(validation_batches(tokens, B, T)):
        assert batch.new == (i == 0)
        real = batch.targets != IGNORE
        assert torch.equal(batch.tokens[real] + 1, batch.targets[real])
        seen += batch.targets[real].tolist()
    assert sorted(seen) == list(range(1, N))
