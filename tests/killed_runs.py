"""Runs of `latentprint`, killed at random moments: python -m tests.killed_runs CASE ELSEWHERE KILLS SEED ARGUMENTS...

One interpreter loads everything by running the command once, unharmed; after that each life of a run is a fork of it,
because starting an interpreter takes seconds. Every run goes through the entry point into the folder CASE. The first,
that nothing interrupts, is moved to ELSEWHERE/whole when it is done; each of the others, killed and started again until
it is done, to ELSEWHERE/run-0, run-1 and so on, until KILLS lives were ended. Prints their number as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import attribution.pipeline
import cli
import training.loop

# by command: a run is also killed as soon as one of these files is there
TRAPS = {"attribute": ("report.json", "report.html"), "train": ("generator.safetensors",)}


def run(arguments: list[str]) -> int:
    """latentprint ARGUMENTS: its exit code."""
    sys.argv = ["latentprint", *arguments]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def live(arguments: list[str], seconds: float, trap: Path | None = None) -> bool:
    """Start a run, and kill it after so many seconds, or when the file `trap` is there. True where it was done before.

    Raises RuntimeError where it failed.
    """
    child = os.fork()
    if not child:
        os._exit(run(arguments))
    end, found, status = time.monotonic() + seconds, 0, 0
    while not found and time.monotonic() < end and not (trap and trap.exists()):
        time.sleep(0.001)
        found, status = os.waitpid(child, os.WNOHANG)
    if not found:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a run ended with exit code {code}, expected to be done or killed")
    return code == 0


def main() -> None:
    """Do what the head of this file says."""
    case, elsewhere, kills, rng = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), random.Random(sys.argv[4])
    arguments, answer = sys.argv[5:], os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)  # the tables of the runs; what they complain of stays to be seen
    torch.set_num_threads(1)
    training.loop.LOG_STEPS, training.loop.CHECKPOINT_SECONDS = 4, 0.5  # trainings here last a few seconds
    attribution.pipeline._now = lambda: (
        "2026-01-01T00:00:00+00:00"
    )  # times may differ, and nothing else: none does here
    if run(arguments):
        raise RuntimeError("the uninterrupted run failed")
    case.rename(elsewhere / "whole")
    started = time.monotonic()
    if not live(arguments, 600):
        raise RuntimeError("a run took more than 600 seconds")
    length = time.monotonic() - started
    case.rename(elsewhere / "run-0")
    killed, runs = 0, 0
    while killed < kills or case.exists():
        missing = [case / name for name in TRAPS[arguments[0]] if not (case / name).exists()]
        if killed == kills:
            done = live(arguments, 600)
        elif (
            killed % 5 == 4 and missing
        ):  # a moment too short to be met by chance: half of what belongs together is there
            done = live(arguments, 600, missing[0])
        else:
            done = live(arguments, rng.uniform(0, 0.45 * length))
        if done:
            case.rename(elsewhere / f"run-{runs + 1}")
            runs += 1
        else:
            killed += 1
    os.write(answer, json.dumps({"kills": killed, "runs": runs + 1, "seconds": length}).encode())


if __name__ == "__main__":
    main()
