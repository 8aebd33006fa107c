"""A PostgreSQL client of single messages, for what no driver would send. Not a driver: it waits where it is told to."""

import os
import socket
import struct

HOST, PORT, DB = os.environ["HOST"], int(os.environ["PORT"]), os.environ["DB"]


def startup(**settings):
    settings = {"user": "job", "database": DB, **settings}
    body = b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in settings.items()) + b"\0"
    return struct.pack("!ii", 8 + len(body), 196608) + body


def message(tag, body=b""):
    return tag + struct.pack("!i", 4 + len(body)) + body


def query(sql):
    return message(b"Q", sql.encode() + b"\0")


TERMINATE = message(b"X")


class Client:
    def __init__(self, first=None, timeout=20):
        self.socket = socket.create_connection((HOST, PORT), timeout=timeout)
        self.left = b""
        self.send(startup() if first is None else first)

    def send(self, data):
        self.socket.sendall(data)

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def read(self):
        """The next message as (tag, body); (b"", rest) at the end; (b"!", rest) at a reset."""
        while True:
            if len(self.left) >= 5:
                size = 1 + struct.unpack("!i", self.left[1:5])[0]
                if len(self.left) >= size:
                    whole, self.left = self.left[:size], self.left[size:]
                    return whole[:1], whole[5:]
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionResetError:
                return b"!", self.left
            if not more:
                return b"", self.left
            self.left += more

    def until(self, *tags):
        """Messages up to one of these tags, or to the end."""
        got = []
        while True:
            got.append(self.read())
            if got[-1][0] in (*tags, b"", b"!"):
                return got


def fields(body):
    return {f[:1].decode(): f[1:].decode() for f in body.split(b"\0") if f}


def told(got):
    """SQLSTATE, severity and words of the last error among these messages."""
    errors = [fields(body) for tag, body in got if tag == b"E"]
    return (errors[-1]["C"], errors[-1]["S"], errors[-1]["M"]) if errors else None
