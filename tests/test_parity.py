"""
Every implementation equals the reference: outputs, memory, and the gradient of every parameter.

All in float64, where a wrong formula shows as 1e-2 and rounding as 1e-15.
"""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parity import (
    ALL,
    FAST,
    NATIVE,
    SMALL,
    assert_same,
    distance,
    needs_the_library,
    outputs_and_gradients,
    same_models,
)

from feedback import FeedbackLM, ModelConfig
from feedback.fast import native, tape
from feedback.fast.compiled import missing

# 1: nothing to read; 2: the first read; 3: the first read through an append; 33 is far
# past mem_len = 7, so most slots have slid out.
LENGTHS = [1, 2, 3, 33]


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(11, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("norm_memory", [False, True])
@pytest.mark.parametrize("empty_memory", ["skip", "zeros"])
@pytest.mark.parametrize("share_kv", [False, True])
@pytest.mark.parametrize("T", LENGTHS)
def test_equals_the_reference(T, share_kv, empty_memory, norm_memory, fast):
    """Both forms of the memory, both treatments of an empty memory, with and without its norm."""
    config = ModelConfig(
        **SMALL, share_kv=share_kv, empty_memory=empty_memory, norm_memory=norm_memory
    )
    expected, actual = (
        outputs_and_gradients(model, [tokens(2, T)])
        for model in same_models(config, "reference", fast)
    )
    assert_same(actual, expected)


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("share_kv", [False, True])
@pytest.mark.parametrize("lengths", [(1, 1, 1), (3, 2, 5), (9, 1, 12)])
def test_equals_the_reference_with_carried_memory(lengths, share_kv, detach, fast):
    """Segments that pass on their memory, attached or detached, shorter and longer than it."""
    config = ModelConfig(**SMALL, share_kv=share_kv)
    segments = [tokens(2, T, seed=T) for T in lengths]
    expected, actual = (
        outputs_and_gradients(model, segments, detach=detach)
        for model in same_models(config, "reference", fast)
    )
    assert_same(actual, expected)


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("empty_memory", ["skip", "zeros"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "swiglu"])
@pytest.mark.parametrize("T", LENGTHS)
def test_equals_the_reference_with_dropout(T, activation, empty_memory, fast):
    """Under one seed the same weights and units are dropped, in every feed-forward variant."""
    config = ModelConfig(**SMALL, dropout=0.3, activation=activation, empty_memory=empty_memory)
    segments = [tokens(2, T), tokens(2, 2)]
    expected, actual = (
        outputs_and_gradients(model, segments) for model in same_models(config, "reference", fast)
    )
    assert_same(actual, expected)
    other = outputs_and_gradients(same_models(config, fast)[0], segments, seed=5)
    assert not torch.equal(other["logits 0"], actual["logits 0"])


@pytest.mark.parametrize("fast", FAST)
@given(st.data())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_equals_the_reference_in_any_configuration(fast, data):
    """
    Sizes, lengths and options drawn at random. Some of these models are ill-conditioned: a
    LayerNorm of two numbers may divide by almost nothing, and rounding errors come out a hundred
    times larger. So the bound is 1e-12, or the reference's own response to a rounding error: 100
    times its own change when all parameters change in their last bit.
    """
    draw = lambda strategy: data.draw(strategy)  # noqa: E731
    n_heads, d_model = draw(st.sampled_from([1, 2, 4])), draw(st.integers(2, 20))
    d_k = st.integers(1, 5)
    config = ModelConfig(
        vocab_size=11,
        d_model=d_model,
        n_layers=draw(st.integers(1, 4)),
        n_heads=n_heads,
        d_k=draw(d_k if d_model % n_heads else st.none() | d_k),
        d_ff=draw(st.integers(1, 9)),
        mem_len=draw(st.integers(1, 9)),
        share_kv=draw(st.booleans()),
        activation=draw(st.sampled_from(["relu", "gelu", "swiglu"])),
        dropout=draw(st.sampled_from([0.0, 0.4])),
        empty_memory=draw(st.sampled_from(["skip", "zeros"])),
        norm_memory=draw(st.booleans()),
    )
    B = draw(st.integers(1, 3))
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    segments = [tokens(B, T, seed=T) for T in lengths]
    reference, nudged, model = same_models(config, "reference", "reference", fast)
    for parameter in nudged.parameters():
        parameter.data *= 1 + torch.finfo(parameter.dtype).eps
    expected, changed, actual = (
        outputs_and_gradients(m, segments) for m in (reference, nudged, model)
    )
    assert_same(actual, expected, atol=max(1e-12, 100 * distance(changed, expected)))


@pytest.mark.parametrize("name", ALL)
def test_interleaved_forwards_do_not_disturb_each_other(name):
    """A second forward, of other shape and values, before the first backward changes nothing."""
    config = ModelConfig(**SMALL)
    (model,) = same_models(config, name)
    x = tokens(2, 9)
    parameters = list(model.parameters())
    y, _ = model(x)
    alone = torch.autograd.grad(y.square().sum(), parameters, materialize_grads=True)

    y, memory = model(x)
    z, _ = model(tokens(3, 12, seed=2))
    again, _ = model(tokens(2, 9, seed=3), memory)
    other = z.sum() + again.sum()
    torch.autograd.grad(other, parameters, materialize_grads=True, retain_graph=True)
    interleaved = torch.autograd.grad(y.square().sum(), parameters, materialize_grads=True)
    for a, b in zip(alone, interleaved, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ALL)
def test_backward_twice_gives_the_same_gradient_twice(name):
    """On a retained graph the second backward equals the first."""
    (model,) = same_models(ModelConfig(**SMALL), name)
    y, _ = model(tokens(2, 9))
    parameters = list(model.parameters())
    first, second = (
        torch.autograd.grad(y.square().sum(), parameters, materialize_grads=True, retain_graph=True)
        for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ALL)
def test_without_gradients_the_outputs_are_the_same(name):
    """`torch.no_grad` changes no number, and leaves no graph."""
    (model,) = same_models(ModelConfig(**SMALL), name)
    x = tokens(2, 20)
    with_grad, _ = model(x)
    with torch.no_grad():
        without, memory = model(x)
    assert torch.equal(with_grad, without)
    assert not without.requires_grad and not memory.m.requires_grad


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_of_the_input_is_the_reference_s(name):
    """The bare stack passes the gradient on to the embeddings below it, and to old memory."""
    config = ModelConfig(**SMALL)
    reference, model = same_models(config, "reference", name)
    grads = []
    for stack in (reference.transformer, model.transformer):
        generator = torch.Generator().manual_seed(0)
        x, more = (
            torch.randn(2, 9, 12, dtype=torch.float64, generator=generator).requires_grad_()
            for _ in range(2)
        )
        _, memory = stack(x)
        y, _ = stack(more, memory)
        grads.append(torch.autograd.grad(y.square().sum(), [x, more]))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)
    assert grads[0][0].abs().max() > 0


@pytest.mark.parametrize("name", ["append", "sequence", "auto"])
def test_bfloat16_autocast_is_as_close_as_the_reference(name):
    """Under autocast no implementation is farther from the float64 result than the reference."""
    exact, reference, model = same_models(ModelConfig(**SMALL), "reference", "reference", name)
    x = tokens(2, 12)

    def run(model, enabled):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y, _ = model(x)
        y.double().square().mean().backward()
        return [y.double().detach(), *(p.grad.double() for p in model.parameters())]

    def distance(results):
        return sum((a - b).square().sum() for a, b in zip(results, truth, strict=True)).sqrt()

    truth = run(exact, False)
    error, bound = distance(run(model.float(), True)), distance(run(reference.float(), True))
    assert 0 < error < 1.5 * bound


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("empty_memory", ["skip", "zeros"])
@pytest.mark.parametrize("T", LENGTHS)
def test_nothing_is_read_that_was_not_written(T, empty_memory, fast):
    """With every new buffer full of NaN, outputs and gradients are the same, and finite."""
    config = ModelConfig(**SMALL, dropout=0.2, empty_memory=empty_memory)
    segments = [tokens(2, T), tokens(2, 4)]
    reference, model = same_models(config, "reference", fast)
    expected = outputs_and_gradients(reference, segments)
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        actual = outputs_and_gradients(model, segments)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same(actual, expected)


@needs_the_library
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_native_loop_with_any_threads(monkeypatch, threads, groups):
    """However the threads divide the rows and the columns, the result is the reference's."""
    if threads % groups:
        groups = 1
    monkeypatch.setattr(native, "choose_groups", lambda *_: groups)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    config = ModelConfig(**{**SMALL, "d_model": 18, "d_ff": 50}, activation="gelu")
    expected, actual = (
        outputs_and_gradients(model, [tokens(7, 5), tokens(7, 2)])
        for model in same_models(config, "reference", "native")
    )
    assert_same(actual, expected)


@pytest.mark.parametrize("fast", ["sequence", NATIVE])
@pytest.mark.parametrize("share_kv", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 6, 512])
def test_stretches(monkeypatch, rows, share_kv, fast):
    """However many steps a stretch of the backward sweep has, the gradients are the reference's."""
    monkeypatch.setattr(tape, "ROWS", rows)
    config = ModelConfig(**SMALL, share_kv=share_kv, norm_memory=True, dropout=0.2)
    segments = [tokens(2, 11), tokens(2, 4)]
    expected, actual = (
        outputs_and_gradients(model, segments) for model in same_models(config, "reference", fast)
    )
    assert_same(actual, expected)


def test_auto_is_the_fastest_that_can_run():
    """Another name gives the same outputs; it is native where that can run, and never fails."""
    model, auto = same_models(ModelConfig(**SMALL), "sequence" if missing() else "native", "auto")
    assert torch.equal(model(tokens(2, 9))[0], auto(tokens(2, 9))[0])
    assert auto.bfloat16()(tokens(2, 9))[0].dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert auto.float()(tokens(2, 9))[0].isfinite().all()


@needs_the_library
def test_native_says_why_it_cannot_run():
    """Precision, mixed precision, autocast: each is a ValueError that names it."""
    model = FeedbackLM(ModelConfig(**SMALL), "native")
    x = tokens(2, 9)
    with pytest.raises(ValueError, match=r"cannot run here: .* input is torch\.bfloat16"):
        model.bfloat16()(x)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="autocast asks"):
        model.float()(x)
    model.transformer.norm.double()
    with pytest.raises(ValueError, match=r"parameters are torch\.float64; use 'auto'"):
        model(x)
