"""
How much memory does training hold, hour after hour?

`python tests/training/resident.py [--seconds 3600] [--out RECORD]` trains with carried memory,
with a checkpoint every 100 steps and a validation every 500, asks Linux every ten seconds how much
of the process is in memory, and then stops it as Ctrl-C does. A run that kept something of each
step, such as the graph of a memory, would grow by at least that in each of its tens of thousands.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import feedback

ROOT = Path(__file__).parents[2]
EVERY, FIRST = 10.0, 60.0
"""Seconds between two looks; and those at the beginning, while memory may still grow."""

TRAIN = (
    "-m feedback train --run run --segments carried --d-model 64 --n-layers 2 --d-ff 256 "
    "--mem-len 32 --seq-len 32 --batch-size 16 --max-steps 1000000 --eval-steps 500 "
    "--checkpoint-steps 100"
).split()


def resident(process: int) -> float:
    """How much of a process is in memory, in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def watch(folder: Path, seconds: float, every: float = EVERY) -> tuple[list[list[float]], int]:
    """The seconds and MiB of a run in this folder, and the exit code with which it stopped."""
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    with (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, *TRAIN], cwd=folder, env=environment, stdout=said, stderr=said
        )
        try:
            # The first step is the beginning: before it there is nothing but imports.
            lines = folder / "run" / "metrics.jsonl"
            while not lines.exists() and process.poll() is None:
                time.sleep(0.01)
            begun, points = time.monotonic(), []
            while (after := time.monotonic() - begun) < seconds and process.poll() is None:
                points.append([round(after, 1), round(resident(process.pid), 2)])
                time.sleep(min(every, max(0, seconds - after)))
            process.send_signal(signal.SIGINT)
            return points, process.wait(timeout=6000)
        finally:
            process.kill()


def commit() -> str:
    """The last one that changed the code which is trained; a plus if files have changed since."""
    git = ["git", "-C", str(ROOT)]
    last = [*git, "log", "-1", "--format=%H", "--", "feedback"]
    head = subprocess.check_output(last, text=True).strip()
    changed = subprocess.check_output([*git, "status", "--porcelain", "feedback"], text=True)
    return head + "+" * bool(changed)


def processor() -> str:
    """Its name, as Linux has it."""
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return names[0] if names else "unknown"


def record(points: list[list[float]], code: int, run: Path) -> dict[str, Any]:
    """What is kept: one point a minute, all of the first; and the extremes after the first."""
    later = [size for after, size in points if after >= FIRST]
    kept, minute = [], 0
    for after, size in points:
        if after < FIRST or after >= minute * 60:
            kept.append([after, size])
            minute = int(after // 60) + 1
    lines = (run / "metrics.jsonl").read_bytes()
    steps = [json.loads(line) for line in lines.splitlines()]
    return {
        "what": "resident memory of one process that trains with carried memory",
        "command": " ".join(("OMP_NUM_THREADS=1 python", *TRAIN)),
        "record": "python tests/training/resident.py",
        "commit": commit(),
        "versions": {"feedback": feedback.__version__, "torch": torch.__version__},
        "machine": f"{processor()}, one core that other programs use too",
        "seconds": points[-1][0],
        "steps": len(steps),
        "validations": sum(row["val_loss"] is not None for row in steps),
        "exit_code": code,
        "after_the_first_minute": {
            "looks": len(later), "smallest_mib": min(later), "largest_mib": max(later),
            "mean_of_the_first_half_mib": round(mean(later[: len(later) // 2]), 2),
            "mean_of_the_second_half_mib": round(mean(later[len(later) // 2 :]), 2),
        },
        "seconds_and_mib": kept,
    }  # fmt: skip


def mean(values: list[float]) -> float:
    """0 of no values."""
    return sum(values) / max(1, len(values))


def main() -> int:
    """Prints the record, and, with --out, writes it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--out", type=Path, help="a record, JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        points, code = watch(Path(folder), options.seconds)
        found = record(points, code, Path(folder) / "run")
    text = json.dumps(found, indent=2)
    # A point on one line.
    text = re.sub(r"\[\s+([\d.]+),\s+([\d.]+)\s+\]", r"[\1, \2]", text) + "\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text)
    return 0 if code == 130 else 1


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
