"""Weights by address, from a server of this machine."""

import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from rgbt_fusion import CheckpointError, create_model, save_checkpoint
from rgbt_fusion.weights.download import CACHE_VARIABLE, cache_folder, download_bar, fetch_weights

CONTENT = b"weights" * 100


class Server(ThreadingHTTPServer):
    """Serves one content; ``cut`` sends only half of what it announces."""

    content = CONTENT
    requests = 0


class Answers(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.path == "/gone":
            self.send_error(404)
            return
        content = self.server.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if "cut" in self.path else content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(("127.0.0.1", 0), Answers) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield one
        one.shutdown()


def address(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


def test_a_file_is_downloaded_once(server: Server) -> None:
    seen: list[tuple[int, int | None]] = []
    where = address(server, "/a.pth")
    path = fetch_weights(where, on_progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert path.parent == cache_folder()
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch_weights(where, sha256=hashlib.sha256(CONTENT).hexdigest()) == path
    assert server.requests == 1


def test_a_file_is_held_to_the_sum_of_its_first_download(server: Server) -> None:
    path = fetch_weights(address(server, "/a.pth"))
    path.write_bytes(b"changed")
    with pytest.raises(CheckpointError, match=r"must have the SHA-256 .* delete the file"):
        fetch_weights(address(server, "/a.pth"))
    path.unlink()
    server.content = b"other weights"
    with pytest.raises(CheckpointError, match="nothing was kept"):
        fetch_weights(address(server, "/a.pth"))
    assert not path.exists()


@pytest.mark.parametrize(
    ("path", "sha256", "message"),
    [
        ("/cut.pth", None, "was cut after 350 of 700 bytes|cannot be downloaded"),
        ("/gone", None, "cannot be downloaded: HTTP Error 404"),
        ("/a.pth", "0" * 64, "must have the SHA-256 0000"),
    ],
)
def test_what_fails_leaves_nothing(
    server: Server, path: str, sha256: str | None, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        fetch_weights(address(server, path), sha256=sha256)
    assert list(cache_folder().iterdir()) == []


def test_addresses_that_end_alike_do_not_meet(server: Server) -> None:
    assert fetch_weights(address(server, "/a/w")) != fetch_weights(address(server, "/b/w"))


def test_what_is_no_address_or_sum_is_refused() -> None:
    with pytest.raises(ValueError, match="address must begin with http"):
        fetch_weights("ftp://example.org/a")
    with pytest.raises(ValueError, match="sha256 must be 64 hexadecimal digits, got 'abc'"):
        fetch_weights("https://example.org/a", sha256="abc")
    with pytest.raises(ValueError, match="sha256 must come with an address, got pretrained=True"):
        create_model("ainet_tiny_128", pretrained=True, sha256="0" * 64)


def test_a_model_is_created_with_weights_of_a_file_or_an_address(
    server: Server, tmp_path: Path
) -> None:
    model = create_model("ostrack_tiny_128", depth=1)
    save_checkpoint(model, tmp_path / "one.safetensors")
    server.content = (tmp_path / "one.safetensors").read_bytes()
    places = (tmp_path / "one.safetensors", address(server, "/one.safetensors"))
    for place in places:
        again = create_model("ostrack_tiny_128", depth=1, pretrained=place)
        assert torch.equal(again.backbone.pos_embed_x, model.backbone.pos_embed_x)


def test_a_terminal_shows_how_much_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert download_bar() is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    show = download_bar()
    assert show is not None
    show(1_000_000, 3_000_000)
    show(3_000_000, 3_000_000)
    show(2_000_000, None)
    assert capsys.readouterr().err == ("\rweights: 1 of 3 MB\rweights: 3 of 3 MB\n\rweights: 2 MB")
