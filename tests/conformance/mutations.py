"""Can the suite fail? Defects put into the fast engine one at a time, and the drawn cases that it takes to notice them.

    python -m tests.conformance.mutations [NAME ...] [--examples 2000]        (``make mutations``; each costs a compilation of the engine)

Each defect is a text patch on a copy of the package in a temporary folder; a patch whose text is not found exactly once stops the run, so that the
list follows the code. A child process draws cases, of all disciplines and without and with extra ops in turn, until the engines disagree.
docs/conformance.md records the result.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAST = "neurosim/engine/fast"
BURST = "base/burst.py"
FABRIC = "base/fabric.py"
BARRIER = "stations/barrier.py"
CORES = "stations/cores.py"
NEURONS = "stations/neurons.py"
OPS = "stations/ops.py"
OPS_FREE = "stations/ops_free.py"
ROUTER = "stations/router.py"
STEPS = "stations/steps.py"
SYNAPSES = "stations/synapses.py"
AHEAD = "tables/ahead.py"
MAPS = "tables/maps.py"


@dataclass(frozen=True)
class Mutation:
    """One defect: in ``file`` of the fast engine the text ``old`` becomes ``new``."""

    name: str
    file: str
    old: str
    new: str


MUTATIONS = (
    Mutation("a sample begins at 0", NEURONS, "        old = start if fresh else before\n", "        old = nothing if fresh else before\n"),
    Mutation("a kernel reads what its pooling leaves out", MAPS, "np.where(seen >= 0, seen, FAR)", "seen"),
    Mutation("columns of a pooling are looked up among the rows", MAPS, "pool if pool < 0 else pool + full[1]", "pool"),
    Mutation(
        "free: the parts of a readout are not added up",
        CORES,
        "for other in range(k + classes, readout.shape[0], classes):",
        "for other in range(0):",
    ),
    Mutation("router ties go to the last input", ROUTER, "if request < earliest:", "if request <= earliest:"),
    Mutation("credit usable at the take, without ack", FABRIC, "    at.time = usable\n", "    at.time = time\n"),
    Mutation(
        "arrival visible at its put, without forward",
        FABRIC,
        "    arrival = time + par[P_COLUMNS + FIGURES * c.figures + FORWARD]\n",
        "    arrival = time\n",
    ),
    Mutation("high-water mark counted after the takes", FABRIC, "if slot[before].left < arrival:", "if slot[before].left <= arrival:"),
    Mutation("an output of two inputs acts ahead of time", AHEAD, "> 1\n        known", "> 2\n        known"),
    Mutation(
        "a head ahead of time forgets the take before it",
        ROUTER,
        "time = max(max(e.arrive, e.taken), c.end)",
        "time = max(e.arrive, c.end)",
    ),
    Mutation("window credit without the wire", FABRIC, "par[P_WINDOW], time + par[P_WIRE]\n", "par[P_WINDOW], time + 1\n"),
    Mutation("window credit of a lost spike kept", ROUTER, "if par[P_WINDOW] == 0:", "if par[P_WINDOW] >= 0:"),
    Mutation("drop decided before its instant", FABRIC, "if time >= ready:", "if time >= 0:"),
    Mutation(
        "loss drawn for the service before",
        ROUTER,
        "is_lost(par[P_SEED], par[P_SAMPLE], output, n,",
        "is_lost(par[P_SEED], par[P_SAMPLE], output, n - 1,",
    ),
    Mutation(
        "jitter drawn for the sample's row",
        FABRIC,
        "jitter_draw(par[P_SEED], par[P_SAMPLE], server",
        "jitter_draw(par[P_SEED], par[P_SAMPLE_INDEX], server",
    ),
    Mutation(
        "marker before the last spike",
        STEPS,
        "    if par[P_BARRIER] == 0:  # the marker\n",
        "    if par[P_BARRIER] == 0 and at > co[core, K_BUFFER]:\n        for k in range(U_COLUMNS):\n            buf[at, k] = buf[at - 1, k]\n"
        "        buf[at - 1, U_ADDRESS] = -1\n        at += 1\n    elif par[P_BARRIER] == 0:\n",
    ),
    Mutation("bank seen without t_bank", CORES, "= end + par[P_BANK]\n", "= end\n"),
    Mutation(
        "spike beyond the sample's end added",
        CORES,
        "add = step + en[e, Y_DELAY] < par[P_STEPS]",
        "add = step + en[e, Y_DELAY] <= par[P_STEPS]",
    ),
    Mutation("fire of a neighbouring lane's group", SYNAPSES, "((served + k) // par[P_LANES] + 1)", "((served + k + 1) // par[P_LANES] + 1)"),
    Mutation(
        "floor before saturation",
        NEURONS,
        "        total = add(add(total, current), bias)\n",
        "        total = largest(add(add(total, current), bias), floor)\n",
    ),
    Mutation("leak one picosecond early", CORES, "period = time // par[P_LEAK]", "period = (time + 1) // par[P_LEAK]"),
    Mutation(
        "barrier: slices one step early",
        CORES,
        "reg[G_GLOBAL] - sl[p, S_OFFSET] and",
        "reg[G_GLOBAL] - max(0, sl[p, S_OFFSET] - 1) and",
    ),
    Mutation("barrier opens from the step's begin", BARRIER, "max(reg[G_LAST_END], reg[G_BEGAN])", "reg[G_BEGAN]"),
    Mutation("value dropped on the way", BURST, "p.value = value", "p.value = min(value, 1)"),
    Mutation("several spikes subtract once", NEURONS, "mode, value * rby[m + k])", "mode, rby[m + k])"),
    Mutation("pairs counted twice", OPS, "cc[sl[q, S_CORE], N_PAIRS] += pairs", "cc[sl[q, S_CORE], N_PAIRS] += 2 * pairs"),
    Mutation("pairs served in no time", OPS, "return served + pairs", "return served"),
    Mutation(
        "pairs beyond the sample's end",
        OPS,
        "        if not add:\n            continue\n",
        "        if not add:\n            served += 0\n",
    ),
    Mutation("table of a coincidence transposed", OPS, "op[q, Q_TABLE] + head * d + a, d)", "op[q, Q_TABLE] + channel * d, 1)"),
    Mutation(
        "table of a coincidence not cleared",
        OPS,
        "first + sl[p, S_CELLS]):",
        "first + (op[p, Q_TABLE] if sl[p, S_OP] == OP_COINCIDENCE else sl[p, S_CELLS])):",
    ),
    Mutation(
        "rows of a coincidence read in one burst",
        OPS,
        "rows * ((d + par[P_LANES] - 1) // par[P_LANES])",
        "((rows * d + par[P_LANES] - 1) // par[P_LANES])",
    ),
    Mutation("latched gate forgets", OPS, "            cell[kept] = total\n", "            cell[kept] = 0\n"),
    Mutation("latched gate remembers the sample before", OPS, "if not fresh:\n                total", "if total > -1:\n                total"),
    Mutation("inverted gate off by one", OPS, "(total >= op[p, Q_COUNT])", "(total >= op[p, Q_COUNT] + op[p, Q_INVERTED])"),
    Mutation(
        "padding counted in max",
        OPS,
        "was_touched(par, acc32, touched, first + j), -MOST",
        "was_touched(par, acc32, touched, first + j), 0",
    ),
    Mutation(
        "window touched by what is not 0 alone",
        OPS,
        "found |= was_touched(par, acc32, touched, at)",
        "found |= cell_value(par, acc32, acc64, at) != 0",
    ),
    Mutation("free: or_pool fires again", OPS_FREE, "if ripe and not fires(old, thr[m], sl[q, S_STRICT]):", "if ripe:"),
    Mutation(
        "free: what waited at a gate keeps its membrane",
        OPS_FREE,
        "            set_membrane(par, v, v32, m, 0)\n            at = fire_once",
        "            at = fire_once",
    ),
    Mutation("free: a window sends its largest, not the change", OPS_FREE, "max(rest, new) - max(rest, old)", "max(rest, new)"),
    Mutation("free: cells saturate one later", OPS_FREE, "np.int64(MOST) >> par[P_WRAP]\n", "(np.int64(MOST) >> par[P_WRAP]) + 1\n"),
    Mutation("free: op_window clears the masks of latched gates", OPS_FREE, "if kind != OP_GATE or op[q, Q_LATCHED] == 0:", "if kind != 0:"),
    Mutation("free: op_window one picosecond early", OPS_FREE, "time // par[P_OP_WINDOW]", "(time + 1) // par[P_OP_WINDOW]"),
)


def mutated(mutation: Mutation | None, folder: Path) -> None:
    """A copy of what the cases need, with the defect in it."""
    for part in ("neurosim", "tests/conformance", "tests/engine"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests" / "__init__.py").touch()
    if mutation is None:
        return
    path = folder / FAST / mutation.file
    text = path.read_text("utf-8")
    found = text.count(mutation.old)
    if found != 1:
        raise SystemExit(f"mutation {mutation.name!r}: its text occurs {found} times in {mutation.file}, wanted 1; the code has moved")
    path.write_text(text.replace(mutation.old, mutation.new), "utf-8")


def trial(mutation: Mutation | None, examples: int, seed: int) -> dict[str, object]:
    """What the child found: ``cases`` drawn, ``what`` differed first (empty: nothing)."""
    with tempfile.TemporaryDirectory(prefix="neurosim-mutation-") as name:
        folder = Path(name)
        mutated(mutation, folder)
        environment = {**os.environ, "PYTHONPATH": name, "NUMBA_CACHE_DIR": str(folder / "cache"), "NUMBA_OPT": "0"}  # fast to compile
        command = [sys.executable, "-m", "tests.conformance.mutations", "--child", "--examples", str(examples), "--seed", str(seed)]
        done = subprocess.run(command, cwd=name, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"cases": 0, "sync": "", "what": f"the engine breaks: {done.stderr.strip().splitlines()[-1][:120]}"}
        result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return result


def child(examples: int, seed: int) -> dict[str, object]:
    """Draw cases until one of them fails."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    from tests.conformance.checks import assert_conforms
    from tests.conformance.strategies import STEPPED, Case, cases

    drawn = 0
    syncs = ("free", *STEPPED)
    failure: dict[str, object] = {}

    def look(case: Case, shuffle: int) -> None:
        nonlocal drawn
        drawn += 1
        try:
            assert_conforms(case, shuffle)
        except Exception as error:  # whatever a broken engine raises
            words = (str(error) or type(error).__name__).splitlines()[0]
            failure.update(cases=drawn, sync=case.program.sync, what=f"{type(error).__name__}: {words}"[:160])
            raise

    quick = settings(max_examples=20, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    block = seed
    while drawn < examples:  # short runs of many seeds: one long run draws cases that resemble each other
        strategy = cases(syncs[block % len(syncs)], ops=block // len(syncs) % 2 == 1)
        try:
            seeded(block)(quick(given(strategy, st.integers(0, 2**32 - 1))(look)))()
        except Exception:
            if not failure:
                raise
            return failure
        block += 1
    return {"cases": drawn, "sync": "", "what": ""}


def main() -> None:
    """Command line; ``--child`` is the process that runs in the copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="mutations to try (default: the sound engine, then all)")
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps(child(chosen.examples, chosen.seed)))
        return
    missed = []
    wanted = [m for m in MUTATIONS if not chosen.names or m.name in chosen.names]
    if not chosen.names:
        sound = trial(None, 200, chosen.seed)
        if sound["what"]:
            raise SystemExit(f"the engine as it is fails after {sound['cases']} cases: {sound['what']}")
        print("| defect | caught after cases | in | what differed first |\n|---|---|---|---|\n| none | - (200 drawn) | | |", flush=True)
    for mutation in wanted:
        found = trial(mutation, chosen.examples, chosen.seed)
        if not found["what"]:
            missed.append(mutation.name)
        print(f"| {mutation.name} | {found['cases'] if found['what'] else 'MISSED'} | {found['sync']} | {found['what']} |", flush=True)
    if missed:
        raise SystemExit(f"not caught in {chosen.examples} cases: {', '.join(missed)}")


if __name__ == "__main__":
    main()
