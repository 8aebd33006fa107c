#!/usr/bin/env python3
"""Reads and verifies Tollgate records: a second implementation of docs/record-format.md, made from that page alone.

    tollgate_record.py DIRECTORY                 verify every session, print one JSON line for each
    tollgate_record.py DIRECTORY SESSION         verify one session, print its frames as JSON lines
    --host KEY                                   the host's identity (64 hex digits) that the ledger must have

Exit code 0: good. 1: something is wrong, and the first bad frame is named on stderr. 2: cannot be checked.
Needs blake3, cryptography and zstandard from PyPI. Sealed records alone: it does not read journals.
"""

import argparse
import base64
import json
import struct
import sys
import uuid
import zlib
from pathlib import Path

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KINDS = {1: "open", 2: "client_bytes", 3: "server_bytes", 4: "command", 5: "verdict", 6: "approval",
         7: "mask", 8: "lease", 9: "error", 10: "gap", 11: "close", 12: "identity", 13: "finding"}
DATA, CHECKPOINT, SEGMENT_END, SESSION_END = 1, 2, 3, 4
OPEN, CLOSE, MARK, ROLLOVER, PRUNED = 1, 2, 3, 4, 5


class Bad(Exception):
    """The record is not as it was written."""


def check(condition, message):
    if not condition:
        raise Bad(message)


def signed(key, signature, message):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Ledger:
    def __init__(self, path):
        # Shipped, the ledger is a directory of parts, which joined in the order of their names are the ledger.
        raw = b"".join(part.read_bytes() for part in sorted(path.glob("*.tgl"))) if path.is_dir() else path.read_bytes()
        check(len(raw) >= 64, "ledger: it ends inside its header")
        magic, version, zero, _created, self.host, zero2 = struct.unpack("<8sH6sq32s8s", raw[:64])
        check(magic == b"TGLEDGER" and version == 1 and not any(zero + zero2), "ledger: not a ledger, version 1")
        check((len(raw) - 64) % 144 == 0, "ledger: it ends inside an entry")
        chain = blake3(raw[:64]).digest()
        self.keys = [self.host]
        self.sessions = {}
        for number in range((len(raw) - 64) // 144):
            entry = raw[64 + number * 144:][:144]
            self._entry(number, entry, chain)
            chain = blake3(chain + entry).digest()

    def _entry(self, number, entry, chain):
        where = f"ledger: entry {number}"
        kind, flags, zero, epoch, named, _time, session, value, count, signature = struct.unpack(
            "<BB2sIQq16s32sQ64s", entry)
        check(OPEN <= kind <= PRUNED and flags <= 1 and not any(zero), f"{where} is malformed")
        check(named == number, f"{where} is not in its place")
        check(epoch == len(self.keys) - 1, f"{where} is of another epoch")
        domain = b"tollgate ledger entry v1".ljust(32, b"\0")
        check(signed(self.keys[epoch], signature, domain + chain + entry[:80]), f"{where} is not signed by its key")
        if kind == ROLLOVER:
            check(count == epoch + 1, f"{where} leads to another epoch than the next")
            self.keys.append(value)
            return
        state = self.sessions.setdefault(uuid.UUID(bytes=session), {"marks": {}})
        if kind == MARK:
            check("open" in state and "close" not in state, f"{where} marks a session that is not open")
            state["marks"][count] = value
        else:
            name = {OPEN: "open", CLOSE: "close", PRUNED: "pruned"}[kind]
            before = {OPEN: None, CLOSE: "open", PRUNED: "close"}[kind]
            check(name not in state and (before is None or before in state), f"{where} is out of turn")
            state[name] = {"epoch": epoch, "value": value, "count": count, "crashed": bool(flags)}


class Session:
    def __init__(self, directory, session, ledger):
        self.directory, self.session, self.ledger = directory, session, ledger
        self.entered = ledger.sessions.get(session, {})
        self.frames = self.blocks = self.signed = 0
        self.epoch = self.entered.get("open", {}).get("epoch", 0)
        self.chain = bytes(32)
        self.seed = zlib.crc32(session.bytes)
        self.opening = blake3()
        self.open_done = False

    def read(self):
        """Yields the frames; raises Bad at the first that cannot be trusted."""
        check("open" in self.entered, "the ledger does not name this session")
        segment, ended = 0, SEGMENT_END
        while ended == SEGMENT_END:
            name = f"{self.session}.tgr" if segment == 0 else f"{self.session}.{segment:04}.tgr"
            path = self.directory / name
            check(path.exists(), f"{name} is missing")
            ended = yield from self._segment(path.read_bytes(), segment)
            segment += 1
        check(not (self.directory / f"{self.session}.{segment:04}.tgr").exists(), "a segment follows the end")
        close = self.entered.get("close")
        check(close is not None, "the ledger does not name the session's end")
        check(close["value"] == self.chain and close["count"] == self.frames, "the ledger names another record")
        check(max(self.entered["marks"], default=-1) < self.blocks, "the record ends before a mark of the ledger")

    def _segment(self, raw, segment):
        check(len(raw) >= 112, "it ends inside its header")
        magic, version, zero, number, session, host, before, started, zero2 = struct.unpack(
            "<8sH2sI16s32s32sq8s", raw[:112])
        check(magic == b"TGRECORD" and version == 1 and not any(zero + zero2), "not a record, version 1")
        check(session == self.session.bytes, "the file holds another session")
        check(number == segment and before == self.chain, "the segment does not follow from the one before it")
        check(host == self.ledger.host, "the record is another host's")
        self.chain, at, ended = blake3(raw[:112]).digest(), 112, None
        while ended is None:
            check(at < len(raw), "the file ends without its seal")
            check(at + 32 <= len(raw), "the file ends inside a block")
            head = raw[at:at + 32]
            kind, codec, zero, stored, size, frames, first, block = struct.unpack("<BB2sIIIQQ", head)
            check(1 <= kind <= 4 and codec <= 1 and not any(zero), f"no block at byte {at}")
            body, end = raw[at + 32:at + 32 + stored], at + 64 + stored
            check(end <= len(raw), "the file ends inside a block")
            check(block == self.blocks and first == self.frames, f"block {block} is not in its place")
            before, self.chain = self.chain, blake3(self.chain + head + body).digest()
            check(self.chain == raw[end - 32:end], f"the block at byte {at} does not follow from what is before it")
            if kind == DATA:
                if codec == 1:
                    body = zstandard.ZstdDecompressor().decompress(body, max_output_size=1 << 20)
                check(len(body) == size, f"the block at byte {at} has another size")
                yield from self._frames(body, frames, started)
            else:
                check(codec == 0 and frames == 0 and stored == size == 112, "a checkpoint is malformed")
                self._checkpoint(body, segment, head, before)
                ended = kind if kind != CHECKPOINT else None
            mark = self.entered["marks"].get(block)
            check(mark is None or mark == self.chain, f"block {block} is not the one that the ledger marked")
            self.blocks += 1
            at = end
        check(at == len(raw), "bytes follow the seal")
        return ended

    def _frames(self, body, count, started):
        at = 0
        for _ in range(count):
            check(at + 20 <= len(body), "a frame is cut")
            size, crc, elapsed, kind, flags, zero = struct.unpack("<IIQBB2s", body[at:at + 20])
            payload = body[at + 20:at + 20 + size]
            check(size <= 65536 and len(payload) == size and kind in KINDS and flags <= 3 and not any(zero),
                  "a frame is malformed")
            blank = body[at:at + 4] + bytes(4) + body[at + 8:at + 20]
            number = struct.pack("<Q", self.frames)
            check(zlib.crc32(number + blank + payload, self.seed) == crc, "a frame's checksum does not match")
            if not self.open_done:
                self.opening.update(payload)
                self.open_done = not (kind == 1 and flags & 2)
                check(not self.open_done or self.opening.digest() == self.entered["open"]["value"],
                      "the ledger names another begin of the session")
            frame = {"number": self.frames, "elapsed_ns": elapsed, "unix_ns": started + elapsed, "kind": KINDS[kind],
                     "direction": "to_client" if flags & 1 else "to_server", "continued": bool(flags & 2)}
            if kind not in (2, 3) and not flags & 2:
                try:
                    frame["json"] = json.loads(payload)
                except ValueError:
                    pass  # the last part of a longer one
            if "json" not in frame:
                frame["base64"] = base64.b64encode(payload).decode()
            self.frames += 1
            at += 20 + size
            yield frame
        check(at == len(body), "a block holds more than its frames")

    def _checkpoint(self, body, segment, head, chain):
        epoch, zero, _time, key, signature = struct.unpack("<I4sq32s64s", body)
        over = self.entered.get("close", {"epoch": epoch})["epoch"]
        check(not any(zero), "a checkpoint is malformed")
        check(self.epoch <= epoch <= over and epoch < len(self.ledger.keys) and self.ledger.keys[epoch] == key,
              "the key that signed is not the host's of that time")
        message = (b"tollgate record checkpoint v1".ljust(32, b"\0") + self.session.bytes
                   + struct.pack("<I", segment) + head + body[:48] + chain)
        check(signed(key, signature, message), "a signature does not cover what stands before it")
        self.epoch, self.signed = epoch, self.frames


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("session", type=uuid.UUID, nargs="?")
    parser.add_argument("--host", type=bytes.fromhex)
    arguments = parser.parse_args()
    bad = False
    ledger_path = arguments.directory / "ledger.tgl"
    if not ledger_path.exists() and (arguments.directory / "ledger").is_dir():
        ledger_path = arguments.directory / "ledger"
        arguments.directory /= "records"
    try:
        ledger = Ledger(ledger_path)
        check(arguments.host in (None, ledger.host), "ledger: it is another host's")
    except Bad as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    present = {uuid.UUID(path.name[:36]) for path in arguments.directory.glob("*.tgr")}
    wanted = [arguments.session] if arguments.session else sorted(present | set(ledger.sessions))
    for name in wanted:
        session = Session(arguments.directory, name, ledger)
        if "pruned" in session.entered and name not in present:
            print(json.dumps({"session": str(name), "absent": True}))
            continue
        try:
            for frame in session.read():
                if arguments.session:
                    print(json.dumps(frame))
            if not arguments.session:
                print(json.dumps({"session": str(name), "frames": session.frames, "signed": session.signed,
                                  "crashed": session.entered["close"]["crashed"]}))
        except (Bad, zstandard.ZstdError) as error:
            bad = True
            print(f"{name}: first bad frame {session.frames}: {error}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
