"""How many operations a layer takes per step: several pages state it, here it is counted."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from feedback import FeedbackLM, ModelConfig
from feedback.fast.sequence import PYTORCH, backward, forward
from feedback.lm.decode import Windows

KERNELS = {"feedback::sequence": forward, "feedback::sequence_backward": backward}


class Watch(TorchDispatchMode):
    """Counts the operations that compute or copy, inside our own too; views do neither."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if (kernel := KERNELS.get(func.name())) is not None:
            with self:
                return kernel(PYTORCH, *args)
        with self:
            # An operation that is made of others is counted as these.
            if (result := func.decompose(*args, **(kwargs or {}))) is not NotImplemented:
                return result
        self.count += not any(result.alias_info is not None and not result.alias_info.is_write
                              for result in func._schema.returns)  # fmt: skip
        return func(*args, **(kwargs or {}))


def counted(T: int) -> Counter:
    """The operations of a forward and a backward pass over `T` steps, in the PyTorch sweeps."""
    model, tokens = FeedbackLM(ModelConfig(), "sequence"), torch.zeros(2, T, dtype=torch.long)
    with Watch() as forward:
        logits, _ = model(tokens)
    with Watch() as backward:
        logits.sum().backward()
    return Counter(forward=forward.count, backward=backward.count)


def test_twenty_five_forward_and_thirty_back():
    """Per layer and step, including its share of what each step does only once."""
    counted(8)  # The first call also looks the model over, once for each configuration.
    count, layer_steps = counted(24) - counted(16), 8 * ModelConfig.n_layers
    assert count["forward"] / layer_steps == pytest.approx(25, abs=3)
    assert count["backward"] / layer_steps == pytest.approx(30, abs=3)


def test_eighty_for_a_token():
    """One step of decoding, counted as a whole."""
    model = FeedbackLM(ModelConfig())
    _, memory = model(torch.zeros(1, 20, dtype=torch.long))
    step = Windows(model.transformer, memory, 10)
    with torch.no_grad(), Watch() as watch:
        step(torch.randn(1, 128))
    assert watch.count == pytest.approx(80, abs=8)
