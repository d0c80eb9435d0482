"""What a chip cannot run is refused with layer, value, limit and remedy, the limit being the chip's own; at the limit it compiles and runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from neurosim.chip import Chip, load_chip
from neurosim.cli.main import app
from neurosim.compiler.check.supports import check
from neurosim.compiler.pipeline import compile_network
from neurosim.engine.run import simulate_stimuli
from neurosim.errors import DoesNotFit, NeurosimError, UnsupportedLayer
from neurosim.golden import run_graph, run_network
from neurosim.host import encode, load_data
from neurosim.network import Network
from tests.compiler.check.op_refusal_cases import FLAGGED, NUMERIC_OPS, OP_CASES, spikes_pooled, too_large
from tests.compiler.check.refusal_cases import CASES, LARGER, NUMERIC, SPECK, pooled

NUMERICS = NUMERIC | NUMERIC_OPS
REFUSALS = CASES | OP_CASES


def limit_of(chip: Chip, key: str) -> int:
    found: Any = chip
    for step in key.split("."):
        found = found[step] if isinstance(found, dict) else getattr(found, step)
    value = getattr(found, "value", found)
    return max(value) if isinstance(value, tuple) else int(value)


def runs(network: Network, chip: Chip, sync: str | None = None) -> None:
    """Compiles, passes the audit, and simulates a few events."""
    assert all(row.status != "refused" for row in check(network, chip))
    program = compile_network(network, chip, sync).program
    contract = network.input_contract
    rng = np.random.default_rng(0)
    if contract.kind == "image":
        data = rng.integers(0, 256, (1, *contract.shape), dtype=np.uint8)
    else:
        data = np.zeros((1, network.steps, *contract.shape), np.uint8)
        data.flat[[0, *rng.integers(0, data.size, 3)]] = 1
    result = simulate_stimuli(program, encode(program, load_data(data, program)), engine="reference")
    assert result.completion_ps[0] > 0


def refused(network: Network, chip: Chip, sync: str | None = None) -> NeurosimError:
    """The error of compiling, one line with a remedy, and the same from ``check``."""
    with pytest.raises((UnsupportedLayer, DoesNotFit)) as caught:
        compile_network(network, chip, sync)
    assert "\n" not in str(caught.value)
    if isinstance(caught.value, UnsupportedLayer) and sync is None:
        rows = [row for row in check(network, chip) if row.status == "refused"]
        assert (rows[0].layer, rows[0].value, rows[0].limit) == (caught.value.layer, caught.value.value, caught.value.limit)
    return caught.value


@pytest.mark.parametrize("name", NUMERICS)
def test_a_limit_is_refused_beyond_and_runs_at_it(name: str) -> None:
    case = NUMERICS[name]
    chip = load_chip(case.chip, case.overrides)
    limit = limit_of(chip, case.key)
    runs(case.build(limit), chip)
    for spec, most in ((chip, limit), (load_chip(case.chip, [*case.overrides, f"{case.key}={case.changed}"]), case.changed)):
        error = refused(case.build(case.over(most)), spec)
        assert isinstance(error, UnsupportedLayer)
        assert (error.layer, error.value, error.limit) == (case.layer, case.needs(case.over(most)), most)
        assert error.remedy
        assert spec.name in error.reason or "barrier" in error.reason


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_run_is_refused_by_name(name: str) -> None:
    case = REFUSALS[name]
    chip = load_chip(case.chip, case.overrides)
    error = refused(case.build(), chip, case.sync)
    assert isinstance(error, UnsupportedLayer)
    assert error.layer == case.layer
    if case.value is not None:
        assert error.value == case.value
    if case.limit is not None:
        assert error.limit == case.limit
    assert error.remedy
    assert all(part in str(error) for part in (case.layer, str(error.value), error.remedy))
    runs(case.twin(), load_chip(case.chip) if name == "readout where there is none" else chip, case.sync)


@pytest.mark.parametrize("name", LARGER)
def test_what_is_broken_or_too_large_is_refused(name: str) -> None:
    build, twin, preset, overrides, sync, kind, message = LARGER[name]
    chip = load_chip(preset, overrides)
    with pytest.raises(kind, match=message) as caught:
        compile_network(build(), chip, sync)
    assert "\n" not in str(caught.value)
    runs(twin(), chip, sync)


@pytest.mark.parametrize("name", FLAGGED)
def test_a_remedy_that_is_a_flag_leads_to_acceptance(name: str, tmp_path: Path) -> None:
    """Through the command line: refused with the flag named, accepted, compiled and run with it; under steps it fires as the network does."""
    case = FLAGGED[name]
    network, model, program = case.build(), str(tmp_path / "case.nsnet"), str(tmp_path / "case.nsim")
    network.save(model)
    chip = ["--chip", case.chip, *(part for text in case.overrides for part in ("--set", text))]
    refusal = command("check", model, *chip, "--json", exit_code=1)
    (row,) = [row for row in json.loads(refusal)["layers"] if row["status"] == "refused"]
    assert row["layer"] == case.layer
    assert case.flag in row["remedy"]
    error = command("compile", model, *chip, "-o", program, exit_code=2)
    assert case.flag in error
    assert json.loads(command("check", model, *chip, "--json", *case.flag.split()))["ok"]
    report = json.loads(command("compile", model, *chip, "-o", program, "--json", *case.flag.split()))
    assert case.layer in {entry["layer"] for entry in report["rewrites"]} or report["splits"]
    data = events(network, np.random.default_rng(0), 4, 0.4)
    np.savez(tmp_path / "data.npz", events=data)
    assert json.loads(command("run", program, "--input", str(tmp_path / "data.npz"), "--json"))["samples"] == 4
    if case.chip != SPECK:
        compiled = compile_network(network, case.chip, "wavefront", rewrite=dict([case.flag.split()[1].split("=")]))
        assert case.layer not in {p.name for p in compiled.integer.populations if p.op is not None}
        found, wanted = run_graph(compiled.integer, data, compiled.program.chip), run_network(network, data)
        both = set(found.spikes) & set(wanted.spikes)
        assert len(both) > 1
        for layer in both:
            assert np.array_equal(found.spikes[layer], wanted.spikes[layer]), layer


def test_sums_for_averages() -> None:
    """``--rewrite avgpool=sum`` gives the network with sums in place of average pools."""
    average, total = (pooled(2, op=op) for op in ("avg_pool", "sum_pool"))
    data = events(average, np.random.default_rng(1), 4, 0.05)
    graphs = [compile_network(average, "async-mesh", rewrite=rewrite).integer for rewrite in (None, {"avgpool": "sum"})]
    plain, summed = (run_graph(graph, data, load_chip("async-mesh")).spikes["m"] for graph in graphs)
    assert np.array_equal(summed, run_network(total, data).spikes["m"])
    assert np.array_equal(plain, run_network(average, data).spikes["m"])
    assert not np.array_equal(plain, summed)


@pytest.mark.parametrize("flag", ["maxpool=sum", "gate=or_pool", "attention=neurons", "maxpool"])
def test_rewritings_that_do_not_exist(flag: str, tmp_path: Path) -> None:
    spikes_pooled(2, 4).save(tmp_path / "case.nsnet")
    line = command("check", str(tmp_path / "case.nsnet"), "--rewrite", flag, exit_code=2).strip()
    assert "\n" not in line
    assert flag in line
    assert "maxpool=or_pool" in line


def command(*args: str, exit_code: int = 0) -> str:
    """What a command line prints (its error line when it fails)."""
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == exit_code, (result.exit_code, result.output, result.exception)
    return result.stderr if exit_code == 2 else result.stdout


def events(network: Network, rng: np.random.Generator, samples: int, density: float) -> NDArray[np.uint8]:
    """Binary events [n, T, c, y, x]."""
    return (rng.random((samples, network.steps, *network.input_contract.shape)) < density).astype(np.uint8)


def test_a_split_layer_takes_two_cores_and_runs() -> None:
    error = refused(too_large(64), load_chip(SPECK))
    assert isinstance(error, UnsupportedLayer)
    assert (error.layer, error.value, error.limit) == ("bad", 131072, 65536)
    compiled = compile_network(too_large(64), load_chip(SPECK, ["memory.split=channels"]), audit=False)
    (split,) = compiled.report["splits"]
    assert (split["population"], split["channels"]) == ("bad", 2)
    small = load_chip(SPECK, ["memory.split=channels", "memory.neuron_words=1024"])
    runs(too_large(8), small)
