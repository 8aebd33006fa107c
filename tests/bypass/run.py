"""Runs one way round, in the managed cgroup, as one user: run.py FAMILY/WAY USER CGROUP WORLD.json NONCE

Prints one JSON document: what the attacker says of it. Whether anything was reached is told by the servers, not by it.
Has to be started as root and outside of managed cgroups.
"""

import ctypes
import importlib
import json
import os
import pwd
import signal
import socket
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

from way import Unavailable, World

# No way takes longer, unless it waits for what it will not get.
LIMIT = 40
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG = 4, 36, 1
libc = ctypes.CDLL(None, use_errno=True)
# What is said goes where programs that an attack starts cannot hold it open.
said = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def say(line):
    said.write(line + "\n")
    said.flush()



def become(user):
    if user != "root":
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        # As if it had been started as this user: its own processes may be looked at by it.
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    # A change of user has cleared it.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.environ.clear()
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def child(work):
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.alarm(LIMIT)
        work()
        status = 0
    except Unavailable as error:
        say(json.dumps({"unavailable": str(error)}))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def door(cgroup):
    """Kept open from the start: what prepares an attack may mount something else in its place."""
    return os.open(os.path.join(cgroup, "cgroup.procs"), os.O_WRONLY)


def move(pid, procs):
    os.write(procs, str(pid).encode())


def descendants():
    with open("/proc/self/task/%d/children" % os.getpid()) as children:
        return [int(pid) for pid in children.read().split()]


def end_everybody():
    # Those whose parents are killed become this one's own.
    while remaining := descendants():
        for pid in remaining:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def main():
    name, user, cgroup, world_path, nonce = sys.argv[1:]
    family, function = name.split("/")
    world = World(world_path, nonce, user)
    world.cgroup = cgroup
    attack = getattr(importlib.import_module("ways." + family), function)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    procs = door(cgroup)

    if attack.prepare:
        try:
            attack.prepare(world)
        except Unavailable as error:
            say(json.dumps({"unavailable": str(error)}))
            return
    outer, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    helper = None
    if attack.outside:

        def help_from_outside():
            inner.close()
            become(attack.outside_user or user)
            attack.outside(world, outer)

        helper = child(help_from_outside)
    outer.close()
    inner.settimeout(LIMIT)
    world.channel = inner

    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()

    def attacker():
        os.close(ready_read)
        os.close(go_write)
        become(user)
        if attack.held:
            os.read(go_read, 1)
        result = {}
        try:
            kept = attack.before(world) if attack.before else None
            os.write(ready_write, b"1")
            os.read(go_read, 1)
            got = attack(world, kept) if attack.before else attack(world)
            result = got if isinstance(got, dict) else {"said": str(got)}
        except OSError as error:
            result["said"] = f"{type(error).__name__}: {error}"
        say(json.dumps(result))

    job = child(attacker)
    os.close(ready_write)
    os.close(go_read)
    if attack.held:
        move(job, procs)
        os.write(go_write, b"1")
    # Nothing comes where the attacker ended: it has told why.
    if os.read(ready_read, 1):
        if attack.held:
            say("held")
            sys.stdin.readline()
        elif attack.fresh:
            os.mkdir(f"{cgroup}-{nonce}")
            move(job, door(f"{cgroup}-{nonce}"))
        else:
            move(job, procs)
        try:
            os.write(go_write, b"1")
        except BrokenPipeError:
            pass
    _, status = os.waitpid(job, 0)
    if helper:
        inner.close()
    end_everybody()
    if attack.fresh:
        os.rmdir(f"{cgroup}-{nonce}")
    if os.WIFSIGNALED(status):
        say(json.dumps({"said": f"ended by signal {os.WTERMSIG(status)}"}))
    elif os.WEXITSTATUS(status):
        sys.exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    try:
        main()
    finally:
        end_everybody()
