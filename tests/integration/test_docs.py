"""The documentation builds without a network or a warning, and leaves no public name out."""

import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import rgbt_fusion

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages from a copy of the sources, beside the files that they include."""
    pytest.importorskip("sphinx", reason="Sphinx is not installed")
    root = tmp_path_factory.mktemp("docs")
    shutil.copytree(DOCS, root / "docs", ignore=shutil.ignore_patterns("_build"))
    for beside in ("examples", "benchmarks", "CHANGELOG.md"):
        (root / beside).symlink_to(DOCS.parent / beside)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, str(root / "docs"), str(root / "html")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return root / "html"


@pytest.mark.slow
def test_every_public_name_is_on_a_page(site: Path) -> None:
    header, _, packed = (site / "objects.inv").read_bytes().partition(b"zlib.\n")
    assert header.startswith(b"# Sphinx inventory")
    lines = zlib.decompress(packed).decode().splitlines()
    shown = {line.split(" ")[0] for line in lines}
    public = {f"rgbt_fusion.{name}" for name in rgbt_fusion.__all__ if name != "__version__"}
    assert public <= shown, sorted(public - shown)


@pytest.mark.slow
def test_a_page_asks_the_network_for_nothing(site: Path) -> None:
    wanted = re.compile(r"<(?:script|img|link)[^>]*(?:src|href)=\"https?://")
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        assert not wanted.search(page.read_text()), page.name


@pytest.mark.slow
def test_formulas_are_drawn_by_the_browser(site: Path) -> None:
    page = (site / "api" / "layers.html").read_text()
    assert page.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') > 15
    assert not re.search(r"<script[^>]*mathjax", page.lower())
