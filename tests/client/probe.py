"""Connects to PORT again and again until standard input ends; then prints how often it was answered and how often not.

The server says `direct` at once. `inside`: that must never be heard. `outside`: nothing else may be.
"""

import collections
import select
import socket
import sys

where, port = sys.argv[1], int(sys.argv[2])
counts = collections.Counter()


def heard():
    try:
        with socket.create_connection(("127.0.0.1", port), 20) as s:
            if where == "inside":
                s.sendall(b"nothing that any protocol knows")
            return s.recv(99)
    except (ConnectionError, PermissionError):
        return None


print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    answer = heard()
    direct = answer is not None and b"direct" in answer
    if direct != (where == "outside"):
        print(f"WRONG: {where} heard {answer}", flush=True)
        sys.exit(1)
    counts["refused" if answer is None else "answered"] += 1
print(counts["answered"], counts["refused"], flush=True)
