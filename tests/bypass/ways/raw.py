"""Sockets that write headers of their own, or speak another transport."""

import socket
import struct
import os
import fcntl
import time

from system import check, libc
from way import PATIENCE, Unavailable, answer, ask, blocking, prompt, way

AF_VSOCK, VMADDR_CID_LOCAL = 40, 1
IPPROTO_SCTP, IPPROTO_DCCP, SOCK_DCCP = 132, 33, 6


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(world, source, destination, port):
    """An IPv4 packet with a UDP datagram in it, made by hand."""
    payload = world.message
    udp = struct.pack("!HHHH", 40404, port, 8 + len(payload), 0) + payload
    length = 20 + len(udp)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 1, 0, 64, 17, 0, *map(socket.inet_aton, (source, destination)))
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + udp


@way()
def ip_raw(world):
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.sendto(packet(world, world.own4, world.remote4, world.port), (world.remote4, 0))
    return "sent"


@way()
def udp_raw6(world):
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_UDP) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, 6)
        payload = world.message
        udp = struct.pack("!HHHH", 40404, world.port, 8 + len(payload), 0) + payload
        sock.sendto(udp, (world.remote6, 0))
    return "sent"


def raw_socket(world):
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


@way(before=raw_socket)
def made_before_move(world, sock):
    sock.sendto(packet(world, world.own4, world.remote4, world.port), (world.remote4, 0))
    return "sent"


@way()
def packet_socket(world):
    """Hands a frame to the device, past everything that knows addresses."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as sock:
        hardware = bytes.fromhex(world.remote_mac.replace(":", ""))
        data = packet(world, world.own4, world.remote4, world.port)
        sock.sendto(data, (world.device, 0x0800, 0, 0, hardware))
    return "sent"


@way()
def tun_device(world):
    """Packets that come out of a device of its own are forwarded like a stranger's."""
    TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR)
    except FileNotFoundError as error:
        raise Unavailable("no /dev/net/tun on this host") from error
    name = b"tgtun0"
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name, IFF_TUN | IFF_NO_PI))
    for command in ("ip address add 10.254.254.1/30 dev tgtun0", "ip link set tgtun0 up"):
        if os.system(command + " 2>/dev/null"):
            raise OSError("ip: " + command)
    deadline = time.monotonic() + PATIENCE
    while True:
        # The device drops what comes before its carrier is there.
        try:
            os.write(tun, packet(world, "10.254.254.2", world.remote4, world.port))
            return "sent"
        except OSError:
            if time.monotonic() > deadline:
                raise


def other_transport(world, kind, protocol, prepare=lambda sock: None, instead=None):
    try:
        sock = socket.socket(socket.AF_INET, kind, protocol)
    except OSError as error:
        # EPROTONOSUPPORT and ESOCKTNOSUPPORT: not in this kernel.
        if error.errno in (93, 94) and not world.tollgate:
            raise Unavailable(f"this kernel has no such transport ({error})") from error
        raise
    with sock:
        prompt(sock)
        prepare(sock)
        if instead:
            return instead(sock)
        sock.connect(world.target)
        return ask(world, sock)


@way()
def sctp(world):
    return other_transport(world, socket.SOCK_STREAM, IPPROTO_SCTP)


@way()
def sctp_seqpacket(world):
    """Without `connect()`: a message makes the association that it goes by."""
    return other_transport(
        world,
        socket.SOCK_SEQPACKET,
        IPPROTO_SCTP,
        instead=lambda sock: (sock.sendto(world.message, world.target), answer(sock))[1],
    )


@way()
def dccp(world):
    def service(sock):
        sock.setsockopt(269, 2, struct.pack("!I", 42))

    return other_transport(world, SOCK_DCCP, IPPROTO_DCCP, service)


@way()
def smc(world):
    """Shared memory over RDMA, which falls back to a TCP connection that the kernel makes."""
    try:
        sock = socket.socket(43, socket.SOCK_STREAM, 0)
    except OSError as error:
        if not world.tollgate:
            raise Unavailable(f"this kernel has no SMC ({error})") from error
        raise
    with sock:
        blocking(sock)
        # Python knows no addresses of the family: they are those of IPv4.
        address = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(world.port), socket.inet_aton(world.remote4))
        check(libc.connect(sock.fileno(), address, len(address)))
        return ask(world, sock)


@way()
def vsock(world):
    """A service of this host by a family that has no addresses of the network."""
    try:
        sock = socket.socket(AF_VSOCK, socket.SOCK_STREAM)
    except OSError as error:
        if not world.tollgate:
            raise Unavailable(f"this kernel has no vsock ({error})") from error
        raise
    with sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect((VMADDR_CID_LOCAL, world.vsock_port))
        except OSError as error:
            if not world.tollgate and not os.path.exists("/sys/module/vsock_loopback"):
                raise Unavailable(f"this kernel has no vsock_loopback ({error})") from error
            raise
        return ask(world, sock)
