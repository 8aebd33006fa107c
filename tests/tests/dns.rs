//! DNS of workloads: real resolvers, real nameservers, and what a job can connect to after what it was told.

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Result;
use tollgate_tests::agent::Agent;
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::isolated::Isolated;
use tollgate_tests::job::{self, Ended, NOBODY};
use tollgate_tests::manager::Manager;
use tollgate_tests::nameserver::Nameserver;
use tollgate_tests::netns::Netns;
use tollgate_tests::policy::Policy;
use tollgate_tests::postgres::{Options, Postgres};
use tollgate_tests::process::{eventually, run};
use tollgate_tests::scratch::Scratch;
use tollgate_tests::world::{ALLOW_ALL, DATABASE, PASSWORD, ROLE, fill};

const LIMIT: Duration = Duration::from_secs(30);

/// A network in which everything is real: a nameserver on 127.0.0.1 and `::1`, and a server behind a cable that has every
/// address of 10.98.0.0/16 and `fd98:1::/64`. None of them is the host's own, which would all be protected together.
///
/// Fields are dropped in this order: the agent first, the namespaces last.
struct Stand {
    agent: Agent,
    nameserver: Nameserver,
    cgroup: Cgroup,
    server: Postgres,
    _behind: Netns,
    isolated: Isolated,
    musl: OnceLock<(Scratch, String)>,
}

const RESOLV_CONF: &str =
    "nameserver 127.0.0.1\nnameserver ::1\nsearch corp.test acme.test\noptions timeout:2\n";

impl Stand {
    /// `egress` and `[dns]` of the policy, which protects `db.acme.test` and `www.acme.test`, and what the nameserver says.
    fn new(egress: &str, dns: &str, records: &str) -> Result<Self> {
        let isolated = Isolated::enter(RESOLV_CONF)?;
        let behind = Netns::create(97, 1)?;
        let ip = |arguments: &str| run(Command::new("ip").args(arguments.split(' ')));
        ip("-6 address add fd98::1/64 dev tg97x1h nodad")?;
        ip("route add 10.98.0.0/16 via 10.97.1.2")?;
        ip("-6 route add fd98:1::/64 via fd98::2")?;
        let server = behind.inside(|| {
            ip("-6 address add fd98::2/64 dev tg97x1i nodad")?;
            ip("route add local 10.98.0.0/16 dev lo")?;
            ip("-6 route add local fd98:1::/64 dev lo")?;
            let mut server = Postgres::start(Options::default())?;
            fill(&server)?;
            let hba = server.dir().join("data/pg_hba.conf");
            let text = std::fs::read_to_string(&hba)?;
            std::fs::write(&hba, format!("{text}\nhost all all all scram-sha-256\n"))?;
            server.admin("postgres", "ALTER SYSTEM SET listen_addresses = '*'")?;
            server.crash()?;
            server.resume()?;
            Ok(server)
        })?;
        let nameserver = Nameserver::start(&["127.0.0.1", "::1"], records)?;
        let mut agent = Agent::prepare(&[])?;
        let config = std::fs::read_to_string(agent.config())?;
        let pins = format!("{}/pins", agent.dir().display());
        let config = config.replace(&pins, &isolated.pins().join("tollgate").display().to_string());
        std::fs::write(agent.config(), config)?;
        // What the agent's own resolver finds must not be what helps.
        agent.configure("[resolve]\ninterval = \"1h\"")?;
        let secret = agent.secret("shop-password", PASSWORD)?;
        let slice = format!(
            "/tollgate-test-dns-{}-{}",
            std::process::id(),
            nix::unistd::gettid()
        );
        let port = server.port();
        let policy = format!(
            "[workload]\nname = \"test-job\"\ncgroup = [\"{slice}/job\"]\negress = \"{egress}\"\n{dns}\n\
             [[service]]\nname = \"shop\"\nprotocol = \"postgres\"\n\
             address = [\"db.acme.test:{port}\", \"www.acme.test:{port}\"]\ntls = {{ upstream = \"disable\" }}\n\
             [service.credential]\nsource = \"file\"\nuser = \"{ROLE}\"\npassword = \"{}\"\n{ALLOW_ALL}",
            secret.display()
        );
        agent.policy("test-job", &Policy::from_text(&policy))?;
        agent.resume()?;
        Ok(Self {
            agent,
            nameserver,
            cgroup: Cgroup::create(&format!("{slice}/job"))?,
            server,
            _behind: behind,
            isolated,
            musl: OnceLock::new(),
        })
    }

    /// Runs a shell command in the workload, as a user without privileges.
    fn sh(&self, command: &str) -> Ended {
        let mut job = job::command(&self.cgroup, NOBODY, "sh");
        job.args(["-c", command]);
        if command.contains("$MUSL") {
            job.env("MUSL", self.musl());
        }
        job::run_within(&mut job, LIMIT).unwrap()
    }

    /// A program linked with musl that resolves its arguments: address after address, or the error. Goes with the stand.
    fn musl(&self) -> &str {
        let (_, path) = self.musl.get_or_init(|| {
            let scratch = Scratch::new("musl").unwrap();
            let (source, program) = (scratch.path().join("resolve.c"), scratch.path().join("resolve"));
            std::fs::write(&source, RESOLVE).unwrap();
            run(Command::new("musl-gcc")
                .args(["-static", "-o"])
                .arg(&program)
                .arg(&source))
            .unwrap();
            (scratch, program.display().to_string())
        });
        path
    }

    /// Who the server says that the job is, when it connects to `host`; else what the job was told.
    fn login(&self, host: &str) -> String {
        let ended = self.sh(&format!(
            "psql -XqAt -h {host} -p {} -d {DATABASE} -c 'SELECT session_user' 2>&1",
            self.server.port()
        ));
        ended.stdout.trim().to_owned()
    }

    /// What the host itself is told, outside of any workload.
    fn outside(command: &str) -> String {
        run(Command::new("sh").args(["-c", command])).unwrap()
    }

    fn assert_login(&self, host: &str) {
        let who = self.login(host);
        assert_eq!(
            who,
            ROLE,
            "{host}\n{}\n{}",
            self.agent.log(),
            self.nameserver.log()
        );
    }
}

const RESOLVE: &str = r"
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        struct addrinfo hints, *all, *one;
        memset(&hints, 0, sizeof hints);
        hints.ai_socktype = SOCK_STREAM;
        int error = getaddrinfo(argv[i], 0, &hints, &all);
        if (error) { puts(gai_strerror(error)); continue; }
        for (one = all; one; one = one->ai_next) {
            char text[64];
            getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST);
            puts(text);
        }
    }
    return 0;
}
";

#[test]
fn an_address_that_a_name_has_just_got_is_protected_when_the_job_has_it() {
    let mut stand = Stand::new("allow", "", "host-record=db.acme.test,10.98.0.1").unwrap();
    stand.assert_login("db.acme.test");
    // Every way of asking, each with an address that nobody knew before.
    for (number, ask) in [
        (2, "getent ahosts db.acme.test"),
        (3, "$MUSL db.acme.test"),
        (4, "dig +short db.acme.test @127.0.0.1"),
        (5, "dig +short db.acme.test @::1"),
        (6, "dig +short +tcp db.acme.test @127.0.0.1"),
        (7, "dig +short +tcp db.acme.test @::1"),
        (8, "getent ahosts db"),
        (9, "$MUSL db"),
        (10, "dig +short +noedns DB.Acme.TEST @127.0.0.1"),
        (11, "dig +short alias.other.test @127.0.0.1"),
    ] {
        let address = format!("10.98.0.{number}");
        stand
            .nameserver
            .change(&format!(
                "host-record=db.acme.test,{address}\ncname=alias.other.test,db.acme.test"
            ))
            .unwrap();
        // Not known yet: the server itself answers, and knows no user of the job's name.
        let before = stand.login(&address);
        assert!(
            before.contains("no password supplied") || before.contains("fe_sendauth"),
            "{before}"
        );
        let told = stand.sh(ask);
        assert!(
            told.stdout.contains(&address),
            "{ask}: {told:?}\n{}",
            stand.agent.log()
        );
        stand.assert_login(&address);
    }
    // And in one go: what psql resolves, it connects to at once.
    for number in 20..25 {
        let records = format!("host-record=db.acme.test,10.98.0.{number},fd98:1::{number}");
        stand.nameserver.change(&records).unwrap();
        stand.assert_login("db.acme.test");
        stand.assert_login(&format!("fd98:1::{number}"));
    }
    // What was told before is protected still.
    stand.assert_login("10.98.0.2");
    // A process outside is told the same, and asks for itself.
    assert!(Stand::outside("getent ahosts db.acme.test").contains("fd98:1::24"));
}

#[test]
fn what_a_job_was_told_outlives_the_agent() {
    let mut stand = Stand::new("allow", "", "host-record=db.acme.test,10.98.0.1").unwrap();
    stand
        .nameserver
        .change("host-record=db.acme.test,10.98.0.2")
        .unwrap();
    stand.assert_login("db.acme.test");
    stand.agent.kill().unwrap();
    let started = std::time::Instant::now();
    for ask in [
        "getent ahosts db.acme.test",
        "dig +tries=1 +time=2 db.acme.test @127.0.0.1",
    ] {
        let told = stand.sh(ask);
        assert!(!told.stdout.contains("10.98.0"), "{told:?}");
    }
    let told = stand.sh("$MUSL db.acme.test");
    assert!(!told.stdout.contains("10.98.0"), "{told:?}");
    // Refused, and not left to wait.
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    assert!(stand.login("10.98.0.2").contains("refused"));
    assert!(Stand::outside("getent ahosts db.acme.test").contains("10.98.0.2"));
    // The agent itself is told another address now.
    stand
        .nameserver
        .change("host-record=db.acme.test,10.98.0.3")
        .unwrap();
    stand.agent.resume().unwrap();
    stand.assert_login("10.98.0.2");
    stand.assert_login("10.98.0.3");
    stand.assert_login("db.acme.test");
}

/// Asks once, and waits for as long as the agent may be away.
const ASK: &str = r#"
import socket
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(25)
name = b"".join(bytes([len(label)]) + label for label in b"db.acme.test".split(b"."))
asking.sendto(b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0" + name + b"\0\0\x01\0\x01", ("127.0.0.1", 53))
print("asked", flush=True)
print(socket.inet_ntoa(asking.recv(512)[-4:]))
"#;

#[test]
fn a_question_that_is_asked_while_the_agent_is_away_is_answered_by_the_next_one() {
    let mut stand = Stand::new("allow", "", "host-record=db.acme.test,10.98.0.1").unwrap();
    stand.agent.stop().unwrap();
    let mut manager = Manager::start(&stand.agent).unwrap();
    manager.start_agent().unwrap();
    for (how, address) in [("kill", "10.98.0.2"), ("stop", "10.98.0.3")] {
        manager.tell(how).unwrap();
        stand
            .nameserver
            .change(&format!("host-record=db.acme.test,{address}"))
            .unwrap();
        let mut asking = job::command(&stand.cgroup, NOBODY, "python3")
            .args(["-c", ASK])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(asking.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "asked");
        manager.start_agent().unwrap();
        assert_eq!(
            lines.next().unwrap().unwrap(),
            address,
            "{}",
            manager.log().unwrap()
        );
        asking.wait().unwrap();
        stand.assert_login(address);
    }
}

/// SVCB parameters of `www.acme.test` (RFC 9460 §2.2): alpn h3 and h2, ech of three bytes.
const HTTPS: &str = "0001000001000602683302683200050003010203";

#[test]
fn hints_that_lead_around_the_proxy_do_not_reach_the_job() {
    let records = format!(
        "host-record=www.acme.test,10.98.0.1\ndns-rr=www.acme.test,65,{HTTPS}\ndns-rr=open.other.test,65,{HTTPS}"
    );
    let stand = Stand::new("allow", "", &records).unwrap();
    // As the record stands, whatever dig calls its type: `\# LENGTH HEX`.
    let ask = |name: &str, more: &str| {
        format!("dig +short +unknownformat {more} TYPE65 {name} @127.0.0.1 | tr -d ' '")
    };
    let original = Stand::outside(&ask("www.acme.test", "")).to_lowercase();
    assert!(original.contains("02683302683200050003010203"), "{original}");
    for more in ["", "+tcp", "+dnssec"] {
        let given = stand.sh(&ask("www.acme.test", more)).stdout.to_lowercase();
        assert!(
            given.contains("00010000010003026832"),
            "{given}\n{}",
            stand.agent.log()
        );
        assert!(!given.contains("026833") && !given.contains("010203"), "{given}");
        let other = stand.sh(&ask("open.other.test", more)).stdout.to_lowercase();
        assert_eq!(other, original);
    }
}

#[test]
fn where_egress_is_denied_dns_is_no_way_out() {
    let records = "host-record=db.acme.test,10.98.0.1\nhost-record=deb.debian.org,10.98.0.9\n\
                   host-record=www.tunnel.test,10.98.0.8\ntxt-record=secret.tunnel.test,instructions\n\
                   ptr-record=1.0.98.10.in-addr.arpa,db.acme.test";
    let mut stand = Stand::new("deny", "[dns]\nallow = [\"*.debian.org\"]", records).unwrap();
    let mut stranger = Nameserver::start(&["127.0.0.77"], records).unwrap();
    stand.assert_login("db.acme.test");
    stand.assert_login("db");
    for (ask, status, reason) in [
        (
            "dig TXT secret.tunnel.test @127.0.0.1",
            "REFUSED",
            "no service and no allow-list",
        ),
        (
            "dig +tcp TXT secret.tunnel.test @127.0.0.1",
            "REFUSED",
            "no service and no allow-list",
        ),
        (
            "dig A www.tunnel.test @::1",
            "NXDOMAIN",
            "no service and no allow-list",
        ),
        (
            "dig A secret.db.acme.test @127.0.0.1",
            "NXDOMAIN",
            "no service and no allow-list",
        ),
        ("dig TXT db.acme.test @127.0.0.1", "REFUSED", "addresses alone"),
        ("dig ANY db.acme.test @127.0.0.1", "REFUSED", "addresses alone"),
        ("dig A db.acme.test @127.0.0.77", "REFUSED", "none of those"),
        ("dig +tcp A db.acme.test @127.0.0.77", "REFUSED", "none of those"),
        (
            "dig -x 10.98.0.1 @127.0.0.1",
            "REFUSED",
            "no service and no allow-list",
        ),
        ("dig A db.acme.test @127.0.0.1", "NOERROR", ""),
        ("dig A deb.debian.org @::1", "NOERROR", ""),
        (
            "dig A a.b.debian.org @127.0.0.1",
            "NXDOMAIN",
            "no service and no allow-list",
        ),
    ] {
        let told = stand.sh(ask);
        assert!(
            told.stdout.contains(&format!("status: {status}")),
            "{ask}: {told:?}"
        );
        assert!(told.stdout.contains(reason), "{ask}: {told:?}");
        if !reason.is_empty() {
            // Who reads the answer finds the policy in it (RFC 8914).
            assert!(told.stdout.contains("policy test-job"), "{ask}: {told:?}");
        }
    }
    assert!(
        stranger.log().lines().all(|line| !line.contains("query[")),
        "{}",
        stranger.log()
    );
    stranger.stop().unwrap();
    let asked = stand.nameserver.log();
    assert!(!asked.contains("tunnel") && !asked.contains("secret"), "{asked}");
    // Real resolvers end at once, and say that there is no such name.
    for (ask, expected) in [
        ("getent ahosts www.tunnel.test", ""),
        ("$MUSL www.tunnel.test", "Name does not resolve"),
    ] {
        let started = std::time::Instant::now();
        let told = stand.sh(ask);
        assert_eq!(told.stdout.trim(), expected, "{ask}: {told:?}");
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{ask}: {:?}",
            started.elapsed()
        );
    }
    // A search list is gone through to its end: corp.test comes before acme.test.
    for ask in ["getent ahosts db", "$MUSL db"] {
        let told = stand.sh(ask);
        assert!(
            told.stdout.contains("10.98.0.1"),
            "{ask}: {told:?}\n{}",
            stand.agent.log()
        );
    }
    // The address of a name that may be asked for is not open for that.
    assert!(stand.login("deb.debian.org").contains("not permitted"));
    let log = stand.agent.log();
    assert!(
        log.contains("secret.tunnel.test") && log.contains("test-job"),
        "{log}"
    );
    // A nameserver that the job's system is not configured with any more does not count any more.
    std::fs::write(stand.isolated.resolv_conf(), "nameserver ::1\n").unwrap();
    stand.agent.stop().unwrap();
    stand.agent.resume().unwrap();
    let told = stand.sh("dig A db.acme.test @127.0.0.1");
    assert!(told.stdout.contains("REFUSED"), "{told:?}");
    // Nor does one of its own choice, in the first question that the agent hears from it, where it can mount another file.
    let forged = stand.agent.dir().join("forged.conf");
    std::fs::write(&forged, "nameserver 127.0.0.77\n").unwrap();
    let mut stranger = Nameserver::start(&["127.0.0.77"], records).unwrap();
    stand.agent.stop().unwrap();
    stand.agent.resume().unwrap();
    let mut job = job::command(&stand.cgroup, "root", "unshare");
    let script = format!(
        "mount --bind {} /etc/resolv.conf && cat /etc/resolv.conf && dig A db.acme.test @127.0.0.77",
        forged.display()
    );
    job.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    let told = job::run_within(&mut job, LIMIT).unwrap();
    assert!(told.stdout.contains("nameserver 127.0.0.77"), "{told:?}");
    assert!(told.stdout.contains("REFUSED"), "{told:?}");
    assert!(!stranger.log().contains("query["), "{}", stranger.log());
    stranger.stop().unwrap();
}

/// A resolver of the host that takes connections to a unix socket, counts them, and answers none.
struct NameCache(Arc<AtomicUsize>);

impl NameCache {
    fn at(path: &str) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        std::thread::spawn(move || {
            for _asked in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self(count)
    }

    fn asked(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn a_name_cache_of_the_host_is_not_asked_and_the_library_asks_the_nameserver() {
    const NSCD: &str = "/run/nscd/socket";
    const RESOLVED: &str = "/run/systemd/resolve/io.systemd.Resolve";
    let stand = Stand::new("deny", "", "host-record=db.acme.test,10.98.0.1").unwrap();
    // Seen in this test's mount namespace alone.
    Stand::outside("mount -t tmpfs tmpfs /run && mkdir -p /run/nscd /run/systemd/resolve");
    let (nscd, resolved) = (NameCache::at(NSCD), NameCache::at(RESOLVED));
    let connect = |path: &str| {
        format!(
            "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); print(s.connect_ex(\"{path}\"))'"
        )
    };
    let told = stand.sh("getent hosts db.acme.test");
    assert!(told.stdout.contains("10.98.0.1"), "{told:?}");
    for path in [NSCD, "/var/run/nscd/socket", RESOLVED] {
        let told = stand.sh(&connect(path));
        let refused = nix::libc::ECONNREFUSED.to_string();
        assert_eq!(told.stdout.trim(), refused, "{path}: {told:?}");
    }
    assert_eq!(resolved.asked(), 0);
    // Elsewhere on this host the same library does ask, of users as well as of names.
    let before = nscd.asked();
    assert!(Stand::outside("getent hosts db.acme.test").contains("10.98.0.1"));
    assert_eq!(Stand::outside(&connect(RESOLVED)).trim(), "0");
    eventually("both to be asked", LIMIT, || {
        (nscd.asked() > before && resolved.asked() > 0).then_some(())
    })
    .unwrap();
}

#[test]
fn a_nameserver_that_is_dead_or_silent_is_passed_over_as_without_an_agent() {
    let stand = Stand::new("allow", "", "host-record=db.acme.test,10.98.0.1").unwrap();
    let silent = UdpSocket::bind("127.0.0.66:53").unwrap();
    let write = |text: &str| std::fs::write(stand.isolated.resolv_conf(), text).unwrap();
    // Nobody is at 127.0.0.65; 127.0.0.66 takes questions and says nothing.
    for dead in ["127.0.0.65", "127.0.0.66"] {
        write(&format!(
            "nameserver {dead}\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
        ));
        for ask in ["getent ahosts db.acme.test", "$MUSL db.acme.test"] {
            let told = stand.sh(ask);
            assert!(
                told.stdout.contains("10.98.0.1"),
                "{dead}, {ask}: {told:?}\n{}",
                stand.agent.log()
            );
        }
    }
    write("nameserver 127.0.0.65\noptions timeout:1 attempts:1\n");
    for ask in ["getent ahosts db.acme.test", "$MUSL db.acme.test"] {
        let told = stand.sh(ask);
        assert!(!told.stdout.contains("10.98"), "{ask}: {told:?}");
    }
    let told = stand.sh("dig db.acme.test @127.0.0.65");
    assert!(told.stdout.contains("SERVFAIL"), "{told:?}");
    drop(silent);
}

#[test]
fn an_answer_too_long_for_a_datagram_comes_by_connection() {
    let long: Vec<String> = (0..8)
        .map(|n| format!("txt-record=long.other.test,{}", format!("{n}").repeat(240)))
        .collect();
    let stand = Stand::new("allow", "", &long.join("\n")).unwrap();
    let told = stand.sh("dig +noedns TXT long.other.test @127.0.0.1");
    assert!(
        told.stdout.contains("Truncated, retrying in TCP mode"),
        "{told:?}"
    );
    for n in 0..8 {
        assert!(told.stdout.contains(&format!("{n}").repeat(240)), "{told:?}");
    }
    let told = stand.sh("dig +bufsize=4096 TXT long.other.test @::1");
    assert!(
        told.stdout.contains(&"7".repeat(240)) && !told.stdout.contains("TCP mode"),
        "{told:?}"
    );
    // A zone transfer is many messages.
    let told = stand.sh("dig AXFR other.test @127.0.0.1");
    assert!(
        told.stdout.contains("Transfer failed") || told.stdout.contains("REFUSED"),
        "{told:?}"
    );
}

/// Anybody can have a nameserver of his own say that the service is at his address. The agent must not log in there.
#[test]
fn credentials_do_not_go_where_a_strangers_nameserver_says() {
    let stand = Stand::new("allow", "", "host-record=db.acme.test,10.98.0.1").unwrap();
    let stranger = Nameserver::start(&["127.0.0.77"], "host-record=db.acme.test,10.98.0.66").unwrap();
    stand.assert_login("db.acme.test");
    let told = stand.sh("dig +short db.acme.test @127.0.0.77");
    assert!(told.stdout.contains("10.98.0.66"), "{told:?}");
    let refused = stand.login("10.98.0.66");
    assert!(
        refused.contains("10.98.0.66 is not known to be db.acme.test"),
        "{refused}"
    );
    assert!(!stand.server.log().contains("10.98.0.66"));
    stranger.was_asked_for("db.acme.test").unwrap();
    // Also where the workload has the host's nameserver's address to itself, in a network of its own.
    let script = format!(
        "unshare --net sh -c 'ip link set lo up; {}'",
        "dnsmasq --keep-in-foreground --pid-file= --user=root --conf-file=/dev/null --no-hosts --no-resolv \
         --listen-address=127.0.0.1 --bind-interfaces --host-record=db.acme.test,127.0.0.99 & \
         for i in $(seq 100); do dig +short +tries=1 +time=1 db.acme.test @127.0.0.1 | grep -q 127.0.0.99 && break; sleep 0.05; done; \
         dig +short db.acme.test @127.0.0.1; psql -XqAt -h 127.0.0.99 -p $PORT -d shop -c \"SELECT 1\" 2>&1; kill $!"
    );
    let mut job = job::command(&stand.cgroup, "root", "sh");
    job.args(["-c", &script])
        .env("PORT", stand.server.port().to_string());
    let ended = job::run_within(&mut job, LIMIT).unwrap();
    assert!(
        ended.stdout.contains("127.0.0.99"),
        "{ended:?}\n{}",
        stand.agent.log()
    );
    assert!(
        ended.stdout.contains("is not known to be db.acme.test"),
        "{ended:?}\n{}",
        stand.agent.log()
    );
}

/// Somebody who reads the list wants to know what the job meant, and the agent's own resolver never heard of it.
#[test]
fn what_a_job_reaches_is_listed_with_the_name_that_it_asked_for() {
    let stand = Stand::new("observe", "", "host-record=open.other.test,10.98.0.5").unwrap();
    let reached = stand.login("open.other.test");
    assert!(reached.contains("no password supplied"), "{reached}");
    let listed = eventually("the destination to be listed", LIMIT, || {
        let listed = stand.agent.cli("egress", &["--json"]).unwrap();
        listed.contains("10.98.0.5").then_some(listed)
    })
    .unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let destinations = listed["destinations"].as_array().unwrap();
    let found = destinations
        .iter()
        .find(|destination| destination["address"] == "10.98.0.5")
        .unwrap();
    assert_eq!(found["names"], serde_json::json!(["open.other.test"]), "{listed}");
}

/// A flood of one workload's questions does not keep another process's from being answered, and the agent's memory is
/// not what gives way.
#[test]
fn a_workload_that_asks_without_end_is_asked_for_no_more_than_its_share() {
    let stand = Stand::new("allow", "", "host-record=db.acme.test,10.98.0.1").unwrap();
    let silent = UdpSocket::bind("127.0.0.66:53").unwrap();
    let flood = r#"
import socket
query = bytes.fromhex("12340100000100000000000002646204616c6d6504746573740000010001")
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(100)]
for _ in range(20):
    for s in sockets:
        s.sendto(query, ("127.0.0.66", 53))
print("sent")
"#;
    let mut job = job::command(&stand.cgroup, NOBODY, "python3");
    let ended = job::run_within(job.args(["-c", flood]), LIMIT).unwrap();
    assert_eq!(ended.stdout.trim(), "sent", "{ended:?}");
    eventually("the agent to say so", LIMIT, || {
        stand.agent.log().contains("DNS queries at a time").then_some(())
    })
    .unwrap();
    let sockets = std::fs::read_dir(format!("/proc/{}/fd", stand.agent.pid()))
        .unwrap()
        .count();
    assert!(sockets < 500, "{sockets}");
    drop(silent);
}
