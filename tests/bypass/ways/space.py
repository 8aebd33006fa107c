"""Namespaces of other kinds than cgroups."""

import os
import socket
import subprocess
import time

from system import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, setns, unshare
from way import ask, connect_and_ask, tcp, way

# How long the agent may take to listen in a namespace that it sees for the first time.
PATIENCE = 5


@way()
def socket_kept(world):
    """Connects a socket of the host's network namespace from another one."""
    with tcp() as sock:
        unshare(CLONE_NEWNET if world.user == "root" else CLONE_NEWUSER | CLONE_NEWNET)
        sock.connect(world.target)
        return ask(world, sock)


@way()
def mounts_and_pids(world):
    unshare(CLONE_NEWNS | CLONE_NEWPID | (0 if world.user == "root" else CLONE_NEWUSER))
    pid = os.fork()
    if pid == 0:
        try:
            connect_and_ask(world, world.target)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return "a process with the pid 1 ran"


def until_not_refused(world, address):
    """A namespace in which nobody listens yet refuses, and a new cable loses packets; whoever is patient finds out what
    comes then."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return connect_and_ask(world, address)
        except (ConnectionRefusedError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@way()
def own_network(world):
    """A network namespace of its own, wired to the host, which forwards."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    unshare(CLONE_NEWNET)
    ip("link", "add", "tgown0", "type", "veth", "peer", "name", "tgown1", "netns", str(os.getppid()))
    ip("link", "set", "lo", "up")
    ip("address", "add", "10.77.9.2/30", "dev", "tgown0")
    ip("link", "set", "tgown0", "up")
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    setns(f"/proc/self/fd/{home}")
    try:
        ip("address", "add", "10.77.9.1/30", "dev", "tgown1")
        ip("link", "set", "tgown1", "up")
        setns(f"/proc/self/fd/{own}")
        ip("route", "add", "default", "via", "10.77.9.1")
        return until_not_refused(world, world.target)
    finally:
        setns(f"/proc/self/fd/{home}")
        subprocess.run(["ip", "link", "delete", "tgown1"], capture_output=True)


@way()
def servers_network(world):
    """Into the network namespace of the server, which is on this very host, and to its own address."""
    setns(f"/proc/{world.remote_pid}/ns/net")
    return until_not_refused(world, world.target)


@way()
def servers_loopback(world):
    """The same, to an address that means whoever uses it."""
    setns(f"/proc/{world.remote_pid}/ns/net")
    return until_not_refused(world, ("127.0.0.1", world.port))


@way()
def new_address(world):
    """Gives this host another address and uses it at once."""
    address = "10.78.0.1"
    ip("address", "add", address + "/32", "dev", "lo")
    try:
        return connect_and_ask(world, (address, world.local_port))
    finally:
        ip("address", "delete", address + "/32", "dev", "lo")


@way()
def new_local_route(world):
    """Makes a whole network mean this host, and uses it at once."""
    ip("route", "add", "local", "10.79.0.0/24", "dev", "lo")
    try:
        return connect_and_ask(world, ("10.79.0.7", world.local_port))
    finally:
        ip("route", "delete", "local", "10.79.0.0/24", "dev", "lo")


def nft(rules):
    done = subprocess.run(["nft", "-f", "-"], input=rules, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"nft: {done.stderr.strip()}")


@way()
def translated_address(world):
    """Connects to nobody's address, which netfilter changes into the protected one."""
    from way import Unavailable

    if subprocess.run(["sh", "-c", "command -v nft"], capture_output=True).returncode:
        raise Unavailable("no nft on this host")
    table = f"""table ip tgbypass {{
        chain output {{
            type nat hook output priority -100;
            ip daddr 10.77.3.9 tcp dport {world.port} dnat to {world.remote4}:{world.port}
        }}
    }}"""
    nft(table)
    try:
        return connect_and_ask(world, ("10.77.3.9", world.port))
    finally:
        nft("delete table ip tgbypass")
