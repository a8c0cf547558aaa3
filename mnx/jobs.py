"""How many networks of a stage are trained at once, and with how many threads each: from cores, memory and work.

Threads are a setting of the run, decided before its first training and kept with it: ONNX Runtime may add in another
order with another number of threads, and the last bits of the weights with it. How many networks are trained at once
is a setting of one call and changes no result, since each trains in a process of its own, with its own seed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Final

from mnx.graphs.model import Model
from mnx.graphs.shapes import shapes

MEMORY_SHARE: Final = 0.7
"""Of the memory that is free, what trainings may take together."""

PROCESS_BYTES: Final = 300e6
"""What a process takes that trains nothing yet: Python, NumPy, ONNX Runtime."""

START_SECONDS: Final = 2.0
"""What it takes until a process trains: imports, data, the step graph."""

RATE: Final = 5e9
"""Multiply-adds a second of a core that trains convolutions; only decides whether processes are worth their start."""

STEP_SECONDS: Final = 2e-4
"""What a step takes beside its multiply-adds."""


def cores() -> int:
    """Cores of the CPU that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_each(networks: int) -> int:
    """Threads for each of so many networks of a stage: all cores are busy, and none has two threads to do."""
    return max(1, cores() // max(1, networks))


def jobs_at_once(networks: int, threads: int, bytes_each: float, steps: int, work: float, device: str = "cpu") -> int:
    """How many networks to train at once where nobody says: the most that cores and memory take, where it pays.

    Args:
        networks: that are left to train.
        threads: of each.
        bytes_each: of memory that a process takes with the largest of them.
        steps: of all of them together, at most.
        work: multiply-adds of all of them together, at most.
        device: a GPU trains one network at a time.
    """
    if device != "cpu":
        return 1
    free = free_memory()
    fitting = networks if free is None else int(MEMORY_SHARE * free / max(bytes_each, 1.0))
    jobs = max(1, min(networks, cores() // threads, fitting))
    saved = (work / RATE / threads + steps * STEP_SECONDS) * (1 - 1 / jobs)
    return jobs if saved > START_SECONDS else 1


def process_bytes(models: Sequence[Model], batch: int, data_bytes: int) -> float:
    """About the memory of a process that trains these networks: both sets of state, gradients, activations twice, data.

    Raises:
        GraphError: a shape of the model is not known.
    """
    weights = sum(array.nbytes for model in models for array in model.weights.values())
    activations = 0
    for model in models:
        values = shapes(model, batch)
        activations += sum(4 * prod(map(int, values[name])) for node in model.nodes for name in node.outputs if name)
    return PROCESS_BYTES + 6 * weights + 2 * activations + 1.5 * data_bytes


def free_memory() -> int | None:
    """Bytes of memory that this process could still take; None where the system does not say."""
    found = [_meminfo(), _control_group()]
    known = [size for size in found if size is not None]
    return min(known) if known else None


def _meminfo() -> int | None:
    file = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", file.read_text()) if file.exists() else None
    return 1024 * int(found[1]) if found else None


def _control_group() -> int | None:
    """What the limit of a container leaves."""
    most, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if not (most.exists() and used.exists()):
        return None
    text = most.read_text().strip()
    return max(0, int(text) - int(used.read_text())) if text.isdecimal() else None
