"""``run_reference``: the reference engine's side of the engine contract (``neurosim.engine.events.Engine``)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from typing import Any

from neurosim.engine.anytime import Stop, check_stop, stop_time
from neurosim.engine.deadlock import diagnose
from neurosim.engine.differences import differences
from neurosim.engine.events import Options, Progress, Result, Sink, Stimulus
from neurosim.engine.reference.machine import Machine
from neurosim.engine.reference.plan import Plan
from neurosim.engine.reference.record import Probe, Recorder
from neurosim.engine.stimuli import check_stimulus
from neurosim.errors import RunError
from neurosim.program import Program


def run_reference(
    program: Program,
    stimuli: list[Stimulus],
    options: Options,
    *,
    sink: Sink | None = None,
    progress: Progress | None = None,
    shuffle_seed: int | None = None,
    probes: Sequence[Probe] = (),
    stations: Mapping[str, type[Any]] | None = None,
) -> Result:
    """Simulate ``stimuli``, one per sample, on ``program`` by the rules of docs/machine.md.

    ``sink`` receives the trace in sorted chunks (a sample at a time when isolated) instead of ``Result.trace``. ``shuffle_seed`` permutes the order
    of messages and stations within every instant, which must not change anything. ``probes`` watch services, puts and steps. ``stations`` replaces
    station classes by kind (port, synapse, core, soma, sender, router); a class is made with (machine, number).

    Raises RunError: streamed in free without a window; Deadlock or Livelock, the trace up to then being with the sink; DataError: a malformed
    stimulus.
    """
    if options.streamed and program.sync == "free" and not options.window_ps:
        raise RunError("sync free streams samples in fixed windows without reset; give window_ps, or use isolated samples or sync wavefront")
    for k, stimulus in enumerate(stimuli):
        check_stimulus(program, stimulus, options.first_sample + k)
    if program.sync == "settle":
        stimuli = differences(program, stimuli, options.streamed, options.first_sample)
    plan = Plan(program, options.streamed, len(stimuli))
    check_stop(program, options.stop_margin, options.stop_after_ps, options.streamed)
    record = Recorder(plan, options, len(stimuli), sink, tuple(probes))
    shuffle = None if shuffle_seed is None else random.Random(shuffle_seed)
    simulations = [list(stimuli)] if options.streamed else [[stimulus] for stimulus in stimuli]
    for k, given in enumerate(simulations):
        record.sample = k
        number = 0 if options.streamed else options.first_sample + k
        stop = _stop(plan, options, given, number, stations or {}) if options.stop_margin else None
        machine = Machine(plan, options, record, given, number, shuffle, stations or {})
        if stop is not None and (machine.closes is None or stop.time <= machine.closes):
            machine.closes = stop.time
        else:
            stop = None
        try:
            stuck = machine.run()
        except RunError:
            record.flush(machine)
            raise
        if stuck is not None and machine.closes is None:
            record.flush(machine)
            raise diagnose(program, stuck)
        record.sample_ended(machine, cut=stuck is not None and stop is None, stop=None if stuck is None else stop)
        if progress is not None:
            progress(len(stimuli) if options.streamed else k + 1, len(stimuli))
    return record.result()


def _stop(plan: Plan, options: Options, given: list[Stimulus], number: int, stations: Mapping[str, type[Any]]) -> Stop | None:
    """Where a sample stops by its margin, from a run of it that does not: what comes after the stop changes nothing before it."""
    record = Recorder(plan, replace(options, record=False, spikes=False, state=False), 1, None, ())
    with suppress(RunError):  # it may lie behind the stop; if not, the run that counts meets it too
        Machine(plan, options, record, given, number, None, stations).run()
    looks = list(takewhile(lambda look: look[0].end >= 0, record.looks()))
    found = stop_time(((service.end, margin) for service, _, _, margin in looks), options.stop_margin, options.stop_after_ps)
    if found is None:
        return None
    time, first, last = found
    service, server = looks[first][:2]
    return Stop(time, server, service.n, *looks[last][2:])
