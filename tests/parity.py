"""What the parity tests share: models with every parameter awake, and all their gradients."""

import pytest
import torch
from torch import Tensor

from feedback import FeedbackLM, Memory, ModelConfig
from feedback.fast.compiled import missing
from feedback.model import IMPLEMENTATIONS

SMALL = {"vocab_size": 11, "d_model": 12, "n_layers": 3, "n_heads": 2, "d_ff": 20, "mem_len": 7}

needs_the_library = pytest.mark.skipif(
    missing() is not None, reason=f"the C++ loop cannot be had here: {missing()}"
)
NATIVE = pytest.param("native", marks=needs_the_library)
FAST = ["append", "sequence", NATIVE]
ALL = ["reference", *FAST]
assert {"reference", "append", "sequence", "native"} == set(IMPLEMENTATIONS)

TIGHT = {"rtol": 0.0, "atol": 1e-12}


def awaken(model: torch.nn.Module, seed: int = 0, scale: float = 0.2) -> torch.nn.Module:
    """
    Moves every parameter away from its starting value. Positions, biases and mix start at zero,
    where a forgotten term would go unnoticed.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data += scale * noise.to(parameter.dtype)
    return model


def same_models(config: ModelConfig, *implementations: str) -> list[FeedbackLM]:
    """One model under each implementation, in float64, loaded from the first one's state."""
    torch.manual_seed(0)
    first, *others = (FeedbackLM(config, name).double() for name in implementations)
    awaken(first)
    for other in others:
        other.load_state_dict(first.state_dict())
    return [first, *others]


def outputs_and_gradients(
    model: FeedbackLM, segments: list[Tensor], seed: int = 0, detach: bool = False
) -> dict[str, Tensor]:
    """
    Runs the segments one after the other, memory carried, and returns all logits, the last
    memory, and the gradient of a random projection of these for each parameter.
    """
    torch.manual_seed(seed)
    memory: Memory | None = None
    results = {}
    for i, tokens in enumerate(segments):
        if memory is not None and detach:
            memory = memory.detach()
        results[f"logits {i}"], memory = model(tokens, memory)
    results["memory"] = memory.m
    generator = torch.Generator().manual_seed(seed)
    loss = sum(
        (y * torch.randn(y.shape, generator=generator, dtype=y.dtype)).sum()
        for y in results.values()
    )
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    results.update({f"gradient of {n}": g for n, g in zip(parameters, gradients, strict=True)})
    return results


def distance(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest difference, relative to the largest number of its tensor, at least 1."""
    return max(
        ((actual[name] - tensor).abs().max() / tensor.abs().max().clamp(min=1)).item()
        for name, tensor in expected.items()
    )


def assert_same(
    actual: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 1e-12
) -> None:
    """Every tensor equals its counterpart, to `atol` of the largest number in it, at least 1."""
    assert actual.keys() == expected.keys()
    for name in expected:
        scale = max(1.0, expected[name].abs().max().item())
        torch.testing.assert_close(
            actual[name] / scale,
            expected[name] / scale,
            rtol=0,
            atol=atol,
            msg=lambda m, n=name: f"{n}: {m}",
        )
