"""TCP by other doors than a plain connect()."""

import ctypes
import mmap
import os
import socket
import struct
import time

from way import answer, ask, blocking, connect_and_ask, each, tcp, way

IPPROTO_MPTCP = 262
TCP_FASTOPEN_CONNECT = 30
TCP_REPAIR = 19

libc = ctypes.CDLL(None, use_errno=True)


@way()
def plain(world):
    return connect_and_ask(world, world.target)


@way()
def plain6(world):
    return connect_and_ask(world, world.target6, socket.AF_INET6)


@way()
def v4_mapped(world):
    return connect_and_ask(world, ("::ffff:" + world.remote4, world.port), socket.AF_INET6)


@way()
def bound_source(world):
    with tcp() as sock:
        sock.bind((world.own4, 0))
        sock.connect(world.target)
        return ask(world, sock)


@way()
def bind_to_device(world):
    with tcp() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, world.device.encode() + b"\0")
        sock.connect(world.target)
        return ask(world, sock)


def disconnect(sock):
    """connect() to AF_UNSPEC; a reset connection may say so once."""
    unspec = struct.pack("=H14x", socket.AF_UNSPEC)
    if libc.connect(sock.fileno(), unspec, len(unspec)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@way()
def unspec_reconnect(world):
    """Connects where it may, breaks the connection, and connects the same socket where it may not."""
    with tcp() as sock:
        sock.connect((world.remote4, world.free_port))
        disconnect(sock)
        sock.connect(world.target)
        return ask(world, sock)


@way()
def fastopen_sendto(world):
    with blocking(tcp()) as sock:
        sock.sendto(world.message, socket.MSG_FASTOPEN, world.target)
        return answer(sock)


@way()
def fastopen_connect(world):
    with tcp() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        sock.connect(world.target)
        return ask(world, sock)


@way()
def fastopen_unspec(world):
    """A destination whose family is left out: taken for IPv4 where the kernel is lax."""
    with blocking(tcp()) as sock:
        address = struct.pack("=H", socket.AF_UNSPEC) + struct.pack("!H", world.port)
        address += socket.inet_aton(world.remote4) + bytes(8)
        message = world.message
        sent = libc.sendto(sock.fileno(), message, len(message), socket.MSG_FASTOPEN, address, len(address))
        if sent < 0:
            sock.connect(world.target)
            return "as a plain connect: " + ask(world, sock)
        return answer(sock)


@way()
def mptcp(world):
    return connect_and_ask(world, world.target, protocol=IPPROTO_MPTCP)


def mptcp_socket(world):
    return tcp(protocol=IPPROTO_MPTCP)


@way(before=mptcp_socket)
def mptcp_before_move(world, sock):
    sock.connect(world.target)
    return ask(world, sock)


@way(before=lambda world: tcp())
def made_before_move(world, sock):
    sock.connect(world.target)
    return ask(world, sock)


def connected(world):
    sock = tcp()
    sock.connect(world.target)
    return sock


@way(before=connected)
def connected_before_move(world, sock):
    return ask(world, sock)


@way(before=connected, held=True)
def connected_before_agent(world, sock):
    return ask(world, sock)


def fastopen_pending(world):
    sock = tcp()
    sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    sock.connect(world.target)
    return sock


@way(before=fastopen_pending)
def fastopen_before_move(world, sock):
    """connect() returns before anything is sent; the first write, after the move, connects."""
    return ask(world, sock)


@way()
def flipping_address(world):
    """Another process changes the address between two looks of the kernel at it, if there were two."""
    memory = mmap.mmap(-1, 4096)
    def address(port):
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(world.remote4) + bytes(8)

    good, bad = address(world.closed_port), address(world.port)
    memory[:16] = good
    flipper = os.fork()
    if flipper == 0:
        while True:
            memory[:16] = bad
            memory[:16] = good
    tried = reached = 0
    deadline = time.monotonic() + 4
    try:
        pointer = (ctypes.c_char * 16).from_buffer(memory)
        # Often enough that both addresses were seen, and long enough that the other process has begun.
        while time.monotonic() < deadline and (tried < 200 or reached < 20):
            with blocking(tcp()) as sock:
                tried += 1
                if libc.connect(sock.fileno(), pointer, 16) == 0:
                    ask(world, sock)
                    reached += 1
        del pointer
    finally:
        os.kill(flipper, 9)
        os.waitpid(flipper, 0)
    return f"{reached} of {tried} connections"


@way()
def tcp_repair(world):
    """Puts a socket into the state of a connection without sending anything, as checkpoint and restore does."""
    with tcp() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        sock.connect(world.target)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 0)
        try:
            return ask(world, sock)
        except ConnectionResetError:
            # Whoever got the packet knows of no connection. Without an agent that is the server.
            return {"reached": not world.tollgate, "said": "answered with a reset"}


@way()
def unlisted_address(world):
    return connect_and_ask(world, (world.other4, world.port))


@way()
def own_addresses(world):
    """The service of this host, under every address that it has or that means it."""
    v4, v6 = socket.AF_INET, socket.AF_INET6
    places = [(v4, (ip, world.local_port)) for ip in ["127.0.0.1", "127.1.2.3", "0.0.0.0", world.own4]]
    places += [(v6, (ip, world.local_port)) for ip in ["::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0", world.own6]]
    places += [(v6, (world.link_local, world.local_port, 0, socket.if_nametoindex(world.device)))]
    return each([(address[0], lambda f=family, a=address: connect_and_ask(world, a, f)) for family, address in places])
