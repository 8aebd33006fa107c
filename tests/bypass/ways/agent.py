"""Against the agent itself, its ports, its programs and its maps."""

import ctypes
import errno
import os
import signal
import socket
import struct
import time

from system import bpf
from way import connect_and_ask, tcp, way

BPF_MAP_UPDATE_ELEM, BPF_PROG_LOAD, BPF_OBJ_GET, BPF_PROG_ATTACH, BPF_LINK_DETACH = 2, 5, 7, 8, 34
ANY_PORT = 45000

# Seconds in which the kernel takes programs off: where they are kept, it takes all of them.
PATIENCE = 5


def tell(world, kind):
    if world.agent_pid:
        os.kill(world.agent_pid, kind)


def if_allowed(attempt):
    """What is refused is not the end: the connection is tried in any case."""
    try:
        attempt()
        return "done"
    except OSError as error:
        return f"refused ({error})"


@way()
def kill(world):
    did = if_allowed(lambda: tell(world, signal.SIGKILL))
    return f"kill: {did}; " + connect_and_ask(world, world.target)


@way()
def freeze(world):
    did = if_allowed(lambda: tell(world, signal.SIGSTOP))
    return f"stop: {did}; " + connect_and_ask(world, world.target)


@way()
def while_down(world):
    return connect_and_ask(world, world.target)


def squat(world, reuse=False):
    """Whoever has the port gets what workloads send there."""
    attempts = []
    for family, address, port in (
        (socket.AF_INET, "127.0.0.1", world.proxy4),
        (socket.AF_INET, "0.0.0.0", world.proxy4),
        (socket.AF_INET6, "::1", world.proxy6),
        (socket.AF_INET6, "::", world.proxy4),
    ):
        with tcp(family) as sock:
            if reuse:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((address, port or ANY_PORT))
                sock.listen()
                attempts.append((address, None))
            except OSError as error:
                attempts.append((address, error))
    return {"reached": any(error is None for _, error in attempts), "said": str(attempts)}


@way()
def squat_while_down(world):
    return squat(world)


@way()
def share_port(world):
    return squat(world, reuse=True)


@way()
def listen_without_bind(world):
    """The kernel gives a socket that listens without a name a port of its choice; root says what it may choose from."""
    path = "/proc/sys/net/ipv4/ip_local_port_range"
    with open(path) as file:
        usual = file.read()
    port = world.proxy4 or ANY_PORT

    def choose():
        with open(path, "w") as file:
            file.write(f"{port} {port}")

    did = if_allowed(choose)
    listener = tcp()
    try:
        listener.listen()
        got = listener.getsockname()[1]
    except OSError as error:
        got = error
    finally:
        if did == "done":
            with open(path, "w") as file:
                file.write(usual)
    with tcp() as sock:
        try:
            sock.connect(world.target)
        except OSError as error:
            return {"reached": False, "said": f"range: {did}; listens on {got}; {error}"}
        if sock.getsockname()[0] == "127.0.0.1":
            listener.accept()
            return {"reached": True, "said": f"got a redirected connection on {got}"}
        return {"reached": not world.tollgate, "said": "connected directly"}


@way(outside=lambda world, channel: (channel.send(str(os.getpid()).encode()), channel.recv(16)), outside_user="root")
def read_memory(world):
    """The agent's memory has the logins that it injects. Without an agent: of another process of root's."""
    pid = int(world.channel.recv(16))
    pid = world.agent_pid or pid
    with open(f"/proc/{pid}/maps") as maps:
        start = int(maps.readline().split("-")[0], 16)
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(start)
        return {"reached": len(memory.read(4)) == 4, "said": f"read the memory of {pid}"}


def pinned(world, kind):
    for directory, _, files in os.walk(world.pins):
        for name in files:
            if name.startswith(kind):
                yield os.path.join(directory, name)


def opened(path):
    name = ctypes.create_string_buffer(path.encode())
    return bpf(BPF_OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0))


def a_few_times(world):
    """The kernel takes a program off a moment after it was told to."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return connect_and_ask(world, world.target)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@way()
def unpin(world):
    """Removes the pins, and kills the agent, which holds the programs as well."""

    def remove():
        for directory, _, files in os.walk(world.pins):
            for name in files:
                # The file system has two of its own besides.
                if not name.endswith(".debug"):
                    os.unlink(os.path.join(directory, name))

    did = f"{if_allowed(remove)}, kill: {if_allowed(lambda: tell(world, signal.SIGKILL))}"
    return f"unpin: {did}; " + a_few_times(world)


@way()
def detach(world):
    """Takes the programs off the cgroup by `BPF_LINK_DETACH`."""

    def take_off():
        for path in pinned(world, "link_"):
            try:
                bpf(BPF_LINK_DETACH, struct.pack("=I", opened(path)))
            except OSError as error:
                # Links of tracepoints cannot be detached; those of cgroups can.
                if error.errno != errno.EOPNOTSUPP:
                    raise

    did = if_allowed(take_off)
    return f"detach: {did}; " + a_few_times(world)


@way()
def change_map(world):
    """Says in the map of cgroups that its own is under no policy."""

    def forget():
        own, free = ctypes.c_uint64(os.stat(world.cgroup).st_ino), (ctypes.c_uint32 * 2)(0, 0)
        for path in pinned(world, "CGROUPS"):
            addresses = (ctypes.addressof(own), ctypes.addressof(free))
            bpf(BPF_MAP_UPDATE_ELEM, struct.pack("=IxxxxQQQ", opened(path), *addresses, 0))

    did = if_allowed(forget)
    return f"map: {did}; " + connect_and_ask(world, world.target)


@way()
def program_of_its_own(world):
    """A program on a cgroup of its own that changes where a connection goes."""
    CGROUP_SOCK_ADDR, INET4_CONNECT, ALLOW_MULTI = 18, 10, 2
    own = os.path.join(world.cgroup, world.nonce)

    def instruction(code, registers, offset, value):
        return struct.pack("=BBhi", code, registers, offset, value)

    (ip,) = struct.unpack("=i", socket.inet_aton(world.remote4))
    # *(u32 *)(r1 + user_ip4) = ip; return 1
    program = instruction(0xB4, 0x02, 0, ip) + instruction(0x63, 0x21, 4, 0)
    program += instruction(0xB7, 0x00, 0, 1) + instruction(0x95, 0, 0, 0)
    code, license = ctypes.create_string_buffer(program, len(program)), ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack(
        "=IIQQ", CGROUP_SOCK_ADDR, len(program) // 8, ctypes.addressof(code), ctypes.addressof(license)
    )
    EXPECTED_ATTACH_TYPE = 68
    attributes = attributes.ljust(EXPECTED_ATTACH_TYPE, b"\0") + struct.pack("=I", INET4_CONNECT)
    loaded = bpf(BPF_PROG_LOAD, attributes)
    os.mkdir(own)
    try:
        cgroup = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
        bpf(BPF_PROG_ATTACH, struct.pack("=IIII", cgroup, loaded, INET4_CONNECT, ALLOW_MULTI))
        with open(os.path.join(own, "cgroup.procs"), "w") as procs:
            procs.write(str(os.getpid()))
        return connect_and_ask(world, ("10.77.3.9", world.port))
    finally:
        with open(os.path.join(world.cgroup, "cgroup.procs"), "w") as procs:
            procs.write(str(os.getpid()))
        os.rmdir(own)
