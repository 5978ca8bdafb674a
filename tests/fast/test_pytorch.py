"""The model in the hands of PyTorch: compiled, exported, transformed, differentiated twice."""

import copy
import io
import pickle

import pytest
import torch
from parity import ALL, NATIVE, SMALL, TIGHT, assert_same, outputs_and_gradients, same_models
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap

from feedback import FeedbackTransformer, Memory, ModelConfig
from feedback.fast.compiled import missing
from feedback.fast.sequence import SEQUENCE

SWEEPS = ["sequence", NATIVE]
# What PyTorch warns of in its own code, as it looks at a memory or loads what forward mode needs.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]
TINY = ModelConfig(**{**SMALL, "d_model": 4, "d_ff": 5, "n_layers": 2, "mem_len": 3})
TOKENS = torch.arange(10).view(2, 5) % 11
BEST = "feedback.sequence" if missing() else "feedback.native"


@pytest.fixture(autouse=True)
def nothing_compiled():
    """Each test compiles for itself, and counts from zero."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Graphs:
    """A backend that keeps the names of the operators in each graph, and compiles without them."""

    def __init__(self):
        self.graphs: list[set[str]] = []

    def __call__(self, graph, inputs):
        self.graphs.append({str(node.target) for node in graph.graph.nodes})
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)


class Compiled(torch.nn.Module):
    """A model that `outputs_and_gradients` can run, compiled."""

    def __init__(self, model, **options):
        super().__init__()
        self.model = model
        self.run = torch.compile(model, **options)

    def forward(self, *inputs):
        return self.run(*inputs)

    def named_parameters(self):
        return self.model.named_parameters()


@pytest.mark.parametrize("name", SWEEPS)
def test_compiled_it_trains_as_in_eager_mode(name):
    """Whole, with dropout and with memory carried: logits, memory and every gradient."""
    eager, model = same_models(ModelConfig(**SMALL, dropout=0.2), name, name)
    actual = outputs_and_gradients(
        Compiled(model, backend="aot_eager", fullgraph=True), [TOKENS, TOKENS[:, :3]]
    )
    assert_same(actual, outputs_and_gradients(eager, [TOKENS, TOKENS[:, :3]]))


def test_compiled_at_any_length():
    """The third length is compiled for all that follow; no length breaks the graph."""
    backend = Graphs()
    eager, model = same_models(TINY, "auto", "auto")
    compiled = Compiled(model, backend=backend, fullgraph=True)
    for T in (5, 6, 7, 4, 12, 9):
        tokens = torch.arange(2 * T).view(2, T) % 11
        assert_same(
            outputs_and_gradients(compiled, [tokens]), outputs_and_gradients(eager, [tokens])
        )
    assert len(backend.graphs) <= 3
    assert all(any(BEST in name for name in graph) for graph in backend.graphs)


def test_compiled_it_chooses_as_in_eager_mode():
    """A hooked layer is called, so there is no sweep in the graph, and the hook has its effect."""
    config = ModelConfig(**{**SMALL, "n_layers": 1})
    backend, tokens = Graphs(), TOKENS[:, :2]
    eager, model = same_models(config, "auto", "auto")
    for m in (eager, model):
        m.transformer.layers[0].ff.up.register_forward_hook(lambda m, args, out: out * 2)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(tokens)[0], eager(tokens)[0], **TIGHT)
    assert not any("feedback." in name for graph in backend.graphs for name in graph)


@pytest.mark.parametrize("name", ["auto", "append", *SWEEPS])
def test_exported(name):
    """The exported program gives the same logits and memory, and continues from a memory."""
    (model,) = same_models(TINY, name)
    with torch.no_grad():
        _, memory = model(TOKENS)
    expected, then = model(TOKENS, memory)
    program = torch.export.export(model, (TOKENS, memory))
    y, m = program.module()(TOKENS, memory)
    torch.testing.assert_close(y, expected, **TIGHT)
    torch.testing.assert_close(m.m, then.m, **TIGHT)
    assert isinstance(m, Memory) and m.config == TINY
    called = {str(node.target) for node in program.graph.nodes if "feedback" in str(node.target)}
    operator = BEST if name == "auto" else f"feedback.{name}"
    assert called == (set() if name == "append" else {f"{operator}.default"})


def test_an_exported_program_in_a_file():
    """Saved and loaded, it still gives the same logits, and a memory."""
    (model,) = same_models(TINY, "auto")
    file = io.BytesIO()
    torch.export.save(torch.export.export(model, (TOKENS,)), file)
    file.seek(0)
    y, memory = torch.export.load(file).module()(TOKENS)
    torch.testing.assert_close(y, model(TOKENS)[0], **TIGHT)
    assert memory.config == TINY


def per_sample(model, tokens) -> dict[str, Tensor]:
    """The gradient of each sequence's loss alone."""

    def loss(parameters, row):
        return functional_call(model, parameters, (row[None],))[0].square().mean()

    return vmap(grad(loss), (None, 0))(dict(model.named_parameters()), tokens)


@pytest.mark.parametrize("name", ["reference", "append", "auto"])
def test_transforms_of_a_function(name):
    """`vmap` of `grad`: gradients of single sequences, which are those of one after the other."""
    (model,) = same_models(TINY, name)
    results = per_sample(model, TOKENS)
    for i, row in enumerate(TOKENS):
        loss = model(row[None])[0].square().mean()
        expected = torch.autograd.grad(loss, list(model.parameters()))
        for actual, g in zip(results.values(), expected, strict=True):
            torch.testing.assert_close(actual[i], g, **TIGHT)


@pytest.mark.parametrize("name", ["reference", "append", "auto"])
def test_vmap_of_the_stack(name):
    """Over inputs and memories, which go in and come out as what they are."""
    stack = same_models(TINY, name)[0].transformer
    x, past = torch.randn(3, 2, 5, 4).double(), torch.randn(3, 2, 2, 4).double()
    y, memory = vmap(stack)(x, Memory(past, TINY))
    for i in range(3):
        expected, then = stack(x[i], Memory(past[i], TINY))
        torch.testing.assert_close(y[i], expected, **TIGHT)
        torch.testing.assert_close(memory.m[i], then.m, **TIGHT)


@pytest.mark.parametrize("name", ["reference", "append", "auto"])
def test_forward_mode(name):
    """`jvp` and dual numbers: the derivative along a direction is what backward mode says."""
    stack = same_models(TINY, name)[0].transformer
    x, direction = torch.randn(2, 2, 5, 4).double()
    _, tangent = jvp(lambda x: stack(x)[0], (x,), (direction,))
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(stack(forward_ad.make_dual(x, direction))[0]).tangent
    x.requires_grad_()
    weights = torch.randn_like(tangent)
    (g,) = torch.autograd.grad((stack(x)[0] * weights).sum(), x)
    for actual in (tangent, dual):
        torch.testing.assert_close((actual * weights).sum(), (g * direction).sum())


@pytest.mark.parametrize("name", ["reference", "append"])
@pytest.mark.parametrize("share_kv", [False, True])
def test_second_derivatives(name, share_kv):
    """`gradgradcheck`, of the input and of a weight."""
    config = ModelConfig(**{**SMALL, "d_model": 4, "d_ff": 2, "n_layers": 1, "mem_len": 2},
                         share_kv=share_kv, activation="gelu")  # fmt: skip
    stack = same_models(config, name)[0].transformer
    x = torch.randn(1, 3, 4).double().requires_grad_()
    path = "layers.0.attn.query_bias"
    u = stack.get_parameter(path).detach().requires_grad_()

    def f(x, u):
        return functional_call(stack, {path: u}, (x,))[0]

    assert torch.autograd.gradcheck(f, (x, u))
    assert torch.autograd.gradgradcheck(f, (x, u))


ASKED = {
    "vmap": lambda stack, x: vmap(lambda x: stack(x)[0])(x[None]),
    "grad": lambda stack, x: grad(lambda x: stack(x)[0].sum())(x),
    "jvp": lambda stack, x: jvp(lambda x: stack(x)[0], (x,), (x,)),
    "twice": lambda stack, x: twice(stack, x),
}


def twice(stack, x):
    """The gradient of the size of a gradient."""
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(stack(x)[0].square().sum(), x, create_graph=True)
    return torch.autograd.grad(g.square().sum(), x)[0]


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize("asked", ASKED)
def test_what_the_sweeps_refuse(name, asked):
    """In one sentence that names the implementation that can; and that one can."""
    stack = same_models(TINY, name)[0].transformer
    x = torch.randn(2, 5, 4).double()
    with pytest.raises(ValueError, match=r"(?s)^[^\n]* implementation='reference'[^\n]*$"):
        ASKED[asked](stack, x)
    stack.implementation = "reference"
    ASKED[asked](stack, x)


@pytest.mark.parametrize("name", SWEEPS)
def test_a_graph_of_the_gradient(name):
    """`create_graph` alone is allowed: only a second derivative is refused."""
    (model,) = same_models(TINY, name)
    parameters, loss = list(model.parameters()), lambda: model(TOKENS)[0].square().sum()
    for a, b in zip(
        torch.autograd.grad(loss(), parameters, create_graph=True),
        torch.autograd.grad(loss(), parameters),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["reference", "append", "sequence", "auto"])
def test_shapes_without_numbers(name):
    """On the device "meta" a model tells the shapes of outputs, memory and gradients."""
    model = same_models(TINY, name)[0].to("meta")
    logits, memory = model(TOKENS.to("meta"))
    logits.sum().backward()
    assert logits.is_meta and logits.shape == (2, 5, 11) and memory.m.shape == (2, 3, 4)
    assert all(p.grad.shape == p.shape for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ALL)
def test_copies_and_parameters_from_outside(name):
    """Copied, pickled, called with other parameters, some of them frozen: the same function."""
    model, other = same_models(TINY, name, name)
    parameters = {n: 2 * p.detach() for n, p in model.named_parameters()}
    other.load_state_dict(parameters)
    actual = functional_call(model, parameters, (TOKENS,))[0]
    torch.testing.assert_close(actual, other(TOKENS)[0], rtol=1e-12, atol=1e-12)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(again(TOKENS)[0], model(TOKENS)[0])
    learned = model.transformer.mix.weight
    (expected,) = torch.autograd.grad(model(TOKENS)[0].square().sum(), learned)
    for p in model.parameters():
        p.requires_grad_(p is learned)
    model(TOKENS)[0].square().sum().backward()
    torch.testing.assert_close(learned.grad, expected, **TIGHT)


def test_the_operators_have_names():
    """Whoever loads an exported program finds them once the package is imported."""
    assert torch.ops.feedback.sequence.default == SEQUENCE._opoverload
    assert {"x", "past", "weights"} <= {
        argument.name for argument in torch.ops.feedback.native.default._schema.arguments
    }
    assert FeedbackTransformer(TINY).implementation == "auto"
