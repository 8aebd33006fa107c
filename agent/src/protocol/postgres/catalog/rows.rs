//! The rows of the catalog's query: DataRow (backend).

use std::time::Duration;

use tokio::time::timeout;

use super::super::login::LoggedIn;
use super::super::query::exchange;
use super::CatalogError;
use super::graph::Fact;

/// Longer than the `statement_timeout` of the session.
const PATIENCE: Duration = Duration::from_secs(15);
/// A table with thousands of partitions has this many facts; a target must not fill memory.
const MOST_FACTS: usize = 2_000_000;

/// Asks, and waits for the whole answer.
pub(super) async fn ask(session: &mut LoggedIn, sql: &str) -> Result<Vec<Fact>, CatalogError> {
    timeout(PATIENCE, facts(session, sql))
        .await
        .map_err(|_| CatalogError::TooSlow)?
}

async fn facts(session: &mut LoggedIn, sql: &str) -> Result<Vec<Fact>, CatalogError> {
    let mut facts = Vec::new();
    exchange(session, sql, |body| {
        if facts.len() >= MOST_FACTS {
            return Err(CatalogError::Answer("too many rows"));
        }
        facts.push(fact(body)?);
        Ok(())
    })
    .await?;
    Ok(facts)
}

fn fact(body: &[u8]) -> Result<Fact, CatalogError> {
    let bad = || CatalogError::Answer("a row that is not one of the query's");
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(bad)?;
    if u16::from_be_bytes(*count) != 7 {
        return Err(bad());
    }
    let mut text = || -> Option<&str> {
        let (length, after) = rest.split_first_chunk::<4>()?;
        // -1 is NULL, which no column of the query is.
        let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
        let (value, after) = after.split_at_checked(length)?;
        rest = after;
        std::str::from_utf8(value).ok()
    };
    let mut read = || {
        Some(Fact {
            kind: *text()?.as_bytes().first()?,
            relation: text()?.parse().ok()?,
            other: text()?.parse().ok()?,
            attribute: text()?.parse().ok()?,
            source: text()?.parse().ok()?,
            first: text()?.into(),
            second: text()?.into(),
        })
    };
    read().ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::fact;

    fn row(values: &[&str]) -> BytesMut {
        let mut body = BytesMut::from(&u16::try_from(values.len()).unwrap().to_be_bytes()[..]);
        for value in values {
            body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            body.extend_from_slice(value.as_bytes());
        }
        body
    }

    #[test]
    fn a_row_is_read_whole_or_not_at_all() {
        let whole = row(&["r", "16384", "1", "0", "0", "public", "t"]);
        let read = fact(&whole).unwrap();
        assert_eq!((read.kind, read.relation, read.other), (b'r', 16384, 1));
        assert_eq!((&*read.first, &*read.second), ("public", "t"));
        for length in 0..whole.len() {
            assert!(fact(&BytesMut::from(&whole[..length])).is_err(), "{length}");
        }
    }

    #[test]
    fn rows_of_another_shape_are_refused() {
        for values in [
            &["r", "1", "1", "0", "0", "public"][..],
            &["", "1", "1", "0", "0", "a", "b"],
            &["r", "-1", "1", "0", "0", "a", "b"],
            &["r", "1", "1", "99999", "0", "a", "b"],
        ] {
            assert!(fact(&row(values)).is_err(), "{values:?}");
        }
    }
}
