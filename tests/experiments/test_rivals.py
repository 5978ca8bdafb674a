"""The rivals: large enough, causal, and able to do what is said of them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from feedback import ModelConfig
from feedback.experiments.groups import WordProblem, elements, table
from feedback.experiments.rivals import RIVALS, SLSTM, DeltaProduct


@pytest.mark.parametrize("who", RIVALS)
def test_rivals(who):
    """At least our parameters; causal; only what is meant to be without feedback is."""
    config = ModelConfig(vocab_size=60, d_model=32, n_layers=2, n_heads=2, d_ff=64, mem_len=1)
    torch.manual_seed(0)
    model, ours = (RIVALS[name](config).double() for name in (who, "feedback"))
    sizes = [sum(p.numel() for p in m.parameters()) for m in (model, ours)]
    assert sizes[0] >= sizes[1]
    tokens = torch.randint(60, (2, 12))
    changed = tokens.clone()
    changed[:, 6] = (tokens[:, 6] + 1) % 60
    first, second = (model(t)[0] for t in (tokens, changed))
    assert first.shape == (2, 12, 60)
    differs = (first - second).abs().amax((0, 2)) > 1e-9
    assert not differs[:6].any() and differs[6]
    # Later steps learn of the change, through a state or by looking back.
    assert differs[7:].all()


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
def test_products_of_reflections(seq_len, chunk, n_updates, seed):
    """By chunks it is what comes of one update after the other, each a product of matrices."""
    torch.manual_seed(seed)
    config = ModelConfig(vocab_size=5, d_model=8, n_layers=1, n_heads=2, d_ff=8, mem_len=1)
    layer = DeltaProduct(config, n_updates, chunk).double()
    x = torch.randn(2, seq_len, 8, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for b in range(2):
        Z = [torch.zeros(4, 4, dtype=torch.float64) for _ in range(2)]
        for t in range(seq_len):
            q = layer.query(x[b, t]).view(2, 4)
            k, v = (f(x[b, t]).view(n_updates, 2, 4) for f in (layer.key, layer.value))
            beta = 2 * torch.sigmoid(layer.strength(x[b, t]).view(n_updates, 2))
            reads = []
            for h in range(2):
                for r in range(n_updates):
                    unit = k[r, h] / k[r, h].norm()
                    keep = torch.eye(4) - beta[r, h] * torch.outer(unit, unit)
                    Z[h] = keep @ Z[h] + beta[r, h] * torch.outer(unit, v[r, h])
                reads.append(layer.norm(Z[h].T @ q[h]))
            expected[b, t] = layer.out(torch.cat(reads))
    torch.testing.assert_close(layer(x), expected)


def test_two_reflections_are_a_rotation():
    """With values of zero: the state turns by twice the angle from one key to the next."""
    config = ModelConfig(vocab_size=5, d_model=2, n_layers=1, n_heads=1, d_ff=2, mem_len=1)
    layer = DeltaProduct(config, 2).double()
    angles = torch.tensor([0.3, 1.0], dtype=torch.float64)
    k = torch.stack([angles.cos(), angles.sin()], -1)
    before = torch.randn(2, 2, dtype=torch.float64)
    nothing, two = torch.zeros_like(k), torch.full((2, 1), 2.0, dtype=torch.float64)
    _, after = layer.read_and_update(k[:1], k, nothing, two, before)
    c, s = torch.tensor(1.4).double().cos(), torch.tensor(1.4).double().sin()
    torch.testing.assert_close(after, torch.stack([c, -s, s, c]).view(2, 2) @ before)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 99))
def test_slstm_by_its_definition(seq_len, n_heads, seed):
    """Unit by unit, with plain exponentials that nothing keeps from overflowing."""
    torch.manual_seed(seed)
    D, K = 3 * n_heads, 3
    config = ModelConfig(vocab_size=5, d_model=D, n_layers=1, n_heads=n_heads, d_ff=8, mem_len=1)
    layer = SLSTM(config).double()
    torch.nn.init.normal_(layer.recurrent)
    x = torch.randn(2, seq_len, D, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for b in range(2):
        for head in range(n_heads):
            h, c, n = (torch.zeros(K, dtype=torch.float64) for _ in range(3))
            for t in range(seq_len):
                token = layer.gates(x[b, t]).view(n_heads, 4, K)[head]
                i, f, z, o = token + (h @ layer.recurrent[head]).view(4, K)
                c = f.sigmoid() * c + i.exp() * z.tanh()
                n = f.sigmoid() * n + i.exp()
                h = o.sigmoid() * c / n
                expected[b, t, head * K : (head + 1) * K] = layer.norm(h)
    torch.testing.assert_close(layer(x), expected)


def test_slstm_does_not_overflow():
    """Gates of a thousand, either way: outputs and gradients are numbers, in float32."""
    config = ModelConfig(vocab_size=5, d_model=4, n_layers=1, n_heads=1, d_ff=8, mem_len=1)
    layer = SLSTM(config)
    gates = 1000 * torch.tensor([1.0, -1.0, 1.0, -1.0, 0.0]).view(1, 5, 1).expand(1, 5, 16)
    gates = gates.clone().requires_grad_()
    y = torch.stack(layer.steps(gates))
    y.sum().backward()
    assert y.isfinite().all() and gates.grad.isfinite().all()
    assert y.abs().max() > 0.5


def rotations() -> Tensor:
    """The elements of A5 as rotations of an icosahedron, `(60, 3, 3)`."""

    def turn(axis: list[float], angle: float) -> Tensor:
        x, y, z = torch.tensor(axis, dtype=torch.float64)
        cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
        return torch.linalg.matrix_exp(angle * cross)

    # Orders 2 and 3, and 5 for the product: $\cos 36^\circ = \sin 60^\circ \cos \theta$.
    c = math.cos(math.pi / 5) / math.sin(math.pi / 3)
    half, third = turn([0, 0, 1], math.pi), turn([math.sqrt(1 - c * c), 0, c], 2 * math.pi / 3)
    product, one = table("a5"), 0

    def order(g: int) -> int:
        power, n = g, 1
        while power != one:
            power, n = int(product[g, power]), n + 1
        return n

    a, b = next(
        (a, b)
        for a in range(60)
        for b in range(60)
        if (order(a), order(b), order(int(product[a, b]))) == (2, 3, 5)
    )
    found, new = {one: torch.eye(3, dtype=torch.float64)}, [one]
    while new:
        g = new.pop()
        for generator, matrix in ((a, half), (b, third)):
            h = int(product[generator, g])
            if h not in found:
                found[h] = matrix @ found[g]
                new.append(h)
    return torch.stack([found[g] for g in range(60)])


def test_two_reflections_a_step_can_hold_a_product_of_permutations():
    """Keys by hand: after 512 permutations the state still says which of the sixty it is."""
    turns = rotations()
    assert len(elements("a5")) == 60
    torch.testing.assert_close(turns[table("a5")], torch.einsum("gij,hjk->ghik", turns, turns))
    # A rotation is two reflections, at planes that contain its axis, half of its angle apart.
    keys = []
    for matrix in turns:
        values, vectors = torch.linalg.eig(matrix)
        axis = vectors[:, values.real.argmax()].real
        first = torch.linalg.svd(axis[None]).Vh[1]
        middle = first + matrix @ first
        if middle.norm() < 1e-6:
            middle = torch.linalg.cross(axis, first)
        keys.append(torch.stack([first, middle / middle.norm()]))
    config = ModelConfig(vocab_size=60, d_model=3, n_layers=1, n_heads=1, d_ff=4, mem_len=1)
    layer = DeltaProduct(config, 2)
    batch = WordProblem("a5").draw(8, 512, torch.Generator().manual_seed(1))
    k = torch.stack(keys)[batch.tokens].flatten(1, 2)[:, None]
    # With $v = -k$ and $Z = 0$ at first, $Z$ is the product less one.
    Z = torch.zeros(8, 1, 3, 3, dtype=torch.float64)
    answers = []
    for part in k.split(64, 2):
        reads = []
        for row in torch.eye(3, dtype=torch.float64):
            read, after = layer.read_and_update(
                row.expand(8, 1, 32, 3), part, -part, torch.full_like(part[..., :1], 2.0), Z
            )
            reads.append(read[:, 0] + row)
        Z = after
        held = torch.stack(reads, 2)
        answers.append((held[:, :, None] - turns).square().sum((-1, -2)).argmin(-1))
    # The first step is not asked for.
    assert torch.equal(torch.cat(answers, 1)[:, 1:], batch.targets[:, 1:])
