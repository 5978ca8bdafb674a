"""
The kills of the tests, more often and with other settings, for the record.

`python tests/training/kills.py [--number 30] [--workers 10] [--out RECORD]` kills a run of each
setting so often, resumes it each time, and compares it, bit for bit, with one that was let alone;
then it does the same to the workers of a real torchrun. An error ends it: what is recorded has
passed.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import test_distributed
import test_survival
from resident import commit, processor

import feedback

WORKERS = "torchrun, two workers"
WHAT = (
    "kill -9, then the same command with --resume (or --overwrite, if the settings had not been "
    "written), under torchrun by itself; at the end metrics, weights and optimiser are bit "
    "for bit those of a run that was let alone, and one process leaves no other file"
)


def one_process(number: int, kind: str) -> dict[str, Any]:
    """What was hit with a setting."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = test_survival.in_a_process("kills", folder, number, kind, seconds=600 * number)
        test_survival.assert_nothing_lost(folder, number, kind)
        steps = test_survival.killed_settings(folder, number, kind).max_steps
    return {**json.loads(said.splitlines()[-1]), "steps": steps}


def workers(number: int) -> dict[str, Any]:
    """After which steps one of two workers was killed."""
    with tempfile.TemporaryDirectory() as name:
        killed = test_distributed.killed_run(Path(name), number, seconds=600)
        assert len(killed) == number, killed
        test_distributed.assert_nothing_lost(Path(name))
        steps = test_distributed.killed_settings(Path(name)).max_steps
    return {"killed": number, "after_the_steps": killed, "steps": steps}


def main() -> int:
    """Prints what was hit, and, with --out, adds it to a record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--number", type=int, default=30, help="of kills with each setting")
    parser.add_argument("--workers", type=int, default=10, help="of kills under torchrun")
    parser.add_argument("--only", choices=(*test_survival.KILLED, WORKERS), action="append")
    parser.add_argument("--out", type=Path, help="a record, JSON")
    options = parser.parse_args()
    for kind in options.only or (*test_survival.KILLED, WORKERS):
        begun = time.monotonic()
        under = kind == WORKERS
        found = workers(options.workers) if under else one_process(options.number, kind)
        print(f"{kind}: {found}, {time.monotonic() - begun:.0f} s", flush=True)
        if options.out is not None:
            there = json.loads(options.out.read_text()) if options.out.exists() else {}
            numbers = f"--number {options.number} --workers {options.workers}"
            record = {
                "what": WHAT,
                "command": f"python tests/training/kills.py {numbers}",
                "commit": commit(),
                "versions": {"feedback": feedback.__version__, "torch": torch.__version__},
                "machine": f"{processor()}, one core that other programs use too",
                "settings": {**there.get("settings", {}), kind: found},
            }
            options.out.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
