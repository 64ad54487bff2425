"""Copies a folder or bucket; files that have not changed since an earlier copy are linked to it and take no room again.

Run as `python -m deploy.snapshot SOURCE TARGET [--earlier FOLDER] [--into-empty]`, with local paths or URLs such as s3://bucket
(credentials and endpoint from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL).
"""

import argparse
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.fs as pafs

from eye_disease.common.progress import Progress

_THREADS = 8
_BLOCK = 1 << 20


def files(location: str) -> tuple[pafs.FileSystem, str, list[pafs.FileInfo]]:
    """(file system, root in it, its files) of a local path or URL; a place that does not exist yet holds none."""
    if "://" in location:
        filesystem, root = pafs.FileSystem.from_uri(location.rstrip("/"))
    else:
        filesystem, root = pafs.LocalFileSystem(), str(Path(location).absolute())
    found = filesystem.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True))
    return filesystem, root, [one for one in found if one.is_file]


def copy_in(source: str, target: Path, earlier: Path | None = None) -> tuple[int, int]:
    """Copy all files of `source` to the local folder `target`; returns how many were (copied, linked).

    A file of the same size and time as in `earlier`, a folder that this function has written, is linked to that one.
    """
    filesystem, root, found = files(source)
    target.mkdir(parents=True, exist_ok=True)

    def take(info: pafs.FileInfo) -> bool:
        name = info.path[len(root) + 1 :]
        local = target / name
        local.parent.mkdir(parents=True, exist_ok=True)
        before = earlier / name if earlier else None
        if before and before.is_file() and _same(before, info):
            os.link(before, local)
            return False
        with filesystem.open_input_stream(info.path) as incoming, local.open("wb") as outgoing:
            shutil.copyfileobj(incoming, outgoing, _BLOCK)
        os.utime(local, ns=(info.mtime_ns, info.mtime_ns))
        return True

    with ThreadPoolExecutor(_THREADS) as pool:
        copied = sum(Progress().over(f"Copying {target.name}", pool.map(take, found), len(found)))
    return copied, len(found) - copied


def copy_out(source: Path, target: str) -> int:
    """Copy all files of a local folder to `target`, which must hold none; returns how many. Raises FileExistsError."""
    filesystem, root, there = files(target)
    if there:
        raise FileExistsError(f"{target} holds {len(there)} files already. Expected an empty one: nothing is overwritten.")
    _, base, found = files(str(source))

    def put(info: pafs.FileInfo) -> None:
        path = f"{root}/{info.path[len(base) + 1 :]}"
        if isinstance(filesystem, pafs.LocalFileSystem):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        with filesystem.open_output_stream(path) as outgoing, Path(info.path).open("rb") as incoming:
            shutil.copyfileobj(incoming, outgoing, _BLOCK)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(Progress().over(f"Restoring {source.name}", pool.map(put, found), len(found)))
    return len(found)


def _same(path: Path, info: pafs.FileInfo) -> bool:
    known = path.stat()
    return known.st_size == info.size and known.st_mtime_ns == info.mtime_ns


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--earlier", type=Path, help="an earlier copy; unchanged files are linked to it")
    parser.add_argument("--into-empty", action="store_true", help="restore: the source is local, the target must be empty")
    asked = parser.parse_args()
    if asked.into_empty:
        try:
            print(f"{asked.target}: {copy_out(Path(asked.source), asked.target)} files")
        except FileExistsError as error:
            sys.exit(str(error))
    else:
        copied, linked = copy_in(asked.source, Path(asked.target), asked.earlier)
        print(f"{asked.source}: {copied} files copied, {linked} unchanged")


if __name__ == "__main__":
    main()
