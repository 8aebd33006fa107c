//! Files that another implementation of age has encrypted (Debian's `age`, in Go).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{PLAIN, password};
use crate::config::{CredentialKind, CredentialSource, SourceSpec};
use crate::credential::{CredentialError, Credentials};

/// What `age --armor --passphrase` wrote.
const OF_A_PASSPHRASE: &str = "\
-----BEGIN AGE ENCRYPTED FILE-----
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCAwRlNQeE9vcU9ZSDBVZ3hk
d3lWLy9BIDE4CkozR0ZPbW9KZFI3Tis4SUpyNmpXdHFjWGlydXljSEJ4QXdBYmNX
Q3V3MUkKLS0tIGN3RXhiclFiTmxPK0thNC9qanZ4RVNiK21Oc0RmdmpBdGNvYWNW
V0dFK1EKe2rDhM0oiy4qvrbQf5RGatCqtOfxFPe31gj+acty/Z1OG5Y=
-----END AGE ENCRYPTED FILE-----
";
const SECRET: &str = "hunter2-7f3a";

struct Keys {
    dir: tempfile::TempDir,
    recipient: String,
}

impl Keys {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new("age-keygen")
            .arg("-o")
            .arg(dir.path().join("identity"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        guard(&dir.path().join("identity"), 0o400);
        let recipient = Command::new("age-keygen")
            .arg("-y")
            .arg(dir.path().join("identity"))
            .output()
            .unwrap();
        let recipient = String::from_utf8(recipient.stdout).unwrap().trim().to_owned();
        assert!(recipient.starts_with("age1"), "{recipient}");
        Self { dir, recipient }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file `name` with `secret`, encrypted to `recipient`.
    fn encrypt(&self, name: &str, recipient: &str, secret: &[u8], more: &[&str]) -> PathBuf {
        use std::io::Write as _;
        let path = self.path(name);
        let mut age = Command::new("age")
            .args(["-r", recipient, "-o"])
            .arg(&path)
            .args(more)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        age.stdin.take().unwrap().write_all(secret).unwrap();
        assert!(age.wait().unwrap().success());
        guard(&path, 0o644);
        path
    }

    fn credentials(&self, file: PathBuf) -> Credentials {
        of(file, self.path("identity"))
    }
}

fn guard(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn of(file: PathBuf, identity: PathBuf) -> Credentials {
    let spec = CredentialSource {
        kind: CredentialKind::Static {
            user: SourceSpec::Literal("report".into()),
            password: SourceSpec::Age {
                file,
                identity: Box::new(SourceSpec::File(identity)),
            },
        },
        database: None,
        http: None,
    };
    Credentials::open(&spec, &PLAIN, Path::new("/nonexistent")).unwrap()
}

async fn refusal(credentials: &Credentials) -> String {
    let error = password(credentials).await.unwrap_err();
    let text = error.to_string();
    assert!(
        !text.contains(SECRET)
            && !text.contains("AGE-SECRET-KEY-1Q")
            && !format!("{error:?}").contains(SECRET),
        "{text}"
    );
    text
}

#[tokio::test]
async fn binary_and_armoured_files_of_another_implementation_are_read() {
    let keys = Keys::new();
    for (secret, more) in [(&b"hunter2-7f3a"[..], &[][..]), (b"hunter2-7f3a\n", &["--armor"])] {
        let file = keys.encrypt("secret.age", &keys.recipient, secret, more);
        let credentials = keys.credentials(file);
        credentials.check().await.unwrap();
        assert_eq!(password(&credentials).await.unwrap(), SECRET.as_bytes());
    }
}

#[tokio::test]
async fn a_file_that_is_encrypted_anew_counts_from_the_next_session_on() {
    let keys = Keys::new();
    let file = keys.encrypt("secret.age", &keys.recipient, b"before", &[]);
    let credentials = keys.credentials(file.clone());
    assert_eq!(password(&credentials).await.unwrap(), b"before");
    let after = keys.encrypt("after.age", &keys.recipient, b"after", &[]);
    fs::rename(after, file).unwrap();
    assert_eq!(password(&credentials).await.unwrap(), b"after");
}

#[tokio::test]
async fn one_of_several_recipients_and_one_of_several_identities_is_enough() {
    let (keys, other) = (Keys::new(), Keys::new());
    let file = keys.encrypt(
        "secret.age",
        &other.recipient,
        SECRET.as_bytes(),
        &["-r", &keys.recipient],
    );
    assert_eq!(
        password(&keys.credentials(file)).await.unwrap(),
        SECRET.as_bytes()
    );
    let file = keys.encrypt("mine.age", &keys.recipient, SECRET.as_bytes(), &[]);
    let both = other.path("both");
    let text = [other.path("identity"), keys.path("identity")].map(|path| fs::read_to_string(path).unwrap());
    fs::write(&both, text.concat()).unwrap();
    guard(&both, 0o600);
    assert_eq!(password(&of(file, both)).await.unwrap(), SECRET.as_bytes());
}

#[tokio::test]
async fn what_is_cut_changed_or_nonsense_is_refused_with_a_reason_and_gives_nothing() {
    let keys = Keys::new();
    for armour in [&[][..], &["--armor"]] {
        let file = keys.encrypt("secret.age", &keys.recipient, SECRET.as_bytes(), armour);
        let whole = fs::read(&file).unwrap();
        let credentials = keys.credentials(file.clone());
        for length in 0..whole.len() {
            // The last byte of armour is a newline, which may be missing.
            if armour.is_empty() || length < whole.len() - 1 {
                fs::write(&file, &whole[..length]).unwrap();
                refusal(&credentials).await;
            }
        }
        for at in (0..whole.len()).step_by(7) {
            let mut changed = whole.clone();
            changed[at] ^= 0x04;
            fs::write(&file, &changed).unwrap();
            refusal(&credentials).await;
        }
    }
    let file = keys.encrypt("secret.age", &keys.recipient, SECRET.as_bytes(), &[]);
    let mut cut = fs::read(&file).unwrap();
    cut.truncate(cut.len() - 3);
    fs::write(&file, &cut).unwrap();
    let credentials = keys.credentials(file.clone());
    assert!(refusal(&credentials).await.contains("cut short or was changed"));
    for nonsense in [&b"hunter2"[..], b"", &[0xff; 4096]] {
        fs::write(&file, nonsense).unwrap();
        assert!(refusal(&credentials).await.contains("is no age file"));
    }
}

#[tokio::test]
async fn another_identity_none_and_other_kinds_are_refused_each_with_its_reason() {
    let (keys, other) = (Keys::new(), Keys::new());
    let file = keys.encrypt("secret.age", &keys.recipient, SECRET.as_bytes(), &[]);
    let text = refusal(&of(file.clone(), other.path("identity"))).await;
    assert!(
        text.contains("other recipients") && text.contains("identity"),
        "{text}"
    );
    let identity = keys.path("tried");
    for (content, expected) in [
        ("# public key: age1…\n", "no age identity"),
        ("hunter2\n", "no X25519 identity"),
        ("AGE-SECRET-KEY-1QQQQ\n", "no X25519 identity"),
        ("AGE-PLUGIN-YUBIKEY-1QQ\n", "no X25519 identity"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "no X25519 identity"),
    ] {
        let _not_there = fs::remove_file(&identity);
        fs::write(&identity, content).unwrap();
        guard(&identity, 0o400);
        let text = refusal(&of(file.clone(), identity.clone())).await;
        assert!(text.contains(expected), "{content:?}: {text}");
    }
}

#[tokio::test]
async fn a_passphrase_is_refused_because_nobody_types_one() {
    let keys = Keys::new();
    let file = keys.path("phrase.age");
    fs::write(&file, OF_A_PASSPHRASE).unwrap();
    guard(&file, 0o644);
    let text = refusal(&keys.credentials(file)).await;
    assert!(text.contains("passphrase"), "{text}");
}

#[tokio::test]
async fn identity_and_file_are_guarded_and_their_size_has_a_limit() {
    let keys = Keys::new();
    let file = keys.encrypt("secret.age", &keys.recipient, SECRET.as_bytes(), &[]);
    let credentials = keys.credentials(file.clone());
    guard(&file, 0o664);
    let error = password(&credentials).await.unwrap_err();
    assert!(
        matches!(error, CredentialError::Writable { mode: 0o664, .. }),
        "{error}"
    );
    guard(&file, 0o644);
    guard(&keys.path("identity"), 0o440);
    let error = password(&credentials).await.unwrap_err();
    assert!(
        matches!(error, CredentialError::Exposed { mode: 0o440, .. }),
        "{error}"
    );
    guard(&keys.path("identity"), 0o400);
    assert_eq!(password(&credentials).await.unwrap(), SECRET.as_bytes());

    let largest = vec![b'x'; 64 * 1024];
    for armour in [&[][..], &["--armor"]] {
        let file = keys.encrypt("large.age", &keys.recipient, &largest, armour);
        assert_eq!(password(&keys.credentials(file)).await.unwrap(), largest);
        let file = keys.encrypt(
            "larger.age",
            &keys.recipient,
            &[largest.clone(), vec![b'x']].concat(),
            armour,
        );
        let error = password(&keys.credentials(file)).await.unwrap_err();
        assert!(matches!(error, CredentialError::TooLong { .. }), "{error}");
    }
    fs::write(&file, vec![b'x'; 1 << 20]).unwrap();
    let error = password(&credentials).await.unwrap_err();
    assert!(matches!(error, CredentialError::TooLong { .. }), "{error}");
}
