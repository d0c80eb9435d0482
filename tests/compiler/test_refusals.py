"""What a chip cannot run is refused with layer, value, limit and remedy, the limit being the chip's own; at the limit it compiles and runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurosim.chip import Chip, load_chip
from neurosim.compiler.pipeline import compile_network
from neurosim.compiler.supports import check
from neurosim.engine.run import simulate_stimuli
from neurosim.errors import DoesNotFit, NeurosimError, UnsupportedLayer
from neurosim.host import encode, load_data
from neurosim.network import Network
from tests.compiler.refusal_cases import CASES, LARGER, NUMERIC, SPECK, conv, dense, lif, net


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


@pytest.mark.parametrize("name", NUMERIC)
def test_a_limit_is_refused_beyond_and_runs_at_it(name: str) -> None:
    case = NUMERIC[name]
    chip = load_chip(case.chip, case.overrides)
    limit = limit_of(chip, case.key)
    runs(case.build(limit), chip)
    for spec, most in ((chip, limit), (load_chip(case.chip, [*case.overrides, f"{case.key}={case.changed}"]), case.changed)):
        error = refused(case.build(case.over(most)), spec)
        assert isinstance(error, UnsupportedLayer)
        assert (error.layer, error.value, error.limit) == (case.layer, case.needs(case.over(most)), most)
        assert error.remedy
        assert spec.name in error.reason or "barrier" in error.reason


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_run_is_refused_by_name(name: str) -> None:
    case = CASES[name]
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


def test_remedies_that_are_settings_lead_to_acceptance() -> None:
    """The remedy of a layer too large for any core is a setting of the chip: with it the layer is cut by channels, and its source sends twice."""
    big = net((1, 64, 64), conv("c", 32, 1, 1, 1), lif("bad"), conv("d", 1, 32, 8, 8, stride=8), lif("m"), dense("fc", 2))
    error = refused(big, load_chip(SPECK))
    assert isinstance(error, UnsupportedLayer)
    assert (error.layer, error.value, error.limit) == ("bad", 131072, 65536)
    setting = error.remedy.split("--set ")[1].split(")")[0]
    assert setting == "memory.split=channels"
    compiled = compile_network(big, load_chip(SPECK, [setting]), audit=False)
    (split,) = compiled.report["splits"]
    assert (split["population"], split["channels"]) == ("bad", 2)
    small = load_chip(SPECK, [setting, "memory.neuron_words=1024"])
    runs(net((1, 8, 8), conv("c", 32, 1, 1, 1), lif("bad"), conv("d", 1, 32, 8, 8, stride=8), lif("m"), dense("fc", 2)), small)
