"""Stands in for a service manager: starts one program, keeps the descriptors that it gives, and gives them back.

Commands on standard input, one answer a line each: `start`, `kill`, `stop`, `ready` (waits), `store`.
"""

import array
import os
import signal
import socket
import sys

notify, log, *command = sys.argv[1:]
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.bind(notify)
manager.settimeout(30)
store = []  # (name, descriptor)
pid = 0


def same(one, other):
    return os.fstat(one).st_ino == os.fstat(other).st_ino


def message():
    """The next message of the program's, carried out."""
    global store
    text, ancillary, _, _ = manager.recvmsg(4096, socket.CMSG_SPACE(64 * 4))
    given = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            given.frombytes(data)
    lines = text.decode().split("\n")
    name = next((line[7:] for line in lines if line.startswith("FDNAME=")), "stored")
    if "FDSTORE=1" in lines:
        for fd in given:
            if any(same(fd, kept) for _, kept in store):
                os.close(fd)
            else:
                store.append((name, fd))
    if "FDSTOREREMOVE=1" in lines:
        for _, fd in [entry for entry in store if entry[0] == name]:
            os.close(fd)
        store = [entry for entry in store if entry[0] != name]
    return lines


def start():
    global pid
    pid = os.fork()
    if pid:
        return
    # Away from the numbers that they get.
    high = [os.dup2(fd, 200 + n) for n, (_, fd) in enumerate(store)]
    for n, fd in enumerate(high):
        os.dup2(fd, 3 + n)
    os.closerange(3 + len(high), 300)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    environment = dict(os.environ, NOTIFY_SOCKET=notify, NO_COLOR="1")
    if store:
        environment |= {
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDS": str(len(store)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in store),
        }
    os.execve(command[0], command, environment)


def end(how):
    global pid
    if pid:
        os.kill(pid, how)
        os.waitpid(pid, 0)
        pid = 0


try:
    for line in sys.stdin:
        match line.strip():
            case "start":
                start()
                print(pid, flush=True)
            case "kill":
                end(signal.SIGKILL)
                print("killed", flush=True)
            case "stop":
                end(signal.SIGTERM)
                print("stopped", flush=True)
            case "ready":
                while "READY=1" not in message():
                    pass
                print("ready", flush=True)
            case "store":
                manager.settimeout(0)
                try:
                    while True:
                        message()
                except BlockingIOError:
                    manager.settimeout(30)
                print(sorted(name for name, _ in store), flush=True)
finally:
    end(signal.SIGTERM)
