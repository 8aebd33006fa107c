//! How fast a replay goes.

use std::str::FromStr;
use std::time::Duration;

/// Longest pause: nobody waits for the coffee breaks of others.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Speed of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// No pauses.
    Max,
    /// So many times as fast as it was.
    Times(f64),
}

impl Speed {
    /// How long to wait between two steps that lay `gap` apart; at most two seconds.
    pub fn pause(self, gap: Duration) -> Duration {
        match self {
            Self::Max => Duration::ZERO,
            Self::Times(factor) => Duration::try_from_secs_f64(gap.as_secs_f64() / factor)
                .unwrap_or(LONGEST_PAUSE)
                .min(LONGEST_PAUSE),
        }
    }
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.trim_end_matches('x').parse::<f64>() {
            Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(Self::Times(factor)),
            Ok(_) | Err(_) => Err("a speed is a number above 0, as in 1, 0.5 or 10, or \"max\"".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_follow_the_speed_and_are_never_long() {
        let second = Duration::from_secs(1);
        assert_eq!(Speed::Max.pause(second), Duration::ZERO);
        assert_eq!(Speed::Times(1.0).pause(second), second);
        assert_eq!(Speed::Times(4.0).pause(second), second / 4);
        assert_eq!(Speed::Times(1.0).pause(second * 600), LONGEST_PAUSE);
        assert_eq!(Speed::Times(1e-300).pause(second), LONGEST_PAUSE);
        assert_eq!(Speed::Times(1.0).pause(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn speeds_are_read() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("2".parse(), Ok(Speed::Times(2.0)));
        assert_eq!("0.5x".parse(), Ok(Speed::Times(0.5)));
        for wrong in ["0", "-1", "fast", "", "inf", "NaN"] {
            assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
        }
    }
}
