"""Out of the managed cgroup, or into another one."""

import ctypes
import os
import subprocess
import sys
import tempfile

from system import CLONE3, CLONE_INTO_CGROUP, CLONE_NEWNS, syscall, unshare
from way import connect_and_ask, way


@way()
def cgroup_procs(world):
    with open(os.path.join(world.outside_cgroup, "cgroup.procs"), "w") as procs:
        procs.write(str(os.getpid()))
    return connect_and_ask(world, world.target)


@way()
def own_mount(world):
    """The same by way of a mount of its own, which no sandbox has made read-only."""
    unshare(CLONE_NEWNS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(["mount", "-t", "cgroup2", "cgroup2", place], capture_output=True, text=True)
        if done.returncode:
            raise OSError(done.stderr)
        try:
            with open(os.path.join(place, "cgroup.procs"), "w") as procs:
                procs.write(str(os.getpid()))
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)
    return connect_and_ask(world, world.target)


@way()
def clone_into(world):
    """A child that is born in another cgroup (`clone3(2)`)."""
    cgroup = os.open(world.outside_cgroup, os.O_RDONLY | os.O_DIRECTORY)
    arguments = (ctypes.c_uint64 * 11)()
    arguments[0] = CLONE_INTO_CGROUP
    arguments[4] = 17  # SIGCHLD
    arguments[10] = cgroup
    pid = syscall(CLONE3, arguments, ctypes.sizeof(arguments))
    if pid == 0:
        try:
            connect_and_ask(world, world.target)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return "a child ran in the other cgroup"


@way()
def nested(world):
    """A cgroup of its own below the one that it was given."""
    own = os.path.join(world.cgroup, world.nonce)
    os.mkdir(own)
    try:
        with open(os.path.join(own, "cgroup.procs"), "w") as procs:
            procs.write(str(os.getpid()))
        return connect_and_ask(world, world.target)
    finally:
        with open(os.path.join(world.cgroup, "cgroup.procs"), "w") as procs:
            procs.write(str(os.getpid()))
        os.rmdir(own)


@way(fresh=True)
def fresh(world):
    """The first thing that happens in a cgroup that was made this moment."""
    return connect_and_ask(world, world.target)


def fork(world):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        # Waits until its parent is managed.
        os.read(read, 1)
        try:
            connect_and_ask(world, world.target)
        finally:
            os._exit(0)
    return pid, write


@way(before=fork)
def forked_before_move(world, child):
    pid, write = child
    os.write(write, b"1")
    os.waitpid(pid, 0)
    return "a child from before the move ran"
