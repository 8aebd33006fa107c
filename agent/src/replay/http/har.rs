//! HTTP Archive 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>), which browsers' tools open.
//!
//! Known limits: times of connecting and of TLS are of the session, not of an exchange, and not in it (-1, "does not apply");
//! sizes of heads are not known (-1). Messages of a WebSocket are in `_webSocketMessages`, as Chrome writes them.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::exchange::{Body, Exchange, Message};
use crate::model::Direction;

/// The archive of these exchanges; `comment` says where they are from.
pub fn archive(exchanges: &[Exchange], comment: &str) -> Value {
    let mut ordered: Vec<&Exchange> = exchanges.iter().collect();
    ordered.sort_by_key(|exchange| exchange.begun);
    json!({
        "log": {
            "version": "1.2",
            "creator": { "name": "Tollgate", "version": env!("CARGO_PKG_VERSION") },
            "entries": ordered.into_iter().map(entry).collect::<Vec<_>>(),
            "comment": comment,
        }
    })
}

fn entry(exchange: &Exchange) -> Value {
    let (method, url, version) = exchange.asked();
    let (answer_version, status, reason) = exchange.answered();
    let (request, response) = (&exchange.request, &exchange.response);
    let sent = request.ended.or(request.came).unwrap_or(exchange.begun);
    let came = response.came.unwrap_or(sent).max(sent);
    let ended = response.ended.unwrap_or(came).max(came);
    let mut asked = json!({
        "method": method,
        "url": url,
        "httpVersion": version,
        "cookies": request_cookies(request),
        "headers": pairs(&request.headers),
        "queryString": query(url),
        "headersSize": -1,
        "bodySize": request.body.bytes,
    });
    if request.body.bytes > 0
        && let Some(asked) = asked.as_object_mut()
    {
        let mime = request.field("content-type").unwrap_or_default();
        let mut data = json!({ "mimeType": mime, "params": [] });
        put_text(&mut data, &request.body, false);
        asked.insert("postData".to_owned(), data);
    }
    let mut content = json!({
        "size": response.body.bytes,
        "mimeType": response.field("content-type").unwrap_or("x-unknown"),
    });
    put_text(&mut content, &response.body, true);
    let mut entry = json!({
        "startedDateTime": exchange.started.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        "time": milliseconds(ended.saturating_sub(exchange.begun)),
        "request": asked,
        "response": {
            "status": status,
            "statusText": reason,
            "httpVersion": if answer_version.is_empty() { version } else { answer_version },
            "cookies": response_cookies(response),
            "headers": pairs(&response.headers),
            "content": content,
            "redirectURL": response.field("location").unwrap_or_default(),
            "headersSize": -1,
            "bodySize": response.body.bytes,
        },
        "cache": {},
        "timings": {
            "blocked": -1,
            "dns": -1,
            "connect": -1,
            "ssl": -1,
            "send": milliseconds(sent.saturating_sub(exchange.begun)),
            "wait": milliseconds(came.saturating_sub(sent)),
            "receive": milliseconds(ended.saturating_sub(came)),
        },
    });
    if request.cut || response.cut || status == 0 {
        put(&mut entry, "comment", "it was broken off".into());
    }
    if !exchange.messages.is_empty() {
        let messages = exchange.messages.iter().map(|message| {
            let data = if message.text {
                String::from_utf8_lossy(&message.body.kept).into_owned()
            } else {
                base64::engine::general_purpose::STANDARD.encode(&message.body.kept)
            };
            json!({
                "type": match message.direction { Direction::ToServer => "send", Direction::ToClient => "receive" },
                "time": milliseconds_since_epoch(message.time) / 1000.0,
                "opcode": if message.text { 1 } else { 2 },
                "data": data,
            })
        });
        put(&mut entry, "_webSocketMessages", messages.collect());
        put(&mut entry, "_resourceType", "websocket".into());
    }
    entry
}

fn put(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

/// A body that is no text is in Base64, where the format has a word for that, which it has for answers alone.
fn put_text(object: &mut Value, body: &Body, encodable: bool) {
    match std::str::from_utf8(&body.kept) {
        Ok(text) => put(object, "text", text.into()),
        Err(_) => {
            let encoded = base64::engine::general_purpose::STANDARD.encode(&body.kept);
            put(object, "text", encoded.into());
            if encodable {
                put(object, "encoding", "base64".into());
            } else {
                put(object, "comment", "in Base64".into());
            }
        }
    }
}

fn pairs(fields: &[(String, String)]) -> Vec<Value> {
    let pair = |(name, value): &(String, String)| json!({ "name": name, "value": value });
    fields.iter().map(pair).collect()
}

fn query(url: &str) -> Vec<Value> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect()
}

fn request_cookies(request: &Message) -> Vec<Value> {
    let fields = request
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
    fields
        .flat_map(|(_, value)| value.split("; "))
        .map(cookie)
        .collect()
}

fn response_cookies(response: &Message) -> Vec<Value> {
    let fields = response
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    fields
        .map(|(_, value)| cookie(value.split(';').next().unwrap_or_default()))
        .collect()
}

fn cookie(pair: &str) -> Value {
    let (name, value) = pair.split_once('=').unwrap_or(("", pair));
    json!({ "name": name.trim(), "value": value.trim() })
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn milliseconds_since_epoch(time: chrono::DateTime<chrono::Utc>) -> f64 {
    let since = std::time::SystemTime::from(time).duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, milliseconds)
}
