"""What the ways round have in common: where the destinations are, and how a token is asked for."""

import json
import socket
import struct

TOKEN = b"TOLLGATE-BYPASS-SERVER "

# How long an answer is waited for that a working way gets within milliseconds.
PATIENCE = 1.0


class Unavailable(Exception):
    """This host lacks something that the way needs: nothing is known of it here."""


class World:
    """Where everything is. Attributes are those of the JSON document that the harness writes."""

    def __init__(self, path, nonce, user):
        with open(path) as file:
            self.__dict__.update(json.load(file))
        self.nonce = nonce
        self.user = user

    @property
    def message(self):
        """What an attack sends: the server tells when it has it, wherever it comes from."""
        return self.nonce.encode() + b"\n"

    @property
    def target(self):
        """The protected service on another host."""
        return (self.remote4, self.port)

    @property
    def target6(self):
        return (self.remote6, self.port)


def way(before=None, outside=None, outside_user=None, prepare=None, held=False, fresh=False):
    """Marks an attack, with what belongs to it.

    `before(world)` runs in the attacker before it is moved into the managed cgroup; what it returns is given to the attack.
    `outside(world, channel)` runs at the same time in a process that is not managed, as the same user or `outside_user`;
    the attack has the other end of the channel, a unix socket of whole messages, as `world.channel`.
    `prepare(world)` runs as root and unmanaged before any of them. `held`: the attacker is moved first, then runs `before`,
    and waits until the harness has started the agent. `fresh`: its cgroup is made the moment it is moved there, and matches
    the policy.
    """

    def mark(attack):
        attack.before = before
        attack.outside = outside
        attack.outside_user = outside_user
        attack.prepare = prepare
        attack.held = held
        attack.fresh = fresh
        return attack

    return mark


def tcp(family=socket.AF_INET, protocol=0):
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    prompt(sock)
    return sock


def prompt(sock):
    """Waits no longer than a working way takes, and leaves nothing behind that the kernel would send again and again."""
    sock.settimeout(PATIENCE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return sock


def blocking(sock):
    """Waits in the kernel instead, for calls that a socket without waiting would break off."""
    sock.settimeout(None)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(PATIENCE), 0))
    return sock


def ask(world, sock):
    """Sends the nonce over a connected socket and reads the answer."""
    sock.sendall(world.message)
    return answer(sock)


def answer(sock):
    data = sock.recv(4096)
    return f"answered {data!r}" if data.startswith(TOKEN) else f"got {data!r}"


def connect_and_ask(world, address, family=socket.AF_INET, protocol=0):
    with tcp(family, protocol) as sock:
        sock.connect(address)
        return ask(world, sock)


def each(attempts):
    """Tries several things, the failure of one being no reason not to try the next."""
    said = []
    for name, attempt in attempts:
        try:
            said.append(f"{name}: {attempt()}")
        except OSError as error:
            said.append(f"{name}: {error}")
    return "; ".join(said)


def datagram(family=socket.AF_INET, protocol=0):
    sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
    sock.settimeout(PATIENCE)
    return sock
