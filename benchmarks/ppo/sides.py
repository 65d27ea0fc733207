"""Both sides in processes of their own, in turn, and what is told of them."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.ppo.case import Case, Iteration, write_case
from benchmarks.ppo.ours import Ours
from benchmarks.ppo.plain import Plain
from benchmarks.preference import peak_gb
from benchmarks.side_process import process_serving


def serve(side: str, case: Case, work: Path, batch_sizes: Sequence[int], pipe: Connection) -> None:
    """Be one side: for each message an iteration. After the last one, tell how it went about it, and its memory."""
    way = f"{batch_sizes[0]} rows per update"
    if side == "trl-grpo":
        from benchmarks.ppo.trl_grpo import train

        def tell(iteration: Iteration) -> None:
            pipe.send(iteration)
            pipe.recv()

        pipe.send("ready")
        pipe.recv()
        train(case, work, batch_sizes[0], tell)
    else:
        one = Ours(case, work) if side == "ours" else Plain(case, work, batch_sizes)
        pipe.send("ready")
        for _ in range(case.iterations):
            pipe.send(one.iterate(pipe.recv()))
        pipe.recv()
        way = one.way
    pipe.send((way, peak_gb()))


def run_both(case: Case, peer: str, batch_sizes: Sequence[int]) -> dict[str, Any]:
    """Run both sides in turn and return the figures."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_case(case, work)
        with (
            process_serving(serve, "ours", case, work, (0,)) as own,
            process_serving(serve, peer, case, work, batch_sizes) as other,
        ):
            mine, theirs = [], []
            for number in range(case.iterations):
                own.send(None)
                mine.append(own.recv())
                other.send(mine[-1].drawn)
                theirs.append(other.recv())
                seconds = f"ours {mine[-1].seconds:.1f} s, {peer} {theirs[-1].seconds:.1f} s"
                print(f"iteration {number + 1} of {case.iterations}: {seconds}", flush=True)
            for pipe in (own, other):
                pipe.send(None)
            (_, my_peak), (way, their_peak) = own.recv(), other.recv()
    return {
        **figures_of(case, mine, theirs),
        "ours_peak_gb": my_peak,
        "peer_peak_gb": their_peak,
        "peer_way": way,
        "max_abs_difference": differences(mine, theirs),
    }


def figures_of(case: Case, mine: Sequence[Iteration], theirs: Sequence[Iteration]) -> dict[str, Any]:
    """Return speed and seconds by part: medians of all iterations but the first."""
    ours, peer = (statistics.median(one.seconds for one in side[1:]) for side in (mine, theirs))
    return {
        "ours": case.answers / ours,
        "peer": case.answers / peer,
        "ratio": peer / ours,
        "ours_seconds": ours,
        "peer_seconds": peer,
        "ours_parts": median_parts(mine),
        "peer_parts": median_parts(theirs),
    }


def median_parts(iterations: Sequence[Iteration]) -> dict[str, float]:
    """Return seconds by part, medians of all iterations but the first, longest first."""
    timed = iterations[1:]
    names = dict.fromkeys(name for one in timed for name in one.parts)
    parts = {name: statistics.median(one.parts.get(name, 0.0) for one in timed) for name in names}
    return dict(sorted(parts.items(), key=lambda item: -item[1]))


def differences(mine: Sequence[Iteration], theirs: Sequence[Iteration]) -> dict[str, float]:
    """Return by name how far the numbers of both sides are apart at most; empty where the peer has none."""
    return {
        name: max(
            abs(a - b)
            for one, other in zip(mine, theirs, strict=True)
            for a, b in zip(one.figures[name], other.figures[name], strict=True)
        )
        for name in theirs[0].figures
    }


def table(figures: dict[str, Any]) -> str:
    """Return seconds by part for a person."""
    mine, theirs = figures["ours_parts"], figures["peer_parts"]
    rows = [(name, mine.get(name), theirs.get(name)) for name in dict.fromkeys([*mine, *theirs])]
    rows.append(("all", figures["ours_seconds"], figures["peer_seconds"]))
    lines = [f"{'seconds':20}{'ours':>10}{'peer':>10}"]
    for name, *values in rows:
        lines.append(f"{name:20}" + "".join(f"{'' if value is None else f'{value:.2f}':>10}" for value in values))
    return "\n".join(lines)


def rounded(value: Any) -> Any:
    """Round every number, to six digits behind the point."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return round(value, 6) if isinstance(value, float) else value
