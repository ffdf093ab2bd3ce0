"""Files that are whole or not there, whatever is killed in the midst of writing them."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloud import files
from vms.host import room


def test_what_a_crash_left_of_a_draft_is_used_up_by_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.with_name(".spec.json.new").write_bytes(b"half of something long")
    files.write(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_of_two_who_write_at_once_one_comes_last_and_none_mixes_with_the_other(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.json"
    contents = [letter.encode() * 100_000 for letter in "abcdefgh"]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda content: files.write(path, content), contents))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_has_the_mode_that_was_asked_for_even_if_its_draft_had_another(
    tmp_path: Path,
) -> None:
    path = tmp_path / "seed"
    draft = path.with_name(".seed.new")
    draft.touch(mode=0o644)
    files.write(path, b"", mode=0o400)
    assert path.stat().st_mode & 0o777 == 0o400


def test_what_others_put_in_the_way_of_a_secret_is_neither_written_to_nor_kept(
    tmp_path: Path,
) -> None:
    path, theirs = tmp_path / "password", tmp_path / "theirs"
    theirs.write_bytes(b"")
    draft = path.with_name(".password.new")
    for put in (draft.symlink_to, draft.hardlink_to):
        put(theirs)
        files.write(path, b"secret", alone=True)
        assert theirs.read_bytes() == b""
        assert path.read_bytes() == b"secret"
        assert (path.is_symlink(), path.stat().st_nlink) == (False, 1)


def test_a_full_disk_is_called_that_and_anything_else_what_the_kernel_calls_it() -> None:
    full = room.failure("store it", OSError(errno.ENOSPC, "No space left on device"))
    assert (full.code, full.retryable, full.step) == ("host_disk_full", True, "store it")
    other = room.failure("store it", OSError(errno.EIO, "Input/output error"))
    assert (other.code, other.retryable) == ("host_io_failed", True)
