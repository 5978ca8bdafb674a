"""A checkpoint is noticed if one bit of it is wrong, and fits the model before it is used."""

import dataclasses
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import SMALL, assert_same_run, quiet, settings

from feedback.training.checkpoint import (
    BLANK,
    HASH,
    Checkpoint,
    Checkpoints,
    Progress,
    require_memory,
    restore,
    state_tensors,
)  # fmt: skip
from feedback.training.runs import Run
from feedback.training.train import train
from feedback.training.trainer import Trainer

PROGRESS = Progress(step=3, seconds=1.5, val_loss=None, val_step=0, digest="d")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of six steps with carried memory, and its folder; only copies of it are changed."""
    config = settings(tmp_path_factory.mktemp("finished"), segments="carried")
    return quiet(SMALL, config)


@pytest.fixture
def copied(finished, tmp_path):
    """The settings of a copy of this run."""
    shutil.copytree(finished.config.run, tmp_path / "run")
    return dataclasses.replace(finished.config, run=tmp_path / "run")


def newest(config) -> Checkpoint:
    return Run(config.run).load_checkpoint(pytest.fail)


def refused(checkpoint, config):
    """Puts a checkpoint in the place of all, and resumes: the message of the `ValueError`."""
    run = Run(config.run)
    run.checkpoints.clear(all=True)
    run.save_checkpoint(checkpoint)
    before = (config.run / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError) as caught:
        quiet(SMALL, config, resume=True)
    assert (config.run / "metrics.jsonl").read_bytes() == before
    return str(caught.value)


@given(
    st.integers(0, 10**12), st.none() | st.floats(-9, 9), st.floats(0, 1e9), st.text(),
    st.dictionaries(st.text(max_size=9), st.lists(st.floats(width=32), max_size=3), max_size=3),
)  # fmt: skip
def test_what_is_written_is_read(step, val_loss, seconds, digest, tensors):
    """Every number, name and text, whatever is in it."""
    progress = Progress(step, seconds, val_loss, step // 2, digest)
    tensors = {f"model.{name}": torch.tensor(values) for name, values in tensors.items()}
    found = Checkpoint.from_bytes(Checkpoint(progress, tensors).to_bytes())
    assert found.progress == progress
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].numpy().tobytes() == tensor.numpy().tobytes()


def test_every_damage_is_noticed(finished):
    """Each 64th byte flipped, in one bit or all; and the file cut off there."""
    (config, run) = finished.config, Run(finished.config.run)
    data = run.checkpoints.path(config.max_steps).read_bytes()
    assert len(data) > 40_000
    Checkpoint.from_bytes(data)
    for at in range(0, len(data), 64):
        for mask in (1, 255):
            changed = bytearray(data)
            changed[at] ^= mask
            with pytest.raises(ValueError):
                Checkpoint.from_bytes(bytes(changed))
    for at in range(0, len(data), 640):
        with pytest.raises(ValueError):
            Checkpoint.from_bytes(data[:at])
    for other in (data + b"\0", data[1:], b"hello world" * 30, bytes(500), b""):
        with pytest.raises(ValueError):
            Checkpoint.from_bytes(other)


def test_every_bit_of_the_header_counts(finished):
    """The hash, the progress and the shapes are in it."""
    data = Checkpoint(PROGRESS, {"model.a": torch.zeros(2)}).to_bytes()
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            with pytest.raises(ValueError):
                Checkpoint.from_bytes(bytes(changed))


def test_the_one_before_is_taken(copied, finished):
    """A damaged checkpoint is named, and the run goes on from the one before, to the same bits."""
    path = copied.run / "checkpoint" / "step_00000006.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    said = []
    again = train(SMALL, copied, resume=True, show=said.append)
    assert f"{path} is damaged" in said[0] and len(said) == 2
    assert_same_run(again, finished)
    assert Run(copied.run).checkpoints.steps() == [6, 4]
    for path in (copied.run / "checkpoint").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="every checkpoint is damaged"):
        quiet(SMALL, copied, resume=True)


def test_a_damaged_one_does_not_count(tmp_path):
    """After going back, two good checkpoints stay; the damaged one of a later step does not."""
    there = Checkpoints(tmp_path)
    for step in (1, 2, 9, 3):
        there.save(Checkpoint(dataclasses.replace(PROGRESS, step=step), {}))
    assert there.steps() == [3, 2]
    (tmp_path / "step_00000003.safetensors").rename(tmp_path / "step_00000007.safetensors")
    said = []
    assert there.load(said.append).progress.step == 2
    assert "step_00000007.safetensors is damaged (its name is that of another step)" in said[0]


def changes(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Ways in which a tensor can be wrong."""
    wrong = [tensor.new_zeros((*tensor.shape, 2)), tensor.new_zeros((1, *tensor.shape))]
    wrong += [tensor.double(), tensor.to(torch.int64)]
    return wrong + ([tensor[:-1], tensor.new_zeros(0)] if tensor.dim() else [])


def test_what_does_not_fit_never_reaches_the_optimizer(finished):
    """Each tensor of a checkpoint with another shape or type, or missing, or one too many."""
    good = newest(finished.config)
    model, optimizer = finished.model, finished.optimizer
    restore(model, optimizer, good, "it")
    before = {k: v.clone() for k, v in state_tensors(model, optimizer).items()}
    assert len(before) == 4 * len(list(model.parameters()))
    prefixes = ("exp_avg.", "exp_avg_sq.", "step.", "model.")
    for name, tensor in good.tensors.items():
        if not name.startswith(prefixes):
            continue
        for wrong in changes(tensor):
            with pytest.raises(ValueError, match=r"shape|type"):
                bad = dataclasses.replace(good, tensors={**good.tensors, name: wrong})
                restore(model, optimizer, bad, "it")
        without = {k: v for k, v in good.tensors.items() if k != name}
        with pytest.raises(ValueError, match=r"lacks|only a part"):
            restore(model, optimizer, dataclasses.replace(good, tensors=without), "it")
    for name in prefixes:
        more = {**good.tensors, f"{name}other": torch.zeros(())}
        with pytest.raises(ValueError, match=r"other"):
            restore(model, optimizer, dataclasses.replace(good, tensors=more), "it")
    for wrong in (-5.0, 7.0, 1.5, float("nan"), float("inf")):
        name = next(k for k in good.tensors if k.startswith("step."))
        more = {**good.tensors, name: torch.tensor(wrong)}
        with pytest.raises(ValueError, match="expected a whole number from 0 to 6"):
            restore(model, optimizer, dataclasses.replace(good, tensors=more), "it")
    after = state_tensors(model, optimizer)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[k], before[k]) for k in before)


@pytest.mark.parametrize(
    "shape", [(3, 8), (3, 9, 16), (2, 8, 16), (3, 8, 15), (3, 0, 16), (3, 2, 8, 16), (), (16,)]
)
def test_a_memory_of_another_shape(copied, shape):
    """More slots than the model has, another batch, another width: refused before training."""
    checkpoint = newest(copied)
    tensors = {**checkpoint.tensors, "memory": torch.zeros(shape)}
    message = refused(dataclasses.replace(checkpoint, tensors=tensors), copied)
    assert f"memory of shape {shape}" in message


def test_a_memory_that_is_no_numbers():
    """NaN and whole numbers are refused; fewer slots are fine."""
    for m in (torch.full((3, 8, 16), torch.nan), torch.zeros((3, 8, 16), dtype=torch.int64)):
        with pytest.raises(ValueError, match="expected finite numbers"):
            require_memory(m, (3, 8, 16), "it")
    require_memory(torch.zeros(3, 2, 16), (3, 8, 16), "it")


def test_a_part_is_missing(copied):
    """Weights of step 6 without a memory, or without anything of the optimiser, are no run."""
    checkpoint = newest(copied)
    tensors = {k: t for k, t in checkpoint.tensors.items() if k != "memory"}
    message = refused(dataclasses.replace(checkpoint, tensors=tensors), copied)
    assert "is of step 6 without a memory" in message
    tensors = {f"model.{name}": t for name, t in checkpoint.part("model").items()}
    message = refused(dataclasses.replace(checkpoint, tensors=tensors), copied)
    assert "has the optimiser's state of 0 parameters" in message


def test_a_hash_that_agrees_is_not_enough(finished):
    """Headers changed at will, with the right hash: each is refused by a `ValueError`, or fits."""
    data, results = finished.run.checkpoints.path(6).read_bytes(), set()
    for at in range(8, 8 + int.from_bytes(data[:8], "little"), 101):
        for letter in b'9"{':
            changed = data[:at] + bytes([letter]) + data[at + 1 :]
            if (place := HASH.search(changed)) is None:
                continue
            parts = changed[: place.start(1)], changed[place.end(1) :]
            digest = hashlib.sha256(BLANK.join(parts)).hexdigest().encode()
            try:
                checkpoint = Checkpoint.from_bytes(digest.join(parts))
                restore(finished.model, finished.optimizer, checkpoint, "it")
                results.add("fits")
            except ValueError as error:
                results.add(str(error))
    assert len(results) > 5


@pytest.mark.parametrize(
    "wrong", [{"step": -5}, {"step": 1.5}, {"step": True}, {"val_loss": "x"}, {"seconds": None},
              {"val_step": 4}, {"digest": 5}],
)  # fmt: skip
def test_impossible_progress(wrong):
    """Steps below zero, or what is no number, even with a hash that agrees."""
    values = {**dataclasses.asdict(PROGRESS), **wrong}
    with pytest.raises(ValueError):
        Progress(**values)
    data = Checkpoint(PROGRESS, {}).to_bytes()
    with pytest.raises(ValueError):
        Checkpoint.from_bytes(data.replace(b"digest", b"digits"))


def test_checkpoint_of_another_model(copied, tmp_path):
    """A checkpoint copied from a run with other sizes names the parameter that does not fit."""
    other = dataclasses.replace(copied, run=tmp_path / "other")
    wide = quiet(dataclasses.replace(SMALL, d_ff=24), other)
    assert wide.run.checkpoints.steps() == [6, 4]
    message = refused(newest(other), copied)
    assert "ff.up.weight of shape (24, 16), expected (16, 16)" in message


def test_a_checkpoint_of_before(copied):
    """What version 0.1.0 wrote, with its own statement, is refused by name and stays."""
    old = copied.run / "checkpoint" / "state.pt"
    trainer = Trainer(SMALL, copied)
    trainer.train_step()
    state = dict(step=1, seconds=0.1, val_loss=None, digest=trainer.corpus.digest, memory=None)
    parts = {"model": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()}
    Run(copied.run).checkpoints.clear(all=True)
    old.parent.mkdir(exist_ok=True)
    torch.save({**state, **parts}, old)
    with pytest.raises(ValueError, match=r"state\.pt is a pickle, made by version 0\.1\.0; resume"):
        quiet(SMALL, copied, resume=True)
    with pytest.raises(ValueError, match="already holds a run"):
        quiet(SMALL, copied)
    assert old.exists()
    quiet(SMALL, dataclasses.replace(copied, max_steps=1), overwrite=True)
    assert not old.exists()


@pytest.mark.parametrize("writes", range(1, 5))
def test_a_full_disk_keeps_the_last(copied, monkeypatch, writes):
    """
    Whichever write fails, of the metrics, the checkpoint, the weights or the settings: there are
    two checkpoints, whole, no half file, and once there is room again the run goes on.
    """
    config = dataclasses.replace(copied, max_steps=9)
    original, synced = os.fsync, []

    def full_after_some(handle):
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            synced.append(handle)
            if len(synced) > writes:
                raise OSError(28, "full")
        original(handle)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="full") as caught:
        patch.setattr("os.fsync", full_after_some)
        quiet(SMALL, config, resume=True)
    names = ("metrics.jsonl", "step_00000008.safetensors", "model.safetensors", "config.json")
    assert Path(caught.value.filename).name == names[writes - 1]
    there = Run(copied.run).checkpoints
    assert there.steps() == ([6, 4] if writes < 3 else [8, 6])
    for step in there.steps():
        Checkpoint.from_bytes(there.path(step).read_bytes())
    assert {path.name for path in copied.run.rglob(".*")} == {".lock"}
    assert quiet(SMALL, config, resume=True).step == 9


def test_metadata_is_json(finished):
    """Anything that reads safetensors reads a checkpoint."""
    from safetensors import safe_open

    path = Run(finished.config.run).checkpoints.path(6)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["progress"])["step"] == 6
        assert "memory" in file.keys()  # noqa: SIM118
