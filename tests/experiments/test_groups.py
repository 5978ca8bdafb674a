"""Word problems: the tables are groups, and every label is found in a second way."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from feedback import FeedbackLM
from feedback.data.text import IGNORE
from feedback.experiments import groups
from feedback.experiments.groups import WordProblem, elements, products, table

NAMES = tuple(groups.GENERATORS)
GENERATOR = torch.Generator().manual_seed(5)


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_groups(name):
    """Closed, associative, with an identity that is element 0, and an inverse for each element."""
    t = table(name)
    everything = torch.arange(len(t))
    assert torch.equal(t[0], everything) and torch.equal(t[:, 0], everything)
    for rows in (t, t.T):
        # Each row has every element once: closure, and that equations have one solution.
        assert torch.equal(rows.sort(dim=1).values, everything.expand(len(t), -1))
    assert (t == 0).sum() == len(t)
    # $(x y) z = x (y z)$, for all triples
    assert torch.equal(t[t], t[:, t])


def orders(name: str) -> list[int]:
    """The order of each element: how often it is repeated until nothing has moved."""
    found = []
    for p in elements(name):
        moved, n = p, 1
        while moved != tuple(range(len(p))):
            moved, n = tuple(p[i] for i in moved), n + 1
        found.append(n)
    return found


def test_they_are_the_groups_that_they_are_called():
    """Sizes, and the number of elements of each order, which tells groups of this size apart."""
    s5 = list(itertools.permutations(range(5)))
    even = [p for p in s5 if sum(p[i] > p[j] for i in range(5) for j in range(i, 5)) % 2 == 0]
    assert elements("s5") == s5 and elements("a5") == even
    counts = {name: {n: orders(name).count(n) for n in set(orders(name))} for name in NAMES}
    assert counts["a5"] == {1: 1, 2: 15, 3: 20, 5: 24}
    # In a cyclic group of 60, the elements whose order divides n are as many as n.
    divisors = [n for n in range(1, 61) if 60 % n == 0]
    assert {n: sum(c for m, c in counts["z60"].items() if n % m == 0) for n in divisors} == {
        n: n for n in divisors
    }
    # $A_4$ has 1, 3 and 8 elements of order 1, 2 and 3; each comes with five of $\mathbb{Z}_5$.
    assert counts["a4z5"] == {1: 1, 2: 3, 3: 8, 5: 4, 10: 12, 15: 32}


def solvable(name: str) -> bool:
    """Whether repeated commutator subgroups end in the identity alone."""
    t = table(name)
    inverse = (t == 0).int().argmax(1)
    group = set(range(len(t)))
    while len(group) > 1:
        pairs = itertools.product(group, group)
        found = {t[t[x, y], t[inverse[x], inverse[y]]].item() for x, y in pairs}
        while True:
            more = {t[x, y].item() for x in found for y in found} - found
            if not more:
                break
            found |= more
        if found == group:
            return False
        group = found
    return True


def test_the_controls_are_solvable_and_the_others_are_not():
    """What makes the word problem of A5 hard is missing in both controls of its size."""
    assert {name: solvable(name) for name in ("a5", "z60", "a4z5")} == {
        "a5": False, "z60": True, "a4z5": True
    }  # fmt: skip
    t = table("z60")
    assert torch.equal(t, t.T) and not torch.equal(table("a4z5"), table("a4z5").T)


@given(st.integers(0, 2**31), st.sampled_from(NAMES), st.integers(1, 4), st.integers(2, 40))
def test_labels_by_moving_cards(seed, name, B, T):
    """Each label is where the cards lie that are moved step by step, and the first has none."""
    batch = WordProblem(name).draw(B, T, torch.Generator().manual_seed(seed))
    assert (batch.targets[:, 0] == IGNORE).all() and batch.tokens.shape == (B, T)
    group = elements(name)
    for row, labels in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        cards = list(range(len(group[0])))
        for token, label in zip(row, labels, strict=True):
            # The card at each place goes where the permutation sends that place.
            moved = dict(zip(group[token], cards, strict=True))
            cards = [moved[place] for place in range(len(cards))]
            places = tuple(cards.index(card) for card in range(len(cards)))
            assert label in (IGNORE, group.index(places))


def test_products_of_halves():
    """The product of a whole sequence is that of its second half times that of its first."""
    t = table("s5")
    x = torch.randint(len(t), (50, 20), generator=GENERATOR)
    whole, first, second = (products(t, part)[:, -1] for part in (x, x[:, :10], x[:, 10:]))
    assert torch.equal(whole, t[second, first])


@torch.no_grad()
def test_the_model_of_the_package_multiplies():
    """It was taught 32 factors at most, and is right after 200."""
    model = FeedbackLM.from_pretrained("a5")
    batch = WordProblem("a5").draw(128, 200, torch.Generator().manual_seed(9))
    right = model(batch.tokens)[0].argmax(-1) == batch.targets
    assert right[:, 1:].double().mean() > 0.98 and right[:, -1].double().mean() > 0.95


def test_swaps():
    """The identity and ten swaps of two out of five; all labels of the group occur."""
    task = WordProblem("s5", only_swaps=True)
    assert task.vocab_size == 1 + math.comb(5, 2) and task.n_labels == math.factorial(5)
    for i in task.tokens.tolist():
        assert table("s5")[i, i] == 0
    labels = task.draw(200, 40, GENERATOR).targets[:, 1:]
    assert len(labels.unique()) == 120


def test_a_seed_repeats_and_another_does_not():
    """The generator decides everything; the global one is not touched."""
    before = torch.get_rng_state()
    first, again, other = (
        WordProblem("a5").draw(4, 20, torch.Generator().manual_seed(seed)).tokens
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_an_example_in_words():
    """The description of S5 is an example that can be followed with five cards."""
    tokens, labels = (line.split() for line in WordProblem("s5").describe().splitlines())
    assert labels[0] == "."
    lie = tokens[0]
    for token, label in zip(tokens[1:], labels[1:], strict=True):
        lie = "".join(token[int(place)] for place in lie)
        assert label == lie


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: WordProblem("m11"), "group is 'm11', expected one of a5, s5, z60, a4z5"),
        (lambda: WordProblem("a5", only_swaps=True), "group 'a5' has no swaps; use 's5'"),
        (lambda: WordProblem("a5").draw(0, 5, GENERATOR), "B = 0, T = 5, expected at least 1"),
        (lambda: WordProblem("a5").draw(1, 1, GENERATOR), "B = 1, T = 1, expected at least 1"),
    ],
)
def test_mistakes(make, words):
    """One sentence that names the value."""
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        make()
