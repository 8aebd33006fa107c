use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::double::{session, target};
use crate::model::Direction;
use crate::policy::{HoldTerms, Ruling};
use crate::protocol::{HoldDecision, HoldEnding, HoldOutcome, SessionEnd};

/// Answers with the method, the target and the body of the request.
async fn echo(request: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    let line = format!("{} {} ", request.method(), request.uri());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Response::new(Full::from([line.as_bytes(), &body].concat()))
}

/// Sends `request`, closes nothing, and reads until `end` has come.
async fn ask(client: &mut tokio::net::TcpStream, request: &str, end: &str) -> String {
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).ends_with(end) {
        if client.read_buf(&mut answer).await.unwrap() == 0 {
            break;
        }
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn exchanges_follow_one_another_on_one_connection_and_are_recorded() {
    let mut session = session(target(echo).await).await;
    let first = ask(
        &mut session.client,
        "GET /one HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /one ",
    )
    .await;
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    let second = "POST /two HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n\r\nbody";
    ask(&mut session.client, second, "POST /two body").await;
    drop(session.client);
    session.running.await.unwrap().unwrap();
    let ledger = session.ledger.lock();
    assert_eq!(
        ledger.parts(Direction::ToServer),
        [
            "1 Head last GET http://127.0.0.1/one HTTP/1.1",
            "2 Head POST http://127.0.0.1/two HTTP/1.1",
            "2 Body last body",
        ]
    );
    assert_eq!(
        ledger.parts(Direction::ToClient),
        [
            "1 Head HTTP/1.1 200 OK",
            "1 Body last GET /one",
            "2 Head HTTP/1.1 200 OK",
            "2 Body last POST /two body",
        ]
    );
    assert_eq!(ledger.commands.len(), 2);
    assert_eq!(ledger.commands[1], (2, "POST http://127.0.0.1/two".to_owned()));
    assert_eq!(*session.dialled.lock(), 1);
}

#[tokio::test]
async fn a_refused_request_does_not_reach_the_target_and_the_connection_goes_on() {
    let mut session = session(target(echo).await).await;
    let request = "DELETE /one HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let refused = ask(&mut session.client, request, "}").await;
    assert!(refused.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{refused}");
    assert_eq!(*session.dialled.lock(), 0);
    ask(
        &mut session.client,
        "GET /one HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /one ",
    )
    .await;
    assert_eq!(*session.dialled.lock(), 1);
}

#[tokio::test]
async fn a_held_request_waits_unsent_until_it_is_approved() {
    let mut session = session(target(echo).await).await;
    let request = b"PATCH /one HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n\r\nbody";
    session.client.write_all(request).await.unwrap();
    while session.ledger.lock().commands.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*session.dialled.lock(), 0);
    let approved = Ruling::Hold(HoldTerms {
        rules: Vec::new(),
        approvers: Vec::new(),
        timeout: Duration::from_secs(1),
    });
    session.decide.send_replace(Some(HoldDecision {
        outcome: HoldOutcome::Approved(approved.observed(), [0; 32]),
        end: HoldEnding::Approved,
        by: None,
        reason: None,
    }));
    ask(&mut session.client, "", "PATCH /one body").await;
    assert_eq!(session.ledger.lock().body(Direction::ToServer), b"body");
}

#[tokio::test]
async fn a_session_that_ends_tells_the_client_whose_request_waits() {
    let mut session = session(target(echo).await).await;
    let request = b"PATCH /one HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    session.client.write_all(request).await.unwrap();
    while session.ledger.lock().commands.is_empty() {
        tokio::task::yield_now().await;
    }
    session.over.send_replace(Some(SessionEnd::Stop));
    let told = ask(&mut session.client, "", "}").await;
    assert!(told.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{told}");
    assert!(told.contains("\r\nconnection: close\r\n"), "{told}");
    assert_eq!(session.client.read(&mut [0]).await.unwrap(), 0);
    assert!(matches!(session.running.await.unwrap(), Err(SessionEnd::Stop)));
}
