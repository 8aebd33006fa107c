//! A query and its rows over a session of the agent's own: simple query (frontend), `DataRow` (backend).

use std::time::Duration;

use tokio::time::timeout;

use super::login::{Frame, LoggedIn, LoginError, sqlstate};
use super::startup::{cstring, message};

/// A server must not fill memory.
const MOST_ROWS: usize = 100_000;

/// The values of a row in text format; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The session broke.
    #[error(transparent)]
    Session(#[from] LoginError),
    /// The server refused it. Its words stay there: they may name what nobody is to see.
    #[error("it refused the query (SQLSTATE {0})")]
    Refused(String),
    /// The answer is none.
    #[error("its answer is not one to this query: {0}")]
    Answer(&'static str),
    /// It took too long.
    #[error("it did not answer within {0} s")]
    TooSlow(u64),
}

/// Asks, and waits for the whole answer: the rows of all statements of `sql`, which are one transaction unless they say
/// otherwise.
pub async fn query(session: &mut LoggedIn, sql: &str, patience: Duration) -> Result<Vec<Row>, QueryError> {
    let mut rows = Vec::new();
    let asked = exchange(session, sql, |body| {
        if rows.len() >= MOST_ROWS {
            return Err(QueryError::Answer("too many rows"));
        }
        rows.push(row(body).ok_or(QueryError::Answer("a row that is none"))?);
        Ok(())
    });
    timeout(patience, asked)
        .await
        .map_err(|_| QueryError::TooSlow(patience.as_secs()))??;
    Ok(rows)
}

/// Asks, and gives the body of each `DataRow` to `each`.
pub(super) async fn exchange<E: From<QueryError>>(
    session: &mut LoggedIn,
    sql: &str,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut query = Vec::with_capacity(sql.len() + 8);
    message(&mut query, b'Q', |out| cstring(out, sql));
    session.send(&query).await.map_err(QueryError::from)?;
    let mut refused = None;
    loop {
        let Frame { tag, body } = session.receive().await.map_err(QueryError::from)?;
        match tag {
            b'D' => each(&body)?,
            b'E' => refused = Some(sqlstate(&body)),
            // RowDescription is known; CommandComplete, notices and parameters say nothing that is needed.
            b'T' | b'C' | b'N' | b'S' => {}
            b'Z' => break,
            _ => return Err(QueryError::Answer("a message that does not belong there").into()),
        }
    }
    match refused {
        None => Ok(()),
        Some(sqlstate) => Err(QueryError::Refused(sqlstate).into()),
    }
}

fn row(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Row::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            row.push(None);
            rest = after;
            continue;
        }
        let (value, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
        row.push(Some(std::str::from_utf8(value).ok()?.to_owned()));
        rest = after;
    }
    rest.is_empty().then_some(row)
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn a_row_is_read_whole_or_not_at_all() {
        let whole = b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff";
        assert_eq!(row(whole), Some(vec![Some("ab".to_owned()), None]));
        for length in 0..whole.len() {
            assert_eq!(row(&whole[..length]), None, "{length}");
        }
        for bad in [&b"\0\x01\0\0\0\x01\xff"[..], b"\0\x01\xff\xff\xff\xfe", b"\0\0x"] {
            assert_eq!(row(bad), None, "{bad:?}");
        }
    }
}
