from __future__ import annotations

from pathlib import Path

import pytest

from tests.validation.cases import Case, cases, recorded

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"


def stands(found: list[Case]) -> None:
    """Every case is a row of the page as it comes out now, a miss as a miss."""
    page = PAGE.read_text("utf-8").splitlines()
    for case in found:
        assert case.row() in page, case.name
        assert case.hit or case.role != "calibration", case.name  # what was fitted must be hit
    assert len({case.name for case in found}) == len(found)


def test_the_page_has_every_row_that_is_calculated_and_no_other() -> None:
    found = cases()
    stands(found)
    assert {case.role for case in found} == {"calibration", "check", "prediction"}
    assert any(not case.hit for case in found)  # Speck's gait-night and 1x1 kernel: nobody has made them fit
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.endswith(("| hit |", "| **miss** |"))]
    assert len(rows) == len(found) + 2  # and the two of the recordings


@pytest.mark.shared
@pytest.mark.slow
def test_the_page_has_the_rows_of_the_recordings(shared: Path) -> None:
    stands([*recorded(shared)])
