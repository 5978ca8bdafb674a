"""The released recipe: the corpus in blocks, the steps, and a run that was interrupted."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from feedback import FeedbackLM, ModelConfig, TransformerLM
from feedback.data.text import IGNORE
from feedback.experiments.catalog import find
from feedback.experiments.experiment import run_experiment
from feedback.experiments.programs import Programs
from feedback.experiments.released import Corpus, Recipe, follow
from feedback.training.checkpoint import Checkpoints
from feedback.training.evaluate import loss_of

TASK = Programs(3, statements=20)
# A row has 7 blocks, so 20 steps read the corpus nearly three times.
SMALL = Recipe(
    tokens=20 * 4 * 16, rows=4, seq_len=16, programs=6, learning_rate=3e-3, warmup_steps=3
)


def model(n_layers: int = 1, **changes) -> FeedbackLM:
    """A small model, always the same."""
    torch.manual_seed(1)
    sizes = {"d_model": 16, "n_heads": 2, "d_ff": 16, "mem_len": 20, **changes}
    return FeedbackLM(ModelConfig.fair(vocab_size=24, n_layers=n_layers, **sizes))


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all parameters."""
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def test_rows_are_pieces_of_the_corpus():
    """Side by side, the blocks are the corpus that the seed draws; it begins again at its end."""
    corpus = Corpus(TASK, SMALL, seed=7)
    tokens, labels = TASK.corpus(SMALL.programs, torch.Generator().manual_seed(7))
    n = len(tokens) // 4
    assert corpus.blocks == n // 16 == 7 and n % 16 > 0
    batches = [corpus.block(step) for step in range(2 * corpus.blocks)]
    for part, whole in ((0, tokens), (1, labels)):
        read = torch.cat([batch[part] for batch in batches], dim=1)
        for r in range(4):
            row = whole[r * n : r * n + 7 * 16]
            assert read[r].equal(torch.cat([row, row]))
    assert [batch.new for batch in batches] == 2 * ([True] + 6 * [False])


@pytest.mark.parametrize("build", [lambda m: m, lambda m: TransformerLM(m.config)])
def test_the_steps_are_those_of_a_plain_loop(build):
    """The recipe written out once more: Adam, warm-up, clipping, the memory carried."""
    ours, plain = (build(model().double()).double() for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    curve = follow(ours, TASK, SMALL, seed=7)
    tokens, labels = TASK.corpus(SMALL.programs, torch.Generator().manual_seed(7))
    n = len(tokens) // 4
    tokens, labels = (x[: 4 * n].view(4, n)[:, : 7 * 16] for x in (tokens, labels))
    adam = torch.optim.Adam(plain.parameters(), betas=(0.9, 0.999), eps=1e-8)
    losses = []
    for step in range(20):
        for group in adam.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 3)
        at = 16 * (step % 7)
        memory = None if at == 0 else memory.detach()  # noqa: F821
        logits, memory = plain(tokens[:, at : at + 16], memory)
        loss = loss_of(logits, labels[:, at : at + 16])
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        adam.step()
        losses.append(loss.item())
    for name, p in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), p, rtol=1e-9, atol=1e-11)
    assert [row["loss"] for row in curve] == pytest.approx(losses, rel=1e-9)
    assert [row["step"] for row in curve] == list(range(1, 21))
    assert curve[-1]["tokens"] == SMALL.tokens and curve[-1]["seq_len"] == 16


class Cut(Exception):
    """What interrupts a run."""


@pytest.mark.parametrize("after", [1, 11])
def test_an_interrupted_run_ends_like_another(tmp_path, after):
    """With dropout, in the middle of the corpus: the same weights and the same curve."""
    whole, broken, again = (model(dropout=0.3) for _ in range(3))
    expected = follow(whole, TASK, SMALL, seed=7)

    def cut(row):
        if row["step"] == after + 1:
            raise Cut

    with pytest.raises(Cut):
        follow(broken, TASK, SMALL, seed=7, show=cut, folder=tmp_path / "kept")
    assert Checkpoints(tmp_path / "kept").steps()[0] == after
    shown = []
    curve = follow(again, TASK, SMALL, 7, show=shown.append, folder=tmp_path / "kept")
    assert [row["step"] for row in shown] == list(range(after + 1, 21))
    for row, other in zip(curve, expected, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    assert all(w.equal(weights(whole)[name]) for name, w in weights(again).items())
    assert sum(p.count_nonzero() for p in weights(again).values()) > 0
    assert not (tmp_path / "kept").exists(), "what is not needed any more is removed"


def test_the_command_goes_on_where_it_was(tmp_path):
    """Of a contest that was interrupted the record and the weights are those of another."""
    sizes = {"d_model": 16, "n_heads": 2, "d_ff": 16, "n_layers": 1}
    contest = find("programs_3_released")
    changes = {"course": SMALL, "task": TASK, "lengths": (128,)}
    contest = replace(contest, model={**contest.model, **sizes}, **changes)

    def cut(line):
        if line.startswith("twice_as_deep") and " 50% " in line:
            raise Cut

    with pytest.raises(Cut):
        run_experiment("programs_3_released", contest, 1, tmp_path, "a command", cut)
    folder = tmp_path / "programs_3_released"
    assert {path.name for path in folder.iterdir()} == {"feedback_1", "twice_as_deep_1_unfinished"}
    lines = []
    run_experiment("programs_3_released", contest, 1, tmp_path, "a command", lines.append)
    assert len(lines) == 1 + 11, "one is in the record already, the other has half of the way to go"
    assert {path.name for path in folder.iterdir()} == {"feedback_1", "twice_as_deep_1"}


def test_another_run_is_not_continued(tmp_path):
    """Another seed, or another rate: nothing is overwritten, and the message says what to do."""

    def cut(row):
        if row["step"] == 2:
            raise Cut

    with pytest.raises(Cut):
        follow(model(), TASK, SMALL, seed=7, show=cut, folder=tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    for recipe, seed in ((SMALL, 8), (replace(SMALL, learning_rate=1e-3), 7)):
        with pytest.raises(
            ValueError, match="with other settings or of another version; move it away"
        ):
            follow(model(), TASK, recipe, seed, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == kept and kept


def test_the_settings_are_the_released_ones():
    """Sizes, budget and rivals as published; three million parameters, 1.64 billion tokens."""
    for n in (3, 5):
        contest = find(f"programs_{n}_released")
        assert (contest.task.n_variables, contest.task.statements, contest.task.dense) == (
            n, 100, False,
        )  # fmt: skip
        config = contest.config()
        assert (config.n_layers, config.d_model, config.d_ff, config.n_heads) == (4, 256, 1024, 4)
        assert (config.mem_len, config.dropout, config.d_k) == (100, 0.2, None)
        assert not config.share_kv and config.empty_memory == "zeros"
        recipe = contest.course
        assert recipe == Recipe() and recipe.steps == 50_000
        assert round(recipe.tokens / 1e9, 2) == 1.64 and recipe.programs == 10_000
        sizes = {
            who: sum(p.numel() for p in contestant.build(config).parameters())
            for who, contestant in contest.contestants.items()
        }
        assert 3.1e6 < sizes["feedback"] < 3.3e6 and sizes["twice_as_deep"] > 6e6
        assert contest.contestants["twice_as_deep"].build(config).config.n_layers == 8


def test_a_block_of_the_whole_corpus_has_answers():
    """Each step has prints to learn from: 512 rows of 64 words have some two thousand."""
    corpus = Corpus(Programs(3), replace(Recipe(), programs=2000, rows=128), seed=1)
    for step in range(3):
        asked = (corpus.block(step).targets != IGNORE).sum().item()
        assert 300 < asked < 700


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": 0}, "rows is 0, expected a whole number of at least 1"),
        ({"rows": 40}, "rows is 40, expected at most 3., as many as blocks of 16 words"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast', expected a finite number"),
    ],
)
def test_settings_that_make_no_sense(change, words):
    """The value is named, and what was expected."""
    with pytest.raises(ValueError, match=words):
        Corpus(TASK, replace(SMALL, **change), seed=7)
