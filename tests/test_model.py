"""What the model promises, however it is computed, and its errors for wrong input."""

import dataclasses

import pytest
import torch
from parity import ALL, SMALL, TIGHT, awaken

from feedback import (
    FeedbackLM,
    FeedbackTransformer,
    Memory,
    ModelConfig,
    TrainConfig,
    TransformerLM,
)
from feedback.attention import FeedbackAttention

MODELS = [*ALL, "transformer"]


def build(name: str, **changes) -> torch.nn.Module:
    config = ModelConfig(**{**SMALL, **changes})
    model = TransformerLM(config) if name == "transformer" else FeedbackLM(config, name)
    return awaken(model.double()).eval()


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(11, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", MODELS)
def test_causality(name):
    """Changing token t changes no earlier logit, and every later one."""
    model = build(name, mem_len=20)
    x = tokens(1, 12)
    changed = x.clone()
    changed[0, 5] = (x[0, 5] + 1) % 11
    difference = (model(x)[0] - model(changed)[0]).abs().amax(-1)[0]
    assert (difference[:5] == 0).all()
    assert (difference[5:] > 1e-9).all()


def test_feedback_reaches_beyond_the_window_and_the_transformer_does_not():
    """With L layers and mem_len slots a Transformer sees L * mem_len steps back; feedback, all."""
    x = tokens(1, 40)
    changed = x.clone()
    changed[0, 0] = (x[0, 0] + 1) % 11
    for name, reaches in (("reference", True), ("transformer", False)):
        model = build(name, mem_len=3, n_layers=2)
        difference = (model(x)[0] - model(changed)[0]).abs().amax(-1)[0]
        assert bool(difference[-1] > 0) == reaches
        assert (difference[: 2 * 3 + 1] > 0).all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("empty_memory", ["skip", "zeros"])
@pytest.mark.parametrize("share_kv", [False, True])
def test_segments_equal_one_long_sequence(name, empty_memory, share_kv):
    """Carried memory continues exactly where it stopped, at any cut, past mem_len too."""
    model = build(name, empty_memory=empty_memory, share_kv=share_kv)
    x = tokens(2, 24)
    whole, memory = model(x)
    parts, carried = [], None
    for segment in x.split([1, 2, 11, 10], dim=1):
        y, carried = model(segment, carried)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, **TIGHT)
    torch.testing.assert_close(carried.m, memory.m, **TIGHT)
    assert len(carried) == 7


@pytest.mark.parametrize("name", MODELS)
def test_any_length(name):
    """T far beyond every size in the configuration works, and memory stays bounded."""
    y, memory = build(name)(tokens(2, 150))
    assert y.shape == (2, 150, 11)
    assert y.isfinite().all()
    assert len(memory) == 7


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("empty_memory", ["skip", "zeros"])
@pytest.mark.parametrize("norm_memory", [False, True])
@pytest.mark.parametrize("share_kv", [False, True])
def test_decoding_equals_the_full_forward(name, empty_memory, norm_memory, share_kv):
    """Greedy decoding takes the argmax of a full forward at each of 60 positions."""
    model = build(name, empty_memory=empty_memory, norm_memory=norm_memory, share_kv=share_kv)
    prompt = tokens(2, 3)
    out = model.generate(prompt, max_new_tokens=60, temperature=0)
    logits, _ = model(out)
    assert torch.equal(out[:, :3], prompt)
    assert torch.equal(logits[:, 2:-1].argmax(-1), out[:, 3:])


def test_greedy_over_300_tokens_with_a_memory_of_64():
    """The case of a trained-size model: 300 tokens, mem_len 64, argmax at every position."""
    config = ModelConfig(vocab_size=65, mem_len=64)
    torch.manual_seed(0)
    # Larger weights would drive a wide model out of bounds within 300 steps.
    model = awaken(FeedbackLM(config), scale=0.05).double()
    out = model.generate(torch.zeros(1, 1, dtype=torch.long), max_new_tokens=300, temperature=0)
    logits, _ = model(out)
    assert out.shape == (1, 301)
    assert logits.isfinite().all()
    assert out.unique().numel() > 5
    assert torch.equal(logits[:, :-1].argmax(-1), out[:, 1:])


def test_the_bare_stack_takes_embeddings():
    """`FeedbackTransformer` maps (B, T, D) to (B, T, D) and a memory of (B, S, D)."""
    y, memory = FeedbackTransformer(ModelConfig(**SMALL))(torch.randn(2, 9, 12))
    assert y.shape == (2, 9, 12)
    assert memory.m.shape == (2, 7, 12)


def test_memory_is_one_vector_a_step_whatever_the_depth():
    """The state is D numbers a step; that of a Transformer, L times as many."""
    x = tokens(2, 5)
    assert build("reference")(x)[1].m.shape == (2, 5, 12)
    assert build("transformer")(x)[1].m.shape == (2, 3, 5, 12)


def test_the_weights_of_the_mix_start_uniform():
    """At the start the memory vector is the mean over the L + 1 states."""
    mix = FeedbackTransformer(ModelConfig(**SMALL)).mix
    states = torch.randn(4, 2, 12)
    torch.testing.assert_close(mix(states), states.mean(0))


def test_output_matrices_start_small():
    """Matrices that write to the residual stream are divided by sqrt(2 L)."""
    torch.manual_seed(0)
    one, eight = (FeedbackTransformer(ModelConfig(n_layers=n)) for n in (1, 8))
    for matrix in ("attn.output.weight", "ff.down.weight"):
        ratio = (
            one.layers[0].get_parameter(matrix).std() / eight.layers[0].get_parameter(matrix).std()
        )
        assert abs(ratio - 8**0.5) < 0.1
    assert abs(one.layers[0].ff.up.weight.std() / eight.layers[0].ff.up.weight.std() - 1) < 0.05


def test_default_preset_has_less_than_a_million_parameters():
    """d128, 4 layers, 4 heads, windows of 64, in which every slot of the memory is trained."""
    config = ModelConfig()
    assert (config.d_model, config.n_layers, config.n_heads) == (128, 4, 4)
    assert TrainConfig().seq_len == 64 > config.mem_len >= 48
    assert sum(p.numel() for p in FeedbackLM(config).parameters()) < 1_000_000


def test_the_baseline_has_the_same_parameters():
    """TransformerLM has the names and shapes of FeedbackLM without sharing, except the mix."""
    config = ModelConfig(**SMALL, share_kv=False)
    ours = {n: p.shape for n, p in FeedbackLM(config).named_parameters()}
    assert ours.pop("transformer.mix.weight") == (4,)
    assert {n: p.shape for n, p in TransformerLM(config).named_parameters()} == ours


def test_a_bias_on_the_keys_cancels_and_u_does_not():
    """Why the keys have no bias: the softmax does not see it. It does see $u$."""
    torch.manual_seed(0)
    attention = FeedbackAttention(ModelConfig(**SMALL)).double()
    H, K = attention.n_heads, attention.d_k
    z, bias = torch.randn(2, SMALL["d_model"]).double(), torch.randn(H, 1, K).double()
    k, v = torch.randn(2, 2, H, 5, K).double()
    plain = attention(z, k, v)
    torch.testing.assert_close(attention(z, k + bias, v), plain, rtol=0, atol=1e-12)
    attention.query_bias.data.copy_(bias.squeeze(1))
    assert (attention(z, k, v) - plain).abs().max() > 1e-3


def test_fair_sets_both_choices():
    """The preset is the authors' empty memory and the authors' norm."""
    fair = ModelConfig.fair(d_model=64)
    assert (fair.empty_memory, fair.norm_memory, fair.d_model) == ("zeros", True, 64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"d_model": 30}, "d_model is 30, expected a multiple"),
        ({"n_layers": 0}, "n_layers is 0, expected a whole number of at least 1"),
        ({"mem_len": -1}, "mem_len is -1"),
        ({"d_model": 12.0}, "d_model is 12.0"),
        ({"d_k": 0}, "d_k is 0"),
        ({"activation": "tanh"}, "activation is 'tanh', expected one of relu, gelu, swiglu"),
        ({"empty_memory": "ones"}, "empty_memory is 'ones'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": "0.1"}, "dropout is '0.1', expected a finite number"),
        ({"dropout": float("nan")}, "dropout is nan, expected a finite number"),
        ({"dropout": 10**400}, "dropout is 10.*, expected a finite number"),
        ({"norm_memory": 1}, "norm_memory is 1, expected true or false"),
        ({"activation": ["relu"]}, r"activation is \['relu'\], expected one of relu"),
        ({"d_k": "8"}, "d_k is '8', expected a whole number"),
    ],
)
def test_wrong_configurations(changes, words):
    """Each is a ValueError that names the value and what was expected."""
    with pytest.raises(ValueError, match=words):
        ModelConfig(**changes)


def test_configurations_cannot_change():
    """Frozen: what was checked stays checked."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().d_model = 3


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (torch.tensor([[1, 11]]), "token id 11, expected one from 0 to vocab_size - 1 = 10"),
        (torch.tensor([[-1, 3]]), "token id -1"),
        (torch.tensor([1, 3]), r"input of shape \(2,\), expected \(B, T\)"),
        (torch.empty(2, 0, dtype=torch.long), r"input of shape \(2, 0\)"),
        (torch.tensor([[0.5]]), "tokens have the type torch.float32"),
    ],
)
def test_wrong_tokens(name, bad, words):
    """Each is a ValueError that names the value and what was expected."""
    with pytest.raises(ValueError, match=words):
        build(name)(bad)


def test_wrong_memory():
    """A memory of another batch or another model is refused, and says how it differs."""
    model = build("append")
    _, memory = model(tokens(2, 4))
    with pytest.raises(ValueError, match="holds a batch of 2, but the input is a batch of 3"):
        model(tokens(3, 4), memory)
    with pytest.raises(ValueError, match="d_ff = 20, but this model has 24"):
        build("append", d_ff=24)(tokens(2, 4), memory)
    long = torch.zeros(2, 9, SMALL["d_model"])
    for name in ("reference", "append", "sequence", "auto", "transformer"):
        m = long.unsqueeze(1).expand(-1, SMALL["n_layers"], -1, -1) if "trans" in name else long
        with pytest.raises(ValueError, match="has 9 slots, more than mem_len = 7; keep the last 7"):
            build(name)(tokens(2, 4), Memory(m, memory.config))
    with pytest.raises(ValueError, match="another kind of model"):
        build("transformer")(tokens(2, 4), memory)
    with pytest.raises(ValueError, match="another kind of model"):
        model(tokens(2, 4), Memory(memory.m[..., :5], memory.config))
    _, layered = build("transformer")(tokens(2, 4))
    with pytest.raises(ValueError, match="another kind of model"):
        model(tokens(2, 4), layered)


def test_an_unknown_implementation():
    """The error lists those there are."""
    with pytest.raises(ValueError, match="'fast', expected one of auto, reference, append,"):
        FeedbackLM(ModelConfig(), implementation="fast")
