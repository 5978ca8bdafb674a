"""Which element is the first wrong answer, and how near its memory lies to that of the right."""

import json
from dataclasses import replace

import pytest
import torch

from feedback.__main__ import main
from feedback.experiments import catalog
from feedback.experiments.catalog import find
from feedback.experiments.experiment import run_study
from feedback.experiments.groups import WordProblem
from feedback.experiments.studies import slips
from feedback.memory import Memory

TASK = WordProblem("z60")
# How many steps round the dial each element lies: element 59 has order 60, and is one step.
CLOCK = {0: 0}
while len(CLOCK) < 60:
    CLOCK[TASK.table[59, list(CLOCK)[-1]].item()] = len(CLOCK)


class Clock(torch.nn.Module):
    """
    Keeps sums of any length as places on a circle, and after 300 steps is one place ahead, or so
    many places as `jump` says. With `faithful` it makes no mistake.
    """

    def __init__(self, jump: int = 1, faithful: bool = False):
        super().__init__()
        self.jump, self.faithful = jump, faithful

    def forward(self, tokens):
        place = torch.tensor([CLOCK[i] for i in range(60)])[tokens].cumsum(1)
        if not self.faithful:
            place[:, 300:] += self.jump
        element = torch.tensor(sorted(CLOCK, key=CLOCK.__getitem__))[place % 60]
        angle = 2 * torch.pi * place[:, -1:, None] / 60
        m = torch.cat([angle.cos(), angle.sin()], -1)
        return torch.nn.functional.one_hot(element, 60).float(), Memory(m, find("z60").config())


def test_the_elements_of_the_clock_are_those_of_the_group():
    """The dial used here: each element once, and the group's own addition."""
    assert sorted(CLOCK) == list(range(60))
    for a, b in ((3, 17), (59, 59), (0, 5)):
        assert CLOCK[TASK.table[a, b].item()] == (CLOCK[a] + CLOCK[b]) % 60


@pytest.mark.parametrize(("jump", "ranks"), [(1, {1, 2}), (-2, {3, 4}), (30, {59})])
def test_a_slip_has_the_rank_of_the_place_that_it_leads_to(jump, ranks):
    """One hour further is one of the two nearest, and half the dial away the farthest of all."""
    found = slips.slips(Clock(jump), TASK, seed=3)
    assert found["sequences"] == sum(found["ranks"]) == 1024 and len(found["ranks"]) == 59
    assert sum(found["ranks"][rank - 1] for rank in ranks) == 1024 and found["returned"] == 0


def test_who_makes_no_mistake_has_no_slips():
    """No sequence is counted."""
    assert sum(slips.slips(Clock(faithful=True), TASK, seed=3)["ranks"]) == 0


def test_the_first_mistake_is_found():
    """By hand; what has no label is no mistake, and later mistakes do not count."""
    labels = torch.tensor([[-100, 1, 2, 3], [-100, 4, 5, 6], [-100, 7, 8, 9]])
    answers = torch.tensor([[9, 1, 7, 8], [4, 4, 5, 6], [7, 1, 8, 2]])
    assert slips.first_mistakes(answers, labels) == [(2, 7), (7, 1)]


def test_nearness_is_seen_from_the_row():
    """Three places on a line: the outer ones are not each other's second for the same reason."""
    m, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.arange(3)
    assert slips.nearness(m, y, 3).tolist() == [[0, 1, 2], [1, 0, 2], [2, 1, 0]]
    # Seen from the place in the middle, the first is the nearest; from the last, the second.
    assert slips.nearness(torch.cat([m, m + 0.5]), torch.cat([y, y]), 3)[1].tolist() == [1, 0, 2]


def test_who_comes_back_is_counted():
    """An hour ahead for a hundred steps, then right again: each has a slip, and all return."""

    class Late(Clock):
        def forward(self, tokens):
            wrong, memory = super().forward(tokens)
            right, _ = Clock(faithful=True)(tokens)
            late = torch.arange(tokens.shape[1])[:, None] < 400
            return torch.where(late, wrong, right), memory

    found = slips.slips(Late(), TASK, seed=3)
    assert sum(found["ranks"]) == found["returned"] == 1024


def test_an_element_that_was_not_seen():
    """Without its memory nothing is near to it; the message names it."""
    m, y = torch.randn(5, 3), torch.tensor([0, 1, 3, 3, 1])
    with pytest.raises(ValueError, match=r"no memory vector of the elements \[2\]; read more"):
        slips.nearness(m, y, 4)


def test_the_study_is_recorded(tmp_path, monkeypatch):
    """By the command, with both groups, each trained for a moment."""
    original = catalog.find

    def brief(name):
        contest = catalog.Changes(only=["feedback"], tokens=3000).apply(original(name))
        return replace(contest, lengths=(16,))

    monkeypatch.setattr(catalog, "find", brief)
    assert main(["experiment", "slips", "--seed", "2", "--out", str(tmp_path)]) == 0
    (run,) = json.loads((tmp_path / "slips.json").read_text())["runs"]
    assert [found["group"] for found in run["results"]] == ["z60", "a4z5"]
    # Who has learnt nothing makes a mistake in every sequence.
    assert all(sum(found["ranks"]) == 1024 for found in run["results"])
    assert run["command"] == "python -m feedback experiment slips --seed 2"
    again = run_study("slips", catalog.STUDIES["slips"], 2, tmp_path, "again")
    assert len(json.loads(again.read_text())["runs"]) == 1, "what is recorded is not run again"
