"""Toys: every label is found again in the plainest way there is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from feedback.data import tasks
from feedback.data.text import IGNORE
from feedback.experiments import toys
from feedback.experiments.task import UpTo

SEEDS = st.integers(0, 2**31)
TOYS = [toys.Copy(), toys.Copy(backwards=True), toys.Counting(), toys.Walk(3), toys.Recall(20, 5)]
NAMES = ["copy", "reverse", "counting", "walk", "recall"]
each_toy = pytest.mark.parametrize("toy", TOYS, ids=NAMES)


def seeded(seed: int) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)


def rows(batch):
    """Tokens and labels of each sequence, as lists."""
    return zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True)


def counted(steps: list[int]) -> list[int]:
    """The last digit of the number of events since the bell, counted on the fingers."""
    fingers, labels = 0, []
    for step in steps:
        fingers = 0 if step == toys.BELL else fingers + (step == toys.EVENT)
        labels.append(int(str(fingers)[-1]))
    return labels


@given(SEEDS, st.integers(1, 4), st.integers(3, 60), st.booleans())
def test_copy(seed, B, T, backwards):
    """What is said after the word is what was read before it, forwards or backwards."""
    batch = toys.Copy(backwards).draw(B, T, seeded(seed))
    assert batch.new and len(batch.tokens) == B
    for tokens, targets in rows(batch):
        n = tokens.index(toys.NOW)
        digits, said = tokens[:n], targets[n + 1 :]
        assert len(tokens) == 2 * n + 1 == T - (T % 2 == 0)
        assert tokens[n + 1 :] == n * [toys.BLANK] and max(digits) < 10
        assert targets[: n + 1] == (n + 1) * [IGNORE]
        assert said == (digits[::-1] if backwards else digits)


@given(SEEDS, st.integers(1, 4), st.integers(3, 40))
def test_all_lengths(seed, B, T):
    """Up to a length: each batch is one of the task itself, and no length is left out."""
    mixed, generator = UpTo(toys.Copy(), 3), seeded(seed)
    batch, plain = mixed.draw(B, T, generator), toys.Copy()
    assert (mixed.vocab_size, mixed.n_labels) == (plain.vocab_size, plain.n_labels)
    length = batch.tokens.shape[1]
    twin = seeded(seed)
    torch.randint(3, T + 1, (), generator=twin)
    assert length <= T and torch.equal(batch.tokens, plain.draw(B, length, twin).tokens)
    seen = {mixed.draw(1, 9, generator).tokens.shape[1] for _ in range(200)}
    assert seen == {3, 5, 7, 9} and mixed.describe() == plain.describe()
    with pytest.raises(ValueError, match="T = 2, expected at least 3"):
        mixed.draw(1, 2, generator)


@given(SEEDS, st.integers(1, 4), st.integers(1, 120))
def test_counting(seed, B, T):
    """Each label is what counting on the fingers gives."""
    batch = toys.Counting().draw(B, T, seeded(seed))
    assert batch.new and batch.tokens.shape == (B, T)
    for tokens, targets in rows(batch):
        assert targets == counted(tokens)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60))
def test_counting_whatever_happens(steps):
    """Sequences as they are never drawn, such as bells alone, are counted as well."""
    numbers = toys.count(torch.tensor([steps])) % 10
    assert numbers.tolist() == [counted(steps)]


@pytest.mark.parametrize("T", [50, 1000])
def test_counts_grow_with_the_length(T):
    """One bell a sequence, on average, and as many events as pauses; all ten labels occur."""
    batch = toys.Counting().draw(500, T, seeded(1))
    bells, events, pauses = (
        (batch.tokens == token).sum().item() / 500 for token in (toys.BELL, toys.EVENT, toys.PAUSE)
    )
    assert bells == pytest.approx(1, abs=0.2)
    assert events == pytest.approx(pauses, rel=0.03)
    assert batch.targets.unique().tolist() == list(range(10))
    # Some sequence is counted from its beginning to its end.
    assert toys.count(batch.tokens).max() > 0.4 * T


@given(SEEDS, st.integers(1, 4), st.integers(1, 60), st.integers(1, 5))
def test_walk(seed, B, T, size):
    """The same cells as a walker reaches who has a row, a column and a heading."""
    toy = toys.Walk(size)
    batch = toy.draw(B, T, seeded(seed))
    assert batch.new and batch.tokens.shape == (B, T)
    for actions, cells in rows(batch):
        place, heading = 0j, 1 + 0j
        for action, cell in zip(actions, cells, strict=True):
            # A complex number: turning is multiplication, and columns are the real part.
            name = tasks.ACTIONS[action]
            heading *= {"left": -1j, "right": 1j}.get(name, 1)
            place += heading * (name == "forward")
            assert cell == int(place.imag) % size * size + int(place.real) % size
            assert cell < toy.n_labels


@given(SEEDS, st.integers(1, 4), st.integers(3, 60), st.integers(2, 9))
def test_recall(seed, B, T, n_values):
    """A dictionary filled from the pairs answers every question, and no key is in it twice."""
    toy = toys.Recall(20, n_values)
    batch = toy.draw(B, T, seeded(seed))
    assert batch.new and batch.tokens.shape == (B, T)
    for tokens, targets in rows(batch):
        n = targets.count(IGNORE) // 2
        keys, values = tokens[: 2 * n : 2], tokens[1 : 2 * n : 2]
        pairs = dict(zip(keys, values, strict=True))
        assert len(pairs) == n == T // 3 and targets[: 2 * n] == 2 * n * [IGNORE]
        assert max(keys) < 20 <= min(values) and max(values) < toy.vocab_size
        assert targets[2 * n :] == [pairs[key] - 20 for key in tokens[2 * n :]]


def test_recall_reaches_further_back_in_longer_sequences():
    """Keys and values of all kinds are drawn, and the mean distance is half of the length."""
    toy = toys.Recall(100, 5)
    for T in (30, 300):
        batch = toy.draw(100, T, seeded(1))
        assert batch.tokens.unique().tolist() == list(range(105))
        assert batch.targets.unique().tolist() == [IGNORE, *range(5)]
        back = [t - row.index(row[t]) for row in batch.tokens.tolist()
                for t in range(2 * (T // 3), T)]  # fmt: skip
        assert sum(back) / len(back) == pytest.approx(T / 2, rel=0.05)


@each_toy
@given(SEEDS, st.integers(3, 60))
def test_numbers_fit(toy, seed, T):
    """Tokens are below `vocab_size` and labels below `n_labels`; a seed draws the same again."""
    state = torch.get_rng_state()
    batch, again = toy.draw(3, T, seeded(seed)), toy.draw(3, T, seeded(seed))
    assert torch.equal(batch.tokens, again.tokens) and torch.equal(batch.targets, again.targets)
    assert torch.equal(torch.get_rng_state(), state)
    assert batch.tokens.min() >= 0 and batch.tokens.max() < toy.vocab_size
    labels = batch.targets[batch.targets != IGNORE]
    assert labels.min() >= 0 and labels.max() < toy.n_labels


@each_toy
def test_seeds_differ(toy):
    """Another seed draws something else."""
    assert not torch.equal(toy.draw(4, 30, seeded(1)).tokens, toy.draw(4, 30, seeded(2)).tokens)


@each_toy
def test_the_example_has_a_label_below_each_token(toy):
    """Two lines whose words end in the same columns."""
    lines = toy.describe().split("\n")
    ends = [[i for i, letter in enumerate(line, 1) if letter != " " and (line + " ")[i] == " "]
            for line in lines]  # fmt: skip
    assert len(lines) == 2 and ends[0] == ends[1]


def example(toy) -> tuple[list[str], list[str]]:
    """The words of an example: tokens and labels."""
    tokens, labels = toy.describe().split("\n")
    return tokens.split(), labels.split()


def test_examples_of_copy_are_right():
    """The digits, a word, the digits again."""
    for backwards, order in [(False, 1), (True, -1)]:
        tokens, labels = example(toys.Copy(backwards))
        assert tokens[4:] == ["now", "_", "_", "_", "_"] and labels[:5] == 5 * ["."]
        assert labels[5:] == tokens[:4][::order] and all(t.isdigit() for t in tokens[:4])


def test_the_example_of_counting_is_right():
    """Strokes are counted; there is a bell to see."""
    tokens, labels = example(toys.Counting())
    steps = [{"|": toys.EVENT, "_": toys.PAUSE, "bell": toys.BELL}[word] for word in tokens]
    assert [int(label) for label in labels] == counted(steps)
    assert set(tokens) == {"|", "_", "bell"} and max(labels) > "2"


def test_the_example_of_the_walk_is_right():
    """The walker of the tasks reaches the same cells, more than one of them."""
    tokens, labels = example(toys.Walk(3))
    actions = torch.tensor([[tasks.ACTIONS.index(word) for word in tokens]])
    assert [[int(label) for label in labels]] == tasks.walk(actions, 3).tolist()
    assert len(set(labels)) > 1


@pytest.mark.parametrize("n_keys", [1, 2, 128])
def test_the_example_of_recall_is_right(n_keys):
    """Each question has the value that stands after its key, also with hardly any keys."""
    tokens, labels = example(toys.Recall(n_keys))
    asked = [(t, word) for t, word in enumerate(tokens) if labels[t] != "."]
    assert len(asked) == min(3, n_keys)
    for t, key in asked:
        assert key.startswith("k") and labels[t] == tokens[tokens.index(key) + 1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: toys.Copy().draw(0, 5, seeded(1)), "B = 0"),
        (lambda: toys.Copy().draw(1, 2, seeded(1)), "T = 2.* at least 3"),
        (lambda: toys.Counting().draw(1, 0, seeded(1)), "T = 0"),
        (lambda: toys.Walk(0), "size is 0"),
        (lambda: toys.Walk(2).draw(0, 1, seeded(1)), "B = 0"),
        (lambda: toys.Recall(0, 5), "n_keys = 0"),
        (lambda: toys.Recall(5, 1), "n_values = 1"),
        (lambda: toys.Recall(5, 5).draw(1, 2, seeded(1)), "T = 2"),
        (lambda: toys.Recall(5, 5).draw(1, 18, seeded(1)), "T = 18, expected at most 17"),
    ],
)
def test_wrong_sizes(call, words):
    """Each names what is wrong."""
    with pytest.raises(ValueError, match=words):
        call()


def test_the_longest_recall():
    """As long as the error says."""
    assert toys.Recall(5, 5).draw(1, 17, seeded(1)).tokens.shape == (1, 17)
