"""Kill runs with several processes again and again, at random moments: they end with the bytes of one that was not.

    python benchmarks/kills.py --kills 40 [--epochs 60] [--device cuda]

The run is trained whole with --jobs 1; then again with --jobs 2, where either the parent or one of its workers is
killed with SIGKILL after a random time, and the same command is given again. After every kill of a parent no worker may
be left. At the end every network, and what its optimiser kept, must have the same bytes.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MNX = [sys.executable, "-c", "from mnx.cli.main import main; main()"]
SETTINGS = ["--data", "digits", "--threads", "1", "-q"]


def command(members: Path, run: Path, jobs: int, given: argparse.Namespace) -> list[str]:
    files, long = map(str, sorted(members.glob("*.onnx"))), str(given.epochs)
    rest = [
        "--epochs",
        long,
        "--set",
        f"patience={long}",
        "--device",
        given.device,
        "--jobs",
        str(jobs),
        "-o",
        str(run),
    ]
    return [*MNX, "run", *files, *SETTINGS, *rest]


def networks(run: Path) -> dict[str, str]:
    files = [*run.rglob("*.onnx"), *run.rglob("optimiser.npz")]
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if not path.name.startswith(".")
    }


def workers_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, owner = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            line = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if int(owner) == parent and state != "Z" and b"spawn_main" in line:
            found.append(int(path.name))
    return found


def gone(processes: list[int], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(Path(f"/proc/{process}").exists() for process in processes):
            return True
        time.sleep(0.02)
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=60)
    given = parser.parse_args()
    moments = random.Random(given.seed)
    parents = workers = unharmed = orphans = 0
    with tempfile.TemporaryDirectory() as folder:
        members, whole, parts = (Path(folder) / name for name in ("members", "whole", "parts"))
        subprocess.run([*MNX, "zoo", "mlp", "--output", str(members)], check=True, stdout=subprocess.DEVNULL)
        begin = time.monotonic()
        subprocess.run(command(members, whole, 1, given), check=True, stdout=subprocess.DEVNULL)
        most = time.monotonic() - begin
        while parents + workers < given.kills:
            silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen(command(members, parts, 2, given), **silent)
            until = time.monotonic() + moments.uniform(0.3, 1) * most
            young = moments.random() < 0.7
            while process.poll() is None and time.monotonic() < until:
                # seven times in ten soon after there are workers, so that the kill falls into their training
                if young and workers_of(process.pid):
                    time.sleep(moments.uniform(0, 0.3) * most)
                    break
                time.sleep(0.01)
            children = workers_of(process.pid)
            if children and moments.random() < 0.5:
                os.kill(moments.choice(children), signal.SIGKILL)
                workers += 1
            elif process.poll() is None:
                process.kill()
                parents += 1
            else:
                unharmed += 1
            process.wait()
            orphans += not gone(children)
            if unharmed > given.kills:
                break
            if process.returncode == 0:
                for trained in parts.rglob("training.json"):
                    trained.unlink()
        subprocess.run(command(members, parts, 2, given), check=True, stdout=subprocess.DEVNULL)
        same = networks(parts) == networks(whole)
    print(f"{parents} kills of parents, {workers} of workers, {unharmed} runs came to their end before")
    print(f"{orphans} times workers were left behind; bytes are {'equal' if same else 'NOT equal'}")
    sys.exit(not same or orphans > 0)


if __name__ == "__main__":
    main()
