"""Seeded problems, each found and named; the same chips without them give no finding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosim.energy import price
from neurosim.engine.events import ROW_SERVICE, Options, Result
from neurosim.engine.reference import run_reference
from neurosim.errors import Deadlock
from neurosim.program import Program
from neurosim.trace import TraceWriter, summarise
from neurosim.trace.findings import Finding, deadlock_finding, findings
from neurosim.units import format_time
from tests.energy import handmade
from tests.engine.networks import Rows, chain, rule, spikes

PERIOD = 480
# a chip with room to spare for 12 packets every 480 ps: senders 25 ps, links 20, axon-in there and back 80 with 8 places, axon-out 12 places
ROOMY = {"timing__send": 25, "timing__axon_forward": 40, "timing__axon_ack": 40, "noc__axon_in": 8, "noc__axon_out": 12}


def simulated(
    sizes: tuple[int, ...] = (12, 12, 4), sync: str = "free", *, period: int = PERIOD, rows: int = 10, **more: Any
) -> tuple[Program, Result]:
    """Two layers, every input spike fires the whole first one; ten input spikes, evenly spaced, in each of two samples."""
    cores = more.pop("cores", [0, 1, 2, 3][: len(sizes) - 1])
    rules = more.pop("rules", {})
    program = chain(list(sizes), [5] * (len(sizes) - 2) + [1], cores, sync, mesh=(len(set(cores)), 1), rules=rules, **{**ROOMY, **more})
    stimulus = spikes(program, [(0, k % sizes[0]) for k in range(rows)])
    stimulus = replace(stimulus, due_ps=period * np.arange(rows, dtype=np.int64))
    result = run_reference(program, [stimulus] * 2, Options(record=True))
    result.scores += np.arange(result.scores.shape[1])  # all classes have the same weights, so their scores would tie
    return program, result


def found(program: Program, result: Result, **more: Any) -> dict[str, Finding]:
    listed = findings(program, result, price(program, result), realtime=True, **more)
    kinds = [finding.kind for finding in listed]
    assert len(kinds) == len(set(kinds)), kinds
    assert all(f.text and f.remedy and f.where for f in listed)
    return dict(zip(kinds, listed, strict=True))


def test_a_healthy_run_has_no_findings() -> None:
    assert found(*simulated()) == {}
    assert found(*simulated(sync="wavefront")) == {}
    assert found(*simulated((12, 12, 12, 4), period=20_000)) == {}


def test_tied_scores_are_no_answer() -> None:
    program = handmade.program()
    scores = np.array([[0, 0], [3, 5]])
    finding = found(program, handmade.result(program, scores=scores, first_spike_ps=np.array([-1, 9])))["scores tied"]
    assert (finding.value, finding.where) == (0.5, "readout")
    assert "1 of 2 samples, 50%" in finding.text
    assert "no spike reached the readout in 1 of them" in finding.text
    assert "scores tied" not in found(program, handmade.result(program))


def test_a_slow_core_is_named_with_its_population_and_since_when(tmp_path: Path) -> None:
    program, result = simulated((12, 12, 60))
    problems = found(program, result)
    slow = problems["core saturated"]
    assert slow.where == "core 1"
    assert slow.value >= slow.threshold == 0.8
    assert "core 1 (p1) is saturated" in slow.text
    assert "router 1 to core 1 waits for it" in slow.text
    assert set(problems) <= {"core saturated", "input waits"}
    with TraceWriter(tmp_path / "t.parquet", program) as writer:
        writer.write(result.trace)
    slow = found(program, result, trace=tmp_path / "t.parquet")["core saturated"]
    rows = result.trace[(result.trace["server"] == program.ports + 3) & (result.trace["sample"] == 0) & (result.trace["kind"] == ROW_SERVICE)]
    starts, work, end = rows["time"].tolist(), (rows["end"] - rows["time"] - rows["blocked"]).tolist(), int(rows["end"].max())
    since = next(t for k, t in enumerate(starts) if sum(work[k:]) >= 0.8 * (end - t))
    assert f"(threshold 80%), since {format_time(since)} of the first sample" in slow.text


def test_a_one_slot_fifo_is_named() -> None:
    problems = found(*simulated(noc__axon_in=1))
    assert set(problems) == {"shallow FIFO"}
    assert problems["shallow FIFO"].where == "axon-in of core 1"
    assert "1 place deep, holds up router 1 to core 1" in problems["shallow FIFO"].text
    assert "noc.axon_in (now 1)" in problems["shallow FIFO"].remedy


def test_input_as_fast_as_it_goes_may_fill_the_fifos_of_the_cores_that_it_goes_to() -> None:
    # core 0 is fed by the port; the same FIFO holds up the port's packets in both runs
    program, result = simulated((12, 1, 4), noc__axon_in=1, period=1)
    assert "shallow FIFO" in found(program, result)
    assert [f.kind for f in findings(program, result, price(program, result))] == []


def test_a_narrow_window_is_named() -> None:
    problems = found(*simulated(noc__flow='"end_to_end"', noc__window=1, timing__wire=40))
    assert {"narrow window"} <= set(problems) <= {"narrow window", "input waits"}
    assert problems["narrow window"].where == "core 0 sender"


def test_a_hot_link_is_named() -> None:
    problems = found(*simulated(timing__hop_east_west=60, noc__axon_out=200, noc__fifo=200))
    assert set(problems) == {"hot link"}
    assert problems["hot link"].where == "router 0 to router 1"


def test_a_dead_population_and_one_that_always_fires_are_named() -> None:
    dead = found(*simulated((12, 12, 60, 4), rules={0: rule(), 1: rule(10_000)}, period=4000))
    assert set(dead) == {"population silent"}
    assert dead["population silent"].where == "p1"
    both = found(*simulated((12, 60, 60, 4), "wavefront", cores=[0, 1, 2], rules={0: rule(10_000), 1: rule(bias=7)}, period=200))
    assert both["population silent"].where == "p0"
    assert both["population always fires"].where == "p1"


def test_drops_saturation_and_the_host_are_named() -> None:
    problems = found(*simulated(noc__axon_in=1, noc__overflow='"drop"'))
    assert problems["spikes dropped"].where == "axon-in of core 1"
    clipped = found(*simulated((12, 12, 4), rules={0: rule(100)}, rows=60, arithmetic__state_bits=4, arithmetic__weight_bits=4))
    assert "membranes saturate" in clipped
    program, result = simulated()
    energy = price(program, result, host_macs_per_sample=1e9)
    assert [f.kind for f in findings(program, result, energy)] == ["host costs more"]


def test_one_core_that_does_all_the_work_is_named() -> None:
    program = chain([4, 4, 4, 4, 4], [5, 5, 5, 1], [0, 1, 2, 3], mesh=(4, 1))
    result = handmade.result(program)  # in 3,000 ps
    first = program.ports
    result.server["busy_ps"][first] = 2000
    result.server["busy_ps"][[first + 3, first + 7, first + 11]] = 60
    problems = found(program, result)
    assert problems["cores unbalanced"].where == "core 0"
    result.server["busy_ps"][[first + 3, first + 7]] = 700
    assert found(program, result) == {}


def test_a_deadlock_is_told_with_its_cycle_and_the_contents_of_its_fifos() -> None:
    # the deadlock of tests/engine/test_machine.py
    program = chain([8, 8, 8, 8, 1], [5] * 4, [2, 1, 3, 0], "free", mesh=(4, 1), noc__ports=[2])
    sink = Rows()
    with pytest.raises(Deadlock) as caught:
        run_reference(program, [spikes(program, [(0, k) for k in range(8)])], Options(record=True), sink=sink)
    finding = deadlock_finding(program, caught.value, sink.all)
    assert finding.kind == "deadlock"
    assert "core 1 waits for axon-out of core 1; core 1 sender waits for" in finding.text
    depth = program.chip.noc.axon_out
    assert f"axon-out of core 1 holds {depth} of {depth}: spike of p1 (" in finding.text
    assert finding.text.count(" holds ") == len(caught.value.cycle) // 2
    assert "end_to_end" in finding.remedy
    assert " holds 0 of" not in finding.text  # the FIFOs of the cycle are full


def test_the_summary_has_the_findings() -> None:
    program, result = simulated(noc__axon_in=1)
    told = summarise(program, result, price(program, result))["findings"]
    assert [entry["kind"] for entry in told] == ["shallow FIFO"]
    assert set(told[0]) == {"kind", "where", "text", "remedy", "value", "threshold"}
