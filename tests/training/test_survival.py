"""
A run survives what can happen to it: kills, signals, a second process, files that were changed.

Real kills and signals go to processes that are forked from one that has only imported the package:
that takes milliseconds, where a process of its own takes seconds.
"""

import dataclasses
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import SMALL, assert_same_run, command, metrics, quiet, settings

from feedback import TrainConfig
from feedback.__main__ import main
from feedback.support.interrupt import Interrupt
from feedback.training import trainer as module
from feedback.training.runs import Run
from feedback.training.trainer import Trainer

LINES = "metrics.jsonl"
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join((str(Path(__file__).parents[2]), str(Path(__file__).parents[1]))),
}  # fmt: skip


def in_a_process(name: str, folder: Path, *more: object, seconds: float = 300) -> str:
    """Calls a function of this file there; returns what it prints."""
    result = subprocess.run(
        [sys.executable, __file__, name, str(folder), *map(str, more)],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=seconds,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def fork(action: Callable[[], int]) -> int:
    """A process that ends with what `action` returns; its number."""
    process = os.fork()
    if process == 0:
        code = 99
        try:
            code = action()
        finally:
            os._exit(code)
    return process


def exit_code(process: int) -> int:
    """Waits for its end; negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def ended(process: int) -> bool:
    """Whether it has ended; it can still be waited for."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def steps_in(config) -> int:
    """How many steps its metrics have."""
    path = config.run / LINES
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_steps(config, number: int) -> None:
    """Until the run has taken so many steps, and has written its first checkpoint."""
    deadline = time.monotonic() + 60
    while steps_in(config) < number:
        assert time.monotonic() < deadline
        time.sleep(0.002)


KILLED = {
    "carried memory, bfloat16": dict(
        segments="carried", precision="bfloat16", implementation="sequence"
    ),
    "short to long, two parts, C++ loop": dict(
        start_seq_len=1, accumulate=2, batch_size=4, implementation="native"
    ),
    "no feedback, bytes": dict(architecture="rotary", segments="carried", tokenizer="bytes"),
}  # fmt: skip
CARRIED = next(iter(KILLED))
HITS = ("killed", "before_the_first_checkpoint", "in_a_write", "in_that_of_a_checkpoint")
"""What is counted of kills: all of them, and where they came."""


def killed_settings(folder: Path, number: int = 10, kind: str = CARRIED) -> TrainConfig:
    """Of the run that is killed; the one that is let alone is in the folder `whole`."""
    own = {"eval_steps": 7, "checkpoint_steps": 2, **KILLED[kind]}
    return settings(folder, **own, max_steps=12 * number)


def half_written(run: Path, start: str = ".") -> set[Path]:
    """The files whose names begin so that are being written, or that a kill has left."""
    found = (*run.glob(f"{start}*"), *run.glob(f"checkpoint/{start}*"))
    return {path for path in found if path.name != ".lock"}


def arguments(config: TrainConfig) -> list[str]:
    """The command line of a run of SMALL: every setting that is not the default."""
    fields = [(c, f) for c in (SMALL, config) for f in dataclasses.fields(c)]
    given = {f.name: getattr(c, f.name) for c, f in fields if getattr(c, f.name) != f.default}
    return ["train", *(f"--{name.replace('_', '-')}={value}" for name, value in given.items())]


def kills(folder: Path, number: int = 10, kind: str = CARRIED) -> None:
    """
    Lets a run end, then kills another like it so often, and lets it end too; its last line says
    what was hit. A fifth of the kills come before the first checkpoint or soon after; the others,
    in turn, in the middle of a write, after a step, and while the run is resumed or soon after. The
    first two wait for so many steps that the kills are spread over the run.
    """
    config = killed_settings(folder, number, kind)
    whole = dataclasses.replace(config, run=folder / "whole")
    chance, hit, after = random.Random(1), dict.fromkeys(HITS, 0), []

    def go() -> int:
        # Killed before all of the settings were there: nothing is lost, and it begins once more.
        begun = (config.run / "config.json").exists()
        how = "--resume" if begun else "--overwrite"
        return main([*arguments(config), *([] if Run(config.run).is_empty() else [how])])

    def until(process: int, condition: Callable[[], object]) -> None:
        while not condition() and not ended(process):
            time.sleep(0.0002)

    # Each in a process of the same kind: another number of threads adds in another order.
    started, process = time.monotonic(), fork(lambda: main(arguments(whole)))
    until(process, Run(whole.run).checkpoints.steps)
    first = time.monotonic() - started
    assert exit_code(process) == 0
    for n in range(number):
        wanted = steps_in(config) + chance.randint(1, 2 * config.max_steps // number)
        left, process = half_written(config.run), fork(go)
        how = "begin" if n < number // 5 else ("write", "step", "resume")[n % 3]
        if how in ("write", "step"):
            until(process, lambda wanted=wanted: steps_in(config) >= wanted)
        if how == "write":
            name = chance.choice((".step_", ".model", ".config"))
            until(process, lambda name=name: half_written(config.run, name))
        else:
            time.sleep(chance.uniform(0, 0.05 if how == "step" else 1.2 * first))
        os.kill(process, signal.SIGKILL)
        if exit_code(process) == -signal.SIGKILL:
            half = [path.name for path in half_written(config.run) - left]
            hit["killed"] += 1
            after.append(steps_in(config))
            hit["before_the_first_checkpoint"] += not Run(config.run).checkpoints.steps()
            hit["in_a_write"] += bool(half)
            hit["in_that_of_a_checkpoint"] += any(name.startswith(".step_") for name in half)
    assert exit_code(fork(go)) == 0
    print(json.dumps({**hit, "after_the_steps": after}))


def assert_nothing_lost(folder: Path, number: int = 10, kind: str = CARRIED) -> None:
    """The run that was killed has the bits of the other, and the same files, and no more."""
    config = killed_settings(folder, number, kind)
    whole = dataclasses.replace(config, run=folder / "whole")
    runs = [Trainer(SMALL, c) for c in (config, whole)]
    for run in runs:
        run.resume(pytest.fail)
    assert_same_run(*runs)
    mine, theirs = ({p.relative_to(c.run) for p in c.run.rglob("*")} for c in (config, whole))
    assert mine == theirs
    assert {path.name for path in mine if path.name.startswith(".")} == {".lock"}
    for name in ("model.safetensors", "sample.txt"):
        assert (config.run / name).read_bytes() == (whole.run / name).read_bytes()


def test_killed_again_and_again(tmp_path):
    """
    kill -9 ten times, whatever the run is about, and it ends with the bits of one that was let
    alone. After a kill the same command is given again, with `--resume`. If the kill came before
    `config.json` was there, nothing can be resumed: then it is the same command by itself if the
    folder has no file of a run, and with `--overwrite` if it has some.
    `python tests/training/kills.py` does that more often, and with other settings.
    """
    hit = json.loads(in_a_process("kills", tmp_path).splitlines()[-1])
    assert hit["killed"] >= 5 and hit["in_a_write"] >= 1
    assert hit["after_the_steps"][-1] >= 20
    assert_nothing_lost(tmp_path)


def signals(folder: Path) -> None:
    """A signal of each kind, a second one, and a second process."""
    base = settings(folder)
    endless = ("--max-steps", "100000", "--eval-steps", "100000", "--implementation", "sequence")

    def arguments(name: str) -> list[str]:
        return command(dataclasses.replace(base, run=folder / name), *endless)[3:]

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        config = dataclasses.replace(base, run=folder / number.name)
        process = fork(lambda name=number.name: main(arguments(name)))
        wait_for_steps(config, 3)
        os.kill(process, number)
        assert exit_code(process) == 128 + number
        steps = len(metrics(config))
        assert Run(config.run).checkpoints.steps() == [steps, 0]
        again = ["train", "--run", str(config.run), "--resume", "--max-steps", str(steps + 2)]
        assert exit_code(fork(lambda again=again: main(again))) == 0
        assert len(metrics(config)) == steps + 2

    def slow() -> int:
        original = Trainer.train_step

        def step(self):
            return original(self) if self.step < 3 else time.sleep(60)

        Trainer.train_step = step
        return main(arguments("second"))

    config = dataclasses.replace(base, run=folder / "second")
    process = fork(slow)
    wait_for_steps(config, 3)
    # The folder is taken.
    begun = time.monotonic()
    again = ["train", "--run", str(config.run), "--resume"]
    assert exit_code(fork(lambda: main(again))) == 2
    assert exit_code(fork(lambda: main([*arguments("second"), "--overwrite"]))) == 2
    time.sleep(0.1)
    os.kill(process, signal.SIGTERM)
    time.sleep(0.1)
    os.kill(process, signal.SIGTERM)
    assert exit_code(process) == 143
    assert time.monotonic() - begun < 30
    assert Run(config.run).load_checkpoint(print).progress.step == 0
    assert exit_code(fork(lambda: main([*again, "--max-steps", "5"]))) == 0


def test_signals(tmp_path):
    """SIGINT, SIGTERM and SIGHUP save and tell by the exit code; a second one stops at once."""
    said = in_a_process("signals", tmp_path)
    assert said.count("Stopped after step") == 3


def test_a_folder_in_use(tmp_path):
    """It is refused before anything is read or written, whatever was asked for."""
    config = settings(tmp_path)
    quiet(SMALL, config)
    before = {p: p.read_bytes() for p in config.run.rglob("*") if p.is_file()}
    with Run(config.run).lock():
        for how in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(ValueError, match=r"another process is training in .*; wait for it"):
                quiet(SMALL, config, **how)
    assert before == {p: p.read_bytes() for p in config.run.rglob("*") if p.is_file()}
    assert quiet(SMALL, config, resume=True).step == 6


@pytest.mark.parametrize("last", [False, True])
def test_a_signal_during_an_evaluation(tmp_path, last):
    """It is heard between two batches; the resumed run makes up for it, to the same bits."""
    config = settings(tmp_path, max_steps=4)
    whole = quiet(SMALL, dataclasses.replace(config, run=tmp_path / "whole"))
    original, calls = module.evaluate, []

    def evaluate(model, *args, check):
        calls.append(1)
        if len(calls) == 1 + last:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(model, *args, check=check)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "evaluate", evaluate)
        stopped = quiet(SMALL, config)
    assert (stopped.step, stopped.exit_code, stopped.finished) == (2 + 2 * last, 143, False)
    assert stopped.model.training
    assert metrics(config)[-1]["val_loss"] is None
    again = quiet(SMALL, config, resume=True)
    assert_same_run(again, whole)
    assert again.val_loss == whole.val_loss and again.exit_code == 0


def test_stopped_at_what_becomes_the_last_step(tmp_path):
    """With fewer steps than it was begun with, the loss that is printed is that of the last."""
    config = settings(tmp_path, max_steps=9, eval_steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Interrupt, "requested", property(lambda self: trainers[-1].step == 3))
        trainers, original = [], Trainer.__init__

        def remember(self, *args):
            original(self, *args)
            trainers.append(self)

        patch.setattr(Trainer, "__init__", remember)
        stopped = quiet(SMALL, config)
    assert (stopped.step, stopped.val_step) == (3, 2)
    short = quiet(SMALL, dataclasses.replace(config, max_steps=3), resume=True)
    assert (short.step, short.val_step) == (3, 3)
    assert metrics(config)[-1]["val_loss"] == short.val_loss != stopped.val_loss


def without_a_line(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[:2] + text.splitlines(keepends=True)[3:])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: None, "holds no metrics.jsonl"),
        (lambda text: "", "ends after step 0, but the checkpoint is of step 6"),
        (lambda text: text[:-3], "ends after step 5, but the checkpoint is of step 6"),
        (without_a_line, "line 3 is of step 4, expected step 3"),
        (lambda text: text + text, None),
        (lambda text: text.splitlines(keepends=True)[0] + text, "line 2 is of step 1, expected"),
        (lambda text: text.replace("seconds", "minutes", 1), "line 1 is damaged"),
        (lambda text: text.replace('"tokens": 48', '"tokens": true'), "line 2 is damaged"),
        (lambda text: "[" * 100_000 + "\n" + text, "line 1 is damaged"),
        (lambda text: text + "\0\0\0\n\0", None),
        (lambda text: text + '{"step": 7, "tok', None),
    ],
)  # fmt: skip
def test_damaged_metrics(tmp_path_factory, damage, words):
    """What the checkpoint needs must be there, or nothing is trained; what comes later is cut."""
    folder = tmp_path_factory.getbasetemp() / "metrics"
    if not folder.exists():
        folder.mkdir()
        quiet(SMALL, settings(folder))
    run = tmp_path_factory.mktemp("copy") / "run"
    shutil.copytree(folder / "run", run)
    config = settings(folder, run=run, max_steps=7)
    text = (run / LINES).read_text()
    damaged = damage(text)
    (run / LINES).unlink() if damaged is None else (run / LINES).write_text(damaged)
    if words is None:
        quiet(SMALL, config, resume=True)
        assert [row["step"] for row in metrics(config)] == [1, 2, 3, 4, 5, 6, 7]
        assert (run / LINES).read_text().startswith(text)
        return
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match=words):
        patch.setattr(Trainer, "train_step", lambda self: pytest.fail("trained"))
        quiet(SMALL, config, resume=True)
    assert before == {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}


def test_killed_before_anything_but_the_settings(tmp_path):
    """A run of which only `config.json` and the weights are there begins with its first step."""
    config = settings(tmp_path)
    whole = quiet(SMALL, dataclasses.replace(config, run=tmp_path / "whole"))
    Trainer(SMALL, config).write_model()
    (config.run / "checkpoint").mkdir()
    for name in (".model.safetensors.abcd1234", "checkpoint/.step_00000000.safetensors.abcd1234"):
        (config.run / name).write_bytes(b"half")
    assert_same_run(quiet(SMALL, config, resume=True), whole)
    assert {path.name for path in config.run.rglob(".*")} == {".lock"}


def test_a_copy_leaves_the_original_alone(tmp_path, monkeypatch, capsys):
    """`--resume` in a copied folder trains the copy, though the folder says where it was."""
    monkeypatch.chdir(tmp_path)
    config = settings(tmp_path, run=Path("original"))
    quiet(SMALL, config)
    copy = Path("runs") / "tiny_shakespeare"
    shutil.copytree("original", copy)
    before = {p: p.read_bytes() for p in Path("original").rglob("*") if p.is_file()}
    assert json.loads((copy / "config.json").read_text())["train"]["run"] == "original"
    assert main(["train", "--resume", "--max-steps", "7"]) == 0
    assert f"run     {copy}" in capsys.readouterr().out
    assert before == {p: p.read_bytes() for p in Path("original").rglob("*") if p.is_file()}
    assert len(Run(copy).metrics()) == 7


def test_not_finite_tells_what_is_left(tmp_path):
    """The error says of which step the last checkpoint is."""
    config = settings(tmp_path, learning_rate=1e30, grad_clip=0.0)
    with pytest.raises(ValueError, match="keeps the checkpoint of step 0"):
        quiet(SMALL, config)


def test_a_clock_that_goes_backwards(tmp_path, monkeypatch, capsys):
    """
    An hour at each look, with a progress bar; then the run is resumed after a restart of the
    machine, from its last checkpoint but one, with files from the future, the oldest of which is
    the newest by its time.
    """
    config = settings(tmp_path, max_steps=8)
    whole = quiet(SMALL, dataclasses.replace(config, run=tmp_path / "whole"))
    looks = itertools.count(2e9, -3600)
    for place in ("time.time", "tqdm.std.time"):
        monkeypatch.setattr(place, lambda: next(looks))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    quiet(SMALL, config)
    assert "loss" in capsys.readouterr().err
    Run(config.run).checkpoints.path(8).unlink()
    for n, path in enumerate(sorted(config.run.rglob("*"), reverse=True)):
        os.utime(path, (4e9 + n, 4e9 + n))
    real = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: real() - 1e9)
    again = quiet(SMALL, config, resume=True)
    assert_same_run(again, whole)
    seconds = [row["seconds"] for row in Run(config.run).metrics()]
    assert seconds == sorted(seconds) and seconds[0] > 0 and seconds[-1] < 1e6
    assert next(looks) < 2e9 - 10 * 3600


if __name__ == "__main__":
    # The first optimiser imports much; the processes that are forked need not.
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)], fused=True).step()
    if sys.argv[1] == "kills":
        kills(Path(sys.argv[2]), *map(int, sys.argv[3:4]), *sys.argv[4:])
    else:
        signals(Path(sys.argv[2]))
