//! Logs in, and asks: `AuthSwitchRequest`, `AuthMoreData`, `OK`, `ERR`; `COM_QUERY` and its text result set.

use std::time::Duration;

use tokio::time::timeout;
use zeroize::Zeroizing;

use super::MysqlError;
use super::auth::Method;
use super::greeting::{Greeting, response, ssl_request};
use super::packet::{Packets, Reader, Text};
use crate::config::TlsMode;
use crate::flow::Stream;
use crate::protocol::Login;
use crate::protocol::Target;
use crate::protocol::postgres::login::ServerStream;

/// More steps than any login has.
const MOST_STEPS: usize = 8;
/// A server must not fill memory.
const MOST_ROWS: usize = 100_000;
const MOST_BYTES: usize = 32 << 20;
const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;

const OK: u8 = 0x00;
const MORE: u8 = 0x01;
const SWITCH: u8 = 0xfe;
const EOF: u8 = 0xfe;
const ERR: u8 = 0xff;
const LOCAL_INFILE: u8 = 0xfb;
/// `caching_sha2_password`: the server remembers the password; it has to be given it.
const FAST: u8 = 3;
const FULL: u8 = 4;

/// The values of a row in text format; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// A session of the agent's own.
pub struct Session {
    packets: Packets<ServerStream>,
    version: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// Logs in at `target` over `stream`, which is connected to it and on which nothing has been said yet, within `patience`.
    pub async fn login(
        stream: Stream,
        target: &Target,
        login: &Login,
        patience: Duration,
    ) -> Result<Self, MysqlError> {
        timeout(patience, start(stream, target, login))
            .await
            .map_err(|_| MysqlError::TooSlow(patience.as_secs()))?
    }

    /// What the server says it is.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Runs one statement, and gives its rows.
    pub async fn query(&mut self, sql: &str, patience: Duration) -> Result<Vec<Row>, MysqlError> {
        timeout(patience, self.ask(sql))
            .await
            .map_err(|_| MysqlError::TooSlow(patience.as_secs()))?
    }

    /// Ends it, so that the server does not take the connection for a broken one.
    pub async fn quit(mut self) {
        self.packets.begin();
        // It ends in any case.
        let _gone = timeout(Duration::from_secs(1), self.packets.send(&[COM_QUIT])).await;
    }

    async fn ask(&mut self, sql: &str) -> Result<Vec<Row>, MysqlError> {
        self.packets.begin();
        let mut command = vec![COM_QUERY];
        command.extend(sql.as_bytes());
        self.packets.send(&command).await?;
        let first = self.packets.receive().await?;
        match first.first() {
            Some(&OK) => return Ok(Vec::new()),
            Some(&ERR) => return Err(refusal(&first)),
            Some(&LOCAL_INFILE) => return Err(MysqlError::Protocol("it asks for a file of this host")),
            _ => {}
        }
        let columns = Reader(&first)
            .length()
            .and_then(|count| usize::try_from(count).ok())
            .filter(|count| (1..=4096).contains(count))
            .ok_or(MysqlError::Protocol("an answer that is none"))?;
        for _ in 0..columns {
            self.packets.receive().await?;
        }
        if !is_eof(&self.packets.receive().await?) {
            return Err(MysqlError::Protocol("columns without an end"));
        }
        let (mut rows, mut bytes) = (Vec::new(), 0);
        loop {
            let packet = self.packets.receive().await?;
            if is_eof(&packet) {
                return Ok(rows);
            }
            if packet.first() == Some(&ERR) {
                return Err(refusal(&packet));
            }
            bytes += packet.len();
            if rows.len() >= MOST_ROWS || bytes > MOST_BYTES {
                return Err(MysqlError::Protocol("too many rows"));
            }
            rows.push(row(&packet, columns).ok_or(MysqlError::Protocol("a row that is none"))?);
        }
    }
}

async fn start(stream: Stream, target: &Target, login: &Login) -> Result<Session, MysqlError> {
    // Read for the check alone: a NUL would end the name early.
    let (user, password) = (login.user.expose(), login.password.expose());
    if user.is_empty() || [user, password].iter().any(|text| text.contains(&0)) {
        return Err(MysqlError::Credential);
    }
    let unix = stream.is_unix();
    // Without it the session works all the same.
    let _ = stream.set_nodelay();
    let mut packets = Packets::new(stream);
    let first = packets.receive().await?;
    if first.first() == Some(&ERR) {
        return Err(refusal(&first));
    }
    let greeting = Greeting::read(&first)?;
    // No server has TLS on its unix sockets.
    let mut packets = if target.tls.mode() == TlsMode::Disable || unix {
        let (stream, sequence) = packets.apart();
        Packets::at(ServerStream::Plain(stream), sequence)
    } else {
        if !greeting.has_tls() {
            return Err(MysqlError::NoTls);
        }
        packets.send(&ssl_request()).await?;
        let name = target.tls.name(&target.host, target.ip())?;
        let (stream, sequence) = packets.apart();
        let stream = target.tls.connect(name, stream).await?;
        Packets::at(ServerStream::Tls(Box::new(stream)), sequence)
    };
    let private = unix || packets.stream.is_tls();
    // A server may name a method here that is not the user's, and change it then: so one that is not known here is no reason to end.
    let mut method = Method::of(&greeting.method).unwrap_or(Method::Native);
    if method == Method::Ed25519 {
        method = Method::Native;
    }
    // Sent to the target, which is what they are for.
    let proof = method.prove(password, &greeting.challenge)?;
    let answer =
        response(packets.stream.is_tls(), user, &proof, method.name()).ok_or(MysqlError::Credential)?;
    packets.send(&answer).await?;
    for _ in 0..MOST_STEPS {
        let packet = packets.receive().await?;
        match packet.first() {
            Some(&OK) => {
                return Ok(Session {
                    packets,
                    version: greeting.version,
                });
            }
            Some(&ERR) => return Err(refusal(&packet)),
            Some(&SWITCH) => {
                let (name, challenge) = switch(&packet)?;
                method = Method::of(name)?;
                packets.send(&method.prove(password, challenge)?).await?;
            }
            Some(&MORE) if method == Method::Caching => match packet.get(1) {
                Some(&FAST) => {}
                Some(&FULL) if private => {
                    let mut clear = Zeroizing::new(password.to_vec());
                    clear.push(0);
                    packets.send(&clear).await?;
                }
                Some(&FULL) => {
                    return Err(MysqlError::Method("caching_sha2_password without TLS".to_owned()));
                }
                _ => return Err(MysqlError::Protocol("an answer to a proof that is none")),
            },
            _ => {
                return Err(MysqlError::Protocol(
                    "a message that does not belong into a login",
                ));
            }
        }
    }
    Err(MysqlError::Protocol("a login without an end"))
}

/// Method and challenge of an `AuthSwitchRequest`. A zero byte may stand behind the challenge, or be its last: how long it
/// is the method knows.
fn switch(packet: &[u8]) -> Result<(&str, &[u8]), MysqlError> {
    let parse = || {
        let mut reader = Reader(packet.get(1..)?);
        let name = std::str::from_utf8(reader.cstring()?).ok()?;
        Some((name, reader.0))
    };
    // Alone it means the method of before MySQL 4.1.
    parse().ok_or_else(|| MysqlError::Method("mysql_old_password".to_owned()))
}

fn is_eof(packet: &[u8]) -> bool {
    // A row may begin with this byte as well, and is longer then.
    packet.first() == Some(&EOF) && packet.len() < 9
}

fn refusal(packet: &[u8]) -> MysqlError {
    let parse = || {
        let mut reader = Reader(packet.get(1..)?);
        let code = reader.u16()?;
        // Before there is a session it may be left out.
        let sqlstate = match reader.0.split_first() {
            Some((b'#', rest)) => rest.get(..5).filter(|state| state.is_ascii())?,
            _ => b"HY000",
        };
        let sqlstate = sqlstate.iter().map(|b| char::from(*b));
        Some(MysqlError::Refused {
            code,
            sqlstate: sqlstate.filter(char::is_ascii_alphanumeric).collect(),
        })
    };
    parse().unwrap_or(MysqlError::Protocol("an error that is none"))
}

fn row(packet: &[u8], columns: usize) -> Option<Row> {
    let mut reader = Reader(packet);
    let mut row = Row::with_capacity(columns);
    for _ in 0..columns {
        let value = match reader.text()? {
            Text::Null => None,
            Text::Value(text) => Some(std::str::from_utf8(text).ok()?.to_owned()),
        };
        row.push(value);
    }
    reader.0.is_empty().then_some(row)
}
