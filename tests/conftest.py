"""Every asynchronous test runs on asyncio and on trio; what tests tell is printed at the end."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.telling import TOLD, Tell

# No test is about time: a machine may be as busy as it likes.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop's name; both, unless a test narrows it for an asyncio-only driver."""
    backend: str = request.param
    return backend


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Says a line for the summary, from whatever process the test runs in."""

    def add(line: str) -> None:
        request.node.user_properties.append((TOLD, _repaired(line)))

    return add


def _repaired(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Makes what was captured fit for the way to another process, which half a surrogate pair in a
    line of the log would not survive."""
    report = yield
    report.sections = [(name, _repaired(text)) for name, text in report.sections]
    if report.failed and _repaired(report.longreprtext) != report.longreprtext:
        report.longrepr = _repaired(report.longreprtext)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what the tests have told, in the order of their names."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if isinstance(report, pytest.TestReport) and report.when == "call"
    ]
    told = [
        line
        for report in sorted(reports, key=lambda report: report.location)
        for name, line in report.user_properties
        if name == TOLD
    ]
    if told:
        terminalreporter.section("what the tests tell")
        for line in told:
            terminalreporter.line(str(line))
