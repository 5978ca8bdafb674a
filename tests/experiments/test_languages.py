"""Formal languages: Python itself works out what each sequence is worth."""

from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from feedback.data.text import IGNORE
from feedback.experiments import languages

LANGUAGES = [languages.Parity(), languages.Arithmetic(), languages.Brackets()]
SEEDS = st.integers(0, 2**31)


def by_name(language):
    """What a test with this language is called."""
    return type(language).__name__


def seeded(seed: int) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)


def answer(text: str) -> int:
    """What a sequence is worth: Python knows brackets, and that multiplication comes first."""
    if text.endswith("="):
        return eval(text[:-1]) % 5
    return text.count("1") % 2


@cache
def well_formed(text: str) -> bool:
    """Whether a text is an expression with brackets, tried in every way it may be split."""
    if len(text) > 2 and (text[0], text[-1]) != ("(", ")"):
        return False
    if len(text) in (3, 4):
        return well_formed(text[1:-1])
    if len(text) < 3:
        return text[-1:].isdigit() and text[:-1] in ("", "-")
    return any(
        text[k + 1] in "+-" and well_formed(text[1 : k + 1]) and well_formed(text[k + 2 : -1])
        for k in range(1, len(text) - 3)
    )


def read(language, batch) -> list[tuple[str, int]]:
    """The text of each row up to its label, and the label; nothing may come after it."""
    rows = []
    for tokens, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        asked = [t for t, label in enumerate(targets) if label != IGNORE]
        assert len(asked) == 1
        end = asked[0] + 1
        assert not any(tokens[end:])
        rows.append(("".join(language.symbols[i] for i in tokens[:end]), targets[asked[0]]))
    return rows


@pytest.mark.parametrize("language", LANGUAGES, ids=by_name)
@given(SEEDS, st.lists(st.integers(2, 60), min_size=1, max_size=6))
def test_answers(language, seed, lengths):
    """Each sequence has its length and its answer, whatever the lengths beside it."""
    batch = language.sample(torch.tensor(lengths), seeded(seed))
    rows = read(language, batch)
    wanted = [n - n % 2 if by_name(language) == "Arithmetic" else n for n in lengths]
    assert [len(text) for text, _ in rows] == wanted
    assert batch.new and batch.tokens.shape == (len(lengths), max(wanted))
    for text, label in rows:
        assert label == answer(text)
        assert ("=" in text[-1:], "=" in text[:-1]) == (by_name(language) != "Parity", False)


@pytest.mark.parametrize("language", LANGUAGES, ids=by_name)
@given(SEEDS, st.integers(1, 4), st.integers(2, 300))
def test_one_length(language, seed, B, T):
    """`draw` gives all sequences `T` steps, or one fewer if there are none of `T`."""
    batch = language.draw(B, T, seeded(seed))
    rows = read(language, batch)
    assert len(rows) == B
    for text, label in rows:
        assert len(text) == T - T % language.stride and label == answer(text)


@given(SEEDS, st.integers(1, 40))
def test_brackets_stand_where_they_should(seed, n):
    """Every expression can be taken apart by the definition."""
    language = languages.Brackets()
    for text, _ in read(language, language.draw(3, n + 1, seeded(seed))):
        assert well_formed(text[:-1])


@pytest.mark.parametrize("text", ["", "-", "(3", "3)", "()", "(3-)", "3-1", "((3)-1", "(3*1)"])
def test_what_is_not_well_formed(text):
    """The test above would find a misplaced symbol."""
    assert not well_formed(text)
    assert well_formed("((-3)--2)") and well_formed("((3-(2-4))+1)")


def test_arithmetic_takes_turns():
    """Numbers at even places, operations between them, all of them drawn about equally often."""
    language = languages.Arithmetic()
    rows = [text for text, _ in read(language, language.draw(200, 40, seeded(1)))]
    for symbols, text in [("01234", "".join(row[::2] for row in rows)),
                          ("+-*", "".join(row[1:-1:2] for row in rows))]:  # fmt: skip
        assert set(text) == set(symbols)
        for symbol in symbols:
            assert text.count(symbol) / len(text) == pytest.approx(1 / len(symbols), abs=0.03)


def test_expressions_are_split_anywhere():
    """
    Of eight symbols, five are left for two parts, and the first part has 1 to 4 of them equally
    often. A single number, a minus sign, and one or two brackets tell which.
    """
    language = languages.Brackets()
    rows = [text for text, _ in read(language, language.draw(2000, 9, seeded(1)))]
    inner = [text[1:-2] for text in rows]
    first = [4 if t[:2] == "(-" else 3 if t[0] == "(" else 2 if t[0] == "-" else 1 for t in inner]
    for k in range(1, 5):
        assert first.count(k) / len(first) == pytest.approx(0.25, abs=0.05)
    text = "".join(rows)
    for symbol in language.symbols:
        assert symbol in text


@pytest.mark.parametrize(("T", "deep"), [(38, 5), (254, 11)])
def test_how_deep_brackets_are_nested(T, deep):
    """As deep on average as the page says, at the two greatest lengths of the protocol."""
    language = languages.Brackets()
    assert T in (language.trained[1], language.tested[1])
    tokens = language.draw(500, T, seeded(1)).tokens
    opening, closing = (tokens == language.symbols.index(s) for s in "()")
    depth = (opening.int() - closing.int()).cumsum(1)
    assert not depth[:, -1].any()
    assert round(depth.amax(1).float().mean().item()) == deep


@pytest.mark.parametrize("language", LANGUAGES, ids=by_name)
def test_labels_are_balanced(language):
    """Nobody does well by always saying the same: chance is what `scaled_accuracy` takes it for."""
    labels = language.draw(4000, 60, seeded(1)).targets[:, -1]
    share = labels.bincount(minlength=language.n_labels) / len(labels)
    # A product is zero more often than not, so values of expressions are not quite uniform.
    assert share.max() < 1 / language.n_labels + 0.04


@pytest.mark.parametrize("language", LANGUAGES, ids=by_name)
def test_mixed_lengths_of_the_protocol(language):
    """All permitted lengths from the least to the greatest, about equally often."""
    task = languages.MixedLengths(language, *language.trained)
    rows = read(language, task.draw(4000, 256, seeded(1)))
    low, high = language.trained
    there = [n for n in range(low, high + 1) if n % language.stride == 0]
    found = [len(text) for text, _ in rows]
    assert set(found) == set(there)
    for n in there:
        assert found.count(n) / len(found) == pytest.approx(1 / len(there), abs=0.02)
    assert all(label == answer(text) for text, label in rows)
    assert (task.vocab_size, task.n_labels) == (language.vocab_size, language.n_labels)


@given(SEEDS, st.integers(1, 9), st.integers(2, 30), st.integers(0, 10), st.integers(0, 40))
def test_no_sequence_is_longer_than_asked_for(seed, B, low, more, T):
    """Lengths are `low` at least, `T` and `high` at most; a seed draws the same again."""
    task = languages.MixedLengths(languages.Brackets(), low, low + more)
    T += low
    batch = task.draw(B, T, seeded(seed))
    lengths = [len(text) for text, _ in read(task.language, batch)]
    assert min(lengths) >= low and max(lengths) <= min(T, low + more)
    assert torch.equal(batch.tokens, task.draw(B, T, seeded(seed)).tokens)


@pytest.mark.parametrize("language", LANGUAGES, ids=by_name)
def test_seeds_repeat(language):
    """A seed draws the same again, another one something else, and both leave the global one."""
    state = torch.get_rng_state()
    first, again, other = (language.draw(4, 40, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.tokens, again.tokens) and torch.equal(first.targets, again.targets)
    assert not torch.equal(first.tokens, other.tokens)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("language", LANGUAGES, ids=by_name)
def test_the_example_is_right(language):
    """A dozen symbols, and below the last of them what they are worth."""
    tokens, labels = languages.MixedLengths(language, 2, 9).describe().split("\n")
    assert labels.split() == ["."] * 11 + [str(answer("".join(tokens.split())))]
    # The label stands below the last symbol.
    assert len(labels) == len(tokens)


def test_scaled_accuracy():
    """Chance is nothing, perfection one; less than chance is less than nothing."""
    parity, arithmetic, _ = LANGUAGES
    assert languages.scaled_accuracy(0.5, parity) == 0
    assert languages.scaled_accuracy(0.6, arithmetic) == pytest.approx(0.5)
    assert languages.scaled_accuracy(1.0, arithmetic) == 1
    assert languages.scaled_accuracy(0.0, parity) == -1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: languages.Parity().draw(0, 4, seeded(1)), "B = 0"),
        (lambda: languages.Parity().draw(1, 0, seeded(1)), "T = 0.* at least 1$"),
        (lambda: languages.Arithmetic().draw(1, 1, seeded(1)), "T = 1.* at least 2$"),
        (lambda: languages.Brackets().draw(1, 1, seeded(1)), "T = 1.* at least 2$"),
        (lambda: languages.MixedLengths(languages.Brackets(), 1, 9), "low = 1,.* at least 2"),
        (lambda: languages.MixedLengths(languages.Parity(), 5, 4), "high = 4"),
        (lambda: languages.MixedLengths(languages.Parity(), 5, 9).draw(1, 4, seeded(1)), "T = 4"),
    ],
)
def test_wrong_sizes(call, words):
    """Each names what is wrong and what was expected."""
    with pytest.raises(ValueError, match=words):
        call()
