//! Assertions that may be used once, and were.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::error::SamlError;

/// What was used since the agent started. What was used before is not known, so nothing from before counts.
#[derive(Debug)]
pub(super) struct Used {
    since: DateTime<Utc>,
    /// Issuer and ID, and from when on nobody can present them anyway.
    seen: HashMap<(String, String), DateTime<Utc>>,
}

impl Used {
    pub(super) fn since(start: DateTime<Utc>) -> Self {
        Self {
            since: start,
            seen: HashMap::new(),
        }
    }

    /// Takes note of an assertion that is sound otherwise. `until`: when it has no value any more, leeway included.
    pub(super) fn first_use(
        &mut self,
        assertion: (&str, &str),
        issued_at: DateTime<Utc>,
        leeway: chrono::TimeDelta,
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), SamlError> {
        // The issuer's clock may be ahead by the leeway.
        if issued_at - leeway < self.since {
            return Err(SamlError::Older);
        }
        let key = (assertion.0.to_owned(), assertion.1.to_owned());
        if self.seen.get(&key).is_some_and(|end| now < *end) {
            return Err(SamlError::UsedBefore);
        }
        if self.seen.len() >= MOST {
            self.seen.retain(|_, end| now < *end);
        }
        if self.seen.len() >= MOST {
            return Err(SamlError::TooMany);
        }
        self.seen.insert(key, until);
        Ok(())
    }
}

/// Assertions that are kept note of at a time: about 20 MB.
const MOST: usize = 100_000;

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};

    use super::super::error::SamlError;
    use super::{MOST, Used};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn first_use(used: &mut Used, id: &str, issued: i64, until: i64, now: i64) -> Result<(), SamlError> {
        used.first_use(("idp", id), at(issued), TimeDelta::seconds(5), at(until), at(now))
    }

    #[test]
    fn once_is_once_until_it_is_worth_nothing() {
        let mut used = Used::since(at(100));
        first_use(&mut used, "a", 110, 200, 120).unwrap();
        assert_eq!(
            first_use(&mut used, "a", 110, 200, 199),
            Err(SamlError::UsedBefore)
        );
        first_use(&mut used, "b", 110, 200, 120).unwrap();
        let elsewhere = used.first_use(("other", "a"), at(110), TimeDelta::zero(), at(200), at(120));
        assert_eq!(elsewhere, Ok(()));
    }

    #[test]
    fn what_may_have_been_used_before_the_start_does_not_count() {
        let mut used = Used::since(at(100));
        assert_eq!(first_use(&mut used, "a", 99, 200, 120), Err(SamlError::Older));
        assert_eq!(
            first_use(&mut used, "a", 104, 200, 120),
            Err(SamlError::Older),
            "a clock that is ahead"
        );
        first_use(&mut used, "a", 105, 200, 120).unwrap();
    }

    #[test]
    fn a_flood_is_refused_and_not_forgotten() {
        let mut used = Used::since(at(0));
        for number in 0..MOST {
            first_use(&mut used, &number.to_string(), 10, 200, 20).unwrap();
        }
        assert_eq!(first_use(&mut used, "more", 10, 200, 20), Err(SamlError::TooMany));
        assert_eq!(first_use(&mut used, "0", 10, 200, 20), Err(SamlError::UsedBefore));
        first_use(&mut used, "later", 190, 300, 200).unwrap();
    }
}
