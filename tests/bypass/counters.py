"""Prints what is below a pin directory: the counters of the kernel side, summed over processors and generations, and the
proxy's ports."""

import ctypes
import json
import os
import struct
import sys

from system import bpf

BPF_MAP_LOOKUP_ELEM, BPF_OBJ_GET, BPF_OBJ_GET_INFO_BY_FD = 1, 7, 15


def processors():
    with open("/sys/devices/system/cpu/possible") as file:
        return int(file.read().split("-")[-1].split(",")[-1]) + 1


def elements(path, kind):
    """The elements of an array, each as this type."""
    name = ctypes.create_string_buffer(path.encode())
    fd = bpf(BPF_OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0))
    try:
        info = ctypes.create_string_buffer(256)
        bpf(BPF_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, 256, ctypes.addressof(info)))
        for number in range(struct.unpack_from("=IIIII", info)[4]):
            key, value = ctypes.c_uint32(number), kind()
            attributes = struct.pack("=IxxxxQQQ", fd, ctypes.addressof(key), ctypes.addressof(value), 0)
            bpf(BPF_MAP_LOOKUP_ELEM, attributes)
            yield value
    finally:
        os.close(fd)


def main():
    stats, proxy = [], [0, 0]
    for directory, _, files in os.walk(sys.argv[1]):
        if "STATS" in files:
            per_processor = ctypes.c_uint64 * processors()
            found = [sum(values) for values in elements(os.path.join(directory, "STATS"), per_processor)]
            stats = [a + b for a, b in zip(stats, found)] if stats else found
        if "PROXY" in files:
            for ports in elements(os.path.join(directory, "PROXY"), ctypes.c_uint32 * 2):
                proxy = list(ports)
    print(json.dumps({"stats": stats, "proxy": proxy}))


main()
