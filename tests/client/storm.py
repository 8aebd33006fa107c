"""Makes COUNT connections to PORT, one after the other on each of THREADS threads, each of which has to come back right.

Prints its pid, waits for a line, and prints what went wrong, or `right`.
"""

import os
import socket
import sys
import threading

port, count, threads = (int(argument) for argument in sys.argv[1:])
pid = os.getpid()
wrong = []
numbers = iter(range(count))
lock = threading.Lock()


def connect(number):
    with socket.create_connection(("127.0.0.1", port), 50) as s:
        said = f"{pid} {number}\n".encode()
        s.sendall(said)
        s.shutdown(socket.SHUT_WR)
        heard = b""
        while piece := s.recv(4096):
            heard += piece
    # The server puts the port in front at which it heard it.
    if heard != f"{port} ".encode() + said:
        raise ValueError(heard)


def work():
    while True:
        with lock:
            number = next(numbers, None)
        if number is None or len(wrong) > 9:
            return
        try:
            connect(number)
        except Exception as error:
            wrong.append(f"{number}: {error!r}")


print(pid, flush=True)
sys.stdin.readline()
workers = [threading.Thread(target=work) for _ in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
print(wrong or "right", flush=True)
