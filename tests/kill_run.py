"""Kill a recipe with SIGKILL at random moments, start it again each time, and compare it with one left alone.

    python -m tests.kill_run --recipe recipes/smoke.yaml --kills 10 --folder /tmp/kill

Prints one JSON line last: the number of kills, the stages they fell into, and what differs (nothing, it is hoped).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

TIMING = {"tokens_per_second", "mfu"}


def start(recipe: str, out: Path) -> subprocess.Popen:
    """Start a run in a process group of its own, its output appended to a log beside it."""
    log = out.with_suffix(".log").open("ab")
    command = [sys.executable, "-m", "triptych.cli", "run", recipe, "--out", str(out)]
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def kill(process: subprocess.Popen) -> None:
    """Send SIGKILL to the run and everything it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def current_stage(out: Path) -> str:
    """Name the stage whose folder changed last."""
    folders = [path for path in out.glob("*") if path.is_dir()] if out.exists() else []
    return max(folders, key=lambda path: path.stat().st_mtime).name if folders else "start"


def run_killed(recipe: str, out: Path, kills: int, longest_s: float, seed: int) -> list[str]:
    """Run with kills at random moments; each counts from the moment the run prints something. Returns their stages."""
    moments = random.Random(seed)
    stages = []
    log = out.with_suffix(".log")
    while len(stages) < kills:
        size = log.stat().st_size if log.exists() else 0
        process = start(recipe, out)
        wait_until(lambda size=size, process=process: log.stat().st_size > size or process.poll() is not None)
        if exited(process, moments.uniform(0.0, longest_s)):
            if process.returncode == 0:
                break
            raise SystemExit(f"the run failed by itself; see {log}")
        stages.append(current_stage(out))
        kill(process)
    if start(recipe, out).wait() != 0:
        raise SystemExit(f"the last run failed; see {log}")
    return stages


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until a condition holds."""
    while not condition():
        time.sleep(0.02)


def exited(process: subprocess.Popen, within_s: float) -> bool:
    """Wait at most `within_s` seconds for the process to end by itself."""
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def differences(first: Path, second: Path) -> list[str]:
    """List what two finished runs do not have in common: results of the summary, loss curves, and pairs."""
    found = []
    summaries = [json.loads((run / "summary.json").read_text())["metrics"] for run in (first, second)]
    if summaries[0] != summaries[1]:
        found.append("summary.json")
    for path in sorted(first.rglob("metrics.jsonl")):
        name = path.relative_to(first)
        if curve(path) != curve(second / name):
            found.append(str(name))
    for path in sorted(first.rglob("pairs.jsonl")):
        name = path.relative_to(first)
        texts = [file.read_text().replace(str(run), "") for file, run in ((path, first), (second / name, second))]
        if texts[0] != texts[1]:
            found.append(str(name))
    return found


def curve(path: Path) -> list[dict]:
    """Read a metrics file without its timings."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def main() -> None:
    """Run once alone and once under fire, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="recipes/smoke.yaml")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--longest_s", type=float, help="most seconds before a kill (default: 0.6 of a run)")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--reference", type=Path, help="a finished run to compare with, instead of making one")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    alone = args.reference or args.folder / "alone"
    if args.reference is None and start(args.recipe, alone).wait() != 0:
        raise SystemExit(f"the run failed; see {alone.with_suffix('.log')}")
    seconds = json.loads((alone / "summary.json").read_text())["seconds"]
    longest_s = args.longest_s or 0.6 * seconds
    stages = run_killed(args.recipe, args.folder / "killed", args.kills, longest_s, args.seed)
    print(json.dumps({"kills": len(stages), "in": stages, "differ": differences(alone, args.folder / "killed")}))


if __name__ == "__main__":
    main()
