"""Decoding: every way to take a step gives what the forward pass gives, however long it goes on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import SMALL, TIGHT, awaken, needs_the_library

from feedback import FeedbackLM, ModelConfig, TransformerLM
from feedback.fast.graphs import record
from feedback.lm.decode import StaticWindows, Window, Windows, decoder, native_steps

WAYS = {
    "windows": Windows,
    "static": lambda stack, memory, steps: StaticWindows(stack, memory),
    "native": native_steps,
}


@given(S=st.integers(0, 4), mem_len=st.integers(1, 5), steps=st.integers(1, 20))
@settings(deadline=None)
def test_window_holds_the_last_rows(S, mem_len, steps):
    """Whatever was appended, the window reads the last mem_len rows, in order."""
    rows = torch.arange(float(S + steps)).view(1, 1, -1, 1)
    S = min(S, mem_len)
    window = Window(rows[:, :, :S], mem_len, steps)
    for end in range(S, S + steps):
        window.append(rows[:, :, end])
        assert torch.equal(window.read(), rows[:, :, max(0, end + 1 - mem_len) : end + 1])


def build(architecture: str, **changes) -> FeedbackLM | TransformerLM:
    config = ModelConfig(**{**SMALL, **changes})
    return awaken({"feedback": FeedbackLM, "transformer": TransformerLM}[architecture](config))


@pytest.mark.parametrize(
    ("architecture", "way"),
    [
        *(("feedback", way) for way in ("windows", "static")),
        pytest.param("feedback", "native", marks=needs_the_library),
        *(("transformer", way) for way in ("windows", "static")),
    ],
)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"share_kv": False},
        {"share_kv": False, "norm_memory": True, "activation": "gelu"},
        {"norm_memory": True, "empty_memory": "zeros"},
        {"activation": "swiglu", "d_model": 18, "n_layers": 1},
        {"mem_len": 1},
    ],
    ids=lambda changes: ",".join(f"{k}={v}" for k, v in changes.items()) or "default",
)
@torch.no_grad()
def test_every_way_equals_the_forward_pass(changes, architecture, way):
    """Step by step past the end of the memory, four times over, from prompts short and long."""
    model = build(architecture, **changes).double().eval()
    tokens = torch.randint(11, (3, 30), generator=torch.Generator().manual_seed(0))
    whole, _ = model(tokens)
    for start in (1, 2, 12):
        _, memory = model(tokens[:, :start])
        step = WAYS[way](model.transformer, memory, 30 - start)
        for t in range(start, 30):
            logits = model.head(step(model.embedding(tokens[:, t])))
            torch.testing.assert_close(logits, whole[:, t], **TIGHT)


@needs_the_library
@torch.no_grad()
def test_the_native_steps_are_chosen_where_they_can_be():
    """Under "auto" and "native", in float32 and float64; not for others, not under autocast."""

    def chosen(model: FeedbackLM | TransformerLM) -> bool:
        _, memory = model(torch.zeros(1, 3, dtype=torch.long))
        return native_steps(model.transformer, memory, 5) is not None

    for name in ("auto", "native"):
        model = FeedbackLM(ModelConfig(**SMALL), name)
        assert chosen(model) and chosen(model.double())
    assert not chosen(FeedbackLM(ModelConfig(**SMALL)).bfloat16())
    assert not chosen(FeedbackLM(ModelConfig(**SMALL), "append"))
    assert not chosen(TransformerLM(ModelConfig(**SMALL)))
    with torch.autocast("cpu", torch.bfloat16):
        assert not chosen(FeedbackLM(ModelConfig(**SMALL)))


@torch.no_grad()
def test_two_decoders_do_not_disturb_each_other():
    """Each has its own slots: taking turns changes nothing."""
    model = build("feedback").double().eval()
    prompts = torch.tensor([[1, 2]]), torch.tensor([[3, 4]])
    memories = [model(prompt)[1] for prompt in prompts]
    token = torch.tensor([5])

    def write(steps):
        return [step(token).clone() for _ in range(9) for step in steps]

    alone = [write([decoder(model, memory, 9)]) for memory in memories]
    together = write([decoder(model, memory, 9) for memory in memories])
    for i in range(2):
        for a, b in zip(alone[i], together[i::2], strict=True):
            assert torch.equal(a, b)


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="there is no GPU here to record a step on"
)
@pytest.mark.parametrize("architecture", ["feedback", "transformer"])
@torch.no_grad()
def test_a_recorded_step_equals_the_forward_pass(architecture):
    """On a GPU: recorded once, replayed past the end of the memory."""
    model = build(architecture).double().cuda().eval()
    tokens = torch.randint(11, (3, 30), generator=torch.Generator().manual_seed(0)).cuda()
    whole, _ = model(tokens)
    _, memory = model(tokens[:, :2])
    decode = decoder(model, memory, 28)
    for t in range(2, 30):
        torch.testing.assert_close(decode(tokens[:, t]), whole[:, t], rtol=1e-10, atol=1e-10)


class RecordedAtOnce:
    """What `record` needs of CUDA, on a CPU: a graph that, replayed, runs what was recorded."""

    def __init__(self, monkeypatch):
        self.steps, now = [], self

        class Stream:
            wait_stream = staticmethod(lambda other: None)
            __enter__ = staticmethod(lambda: None)
            __exit__ = staticmethod(lambda *error: None)

        class Graph:
            replay = staticmethod(lambda: [run() for run in now.steps])

        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "current_stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", lambda graph: Stream())


@torch.no_grad()
def test_recording_leaves_the_state_as_it_was(monkeypatch):
    """The warm-up steps move the windows; after recording they are back where they were."""
    RecordedAtOnce(monkeypatch)
    model = build("feedback").double().eval()
    _, memory = model(torch.tensor([[1, 2, 3]]))
    static = StaticWindows(model.transformer, memory)
    before = [tensor.clone() for tensor in static.state()]
    calls = []

    def step(x):
        # The last call is the recording, which on a GPU computes nothing.
        calls.append(x)
        return static(x) if len(calls) <= 3 else None

    graph = record(step, [model.embedding(torch.tensor([5]))], static.state)
    assert len(calls) == 4
    for now, then in zip(static.state(), before, strict=True):
        assert torch.equal(now, then)
    new = model.embedding(torch.tensor([7]))
    graph(new)
    assert torch.equal(graph.static[0], new)
