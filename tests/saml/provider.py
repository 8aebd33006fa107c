"""A SAML identity provider for tests: pysaml2 on loopback, which signs with xmlsec1.

Prints its port. Stops when its standard input ends.

    GET  /metadata    its metadata
    POST /assertion   a response for a job, form-encoded: audience, recipient, subject, life (seconds, may be negative),
                      sign (assertion, response, both, none), session (seconds), and attributes as attribute=NAME:VALUE
"""

import datetime
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from saml2.config import IdPConfig
from saml2.metadata import entity_descriptor
from saml2.saml import NAMEID_FORMAT_UNSPECIFIED, NAME_FORMAT_BASIC, NameID
from saml2.server import Server
from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256


class Provider:
    def __init__(self, directory, port):
        self.key, self.certificate = f"{directory}/key.pem", f"{directory}/certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=idp", "-days", "1",
             "-keyout", self.key, "-out", self.certificate],
            check=True, capture_output=True,
        )
        self.base = f"http://127.0.0.1:{port}"

    def config(self, life):
        config = IdPConfig()
        config.load({
            "entityid": f"{self.base}/idp",
            "xmlsec_binary": "/usr/bin/xmlsec1",
            "key_file": self.key,
            "cert_file": self.certificate,
            "metadata": {},
            "service": {
                "idp": {
                    "endpoints": {
                        "single_sign_on_service": [
                            (f"{self.base}/sso", "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"),
                        ],
                    },
                    "policy": {"default": {
                        "lifetime": {"seconds": life},
                        "attribute_restrictions": None,
                        "name_form": NAME_FORMAT_BASIC,
                    }},
                },
            },
        })
        return config

    def metadata(self):
        return str(entity_descriptor(self.config(60)))

    def assertion(self, form):
        def one(name, default):
            return form.get(name, [default])[0]

        attributes = {}
        for pair in form.get("attribute", []):
            name, value = pair.split(":", 1)
            attributes.setdefault(name, []).append(value)
        signed = one("sign", "assertion")
        session = one("session", "")
        end = None
        if session:
            now = datetime.datetime.now(datetime.timezone.utc)
            end = (now + datetime.timedelta(seconds=int(session))).strftime("%Y-%m-%dT%H:%M:%SZ")
        server = Server(config=self.config(int(one("life", "300"))))
        # Asked for when a response is signed: nobody's metadata is here, and nothing is encrypted.
        server.has_encrypt_cert_in_metadata = lambda _entity: False
        return str(server.create_authn_response(
            attributes,
            in_response_to=None,
            destination=one("recipient", None),
            sp_entity_id=one("audience", "tollgate"),
            name_id=NameID(format=NAMEID_FORMAT_UNSPECIFIED, text=one("subject", "job-4711")),
            authn={"class_ref": "urn:oasis:names:tc:SAML:2.0:ac:classes:X509", "authn_auth": self.base},
            sign_assertion=signed in ("assertion", "both"),
            sign_response=signed in ("response", "both"),
            sign_alg=SIG_RSA_SHA256,
            digest_alg=DIGEST_SHA256,
            session_not_on_or_after=end,
        ))


def handler(state):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/metadata":
                self.answer(200, state["provider"].metadata(), "application/samlmetadata+xml")
            else:
                self.answer(404, "", "text/plain")

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            self.answer(200, state["provider"].assertion(parse_qs(body)), "application/xml")

        def answer(self, status, body, kind):
            body = body.encode()
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def main():
    state = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(state))
    with tempfile.TemporaryDirectory() as directory:
        state["provider"] = Provider(directory, server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_port, flush=True)
        sys.stdin.read()


main()
