from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile("long", deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
settings.load_profile("long" if os.environ.get("NEUROSIM_EXAMPLES") else "ci")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recordings and data sets beside the checkout; tests that read it are marked `shared`."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no shared/data folder beside the checkout")
    return SHARED / "data"
