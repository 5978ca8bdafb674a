"""The course and the examination: who can learn a task passes, and nobody is marked wrongly."""

import math

import pytest
import torch
from torch import nn

from feedback import ModelConfig
from feedback.data.text import IGNORE, Batch
from feedback.experiments.course import Course, examine, teach
from feedback.experiments.groups import WordProblem
from feedback.experiments.rivals import RIVALS
from feedback.experiments.task import right, two_lines


class Parity:
    """One bit of state, every step asked for."""

    vocab_size = n_labels = 2

    def draw(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """Bits, and whether the number of ones so far is odd."""
        bits = torch.randint(2, (B, T), generator=generator)
        return Batch(bits, bits.cumsum(1) % 2, new=True)

    def describe(self) -> str:
        """Not needed."""
        return ""


TINY = ModelConfig(vocab_size=2, d_model=32, n_layers=2, n_heads=2, d_ff=64, mem_len=1)


def test_feedback_passes_parity_far_beyond_its_course():
    """Taught up to 16 steps, it is right at 200; the curve shows how sequences became longer."""
    torch.manual_seed(0)
    model = RIVALS["feedback"](TINY)
    course = Course(tokens=150_000, batch_tokens=512, seq_len=16, learning_rate=5e-3)
    curve = teach(model, Parity(), course, seed=0)
    lengths = [row["seq_len"] for row in curve]
    assert lengths == sorted(lengths) and lengths[-1] == 16 and lengths[0] < 16
    assert curve[-1]["tokens"] >= course.tokens and curve[-1]["accuracy"] > 0.99
    marks = examine(model, Parity(), (16, 200), seed=1, sequences=128)
    assert marks["16"]["sequence"] > 0.99 and marks["200"]["token"] > 0.95


def test_the_same_seed_teaches_the_same():
    """Weights after two courses with one seed are equal; with another they are not."""
    course = Course(tokens=4096, batch_tokens=256, seq_len=8)
    ends = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        model = RIVALS["gru"](TINY)
        teach(model, Parity(), course, seed)
        ends.append(nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


class Parrot(nn.Module):
    """Always answers with the token that it reads."""

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, None]:
        """One-hot logits."""
        return nn.functional.one_hot(tokens, 60).float(), None


class Every(WordProblem):
    """Labels are the tokens, except at the steps named."""

    def __init__(self, wrong: list[int], silent: list[int]):
        super().__init__("a5")
        self.wrong, self.silent = wrong, silent

    def draw(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """A batch that a parrot gets right, but for `wrong`; `silent` steps ask for nothing."""
        tokens = super().draw(B, T, generator).tokens
        targets = tokens.clone()
        targets[:, self.wrong] = (tokens[:, self.wrong] + 1) % 60
        targets[:, self.silent] = IGNORE
        return Batch(tokens, targets, new=True)


@pytest.mark.parametrize(
    ("wrong", "silent", "token", "final", "sequence"),
    [
        ([], [], 1, 1, 1),
        ([0], [], 7 / 8, 1, 0),
        ([7], [], 7 / 8, 0, 0),
        # Where nothing is asked for, nothing counts: the last answer is that of step 5.
        ([6], [6, 7], 1, 1, 1),
        ([5], [6, 7], 5 / 6, 0, 0),
    ],
)
def test_marks(wrong, silent, token, final, sequence):
    """Shares of right answers, right last answers and faultless sequences, counted by hand."""
    marks = examine(Parrot(), Every(wrong, silent), (8,), seed=0, sequences=130)["8"]
    assert marks == pytest.approx({"token": token, "final": final, "sequence": sequence})


def test_right_and_two_lines():
    """Unlabelled steps are not asked for; columns stand below each other."""
    logits = torch.eye(3)[None]
    good, asked = right(logits, torch.tensor([[0, 2, IGNORE]]))
    assert good.tolist() == [[True, False, False]] and asked.tolist() == [[True, True, False]]
    assert two_lines(["a", "bcd"], ["xy", "."]) == " a bcd\nxy   ."


def test_the_learning_rate_ends_at_nothing():
    """Up in the first steps, constant, and down to zero over the last part of the budget."""
    course = Course(tokens=1000, batch_tokens=100, warmup_steps=2, decay=0.5, learning_rate=1.0)
    rates = [course.rate(step, 100 * step) for step in range(11)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0])


def test_a_loss_that_is_not_finite_stops():
    """Named, with its step, instead of training on."""
    torch.manual_seed(0)
    model = RIVALS["gru"](TINY)
    model.head.bias.data[0] = math.nan
    with pytest.raises(ValueError, match="the loss at step 1 is nan, expected a finite number"):
        teach(model, Parity(), Course(batch_tokens=64), seed=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokens": 0}, "tokens is 0"),
        ({"decay": 0.0}, "decay is 0.0, expected a share above 0"),
        ({"start_len": 40}, "start_len is 40, expected a length from 1 to seq_len = 32, or None"),
        ({"batch_tokens": 8}, "batch_tokens is 8, expected at least seq_len = 32"),
    ],
)
def test_courses_that_make_no_sense(changes, words):
    """One sentence that names the value."""
    with pytest.raises(ValueError, match=words):
        Course(**changes)
