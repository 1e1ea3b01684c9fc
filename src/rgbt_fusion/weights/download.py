"""Weights by address: downloaded once, held to their SHA-256, kept in a folder."""

import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, TypeAlias
from urllib.parse import urlsplit

from rgbt_fusion.files.whole import write_text, writing
from rgbt_fusion.weights.stored_tensors import CheckpointError

__all__ = [
    "CACHE_VARIABLE",
    "OnDownload",
    "cache_folder",
    "download_bar",
    "fetch_weights",
    "is_address",
    "sha256_of",
]

CACHE_VARIABLE = "RGBT_FUSION_CACHE"
"""The environment variable that names the folder of downloaded weights."""

OnDownload: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes that are there, and all bytes of the file where the server says them."""

BLOCK_BYTES = 1 << 20

TIMEOUT_S = 60.0
"""How long a server may say nothing."""


def is_address(name: str | Path) -> bool:
    """Say whether a name of weights is an address of the web.

    Example:
        >>> from rgbt_fusion.weights.download import is_address
        >>> is_address("https://example.org/ainet.safetensors"), is_address("ainet.safetensors")
        (True, False)
    """
    return urlsplit(str(name)).scheme in ("http", "https")


def cache_folder() -> Path:
    """Return the folder of downloaded weights, which may not exist yet.

    It is ``$RGBT_FUSION_CACHE``, else ``rgbt_fusion`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.
    """
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own)
    usual = os.environ.get("XDG_CACHE_HOME")
    return (Path(usual) if usual else Path.home() / ".cache") / "rgbt_fusion"


def fetch_weights(
    address: str, *, sha256: str | None = None, on_progress: OnDownload | None = None
) -> Path:
    """Return the file of an address, downloaded if it is not in the cache folder yet.

    Without ``sha256`` the sum of the first download is recorded beside the file, and the file is
    held to it from then on. A download that is cut or has another sum leaves nothing behind.

    Args:
        address: the address, ``http`` or ``https``.
        sha256: the SHA-256 that the file must have, 64 hexadecimal digits.
        on_progress: called while the file comes in.

    Raises:
        ValueError: ``address`` is no address of the web, or ``sha256`` is not 64 hexadecimal
            digits.
        CheckpointError: the file cannot be downloaded or does not have the sum.
    """
    if not is_address(address):
        raise ValueError(f"address must begin with http:// or https://, got {address!r}")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 must be 64 hexadecimal digits, got {sha256!r}")
    path = _place(address)
    record = path.with_name(path.name + ".sha256")
    recorded = None
    if record.is_file():
        recorded = record.read_text(encoding="utf-8", errors="replace").strip()
    expected = recorded if sha256 is None else sha256.lower()
    if not path.is_file():
        _download(address, path, expected, on_progress)
    found = sha256_of(path)
    if expected is not None and found != expected:
        raise CheckpointError(
            f"{path} must have the SHA-256 {expected}, got {found}: delete the file to download "
            "it again"
        )
    if recorded != found:
        write_text(record, f"{found}\n")
    return path


def download_bar() -> OnDownload | None:
    """Return what shows a download on a terminal; None where standard error is no terminal."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int | None) -> None:
        size = f"{done / 1e6:.0f} MB"
        if total:
            size = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
        end = "\n" if done == total else ""
        sys.stderr.write(f"\rweights: {size}{end}")
        sys.stderr.flush()

    return show


def _place(address: str) -> Path:
    """Return where the file of an address lies: addresses that end alike do not meet."""
    name = Path(urlsplit(address).path).name or "weights"
    tag = sha256(address.encode()).hexdigest()[:12]
    return cache_folder() / f"{tag}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"


def _download(
    address: str, path: Path, expected: str | None, on_progress: OnDownload | None
) -> None:
    digest = sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer,
            writing(path) as part,
            part.open("wb") as file,
        ):
            announced = answer.headers.get("Content-Length")
            total = int(announced) if announced else None
            done = 0
            for block in _blocks(answer):
                file.write(block)
                digest.update(block)
                done += len(block)
                if on_progress is not None:
                    on_progress(done, total)
            if total is not None and done != total:
                raise CheckpointError(
                    f"the download of {address} was cut after {done} of {total} bytes: try again"
                )
            if expected is not None and digest.hexdigest() != expected:
                raise CheckpointError(
                    f"{address} must have the SHA-256 {expected}, got {digest.hexdigest()}: "
                    "nothing was kept"
                )
    except urllib.error.HTTPError as error:
        raise CheckpointError(f"{address} cannot be downloaded: {error}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = getattr(error, "reason", None) or error
        raise CheckpointError(f"{address} cannot be downloaded: {reason}") from error


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = sha256()
    with path.open("rb") as file:
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()
