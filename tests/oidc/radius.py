"""A RADIUS server (RFC 2865) for which a password is good if it is a token that an authorization server calls active
(RFC 7662): what a database asks that takes tokens for passwords.

    radius.py SHARED_SECRET INTROSPECTION_URL CLIENT CLIENT_SECRET

Prints its port, and then each user and token that it let in.
"""

import hashlib
import json
import socket
import struct
import sys
import urllib.parse
import urllib.request

ACCESS_REQUEST, ACCESS_ACCEPT, ACCESS_REJECT = 1, 2, 3
USER_NAME, USER_PASSWORD = 1, 2


def attributes(packet):
    at, end, found = 20, struct.unpack(">H", packet[2:4])[0], {}
    while at + 2 <= end:
        kind, length = packet[at], packet[at + 1]
        if length < 2:
            break
        found[kind] = packet[at + 2 : at + length]
        at += length
    return found


def shown(hidden, secret, authenticator):
    """The password, which is hidden as section 5.2 has it."""
    clear, before = b"", authenticator
    for at in range(0, len(hidden), 16):
        block = hidden[at : at + 16]
        key = hashlib.md5(secret + before).digest()
        clear += bytes(one ^ other for one, other in zip(block, key))
        before = block
    return clear.rstrip(b"\0").decode()


def is_active(url, client, client_secret, token):
    fields = {"client_id": client, "client_secret": client_secret, "token": token}
    form = urllib.parse.urlencode(fields).encode()
    with urllib.request.urlopen(urllib.request.Request(url, form), timeout=10) as answer:
        return json.load(answer)["active"] is True


def main(secret, url, *client):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    while True:
        packet, asker = server.recvfrom(4096)
        if len(packet) < 20 or packet[0] != ACCESS_REQUEST:
            continue
        asked = attributes(packet)
        token = shown(asked.get(USER_PASSWORD, b""), secret, packet[4:20])
        good = is_active(url, *client, token)
        if good:
            print("let in", asked[USER_NAME].decode(), token, flush=True)
        head = struct.pack(">BBH", ACCESS_ACCEPT if good else ACCESS_REJECT, packet[1], 20)
        server.sendto(head + hashlib.md5(head + packet[4:20] + secret).digest(), asker)


main(sys.argv[1].encode(), *sys.argv[2:])
