"""
Several processes train what one would have trained, stop together, and survive a kill.

Most processes are forked from one that has only imported the package, which takes milliseconds;
one test starts a real torchrun. All of them talk through the loopback interface alone.
"""

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from runs import SMALL, command, metrics, quiet, settings
from test_survival import ENVIRONMENT, ended, exit_code, fork, wait_for_steps

from feedback import TrainConfig
from feedback.__main__ import main
from feedback.training import trainer as module
from feedback.training.distributed import average, everywhere, rank, use_threads
from feedback.training.runs import Run

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch has no gloo"
)
LOCAL = {**ENVIRONMENT, "GLOO_SOCKET_IFNAME": "lo"}
PLAIN = dataclasses.replace(SMALL, dropout=0.0)
STEPS = 50
STORES: list[dist.TCPStore] = []
"""Kept as long as the processes that meet in them."""
RUNS = {
    "random": dict(start_seq_len=1, grad_clip=0.5, implementation="sequence"),
    "spans": dict(span_loss=1e-3, max_steps=6),
    "carried": dict(segments="carried", accumulate=2, implementation="sequence"),
}


def in_a_process(name: str, folder: Path, file: str = __file__) -> subprocess.CompletedProcess:
    """Calls a function of this file, or another, there, and says what it printed."""
    result = subprocess.run(
        [sys.executable, file, name, str(folder)], capture_output=True, text=True, env=LOCAL,
        timeout=900,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result


def together(number: int, action: Callable[[], object], store: Path) -> None:
    """Forks so many processes that have joined each other, and waits until all have succeeded."""

    def go(rank: int) -> int:
        there = dist.FileStore(str(store), number)
        dist.init_process_group("gloo", store=there, rank=rank, world_size=number)
        try:
            action()
        except BaseException:
            traceback.print_exc()
            return 1
        dist.destroy_process_group()
        return 0

    processes = [fork(lambda rank=rank: go(rank)) for rank in range(number)]
    assert [exit_code(process) for process in processes] == [0] * number
    store.unlink(missing_ok=True)


def long_settings(folder: Path, kind: str, name: str):
    """Fifty steps of eight rows, with a checkpoint in the middle."""
    changes = dict(batch_size=8, max_steps=STEPS, eval_steps=25, checkpoint_steps=25)
    return settings(folder, **{**changes, **RUNS[kind]}, run=folder / f"{kind}{name}")


def equal(folder: Path) -> None:
    """The same runs by 1, 2 and 4 processes, in float64; and those of 2 resumed by 1 and by 4."""
    torch.set_default_dtype(torch.float64)
    for kind in RUNS:
        model = dataclasses.replace(PLAIN, adaptive_span=kind == "spans")
        for number in (1, 2, 4):
            config = long_settings(folder, kind, str(number))
            together(number, lambda c=config, m=model: quiet(m, c), folder / "store")
        for number in (1, 4) if kind == "carried" else ():
            config = long_settings(folder, kind, f"2on{number}")
            shutil.copytree(folder / f"{kind}2", config.run)
            Run(config.run).checkpoints.path(STEPS).unlink()
            again = lambda c=config, m=model: quiet(m, c, resume=True)  # noqa: E731
            together(number, again, folder / "store")


def test_the_loss_does_not_depend_on_the_number_of_processes(tmp_path):
    """
    Losses, validation losses and all that the checkpoint holds, the memory of all rows included, to
    1e-10 after fifty steps. With spans, clipping, accumulation, and, at first, sequences of one
    token, from which some parameters learn nothing.
    """
    in_a_process("equal", tmp_path)
    for kind in RUNS:
        alone = long_settings(tmp_path, kind, "1")
        for name in ("2", "4", "2on1", "2on4")[: 4 if kind == "carried" else 2]:
            assert_same_numbers(alone, long_settings(tmp_path, kind, name))


def assert_same_numbers(alone: TrainConfig, config: TrainConfig) -> None:
    """Two runs in float64 have the same metrics and checkpoint, up to the last bits of sums."""
    for mine, theirs in zip(metrics(alone), metrics(config), strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in theirs.items():
            same = mine[key] is value is None
            assert same or mine[key] == pytest.approx(value, rel=1e-10)
    assert metrics(config)[-1]["val_loss"] is not None
    one, several = (Run(c.run).load_checkpoint(pytest.fail) for c in (alone, config))
    assert one.tensors.keys() == several.tensors.keys()
    assert one.tensors["memory"].shape[0] == 8
    for key, tensor in one.tensors.items():
        assert key.startswith("step.") or tensor.dtype == torch.float64
        torch.testing.assert_close(several.tensors[key], tensor, rtol=1e-8, atol=1e-10)


def masks(folder: Path) -> None:
    """Two processes with equal rows, each of the letter a; prints whether their losses differ."""
    (folder / "text.txt").write_text("a" * 990 + "b" * 10)
    found = []

    def remember(tensors: list[torch.Tensor]) -> None:
        found.append(everywhere(tensors[0][None]))
        average(tensors)

    def refuse(self) -> None:
        raise AssertionError("a process that is not the first writes")

    def go() -> None:
        module.average = remember
        if rank() > 0:
            module.Trainer.write_model = refuse
        quiet(dataclasses.replace(SMALL, dropout=0.5), settings(folder, batch_size=2))
        if rank() == 0:
            print(sum(x.unique().numel() == 2 for x in found), len(found), flush=True)

    together(2, go, folder / "store")


def test_each_process_draws_masks_of_its_own(tmp_path):
    """
    On equal rows, the losses of two processes differ in every step through dropout alone. And only
    the first of them writes.
    """
    assert in_a_process("masks", tmp_path).stdout.split() == ["6", "6"]


def launch(number: int, arguments: Callable[[int], list[str]]) -> list[int]:
    """
    Forks processes that run the command line as torchrun would start them: the store in which they
    meet is not theirs, so whoever ends first takes nothing from the others.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    STORES.append(store)
    processes = []
    for index in range(number):

        def go(rank: int = index) -> int:
            names = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=number, LOCAL_WORLD_SIZE=number)
            names |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=store.port)
            names |= dict(TORCHELASTIC_RUN_ID=store.port, TORCHELASTIC_USE_AGENT_STORE=True)
            os.environ.update({name: str(value) for name, value in names.items()})
            return main(arguments(rank))

        processes.append(fork(go))
    return processes


def endings(folder: Path) -> None:
    """Signals to all processes and to one; mistakes that all of them see, and one."""
    base = settings(folder)
    endless = ("--max-steps", "100000", "--eval-steps", "100000", "--batch-size", "4")

    def arguments(name: str, *more: str) -> list[str]:
        config = dataclasses.replace(base, run=folder / name)
        return [*command(config, *endless)[3:], "--implementation", "sequence", *more]

    for name, chosen in (("SIGTERM", (0, 1)), ("SIGINT", (1,)), ("SIGHUP", (0, 1))):
        number = getattr(signal, name)
        processes = launch(2, lambda rank, name=name: arguments(name))
        wait_for_steps(dataclasses.replace(base, run=folder / name), 3)
        for which in chosen:
            os.kill(processes[which], number)
        assert [exit_code(process) for process in processes] == [128 + number] * 2
    for name, more in (
        ("odd", ["--batch-size", "3"]),
        ("parts", ["--accumulate", "4"]),
        ("infinite", ["--learning-rate", "1e30", "--grad-clip", "0"]),
        ("unknown", ["--learning-rat", "1"]),
    ):
        processes = launch(2, lambda rank, name=name, more=more: arguments(name, *more))
        assert [exit_code(process) for process in processes] == [2, 2], name
    missing = lambda rank: arguments("one", *["--data", "missing.txt"] * rank)  # noqa: E731
    assert [exit_code(process) for process in launch(2, missing)] == [2, 2]


def test_all_stop_together(tmp_path):
    """
    A signal, to all or to one, stops all after the same step: one checkpoint, one message, and the
    exit code of a single process. A mistake is one line and exit code 2, also if one process alone
    makes it; then nothing has been written.
    """
    result = in_a_process("endings", tmp_path)
    assert result.stdout.count("Stopped after step") == 3
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        run = Run(tmp_path / name)
        assert run.checkpoints.steps() == [len(run.metrics()), 0]
    lines = [line for line in result.stderr.splitlines() if line.startswith("feedback: ")]
    words = ["batch_size is 3, expected a multiple of 2 processes times accumulate = 1"]
    words += ["batch_size is 4, expected a multiple of 2 processes times accumulate = 4"]
    words += [" at step ", "--learning-rat", "data is 'missing.txt'"]
    assert len(lines) == len(words)
    for line, word in zip(lines, words, strict=True):
        assert word in line
    assert "Traceback" not in result.stderr
    assert not any((tmp_path / name).exists() for name in ("odd", "parts", "unknown", "one"))


def children(process: int) -> list[int]:
    """The processes that a process has started and that run."""
    path = Path(f"/proc/{process}/task/{process}/children")
    return list(map(int, path.read_text().split()))


def killed_run(folder: Path, kills: int, seconds: float = 60) -> list[int]:
    """
    A real torchrun, of whose two workers one is killed so many times; after which steps. A start
    of the workers takes no more than these seconds.
    """
    config = killed_settings(folder)
    changes = ["--batch-size", "4", "--max-steps", str(config.max_steps), "--eval-steps", "7"]
    changes += ["--checkpoint-steps", "2", "--segments", "carried", "--implementation", "sequence"]
    changes += ["--warmup-steps", "2", "--dropout", "0.2", "--device", "cpu"]
    start = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    start += ["--nproc-per-node", "2", "--max-restarts", str(kills), "-m", "--", "feedback"]
    line = [sys.executable, *start, *command(config, *changes)[3:]]
    torchrun = subprocess.Popen(line, env=LOCAL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    chance, killed, lines = random.Random(kills), [], config.run / "metrics.jsonl"
    deadline = time.monotonic() + seconds * (kills + 2)
    while len(killed) < kills and torchrun.poll() is None and time.monotonic() < deadline:
        before = lines.read_bytes().count(b"\n") if lines.exists() else 0
        workers, wanted = children(torchrun.pid), before + chance.randint(1, 6)
        while not ended(torchrun.pid) and time.monotonic() < deadline:
            time.sleep(0.002)
            if lines.exists() and lines.read_bytes().count(b"\n") >= wanted:
                break
        workers = children(torchrun.pid) if not ended(torchrun.pid) else []
        if len(workers) == 2:
            victim = chance.choice(workers)
            os.kill(victim, signal.SIGKILL)
            killed.append(lines.read_bytes().count(b"\n") if lines.exists() else 0)
            while victim in children(torchrun.pid) and time.monotonic() < deadline:
                time.sleep(0.01)
    said = torchrun.communicate(timeout=2 * seconds)[1].decode()
    assert torchrun.returncode == 0, said
    return killed


def killed_settings(folder: Path):
    """The run that is killed; the one that is let alone is in the folder `whole`."""
    changes = dict(segments="carried", implementation="sequence", batch_size=4)
    return settings(folder, **changes, max_steps=150, eval_steps=7, checkpoint_steps=2)


def whole(folder: Path) -> None:
    """The run that is let alone, by two processes of the same kind."""
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    config = dataclasses.replace(killed_settings(folder), run=folder / "whole")

    def go() -> None:
        use_threads()
        quiet(SMALL, config)

    together(2, go, folder / "store")


def assert_nothing_lost(folder: Path) -> None:
    """The run whose workers were killed has the bits of the one that was let alone."""
    in_a_process("whole", folder)
    config = killed_settings(folder)
    other = dataclasses.replace(config, run=folder / "whole")
    assert metrics(config) == metrics(other)
    one, two = (Run(c.run).load_checkpoint(pytest.fail).tensors for c in (config, other))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_killed_workers_are_restarted(tmp_path):
    """
    kill -9 of a worker, three times: torchrun starts both again with the command line of a new run,
    and they go on from the last checkpoint, to the bits of the run that was let alone.
    """
    assert len(killed_run(tmp_path, 3)) == 3
    assert_nothing_lost(tmp_path)


def test_a_restart_continues_no_run_but_its_own(tmp_path, monkeypatch):
    """
    Restarted by the torchrun that began the run, a new run goes on. That of another torchrun, or of
    none, is not touched, and what was half begun is begun anew.
    """
    config = settings(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job 1")
    quiet(SMALL, dataclasses.replace(config, max_steps=2))
    assert quiet(SMALL, config).step == 6
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job 2")
    with pytest.raises(ValueError, match="already holds a run"):
        quiet(SMALL, config)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    with pytest.raises(ValueError, match="already holds a run"):
        quiet(SMALL, config)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job 1")
    (config.run / "config.json").unlink()
    assert [row["step"] for row in metrics(quiet(SMALL, config).config)] == list(range(1, 7))


def test_threads(monkeypatch):
    """The cores of a machine are shared among its processes, at least one each."""
    before, chosen = torch.get_num_threads(), []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    for threads, processes in (("1", "2"), ("1", "9"), ("3", "2")):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        use_threads()
    assert chosen == [3, 1]
    assert torch.get_num_threads() == before


if __name__ == "__main__":
    # The first optimiser imports much; the processes that are forked need not.
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)], fused=True).step()
    actions = {"equal": equal, "masks": masks, "endings": endings, "whole": whole}
    actions[sys.argv[1]](Path(sys.argv[2]))
