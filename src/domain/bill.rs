//! Days of bills, and what can be wrong between a wallet's bill and our rows.

use std::{fmt, time::Duration};

use time::{Date, OffsetDateTime};

use super::time::{CHINA, Timestamp};

/// A day in China, 00:00 to 24:00: what both wallets' bills are made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BillDate(Date);

impl BillDate {
    /// The day in which a moment falls.
    pub fn of(moment: Timestamp) -> Self {
        let moment = OffsetDateTime::from_unix_timestamp(moment.secs()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self(moment.to_offset(CHINA).date())
    }

    /// Reads `2026-02-28`. Errors: words for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let moment = (text.len() == 10).then(|| Timestamp::parse_china_text(&format!("{text} 00:00:00"))).flatten();
        moment.map(Self::of).ok_or_else(|| format!("{text:?} is not a day such as 2026-02-28"))
    }

    /// The day before. The first day of all has none and stays.
    pub fn previous(self) -> Self {
        Self(self.0.previous_day().unwrap_or(self.0))
    }

    /// The day after. The last day of all has none and stays.
    pub fn next(self) -> Self {
        Self(self.0.next_day().unwrap_or(self.0))
    }

    /// When it began.
    pub fn begin(self) -> Timestamp {
        Timestamp::from_secs(self.0.midnight().assume_offset(CHINA).unix_timestamp())
    }

    /// When the next one begins: the first moment that is not of this day.
    pub fn end(self) -> Timestamp {
        self.begin().plus(Duration::from_secs(24 * 3600))
    }
}

impl fmt::Display for BillDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }
}

impl fmt::Debug for BillDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BillDate({self})")
    }
}

/// Names in columns, labels and on the command line.
macro_rules! names {
    ($of:ident: $($variant:ident = $name:literal),+ $(,)?) => {
        impl $of {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

/// How far the matching of one account's bill of one day is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// To be fetched at its time, again or for the first time.
    Due,
    /// Somebody is at it.
    Fetching,
    /// Every row was compared, and what it lacks was looked for.
    Matched,
    /// The wallet has none for that day.
    None,
    /// It came to nothing so often that a person has to look.
    Failed,
}

names!(RunState: Due = "due", Fetching = "fetching", Matched = "matched", None = "none", Failed = "failed");

impl RunState {
    /// Whether it is known what the wallet says about the day.
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Matched | Self::None)
    }
}

/// What is wrong between a bill and our rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DiscrepancyKind {
    /// The bill has a payment that is not paid here.
    MissingHere,
    /// Paid or paid back here, and not in the bill.
    MissingThere,
    AmountDiffers,
    /// Both know it and do not agree on what became of it.
    StatusDiffers,
    /// The bill names a number of our form, or gives back a payment of ours, and we have no row of that.
    UnknownNumber,
}

names!(DiscrepancyKind:
    MissingHere = "missing_here",
    MissingThere = "missing_there",
    AmountDiffers = "amount_differs",
    StatusDiffers = "status_differs",
    UnknownNumber = "unknown_number",
);

/// What can be done about it. No repair writes money by itself: it asks the wallet, and the one door decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Ask the wallet about the payment.
    AskPayment,
    /// Ask the wallet about the refund.
    AskRefund,
    /// A person has to look.
    Person,
}

names!(Repair: AskPayment = "ask_payment", AskRefund = "ask_refund", Person = "person");

/// What became of a discrepancy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscrepancyState {
    Open,
    /// The wallet's word was taken in, or a later look found nothing wrong any more.
    Repaired,
    /// A person says that it is nothing; it stays so.
    Dismissed,
}

names!(DiscrepancyState: Open = "open", Repaired = "repaired", Dismissed = "dismissed");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_one_of_china() {
        let day = BillDate::parse("2026-03-01").unwrap();
        assert_eq!(day.to_string(), "2026-03-01");
        assert_eq!(day.previous().to_string(), "2026-02-28");
        assert_eq!(day.previous().next(), day);
        assert_eq!(day.begin(), Timestamp::parse_rfc3339("2026-02-28T16:00:00Z").unwrap());
        assert_eq!(day.end(), day.next().begin());
        assert_eq!(BillDate::of(day.begin()), day);
        assert_eq!(BillDate::of(Timestamp::from_ms(day.begin().ms() - 1)), day.previous());
        for wrong in ["", "2026-02-30", "2026-3-1", "20260301", "2026-03-01 "] {
            assert!(BillDate::parse(wrong).is_err(), "{wrong}");
        }
    }
}
