"""A double of HashiCorp Vault for tests, on loopback: as strict as the documentation of its HTTP API (v1).

No Vault can be had from the registries that the tests use. What is here follows the API documentation of auth/token,
auth/approle, auth/jwt, sys/leases, secret/kv, secret/databases and secret/ssh: paths, verbs, parameters, statuses and
shapes of answers. It refuses what the documentation does not name (paths, verbs, parameters, a body that is no JSON object,
a missing token), even where the real one would let it pass.

Logins of the database engine are real roles, made and dropped with psql; keys are signed with ssh-keygen; a JWT's signature
is checked with openssl.

    double.py SETTINGS.json        prints its port; stops when its standard input ends; `directory` is its to fill

    POST /_test/fault   {"path": prefix, "fault": kind, "times": n}   what the next questions below a path come to
    POST /_test/jwt     {claims}                                      a JWT of the issuer that auth/jwt knows
    POST /_test/end     {"accessor": …}                               a token's time is over
    GET  /_test/state   what is there: tokens, leases, questions
"""

import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

# The tests' folder stays as it is.
sys.dont_write_bytecode = True
from engines import Refused, Vault  # noqa: E402

LONGEST = 64 * 1024


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    vault = None

    def log_message(self, *_):
        pass

    def reply(self, status, value=None, headers=()):
        body = b"" if value is None else json.dumps(value).encode()
        self.raw(status, body, [("Content-Type", "application/json"), *headers])

    def raw(self, status, body, headers):
        self.send_response(status)
        for name, text in headers:
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > LONGEST:
            raise Refused(413, "request body too large")
        text = self.rfile.read(length)
        if not text:
            return None
        if self.headers.get("Content-Type") != "application/json":
            raise Refused(400, "the body is not said to be JSON")
        try:
            value = json.loads(text)
        except ValueError:
            raise Refused(400, "error parsing JSON") from None
        if not isinstance(value, dict):
            raise Refused(400, "the body is no JSON object")
        return value

    def answer(self):
        url = urlsplit(self.path)
        try:
            if url.path.startswith("/_test/"):
                return self.test(url.path.removeprefix("/_test/"))
            body = self.body()
            if not url.path.startswith("/v1/"):
                raise Refused(404, "page not found")
            path = url.path.removeprefix("/v1/")
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            self.vault.note(self.command, path, self.headers)
            fault = self.vault.fault(path)
            if fault and self.faulty(fault):
                return None
            self.vault.check_headers(self.headers)
            value = self.vault.question(self.command, path, query, body, self.headers.get("X-Vault-Token"))
            if fault == "late":
                # It was done; who asked waits until the double is well again.
                while self.vault.faults and not self.vault.stopping.wait(0.05):
                    pass
            if fault == "lost":
                # It was done, and nobody hears of it.
                self.close_connection = True
                return None
            if fault and fault.startswith("without "):
                value = without(value, fault.removeprefix("without ").split("."))
            if value is None:
                return self.reply(204)
            envelope = {
                "request_id": "8c7d0a0e-0000-4000-8000-000000000000", "lease_id": "", "renewable": False,
                "lease_duration": 0, "data": None, "wrap_info": None, "warnings": None, "auth": None,
            }
            return self.reply(200, {**envelope, **value} if isinstance(value, dict) else value)
        except Refused as refused:
            return self.reply(refused.status, {"errors": [refused.message]})
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def faulty(self, fault):
        """Answers as a server that is not well; false: it is only its answer that will be wrong."""
        secret = "echoed-secret-5a1c"
        if fault == "slow":
            self.vault.stopping.wait(60)
            self.close_connection = True
        elif fault == "nonsense":
            self.raw(200, f"<html>{secret}</html>".encode(), [])
        elif fault == "oversized":
            try:
                self.raw(200, json.dumps({"data": {"password": secret * 60_000}}).encode(), [])
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
        elif fault.startswith("redirect "):
            self.reply(307, None, [("Location", fault.removeprefix("redirect "))])
        elif fault == "sealed":
            self.reply(503, {"errors": ["Vault is sealed"]})
        elif fault == "echo":
            self.reply(400, {"errors": [f"cannot do it with {secret}"]})
        elif fault.isdigit():
            self.reply(int(fault), {"errors": []})
        elif fault == "broken":
            self.close_connection = True
        else:
            return False
        return True

    def test(self, what):
        if what == "state":
            return self.reply(200, self.vault.state())
        body = self.body() or {}
        if what == "fault":
            self.vault.faults.append([body["path"], body["fault"], body.get("times", 1)])
        elif what == "well":
            self.vault.faults.clear()
        elif what == "jwt":
            return self.reply(200, {"jwt": self.vault.jwt(body)})
        elif what == "end":
            self.vault.end(body["accessor"])
        else:
            return self.reply(404)
        return self.reply(204)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = answer


def without(value, path):
    """The answer with one field left out."""
    value = json.loads(json.dumps(value))
    place = value
    for part in path[:-1]:
        place = place[part]
    del place[path[-1]]
    return value


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    server = ThreadingHTTPServer(("127.0.0.1", settings.get("port", 0)), Handler)
    server.daemon_threads = True
    if "certificate" in settings:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings["certificate"], settings["key"])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    vault = Handler.vault = Vault(settings)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=expire, args=(vault,), daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    vault.stopping.set()


def expire(vault):
    while not vault.stopping.is_set():
        vault.expire()
        time.sleep(0.1)


main()
