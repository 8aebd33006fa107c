use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::double::{Session, connected, session, target};
use crate::model::Direction;
use crate::protocol::SessionEnd;

async fn echo(request: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Response::new(Full::from(body))
}

/// What the client gets for these bytes, to the end of the connection.
async fn told(bytes: &[u8]) -> (String, Vec<String>) {
    let mut session = session(target(echo).await).await;
    session.client.write_all(bytes).await.unwrap();
    let mut told = Vec::new();
    session.client.read_to_end(&mut told).await.unwrap();
    drop(session.client);
    session.running.await.unwrap().ok();
    let commands = session
        .ledger
        .lock()
        .commands
        .iter()
        .map(|(_, text)| text.clone())
        .collect();
    (String::from_utf8_lossy(&told).into_owned(), commands)
}

#[tokio::test]
async fn a_smuggled_request_is_told_so_in_its_turn_and_reaches_nobody() {
    let (answers, commands) = told(
        b"GET /one HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n\
          POST /two HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n",
    )
    .await;
    let statuses: Vec<&str> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(statuses, ["200", "400"], "{answers}");
    assert!(answers.contains("a length and a transfer coding"), "{answers}");
    assert_eq!(commands, ["GET http://127.0.0.1/one"]);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_told_so() {
    let long = format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}\r\n\r\n",
        "x".repeat(70_000)
    );
    let (answers, commands) = told(long.as_bytes()).await;
    assert!(answers.starts_with("HTTP/1.1 431 "), "{answers}");
    assert!(commands.is_empty());
}

/// A session whose connection is upgraded, and the target's end of it, which has said `hello`.
async fn upgraded() -> (Session, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut session = session(listener.local_addr().unwrap()).await;
    let request =
        b"GET /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    session.client.write_all(request).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(upstream.read_buf(&mut head).await.unwrap() > 0);
    }
    let text = String::from_utf8(head).unwrap().to_lowercase();
    assert!(
        text.contains("upgrade: websocket\r\n") && text.contains("connection: upgrade\r\n"),
        "{text}"
    );
    let switch =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
    upstream.write_all(switch).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"hello") {
        assert!(session.client.read_buf(&mut got).await.unwrap() > 0);
    }
    assert!(got.starts_with(b"HTTP/1.1 101 "));
    (session, upstream)
}

#[tokio::test]
async fn a_connection_that_is_upgraded_passes_and_records_bytes_both_ways() {
    let (mut session, mut upstream) = upgraded().await;
    session.client.write_all(b"\x81\x02hi").await.unwrap();
    let mut heard = [0; 4];
    upstream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"\x81\x02hi");
    drop(upstream);
    assert_eq!(session.client.read(&mut [0]).await.unwrap(), 0);
    drop(session.client);
    session.running.await.unwrap().unwrap();
    let parts = session.ledger.lock().parts(Direction::ToClient);
    assert_eq!(parts[1..], ["1 Tunnel hello", "1 Tunnel last"]);
}

#[tokio::test]
async fn a_connection_that_is_upgraded_ends_with_the_identity_since_nothing_of_it_is_judged() {
    let (mut session, _upstream) = upgraded().await;
    session.lapsed.send_replace(true);
    let end = session.running.await.unwrap().unwrap_err();
    assert!(matches!(end, SessionEnd::Changed), "{end}");
    assert_eq!(session.client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_target_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut session = session(listener.local_addr().unwrap()).await;
    session
        .client
        .write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        .await
        .unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let mut head = [0; 1024];
    assert!(upstream.read(&mut head).await.unwrap() > 0);
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        .await
        .unwrap();
    // As much as sockets and buffers take; then nothing more.
    let chunk = vec![b'x'; 1 << 20];
    let mut sent: usize = 0;
    while let Ok(done) =
        tokio::time::timeout(std::time::Duration::from_millis(500), upstream.write(&chunk)).await
    {
        sent += done.unwrap();
        assert!(sent < 100 << 20, "nothing holds the target back");
    }
    let recorded = session.ledger.lock().body(Direction::ToClient).len();
    assert!(recorded <= sent, "{recorded} of {sent}");
}

#[tokio::test]
async fn a_target_that_is_not_there_is_told_in_http() {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], tollgate_tests::process::free_port().unwrap()));
    assert!(connected(address).await.is_err());
    let mut session = session(address).await;
    session
        .client
        .write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut told = Vec::new();
    session.client.read_to_end(&mut told).await.unwrap();
    let told = String::from_utf8(told).unwrap();
    assert!(told.starts_with("HTTP/1.1 502 "), "{told}");
}
