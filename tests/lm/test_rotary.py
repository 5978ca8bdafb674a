"""The rival is a Transformer with rotary positions: cut, decoded or computed at once, the same."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from feedback import ModelConfig, RotaryLM
from feedback.lm.decode import StaticWindows, Windows
from feedback.lm.rotary import RotaryAttention, rotate

SMALL = dict(vocab_size=11, d_model=16, n_layers=3, n_heads=2, d_ff=24, mem_len=7)


def build(**changes) -> RotaryLM:
    torch.manual_seed(0)
    return RotaryLM(ModelConfig(**{**SMALL, **changes})).double().eval()


@given(st.integers(1, 6), st.integers(0, 9), st.integers(0, 50))
def test_only_the_distance_counts(half, distance, start):
    """The product of a turned query and a turned key is the same at every step."""
    q, k = torch.randn(2, 1, 2 * half, dtype=torch.float64)

    def product(j: int) -> float:
        turned = rotate(q, torch.tensor([j + distance])), rotate(k, torch.tensor([j]))
        return (turned[0] * turned[1]).sum().item()

    assert product(start) == pytest.approx(product(0), abs=1e-9)
    assert rotate(q, torch.tensor([start])).norm().item() == pytest.approx(q.norm().item())


def test_a_pair_turns_by_its_angle():
    """As numbers of the complex plane: a factor of exp(i t r), and the first pair has r = 1."""
    x = torch.randn(5, 4, dtype=torch.float64)
    pairs = torch.complex(x[:, :2], x[:, 2:])
    angles = torch.arange(5)[:, None] * torch.tensor([1, 0.01], dtype=torch.float64)
    expected = pairs * torch.polar(torch.ones_like(angles), angles)
    found = rotate(x, torch.arange(5))
    assert (torch.cat([expected.real, expected.imag], dim=-1) - found).abs().max() < 1e-12


@pytest.mark.parametrize(("N", "T"), [(1, 1), (5, 5), (8, 8), (9, 9), (12, 3), (20, 20)])
def test_attention_reads_itself_and_mem_len_before(N, T):
    """One query after the other, by the definition."""
    torch.manual_seed(0)
    attn = RotaryAttention(ModelConfig(**SMALL)).double()
    z = torch.randn(2, N, 16, dtype=torch.float64)
    q, k, v = attn.heads(z)
    for t in range(N - T, N):
        first = max(0, t - 7)
        steps = torch.arange(first, t + 1)
        turned = rotate(q[:, :, t : t + 1], torch.tensor([t]))
        scores = turned @ rotate(k[:, :, first : t + 1], steps).mT / math.sqrt(8)
        read = (scores.softmax(-1) @ v[:, :, first : t + 1]).transpose(1, 2).flatten(2)
        found = attn(z, T)[:, t - N + T]
        assert (attn.output(read)[:, 0] - found).abs().max() < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("cuts", [[1, 22], [5, 9, 9], [2, 1, 20], [10, 13]])
def test_segments_continue(cuts):
    """With the memory passed on, segments are one sequence."""
    model, x = build(), torch.randint(11, (2, 23))
    whole, _ = model(x)
    memory, parts = None, []
    for part in x.split(cuts, dim=1):
        y, memory = model(part, memory)
        parts.append(y)
    assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-12
    assert memory.m.shape == (2, 3, 7, 16)


@torch.no_grad()
@pytest.mark.parametrize("S", [1, 3, 12])
@pytest.mark.parametrize("static", [False, True])
def test_decoding_equals_the_forward(S, static):
    """Step by step, with windows that grow and with those of a recorded GPU graph."""
    model, x = build(), torch.randint(11, (2, 23))
    whole, _ = model(x)
    _, memory = model(x[:, :S])
    stack = model.transformer
    step = StaticWindows(stack, memory) if static else Windows(stack, memory, 23 - S)
    for t in range(S, 23):
        found = model.head(step(model.embedding(x[:, t])))
        assert (found - whole[:, t]).abs().max() < 1e-12


def test_dropout_and_gradients():
    """In training, weights and units are dropped, and every parameter has a gradient."""
    model, x = build(dropout=0.5).train(), torch.randint(11, (2, 23))
    first, second = model(x)[0], model(x)[0]
    assert (first - second).abs().max() > 1e-3
    first.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@torch.no_grad()
def test_without_positions_the_past_is_a_set():
    """One layer: the last step does not notice in which order the steps before it came."""
    config = ModelConfig(vocab_size=11, d_model=16, n_layers=1, n_heads=2, d_ff=16, mem_len=12)
    x = torch.arange(8)[None]
    shuffled = torch.cat([x[:, :-1].flip(1), x[:, -1:]], dim=1)
    for positions in (False, True):
        torch.manual_seed(0)
        model = RotaryLM(config, positions).double().eval()
        difference = (model(x)[0] - model(shuffled)[0])[:, -1].abs().max()
        assert (difference > 1e-6) if positions else (difference < 1e-12)
        # Decoding leaves positions out as well.
        _, memory = model(x[:, :5])
        step = Windows(model.transformer, memory, 3)
        found = [model.head(step(model.embedding(x[:, t]))) for t in (5, 6, 7)]
        assert (found[-1] - model(x)[0][:, -1]).abs().max() < 1e-12


def test_what_it_refuses():
    """An odd width of a head, and slots of zeros."""
    with pytest.raises(ValueError, match="d_k is 3, expected an even number"):
        build(d_k=3)
    with pytest.raises(ValueError, match="empty_memory is 'zeros', expected 'skip'"):
        build(empty_memory="zeros")
