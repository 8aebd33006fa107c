//! A double of an issuer: an HTTP server on loopback that answers what a test says, and tells what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::config::IssuerSpec;

/// What it was asked.
#[derive(Clone, Debug)]
pub(in crate::credential) struct Asked {
    /// Method and path.
    pub(in crate::credential) line: String,
    pub(in crate::credential) headers: Vec<(String, String)>,
    pub(in crate::credential) body: String,
}

/// What it does.
#[derive(Clone, Debug)]
pub(in crate::credential) enum Reply {
    /// Answers with a status line and a body.
    Is(&'static str, String),
    /// 200 and a body, after a while.
    Slow(Duration, String),
    /// The same, with a header more.
    With(&'static str, String, String),
    /// Takes the question, and says nothing until the test is over.
    Hangs,
    /// Closes the connection.
    Closes,
    /// Answers with a body that does not end.
    Floods,
}

pub(in crate::credential) struct Double {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    reply: Mutex<Option<Reply>>,
    asked: Mutex<Vec<Asked>>,
    stop: Mutex<bool>,
    stopped: Condvar,
}

impl Asked {
    pub(in crate::credential) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A field of a form.
    pub(in crate::credential) fn field(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.body.as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }
}

impl Double {
    pub(in crate::credential) fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        *shared.reply.lock() = Some(reply);
        let of_server = Arc::clone(&shared);
        let server = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for stream in listener.incoming() {
                    if *of_server.stop.lock() {
                        return;
                    }
                    let shared = &of_server;
                    scope.spawn(move || shared.serve(stream.unwrap()));
                }
            });
        });
        Self {
            address,
            shared,
            server: Some(server),
        }
    }

    pub(in crate::credential) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(in crate::credential) fn spec(&self, path: &str) -> IssuerSpec {
        IssuerSpec {
            endpoint: self.url(path),
            ca: None,
            timeout: Duration::from_secs(1),
        }
    }

    pub(in crate::credential) fn replies(&self, reply: Reply) {
        *self.shared.reply.lock() = Some(reply);
    }

    pub(in crate::credential) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().clone()
    }

    /// Connections are refused from here on.
    pub(in crate::credential) fn go_down(&mut self) {
        *self.shared.stop.lock() = true;
        self.shared.stopped.notify_all();
        let _wakes_the_server = TcpStream::connect(self.address);
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.go_down();
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let Some(asked) = read(&mut reader) else {
            return;
        };
        self.asked.lock().push(asked);
        let mut stream = reader.into_inner();
        let reply = self.reply.lock().clone().unwrap();
        let (status, header, body) = match reply {
            Reply::Is(status, body) => (status, String::new(), body),
            Reply::With(status, header, body) => (status, format!("{header}\r\n"), body),
            Reply::Hangs => {
                let mut stop = self.stop.lock();
                while !*stop {
                    self.stopped.wait(&mut stop);
                }
                return;
            }
            Reply::Slow(time, body) => {
                std::thread::sleep(time);
                ("200 OK", String::new(), body)
            }
            Reply::Closes => return,
            Reply::Floods => {
                let _closed = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
                while stream.write_all(&[b' '; 4096]).is_ok() {}
                return;
            }
        };
        let head = format!(
            "HTTP/1.1 {status}\r\n{header}content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        // A client that had enough may have closed already.
        let _closed = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body.as_bytes()));
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let (line, headers) = lines.split_first()?;
    let headers: Vec<(String, String)> = headers
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        line: line.trim_end_matches(" HTTP/1.1").to_owned(),
        headers,
        body: String::from_utf8(body).unwrap(),
    })
}
