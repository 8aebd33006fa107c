//! The keys of one issuer: when they are used, asked for again, and too old.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openidconnect::JsonWebKey;
use openidconnect::core::CoreJsonWebKeySet;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::TokenError;
use super::fetch::{self, FetchError};

/// What an issuer publishes to verify its signatures with.
pub(super) trait KeySet: Send + Sync + Sized + 'static {
    /// Asks for it at `url`. `ca`: authorities that may vouch for the issuer besides the system's.
    fn fetch(url: &str, ca: Option<&Path>) -> impl Future<Output = Result<Self, FetchError>> + Send;

    /// Whether the key of this name is in it.
    fn names(&self, key: &str) -> bool;
}

impl KeySet for CoreJsonWebKeySet {
    async fn fetch(url: &str, ca: Option<&Path>) -> Result<Self, FetchError> {
        fetch::keys(url, ca).await
    }

    fn names(&self, kid: &str) -> bool {
        self.keys()
            .iter()
            .any(|key| key.key_id().is_some_and(|id| id.as_str() == kid))
    }
}

/// One issuer and what is known of its keys.
#[derive(Debug)]
pub(super) struct Issuer<K> {
    url: String,
    ca: Option<PathBuf>,
    /// How long keys count while the issuer cannot be reached, from its last answer.
    offline: Duration,
    cache: Mutex<KeyCache<K>>,
    /// Held while the issuer is asked: all who need the answer wait for one question.
    asking: tokio::sync::Mutex<()>,
}

/// Pure: it is told what happened and what time it is.
#[derive(Debug)]
struct KeyCache<K> {
    fetched: Option<(Arc<K>, Instant)>,
    asked: Option<Instant>,
    failure: Option<String>,
}

/// Which key a token needs.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// It does not say.
    Any,
    /// The one of this name.
    Named(String),
    /// Another than those at hand: none of them made its signature, not the one of its name either.
    Other,
}

/// What to do for a token.
#[derive(Debug)]
enum Plan<K> {
    Use(Arc<K>),
    /// Ask the issuer; until it has answered, these keys will do.
    Ask {
        meanwhile: Option<Arc<K>>,
    },
    Refuse(String),
}

impl<K: KeySet> Issuer<K> {
    pub(super) fn new(url: String, ca: Option<PathBuf>, offline: Duration) -> Self {
        Self {
            url,
            ca,
            offline,
            cache: Mutex::default(),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    /// Keys for a token, as good as they can be had at `now`.
    pub(super) async fn keys(self: &Arc<Self>, wanted: &Wanted, now: Instant) -> Result<Arc<K>, TokenError> {
        let plan = self.plan(wanted, now);
        let in_hand = match plan {
            Plan::Use(keys) => return Ok(keys),
            Plan::Refuse(reason) => return Err(TokenError::Unavailable { reason }),
            Plan::Ask { meanwhile } => meanwhile,
        };
        // A task of its own: a client that goes away must not leave the question half asked.
        let issuer = Arc::clone(self);
        let of_task = wanted.clone();
        let asked = tokio::spawn(async move { issuer.ask(&of_task, now).await });
        if let Some(keys) = in_hand {
            // An issuer that hangs must not hold up those whose key is known.
            if timeout(BRIEF, asked).await.is_err() {
                return Ok(keys);
            }
        } else if asked.await.is_err() {
            return Err(TokenError::Unavailable {
                reason: "the agent stops".to_owned(),
            });
        }
        match self.plan(wanted, now) {
            Plan::Use(keys)
            | Plan::Ask {
                meanwhile: Some(keys),
            } => Ok(keys),
            Plan::Refuse(reason) => Err(TokenError::Unavailable { reason }),
            Plan::Ask { meanwhile: None } => Err(TokenError::Unavailable {
                reason: format!("the issuer {} was not asked in time", self.url),
            }),
        }
    }

    fn plan(&self, wanted: &Wanted, now: Instant) -> Plan<K> {
        self.cache.lock().plan(wanted, now, self.offline)
    }

    async fn ask(&self, wanted: &Wanted, now: Instant) {
        let _one_question = self.asking.lock().await;
        // Somebody else may have asked while this one waited.
        if !matches!(self.plan(wanted, now), Plan::Ask { .. }) {
            return;
        }
        let answer = K::fetch(&self.url, self.ca.as_deref()).await;
        let mut cache = self.cache.lock();
        match answer {
            Ok(keys) => cache.learn(keys, now),
            Err(error) => {
                tracing::warn!(issuer = %self.url, %error, "the issuer's keys cannot be had");
                cache.fail(error.to_string(), now);
            }
        }
    }
}

impl<K> Default for KeyCache<K> {
    fn default() -> Self {
        Self {
            fetched: None,
            asked: None,
            failure: None,
        }
    }
}

impl<K: KeySet> KeyCache<K> {
    fn plan(&self, wanted: &Wanted, now: Instant, offline: Duration) -> Plan<K> {
        // However short it is: what was fetched a moment ago is not old.
        let usable_for = offline.max(FRESH);
        let since = |then: Instant| now.saturating_duration_since(then);
        let may_ask = self.asked.is_none_or(|asked| since(asked) >= PAUSE);
        let usable = self.fetched.as_ref().filter(|(_, at)| since(*at) < usable_for);
        let Some((keys, at)) = usable else {
            if may_ask {
                return Plan::Ask { meanwhile: None };
            }
            let failure = self.failure.as_deref().unwrap_or("the issuer was not asked yet");
            return Plan::Refuse(failure.to_owned());
        };
        let known = match wanted {
            Wanted::Any => true,
            Wanted::Named(name) => keys.names(name),
            Wanted::Other => false,
        };
        if may_ask && (!known || since(*at) >= FRESH) {
            // For an unknown key the old keys are no help: that token waits for the answer.
            let meanwhile = known.then(|| Arc::clone(keys));
            return Plan::Ask { meanwhile };
        }
        Plan::Use(Arc::clone(keys))
    }

    fn learn(&mut self, keys: K, now: Instant) {
        self.fetched = Some((Arc::new(keys), now));
        self.asked = Some(now);
        self.failure = None;
    }

    fn fail(&mut self, why: String, now: Instant) {
        self.asked = Some(now);
        self.failure = Some(why);
    }
}

/// How long keys are used without asking again.
const FRESH: Duration = Duration::from_mins(5);
/// How long a token whose key is known waits for newer keys.
const BRIEF: Duration = Duration::from_secs(2);
/// Shortest time between two questions to an issuer, whatever tokens come.
const PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use openidconnect::JsonWebKeyId;
    use openidconnect::core::{CoreJsonCurveType, CoreJsonWebKey, CoreJsonWebKeySet};

    use super::{FRESH, KeyCache, PAUSE, Plan, Wanted};

    const OFFLINE: Duration = Duration::from_mins(20);

    fn keys() -> CoreJsonWebKeySet {
        let kid = JsonWebKeyId::new("known".to_owned());
        CoreJsonWebKeySet::new(vec![CoreJsonWebKey::new_okp(
            vec![1; 32],
            CoreJsonCurveType::Ed25519,
            Some(kid),
        )])
    }

    fn named(kid: &str) -> Wanted {
        Wanted::Named(kid.to_owned())
    }

    fn filled(at: Instant) -> KeyCache<CoreJsonWebKeySet> {
        let mut cache = KeyCache::default();
        cache.learn(keys(), at);
        cache
    }

    #[test]
    fn fresh_keys_are_used_unasked_and_an_unknown_key_asks_at_most_once_in_a_while() {
        let start = Instant::now();
        let cache = filled(start);
        for wanted in [Wanted::Any, named("known")] {
            assert!(matches!(
                cache.plan(&wanted, start + FRESH / 2, OFFLINE),
                Plan::Use(_)
            ));
        }
        assert!(
            matches!(
                cache.plan(&named("new"), start + PAUSE / 2, OFFLINE),
                Plan::Use(_)
            ),
            "asked a moment ago"
        );
        for wanted in [named("new"), Wanted::Other] {
            assert!(matches!(
                cache.plan(&wanted, start + PAUSE, OFFLINE),
                Plan::Ask { meanwhile: None }
            ));
        }
    }

    #[test]
    fn old_keys_do_while_the_issuer_is_asked_and_end_when_the_policy_says() {
        let start = Instant::now();
        let mut cache = filled(start);
        assert!(matches!(
            cache.plan(&named("known"), start + FRESH, OFFLINE),
            Plan::Ask { meanwhile: Some(_) }
        ));
        cache.fail("down".into(), start + FRESH);
        assert!(matches!(
            cache.plan(&named("known"), start + FRESH + PAUSE / 2, OFFLINE),
            Plan::Use(_)
        ));
        cache.fail("down".into(), start + OFFLINE);
        assert!(
            matches!(cache.plan(&named("known"), start + OFFLINE, OFFLINE), Plan::Refuse(why) if why == "down")
        );
    }

    #[test]
    fn without_keys_a_failure_is_told_and_not_repeated_at_once() {
        let start = Instant::now();
        let mut cache = KeyCache::<CoreJsonWebKeySet>::default();
        assert!(matches!(
            cache.plan(&Wanted::Any, start, OFFLINE),
            Plan::Ask { meanwhile: None }
        ));
        cache.fail("down".into(), start);
        assert!(
            matches!(cache.plan(&Wanted::Any, start + PAUSE / 2, OFFLINE), Plan::Refuse(why) if why == "down")
        );
        assert!(matches!(
            cache.plan(&Wanted::Any, start + PAUSE, OFFLINE),
            Plan::Ask { .. }
        ));
    }
}
