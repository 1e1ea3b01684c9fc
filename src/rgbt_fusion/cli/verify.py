"""``rgbt-fusion verify``: compare the installed files with the record of the installation."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from importlib.metadata import Distribution, PackagePath

PACKAGE = "rgbt_fusion"
"""The folder of the package, as its record names it."""


def verify() -> None:
    """Compare each installed file with the hash that its wheel recorded.

    Files that were changed, are missing or do not belong to the package are listed, and the status
    is then 1.
    """
    installed = _installation()
    recorded = [path for path in installed.files or () if path.parts[0] == PACKAGE]
    if not recorded:
        raise ValueError(
            "rgbt-fusion verify must run in an installed copy, got an editable one: "
            "its files have no record"
        )
    findings = [*_differences(recorded), *_strangers(recorded)]
    for finding in findings:
        typer.echo(finding)
    hashed = sum(path.hash is not None for path in recorded)
    typer.echo(
        f"rgbt-fusion {installed.version}: {hashed} recorded files, {len(findings)} findings"
    )
    if findings:
        raise typer.Exit(1)


def _installation() -> "Distribution":
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        return distribution("rgbt-fusion")
    except PackageNotFoundError as error:
        raise ModuleNotFoundError("rgbt-fusion is not installed: there is no record") from error


def _differences(recorded: list["PackagePath"]) -> Iterator[str]:
    """Say which recorded files are not there, or have other contents."""
    import base64
    import hashlib

    for path in recorded:
        # byte code is made after the installation: its lines have no hash
        if path.hash is None:
            continue
        try:
            contents = Path(str(path.locate())).read_bytes()
        except OSError as error:
            yield f"cannot be read: {path} ({error.strerror})"
            continue
        digest = hashlib.new(path.hash.mode, contents).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != path.hash.value:
            yield f"changed: {path}"


def _strangers(recorded: list["PackagePath"]) -> Iterator[str]:
    """Say which files lie in the package that its record does not know."""
    known = {Path(str(path.locate())).resolve() for path in recorded}
    (marker,) = (path for path in recorded if path.parts[1:] == ("__init__.py",))
    home = Path(str(marker.locate())).resolve().parent
    for path in sorted(home.rglob("*")):
        is_byte_code = "__pycache__" in path.parts
        if path.is_file() and not is_byte_code and path not in known:
            yield f"not recorded: {PACKAGE}/{path.relative_to(home).as_posix()}"
