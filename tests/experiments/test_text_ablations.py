"""Ablations on a text change what they say, are trained and judged alike, and are recorded."""

import json
import random
from dataclasses import asdict

import pytest
import torch
from runs import SMALL

from feedback import ModelConfig, TrainConfig
from feedback.__main__ import main
from feedback.experiments import catalog
from feedback.experiments.studies import text_ablations
from feedback.lm.language_model import TransformerLM


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Settings of a training that takes a moment."""
    text = "".join(random.Random(1).choices("abc \n", weights=(5, 3, 2, 1, 1), k=2000))
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(text)
    return dict(data=str(path), max_steps=2, warmup_steps=0, batch_size=2, seq_len=24)


def built(what: str) -> torch.nn.Module:
    """A variant of a small model."""
    torch.manual_seed(1)
    return text_ablations.VARIANTS[what](SMALL)


def test_each_variant_changes_one_thing():
    """What is mixed, what is shared, how far and how deep; and the others are as they were."""
    L = SMALL.n_layers
    weights = {
        "all_layers": None,
        "top_only": [0] * L + [1],
        "embedding_only": [1] + [0] * L,
        "plain_mean": [1 / (L + 1)] * (L + 1),
    }
    for what, expected in weights.items():
        mix = built(what).transformer.mix.weight
        assert mix.requires_grad == (expected is None)
        if expected is not None:
            assert mix.softmax(0).tolist() == pytest.approx(expected)
    changed = {
        "kv_of_each_layer": {"share_kv": not SMALL.share_kv},
        "no_norm": {"norm_memory": not SMALL.norm_memory},
        "mem_len_1": {"mem_len": 1},
        "one_layer": {"n_layers": 1},
        "eight_layers": {"n_layers": 8},
    }
    plain = asdict(SMALL)
    for what, difference in changed.items():
        assert asdict(built(what).config) == {**plain, **difference}
    assert isinstance(built("own_past"), TransformerLM)
    for layer in built("no_positions").transformer.layers:
        assert not layer.attn.pos_key.requires_grad and layer.attn.pos_key.count_nonzero() == 0


def test_what_is_fixed_stays_fixed(tiny, monkeypatch):
    """A mix and positions that are not learnt are the same after training; the rest is not."""
    kept = {}
    real = text_ablations.evaluate

    def keep(model, tokens, seq_len):
        kept[name] = model
        return real(model, tokens, seq_len)

    monkeypatch.setattr(text_ablations, "evaluate", keep)
    for name in ("top_only", "no_positions"):
        text_ablations.run(1, [name], **tiny)
    assert kept["top_only"].transformer.mix.weight[:-1].eq(-1e4).all()
    assert kept["no_positions"].transformer.layers[0].attn.pos_bias.count_nonzero() == 0
    assert kept["no_positions"].transformer.mix.weight.unique().numel() > 1


def test_every_variant_is_trained_and_judged(tiny):
    """All differ from each other; the same seed gives the same loss, another one another."""
    rows = text_ablations.run(1, **tiny)["results"]
    assert [row["variant"] for row in rows] == list(text_ablations.VARIANTS)
    losses = [row["loss"] for row in rows]
    assert len(set(losses)) == len(losses) and all(0 < loss < 10 for loss in losses)
    (again,), (other,) = (text_ablations.run(n, ["top_only"], **tiny)["results"] for n in (1, 2))
    assert again["loss"] == losses[1] != other["loss"]


def test_the_unchanged_variant_is_the_default_run(tiny, tmp_path):
    """`all_layers` ends where `train` with the same settings ends."""
    from runs import quiet

    config = TrainConfig(**tiny, device="cpu", run=tmp_path / "run", eval_steps=2)
    quiet(ModelConfig(vocab_size=5), config)
    rows = [json.loads(line) for line in (config.run / "metrics.jsonl").read_text().splitlines()]
    (found,) = text_ablations.run(1, ["all_layers"], **tiny)["results"]
    assert found["loss"] == rows[-1]["val_loss"]


def test_slots_differ_with_a_memory_that_is_carried_on(tiny, monkeypatch):
    """All but the number of slots is unchanged; and what was read before the batch is known."""
    for what, build in text_ablations.SLOTS.items():
        n = SMALL.mem_len if what == "all_layers" else int(what.removeprefix("mem_len_"))
        assert asdict(build(SMALL).config) == {**asdict(SMALL), "mem_len": n}
    segments, real = [], text_ablations.Trainer

    def trainer(config, training):
        segments.append(training.segments)
        return real(config, training)

    monkeypatch.setattr(text_ablations, "Trainer", trainer)
    # Twelve batches of 24 characters each, so even 256 slots are filled.
    rows = text_ablations.run_slots(1, **{**tiny, "max_steps": 12})["results"]
    assert [row["variant"] for row in rows] == list(text_ablations.SLOTS)
    assert set(segments) == {"carried"} and len({row["loss"] for row in rows}) == len(rows)


def test_a_study_is_recorded_once(tmp_path, monkeypatch, capsys):
    """By the same command as contests; a seed that is there is not computed again."""
    seeds = []

    def study(seed):
        seeds.append(seed)
        return {"seed": seed, "results": [seed / 2]}

    monkeypatch.setitem(catalog.STUDIES, "text_ablations", study)
    command = ["experiment", "text_ablations", "--out", str(tmp_path)]
    for seed in ("2", "1", "2"):
        assert main([*command, "--seed", seed]) == 0
    assert seeds == [2, 1]
    record = json.loads((tmp_path / "text_ablations.json").read_text())
    assert [run["results"] for run in record["runs"]] == [[1.0], [0.5]]
    assert record["runs"][0]["command"] == "python -m feedback experiment text_ablations --seed 2"
    assert {"commit", "machine"} < record["runs"][0].keys()
    capsys.readouterr()
    assert main([*command, "--only", "lstm"]) == 2
    assert "text_ablations has no contestants" in capsys.readouterr().err
