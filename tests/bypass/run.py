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
LIMIT = 20
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG = 4, 36, 1
libc = ctypes.CDLL(None, use_errno=True)


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
        print(json.dumps({"unavailable": str(error)}), flush=True)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def move(pid, cgroup):
    with open(os.path.join(cgroup, "cgroup.procs"), "w") as procs:
        procs.write(str(pid))


def descendants():
    with open("/proc/self/task/%d/children" % os.getpid()) as children:
        return [int(pid) for pid in children.read().split()]


def main():
    name, user, cgroup, world_path, nonce = sys.argv[1:]
    family, function = name.split("/")
    world = World(world_path, nonce, user)
    attack = getattr(importlib.import_module("ways." + family), function)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    if attack.prepare:
        attack.prepare(world)
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
            said = attack(world, kept) if attack.before else attack(world)
            if isinstance(said, dict):
                result = said
            else:
                result["said"] = str(said)
        except OSError as error:
            result["said"] = f"{type(error).__name__}: {error}"
        print(json.dumps(result), flush=True)

    job = child(attacker)
    os.close(ready_write)
    os.close(go_read)
    if attack.held:
        move(job, cgroup)
        os.write(go_write, b"1")
    # Nothing comes where the attacker ended: it has told why.
    if os.read(ready_read, 1):
        if attack.held:
            print("held", flush=True)
            sys.stdin.readline()
        else:
            move(job, cgroup)
        try:
            os.write(go_write, b"1")
        except BrokenPipeError:
            pass
    _, status = os.waitpid(job, 0)
    if helper:
        inner.close()
    for pid in descendants():
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
    if os.WIFSIGNALED(status):
        print(json.dumps({"said": f"ended by signal {os.WTERMSIG(status)}"}), flush=True)
    elif os.WEXITSTATUS(status):
        sys.exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()
