"""What the sweeps refuse, by name, and what "auto" then does: it calls the modules."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import (
    NATIVE,
    SMALL,
    TIGHT,
    assert_same,
    needs_the_library,
    outputs_and_gradients,
    same_models,
)
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

from feedback import FeedbackLM, FeedbackTransformer, Memory, ModelConfig
from feedback.fast import compiled
from feedback.fast.border import check_call, objection, parts
from feedback.fast.native import obstacle
from feedback.fast.tape import Sizes
from feedback.fast.weights import Weights
from feedback.lm.decode import decoder, native_steps
from feedback.model import IMPLEMENTATIONS

CONFIG = ModelConfig(**SMALL)
SWEEPS = ["sequence", NATIVE]
X = torch.arange(18).view(2, 9) % 11


class Wrapped(nn.Module):
    """A matrix with a small trainable matrix beside it, as for fine-tuning."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base = base
        self.extra = nn.Linear(base.in_features, base.out_features, bias=False).double()
        self.extra.weight.data.fill_(0.1)

    def forward(self, x):
        return self.base(x) + self.extra(x)


def wrap(stack):
    stack.layers[1].ff.up = Wrapped(stack.layers[1].ff.up)


def own_forward(stack):
    up = stack.layers[0].ff.up
    up.forward = lambda x: nn.functional.linear(x, up.weight, up.bias) * 2


def narrow(stack):
    """Inner units removed from one layer, as in structured pruning."""
    up, down = stack.layers[2].ff.up, stack.layers[2].ff.down
    up.weight, up.bias = nn.Parameter(up.weight.data[:9]), nn.Parameter(up.bias.data[:9])
    down.weight = nn.Parameter(down.weight.data[:, :9].clone())


def other_norm(stack):
    norm = nn.LayerNorm(12, eps=0.1).double()
    norm.load_state_dict(stack.layers[0].norm_ff.state_dict())
    stack.layers[0].norm_ff = norm


def without_bias(stack):
    stack.layers[0].ff.down.bias = None


def hook(kind):
    """Registers a hook that changes what passes through."""

    def change(stack):
        module = stack.layers[0].ff.up
        if kind == "forward_pre_hook":
            module.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
        elif kind == "forward_hook":
            module.register_forward_hook(lambda m, args, out: out * 2)
        elif kind == "full_backward_pre_hook":
            module.register_full_backward_pre_hook(lambda m, grad: (grad[0] * 2,))
        else:
            module.register_full_backward_hook(lambda m, into, out: (into[0] * 2,))

    return change


def pruned(stack):
    prune.l1_unstructured(stack.layers[0].attn.query, "weight", amount=0.5)


def old_weight_norm(stack):
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(stack.layers[0].ff.up)


def old_spectral_norm(stack):
    torch.manual_seed(3)
    nn.utils.spectral_norm(stack.kv.key)


ATTACKS = {
    "pre-hook": (hook("forward_pre_hook"), r"layers\.0\.ff\.up has a forward pre-hook"),
    "hook": (hook("forward_hook"), r"layers\.0\.ff\.up has a forward hook"),
    "back": (hook("full_backward_hook"), r"layers\.0\.ff\.up has a backward hook"),
    "pre-back": (hook("full_backward_pre_hook"), r"layers\.0\.ff\.up has a backward pre-hook"),
    "wrapped": (wrap, r"layers\.1\.ff\.up is a Wrapped, expected a Linear"),
    "forward": (own_forward, r"layers\.0\.ff\.up has a forward of its own"),
    "narrow": (narrow, r"layers\.2\.ff\.up\.weight has the shape \(9, 12\), expected \(20, 12\)"),
    "eps": (other_norm, r"layers\.0\.norm_ff has eps = 0\.1, expected 1e-05"),
    "no bias": (without_bias, r"layers\.0\.ff\.down\.bias is missing"),
    "prune": (pruned, r"layers\.0\.attn\.query has a forward pre-hook"),
    "weight_norm": (old_weight_norm, r"layers\.0\.ff\.up has a forward pre-hook"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_changed_modules_are_called(attack):
    """ "auto" gives outputs and gradients of the reference, of the changed model's parameters."""
    change, _ = ATTACKS[attack]
    models = same_models(CONFIG, "reference", "auto")
    before = models[0](X)[0]
    for model in models:
        change(model.transformer)
    expected, actual = (outputs_and_gradients(m, [X, X[:, :3]]) for m in models)
    assert_same(actual, expected)
    if "back" not in attack:
        assert (expected["logits 0"] - before).abs().max() > 1e-4 or attack == "weight_norm"
    for step in range(2):
        loss = models[1](X)[0].square().mean()
        loss.backward()
        assert loss.isfinite(), step


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_changed_modules_are_refused(attack, name):
    """By a sentence that says what was found, and names the implementation that can."""
    change, words = ATTACKS[attack]
    (model,) = same_models(CONFIG, name)
    change(model.transformer)
    sentence = rf"'{name}' cannot run here: {words}.*implementation='append'"
    with pytest.raises(ValueError, match=sentence):
        model(X)


def test_old_spectral_norm():
    """It changes its own state at each call, so it is called as often as "append" calls it."""
    models = same_models(CONFIG, "append", "auto")
    for model in models:
        old_spectral_norm(model.transformer)
    expected, actual = (outputs_and_gradients(m, [X]) for m in models)
    assert_same(actual, expected)
    assert "kv.key has a forward pre-hook" in objection(model.transformer, model.embedding(X))


def test_hooks_fire_once_a_step():
    """Nine steps and three layers: forward 27 times, and backward as often; no less in a hurry."""
    (model,) = same_models(CONFIG, "auto")
    forward, backward = [], []
    for layer in model.transformer.layers:
        layer.ff.register_forward_hook(lambda m, args, out: forward.append(m))
        layer.ff.register_full_backward_hook(lambda m, into, out: backward.append(m))
    model(X)[0].square().sum().backward()
    assert (len(forward), len(backward)) == (27, 27)
    forward.clear()
    model.generate(X, max_new_tokens=5)
    # The last token is chosen and not read.
    assert len(forward) == 27 + 4 * 3


def test_hooks_of_all_modules():
    """`register_module_forward_hook` is noticed, and fires."""
    (model,) = same_models(CONFIG, "auto")
    seen = []
    with nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(type(m))):
        assert "all modules have a forward hook" in objection(model.transformer, model.embedding(X))
        model(X)
    assert seen.count(nn.Linear) >= 9 * 3 * 4
    assert objection(model.transformer, model.embedding(X)) is None


@pytest.mark.parametrize("name", SWEEPS)
def test_what_stays_fast(name):
    """Hooks outside the sweeps, parametrised weights, frozen and shared ones: still a sweep."""

    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    models = same_models(CONFIG, "reference", name)
    for model in models:
        stack = model.transformer
        stack.register_forward_hook(lambda m, args, out: (out[0] * 3, out[1]))
        stack.norm.register_forward_hook(lambda m, args, out: out + 1)
        for layer in stack.layers:
            parametrizations.weight_norm(layer.ff.up)
            parametrize.register_parametrization(layer.attn.output, "weight", Doubled())
        parametrize.register_parametrization(stack.kv.key, "weight", Doubled())
        stack.layers[2] = stack.layers[0]
        assert objection(stack, model.embedding(X)) is None
    expected, actual = (outputs_and_gradients(m, [X, X[:, :3]]) for m in models)
    assert_same(actual, expected)


@pytest.mark.parametrize("name", ["append", *SWEEPS])
def test_checkpointing(name):
    """Recomputed in the backward pass, the gradients are the same."""
    model, again = same_models(ModelConfig(**SMALL, dropout=0.2), "reference", name)
    for m, run in ((model, lambda x: model(x)[0]), (again, lambda x: checked(again, x))):
        torch.manual_seed(1)
        run(X).square().mean().backward()
        assert all(p.grad is not None for p in m.parameters())
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, **TIGHT)


def checked(model, x):
    """The logits under PyTorch's checkpointing."""
    return checkpoint(lambda x: model(x)[0], x, use_reentrant=False)


@pytest.mark.parametrize("name", SWEEPS)
def test_saved_tensors_that_have_changed(name):
    """A weight replaced before the backward pass, or a hook that halves precision: refused."""
    (model,) = same_models(CONFIG, name)
    y = model(X)[0]
    down = model.transformer.layers[0].ff.down.weight
    down.data = down.data[:, :3].clone()
    with pytest.raises(ValueError, match="saved for the backward pass has another shape"):
        y.sum().backward()
    stack = same_models(CONFIG, name)[0].transformer
    x, past = torch.randn(9, 2, 12).double(), torch.randn(3, 2, 12).double()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.half(), lambda t: t):
        y, _ = IMPLEMENTATIONS[name](stack, x, past, None)
    with pytest.raises(ValueError, match="saved for the backward pass has another shape or type"):
        y.sum().backward()
    with torch.autograd.graph.save_on_cpu():
        y = same_models(CONFIG, name)[0](X)[0]
    y.sum().backward()


@pytest.mark.parametrize("name", ["reference", "append", "auto", *SWEEPS])
@pytest.mark.parametrize("training", [True, False])
def test_memories_of_wrong_shapes(name, training):
    """Too many slots, another batch, width, rank or type: on every path a ValueError."""
    model = FeedbackTransformer(CONFIG, name).train(training)
    x = torch.randn(2, 5, 12)
    wrong = [(2, 9, 12), (3, 4, 12), (2, 4, 13), (2, 4, 11), (2, 4), (12,), (), (2, 3, 4, 12)]
    for m in [*(torch.randn(shape) for shape in wrong), torch.randn(2, 4, 12).double()]:
        with pytest.raises(ValueError, match="memory"):
            model(x, Memory(m, CONFIG))
    for bad in (torch.randn(2, 5, 11), torch.randn(2, 5, 13), torch.ones(2, 5, 12).long()):
        with pytest.raises(ValueError, match="of the input is"):
            model(bad)


@needs_the_library
@torch.no_grad()
def test_decoding_checks_its_memory():
    """A memory with too many slots, or a batch that changes on the way: ValueError."""
    model = FeedbackLM(CONFIG).eval()
    with pytest.raises(ValueError, match="memory of 9 slots, more than the 7"):
        decoder(model, Memory(torch.randn(2, 9, 12), CONFIG), 3)
    step = native_steps(model.transformer, Memory(torch.randn(2, 3, 12), CONFIG), 3)
    for shape in ((1, 12), (2, 11), (3, 12)):
        with pytest.raises(ValueError, match="the shape of the input is"):
            step(torch.randn(shape))
    model.transformer.layers[0].ff.up.register_forward_hook(lambda *_: None)
    assert native_steps(model.transformer, Memory(torch.randn(2, 3, 12), CONFIG), 3) is None


class Foreign(torch.Tensor):
    """Some other kind of tensor."""


def foreign(p):
    return nn.Parameter(p.detach().as_subclass(Foreign))


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (foreign, "is a .*, expected a plain tensor"),
        (lambda p: nn.Parameter(p.detach().double()), "is torch.float64, but the input is"),
        (lambda p: nn.Parameter(p.detach().to("meta")), "is on meta, but the input is on cpu"),
        (lambda p: nn.Parameter(p.detach().to_sparse()), "has the layout torch.sparse_coo"),
        (
            lambda p: nn.Parameter(
                torch.quantize_per_tensor(p.detach(), 0.1, 0, torch.qint8), requires_grad=False
            ),
            "is torch.qint8, but the input is torch.float32|parameters are torch.qint8",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_odd_parameters(name, odd, words):
    """Subclasses, and numbers of another type, device or layout, are refused by name."""
    stack = FeedbackTransformer(CONFIG, name)
    stack.layers[1].ff.up.weight = odd(stack.layers[1].ff.up.weight)
    with pytest.raises(ValueError, match=f"'{name}' cannot run here: .*({words}|parameters are)"):
        stack(torch.randn(2, 5, 12))


NAMES = [name for name, _ in FeedbackTransformer(CONFIG).named_parameters() if name[:5] != "norm."]


@pytest.mark.parametrize("name", SWEEPS)
@given(st.data())
@settings(max_examples=40)
def test_wrong_sizes(name, data):
    """Any parameter of any other shape: always a ValueError that names it, never a crash."""
    stack = FeedbackTransformer(CONFIG, name)
    path = data.draw(st.sampled_from(NAMES))
    owner, _, key = path.rpartition(".")
    old = stack.get_parameter(path).shape
    shape = data.draw(st.tuples(*(st.integers(0, 2 * n) for n in old)) | st.just((3,) * 4))
    setattr(stack.get_submodule(owner), key, nn.Parameter(torch.randn(shape)))
    if shape == tuple(old):
        return
    with pytest.raises(ValueError, match=f"{path} has the shape".replace(".", r"\.")):
        stack(torch.randn(2, 3, 12))


@given(st.data())
@settings(max_examples=60)
def test_wrong_tensors_of_a_call(data):
    """The last check, alone: any tensor that a sweep is given, of any other shape."""
    n = Sizes.of(CONFIG, 3, 2, 4, None)
    weights = Weights.of(FeedbackTransformer(CONFIG), n.W)
    x, past = torch.randn(3, 2, 12), [torch.randn(1, 2, 2, 6, 4)] * 2
    check_call(n, x, past, None, weights, mixed=False)
    name = data.draw(st.sampled_from(Weights._fields))
    field = getattr(weights, name)
    listed = isinstance(field, tuple)
    shape = (field[0] if listed else field).shape
    wrong = data.draw(st.tuples(*(st.integers(0, 2 * size) for size in shape)))
    if wrong == tuple(shape):
        return
    new = (*field[1:], torch.randn(wrong)) if listed else torch.randn(wrong)
    with pytest.raises(ValueError, match=f"the weight {name} has the shape"):
        check_call(n, x, past, None, weights._replace(**{name: new}), mixed=False)


def test_another_number_of_layers():
    """Layers taken away or added, and a configuration that was exchanged."""
    stack, x = FeedbackTransformer(CONFIG, "sequence"), torch.randn(2, 3, 12)
    stack.layers = stack.layers[:2]
    with pytest.raises(ValueError, match="layers has 2 modules, expected 3"):
        stack(x)
    stack = FeedbackTransformer(CONFIG, "sequence")
    stack.config = ModelConfig(**{**SMALL, "d_ff": 30})
    with pytest.raises(ValueError, match=r"layers\.0\.ff\.up has out_features = 20, expected 30"):
        stack(x)


def test_every_part_is_compared():
    """The description has every module and parameter that the sweeps stand for."""
    described = {f"{p.path}.{name}" for p in parts(CONFIG) for name, s in p.shapes.items() if s}
    assert described == set(NAMES)


def test_no_home_directory(monkeypatch):
    """No exception: "auto" runs without the C++ loop, and says why; `$FEEDBACK_CACHE` helps."""
    pwd = pytest.importorskip("pwd")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("FEEDBACK_CACHE", raising=False)
    compiled.look_up.cache_clear()
    model = FeedbackLM(CONFIG)
    assert "there is no home directory for the cache; name a folder in $FEEDBACK" in obstacle(
        model.transformer, model.embedding(X)
    )
    model(X)[0].sum().backward()
    with pytest.raises(OSError, match="no home directory"):
        compiled.cache_folder()
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "~/.cache/x")
    with pytest.raises(OSError, match="no home directory"):
        compiled.cache_folder()
    monkeypatch.setenv("FEEDBACK_CACHE", "/somewhere/else")
    assert str(compiled.cache_folder()) == "/somewhere/else"
    compiled.look_up.cache_clear()
