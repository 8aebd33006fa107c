//! A request of HTTP as a command: what it does, to what, and every way in which a server may read it.
//!
//! Pure: a head, and the body where it was read, go in; a [`Command`] comes out. What this does not know is how a server routes;
//! see the limits in `path`, `query` and `method`.

mod body;
mod graphql;
mod host;
mod method;
mod path;
mod query;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, PROXY_AUTHORIZATION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::model::{
    Action, Command, Effect, Effects, GrpcCall, HttpAsks, HttpBody, HttpContent, HttpDoubt, HttpFacts,
    HttpPair, HttpPart, method_effects,
};

pub use body::{Body, LIMIT};
pub(super) use text::{names_a_secret, shown};

/// Headers with which a client asks to be routed by another path: IIS, Symfony, Zend.
const OTHER_PATHS: [&str; 3] = ["x-original-url", "x-rewrite-url", "x-original-uri"];

/// How a request came.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// `https` where the workload speaks TLS, else `http`.
    pub scheme: &'a str,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub protocol: Option<&'a str>,
    /// What the rules of the service ask.
    pub asks: HttpAsks,
}

/// Whether the body of a request has to be read before it is judged: rules ask for it, or it may name another method.
pub fn wants_body(parts: &Parts, asks: HttpAsks) -> bool {
    let form =
        body::media_type(&parts.headers).is_some_and(|media| media == "application/x-www-form-urlencoded");
    let untold = !parts.headers.contains_key(CONTENT_LENGTH);
    asks.body
        || asks.graphql
        || asks.held
        || (asks.length && untold)
        || (form && parts.method == Method::POST)
}

/// The command that a request is. Every part that a server may read otherwise is in it, or is said to be in doubt.
pub fn command(parts: &Parts, context: Context<'_>, body: Body<'_>) -> Command {
    let mut reader = Reader::default();
    let named = host::read(&parts.uri, &parts.headers);
    reader.doubt(HttpPart::Host, named.doubt);
    let paths = reader.paths(parts);
    let (query, why) = query::read(parts.uri.query().unwrap_or_default());
    reader.doubt(HttpPart::Query, why);
    let (read, why) = body::read(&parts.headers, body);
    reader.doubt(HttpPart::Body, why);
    let headers = reader.headers(&parts.headers);
    let content_type = body::media_type(&parts.headers);
    let graphql = if context.asks.graphql {
        let operations = graphql::read(content_type.as_deref(), &query, &read, body);
        reader.doubt(HttpPart::Graphql, operations.doubt);
        operations.all
    } else {
        Vec::new()
    };
    let methods = reader.methods(parts, &query, content_type.as_deref(), (body, &read));
    let grpc = grpc_call(content_type.as_deref(), &paths);
    let mut effects = reader.effects(&methods, parts, context);
    for part in [HttpPart::Method, HttpPart::Host, HttpPart::Path] {
        if reader.doubts.iter().any(|doubt| doubt.part == part) {
            effects.insert(Effect::Unknown);
        }
    }
    let why: Vec<&str> = reader
        .unknown
        .iter()
        .map(String::as_str)
        .chain(
            reader
                .doubts
                .iter()
                .filter(|doubt| makes_unknown(doubt.part))
                .map(|doubt| doubt.why.as_str()),
        )
        .collect();
    let unknown = effects.contains(Effect::Unknown).then(|| why.join("; "));
    let text = text_of(parts, context.scheme, &named);
    Command {
        text: text.into(),
        actions: effects
            .iter()
            .map(|effect| Action { effect, object: None })
            .collect(),
        without_where: false,
        unknown,
        http: Some(Arc::new(HttpFacts {
            methods,
            scheme: context.scheme.into(),
            host: named.host,
            port: named.port,
            content_type: content_type.map(Arc::from),
            body_bytes: body.bytes(),
            grpc,
            graphql,
            doubts: reader.doubts,
            content: HttpContent {
                paths,
                query,
                headers,
                body: read,
            },
        })),
    }
}

fn makes_unknown(part: HttpPart) -> bool {
    matches!(part, HttpPart::Method | HttpPart::Host | HttpPart::Path)
}

fn text_of(parts: &Parts, scheme: &str, named: &host::Named) -> String {
    let host = if named.host.contains(':') {
        format!("[{}]", named.host)
    } else {
        named.host.to_string()
    };
    let port = named.port.map_or_else(String::new, |port| format!(":{port}"));
    let origin = format!("{scheme}://{host}{port}");
    let path = if parts.method == Method::CONNECT {
        ""
    } else {
        parts.uri.path()
    };
    text::line(
        &text::shown(parts.method.as_str()),
        &origin,
        path,
        parts.uri.query(),
    )
}

/// `/package.Service/Method` of a body that is said to be gRPC.
fn grpc_call(content_type: Option<&str>, paths: &[Vec<Arc<str>>]) -> Option<GrpcCall> {
    let rest = content_type?.strip_prefix("application/grpc")?;
    if !rest.is_empty() && !rest.starts_with(['+', '-']) {
        return None;
    }
    match paths {
        [one] => match one.as_slice() {
            [service, method] => Some(GrpcCall {
                service: Arc::clone(service),
                method: Arc::clone(method),
            }),
            _ => None,
        },
        _ => None,
    }
}

/// Collects doubts while a request is read.
#[derive(Debug, Default)]
struct Reader {
    doubts: Vec<HttpDoubt>,
    /// Why an effect is unknown, where no part is in doubt.
    unknown: Vec<String>,
}

impl Reader {
    fn doubt(&mut self, part: HttpPart, why: Option<&str>) {
        if let Some(why) = why {
            self.doubts.push(HttpDoubt {
                part,
                why: why.into(),
            });
        }
    }

    fn paths(&mut self, parts: &Parts) -> Vec<Vec<Arc<str>>> {
        let own = match parts.uri.path() {
            "" => "/",
            path => path,
        };
        // `OPTIONS *` asks about the server, and CONNECT names no path.
        if own == "*" && parts.method == Method::OPTIONS {
            return vec![vec!["*".into()]];
        }
        let mut readings = path::read(own);
        self.doubt(HttpPart::Path, readings.doubt);
        for (name, value) in &parts.headers {
            if !OTHER_PATHS.contains(&name.as_str().replace('_', "-").as_str()) {
                continue;
            }
            let other = value.to_str().unwrap_or_default();
            let other = other.split(['?', '#']).next().unwrap_or_default();
            let other = path::read(other);
            self.doubt(HttpPart::Path, other.doubt);
            readings.all.extend(other.all);
        }
        readings.all.sort();
        readings.all.dedup();
        readings.all
    }

    fn headers(&mut self, headers: &HeaderMap) -> Vec<HttpPair> {
        let mut pairs = Vec::new();
        for (name, value) in headers {
            if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name) {
                continue;
            }
            match value.to_str() {
                Ok(value) => pairs.push((
                    Arc::from(name.as_str().replace('_', "-")),
                    Arc::from(value.trim()),
                )),
                Err(_) => self.doubt(HttpPart::Headers, Some("a header has bytes that are not ASCII")),
            }
        }
        pairs
    }

    fn methods(
        &mut self,
        parts: &Parts,
        query: &[HttpPair],
        content_type: Option<&str>,
        (body, read): (Body<'_>, &HttpBody),
    ) -> Vec<Arc<str>> {
        // A form names a method whatever else its bytes can be read as.
        let form = match (content_type, body) {
            (Some("application/x-www-form-urlencoded"), Body::Whole(bytes)) => {
                query::read(&String::from_utf8_lossy(bytes)).0
            }
            (Some(media), Body::Whole(bytes)) if media.starts_with("multipart/") => {
                let named = method::in_multipart(bytes);
                self.doubt(
                    HttpPart::Method,
                    named.then_some("a part of the body asks for another method"),
                );
                Vec::new()
            }
            (Some("application/x-www-form-urlencoded"), Body::Unread { .. })
                if parts.method == Method::POST =>
            {
                self.doubt(
                    HttpPart::Method,
                    Some("the form is too long to be searched for another method"),
                );
                Vec::new()
            }
            _ => Vec::new(),
        };
        let mut methods: Vec<Arc<str>> = vec![parts.method.as_str().into()];
        match method::overrides(&parts.headers, &[query, &form, &method::in_json(read)]) {
            Some(others) => {
                for other in others {
                    if !methods.contains(&other) {
                        methods.push(other);
                    }
                }
            }
            None => self.doubt(
                HttpPart::Method,
                Some("the request asks to be taken for a method that is none"),
            ),
        }
        methods
    }

    fn effects(&mut self, methods: &[Arc<str>], parts: &Parts, context: Context<'_>) -> Effects {
        let mut effects = Effects::NONE;
        for method in methods {
            match method_effects(method) {
                Some(known) => known.iter().for_each(|effect| effects.insert(*effect)),
                None if **method == *"CONNECT" && context.protocol == Some("websocket") => {
                    effects.insert(Effect::Read);
                    effects.insert(Effect::Websocket);
                }
                None if **method == *"CONNECT" => {
                    effects.insert(Effect::Unknown);
                    self.unknown.push("a tunnel carries what is not seen".into());
                }
                None => {
                    effects.insert(Effect::Unknown);
                    self.unknown
                        .push(format!("the method {} is not known", text::shown(method)));
                }
            }
        }
        let mut upgrades = parts.headers.get_all(UPGRADE).iter().peekable();
        if upgrades.peek().is_some() {
            let websocket = parts.method == Method::GET
                && upgrades.all(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
            if websocket {
                effects.insert(Effect::Websocket);
            } else {
                effects.insert(Effect::Unknown);
                self.unknown
                    .push("the connection would go on in another protocol".into());
            }
        }
        effects
    }
}
