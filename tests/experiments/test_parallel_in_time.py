"""Parallel in time: each iteration is compared with plain loops, and ends in the reference."""

import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import awaken

from feedback import FeedbackLM, ModelConfig
from feedback.experiments import parallel_in_time as parallel
from feedback.reference import recurrent_step

RECORD = Path(__file__).parents[2] / "docs/runs/experiments/parallel_in_time.json"
ENDS = ("0.01", "1e-06")
"""The tolerances of the table."""
CONFIG = ModelConfig(
    vocab_size=11, d_model=8, n_layers=2, n_heads=2, d_ff=12, mem_len=5, norm_memory=True
)
CONFIGS = {
    "shared": CONFIG,
    "long memory": replace(CONFIG, mem_len=40),
    "a pair in each layer": replace(CONFIG, share_kv=False),
    "zeros": replace(CONFIG, empty_memory="zeros"),
    "zeros, without norm": replace(CONFIG, empty_memory="zeros", norm_memory=False),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def problem(config, T, seed=0):
    """A model with every parameter awake, in float64, tokens, and the exact solution."""
    torch.manual_seed(seed)
    model = awaken(FeedbackLM(config).double(), seed).requires_grad_(False)
    tokens = torch.randint(config.vocab_size, (T + 1,))
    return model, tokens, parallel.step_through(model, tokens)


def after(passes, iteration):
    """What an iteration yields after so many passes."""
    return next(islice(iteration, passes - 1, None))


def distance(found, exact):
    """The largest difference, relative to the largest number."""
    return ((found - exact).abs().max() / exact.abs().max()).item()


def one(model, x, m, t):
    """Step `t` alone, as the reference takes it, from the memory vectors `m`."""
    window = m[max(0, t - model.config.mem_len) : t, None]
    y, m_t = recurrent_step(model, x[t, None], model.window(window))
    return y[0], m_t[0]


@every_config
@pytest.mark.parametrize("T", [1, 2, 13])
def test_exact_states_stay(config, T):
    """The exact states solve the equation, and their outputs are those of the model."""
    model, tokens, true = problem(config, T)
    for G in {1, min(3, T), T}:
        y, m = after(1, parallel.solve(model.transformer, true.x, true.m, G))
        assert distance(m, true.m) < 1e-12
        logits, memory = model(tokens[None, :-1])
        torch.testing.assert_close(model.head(model.transformer.norm(y)), logits[0])
        torch.testing.assert_close(memory.m[0], m[-config.mem_len :])


@every_config
def test_a_pass_is_what_it_is_said_to_be(config):
    """In plain loops: a group reads what earlier groups have written, and nothing of its own."""
    model, _, true = problem(config, 13)
    guess = torch.randn_like(true.m)
    for G in (1, 4, 13):
        m, y = guess.clone(), torch.empty_like(guess)
        for g in range(G):
            before = m.clone()
            for t in range(g, 13, G):
                y[t], m[t] = one(model.transformer, true.x, before, t)
        found = after(1, parallel.solve(model.transformer, true.x, guess, G))
        assert distance(found[0], y) < 1e-12 and distance(found[1], m) < 1e-12


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(1, 16), st.data())
def test_what_is_certain(seed, T, data):
    """
    From any guess, $p$ passes make the first $pG$ states exact, and from nothing the last $pG$
    gradients: so Jacobi needs at most T passes, and T groups need one.
    """
    G = data.draw(st.integers(1, T))
    passes = data.draw(st.integers(1, -(-T // G)))
    model, _, true = problem(data.draw(st.sampled_from(list(CONFIGS.values()))), T, seed)
    sure = min(T, passes * G)
    guess = 10 * torch.randn_like(true.m)
    _, m = after(passes, parallel.solve(model.transformer, true.x, guess, G))
    assert distance(m[:sure], true.m[:sure]) < 1e-10
    dm, dx = after(passes, parallel.solve_adjoint(model.transformer, true.x, true.m, true.dy, G))
    scale = true.dx.abs().max()
    assert ((dm - true.dm)[T - sure :].abs().max() / scale).item() < 1e-10
    assert ((dx - true.dx)[T - sure :].abs().max() / scale).item() < 1e-10


@every_config
def test_the_gradient_is_a_sum_of_powers(config):
    r"""Jacobi's passes are the partial sums of $\sum_k (J^\top)^k b$, with $J$ written out."""
    T = 7
    model, _, true = problem(config, T)
    outputs = torch.autograd.functional.jacobian(
        lambda m: parallel.read(model.transformer, true.x, m, torch.arange(T)), true.m
    )
    dy, dm = (j.reshape(true.m.numel(), -1) for j in outputs)
    b = dy.T @ true.dy.flatten()
    expected, iteration = (
        torch.zeros_like(b),
        parallel.solve_adjoint(model.transformer, true.x, true.m, true.dy, 1),
    )
    for _ in range(4):
        expected = dm.T @ expected + b
        assert distance(next(iteration)[0].flatten(), expected) < 1e-12


@every_config
def test_the_exact_gradients(config):
    """
    Those of the embeddings are the model's own; those of a memory vector are what the loss
    changes by when the vector is pushed.
    """
    T = 9
    model, tokens, true = problem(config, T)
    x = true.x.clone().requires_grad_()
    y, _ = model.transformer(x[None])
    loss = torch.nn.functional.cross_entropy(model.head(y[0]), tokens[1:])
    (dx,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(loss.detach(), true.loss)
    torch.testing.assert_close(true.dx, dx)
    direction = torch.randn_like(true.m)
    for t in (0, T // 2, T - 1):
        losses = []
        for push in (1e-5, -1e-5):
            m, outputs = true.m.clone(), []
            for s in range(T):
                y, m[s] = one(model.transformer, true.x, m, s)
                m[s] += push * direction[s] * (s == t)
                outputs.append(y)
            losses.append(parallel.loss_at(model, torch.stack(outputs), tokens[1:]))
        slope = (losses[0] - losses[1]) / 2e-5
        torch.testing.assert_close(slope, true.dm[t] @ direction[t], rtol=1e-5, atol=1e-9)


def test_what_was_found_is_what_was_recorded():
    """Each number of the table, and the passes of the untrained model, are those of the record."""
    (record,) = json.loads(RECORD.read_text(encoding="utf-8"))["runs"]
    table = {}
    for window in record["results"]:
        for row in window["iterations"]:
            counts = [row[n]["to"][e]["passes"] for n in ("states", "gradient") for e in ENDS]
            table.setdefault((window["model"], row["groups"], window["T"]), []).append(counts)
    rows = [line for line in parallel.__doc__.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == 6
    for row in rows:
        G, T, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        columns = zip(*table["trained", int(G), int(T)], strict=True)
        for cell, counts in zip(cells, columns, strict=True):
            low, high = min(counts), max(counts)
            assert cell == (f"{low}" if low == high else f"{low} to {high}"), row
    assert {(c[0], c[1]) for T in (64, 256) for c in table["untrained", 1, T]} == {(2, 6)}
    lengths = [window["T"] for window in record["results"] if window["model"] == "trained"]
    assert lengths == [64] * 4 + [256] * 2


def test_passes_are_counted_when_an_error_is_small_for_good():
    """An error that comes back does not count as gone, and neither does one that is no number."""
    assert parallel.passes_to([1.0, 0.001, 0.1, 0.001, 0.0], 0.01) == 4
    assert parallel.passes_to([0.001], 0.01) == 1
    assert parallel.passes_to([0.001, 1.0], 0.01) is None
    assert parallel.passes_to([0.001, float("nan")], 0.01) is None


def test_a_measurement():
    """It is JSON, its costs follow from its passes, and the model is left as it was."""
    T, G, L = 24, 4, CONFIG.n_layers
    torch.manual_seed(0)
    model = FeedbackLM(CONFIG).train()
    tokens = torch.randint(CONFIG.vocab_size, (T + 1,))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = parallel.measure(model, tokens, groups=(1, G, T))
    assert json.loads(json.dumps(result)) == result and result["stepping"] == T * L
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for row in result["iterations"]:
        for name in ("states", "perplexity", "gradient", "embedding_gradient"):
            errors, to = row[name]["errors"], row[name]["to"]
            assert 1 <= len(errors) <= -(-T // row["groups"]) and errors[-1] < 1e-6
            for count in to.values():
                assert count["sequential"] == count["passes"] * row["groups"] * L
                assert count["work"] == count["passes"] * T * L
    stepping = result["iterations"][-1]["states"]["to"]["1e-06"]
    assert stepping == {"passes": 1, "sequential": T * L, "work": T * L}


def test_an_end_before_the_tolerance():
    """With too few passes there is no count, and no cost."""
    model, tokens, _ = problem(CONFIG, 12)
    (row,) = parallel.measure(model, tokens, passes=1, groups=(1,))["iterations"]
    assert len(row["states"]["errors"]) == 1
    assert row["states"]["to"]["1e-06"] == {"passes": None}


def test_a_run_repeats():
    """The same seed measures the same window with both models, in the alphabet that one knows."""
    first, second = (parallel.run(3, {16: 1})["results"] for _ in range(2))
    assert first == second
    assert [(row["model"], row["T"]) for row in first] == [("trained", 16), ("untrained", 16)]
    # It has learnt this alphabet: numbered otherwise, it would do no better than a guess.
    assert first[0]["loss"] < 3 < first[1]["loss"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, t: parallel.measure(m, t, groups=(9,)), "G is 9, expected from 1 to T = 4"),
        (lambda m, t: parallel.measure(m, t, groups=(0,)), "G is 0"),
        (lambda m, t: parallel.measure(m, t[:1]), "at least 2"),
        (lambda m, t: parallel.measure(m, t[None]), "T \\+ 1"),
        (lambda m, t: parallel.measure(m, t + 11), "token id"),
        (lambda m, t: parallel.measure(m, t, passes=0), "passes is 0"),
    ],
)
def test_wrong_arguments(call, words):
    """Each names what is wrong."""
    with pytest.raises(ValueError, match=words):
        call(FeedbackLM(CONFIG), torch.arange(5))
