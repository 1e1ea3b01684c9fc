"""Build every file of a release: a wheel per platform, the pure wheel and the source distribution.

    python build_wheels.py [FOLDER]      into dist/ by default

One Linux machine is enough: the package ziglang brings a C compiler for each platform of
`hatch_build.PLATFORMS`. Times in the archives are those of the last commit, so two builds of one
commit have the same bytes.
"""

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hatch_build import PLATFORM_VARIABLE, PLATFORMS

ROOT = Path(__file__).resolve().parent


def build(kind: str, folder: Path, platform: str) -> Path:
    """Build one file of the release.

    Args:
        kind: ``wheel`` or ``sdist``.
        folder: where it goes.
        platform: a name of ``PLATFORMS``, or ``pure``.

    Returns:
        The file.
    """
    target = folder / f".{kind}-{platform}"
    environment = os.environ | {PLATFORM_VARIABLE: platform, "SOURCE_DATE_EPOCH": commit_time()}
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{kind} for {platform} failed:\n{done.stdout}{done.stderr}")
    (built,) = target.iterdir()
    moved = built.replace(folder / built.name)
    target.rmdir()
    return moved


def commit_time() -> str:
    """Return the time of the last commit, in seconds; outside a checkout, that of this file."""
    command = ["git", "log", "-1", "--format=%ct"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        return str(int(Path(__file__).stat().st_mtime))
    return done.stdout.strip()


def main(folder: Path) -> None:
    """Build all, and print each file with its size and hash."""
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    wanted = [("sdist", "pure"), ("wheel", "pure"), *(("wheel", name) for name in PLATFORMS)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = list(pool.map(lambda job: build(job[0], folder, job[1]), wanted))
    lines = []
    for path in files:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{digest}  {path.name}")
        print(f"{path.stat().st_size / 1e6:6.2f} MB  {lines[-1]}")
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    print(f"{len(files)} files in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["dist"]))
