"""System calls that a ring carries out, maybe in a thread of the kernel's (`io_uring(7)`)."""

import ctypes
import socket
import struct

from system import Ring
from way import Unavailable, answer, blocking, datagram, tcp, way


def ring(flags=0):
    try:
        return Ring(flags)
    except OSError as error:
        # ENOSYS, EPERM: not built in, or switched off for everybody.
        raise Unavailable(f"no io_uring on this host ({error})") from error


def sockaddr(address):
    host, port = address
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def connect_and_ask(world, ring, sock):
    where = ctypes.create_string_buffer(sockaddr(world.target), 16)
    ring.run(Ring.CONNECT, sock.fileno(), ctypes.addressof(where), offset=16)
    message = ctypes.create_string_buffer(world.message, len(world.message))
    ring.run(Ring.SEND, sock.fileno(), ctypes.addressof(message), len(world.message))
    return answer(sock)


@way()
def connect(world):
    with blocking(tcp()) as sock:
        return connect_and_ask(world, ring(), sock)


@way()
def socket_too(world):
    """The socket as well is made by the ring."""
    own = ring()
    fd = own.run(Ring.SOCKET, socket.AF_INET, offset=socket.SOCK_STREAM)
    with blocking(socket.socket(fileno=fd)) as sock:
        return connect_and_ask(world, own, sock)


@way()
def kernel_thread(world):
    """A thread of the kernel's looks for requests (`IORING_SETUP_SQPOLL`)."""
    with blocking(tcp()) as sock:
        return connect_and_ask(world, ring(Ring.SQPOLL), sock)


@way(before=lambda world: ring(Ring.SQPOLL))
def kernel_thread_before_move(world, own):
    with blocking(tcp()) as sock:
        return connect_and_ask(world, own, sock)


@way()
def raw_socket(world):
    """A kind of socket that is refused to the system call."""
    from ways.raw import packet

    own = ring()
    fd = own.run(Ring.SOCKET, socket.AF_INET, offset=socket.SOCK_RAW, length=socket.IPPROTO_RAW)
    with socket.socket(fileno=fd) as sock:
        sock.sendto(packet(world, world.own4, world.remote4, world.port), (world.remote4, 0))
    return "sent"


@way()
def sendmsg(world):
    with datagram() as sock:
        message = ctypes.create_string_buffer(world.message, len(world.message))
        where = ctypes.create_string_buffer(sockaddr(world.target), 16)
        parts = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(message), len(world.message)), 16)
        header = struct.pack("=QI4xQQQQi4x", ctypes.addressof(where), 16, ctypes.addressof(parts), 1, 0, 0, 0)
        held = ctypes.create_string_buffer(header, len(header))
        ring().run(Ring.SENDMSG, sock.fileno(), ctypes.addressof(held), 1)
        return answer(sock)
