"""Choosing tokens, and the options of `generate`."""

import pytest
import torch
from parity import SMALL, awaken

from feedback import FeedbackLM, ModelConfig
from feedback.lm.generate import choose


@pytest.fixture
def model():
    return awaken(FeedbackLM(ModelConfig(**SMALL)))


START = torch.zeros(2, 1, dtype=torch.long)


def test_temperature_zero_is_greedy():
    """The most likely token, always."""
    logits = torch.randn(5, 9)
    assert torch.equal(choose(logits, temperature=0), logits.argmax(-1))


def test_frequencies_follow_the_distribution():
    """Sampling at temperature 2 gives each token its probability, to four standard errors."""
    logits, n = torch.tensor([2.0, 0.0, -1.0, 1.0]), 20_000
    generator = torch.Generator().manual_seed(0)
    drawn = choose(logits.expand(n, -1), temperature=2.0, generator=generator)
    p = (logits / 2).softmax(0)
    frequency = drawn.bincount(minlength=4) / n
    assert ((frequency - p).abs() < 4 * (p * (1 - p) / n).sqrt()).all()


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"top_k": 2}, {0, 3}),
        ({"top_k": 99}, {0, 1, 2, 3}),
        # The probabilities are 0.64 (0), 0.24 (3), 0.09 (1), 0.03 (2).
        ({"top_p": 0.6}, {0}),
        ({"top_p": 0.7}, {0, 3}),
        ({"top_p": 1e-9}, {0}),
        ({"top_k": 3, "top_p": 0.95}, {0, 1, 3}),
        # Among three the most likely has 0.66, so 0.65 is reached by it alone.
        ({"top_k": 3, "top_p": 0.65}, {0}),
    ],
)
def test_restrictions(options, allowed):
    """top_k and top_p leave exactly the tokens they should."""
    logits = torch.tensor([3.0, 1.0, 0.0, 2.0]).expand(5_000, -1)
    drawn = choose(logits, generator=torch.Generator().manual_seed(0), **options)
    assert set(drawn.tolist()) == allowed


def test_a_tiny_temperature_is_almost_greedy():
    """No temperature is too small to divide by."""
    logits = torch.randn(50, 9)
    assert torch.equal(choose(logits, temperature=1e-30), logits.argmax(-1))


def test_generator_decides(model):
    """The same seed writes the same text, another seed another one; the global one is not used."""

    def write(seed):
        return model.generate(START, 30, generator=torch.Generator().manual_seed(seed))

    state = torch.get_rng_state()
    assert torch.equal(write(1), write(1))
    assert not torch.equal(write(1), write(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_stop_token_fills_the_row_and_ends_early(model):
    """A row that has stopped stays stopped; when all have, generation ends."""
    free = model.generate(START, 40, generator=torch.Generator().manual_seed(0))
    stop = int(free[0, 5])
    out = model.generate(START, 400, stop_token=stop, generator=torch.Generator().manual_seed(0))
    assert out.shape[1] < 401
    for row in out[:, 1:]:
        first = row.tolist().index(stop)
        assert (row[first:] == stop).all()
    # The row that stopped last does so in the last column, and not before.
    assert any(row.tolist().index(stop) == len(row) - 1 for row in out[:, 1:])


def test_rows_of_a_batch_are_independent(model):
    """Greedy decoding of a batch equals that of each prompt alone."""
    prompts = torch.tensor([[1, 2, 3], [4, 5, 6]])
    both = model.double().generate(prompts, 30, temperature=0)
    for i in range(2):
        assert torch.equal(model.generate(prompts[i : i + 1], 30, temperature=0)[0], both[i])


def test_memory_comes_before_the_prompt(model):
    """What was read before the prompt is continued, as if it were part of it."""
    text = torch.arange(9)[None]
    _, memory = model.double()(text[:, :6])
    whole = model.generate(text, 20, temperature=0)
    assert torch.equal(model.generate(text[:, 6:], 20, temperature=0, memory=memory), whole[:, 6:])


def test_dropout_is_off_and_the_mode_comes_back():
    """Generation is deterministic in training mode too, and leaves the mode as it was."""
    model = awaken(FeedbackLM(ModelConfig(**SMALL, dropout=0.5))).train()
    first, second = (model.generate(START, 20, temperature=0) for _ in range(2))
    assert torch.equal(first, second)
    assert model.training


def test_the_prefix_is_never_computed_again(model, monkeypatch):
    """The full forward runs once, for the prompt; each further token is one step."""
    calls, forward = [], model.forward
    monkeypatch.setattr(model, "forward", lambda *a: calls.append(a[0].shape) or forward(*a))
    model.generate(START, 25)
    assert calls == [(2, 1)]


def test_no_new_tokens_returns_the_prompt(model):
    """`max_new_tokens=0` is the prompt."""
    assert torch.equal(model.generate(START, 0), START)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
        ({"temperature": -0.5}, "temperature is -0.5"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"stop_token": 11}, "stop_token is 11, expected a token id from 0 to 10"),
    ],
)
def test_wrong_options(model, options, words):
    """Each is a ValueError that names the value and what was expected."""
    with pytest.raises(ValueError, match=words):
        model.generate(START, **options)


@pytest.mark.parametrize("largest", [0.0, 1 - 2**-24])
def test_the_ends_of_the_draw(monkeypatch, largest):
    """The smallest and the largest uniform number choose the first and the last that may be."""
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, largest))
    logits = torch.randn(1000, 7, generator=torch.Generator().manual_seed(0))
    chosen = choose(logits, top_k=3)
    order = logits.argsort(dim=-1, descending=True)
    assert torch.equal(chosen, order[:, 0 if largest == 0 else 2])
