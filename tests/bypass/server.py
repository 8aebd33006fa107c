"""Servers that attacks try to reach: each tells on standard output which nonce it got, and by which way.

Usage: server.py JSON, where JSON names what to listen on. Lines of standard input are barriers: `sync N` is answered with
`synced N` once everything that had arrived before has been told. Ends with the end of standard input.
"""

import json
import os
import re
import selectors
import socket
import struct
import sys

TOKEN = b"TOLLGATE-BYPASS-SERVER "
NONCE = re.compile(rb"nonce-[0-9a-z-]+")

selector = selectors.DefaultSelector()


def tell(**event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def seen(data, via, peer):
    found = NONCE.findall(data)
    for nonce in found:
        tell(event="reached", nonce=nonce.decode(), via=via, peer=str(peer))
    return found


def stream(via, listener):
    def accept():
        connection, peer = listener.accept()
        connection.setblocking(False)

        def readable():
            try:
                data = connection.recv(65536)
            except OSError:
                data = b""
            if not data:
                selector.unregister(connection)
                connection.close()
                return
            for nonce in seen(data, via, peer):
                try:
                    connection.send(TOKEN + nonce + b"\n")
                except OSError:
                    pass

        selector.register(connection, selectors.EVENT_READ, readable)

    listener.listen(64)
    selector.register(listener, selectors.EVENT_READ, accept)


def datagram(via, sock):
    def readable():
        data, peer = sock.recvfrom(65536)
        for nonce in seen(data, via, peer):
            try:
                sock.sendto(TOKEN + nonce + b"\n", peer)
            except OSError:
                pass

    selector.register(sock, selectors.EVENT_READ, readable)


def echo_requests(via, family, protocol):
    """Payloads of pings, as the host's kernel gets them. Answers nothing: the kernel does."""
    sock = socket.socket(family, socket.SOCK_RAW, protocol)

    def readable():
        data, peer = sock.recvfrom(65536)
        request = 8 if family == socket.AF_INET else 128
        start = (data[0] & 15) * 4 if family == socket.AF_INET else 0
        if data[start] == request:
            seen(data, via, peer)

    selector.register(sock, selectors.EVENT_READ, readable)


def inet(kind, protocol, port):
    """A socket on every address, of both families."""
    sock = socket.socket(socket.AF_INET6, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", port))
    return sock


def optional(name, make):
    """What not every kernel has: said, so that an attack that needs it is not taken for one that was stopped."""
    try:
        make()
    except OSError as error:
        tell(event="missing", what=name, why=str(error))


def main(wanted):
    IPPROTO_SCTP, IPPROTO_DCCP, SOCK_DCCP, AF_VSOCK = 132, 33, 6, 40
    for port in wanted.get("tcp", []):
        listener = inet(socket.SOCK_STREAM, 0, port)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
        stream("tcp", listener)
    for port in wanted.get("mptcp", []):
        optional("mptcp", lambda: stream("mptcp", inet(socket.SOCK_STREAM, 262, port)))
    for port in wanted.get("udp", []):
        sock = inet(socket.SOCK_DGRAM, 0, port)
        datagram("udp", sock)
    for port in wanted.get("udplite", []):
        optional("udplite", lambda: datagram("udplite", inet(socket.SOCK_DGRAM, 136, port)))
    for port in wanted.get("sctp", []):
        optional("sctp", lambda: stream("sctp", inet(socket.SOCK_STREAM, IPPROTO_SCTP, port)))
    for port in wanted.get("dccp", []):

        def dccp():
            sock = socket.socket(socket.AF_INET6, SOCK_DCCP, IPPROTO_DCCP)
            sock.setsockopt(269, 2, struct.pack("!I", 42))  # SOL_DCCP, DCCP_SOCKOPT_SERVICE
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", port))
            stream("dccp", sock)

        optional("dccp", dccp)
    for port in wanted.get("vsock", []):

        def vsock():
            sock = socket.socket(AF_VSOCK, socket.SOCK_STREAM)
            sock.bind((socket.VMADDR_CID_ANY, port))
            stream("vsock", sock)

        optional("vsock", vsock)
    for path in wanted.get("unix", []):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        if not path.startswith("\0"):
            os.chmod(path, 0o777)
        stream("unix", listener)
    if wanted.get("icmp"):
        echo_requests("icmp", socket.AF_INET, socket.IPPROTO_ICMP)
        echo_requests("icmp6", socket.AF_INET6, socket.IPPROTO_ICMPV6)

    barriers = []
    unread = b""
    os.set_blocking(0, False)
    tell(event="ready")
    while True:
        events = selector.select(0 if barriers else None)
        told = False
        for key, _ in events:
            if key.fileobj == 0:
                data = os.read(0, 4096)
                if not data:
                    return
                unread += data
                *lines, unread = unread.split(b"\n")
                barriers += [line.decode() for line in lines]
            else:
                told = True
                key.data()
        if barriers and not told:
            # A whole round in which nothing had come: what was sent before the barrier has been told.
            for barrier in barriers:
                tell(event="synced", line=barrier)
            barriers = []


if __name__ == "__main__":
    selector.register(0, selectors.EVENT_READ, None)
    main(json.loads(sys.argv[1]))
