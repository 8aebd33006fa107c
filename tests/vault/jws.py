"""JWTs for the double of Vault, signed and checked with openssl (RS256, RFC 7515 and 7517)."""

import base64
import json
import subprocess
import tempfile
import time


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Issuer:
    """One that nobody else knows."""

    def __init__(self, directory):
        self.key = f"{directory}/jwt.pem"
        subprocess.run(["openssl", "genrsa", "-out", self.key, "2048"], check=True, capture_output=True)

    def sign(self, claims):
        parts = [encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT", "kid": "one"}, claims)]
        text = ".".join(parts)
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key], input=text.encode(), check=True, capture_output=True)
        return f"{text}.{encoded(signed.stdout)}"

    def keys(self):
        told = subprocess.run(
            ["openssl", "rsa", "-in", self.key, "-noout", "-modulus"], check=True, capture_output=True, text=True)
        modulus = bytes.fromhex(told.stdout.strip().removeprefix("Modulus="))
        return {"keys": [{"kty": "RSA", "kid": "one", "n": encoded(modulus), "e": "AQAB"}]}


def der(tag, content):
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 128 | size]) + length.to_bytes(size, "big") + content


def public_key(key):
    """A JWK in the form that openssl reads (RFC 8017, SubjectPublicKeyInfo)."""
    numbers = b"".join(der(2, b"\0" + decoded(key[name])) for name in ("n", "e"))
    algorithm = der(0x30, bytes.fromhex("06092a864886f70d0101010500"))
    info = der(0x30, algorithm + der(3, b"\0" + der(0x30, numbers)))
    return f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(info).decode()}\n-----END PUBLIC KEY-----\n"


def verify(token, keys, directory):
    """The claims of a token that is signed and has not ended."""
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError("it is no JWT")
    if any(encoded(decoded(part)) != part for part in parts):
        raise ValueError("it is not base64url as RFC 7515 has it")
    header, claims = (json.loads(decoded(part)) for part in parts[:2])
    if header.get("alg") != "RS256":
        raise ValueError("unsupported signing algorithm")
    for key in keys["keys"]:
        if key.get("kid") != header.get("kid") or key["kty"] != "RSA":
            continue
        with tempfile.NamedTemporaryFile(dir=directory) as signature, tempfile.NamedTemporaryFile(dir=directory) as pem:
            signature.write(decoded(parts[2]))
            signature.flush()
            pem.write(public_key(key).encode())
            pem.flush()
            checked = subprocess.run(
                ["openssl", "dgst", "-sha256", "-verify", pem.name, "-signature", signature.name],
                input=".".join(parts[:2]).encode(), capture_output=True, check=False)
        if checked.returncode == 0:
            break
    else:
        raise ValueError("no known key successfully validated the token signature")
    if claims.get("exp", 0) < time.time():
        raise ValueError("token is expired")
    return claims
