//! One request and its answer.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_ENCODING, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::model::{Command, Direction};
use crate::policy::{Authorized, Ruling};
use crate::protocol::{CommandNumber, HoldOutcome, HoldRequest, Occasion, SessionEnd, Stages};

use super::answer::Own;
use super::body::{Answer, Broken, Recorded};
use super::facts;
use super::guard::Misfit;
use super::guarded::{Guarded, Heads};
use super::headers::{self, Hop};
use super::hold;
use super::inject::{InjectError, MOST_HASHED, Read};
use super::mask::Masking;
use super::open::{Client, Spoken};
use super::record::{self, Part};
use super::refusal::{Asker, Problem};
use super::session::{Link, first_version, second_version};
use super::source::Source;
use super::tasks::{Driver, Tasks};
use super::upstream::Unanswered;
use super::wire::Fault;

/// How long a client that is not let in is given to ask, and to be told.
const REFUSAL: Duration = Duration::from_secs(5);

/// The connection of the client is closed without an answer, for this reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Aborted(pub(super) String);

/// Why an exchange ends without the target's answer.
enum Ended {
    /// The client is told this.
    Told(Box<Problem>),
    /// The session ends, and the client is told so.
    Session(SessionEnd),
    /// The connection is closed.
    Aborted(Aborted),
}

fn told(problem: Problem) -> Ended {
    Ended::Told(Box::new(problem))
}

impl From<SessionEnd> for Ended {
    fn from(end: SessionEnd) -> Self {
        Self::Session(end)
    }
}

/// Answers one request.
pub(super) async fn exchange<S: Stages + 'static>(
    link: Arc<Link<S>>,
    heads: Option<Heads>,
    request: Request<Incoming>,
) -> Result<Response<Answer<S>>, Aborted> {
    let number = link.next();
    let version = request.version();
    let asker = Asker::of(request.method(), request.headers());
    let answered = tokio::select! {
        biased;
        end = link.ended() => Err(Ended::Session(end)),
        answered = passing(&link, number, heads.as_ref(), request) => answered,
    };
    let instance = link.instance(number);
    let own = match answered {
        Ok(answer) => return Ok(answer),
        Err(Ended::Told(problem)) => Own::of(&problem, &asker, &instance),
        Err(Ended::Aborted(why)) => return Err(why),
        Err(Ended::Session(end)) => {
            // Who it was found by does not matter: the session is over for all of its exchanges.
            let mut own = Own::of(&Problem::ended(&end), &asker, &instance);
            link.check(Err::<(), _>(end)).ok();
            own.parts
                .headers
                .insert(CONNECTION, HeaderValue::from_static("close"));
            own
        }
    };
    let Own { parts, body } = own;
    let head = record::response_head(&parts, version);
    let recorded = link
        .record(Direction::ToClient, (number, Part::Head, false), &head)
        .and_then(|()| link.record(Direction::ToClient, (number, Part::Body, true), &body));
    if let Err(end) = link.check(recorded)
        && !matches!(end, SessionEnd::Record(_))
    {
        return Err(Aborted(end.to_string()));
    }
    Ok(Response::from_parts(parts, Answer::Own(body)))
}

/// Forwards a request, or what stands for one that could be read in two ways: that ends the connection by itself.
async fn passing<S: Stages + 'static>(
    link: &Arc<Link<S>>,
    number: u64,
    heads: Option<&Heads>,
    request: Request<Incoming>,
) -> Result<Response<Answer<S>>, Ended> {
    match heads.map_or(Ok(()), Heads::take) {
        Ok(()) => forward(link, number, heads, request).await,
        Err(Fault::Long) => Err(told(Problem::head_too_large())),
        Err(Fault::Ambiguous(why)) => Err(told(Problem::malformed(why))),
    }
}

async fn forward<S: Stages + 'static>(
    link: &Arc<Link<S>>,
    number: u64,
    heads: Option<&Heads>,
    mut request: Request<Incoming>,
) -> Result<Response<Answer<S>>, Ended> {
    let version = request.version();
    let upgrade = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    link.stages.ready().await?;
    let stripped = link.strip(&mut parts)?;
    let empty = http_body::Body::is_end_stream(&body);
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = parts.uri.authority().map(http::uri::Authority::as_str).or(host);
    let head = record::request_head(&parts, &link.origin(host));
    link.record(Direction::ToServer, (number, Part::Head, empty), &head)?;
    if let Err(misfit) = link.names.fits(&parts) {
        return Err(told(match misfit {
            Misfit::Malformed(why) => Problem::malformed(why),
            Misfit::Misdirected(why) => Problem::misdirected(&why),
        }));
    }
    let asks = link.stages.with(|stages| stages.asks());
    let length = http_body::Body::size_hint(&body).exact();
    let mut up = Recorded::new(Source::plain(body), Arc::clone(link), number, Direction::ToServer);
    let mut whole = if empty || !facts::wants_body(&parts, asks) {
        None
    } else {
        read_whole(link, &mut up, facts::LIMIT).await?
    };
    let read = match &whole {
        Some(bytes) => facts::Body::Whole(bytes),
        None if empty => facts::Body::Empty,
        None => facts::Body::Unread { length },
    };
    let context = facts::Context {
        scheme: link.scheme,
        protocol: None,
        asks,
    };
    let asked = Asked {
        command: Arc::new(facts::command(&parts, context, read)),
        binding: hold::binding(&parts, link.scheme, read),
        body: read,
    };
    let (authorized, command) = judged(link, number, &asked).await?;
    let held = link.held(&authorized).await?;
    if whole.is_none() && !empty && link.wants_body(&parts, &stripped) {
        whole = read_whole(link, &mut up, MOST_HASHED).await?;
    }
    let read = match &whole {
        Some(bytes) => Read::Whole(bytes),
        None if empty => Read::Whole(b""),
        None => Read::Not,
    };
    // Before the credential: a signature is over what is asked for.
    let unmasked = link.masks.request(&mut parts);
    let work = link
        .inject(&mut parts, &stripped, &held, read)
        .map_err(|error| told(uninjected(&error)))?;
    let up = up.worked(work);

    let hop = headers::take(&mut parts.headers);
    let asked_to_upgrade = hop.upgrade;
    if asked_to_upgrade && !link.stages.with(|stages| stages.masks()).is_empty() {
        return Err(told(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "upgrade",
            "the answers of this service are masked, and what the connection would be upgraded to could not be",
            "ask without an upgrade, or have a service without masks for it",
        )));
    }
    let request = Request::from_parts(towards_target(parts, hop), up);
    let answer = match link.line.ask(link, request).await {
        Ok(answer) => answer,
        Err(Unanswered::Unreachable(end @ SessionEnd::Target(_))) => {
            return Err(told(Problem::ended(&end)));
        }
        Err(Unanswered::Unreachable(end)) => return Err(end.into()),
        Err(Unanswered::Stale(why)) => return Err(Ended::Aborted(Aborted(why))),
        Err(Unanswered::Broken(why)) => return Err(told(Problem::ended(&SessionEnd::Target(why)))),
    };
    let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    let mut answer = answer;
    let upgraded = switched.then(|| hyper::upgrade::on(&mut answer));
    let (mut parts, body) = answer.into_parts();
    let spoken = parts.version;
    if parts.status == StatusCode::UNAUTHORIZED {
        link.refused(&held).await;
    }
    let hop = headers::take(&mut parts.headers);
    if held.is_echoed() && !http_body::Body::is_end_stream(&body) && is_coded(&parts.headers) {
        return Err(told(Problem::new(
            StatusCode::BAD_GATEWAY,
            "coding",
            "the server compressed its answer though it was asked not to, so it cannot be searched for the credential",
            "have the server heed `Accept-Encoding: identity`",
        )));
    }
    held.unecho(&mut parts.headers);
    let Masking { body: mask, masked } = match link.masks.response(&unmasked, &mut parts) {
        Ok(masking) => masking,
        Err(why) => return Err(told(Problem::unmaskable(&why.to_string()))),
    };
    let body = Source::masked(body, link.masks.clone(), mask, command, masked);
    let down = Recorded::new(body, Arc::clone(link), number, Direction::ToClient).unechoed(held.unechoed());
    let ends = http_body::Body::is_end_stream(&down);
    link.stages.ready().await?;
    let head = record::response_head(&parts, spoken);
    link.record(Direction::ToClient, (number, Part::Head, ends), &head)?;
    parts.version = version;
    if let Some(upgraded) = upgraded {
        let Some(heads) = heads.filter(|_| asked_to_upgrade) else {
            let why = "it switched to another protocol unasked".to_owned();
            return Err(told(Problem::ended(&SessionEnd::Target(why))));
        };
        heads.upgraded();
        parts
            .headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        link.upgrade(number, upgrade, upgraded);
    }
    if version < Version::HTTP_2 && (hop.close || (spoken == Version::HTTP_10 && !hop.keep_alive)) {
        parts
            .headers
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(Response::from_parts(parts, Answer::Target(Box::new(down))))
}

/// Whether a body is something else than its bytes (RFC 9110 §8.4).
fn is_coded(headers: &http::HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}

/// Reads a body that has to be known; `None`: it is longer than `most` bytes.
async fn read_whole<S: Stages + 'static>(
    link: &Arc<Link<S>>,
    body: &mut Recorded<S>,
    most: u64,
) -> Result<Option<Bytes>, Ended> {
    body.read_ahead(most).await.map_err(|broken| match broken {
        Broken::Session => Ended::Session(link.why()),
        Broken::Sender(_) | Broken::Work(_) | Broken::Mask(_) => {
            told(Problem::malformed(&broken.to_string()))
        }
    })
}

/// What a client is told whose request cannot get the credential.
fn uninjected(why: &InjectError) -> Problem {
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "credential",
        &format!("the request cannot get its credential, and was not sent: {why}"),
        "whoever wrote the policy can say what this service needs",
    )
}

/// A request that is judged.
struct Asked<'a> {
    command: Arc<Command>,
    body: facts::Body<'a>,
    /// `None`: its body was not read.
    binding: Option<[u8; 32]>,
}

/// Has a request judged, and waits where it is held.
async fn judged<S: Stages>(
    link: &Arc<Link<S>>,
    number: u64,
    asked: &Asked<'_>,
) -> Result<(Authorized, CommandNumber), Ended> {
    let parameters = asked
        .command
        .http
        .as_ref()
        .map(|facts| hold::shown(facts, asked.body))
        .unwrap_or_default();
    let (held, command) = link.stages.with(|stages| {
        let ruling = stages.judge(&asked.command, Occasion::Exchange(number, &parameters))?;
        let command = stages.judged();
        match (ruling, asked.binding) {
            (Ruling::Allow(authorized), _) => Ok((Ok(authorized), command)),
            (Ruling::Deny(denied), _) => Err(told(Problem::denied(&denied))),
            (Ruling::Hold(terms), Some(binding)) => {
                let hold = HoldRequest {
                    command: Arc::clone(&asked.command),
                    parameters: parameters.clone(),
                    binding,
                    terms,
                    writing_since: None,
                };
                Ok((Err(stages.hold(hold)?), command))
            }
            (Ruling::Hold(_), None) => Err(told(Problem::too_large(
                "this request needs approval, and its body is too long to be shown to anybody",
            ))),
        }
    })?;
    let mut placed = match held {
        Ok(authorized) => return Ok((authorized, command)),
        Err(placed) => placed,
    };
    let decision = (&mut placed.decision).await;
    link.stages
        .with(|stages| stages.hold_ended(&placed.id, &decision))?;
    match decision.outcome {
        HoldOutcome::Approved(authorized, bound) if Some(bound) == asked.binding => Ok((authorized, command)),
        HoldOutcome::Approved(..) => Err(Ended::Session(SessionEnd::Agent(
            "an approval is bound to another request".to_owned(),
        ))),
        HoldOutcome::Refused(denied) => Err(told(Problem::denied(&denied))),
        HoldOutcome::Cancelled => Err(Ended::Aborted(Aborted("the request was taken back".to_owned()))),
    }
}

/// The head as the target gets it.
fn towards_target(mut parts: request::Parts, hop: Hop) -> request::Parts {
    if parts.version < Version::HTTP_2 {
        if hop.chunked {
            parts.headers.insert(
                http::header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            );
        }
        if hop.upgrade {
            parts
                .headers
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        // Whatever the client speaks: its connection is not the target's.
        parts.version = Version::HTTP_11;
        if parts.method != Method::CONNECT
            && let Some(target) = parts.uri.path_and_query()
            && parts.uri.authority().is_some()
        {
            parts.uri = Uri::from(target.clone());
        }
    }
    parts
}

/// Tells a client that it is not let in, whatever it asks for.
pub(super) async fn refuse(client: Client, spoken: Spoken, why: &SessionEnd) {
    let telling = async {
        match client {
            Client::Plain(client) => refuse_on(client, spoken, why).await,
            Client::Tls(client) => refuse_on(*client, spoken, why).await,
        }
    };
    // The client may be gone: then there is nobody left to tell.
    timeout(REFUSAL, telling).await.ok();
}

async fn refuse_on<I>(client: I, spoken: Spoken, why: &SessionEnd)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let problem = Problem::ended(why);
    let service = service_fn(move |request: Request<Incoming>| {
        let asker = Asker::of(request.method(), request.headers());
        let Own { parts, body } = Own::of(&problem, &asker, "about:blank");
        let mut response = Response::from_parts(parts, Full::<Bytes>::new(body));
        if request.version() < Version::HTTP_2 {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    match spoken {
        Spoken::Http1 => {
            let (client, _) = Guarded::new(client);
            let mut builder = first_version();
            let connection = builder
                .keep_alive(false)
                .serve_connection(TokioIo::new(client), service);
            connection.await.ok();
        }
        Spoken::Http2 => {
            let tasks = Tasks::default();
            let mut driver = pin!(Driver::new(tasks.clone()));
            let mut connection = pin!(second_version(&tasks).serve_connection(TokioIo::new(client), service));
            tokio::select! {
                biased;
                () = &mut driver => {}
                _ = &mut connection => {}
            }
        }
    }
}
