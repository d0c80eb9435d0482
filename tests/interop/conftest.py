"""Models of other libraries, in an environment of their own (make test-interop). There, a run in which nothing was tried is a failure."""

from __future__ import annotations

import os

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not os.environ.get("NEUROSIM_INTEROP"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    tried = {name: len(reporter.stats.get(name, [])) for name in ("passed", "failed", "error")}
    if not any(tried.values()):
        reporter.write_line("interop: every case was skipped; install neurosim[interop]", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
