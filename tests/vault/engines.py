"""What the double of Vault keeps and makes: see double.py."""

import json
import re
import secrets
import subprocess
import tempfile
import threading
import time
import urllib.request

import jws

DEFAULT_POLICY = {
    ("auth/token/lookup-self", "read"), ("auth/token/renew-self", "update"), ("auth/token/revoke-self", "update"),
    ("sys/leases/renew", "update"), ("sys/leases/lookup", "update"),
}


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status, self.message = status, message


def seconds(value):
    """A duration, as parameters have it: seconds, or a text with a unit."""
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"(\d+)(s|m|h|)", value)
    if not match:
        raise Refused(400, "error converting input for a duration")
    return int(match[1]) * {"s": 1, "": 1, "m": 60, "h": 3600}[match[2]]


class Vault:
    def __init__(self, settings):
        self.settings = settings
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self.faults, self.questions = [], []
        self.tokens, self.leases = {}, {}
        self.uses = dict(settings.get("secret_ids", {}))
        self.directory = settings["directory"]
        self.issuer = jws.Issuer(self.directory)
        for secret, token in settings.get("tokens", {}).items():
            self.issue(policies=token["policies"], ttl=token.get("ttl", 0), secret=secret, max_ttl=token.get("max_ttl"))
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{self.directory}/ca"], check=True)

    # What tests ask.

    def note(self, verb, path, headers):
        with self.lock:
            self.questions.append(
                {"verb": verb, "path": path, "namespace": headers.get("X-Vault-Namespace"), "at": time.time()})

    def fault(self, path):
        with self.lock:
            for fault in self.faults:
                if path.startswith(fault[0]) and fault[2] > 0:
                    fault[2] -= 1
                    return fault[1]
        return None

    def state(self):
        with self.lock:
            return {
                "tokens": [
                    {"accessor": t["accessor"], "meta": t["meta"], "root": t["root"], "child": t["parent"] is not None}
                    for t in self.tokens.values()
                ],
                "leases": [{"id": id, "user": lease["user"]} for id, lease in self.leases.items()],
                "questions": self.questions,
            }

    def jwt(self, claims):
        now = int(time.time())
        return self.issuer.sign({"iat": now, "exp": now + 300, "aud": "vault", "sub": "job-1", **claims})

    def end(self, accessor):
        with self.lock:
            self.revoke(self.by_accessor(accessor))

    # Tokens.

    def issue(self, policies, ttl, parent=None, secret=None, max_ttl=None, meta=None, renewable=True):
        now = time.time()
        secret = secret or f"hvs.{secrets.token_urlsafe(24)}"
        self.tokens[secret] = {
            "secret": secret, "accessor": secrets.token_urlsafe(18), "policies": policies, "parent": parent,
            "ttl": ttl, "ends": now + ttl if ttl else None, "last": now + max_ttl if max_ttl else None,
            "renewable": renewable and bool(ttl), "meta": meta, "root": "root" in policies,
        }
        return self.tokens[secret]

    def auth(self, token):
        left = round(token["ends"] - time.time()) if token["ends"] else 0
        return {
            "client_token": token["secret"], "accessor": token["accessor"], "policies": token["policies"],
            "token_policies": token["policies"], "metadata": token["meta"], "lease_duration": left,
            "renewable": token["renewable"], "entity_id": "", "token_type": "service", "orphan": token["parent"] is None,
        }

    def by_accessor(self, accessor):
        for token in self.tokens.values():
            if token["accessor"] == accessor:
                return token
        raise Refused(400, "1 error occurred:\n\t* invalid accessor\n\n")

    def extend(self, token, increment):
        if not token["renewable"]:
            raise Refused(400, "1 error occurred:\n\t* lease is not renewable\n\n")
        ends = time.time() + (increment or token["ttl"])
        token["ends"] = min(ends, token["last"]) if token["last"] else ends

    def revoke(self, token):
        """With everything that is under it."""
        self.tokens.pop(token["secret"], None)
        for child in [t for t in self.tokens.values() if t["parent"] == token["secret"]]:
            self.revoke(child)
        for id in [id for id, lease in self.leases.items() if lease["token"] == token["secret"]]:
            self.drop(id)

    def drop(self, id):
        lease = self.leases[id]
        self.psql(lease["role"]["revocation_statements"].replace("{{name}}", lease["user"]))
        self.leases.pop(id, None)

    def expire(self):
        now = time.time()
        with self.lock:
            for token in [t for t in self.tokens.values() if t["ends"] and t["ends"] <= now]:
                try:
                    self.revoke(token)
                except Refused:
                    pass
            for id in [id for id, lease in self.leases.items() if lease["ends"] <= now]:
                try:
                    self.drop(id)
                except Refused:
                    pass

    # Questions.

    def check_headers(self, headers):
        if headers.get("X-Vault-Request") != "true":
            raise Refused(412, "missing required 'X-Vault-Request' header")
        wanted = self.settings.get("namespace")
        if headers.get("X-Vault-Namespace") != wanted:
            raise Refused(404, "no handler for route")

    def question(self, verb, path, query, body, secret):
        verb = "POST" if verb == "PUT" else verb
        for pattern, verbs, keys, handle in ROUTES:
            match = re.fullmatch(pattern, path)
            if not match:
                continue
            if verb not in verbs:
                raise Refused(405, "1 error occurred:\n\t* unsupported operation\n\n")
            unknown = set(body or {}) - keys | set(query) - keys
            if unknown:
                raise Refused(400, f"unknown parameters: {', '.join(sorted(unknown))}")
            if verb == "GET" and body is not None:
                raise Refused(400, "a GET has no body")
            if path.startswith("auth/") and path.endswith("/login"):
                # What runs a program may take its time, and others are asked meanwhile.
                return handle(self, *match.groups(), {**query, **(body or {})}, None)
            with self.lock:
                token = self.allowed(secret, path, "read" if verb == "GET" else "update")
            return handle(self, *match.groups(), {**query, **(body or {})}, token)
        raise Refused(404, f"no handler for route \"{path}\". route entry not found.")

    def allowed(self, secret, path, capability):
        token = self.tokens.get(secret)
        if token is None:
            raise Refused(403, "1 error occurred:\n\t* permission denied\n\n")
        if token["root"] or (path, capability) in DEFAULT_POLICY:
            return token
        for name in token["policies"]:
            for prefix, capabilities in self.settings["policies"].get(name, {}).items():
                if (path == prefix or prefix.endswith("*") and path.startswith(prefix[:-1])) and capability in capabilities:
                    return token
        raise Refused(403, "1 error occurred:\n\t* permission denied\n\n")

    def login_approle(self, mount, given, _):
        role = self.mounted("approle", mount)
        with self.lock:
            if given.get("role_id") != role["role_id"]:
                raise Refused(400, "invalid role or secret ID")
            uses = self.uses.get(given.get("secret_id"))
            if not uses:
                raise Refused(400, "invalid role or secret ID")
            # -1: as often as one likes.
            self.uses[given["secret_id"]] = uses - 1 if uses > 0 else uses
            token = self.issue(role["policies"], role["ttl"], max_ttl=role.get("max_ttl"))
            return {"auth": self.auth(token)}

    def login_jwt(self, mount, given, _):
        role = self.mounted("jwt", mount)
        if given.get("role") != role["role"]:
            raise Refused(400, f"role \"{given.get('role')}\" could not be found")
        try:
            keys = json.load(urllib.request.urlopen(role["jwks_url"], timeout=5)) if "jwks_url" in role else None
            claims = jws.verify(given.get("jwt", ""), keys or self.issuer.keys(), self.directory)
        except ValueError as error:
            raise Refused(400, f"error validating token: {error}") from None
        audience = claims.get("aud")
        if role["audience"] not in (audience if isinstance(audience, list) else [audience]):
            raise Refused(400, "error validating token: invalid audience (aud) claim")
        with self.lock:
            token = self.issue(role["policies"], role["ttl"], max_ttl=role.get("max_ttl"), meta={"role": role["role"]})
            return {"auth": self.auth(token)}

    def mounted(self, kind, mount):
        found = self.settings.get(kind, {}).get(mount)
        if found is None:
            raise Refused(404, f"no handler for route \"{mount}\". route entry not found.")
        return found

    def token_create(self, given, token):
        ttl = seconds(given.get("ttl", 2764800))
        last = given.get("explicit_max_ttl")
        with self.lock:
            child = self.issue(
                token["policies"], ttl, parent=token["secret"], max_ttl=seconds(last) if last else None,
                meta=given.get("meta"), renewable=given.get("renewable", True))
            return {"auth": self.auth(child)}

    def token_lookup(self, given, token):
        left = max(1, round(token["ends"] - time.time())) if token["ends"] else 0
        return {"data": {
            "accessor": token["accessor"], "ttl": left, "creation_ttl": token["ttl"], "renewable": token["renewable"],
            "policies": token["policies"], "meta": token["meta"], "type": "service", "id": token["secret"],
        }}

    def token_renew(self, given, token):
        with self.lock:
            self.extend(token, seconds(given["increment"]) if "increment" in given else None)
            return {"auth": self.auth(token)}

    def token_revoke(self, given, token):
        with self.lock:
            self.revoke(token)

    def token_revoke_accessor(self, given, _):
        with self.lock:
            self.revoke(self.by_accessor(given.get("accessor", "")))

    def lease(self, given):
        lease = self.leases.get(given.get("lease_id"))
        if lease is None:
            raise Refused(400, "invalid lease")
        return lease

    def lease_lookup(self, given, _):
        with self.lock:
            lease = self.lease(given)
            return {"data": {"id": given["lease_id"], "ttl": round(lease["ends"] - time.time()), "renewable": True}}

    def lease_renew(self, given, _):
        with self.lock:
            lease = self.leases.get(given.get("lease_id"))
            if lease is None:
                raise Refused(400, "lease not found or lease is not renewable")
            if not lease["role"].get("renewable", True):
                raise Refused(400, "lease is not renewable")
            now = time.time()
            ends = now + seconds(given.get("increment", lease["role"]["ttl"]))
            # The role's own time to live is what one renewal gives at most.
            lease["ends"] = min(ends, now + lease["role"]["ttl"], lease["last"])
            return {"lease_id": given["lease_id"], "renewable": True, "lease_duration": round(lease["ends"] - now)}

    def lease_revoke(self, given, _):
        with self.lock:
            # One that is not there is as good as revoked.
            if given.get("lease_id") in self.leases:
                self.drop(given["lease_id"])

    def kv_one(self, mount, path, given, _):
        secret = self.mounted("kv", mount).get(path)
        if secret is None or self.settings.get("kv_versions", {}).get(mount) != 1:
            raise Refused(404, "")
        return {"data": secret, "lease_duration": 2764800}

    def kv_two(self, mount, path, given, token):
        if self.settings.get("kv_versions", {}).get(mount) == 1:
            return self.kv_one(mount, f"data/{path}", given, token)
        versions = self.mounted("kv", mount).get(path)
        version = int(given.get("version", 0)) or (len(versions) if versions else 0)
        if not versions or version > len(versions):
            raise Refused(404, "")
        metadata = {"version": version, "destroyed": False, "deletion_time": "", "created_time": "2026-01-01T00:00:00Z"}
        return {"data": {"data": versions[version - 1], "metadata": metadata}}

    def database(self, mount, name, given, token):
        role = self.mounted("database", mount).get(name)
        if role is None:
            raise Refused(400, f"unknown role: {name}")
        user, password = f"v-{name}-{secrets.token_hex(8)}", secrets.token_urlsafe(20)
        now = time.time()
        until = time.strftime("%Y-%m-%d %H:%M:%S+0000", time.gmtime(now + role["ttl"] + 5))
        statements = role["creation_statements"]
        for name_of, value in (("name", user), ("password", password), ("expiration", until)):
            statements = statements.replace("{{" + name_of + "}}", value)
        self.psql(statements)
        with self.lock:
            id = f"{mount}/creds/{name}/{secrets.token_urlsafe(18)}"
            self.leases[id] = {
                "user": user, "role": role, "token": token["secret"], "ends": now + role["ttl"],
                "last": now + role.get("max_ttl", 3600),
            }
            if token["secret"] not in self.tokens:
                # It went while the login was made, and so does that.
                self.drop(id)
                raise Refused(403, "1 error occurred:\n\t* permission denied\n\n")
            # A lease ends with its token.
            return {
                "lease_id": id, "lease_duration": role["ttl"], "renewable": role.get("renewable", True),
                "data": {"username": user, "password": password},
            }

    def static_role(self, mount, name, given, _):
        role = self.mounted("static", mount).get(name)
        if role is None:
            raise Refused(400, f"unknown role: {name}")
        return {"data": {**role, "rotation_period": 3600, "ttl": 1800, "last_vault_rotation": "2026-01-01T00:00:00Z"}}

    def sign(self, mount, name, given, _):
        role = self.mounted("ssh", mount).get(name)
        if role is None:
            raise Refused(400, f"unknown role: {name}")
        asked = [p for p in given.get("valid_principals", "").split(",") if p]
        if not asked or set(asked) - set(role["allowed_users"]):
            raise Refused(400, "not all of the principals are allowed")
        if given.get("cert_type", "user") != "user":
            raise Refused(400, "cert_type host is not allowed by role")
        asked = role.get("signs", asked)
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            with open(f"{directory}/key.pub", "w", encoding="utf-8") as file:
                file.write(role.get("key", given.get("public_key", "")) + "\n")
            done = subprocess.run(
                ["ssh-keygen", "-q", "-s", f"{self.directory}/ca", "-I", "vault-test", "-n", ",".join(asked),
                 *role.get("options", ["-V", f"-30s:+{seconds(given.get('ttl', '300s'))}s"]), f"{directory}/key.pub"],
                capture_output=True, check=False)
            if done.returncode:
                raise Refused(400, "failed to parse public_key")
            with open(f"{directory}/key-cert.pub", encoding="utf-8") as file:
                return {"data": {"serial_number": "c0ffee", "signed_key": file.read()}}

    def psql(self, sql):
        done = subprocess.run(
            ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql], env=self.settings.get("psql", {}),
            capture_output=True, check=False)
        if done.returncode:
            raise Refused(500, "1 error occurred:\n\t* failed to execute the statements\n\n")


KEYS_OF_A_TOKEN = {"ttl", "renewable", "explicit_max_ttl", "display_name", "meta"}
ROUTES = [
    (r"auth/token/create", {"POST"}, KEYS_OF_A_TOKEN, Vault.token_create),
    (r"auth/token/lookup-self", {"GET"}, set(), Vault.token_lookup),
    (r"auth/token/renew-self", {"POST"}, {"increment"}, Vault.token_renew),
    (r"auth/token/revoke-self", {"POST"}, set(), Vault.token_revoke),
    (r"auth/token/revoke-accessor", {"POST"}, {"accessor"}, Vault.token_revoke_accessor),
    (r"auth/(approle[^/]*)/login", {"POST"}, {"role_id", "secret_id"}, Vault.login_approle),
    (r"auth/(jwt[^/]*)/login", {"POST"}, {"role", "jwt"}, Vault.login_jwt),
    (r"sys/leases/lookup", {"POST"}, {"lease_id"}, Vault.lease_lookup),
    (r"sys/leases/renew", {"POST"}, {"lease_id", "increment"}, Vault.lease_renew),
    (r"sys/leases/revoke", {"POST"}, {"lease_id", "sync"}, Vault.lease_revoke),
    (r"(database[^/]*)/creds/([^/]+)", {"GET"}, set(), Vault.database),
    (r"(database[^/]*)/static-creds/([^/]+)", {"GET"}, set(), Vault.static_role),
    (r"(ssh[^/]*)/sign/([^/]+)", {"POST"}, {"public_key", "cert_type", "valid_principals", "ttl"}, Vault.sign),
    (r"((?:secret|kv)[^/]*)/data/(.+)", {"GET"}, {"version"}, Vault.kv_two),
    (r"((?:secret|kv)[^/]*)/(.+)", {"GET"}, set(), Vault.kv_one),
]
