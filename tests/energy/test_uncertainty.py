from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from neurosim.chip import presets
from neurosim.energy import COMPONENTS, books, energy_draws, intervals, load_book, price, sensitivities
from neurosim.energy.pricing import SPREAD
from tests.energy import handmade


def test_intervals_enclose_the_energy_and_their_parts_add_up() -> None:
    p = handmade.program()
    e = price(p, handmade.busy(p), host_macs_per_sample=10)
    draws = energy_draws(e, 4000)
    np.testing.assert_allclose(draws["chip"], np.sum([draws[name] for name in COMPONENTS], axis=0))
    np.testing.assert_allclose(draws["total"], draws["chip"] + draws["host"])
    assert e.board is not None
    assert e.board_fj is not None
    np.testing.assert_allclose(
        np.quantile(draws["board"] - draws["chip"] + draws["static"], (0, 0.5, 1)) / e.board.energy_fj * 2, (29.5 / 96.3, 1, 106.1 / 96.3), rtol=0.02
    )
    ranges, per = intervals(e, 4000), e.per_sample() | {"board": e.board_fj / e.samples}
    assert set(ranges) == set(per)
    for name, interval in ranges.items():
        assert interval.low <= interval.median <= interval.high
        assert interval.low < per[name] < interval.high
    assert intervals(e, 4000) == ranges
    assert intervals(e, 4000, seed=1) != ranges


@pytest.mark.parametrize("name", [*books(), *presets()])
def test_no_figure_lies_outside_its_own_interval(name: str) -> None:
    """Also where the value is an end of its range, as SANA-FE's synaptic operation or a part's addition."""
    p = handmade.program()
    e = price(p, handmade.busy(p), host_macs_per_sample=10, prices=load_book(name).prices(p.chip))
    for part, interval in intervals(e).items():
        figure = e.board_fj / e.samples if part == "board" and e.board_fj is not None else e.per_sample()[part]
        assert interval.low <= figure <= interval.high
    line = max((line for line in e.lines if line.component == "synapse"), key=lambda line: line.energy_fj)
    alone = energy_draws(dataclasses.replace(e, lines=(line,), board=None))["synapse"]
    assert np.median(alone) * e.samples == pytest.approx(line.energy_fj, rel=0.02)


def test_one_price_alone_is_log_uniform_between_its_ends() -> None:
    p = handmade.program()
    e = price(p, handmade.busy(p))
    line = next(line for line in e.lines if line.event == "synaptic operations")
    alone = dataclasses.replace(e, lines=(dataclasses.replace(line, low=line.price / 4, high=line.price * 4),))
    values = energy_draws(alone, 20_000)["synapse"] / (line.energy_fj / e.samples)
    assert 0.25 <= values.min() < values.max() <= 4.0
    np.testing.assert_allclose(np.quantile(np.log2(values), (0.25, 0.5, 0.75)), (-1, 0, 1), atol=0.06)


def test_sensitivities_move_one_price_at_a_time() -> None:
    p = handmade.program()
    r = handmade.busy(p)
    e = price(p, r)
    rows = sensitivities(e)
    assert [row.swing for row in rows] == sorted((row.swing for row in rows), reverse=True)
    first = rows[0]
    line = next(line for line in e.lines if (line.component, line.event) == (first.component, first.event))
    spread = SPREAD[line.status]  # type: ignore[index]  # a status
    assert first.at_high_fj - first.at_low_fj == pytest.approx(line.energy_fj * (spread - 1 / spread) / e.samples)
    assert first.at_low_fj < e.total_fj / e.samples < first.at_high_fj
