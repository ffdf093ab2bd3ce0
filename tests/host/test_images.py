"""Images arrive whole and verified, or leave nothing behind but the reason."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec import structs

from cloud import shell
from cloud.wire import Failure
from tests.host.world import World, until
from vms.host import fetch, images, inbox, room
from vms.spec import FileSpec, ImageFetch, ImageReport, ImageSpec, PowerGoal

MIB = 2**20


@dataclass
class Source:
    """A web server with one file. `breaks` answers end early; `asked` lists Range headers."""

    content: bytes = b""
    status: int = 200
    breaks: int = 0
    asked: list[str | None] = field(default_factory=list)
    port: int = 0

    def spec(self, **claims: object) -> FileSpec:
        """The truth about the file, but for what is claimed."""
        truth = FileSpec(
            url=f"http://127.0.0.1:{self.port}/disk",
            sha256=hashlib.sha256(self.content).hexdigest(),
            bytes=len(self.content),
        )
        return structs.replace(truth, **claims)


@pytest.fixture
def source(bare_world: World) -> Iterator[Source]:
    source = Source()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            source.asked.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            body = source.content[start:]
            self.send_response(206 if wanted and source.status == 200 else source.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if source.breaks:
                source.breaks -= 1
                body = body[: len(body) // 2]
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        source.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield source
        server.shutdown()
        thread.join()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A small qcow2 disk."""
    path = tmp_path / "disk.qcow2"
    shell.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], timeout=30)
    return path


def image_of(disk: FileSpec, format: str = "qcow2") -> ImageSpec:
    return ImageSpec(image_id=1, disk=disk, format="raw" if format == "raw" else "qcow2")


def get(world: World, image: ImageSpec) -> Failure | None:
    owner = world.host.owner
    assert owner
    return fetch.fetch(world.host.paths, image, owner.name)


def leftovers(world: World) -> list[Path]:
    paths = world.host.paths
    return [*paths.images.iterdir(), *paths.downloads.iterdir()]


def test_an_image_is_fetched_by_http_and_kept_under_its_checksum(
    bare_world: World, source: Source, disk: Path
) -> None:
    source.content = disk.read_bytes()
    image = image_of(source.spec())
    assert get(bare_world, image) is None
    kept = bare_world.host.paths.image(image.disk.sha256)
    assert kept.read_bytes() == source.content
    assert kept.stat().st_mode & 0o777 == 0o444
    assert leftovers(bare_world) == [kept]


def test_an_image_is_fetched_from_a_local_file(bare_world: World, disk: Path) -> None:
    content = disk.read_bytes()
    file = FileSpec(f"file://{disk}", hashlib.sha256(content).hexdigest(), len(content))
    assert get(bare_world, image_of(file)) is None
    assert images.present(bare_world.host.paths, image_of(file))


def test_a_download_that_broke_off_goes_on_where_it_ended(
    bare_world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_pause", lambda attempt: None)
    source.content = bytes(range(256)) * 40_000
    source.breaks = 1
    assert get(bare_world, image_of(source.spec(), "raw")) is None
    first, second = source.asked
    assert first is None
    assert second
    assert second.startswith("bytes=")


def test_a_source_that_keeps_breaking_off_may_be_tried_again(
    bare_world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_pause", lambda attempt: None)
    source.content, source.breaks = bytes(MIB), 99
    failure = get(bare_world, image_of(source.spec(), "raw"))
    assert failure
    assert (failure.code, failure.retryable) == ("image_unreachable", True)
    assert len(source.asked) == fetch.ATTEMPTS


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"sha256": "0" * 64}, "image_wrong_checksum"),
        ({"bytes": 10}, "image_wrong_size"),
        ({"bytes": 10 * MIB}, "image_wrong_size"),
        ({"url": "file:///nowhere/disk"}, "image_source_missing"),
    ],
)
def test_a_file_that_is_not_what_the_image_says_is_refused_for_good(
    bare_world: World, source: Source, disk: Path, claims: dict[str, object], code: str
) -> None:
    source.content = disk.read_bytes()
    image = image_of(source.spec(**claims))
    failure = get(bare_world, image)
    assert failure
    assert (failure.code, failure.retryable) == (code, False)
    assert leftovers(bare_world) == []
    assert images.problem(bare_world.host.paths, image) == failure


@pytest.mark.parametrize(
    ("status", "code"), [(404, "image_source_missing"), (403, "image_source_missing")]
)
def test_a_source_without_the_file_is_named(
    bare_world: World, source: Source, status: int, code: str
) -> None:
    source.content, source.status = b"not here", status
    failure = get(bare_world, image_of(source.spec(), "raw"))
    assert failure
    assert (failure.code, failure.retryable) == (code, False)
    assert leftovers(bare_world) == []


@pytest.mark.parametrize("trick", ["backing file", "data file", "wrong format", "truncated"])
def test_a_disk_that_could_read_its_host_is_refused_for_good(
    bare_world: World, source: Source, tmp_path: Path, trick: str
) -> None:
    disk = tmp_path / "trick.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2"]
    match trick:
        case "backing file":
            shell.run([*create, "-u", "-b", "/etc/passwd", "-F", "raw", disk, "1M"], timeout=30)
        case "data file":
            data = f"data_file={tmp_path / 'data'}"
            shell.run([*create, "-o", data, disk, "1M"], timeout=30)
        case "wrong format" | "truncated":
            shell.run([*create, disk, "1M"], timeout=30)
    source.content = disk.read_bytes()[: 100 if trick == "truncated" else None]
    image = image_of(source.spec(), "raw" if trick == "wrong format" else "qcow2")
    failure = get(bare_world, image)
    assert failure
    assert failure.code in {"image_references_files", "image_wrong_format", "image_invalid"}
    assert not failure.retryable
    assert leftovers(bare_world) == []


@contextmanager
def small_downloads(world: World, size: int) -> Iterator[None]:
    """Unfinished files have a file system of `size` bytes to themselves."""
    downloads = world.host.paths.downloads
    shell.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", downloads], timeout=10)
    try:
        yield
    finally:
        shell.run(["umount", downloads], timeout=10)


def test_an_image_that_would_fill_its_hosts_disk_is_not_asked_for(
    bare_world: World, source: Source
) -> None:
    source.content = bytes(MIB)
    image = image_of(source.spec(), "raw")
    with small_downloads(bare_world, 4 * MIB):
        (bare_world.host.paths.downloads / image.disk.sha256).write_bytes(b"begun when there was")
        failure = get(bare_world, image)
        assert failure
        assert (failure.code, failure.retryable) == ("host_disk_full", True)
        assert leftovers(bare_world) == []
    assert source.asked == []


def test_a_download_that_filled_the_disk_leaves_the_room_to_others(
    bare_world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LEAST_FREE_GB", -1)
    source.content = bytes(4 * MIB)
    image = image_of(source.spec(), "raw")
    with small_downloads(bare_world, MIB):
        failure = get(bare_world, image)
        assert failure
        assert (failure.code, failure.retryable) == ("host_disk_full", True)
        assert "No space left" in failure.message
        assert leftovers(bare_world) == []
    assert images.problem(bare_world.host.paths, image) == failure


def test_a_vm_waits_for_its_image_and_is_made_when_it_is_there(bare_world: World) -> None:
    world = bare_world
    spec = world.spec(power=PowerGoal.OFF)
    report = world.ensure(spec)
    assert (report.converged, report.failure) == (False, None)
    with world.watched():
        until(lambda: world.reported(converged=True), "the VM is made", seconds=60)
    assert world.image_reports[-1].ready
    assert world.host.paths.vm(7).disk(0).exists()
    assert not images.wanted(world.host.paths)


def test_a_vm_whose_image_is_bad_fails_for_good_and_control_hears_why(
    bare_world: World, source: Source
) -> None:
    world = bare_world
    source.content = b"\0" * 1000
    image = image_of(source.spec(sha256="0" * 64), "raw")
    with world.watched():
        world.ensure(world.spec(image=image, power=PowerGoal.OFF))
        until(lambda: world.reports[-1].failure, "control knows", seconds=60)
    failure = world.reports[-1].failure
    assert failure
    assert (failure.code, failure.retryable) == ("image_wrong_checksum", False)
    assert world.image_reports[-1].failure
    assert not world.host.paths.vm(7).disk(0).exists()


def never(report: ImageReport) -> bool:
    raise AssertionError(f"{report} of what is only asked for")


def test_asking_for_an_image_again_forgets_what_was_wrong(
    bare_world: World, source: Source, disk: Path
) -> None:
    world = bare_world
    source.content = disk.read_bytes()
    image = image_of(source.spec())
    source.status = 404
    assert get(world, image)
    source.status = 200
    with world.watched():
        inbox.fetch(world.host, ImageFetch(world.host.uuid, image), never)
        until(lambda: world.image_reports and world.image_reports[-1].ready, "it is there")


def test_downloads_that_died_with_their_process_are_taken_up_again(
    bare_world: World, source: Source
) -> None:
    world = bare_world
    source.content = bytes(range(256)) * 40_000
    image = image_of(source.spec(), "raw")
    images.want(world.host, image)
    (world.host.paths.downloads / image.disk.sha256).write_bytes(source.content[:MIB])
    with world.watched():
        until(lambda: images.present(world.host.paths, image), "it is there", seconds=60)
    assert source.asked == [f"bytes={MIB}-"]
