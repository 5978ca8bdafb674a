"""Parallel in time: each iteration is compared with plain loops, and ends in the reference."""

import json
import re
from dataclasses import replace
from functools import cache
from itertools import islice, product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import awaken

from feedback import FeedbackLM, ModelConfig
from feedback.data.text import IGNORE
from feedback.experiments.studies import parallel_in_time as parallel
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
    return model, tokens, parallel.step_through(model, tokens[:-1], tokens[1:])


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


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(2, 8), st.booleans(), st.data())
def test_news_travels_so_far_in_a_pass(seed, T, one_slot, data):
    """
    From nothing, $p$ passes of $G$ groups with one slot have told a state of the last $pG$ tokens
    alone, and those of Jacobi with $S$ slots of the last $(p - 1) S + 1$; one token more, and the
    state changes. So a state in which each token counts is not found in fewer passes.
    """
    G = data.draw(st.integers(1, T)) if one_slot else 1
    config = replace(CONFIG, mem_len=1 if one_slot else data.draw(st.integers(1, 5)))
    passes = data.draw(st.integers(1, -(-T // G)))
    reach = passes * G if one_slot else (passes - 1) * config.mem_len + 1
    model, _, true = problem(config, T, seed)
    n = data.draw(st.integers(1, T))
    x = true.x.clone()
    x[:n] = torch.randn_like(x[:n])
    found = []
    for embeddings in (true.x, x):
        guess = torch.zeros_like(true.m)
        found.append(after(passes, parallel.solve(model.transformer, embeddings, guess, G))[1])
    changed = (found[0] != found[1]).any(dim=1)
    assert not changed[n - 1 + reach :].any()
    # With one slot a state at the end of a group of visits is reached from as far as that.
    last = n - 2 + reach
    if last < T and (last + 1) % G == 0:
        assert changed[last]


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


@cache
def recorded():
    """Rows of the record by task, model, groups and steps: the passes of each window."""
    rows = {}
    for run in json.loads(RECORD.read_text(encoding="utf-8"))["runs"]:
        for window in run["results"]:
            for row in window["iterations"]:
                key = window["task"], window["model"], row["groups"], window["T"]
                rows.setdefault(key, []).append(row["passes"])
    return rows


def test_what_was_found_is_what_was_recorded():
    """Each number of the table is that of the record: the fewest passes and the most."""
    rows = [line for line in parallel.__doc__.splitlines() if re.match(r"\| (text|\$A_5)", line)]
    assert len(rows) == 12
    for row in rows:
        task, G, T, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        windows = recorded()["text" if task == "text" else "a5", "trained", int(G), int(T)]
        assert len(windows) == {"64": 6, "256": 3}[T]
        for cell, (part, end) in zip(cells, product(("states", "gradient"), ENDS), strict=True):
            passes = [counts[part][end] for counts in windows]
            low, high = min(passes), max(passes)
            assert cell == (f"{low}" if low == high else f"{low} to {high}"), row


def test_on_a5_nothing_is_gained():
    """
    The states of the model that multiplies, and the perplexity, need as many visits as there are
    steps, in every window; and after half of the passes what is not exact is as wrong as before.
    """
    for (task, model, G, T), windows in recorded().items():
        for counts in windows if (task, model) == ("a5", "trained") else ():
            assert all(
                n * G == T for part in ("states", "perplexity") for n in counts[part].values()
            )
    curves = [
        window["iterations"][0]["errors"]["states"]
        for run in json.loads(RECORD.read_text(encoding="utf-8"))["runs"]
        for window in run["results"]
        if (window["task"], window["model"], window["T"]) == ("a5", "trained", 64)
    ]
    for errors in curves:
        # After the second pass 62 of the states are wrong, after the 32nd there are 32.
        assert errors[31] == pytest.approx(errors[1] * (32 / 62) ** 0.5, rel=0.1)


def test_other_numbers_of_the_prose():
    """Passes of untrained models, of the perplexity, and visits for 256 steps of text."""
    untrained, perplexity = {"text": set(), "a5": set()}, set()
    for (task, model, G, _), windows in recorded().items():
        if (model, G) == ("untrained", 1):
            untrained[task] |= {tuple(c["states"][end] for end in ENDS) for c in windows}
        if (task, model, G) == ("text", "trained", 1):
            perplexity |= {c["perplexity"]["0.01"] for c in windows}
    assert untrained == {"text": {(2, 6), (2, 7)}, "a5": {(3, 7)}}
    assert (min(perplexity), max(perplexity)) == (5, 8)
    for G, passes in ((1, 9), (16, 48 // 16)):
        rows = recorded()["text", "trained", G, 256]
        assert {counts["states"]["0.01"] for counts in rows} == {passes}


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
        assert (row["sequential"], row["work"]) == (row["groups"] * L, T * L)
        for name, errors in row["errors"].items():
            assert 1 <= len(errors) <= -(-T // row["groups"]) and errors[-1] < 1e-6
            assert row["passes"][name]["0.01"] == parallel.passes_to(errors, 0.01)
    assert result["iterations"][-1]["passes"]["states"]["1e-06"] == 1


def test_targets_are_the_next_tokens_or_those_given():
    """Given, they count where they are asked for: with the rest ignored, only the loss differs."""
    model, tokens, _ = problem(CONFIG, 18)
    text = parallel.measure(model, tokens)
    assert parallel.measure(model, tokens[:-1], tokens[1:]) == text
    targets = torch.full((18,), IGNORE)
    targets[7] = 3
    result = parallel.measure(model, tokens[:-1], targets)
    logits, _ = model(tokens[None, :-1])
    assert result["loss"] == pytest.approx(-logits[0, 7].log_softmax(-1)[3].item())
    for row, other in zip(result["iterations"], text["iterations"], strict=True):
        pairs = zip(row["errors"]["states"], other["errors"]["states"], strict=False)
        assert all(mine == theirs for mine, theirs in pairs)
        assert row["errors"]["gradient"] != other["errors"]["gradient"]


def test_an_end_before_the_tolerance():
    """With too few passes there is no count."""
    model, tokens, _ = problem(CONFIG, 12)
    (row,) = parallel.measure(model, tokens, passes=1, groups=(1,))["iterations"]
    assert len(row["errors"]["states"]) == 1
    assert row["passes"]["states"]["1e-06"] is None


def test_a_run_repeats():
    """The same seed measures the same windows with both models of both tasks."""
    first, second = (parallel.run(3, {16: 1})["results"] for _ in range(2))
    assert first == second
    who = [(row["task"], row["model"], row["T"]) for row in first]
    assert who == [
        (task, model, 16) for task in ("text", "a5") for model in ("trained", "untrained")
    ]
    # The models know these alphabets: numbered otherwise, they would do no better than a guess.
    text, untrained, a5, guess = (row["loss"] for row in first)
    assert text < 3 < untrained and a5 < 0.1 < 3 < guess
    for row in first[2]["iterations"]:
        assert row["passes"]["states"]["0.01"] * row["groups"] == 16


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, t: parallel.measure(m, t, groups=(9,)), "G is 9, expected from 1 to T = 4"),
        (lambda m, t: parallel.measure(m, t, groups=(0,)), "G is 0"),
        (lambda m, t: parallel.measure(m, t[:1]), "at least 2"),
        (lambda m, t: parallel.measure(m, t[None]), "T \\+ 1"),
        (lambda m, t: parallel.measure(m, t + 11), "token id"),
        (lambda m, t: parallel.measure(m, t, t[1:]), r"targets are \(4,\), expected \(5,\)"),
        (lambda m, t: parallel.measure(m, t, t + 11), "token id"),
        (lambda m, t: parallel.measure(m, t, 0 * t + IGNORE), "all IGNORE"),
        (lambda m, t: parallel.measure(m, t[:0], t[:0]), "at least 1"),
        (lambda m, t: parallel.measure(m, t, passes=0), "passes is 0"),
    ],
)
def test_wrong_arguments(call, words):
    """Each names what is wrong."""
    with pytest.raises(ValueError, match=words):
        call(FeedbackLM(CONFIG), torch.arange(5))
