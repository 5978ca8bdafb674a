"""
How many bytes does a process need for a parameter, with a divided model and without?

`python tests/training/sharded_bytes.py [--out RECORD]` trains a model of 37 million parameters for
a few steps, in one process as a whole and in two and four processes with `--sharded`, and asks
Linux how much of each process is in memory between two steps, and how much was at most. All that
a process takes is counted, PyTorch itself included. Each number is that of the largest process.
Each is measured twice, since the allocator of the C library keeps much of what was freed, unless
it is told to give it back.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from resident import ROOT, commit, processor

import feedback
from feedback import ModelConfig, TrainConfig
from feedback.training.distributed import joined, rank
from feedback.training.trainer import Trainer

MODEL = ModelConfig(
    vocab_size=1, d_model=768, n_layers=6, n_heads=8, d_ff=3072, mem_len=16, dropout=0.0
)
"""The vocabulary becomes that of the text."""
ALLOCATORS = {"": {}, "MALLOC_MMAP_THRESHOLD_=131072": {"MALLOC_MMAP_THRESHOLD_": "131072"}}
"""As it is; and with freed blocks of this size or more given back to the system, under glibc."""
WARM_UP, STEPS = 2, 3
"""The first step makes the moments of AdamW; a few more are looked at."""


def status(name: str) -> int:
    """Bytes of this process, as Linux tells them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def work(folder: Path, sharded: bool) -> None:
    """One process: trains, and writes how much it took."""
    config = TrainConfig(
        run=folder / "run",
        data=str(folder / "text.txt"),
        batch_size=4,
        seq_len=16,
        max_steps=WARM_UP + STEPS,
        sharded=sharded,
        device="cpu",
    )
    with joined():
        trainer = Trainer(MODEL, config)
        between = []
        for step in range(WARM_UP + STEPS):
            if step == WARM_UP:
                # Linux counts the largest size from here on.
                Path("/proc/self/clear_refs").write_text("5")
            trainer.train_step()
            between.append(status("VmRSS:"))
        parameters = sum(p.numel() for p in trainer.model.parameters())
        found = {"parameters": parameters, "between": max(between[WARM_UP:])}
        found["most"] = status("VmHWM:")
        (folder / f"{rank()}.json").write_text(json.dumps(found))


def measure(number: int, allocator: str) -> dict[str, Any]:
    """Bytes for a parameter in so many processes; one has the whole model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 200)
        path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
        more = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, **ALLOCATORS[allocator]}
        begin = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={number}"]
        command = [*begin, __file__, "--work", name, *["--sharded"] * (number > 1)]
        subprocess.run(command, env={**os.environ, **more}, check=True)
        ranks = [json.loads((folder / f"{n}.json").read_text()) for n in range(number)]
    parameters = ranks[0]["parameters"]
    bytes_each = {key: max(one[key] for one in ranks) / parameters for key in ("between", "most")}
    return {"processes": number, "environment": allocator, "parameters": parameters} | {
        key: round(value, 2) for key, value in bytes_each.items()
    }


def main() -> int:
    """Prints the record, and, with --out, writes it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--out", type=Path, help="a record, JSON")
    parser.add_argument("--work", type=Path, help="be one of the processes, in this folder")
    parser.add_argument("--sharded", action="store_true", help="as one of the processes: divide")
    options = parser.parse_args()
    if options.work is not None:
        work(options.work, options.sharded)
        return 0
    found = {
        "what": "bytes of a process for a parameter, between two steps and at most",
        "record": "python tests/training/sharded_bytes.py",
        "commit": commit(),
        "versions": {"feedback": feedback.__version__, "torch": torch.__version__},
        "machine": processor(),
        "bytes": [measure(number, how) for how in ALLOCATORS for number in (1, 2, 4)],
    }
    text = json.dumps(found, indent=2) + "\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
