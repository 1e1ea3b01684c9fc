"""What the compiled libraries of the wheels hold, looked at without running them.

`make test-wheels` asks this of the wheels in `RGBT_FUSION_WHEELS`. It needs the package lief, which
reads the formats of Linux, macOS and Windows.
"""

import functools
import hashlib
import os
import runpy
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLATFORMS = runpy.run_path(str(ROOT / "hatch_build.py"))["PLATFORMS"]
WHEELS = os.environ.get("RGBT_FUSION_WHEELS")

MOST_BYTES = 400_000
"""What the compiled library of a wheel may weigh."""

EXPORTED = {
    f"rgbt_fusion_{name}"
    for name in (
        "bound",
        "conv_backward",
        "conv_forward",
        "level",
        "loop_over_channels",
        "loop_over_tokens",
        "scan_backward",
        "scan_forward",
    )
}

ADDED_BY_THE_LINKER = {"__dso_handle", "_mh_dylib_header"}
"""Names of the file itself, on macOS."""

NEEDED_ON_MACOS = {
    "___bzero",
    "__availability_version_check",  # since macOS 10.15
    "_aligned_alloc",  # since macOS 10.15
    "_bzero",
    "_calloc",
    "_expf",
    "_free",
    "_log1pf",
    "_memcpy",
    "_memset",
    "_pthread_create",
    "_pthread_getspecific",
    "_pthread_join",
    "_pthread_key_create",
    "_pthread_once",
    "_pthread_setspecific",
    "dyld_stub_binder",
}
"""What the libraries may take from libSystem: all of it is there in macOS 11, and none of it has a
variable number of arguments, which Apple's processors pass in their own way."""

LINUX = [name for name in PLATFORMS if "linux" in name]
MACOS = [name for name in PLATFORMS if name.startswith("macos")]

# of Apple's cs_blobs.h
EMBEDDED_SIGNATURE = 0xFADE0CC0
CODE_DIRECTORY = 0xFADE0C02
AD_HOC = 0x2
SHA256 = 2


def library_of(platform: str) -> bytes:
    """Return the compiled library in the wheel of a platform."""
    if not WHEELS:
        pytest.skip("RGBT_FUSION_WHEELS names no folder: the wheels are not looked at")
    made_for = PLATFORMS[platform]
    (wheel,) = Path(WHEELS).glob(f"*-{made_for.tag}.whl")
    return zipfile.ZipFile(wheel).read(f"rgbt_fusion/ops/native/{made_for.library}")


@functools.cache
def parsed(platform: str) -> Any:
    """Return that library as lief reads it; what it holds is gone with it, so it is kept."""
    content = library_of(platform)
    lief = pytest.importorskip("lief", reason="no lief: the wheels are not looked at")
    if platform in LINUX:
        return lief.ELF.parse(list(content))
    if platform in MACOS:
        return lief.MachO.parse(list(content))
    return lief.PE.parse(list(content))


def parsed_macos(platform: str) -> Any:
    """Return the one library of a file that could hold one per processor."""
    (library,) = parsed(platform)
    return library


def exported(library: Any) -> set[str]:
    """Return the names that a program finds in the library, as C spells them."""
    names = {function.name for function in library.exported_functions}
    return {name.removeprefix("_") for name in names}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_library_is_small(platform: str) -> None:
    assert len(library_of(platform)) <= MOST_BYTES


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_library_exports_what_python_calls_and_nothing_else(platform: str) -> None:
    if platform in MACOS:
        assert exported(parsed_macos(platform)) - ADDED_BY_THE_LINKER == EXPORTED
    else:
        assert exported(parsed(platform)) == EXPORTED


@pytest.mark.parametrize("platform", LINUX)
def test_on_linux_it_needs_the_c_library_alone(platform: str) -> None:
    library = parsed(platform)
    allowed = {"libc.so"} if "musl" in platform else {"libc.so.6", "libm.so.6", "libpthread.so.0"}
    assert set(library.libraries) <= allowed


@pytest.mark.parametrize("platform", [name for name in LINUX if "manylinux" in name])
def test_on_glibc_it_asks_for_no_newer_version_than_its_tag_says(platform: str) -> None:
    wanted = [
        entry.name
        for needed in parsed(platform).symbols_version_requirement
        for entry in needed.get_auxiliary_symbols()
    ]
    versions = [tuple(map(int, name.removeprefix("GLIBC_").split("."))) for name in wanted]
    assert versions
    assert max(versions) <= (2, 17)


@pytest.mark.parametrize("platform", LINUX)
def test_on_linux_code_is_neither_written_nor_is_the_stack_run(platform: str) -> None:
    library = parsed(platform)
    import lief

    assert library.has_nx
    assert not library.has(lief.ELF.DynamicEntry.TAG.TEXTREL)
    rights = [int(segment.flags) for segment in library.segments]
    written_and_run = 0b011
    assert not any(flags & written_and_run == written_and_run for flags in rights)


@pytest.mark.parametrize("platform", MACOS)
def test_on_macos_it_needs_libsystem_alone_from_version_11_on(platform: str) -> None:
    library = parsed_macos(platform)
    own_name = f"@rpath/{PLATFORMS[platform].library}"
    assert {entry.name for entry in library.libraries} == {own_name, "/usr/lib/libSystem.B.dylib"}
    assert list(library.build_version.minos) == [11, 0, 0]
    assert str(library.build_version.platform).endswith("MACOS")
    assert {symbol.name for symbol in library.imported_symbols} <= NEEDED_ON_MACOS


def test_on_apples_processors_segments_begin_at_pages_of_16_kb() -> None:
    starts = [segment.virtual_address for segment in parsed_macos("macos-arm64").segments]
    assert starts
    assert all(start % (16 << 10) == 0 for start in starts)


@pytest.mark.parametrize("platform", MACOS)
def test_on_macos_code_is_relocated_nowhere(platform: str) -> None:
    library = parsed_macos(platform)
    (code,) = (segment for segment in library.segments if segment.name == "__TEXT")
    written = 0b010
    assert not int(code.init_protection) & written
    segments = {entry.segment.name for entry in library.relocations if entry.has_segment}
    bound = {entry.segment.name for entry in library.bindings if entry.has_segment}
    assert "__TEXT" not in segments | bound


def test_on_apples_processors_it_is_signed_as_the_system_asks() -> None:
    """macOS on arm64 kills a process that loads code without a signature. One that names nobody
    (ad hoc) is enough; its hashes must be those of the file's pages."""
    content = library_of("macos-arm64")
    signature = parsed_macos("macos-arm64").code_signature
    assert signature is not None
    start = signature.data_offset
    magic, _, count = struct.unpack_from(">3I", content, start)
    assert magic == EMBEDDED_SIGNATURE
    index = struct.iter_unpack(">2I", content[start + 12 : start + 12 + 8 * count])
    blobs = {struct.unpack_from(">I", content, start + at)[0]: start + at for _, at in index}
    directory = blobs[CODE_DIRECTORY]
    flags, hash_at = struct.unpack_from(">2I", content, directory + 12)
    slots, limit = struct.unpack_from(">2I", content, directory + 28)
    hash_size, hash_type, _, page_bits = struct.unpack_from("4B", content, directory + 36)
    assert flags & AD_HOC
    assert (hash_type, hash_size) == (SHA256, 32)
    assert limit == start, "all that comes before the signature is signed"
    page = 1 << page_bits
    pages = [content[at : min(at + page, limit)] for at in range(0, limit, page)]
    hashes = directory + hash_at
    signed = [content[hashes + 32 * i : hashes + 32 * i + 32] for i in range(slots)]
    assert signed == [hashlib.sha256(one).digest() for one in pages]


def test_on_windows_it_needs_the_system_alone() -> None:
    library = parsed("windows-x86_64")
    needed = {entry.name.lower() for entry in library.imports}
    assert {name for name in needed if not name.startswith("api-ms-win-crt-")} == {"kernel32.dll"}
    assert library.is_pie, "it may be loaded at any address"
    assert library.has_nx
