"""Disks that fill up, or can be written to no more."""

import contextlib
import shutil
import subprocess
import time

import pytest


def done(*command):
    """Could it be carried out?"""
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run([str(word) for word in command], capture_output=True).returncode == 0
    return False


def fill(disk):
    with (disk / 'ballast').open('wb', buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def take(disk, size):
    """So many bytes of it."""
    (disk / 'ballast').write_bytes(bytes(size))


def empty(disk):
    """Of what filled it."""
    (disk / 'ballast').unlink(missing_ok=True)


def leave(disk, pages):
    """Fills it but for so many pages of 4096 bytes."""
    empty(disk)
    take(disk, shutil.disk_usage(disk).free - 4096 * pages)


def read_only(disk):
    """Whatever is open there, as a lock is: the disk is mounted once more over itself."""
    if not (done('mount', '--bind', disk, disk) and done('mount', '-o', 'remount,bind,ro', disk)):
        pytest.skip('needs a kernel that lets it mount a folder as read-only')


def writable(disk):
    """Again, once nothing that reads has anything open there."""
    last = time.monotonic() + 10
    while not done('umount', disk):
        assert time.monotonic() < last
