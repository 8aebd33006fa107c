use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Catalog, CatalogCache, Relation};
use crate::config::TlsMode;
use crate::finding::{Question, Sighting};
use crate::flow::Stream;
use crate::mask::Masks;
use crate::model::{Command, Direction, FrameKind, HoldId};
use crate::policy::Ruling;
use crate::protocol::postgres::login::testing::{Authority, Server, credential, dial};
use crate::protocol::sql::RelationName;
use crate::protocol::{
    CommandNumber, HoldDecision, HoldRequest, Login, MaskedBy, Occasion, PlacedHold, SessionEnd, Stages,
    TakeMaterial, Wait,
};

const SCHEMA: &str = r"
CREATE ROLE app LOGIN PASSWORD 'secret';
CREATE SCHEMA crm; CREATE SCHEMA audit;
CREATE TABLE crm.customers (id int, junk int, email text, name text,
                            email_low text GENERATED ALWAYS AS (lower(email)) STORED);
ALTER TABLE crm.customers DROP COLUMN junk;
CREATE TABLE audit.customers (id int);
CREATE TABLE public.orders (id int, customer int);
CREATE VIEW crm.v1 AS SELECT id, email AS e FROM crm.customers;
CREATE VIEW crm.v2 AS SELECT o.id, v.e AS contact FROM public.orders o JOIN crm.v1 v ON v.id = o.customer;
CREATE MATERIALIZED VIEW crm.m3 AS SELECT contact FROM crm.v2;
CREATE VIEW crm.counts AS SELECT count(*) FROM crm.customers;
CREATE VIEW crm.whole AS SELECT row_to_json(c) FROM crm.customers c;
CREATE VIEW crm.whole_and_id AS SELECT id, row_to_json(c) AS j FROM crm.customers c;
CREATE FUNCTION crm.peek(int) RETURNS text LANGUAGE sql AS 'SELECT email FROM crm.customers WHERE id = $1';
CREATE VIEW crm.hidden AS SELECT crm.peek(id) FROM public.orders;
CREATE VIEW crm.over_hidden AS SELECT * FROM crm.hidden;
CREATE VIEW crm.by_query AS SELECT query_to_xml('SELECT email FROM crm.customers', true, false, '');
CREATE VIEW crm.passwords AS SELECT passwd FROM pg_shadow;
CREATE VIEW crm.samples AS SELECT most_common_vals::text FROM pg_stats;
CREATE EXTENSION pgcrypto;
CREATE VIEW crm.folded AS SELECT digest(name, 'sha256') AS h FROM crm.customers;
CREATE TABLE crm.events (id int, at date, actor text) PARTITION BY RANGE (at);
CREATE TABLE crm.events_old PARTITION OF crm.events FOR VALUES FROM ('2000-01-01') TO ('2020-01-01');
CREATE TABLE crm.events_new (actor text, id int, at date);
ALTER TABLE crm.events ATTACH PARTITION crm.events_new FOR VALUES FROM ('2020-01-01') TO ('2030-01-01');
CREATE VIEW crm.actors AS SELECT actor FROM crm.events;
-- Somebody in the database tries to come before pg_catalog.
CREATE TABLE public.pg_class (oid oid, relname name, relnamespace oid, relkind char);
CREATE FUNCTION public.regexp_matches(text, text, text) RETURNS SETOF text[] LANGUAGE sql AS 'SELECT NULL::text[] WHERE false';
";

/// Stages of a session that does nothing but ask the catalog.
struct Asker<'a> {
    server: &'a Server,
    dialled: u32,
}

impl Stages for Asker<'_> {
    fn room(&mut self) -> Option<Wait<()>> {
        None
    }

    fn judged(&self) -> CommandNumber {
        CommandNumber::default()
    }

    fn record(&mut self, _: FrameKind, _: Direction, _: &[&[u8]]) -> Result<(), SessionEnd> {
        Ok(())
    }

    fn judge(&mut self, _: &Arc<Command>, _: Occasion<'_>) -> Result<Ruling, SessionEnd> {
        Err(SessionEnd::Agent(
            "the agent's own look-ups are not judged".to_owned(),
        ))
    }

    fn hold(&mut self, _: HoldRequest) -> Result<PlacedHold, SessionEnd> {
        Err(SessionEnd::Agent(
            "the agent's own look-ups are not held".to_owned(),
        ))
    }

    fn hold_ended(&mut self, _: &HoldId, _: &HoldDecision) -> Result<(), SessionEnd> {
        Ok(())
    }

    fn count(&mut self, _: u64, _: u64) -> Result<(), SessionEnd> {
        Ok(())
    }

    fn masked(&mut self, _: CommandNumber, _: &str, _: MaskedBy, _: u64) -> Result<(), SessionEnd> {
        Ok(())
    }

    fn unjudged(&mut self) {
        unreachable!("every command of PostgreSQL is judged")
    }

    fn ending(&self) -> Pin<Box<dyn Future<Output = SessionEnd> + Send>> {
        Box::pin(std::future::pending())
    }

    fn question(&self, _: &str) -> Option<Question> {
        None
    }

    fn has_no_password(&mut self, _: &str) {}

    fn found(&mut self, _: Sighting) -> Result<(), SessionEnd> {
        Err(SessionEnd::Agent("nothing is found here".to_owned()))
    }

    fn masks(&self) -> Arc<Masks> {
        Arc::new(Masks::compile(&[], [0; 32]))
    }

    async fn login(&mut self) -> Result<Login, SessionEnd> {
        Ok(credential("app", "secret"))
    }

    fn material(&mut self) -> Wait<TakeMaterial<Self>>
    where
        Self: 'static,
    {
        Box::pin(std::future::ready(Ok(
            Box::new(|_: &mut Self| Ok(None)) as TakeMaterial<Self>
        )))
    }

    fn dial(&mut self) -> Wait<Stream> {
        self.dialled += 1;
        let address = self.server.address();
        Box::pin(async move { Ok(dial(address).await) })
    }
}

fn name(schema: Option<&str>, name: &str) -> RelationName {
    RelationName {
        schema: schema.map(Into::into),
        name: name.into(),
    }
}

fn made_of(relation: &Relation) -> Vec<String> {
    relation.made_of.iter().map(ToString::to_string).collect()
}

fn origins(relation: &Relation, column: &str) -> Vec<String> {
    let (attribute, _) = relation
        .columns
        .iter()
        .find(|(_, name)| &***name == column)
        .unwrap();
    relation
        .origins(*attribute)
        .map(|origin| origin.to_string())
        .collect()
}

/// Sessions run in tasks that move between threads.
#[expect(dead_code, reason = "compiling it is the test")]
fn look_ups_can_be_spawned(catalog: &mut Catalog, asker: &mut Asker<'_>) {
    fn is_send(_: impl Send) {}
    is_send(catalog.relations_by_oid(asker, &[]));
    is_send(catalog.relations_named(asker, &[]));
}

/// A session that does nothing but ask.
struct Look<'a> {
    catalog: Catalog,
    asker: Asker<'a>,
}

impl Look<'_> {
    async fn named(&mut self, schema: Option<&str>, relation: &str) -> Vec<Arc<Relation>> {
        let names = [name(schema, relation)];
        self.catalog
            .relations_named(&mut self.asker, &names)
            .await
            .unwrap()
    }

    /// The one relation of this name in schema `crm`.
    async fn one(&mut self, relation: &str) -> Arc<Relation> {
        let mut found = self.named(Some("crm"), relation).await;
        assert_eq!(found.len(), 1, "{relation}");
        found.remove(0)
    }
}

#[tokio::test]
async fn relations_are_followed_to_the_columns_that_they_are_made_of() {
    let server = Server::start(
        &Authority::new(),
        "host all app 127.0.0.1/32 scram-sha-256",
        SCHEMA,
    );
    let cache = Arc::new(CatalogCache::default());
    let mut look = Look {
        catalog: Catalog::new(
            server.target(TlsMode::Disable, None, None),
            "postgres".to_owned(),
            cache,
        ),
        asker: Asker {
            server: &server,
            dialled: 0,
        },
    };
    tables(&mut look).await;
    views(&mut look).await;
    what_cannot_be_followed(&mut look).await;
    partitions(&mut look).await;
    what_is_known_is_not_asked_for_again(&mut look, &server).await;
    odd_names(&mut look, &server).await;
}

async fn tables(look: &mut Look<'_>) {
    let every = look.named(None, "customers").await;
    let mut schemas: Vec<&str> = every.iter().map(|relation| &*relation.schema).collect();
    schemas.sort_unstable();
    assert_eq!(schemas, ["audit", "crm"]);

    let customers = look.one("customers").await;
    let columns: Vec<(i16, &str)> = customers
        .columns
        .iter()
        .map(|(number, name)| (*number, &**name))
        .collect();
    assert_eq!(columns, [(1, "id"), (3, "email"), (4, "name"), (5, "email_low")]);
    assert!(!customers.opaque && !customers.rewritten);
    assert_eq!(origins(&customers, "name"), ["crm.customers.name"]);
    assert_eq!(
        origins(&customers, "email_low"),
        ["crm.customers.email_low", "crm.customers.email"]
    );

    let toast = look
        .asker
        .server
        .run("SELECT reltoastrelid::oid FROM pg_catalog.pg_class WHERE oid = 'crm.customers'::regclass");
    let toast = look
        .catalog
        .relations_by_oid(&mut look.asker, &[toast.parse().unwrap()])
        .await
        .unwrap()
        .remove(0);
    assert!(origins(&toast, "chunk_data").contains(&"crm.customers.email".to_owned()));
}

async fn views(look: &mut Look<'_>) {
    let email = "crm.customers.email".to_owned();
    assert_eq!(
        made_of(&*look.one("v1").await),
        ["crm.customers.email", "crm.customers.id"]
    );
    let m3 = look.one("m3").await;
    assert!(m3.rewritten && made_of(&m3).contains(&email) && made_of(&m3).contains(&"crm.v1.e".to_owned()));
    assert!(origins(&m3, "contact").contains(&email));
    assert!(!made_of(&m3).contains(&"crm.customers.name".to_owned()));
    assert!(made_of(&*look.one("counts").await).is_empty());
    for whole in ["whole", "whole_and_id"] {
        assert!(made_of(&*look.one(whole).await).contains(&email), "{whole}");
    }
    let passwords = look.one("passwords").await;
    assert!(made_of(&passwords).contains(&"pg_catalog.pg_authid.rolpassword".to_owned()));
}

async fn what_cannot_be_followed(look: &mut Look<'_>) {
    for opaque in ["hidden", "over_hidden", "by_query", "samples"] {
        assert!(look.one(opaque).await.opaque, "{opaque}");
    }
    for clear in ["v2", "whole", "counts", "passwords", "folded"] {
        assert!(!look.one(clear).await.opaque, "{clear}");
    }
}

async fn partitions(look: &mut Look<'_>) {
    let new = look.one("events_new").await;
    assert_eq!(
        origins(&new, "actor"),
        ["crm.events_new.actor", "crm.events.actor"]
    );
    assert_eq!(origins(&new, "id"), ["crm.events_new.id", "crm.events.id"]);
    assert_eq!(
        made_of(&new),
        ["crm.events.actor", "crm.events.at", "crm.events.id"]
    );
    let events = look.one("events").await;
    assert_eq!(
        origins(&events, "actor"),
        ["crm.events.actor", "crm.events_new.actor", "crm.events_old.actor"]
    );
    let actors = look.one("actors").await;
    assert!(origins(&actors, "actor").contains(&"crm.events_old.actor".to_owned()));
}

async fn what_is_known_is_not_asked_for_again(look: &mut Look<'_>, server: &Server) {
    let customers = look.one("customers").await;
    let found = look
        .catalog
        .relations_by_oid(&mut look.asker, &[customers.oid, 4_000_000_000])
        .await
        .unwrap();
    assert_eq!(found.len(), 1, "what does not exist is left out");
    assert_eq!(
        look.catalog.cached_by_oid(&[customers.oid]).unwrap()[0].name,
        customers.name
    );
    assert!(look.named(None, "nowhere").await.is_empty());

    let before = made_of(&*look.one("v1").await);
    server.run("ALTER TABLE crm.customers RENAME COLUMN email TO mail");
    assert_eq!(made_of(&*look.one("v1").await), before);
    look.catalog.forget();
    assert_eq!(
        made_of(&*look.one("v1").await),
        ["crm.customers.id", "crm.customers.mail"]
    );
    assert_eq!(look.asker.dialled, 1);

    // A connection that the server has closed in between is opened again.
    server.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tollgate catalog'",
    );
    while server.run("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tollgate catalog'")
        != "0"
    {}
    look.catalog.forget();
    assert_eq!(made_of(&*look.one("v1").await).len(), 2);
    assert_eq!(look.asker.dialled, 2);
}

async fn odd_names(look: &mut Look<'_>, server: &Server) {
    let long = "x".repeat(70);
    server.run(&format!(
        "CREATE TABLE public.{long} (a int); CREATE TABLE public.\"o'; --\\\" (a int)"
    ));
    for odd in [long.as_str(), "o'; --\\"] {
        assert_eq!(look.named(Some("public"), odd).await.len(), 1, "{odd}");
    }
}
