"""System calls that Python's library has no name for."""

import ctypes
import mmap
import os
import platform
import struct

libc = ctypes.CDLL(None, use_errno=True)

# Numbers from 424 on are the same on every architecture.
IO_URING_SETUP, IO_URING_ENTER, PIDFD_OPEN, CLONE3, PIDFD_GETFD = 425, 426, 434, 435, 438
BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x10000000, 0x20000000, 0x40000000
CLONE_INTO_CGROUP = 0x200000000


def check(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def syscall(number, *arguments):
    return check(libc.syscall(ctypes.c_long(number), *arguments))


def unshare(flags):
    check(libc.unshare(flags))


def setns(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        check(libc.setns(fd, 0))
    finally:
        os.close(fd)


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 128)
    return syscall(BPF, command, buffer, 128)


def stolen(pid, fd):
    """A copy of another process's descriptor."""
    pidfd = syscall(PIDFD_OPEN, pid, 0)
    try:
        return syscall(PIDFD_GETFD, pidfd, fd, 0)
    finally:
        os.close(pidfd)


class Ring:
    """As much of io_uring (`io_uring_setup(2)`) as an attack needs: one request at a time."""

    CONNECT, SENDMSG, WRITE, SEND, SOCKET = 16, 9, 23, 26, 45
    SQPOLL = 2

    def __init__(self, flags=0):
        parameters = ctypes.create_string_buffer(120)
        struct.pack_into("=IIII", parameters, 8, flags, 0, 1000, 0)
        self.fd = syscall(IO_URING_SETUP, 4, parameters)
        self.flags = flags
        entries, completions = struct.unpack_from("=II", parameters, 0)
        self.sq = struct.unpack_from("=IIIIIIII", parameters, 40)
        self.cq = struct.unpack_from("=IIIIIIII", parameters, 80)
        self.sq_ring = mmap.mmap(self.fd, self.sq[6] + entries * 4, mmap.MAP_SHARED, offset=0)
        self.cq_ring = mmap.mmap(self.fd, self.cq[5] + completions * 16, mmap.MAP_SHARED, offset=0x8000000)
        self.requests = mmap.mmap(self.fd, entries * 64, mmap.MAP_SHARED, offset=0x10000000)

    def _word(self, ring, offset):
        return struct.unpack_from("=I", ring, offset)[0]

    def run(self, operation, fd, address=0, length=0, offset=0, flags=0):
        """Carries out one request and gives its result; fails as the system call would."""
        head_offset, tail_offset, mask_offset, _, _, _, array_offset, _ = self.sq
        tail = self._word(self.sq_ring, tail_offset)
        index = tail & self._word(self.sq_ring, mask_offset)
        request = struct.pack("=BBHiQQIIQ24x", operation, 0, 0, fd, offset, address, length, flags, 7)
        self.requests[index * 64 : index * 64 + 64] = request
        struct.pack_into("=I", self.sq_ring, array_offset + index * 4, index)
        struct.pack_into("=I", self.sq_ring, tail_offset, tail + 1)
        GETEVENTS, WAKEUP = 1, 2
        submit = 0 if self.flags & self.SQPOLL else 1
        syscall(IO_URING_ENTER, self.fd, submit, 1, GETEVENTS | (WAKEUP if not submit else 0), None, 0)
        head_offset, tail_offset, mask_offset, _, _, entries_offset, _, _ = self.cq
        head = self._word(self.cq_ring, head_offset)
        index = head & self._word(self.cq_ring, mask_offset)
        _, result, _ = struct.unpack_from("=QiI", self.cq_ring, entries_offset + index * 16)
        struct.pack_into("=I", self.cq_ring, head_offset, head + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result
