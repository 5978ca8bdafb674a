"""A model comes back from its folder unchanged; for a damaged folder, the error says why."""

import json
import os
import socket
from pathlib import Path

import pytest
import torch
from parity import SMALL, awaken
from safetensors.torch import load_file, save_file

from feedback import FeedbackLM, ModelConfig, TransformerLM
from feedback.data.text import load_text, split
from feedback.data.tokenizer import Characters
from feedback.lm.pretrained import TRAINED, read_config, shipped
from feedback.training.evaluate import evaluate
from feedback.training.runs import Run

RUNS = Path(__file__).parents[2] / "docs" / "runs"

X = torch.arange(8)[None]


@pytest.fixture
def saved(tmp_path):
    """A folder with a model of the awake SMALL configuration."""
    torch.manual_seed(0)
    awaken(FeedbackLM(ModelConfig(**SMALL))).save_pretrained(tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.parametrize("cls", [FeedbackLM, TransformerLM])
def test_round_trip(cls, tmp_path):
    """The loaded model has the same configuration, weights and logits, to the bit."""
    model = awaken(cls(ModelConfig.fair(**SMALL))).eval()
    model.save_pretrained(tmp_path)
    loaded = cls.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded(X)[0], model(X)[0])
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def test_config_is_plain_json(saved):
    """`config.json` says which model it is, in the names of the configuration."""
    values = json.loads((saved / "config.json").read_text())
    assert values["architecture"] == "FeedbackLM"
    assert {k: values[k] for k in SMALL} == SMALL


def test_any_implementation_loads(saved):
    """Saved files do not depend on the implementation."""
    results = [
        FeedbackLM.from_pretrained(saved, implementation=name)(X)[0]
        for name in ("reference", "append", "sequence", "auto")
    ]
    loaded = FeedbackLM.from_pretrained(saved, implementation="stack")
    # What it was called before is still understood.
    assert loaded.transformer.implementation == "append"
    with pytest.raises(ValueError, match="implementation is 'magic', expected one of auto"):
        FeedbackLM.from_pretrained(saved, implementation="magic")
    for y in results[1:]:
        torch.testing.assert_close(y, results[0], rtol=1e-4, atol=1e-4)


def test_wrong_class(saved):
    """A FeedbackLM is no TransformerLM, and the error says what to use."""
    with pytest.raises(ValueError, match=r"holds a FeedbackLM.* use FeedbackLM.from_pretrained"):
        TransformerLM.from_pretrained(saved)


def test_missing_files(saved):
    """Each file that is missing is named."""
    (saved / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds no model.safetensors"):
        FeedbackLM.from_pretrained(saved)
    (saved / "config.json").unlink()
    with pytest.raises(ValueError, match=r"holds no config.json"):
        FeedbackLM.from_pretrained(saved)


def test_damaged_files(saved):
    """Truncated weights and broken JSON are errors that name the file."""
    weights = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged or truncated"):
        FeedbackLM.from_pretrained(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged: not JSON"):
        FeedbackLM.from_pretrained(saved)


def test_weights_of_another_configuration(saved):
    """The first parameter that does not fit is named, with both shapes."""
    values = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**values, "d_ff": 24}))
    with pytest.raises(ValueError, match=r"ff.up.weight of shape \(20, 12\), expected \(24, 12\)"):
        FeedbackLM.from_pretrained(saved)
    (saved / "config.json").write_text(json.dumps(values))
    weights = load_file(saved / "model.safetensors")
    weights["stranger"] = weights.pop("head.bias")
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(ValueError, match=r"lacks the parameter head.bias"):
        FeedbackLM.from_pretrained(saved)


def test_no_folder_and_no_hub(no_network, tmp_path):
    """A name that is neither here nor on the hub is an error that repeats the name."""
    with pytest.raises(
        ValueError,
        match=r"'someone/nothing' is not a folder, does not come with the package .a5, prog",
    ):
        FeedbackLM.from_pretrained("someone/nothing", cache_dir=tmp_path)


def test_a_failing_save_leaves_the_old_model(saved, monkeypatch):
    """Weights that cannot be written leave weights and configuration as they were."""
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        FeedbackLM(ModelConfig(**SMALL)).save_pretrained(saved)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_a_save_that_fails_between_the_files_loses_no_model(saved, monkeypatch):
    """A disk that is full after the weights leaves the old weights, which fit the old config."""
    before, sync, done = FeedbackLM.from_pretrained(saved)(X)[0], os.fsync, []

    def full_after_the_weights(handle):
        if done:
            raise OSError(28, "No space left on device")
        done.append(handle)
        sync(handle)

    monkeypatch.setattr("os.fsync", full_after_the_weights)
    with pytest.raises(OSError, match=r"No space left on device: .*config.json"):
        FeedbackLM(ModelConfig(**{**SMALL, "d_ff": 24})).save_pretrained(saved)
    assert torch.equal(FeedbackLM.from_pretrained(saved)(X)[0], before)


def test_push_to_hub_uploads_the_model(monkeypatch):
    """What is uploaded is a folder from which the model can be loaded, with a model card."""
    from huggingface_hub import HfApi

    model, seen = awaken(FeedbackLM(ModelConfig(**SMALL))).eval(), {}

    def create_repo(self, repo_id, **options):
        return type("Url", (), {"repo_id": repo_id})

    def upload_folder(self, *, repo_id, folder_path, **options):
        seen["repo_id"], seen["files"] = repo_id, {p.name for p in folder_path.iterdir()}
        seen["logits"] = FeedbackLM.from_pretrained(folder_path)(X)[0]
        return "url"

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    assert model.push_to_hub("someone/feedback") == "url"
    assert seen["repo_id"] == "someone/feedback"
    assert seen["files"] == {"config.json", "model.safetensors", "README.md"}
    assert torch.equal(seen["logits"], model(X)[0])


@pytest.mark.parametrize("through_the_mixin", [False, True])
def test_the_vocabulary_stays_with_the_model(monkeypatch, tmp_path, through_the_mixin):
    """`extra` is on the hub too, saved with options or pushed, and after a model was loaded."""
    from huggingface_hub import HfApi

    seen = {}

    def upload_folder(self, *, folder_path, **options):
        seen.update(read_config(folder_path))
        return "url"

    monkeypatch.setattr(HfApi, "create_repo", lambda *a, **k: type("Url", (), {"repo_id": "a/b"}))
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    extra = {"characters": "abc", "d_model": 1}
    model = FeedbackLM(ModelConfig(**SMALL))
    if through_the_mixin:
        model.save_pretrained(tmp_path, extra=extra, push_to_hub=True, repo_id="a/b")
    else:
        model.save_pretrained(tmp_path, extra=extra)
        FeedbackLM.from_pretrained(tmp_path).push_to_hub("a/b")
    # What is the model's own cannot be written over.
    expected = {**SMALL, "characters": "abc"}
    for values in (seen, read_config(tmp_path)):
        assert {key: values[key] for key in expected} == expected
    assert FeedbackLM(ModelConfig(**SMALL)).extra == {}


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to look up a host or to connect fails."""

    def refuse(*args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_the_shipped_model(no_network, tmp_path, monkeypatch):
    """
    By name, offline, from anywhere, and under 5 MB; its loss on the whole validation text is the
    one of the recorded run that made it.
    """
    monkeypatch.chdir(tmp_path)
    assert shipped() == ["a5", "programs_3", "tiny_shakespeare"]
    folder = TRAINED / "tiny_shakespeare"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 5e6
    model = FeedbackLM.from_pretrained("tiny_shakespeare")
    recorded = Run(RUNS / "shipped")
    assert read_config(folder) == read_config(recorded.folder)
    text = load_text("tiny_shakespeare")
    tokenizer = Characters.of(text)
    assert tokenizer.characters == read_config(folder)["characters"]
    validation = split(text, tokenizer).val
    assert evaluate(model, validation, 64) == pytest.approx(
        recorded.metrics()[-1]["val_loss"], abs=1e-3
    )


def test_a_folder_comes_before_the_shipped_model(saved, monkeypatch):
    """If there is a folder of that name, it is the one that is meant."""
    monkeypatch.chdir(saved.parent)
    saved.rename("tiny_shakespeare")
    assert FeedbackLM.from_pretrained("tiny_shakespeare").config.vocab_size == SMALL["vocab_size"]
