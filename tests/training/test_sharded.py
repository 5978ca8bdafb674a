"""
A divided model learns what a whole one does, and its runs go on in any number of processes.

The processes are forked, as in `test_distributed`.
"""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from runs import SMALL, command, metrics, quiet, settings
from test_distributed import (
    PLAIN,
    RUNS,
    STEPS,
    assert_same_numbers,
    in_a_process,
    launch,
    long_settings,
    together,
)
from test_survival import exit_code, wait_for_steps

from feedback import FeedbackLM, TrainConfig
from feedback.__main__ import parse
from feedback.lm.language_model import ARCHITECTURES
from feedback.training.distributed import everywhere, rank
from feedback.training.runs import Run
from feedback.training.sharded import is_part, own
from feedback.training.trainer import Trainer

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch has no gloo"
)

IMPLEMENTATIONS = ["reference", "append", "sequence", "native", "auto"]


def in_processes(name: str, folder: Path) -> str:
    """What a function of this file prints in a process of its own."""
    return in_a_process(name, folder, __file__).stdout


def train_together(folder: Path, number: int, config: TrainConfig, **more) -> None:
    """A run by so many processes, which divide the model if they are several."""
    model = dataclasses.replace(PLAIN, adaptive_span=config.span_loss > 0)
    config = dataclasses.replace(config, sharded=number > 1)
    together(number, lambda: quiet(model, config, **more), folder / "store")


def equal(folder: Path) -> None:
    """
    The same runs by one process and by several that divide the model, in float64; and one that the
    other kind resumed in the middle.
    """
    torch.set_default_dtype(torch.float64)
    for kind in RUNS:
        # Of four processes, some have no part at all of a tensor with a row for each of two heads.
        for number in (1, 4) if kind == "random" else (1, 2):
            train_together(folder, number, long_settings(folder, kind, str(number)))
    for begun, number in ((1, 2), (2, 1)):
        config = long_settings(folder, "carried", f"{begun}on{number}")
        shutil.copytree(folder / f"carried{begun}", config.run)
        Run(config.run).checkpoints.path(STEPS).unlink()
        train_together(folder, number, config, resume=True)


def test_a_divided_model_learns_the_same(tmp_path):
    """
    Losses, validation and checkpoint, carried memory included, to 1e-10 after fifty steps; resumed
    by one process or by several. With spans, clipping, accumulation, and sequences of one token.
    """
    in_processes("equal", tmp_path)
    names = {"random": ("4",), "spans": ("2",), "carried": ("2", "1on2", "2on1")}
    for kind, several in names.items():
        alone = long_settings(tmp_path, kind, "1")
        for name in several:
            config = long_settings(tmp_path, kind, name)
            assert_same_numbers(alone, config)
            one, two = (FeedbackLM.from_pretrained(c.run) for c in (alone, config))
            for p, q in zip(one.parameters(), two.parameters(), strict=True):
                torch.testing.assert_close(q, p, rtol=1e-8, atol=1e-10)
            assert (alone.run / "sample.txt").read_text() == (config.run / "sample.txt").read_text()


def kinds(folder: Path) -> None:
    """Each architecture in float32, with dropout's masks left out; and in bfloat16."""
    for architecture in ARCHITECTURES:
        for number in (1, 2):
            config = settings(folder, run=folder / f"{architecture}{number}", batch_size=2)
            train_together(folder, number, dataclasses.replace(config, architecture=architecture))
    config = settings(folder, run=folder / "half", batch_size=2, precision="bfloat16")
    train_together(folder, 2, config)


def test_every_architecture_can_be_divided(tmp_path):
    """In float32, where the mean of the gradients is made in another way; and under autocast."""
    in_processes("kinds", tmp_path)
    for architecture, cls in ARCHITECTURES.items():
        alone, config = (settings(tmp_path, run=tmp_path / f"{architecture}{n}") for n in (1, 2))
        for mine, theirs in zip(metrics(alone), metrics(config), strict=True):
            assert mine["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-5)
        assert cls.from_pretrained(config.run).config.d_model == 16
    alone, half = (settings(tmp_path, run=tmp_path / name) for name in ("feedback1", "half"))
    assert metrics(half)[-1]["val_loss"] == pytest.approx(metrics(alone)[-1]["val_loss"], abs=0.05)


def held(folder: Path) -> None:
    """Prints how many numbers of weights, gradients and moments there are, and where."""
    config = settings(folder, batch_size=2, sharded=True)

    def go() -> None:
        trainer = Trainer(PLAIN, config)
        trainer.train_step()
        weights, states = [*trainer.model.parameters()], trainer.optimizer.state.values()
        moments = [s[key] for s in states for key in ("exp_avg", "exp_avg_sq")]
        kept = {}
        for tensor in (*weights, *(p.grad for p in weights), *moments):
            # Where a tensor is a piece of a larger one, all of that is kept.
            storage = own(tensor).untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes() // 4
        total = sum(p.numel() for p in weights)
        found = everywhere(torch.tensor([[total, sum(kept.values())]]))
        if rank() == 0:
            print(json.dumps(found.tolist()), flush=True)

    together(2, go, folder / "store")


def test_what_a_process_keeps(tmp_path):
    """Half of the four numbers for each parameter, or a little more where a half is odd."""
    found = json.loads(in_processes("held", tmp_path))
    assert len(found) == 2
    for parameters, kept in found:
        assert 4 * parameters / 2 - 8 < kept < 1.02 * 4 * parameters / 2


def endings(folder: Path) -> None:
    """A signal to one of two processes, and a mistake of both."""
    base = settings(folder)
    endless = ("--max-steps", "100000", "--eval-steps", "100000", "--batch-size", "4")
    config = dataclasses.replace(base, run=folder / "stopped")
    line = [*command(config, *endless, "--sharded")[3:], "--implementation", "sequence"]
    processes = launch(2, lambda rank: line)
    wait_for_steps(config, 3)
    os.kill(processes[1], signal.SIGTERM)
    assert [exit_code(process) for process in processes] == [143, 143]
    config = dataclasses.replace(base, run=folder / "infinite")
    line = [*line, "--run", str(config.run), "--learning-rate", "1e30", "--grad-clip", "0"]
    assert [exit_code(process) for process in launch(2, lambda rank: line)] == [2, 2]


def test_all_stop_together(tmp_path):
    """A signal to one stops all after the same step; a loss that is not finite is one line."""
    result = in_a_process("endings", tmp_path, __file__)
    run = Run(tmp_path / "stopped")
    assert run.checkpoints.steps() == [len(run.metrics()), 0]
    assert result.stdout.count("Stopped after step") == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("feedback: ")]
    assert " at step " in line and "Traceback" not in result.stderr


def test_one_process_has_nothing_to_divide(tmp_path):
    """A `ValueError` that says what to do, before anything is written."""
    config = settings(tmp_path, sharded=True)
    with pytest.raises(
        ValueError, match=r"there is only one; start several with torchrun .*or lea"
    ):
        quiet(SMALL, config)
    assert not config.run.exists()


def test_a_resumed_run_need_not_be_divided(tmp_path):
    """What the processes divide is said by each command, and not kept with the run."""
    config = settings(tmp_path)
    quiet(SMALL, dataclasses.replace(config, max_steps=2))
    path = config.run / "config.json"
    values = json.loads(path.read_text())
    values["train"]["sharded"] = True
    path.write_text(json.dumps(values))
    line = ["train", "--resume", "--run", str(config.run)]
    assert not parse(line).training.sharded
    assert parse([*line, "--sharded"]).training.sharded
    quiet(SMALL, config, resume=True)


def inner(folder: Path) -> None:
    """Prints what each implementation does with layers that are divided one by one."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.set_default_dtype(torch.float64)
    tokens = torch.arange(10).reshape(2, 5)

    def go() -> None:
        mesh = init_device_mesh("cpu", (2,))
        for name, share_kv in itertools.product(IMPLEMENTATIONS, (True, False)):
            config = dataclasses.replace(PLAIN, vocab_size=10, share_kv=share_kv)
            model = FeedbackLM(config, name)
            plain = FeedbackLM(config, "reference")
            model.load_state_dict(plain.state_dict())
            for layer in model.transformer.layers:
                fully_shard(layer, mesh=mesh)
            try:
                found = 0.0
                for m in (model, plain):
                    m(tokens)[0].square().mean().backward()
                for p, q in zip(model.parameters(), plain.parameters(), strict=True):
                    grad = p.grad.full_tensor() if is_part(p.grad) else p.grad
                    found = max(found, (grad - q.grad).abs().max().item())
            except ValueError as refused:
                found = str(refused)
            if rank() == 0:
                print(json.dumps([name, share_kv, found]), flush=True)

    together(2, go, folder / "store")


def test_divided_layers(tmp_path):
    """
    The sweeps, which would not gather them, refuse them and name implementations that call them;
    those give the gradients of a whole model. With `share_kv=False` none can, and all refuse.
    """
    found = list(map(json.loads, in_processes("inner", tmp_path).splitlines()))
    assert [row[0] for row in found[::2]] == IMPLEMENTATIONS
    words = "divided by fully_shard, expected only the model as a whole"
    for name, share_kv, what in found:
        if not share_kv:
            assert f"layers are {words}: with share_kv=False even implementation='ref" in what
        elif name in ("sequence", "native"):
            assert f"'{name}' cannot run here: layers.0 is {words}; " in what
            assert "as implementation='append' and implementation='reference' do" in what
        else:
            assert what < 1e-12


if __name__ == "__main__":
    # Dividing imports much, and so does an optimiser; the processes that are forked need not.
    import torch.distributed.fsdp

    torch.optim.AdamW([torch.zeros(1, requires_grad=True)], fused=True).step()
    actions = {"equal": equal, "kinds": kinds, "held": held, "endings": endings, "inner": inner}
    actions[sys.argv[1]](Path(sys.argv[2]))
