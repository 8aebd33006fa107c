//! What has been found out of a database's relations, shared by the sessions in it. Only what exists is kept: a
//! relation that was not found may be committed in the next moment.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::model::Place;
use crate::model::{PolicyId, ServiceName};
use crate::protocol::sql::RelationName;

use super::Relation;

/// How long an answer of the catalog counts: another client of the server may change the schema unseen.
pub const MAX_AGE: Duration = Duration::from_secs(15);
/// A workload decides which names it asks for; past this many the cache starts anew.
const MOST: usize = 20_000;

/// Which database a [`CatalogCache`] is of. The address counts: two servers of one service number relations apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CatalogKey {
    /// Policy, since service names are unique in one policy alone.
    pub policy: PolicyId,
    /// Service.
    pub service: ServiceName,
    /// Server.
    pub address: Place,
    /// Database.
    pub database: String,
}

/// The caches of all databases that any session is in.
#[derive(Debug, Default)]
pub struct CatalogCaches {
    caches: Mutex<HashMap<CatalogKey, Weak<CatalogCache>>>,
}

/// What is known of one database's relations.
#[derive(Debug, Default)]
pub struct CatalogCache {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Counts the calls of `forget`, so that an answer from before one is not kept after it.
    generation: u64,
    oids: HashMap<u32, (Instant, Arc<Relation>)>,
    names: HashMap<RelationName, (Instant, Vec<Arc<Relation>>)>,
}

impl CatalogCaches {
    /// The cache of one database; the same one for as long as any session holds it.
    pub fn of(&self, key: CatalogKey) -> Arc<CatalogCache> {
        let mut caches = self.caches.lock();
        if let Some(cache) = caches.get(&key).and_then(Weak::upgrade) {
            return cache;
        }
        caches.retain(|_, cache| cache.strong_count() > 0);
        let cache = Arc::new(CatalogCache::default());
        caches.insert(key, Arc::downgrade(&cache));
        cache
    }
}

impl CatalogCache {
    /// Forgets everything.
    pub fn forget(&self) {
        let mut known = self.known.lock();
        known.generation += 1;
        known.oids.clear();
        known.names.clear();
    }

    pub(super) fn generation(&self) -> u64 {
        self.known.lock().generation
    }

    pub(super) fn by_oid(&self, oids: &[u32]) -> Option<Vec<Arc<Relation>>> {
        let known = self.known.lock();
        oids.iter()
            .map(|oid| {
                known
                    .oids
                    .get(oid)
                    .filter(|(since, _)| is_fresh(*since))
                    .map(|(_, relation)| Arc::clone(relation))
            })
            .collect()
    }

    pub(super) fn by_name(&self, names: &[RelationName]) -> Option<Vec<Arc<Relation>>> {
        let known = self.known.lock();
        let mut found: Vec<Arc<Relation>> = Vec::new();
        for name in names {
            for relation in &known.names.get(name).filter(|(since, _)| is_fresh(*since))?.1 {
                if !found.iter().any(|other| other.oid == relation.oid) {
                    found.push(Arc::clone(relation));
                }
            }
        }
        Some(found)
    }

    pub(super) fn keep_oids(&self, since: u64, found: &[Arc<Relation>]) {
        let mut known = self.known.lock();
        if known.generation != since {
            return;
        }
        if known.oids.len() + found.len() > MOST {
            known.oids.clear();
        }
        let now = Instant::now();
        known.oids.extend(
            found
                .iter()
                .map(|relation| (relation.oid, (now, Arc::clone(relation)))),
        );
    }

    pub(super) fn keep_names(&self, since: u64, names: &[RelationName], found: &[Arc<Relation>]) {
        self.keep_oids(since, found);
        let mut known = self.known.lock();
        if known.generation != since {
            return;
        }
        if known.names.len() + names.len() > MOST {
            known.names.clear();
        }
        let now = Instant::now();
        for name in names {
            let called: Vec<_> = found
                .iter()
                .filter(|relation| is_called(relation, name))
                .cloned()
                .collect();
            if !called.is_empty() {
                known.names.insert(name.clone(), (now, called));
            }
        }
    }
}

fn is_called(relation: &Relation, name: &RelationName) -> bool {
    relation.name == name.name
        && name
            .schema
            .as_ref()
            .is_none_or(|schema| *schema == relation.schema)
}

fn is_fresh(since: Instant) -> bool {
    since.elapsed() < MAX_AGE
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    use super::{CatalogCache, CatalogCaches, CatalogKey, Relation};
    use crate::model::PolicyId;
    use crate::protocol::sql::RelationName;

    fn relation(oid: u32, schema: &str, name: &str) -> Arc<Relation> {
        Arc::new(Relation {
            oid,
            schema: schema.into(),
            name: name.into(),
            ..Relation::default()
        })
    }

    fn name(schema: Option<&str>, name: &str) -> RelationName {
        RelationName {
            schema: schema.map(Into::into),
            name: name.into(),
        }
    }

    #[test]
    fn only_what_was_found_is_known_and_only_all_or_nothing_is_told() {
        let cache = CatalogCache::default();
        let found = [relation(1, "public", "t"), relation(2, "audit", "t")];
        let (t, audit, gone) = (name(None, "t"), name(Some("audit"), "t"), name(None, "gone"));
        cache.keep_names(0, &[t.clone(), audit.clone(), gone.clone()], &found);
        assert_eq!(cache.by_name(std::slice::from_ref(&t)).unwrap().len(), 2);
        assert_eq!(cache.by_name(&[audit.clone(), t]).unwrap().len(), 2);
        assert_eq!(cache.by_name(&[audit]).unwrap()[0].oid, 2);
        assert_eq!(cache.by_name(&[gone]), None);
        assert!(cache.by_oid(&[1, 2]).is_some());
        assert!(cache.by_oid(&[1, 3]).is_none());
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_kept_after_it() {
        let cache = CatalogCache::default();
        let since = cache.generation();
        cache.forget();
        cache.keep_names(since, &[name(None, "t")], &[relation(1, "public", "t")]);
        assert!(cache.by_oid(&[1]).is_none());
        assert!(cache.by_name(&[name(None, "t")]).is_none());
    }

    #[test]
    fn sessions_in_one_database_share_and_others_do_not() {
        let caches = CatalogCaches::default();
        let key = |database: &str| CatalogKey {
            policy: PolicyId(1),
            service: "db".into(),
            address: crate::model::Place::Network(SocketAddr::from((Ipv4Addr::LOCALHOST, 5432))),
            database: database.to_owned(),
        };
        let (one, same, other) = (caches.of(key("a")), caches.of(key("a")), caches.of(key("b")));
        assert!(Arc::ptr_eq(&one, &same));
        assert!(!Arc::ptr_eq(&one, &other));
    }
}
