import collections
import io
import json
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model_material import save_as_official
from rgbt_fusion.weights.stored_tensors import CheckpointError, open_weight_file
from shared_material import shared


def some_tensors() -> dict[str, torch.Tensor]:
    base = torch.arange(24.0).view(4, 6)
    return {
        "plain": torch.randn(3, 4),
        "view": base[1:, 2:].t(),
        "shares": base[:2],
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "double": torch.randn(2, dtype=torch.float64),
        "mask": torch.tensor([True, False]),
        "expanded": torch.ones(1).expand(5),
    }


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("wrapper", ["net", "model", "state_dict", None])
def test_torch_files_of_both_formats_give_their_tensors(
    tmp_path: Path, archive: bool, wrapper: str | None
) -> None:
    tensors = some_tensors()
    content = (
        collections.OrderedDict(tensors)
        if wrapper is None
        else {"epoch": 1, wrapper: tensors, "best": None}
    )
    torch.save(content, tmp_path / "file", _use_new_zipfile_serialization=archive)
    found = open_weight_file(tmp_path / "file").tensors
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name].read(), tensor)


def test_parameters_are_unwrapped(tmp_path: Path) -> None:
    torch.save({"weight": torch.nn.Parameter(torch.ones(2))}, tmp_path / "file.pth")
    assert open_weight_file(tmp_path / "file.pth").tensors["weight"].read().tolist() == [1, 1]


def test_safetensors_whatever_their_name(tmp_path: Path) -> None:
    tensors = {name: tensor.contiguous().clone() for name, tensor in some_tensors().items()}
    save_file(tensors, tmp_path / "weights.pth.tar", metadata={"who": "me"})
    file = open_weight_file(tmp_path / "weights.pth.tar")
    assert file.metadata == {"who": "me"}
    assert all(torch.equal(file.tensors[name].read(), tensor) for name, tensor in tensors.items())


def test_the_layout_of_the_official_trainers() -> None:
    folder = shared("conformance/checkpoint_envelope")
    expected = json.loads((folder / "expected.json").read_text())
    found = open_weight_file(folder / "official_layout.pth.tar").tensors
    assert {
        name: zlib.crc32(tensor.read().contiguous().numpy().tobytes())
        for name, tensor in found.items()
    } == expected["crc"]


def test_foreign_classes_are_neither_needed_nor_imported(tmp_path: Path) -> None:
    save_as_official({"weight": torch.ones(3)}, tmp_path / "official.pth.tar")
    assert "lib" not in sys.modules
    assert open_weight_file(tmp_path / "official.pth.tar").tensors.keys() == {"weight"}
    assert "lib" not in sys.modules


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("archive", [True, False])
def test_a_file_that_tries_to_run_code_gives_its_tensors_and_runs_nothing(
    tmp_path: Path, archive: bool
) -> None:
    ran = tmp_path / "it_ran"
    state = {"weight": torch.ones(3), "bias": Touch(ran)}
    torch.save(
        {"settings": Touch(ran), "net": state, Touch: 1},
        tmp_path / "bad.pth",
        _use_new_zipfile_serialization=archive,
    )
    assert open_weight_file(tmp_path / "bad.pth").tensors.keys() == {"weight"}
    assert not ran.exists()
    torch.load(tmp_path / "bad.pth", weights_only=False)
    assert ran.exists()


def rewritten(path: Path, change, **options) -> Path:
    """The archive at ``path`` with its entries passed through ``change(name, data)``; None leaves
    an entry out."""
    out = path.with_name("rewritten.pth")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", **options) as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return out


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    torch.save({"weight": torch.arange(1000.0)}, tmp_path / "good.pth")
    return tmp_path / "good.pth"


def test_truncated_files_are_refused(archive: Path, tmp_path: Path) -> None:
    torch.save(
        {"weight": torch.arange(1000.0)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False
    )
    save_file({"weight": torch.arange(1000.0)}, tmp_path / "new.safetensors")
    for path in (archive, tmp_path / "old.pth", tmp_path / "new.safetensors"):
        data = path.read_bytes()
        for share in (0.01, 0.2, 0.5, 0.9, 0.999):
            (tmp_path / "cut").write_bytes(data[: int(share * len(data))])
            with pytest.raises(CheckpointError, match=r"cut is (damaged|not a usable|neither)"):
                open_weight_file(tmp_path / "cut")


def test_other_files_under_a_good_name_are_refused(tmp_path: Path) -> None:
    cases = {
        b"\x89PNG\r\n\x1a\n" + bytes(100): "neither a safetensors nor a torch.save file",
        b"": "neither",
        b"hello": "neither",
        struct.pack("<Q", 1 << 40) + b"{" + bytes(50): "damaged",
        b"\x80\x04K\x01.": "not one that torch.save wrote",
    }
    for data, reason in cases.items():
        (tmp_path / "weights.pth").write_bytes(data)
        with pytest.raises(CheckpointError, match=reason):
            open_weight_file(tmp_path / "weights.pth")
    with pytest.raises(
        FileNotFoundError, match=r"path must be a file of weights, got .*, which does not exist"
    ):
        open_weight_file(tmp_path / "absent.pth")
    with pytest.raises(FileNotFoundError):
        open_weight_file(tmp_path)


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    for content in ({"epoch": 3}, [torch.ones(2)], torch.ones(2)):
        torch.save(content, tmp_path / "empty.pth")
        with pytest.raises(CheckpointError, match="it holds no state_dict"):
            open_weight_file(tmp_path / "empty.pth")


def test_contradictions_inside_an_archive_are_refused(archive: Path) -> None:
    def shorten(name: str, data: bytes) -> bytes:
        return data[:-4] if name.endswith("data/0") else data

    def lose(name: str, data: bytes) -> bytes | None:
        return None if name.endswith("data/0") else data

    def turn(name: str, data: bytes) -> bytes:
        return b"big" if name.endswith("byteorder") else data

    for change, reason in (
        (shorten, "needs 4000 bytes, its storage has 3996"),
        (lose, "storage 0 is missing"),
        (turn, "big-endian"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            open_weight_file(rewritten(archive, change))
    with pytest.raises(CheckpointError, match=r"compressed, which torch.save never does"):
        open_weight_file(
            rewritten(archive, lambda name, data: data, compression=zipfile.ZIP_DEFLATED)
        )
    with pytest.raises(CheckpointError, match=r"a zip archive with 0 entries data.pkl"):
        open_weight_file(
            rewritten(archive, lambda name, data: None if name.endswith("data.pkl") else data)
        )


def test_a_tensor_that_claims_more_than_it_has_is_refused(archive: Path) -> None:
    # 1000 elements become 2 ** 31 - 1 in the pickle alone
    claimed = struct.pack("<i", (1 << 31) - 1)

    def inflate(name: str, data: bytes) -> bytes:
        return (
            data.replace(b"M\xe8\x03\x85", b"J" + claimed + b"\x85")
            if name.endswith("data.pkl")
            else data
        )

    path = rewritten(archive, inflate)
    with pytest.raises(CheckpointError, match=r"tensor weight of shape \(2147483647,\) needs"):
        open_weight_file(path)


def test_only_the_bytes_of_a_view_are_read(tmp_path: Path) -> None:
    base = torch.zeros(1 << 20)
    base[5] = 1
    torch.save({"small": base[4:7]}, tmp_path / "view.pth")
    stored = open_weight_file(tmp_path / "view.pth").tensors["small"]
    assert stored.read().untyped_storage().nbytes() == 12
    assert stored.read().tolist() == [0, 1, 0]


def test_reading_from_memory_is_not_offered() -> None:
    with pytest.raises(TypeError):
        open_weight_file(io.BytesIO())  # pyright: ignore[reportArgumentType]


def test_a_header_length_that_begins_like_a_pickle(tmp_path: Path) -> None:
    path, value = tmp_path / "file", torch.arange(4.0)
    for length in range(512):
        save_file({"a": value}, path, metadata={"text": "x" * length})
        if path.read_bytes()[:1] == b"\x80":
            break
    assert path.read_bytes()[:1] == b"\x80"
    assert torch.equal(open_weight_file(path).tensors["a"].read(), value)


# ---- archives that would take forever, or all memory


def entry_of(path: Path, name: str, content: bytes, *, claimed: int = 0, flags: int = 0) -> Path:
    """The archive at ``path`` with one entry more or other; ``claimed`` is the size it tells."""
    out = path.with_name("hostile.pth")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            if entry.filename.rpartition("/")[2] != name:
                new.writestr(entry.filename, old.read(entry))
        folder = old.namelist()[0].partition("/")[0]
        new.writestr(f"{folder}/{name}", content)
    data = bytearray(out.read_bytes())
    directory = data.index(b"PK\x01\x02")
    while data[directory : directory + 4] == b"PK\x01\x02":
        lengths = struct.unpack_from("<3H", data, directory + 28)
        end = directory + 46 + lengths[0]
        if data[directory + 46 : end].endswith(name.encode()):
            if claimed:
                struct.pack_into("<2I", data, directory + 20, claimed, claimed)
            data[directory + 8] |= flags
        directory = end + lengths[1] + lengths[2]
    out.write_bytes(data)
    return out


def test_entries_that_claim_too_much_are_refused(archive: Path) -> None:
    huge = 0xF0000000
    for name, reason in (
        ("byteorder", r"its entry \S+byteorder claims 4026531840 bytes"),
        ("data.pkl", r"its entry \S+data.pkl claims 4026531840 bytes"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            open_weight_file(entry_of(archive, name, b"little", claimed=huge))


def test_an_encrypted_archive_is_refused(archive: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"data.pkl is encrypted, which torch.save never does"
    ):
        open_weight_file(entry_of(archive, "data.pkl", b"secret", flags=1))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_a_compressed_pickle_is_refused(archive: Path, method: int) -> None:
    data = bytearray(archive.read_bytes())
    directory = data.index(b"PK\x01\x02")
    struct.pack_into("<H", data, directory + 10, method)
    archive.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"compressed, which torch.save never does"):
        open_weight_file(archive)


def test_a_list_of_entries_beyond_reason_is_refused(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    directory_size = 1 << 24
    data[end:end] = bytes(directory_size)
    struct.pack_into("<2I", data, end + directory_size + 12, directory_size, end)
    if (locator := data.find(b"PK\x06\x07")) >= 0:
        del data[locator : locator + 20]
    archive.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"its list of entries claims 16777216 bytes"):
        open_weight_file(archive)


def pickled(path: Path, content: bytes) -> Path:
    """The archive at ``path`` with another pickle."""
    return rewritten(path, lambda name, data: content if name.endswith("data.pkl") else data)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"K\x01" + b"2\x86" * 60 + b"Q", "more than 10000000 values"),
        (b"](" + b"]" * 600_000 + b"e", "more than 500000 steps"),
        (b"}X\x01\x00\x00\x00a" + b"(K\x01K\x02tQs", "in a way that torch.save never does"),
    ],
)
def test_pickles_that_no_trainer_writes_are_refused(
    archive: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(CheckpointError, match=reason):
        open_weight_file(pickled(archive, b"\x80\x02" + content + b"."))


@pytest.mark.parametrize("shape", [b"K\x01\x85\x85", b"N\x85", b"J\xff\xff\xff\xff\x85"])
def test_a_shape_that_is_none_is_refused(archive: Path, shape: bytes) -> None:
    def change(name: str, data: bytes) -> bytes:
        return data.replace(b"M\xe8\x03\x85", shape) if name.endswith("data.pkl") else data

    with pytest.raises(CheckpointError, match="weight has a shape or strides that no tensor has"):
        open_weight_file(rewritten(archive, change))


@pytest.mark.parametrize("count", [1 << 62, (1 << 63) - 1, 1001])
def test_an_old_file_whose_storage_ends_beyond_it_is_refused(tmp_path: Path, count: int) -> None:
    path = tmp_path / "old.pth"
    torch.save({"weight": torch.arange(1000.0)}, path, _use_new_zipfile_serialization=False)
    data = bytearray(path.read_bytes())
    struct.pack_into("<q", data, len(data) - 4008, count)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"of {4 * count} bytes ends beyond the file"):
        open_weight_file(path)


@pytest.mark.parametrize(
    ("field", "layout", "value"),
    [(6, "<H", 127), (42, "<I", 0xFFFFFFFE), (24, "<I", 0xFFFFFFFE)],
)
def test_a_damaged_list_of_entries_is_refused(
    archive: Path, field: int, layout: str, value: int
) -> None:
    """The version that an entry needs, its place in the file, and its size."""
    data = bytearray(archive.read_bytes())
    struct.pack_into(layout, data, data.index(b"PK\x01\x02") + field, value)
    archive.write_bytes(data)
    with pytest.raises(CheckpointError):
        open_weight_file(archive)
