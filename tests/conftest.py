"""What every test run shares: blocked packages, and skips that must be explained."""

import importlib.abc
import os
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")
BLOCKED = [name for name in os.environ.get("RGBT_FUSION_BLOCKED", "").split(",") if name]


class _Blocker(importlib.abc.MetaPathFinder):
    """Make packages look as if they were not installed."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(
                f"No module named {fullname!r} (blocked for this run)", name=fullname
            )


if BLOCKED:
    sys.meta_path.insert(0, _Blocker())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips",
        action="store_true",
        help="fail on a skip that tests/allowed_skips.txt does not explain",
    )


def pytest_configure(config: pytest.Config) -> None:
    # The warning has its own test; in a run without the compiled kernels every other test would
    # meet it too.
    if os.environ.get("RGBT_FUSION_EXPECT_NO_NATIVE"):
        config.addinivalue_line(
            "filterwarnings", "ignore:rgbt_fusion was installed without:RuntimeWarning"
        )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute on one thread of the CPU."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def allowed_skips() -> list[tuple[str, str]]:
    """Return (test pattern, reason pattern) of each line `pattern | reason | why it is all
    right`."""
    lines = ALLOWED_SKIPS.read_text().splitlines()
    rows = [line.split("|") for line in lines if line.strip() and not line.startswith("#")]
    return [(row[0].strip(), row[1].strip()) for row in rows]


def pytest_terminal_summary(terminalreporter, exitstatus, config) -> None:
    if not config.getoption("--strict-skips"):
        return
    unexplained = []
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not any(
            fnmatch(report.nodeid, test) and fnmatch(reason, why) for test, why in allowed_skips()
        ):
            unexplained.append(f"{report.nodeid}: {reason}")
    if unexplained:
        terminalreporter.section("skips that tests/allowed_skips.txt does not explain", red=True)
        for line in unexplained:
            terminalreporter.line(line)
        terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED
