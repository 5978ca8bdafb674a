"""
Adaptive spans: the formula, the same in both implementations that have it, refused by the others.

Run: `python -m pytest tests/test_adaptive_span.py`
"""

import math
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import SMALL, TIGHT, assert_same, awaken, outputs_and_gradients, same_models

from feedback import FeedbackLM, ModelConfig, RotaryLM, TransformerLM
from feedback.attention import FeedbackAttention
from feedback.commands import PRESETS
from feedback.fast.native import obstacle
from feedback.lm.decode import StaticWindows, Windows

# A ramp shorter than mem_len = 7, so that there are slots before it, on it and behind it.
SPANS = {**SMALL, "adaptive_span": True, "span_ramp": 3}


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(11, shape, generator=torch.Generator().manual_seed(seed))


def spread(*models: FeedbackLM) -> tuple[FeedbackLM, ...]:
    """Sets the spans of these models to the same numbers from 0 to 1."""
    for model in models:
        generator = torch.Generator().manual_seed(3)
        for layer in model.transformer.layers:
            span = layer.attn.span
            span.data = torch.rand(span.shape, generator=generator, dtype=torch.float64).to(span)
    return models


def plain_weights(scores: list[float], z: float, R: int, mem_len: int) -> list[float]:
    """The formula for one head, in plain Python; the last slot is at distance 1."""
    S = len(scores)
    ramp = [min(1.0, max(0.0, (R + z * mem_len - (S - j - 1)) / R)) for j in range(S)]
    weights = [c * math.exp(score) for c, score in zip(ramp, scores, strict=True)]
    return [weight / sum(weights) for weight in weights]


@given(
    R=st.integers(1, 12),
    mem_len=st.integers(1, 12),
    spans=st.tuples(*[st.floats(0, 1)] * 2),
    data=st.data(),
)
@settings(max_examples=50)
def test_the_weights_are_those_of_the_formula(R, mem_len, spans, data):
    """For every ramp, span and number of slots; the weights sum to one."""
    S = data.draw(st.integers(1, mem_len))
    config = ModelConfig(**{**SMALL, "mem_len": mem_len}, adaptive_span=True, span_ramp=R)
    attention = FeedbackAttention(config).double()
    attention.span.data = torch.tensor(spans, dtype=torch.float64)
    scores = torch.randn(3, 2, S, dtype=torch.float64, generator=torch.Generator().manual_seed(S))
    expected = [
        [plain_weights(row, z, R, mem_len) for row, z in zip(rows, spans, strict=True)]
        for rows in scores.tolist()
    ]
    with torch.no_grad():
        actual = attention.weights(scores)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), **TIGHT)


def test_at_the_start_the_nearest_slots_are_seen():
    """A span of 0 leaves the ramp: 1, 1 - 1/R, ..., 1/R from the latest slot back, then zeros."""
    attention = FeedbackAttention(ModelConfig(mem_len=100, adaptive_span=True))
    seen = attention.within_span(attention.span, 100)
    assert seen.shape == (4, 100)
    expected = [1 - i / 32 for i in range(32)] + [0.0] * 68
    assert all(row[::-1] == pytest.approx(expected) for row in seen.tolist())


def test_a_hidden_slot_does_not_matter_whatever_it_holds():
    """Not even if its score is so high that, seen, it would leave nothing for the others."""
    torch.manual_seed(0)
    attention = FeedbackAttention(ModelConfig(**SPANS))
    z, k, v = torch.randn(2, 12), torch.randn(2, 2, 7, 6), torch.randn(2, 2, 7, 6)
    expected = attention(z, k, v)
    k[:, :, :4] *= 1e6
    v[:, :, :4] = 1e6
    assert torch.equal(attention(z, k, v), expected)


def test_a_span_out_of_its_range_counts_as_the_end():
    """So an optimiser that knows nothing of spans cannot hide every slot."""
    attention = FeedbackAttention(ModelConfig(**SPANS))
    near, far = (attention.within_span(torch.tensor([z]), 7) for z in (0.0, 1.0))
    assert torch.equal(attention.within_span(torch.tensor([-4.0]), 7), near)
    assert torch.equal(attention.within_span(torch.tensor([1.5]), 7), far)
    assert (far == 1).all()


def test_the_gradient_of_the_span():
    """Autograd's agrees with finite differences, where a slot is on the ramp."""
    torch.manual_seed(0)
    attention = FeedbackAttention(ModelConfig(**SPANS)).double()
    scores, span = torch.randn(2, 2, 7, dtype=torch.float64), attention.span
    span.data = torch.tensor([0.21, 0.43], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda _: attention.weights(scores), span)
    assert torch.autograd.grad(attention.weights(scores)[..., -1].sum(), span)[0].abs().min() > 1e-3


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("empty_memory", ["skip", "zeros"])
@pytest.mark.parametrize("share_kv", [False, True])
@pytest.mark.parametrize("T", [1, 2, 3, 33])
def test_append_equals_the_reference(T, share_kv, empty_memory, dropout):
    """Outputs, memory and every gradient, that of the spans included, past mem_len and carried."""
    config = ModelConfig(**SPANS, share_kv=share_kv, empty_memory=empty_memory, dropout=dropout)
    segments = [tokens(2, T), tokens(2, 4)]
    expected, actual = (
        outputs_and_gradients(model, segments)
        for model in spread(*same_models(config, "reference", "append"))
    )
    assert_same(actual, expected)
    spans = [g for name, g in expected.items() if name.endswith("attn.span")]
    assert len(spans) == 3 and any(g.abs().max() > 1e-6 for g in spans)


@given(
    mem_len=st.integers(1, 9),
    R=st.integers(1, 40),
    T=st.integers(1, 14),
    name=st.sampled_from(["reference", "append"]),
    empty_memory=st.sampled_from(["skip", "zeros"]),
)
@settings(max_examples=20)
def test_a_span_of_the_whole_memory_changes_nothing(mem_len, R, T, name, empty_memory):
    """With every span 1, outputs and gradients are those of the model without spans."""
    plain = ModelConfig(**{**SMALL, "mem_len": mem_len}, empty_memory=empty_memory)
    config = ModelConfig(**{**vars(plain), "adaptive_span": True, "span_ramp": R})
    (without,), (model,) = same_models(plain, name), same_models(config, name)
    left, unexpected = model.load_state_dict(without.state_dict(), strict=False)
    assert not unexpected and all(key.endswith("attn.span") for key in left)
    for layer in model.transformer.layers:
        layer.attn.span.data.fill_(1)
    segments = [tokens(2, T), tokens(2, 3)]
    expected = outputs_and_gradients(without, segments)
    actual = outputs_and_gradients(model, segments)
    assert_same({key: actual[key] for key in expected}, expected)


def build(name: str = "auto", **changes) -> FeedbackLM:
    (model,) = spread(awaken(FeedbackLM(ModelConfig(**{**SPANS, **changes}), name).double()))
    return model.eval()


@pytest.mark.parametrize("way", [Windows, lambda stack, memory, _: StaticWindows(stack, memory)])
@pytest.mark.parametrize("empty_memory", ["skip", "zeros"])
@torch.no_grad()
def test_decoding_equals_the_forward_pass(empty_memory, way):
    """Step by step past the end of the memory, however the step is taken; `generate` too."""
    model = build(empty_memory=empty_memory)
    x = tokens(3, 30)
    whole, _ = model(x)
    for start in (1, 12):
        _, memory = model(x[:, :start])
        step = way(model.transformer, memory, 30 - start)
        for t in range(start, 30):
            logits = model.head(step(model.embedding(x[:, t])))
            torch.testing.assert_close(logits, whole[:, t], **TIGHT)
    out = model.generate(x[:, :2], max_new_tokens=20, temperature=0)
    assert torch.equal(model(out)[0][:, 1:-1].argmax(-1), out[:, 2:])


@pytest.mark.parametrize("name", ["auto", "reference"])
@torch.no_grad()
def test_segments_equal_one_long_sequence(name):
    """Carried memory continues where it stopped, at any cut."""
    model, x, memory, parts = build(name), tokens(2, 24), None, []
    whole, _ = model(x)
    for segment in x.split([1, 2, 11, 10], dim=1):
        y, memory = model(segment, memory)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, **TIGHT)


def test_auto_is_append():
    """The sweeps have no spans, so "auto" takes the fastest of those that do."""
    auto, append = spread(*same_models(ModelConfig(**SPANS), "auto", "append"))
    x = tokens(2, 9)
    assert torch.equal(auto(x)[0], append(x)[0])
    assert "append" in obstacle(auto.transformer, auto.embedding(x))


@pytest.mark.parametrize("name", ["sequence", "native"])
def test_the_sweeps_refuse(name):
    """With one sentence, which names the implementation that has spans."""
    with pytest.raises(ValueError, match=rf"'{name}' .* adaptive spans.* implementation='append'"):
        FeedbackLM(ModelConfig(**SPANS), name)(tokens(2, 4))


@pytest.mark.parametrize("architecture", [TransformerLM, RotaryLM])
def test_the_parallel_models_refuse(architecture):
    """They have no spans, and say so when they are built."""
    with pytest.raises(ValueError, match="adaptive_span is True, expected False: only a Feedback"):
        architecture(ModelConfig(**SPANS))


def test_only_models_with_spans_have_the_parameter():
    """One number a head and layer, at first 0; other models keep the parameters that they had."""
    plain, spans = (
        dict(FeedbackLM(ModelConfig(**SMALL, adaptive_span=flag)).named_parameters())
        for flag in (False, True)
    )
    new = {name: p for name, p in spans.items() if name not in plain}
    assert sorted(new) == [f"transformer.layers.{l}.attn.span" for l in range(3)]
    assert all(p.shape == (2,) and (p == 0).all() for p in new.values())
    assert not plain.keys() - spans.keys()


def test_wrong_ramps():
    """A ramp has at least one slot."""
    with pytest.raises(ValueError, match="span_ramp is 0, expected a whole number of at least 1"):
        ModelConfig(span_ramp=0)


def test_the_size_of_the_preset():
    """What *The paper's results* says: positions of heads add 100 million parameters to 77."""
    sizes = {**asdict(PRESETS["enwik8"].model), "vocab_size": 256}
    with torch.device("meta"):
        model = FeedbackLM(ModelConfig(**sizes))
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    L, H, K, S = (sizes[name] for name in ("n_layers", "n_heads", "d_k", "mem_len"))
    assert round(millions) == 177 and round(L * H * K * S / 1e6, -1) == 100
