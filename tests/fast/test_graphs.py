"""On a GPU: a recorded step is the step, and the sequence function is the reference."""

from functools import partial

import pytest
import torch
from parity import SMALL, same_models

from feedback import FeedbackLM, ModelConfig, TrainConfig
from feedback.fast.graphs import GraphedStep, training_state
from feedback.training.evaluate import loss_of
from feedback.training.schedule import make_optimizer

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="there is no GPU here; graphs are a matter of CUDA"
)


def steps(graphed: bool, count: int = 5) -> list[torch.Tensor]:
    """Losses of some training steps, then all parameters."""
    torch.manual_seed(0)
    device = torch.device("cuda")
    model = FeedbackLM(ModelConfig(**SMALL)).to(device)
    optimizer = make_optimizer(model, TrainConfig(), device)

    def update(tokens, targets, past):
        logits, memory = model(tokens)
        loss = loss_of(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach(), loss.detach(), memory.m.detach()

    state = partial(training_state, model, optimizer)
    step = GraphedStep(update, state) if graphed else update
    losses = []
    for i in range(count):
        tokens = torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(i)).to(device)
        losses.append(step(tokens, tokens, None)[0].clone())
    return [*losses, *(p.detach() for p in model.parameters())]


def test_a_replayed_step_is_the_step():
    """Recorded and replayed, losses and parameters are those of plain training."""
    for a, b in zip(steps(True), steps(False), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share_kv", [False, True])
@pytest.mark.parametrize("T", [1, 2, 3, 33])
def test_sequence_on_the_gpu_equals_the_reference(T, share_kv):
    """In float64, outputs and gradients, with the sweeps in PyTorch."""
    results = []
    for model in same_models(ModelConfig(**SMALL, share_kv=share_kv), "reference", "sequence"):
        model.cuda()
        tokens = torch.arange(2 * T, device="cuda").view(2, T) % 11
        logits, _ = model(tokens)
        grads = torch.autograd.grad(
            logits.square().sum(), list(model.parameters()), materialize_grads=True
        )
        results.append([logits, *grads])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
