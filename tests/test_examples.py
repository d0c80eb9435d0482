"""The examples run as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("by_hand.py", ("lif2 fired", "native")),
        pytest.param("asynchrony.py", ("wavefront jitter  50%", "free      jitter   0%"), marks=pytest.mark.slow),
    ],
)
def test_example(name: str, words: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, EXAMPLES / name], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words)
    assert not list(tmp_path.iterdir())
