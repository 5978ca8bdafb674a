"""The tasks: every target is compared with the slowest and plainest way to find it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from feedback.data import tasks

HEADINGS = [(0, 1), (1, 0), (0, -1), (-1, 0)]
"""Row and column, in the order in which a walker turns to the right."""


def follow(actions: list[int], size: int) -> list[int]:
    """The cells of a walk, a step at a time, in plain Python."""
    row = column = heading = 0
    cells = []
    for action in actions:
        name = tasks.ACTIONS[action]
        if name == "left":
            heading = (heading - 1) % 4
        elif name == "right":
            heading = (heading + 1) % 4
        elif name == "forward":
            down, along = HEADINGS[heading]
            row, column = (row + down) % size, (column + along) % size
        cells.append(size * row + column)
    return cells


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 40))
def test_parity_counts_ones(seed, B, T):
    """Each target is the number of ones so far, modulo two."""
    torch.manual_seed(seed)
    batch = tasks.parity(B, T)
    for row, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        assert targets == [sum(row[: t + 1]) % 2 for t in range(T)]
    assert batch.new and batch.tokens.shape == (B, T)


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 40), st.integers(1, 6))
def test_a_walk_followed_by_hand(seed, B, T, size):
    """Each target is the cell that a walker reaches who takes one step at a time."""
    torch.manual_seed(seed)
    batch = tasks.random_walk(B, T, size)
    for actions, cells in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        assert cells == follow(actions, size)
    assert batch.targets.max() < size**2 and batch.tokens.max() < len(tasks.ACTIONS)


def test_every_cell_is_reached_and_seeds_repeat():
    """A long walk leaves no cell out; the same seed draws the same walk."""
    torch.manual_seed(1)
    first = tasks.random_walk(1, 500)
    torch.manual_seed(1)
    assert torch.equal(tasks.random_walk(1, 500).tokens, first.tokens)
    assert first.targets.unique().tolist() == list(range(9))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tasks.parity(0, 4), "B = 0"),
        (lambda: tasks.parity(4, 0), "T = 0"),
        (lambda: tasks.random_walk(1, 1, 0), "size = 0"),
    ],
)
def test_wrong_sizes(call, words):
    """Each names what is wrong."""
    with pytest.raises(ValueError, match=words):
        call()
