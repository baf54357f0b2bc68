//! Moments: integer milliseconds since 1970, so that every store orders and compares them alike.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339, macros::offset};

/// China has one civil time without summer time; both wallets' texts are in it.
pub const CHINA: UtcOffset = offset!(+8);

/// A moment in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    pub const fn ms(self) -> i64 {
        self.0
    }

    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    fn at(self, offset: UtcOffset) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.secs()).unwrap_or(OffsetDateTime::UNIX_EPOCH).to_offset(offset)
    }

    /// RFC 3339 in China's offset, whole seconds: `2026-03-01T12:00:00+08:00`.
    pub fn rfc3339(self) -> String {
        self.at(CHINA).format(&Rfc3339).unwrap_or_default()
    }

    /// Reads RFC 3339 with any offset, `Z` and fractions included (`wechat-pay.md` §0, Time).
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok().map(Self)
    }

    /// Alipay's form, GMT+8: `2026-03-01 12:00:00` (`alipay.md`, conventions).
    pub fn china_text(self) -> String {
        let at = self.at(CHINA);
        format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        )
    }

    /// Reads Alipay's form; a fraction after the seconds is allowed and dropped (`gmt_refund`).
    pub fn parse_china_text(text: &str) -> Option<Self> {
        let whole = text.split('.').next()?;
        let (date, clock) = whole.split_once(' ')?;
        Self::parse_rfc3339(&format!("{date}T{clock}+08:00"))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_wallets_texts_name_the_same_moment() {
        let moment = Timestamp::from_secs(1_772_337_600);
        assert_eq!(moment.rfc3339(), "2026-03-01T12:00:00+08:00");
        assert_eq!(moment.china_text(), "2026-03-01 12:00:00");
        assert_eq!(Timestamp::parse_rfc3339("2026-03-01T04:00:00Z"), Some(moment));
        assert_eq!(Timestamp::parse_rfc3339("2026-03-01T04:00:00.250Z"), Some(moment.plus(Duration::from_millis(250))));
        assert_eq!(Timestamp::parse_china_text("2026-03-01 12:00:00.320"), Some(moment));
        assert_eq!(Timestamp::parse_china_text("2026-03-01"), None);
    }
}
