//! What the bills of both wallets are made of: rows of a Beijing day, planted differences, synthetic days.

use serde::{Deserialize, Serialize};
use time::macros::{format_description, offset};
use time::{Date, Duration, OffsetDateTime};

const DAY_MS: i64 = 24 * 3600 * 1000;
/// Bills of a day are there from this hour of the next one.
const READY_HOUR: u8 = 9;
/// Most rows of a synthetic bill: its file stays below the 4 GiB of a plain ZIP.
pub const SYNTHETIC_ROWS_MAX: u64 = 5_000_000;

/// Which days have a bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bills {
    /// Past days, from 09:00 of the next one on.
    #[default]
    ByClock,
    /// Every day, the present one too, as far as it has come.
    Ready,
    /// Every bill is still being made.
    Creating,
    /// No day has one.
    Missing,
}

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BillKind {
    #[default]
    Payment,
    Refund,
}

/// One row before it is written in a wallet's format. Times are Unix milliseconds, amounts fen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BillRow {
    pub kind: BillKind,
    /// Paid, or the refund accepted: what puts it into a day.
    pub at_ms: i64,
    /// The order was created.
    pub created_ms: i64,
    /// A refund's money was back.
    pub success_ms: Option<i64>,
    pub out_trade_no: String,
    /// The wallet's number of the payment.
    pub trade_no: String,
    /// Empty for a payment.
    pub out_refund_no: String,
    /// The wallet's number of the refund; WeChat only.
    pub refund_id: String,
    /// Paid, or what goes back; never negative.
    pub amount_fen: i64,
    /// Payments: `SUCCESS`; refunds: WeChat's status of the refund. Alipay's bills have none.
    pub status: String,
    pub appid: String,
    pub sub_mchid: Option<String>,
    /// WeChat: the openid; Alipay: the masked account.
    pub payer: String,
    pub description: String,
    pub attach: String,
}

/// How a bill differs from what happened. A row is named by its number, a refund's by its own as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case", deny_unknown_fields)]
pub enum BillChange {
    /// The row is missing.
    LeaveOut { out_trade_no: String, out_refund_no: Option<String> },
    /// The row comes twice.
    Twice { out_trade_no: String, out_refund_no: Option<String> },
    /// Another amount.
    Amount { out_trade_no: String, out_refund_no: Option<String>, fen: i64 },
    /// Another status.
    Status { out_trade_no: String, out_refund_no: Option<String>, status: String },
    /// A row nobody knows.
    Add { row: Box<BillRow> },
}

impl BillChange {
    /// Makes the change. Naming no row changes nothing.
    pub(crate) fn apply(&self, rows: &mut Vec<BillRow>) {
        match self {
            Self::LeaveOut { out_trade_no, out_refund_no } => rows.retain(|row| !row.is(out_trade_no, out_refund_no)),
            Self::Twice { out_trade_no, out_refund_no } => {
                let again: Vec<BillRow> =
                    rows.iter().filter(|row| row.is(out_trade_no, out_refund_no)).cloned().collect();
                rows.extend(again);
            }
            Self::Amount { out_trade_no, out_refund_no, fen } => {
                rows.iter_mut().filter(|row| row.is(out_trade_no, out_refund_no)).for_each(|row| row.amount_fen = *fen);
            }
            Self::Status { out_trade_no, out_refund_no, status } => {
                let named = rows.iter_mut().filter(|row| row.is(out_trade_no, out_refund_no));
                named.for_each(|row| row.status.clone_from(status));
            }
            Self::Add { row } => rows.push(BillRow::clone(row)),
        }
    }
}

impl BillRow {
    fn is(&self, out_trade_no: &str, out_refund_no: &Option<String>) -> bool {
        self.out_trade_no == out_trade_no && self.out_refund_no == out_refund_no.as_deref().unwrap_or_default()
    }
}

/// A day made up of rows that follow from their places, for measuring: never held in memory as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticBill {
    /// Start of every out_trade_no; at most 20 characters.
    pub prefix: String,
    /// Its end, behind the twelve digits of the row's place.
    #[serde(default)]
    pub suffix: String,
    /// At most [`SYNTHETIC_ROWS_MAX`].
    pub rows: u64,
    /// Every so many rows, one is a refund in full of the row before; 0: none.
    #[serde(default)]
    pub refund_every: u64,
}

impl SyntheticBill {
    pub(crate) fn is_allowed(&self) -> bool {
        self.rows <= SYNTHETIC_ROWS_MAX && self.prefix.len() + self.suffix.len() <= 20
    }

    /// The row at a place, from 0; `day_ms` is the day's midnight.
    pub fn row(&self, place: u64, day_ms: i64) -> BillRow {
        let refund = self.refund_every > 1 && place % self.refund_every == self.refund_every - 1;
        let paid = if refund { place - 1 } else { place };
        let at = |place: u64| {
            day_ms + i64::try_from(u128::from(place) * 86_399_000 / u128::from(self.rows.max(1))).unwrap_or_default()
        };
        let mut row = BillRow {
            at_ms: at(place),
            created_ms: at(paid),
            out_trade_no: format!("{}{paid:012}{}", self.prefix, self.suffix),
            trade_no: format!("42000000{paid:020}"),
            amount_fen: i64::try_from(1 + paid % 9_999).unwrap_or(1),
            status: "SUCCESS".to_owned(),
            appid: "wx0000000000000000".to_owned(),
            payer: "o000000000000000000000000000".to_owned(),
            description: "测量".to_owned(),
            ..BillRow::default()
        };
        if refund {
            row.kind = BillKind::Refund;
            row.out_refund_no = format!("R{}{place:012}", self.prefix);
            row.refund_id = format!("50000000{place:021}");
            row.success_ms = Some(row.at_ms);
        }
        row
    }
}

/// Rows of one bill.
#[derive(Clone)]
pub(crate) enum Rows {
    Kept(Vec<BillRow>),
    Synthetic { bill: SyntheticBill, day_ms: i64 },
}

impl Rows {
    pub(crate) fn each(&self) -> Box<dyn Iterator<Item = BillRow> + '_> {
        match self {
            Self::Kept(rows) => Box::new(rows.iter().cloned()),
            Self::Synthetic { bill, day_ms } => Box::new((0..bill.rows).map(|place| bill.row(place, *day_ms))),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Kept(rows) => rows.is_empty(),
            Self::Synthetic { bill, .. } => bill.rows == 0,
        }
    }
}

/// One Beijing day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Day {
    date: Date,
    /// Its midnight, Unix milliseconds.
    pub start_ms: i64,
}

/// How far the bill of a day is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    Creating,
    /// There is none, and none comes.
    Missing,
    /// The day is not over, or lies too far back.
    Refused,
}

impl Day {
    /// `YYYY-MM-DD`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
        let start_ms = date.midnight().assume_offset(offset!(+8)).unix_timestamp() * 1000;
        Some(Self { date, start_ms })
    }

    /// As `YYYYMMDD`.
    pub(crate) fn digits(self) -> String {
        format!("{:04}{:02}{:02}", self.date.year(), u8::from(self.date.month()), self.date.day())
    }

    pub(crate) fn holds(self, at_ms: i64) -> bool {
        (self.start_ms..self.start_ms + DAY_MS).contains(&at_ms)
    }

    /// `months` is how far back bills are kept.
    pub(crate) fn readiness(self, bills: Bills, now_ms: i64, days_max: i64) -> Readiness {
        let now = OffsetDateTime::from_unix_timestamp(now_ms.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let now = now.to_offset(offset!(+8));
        match bills {
            Bills::Ready => Readiness::Ready,
            Bills::Creating => Readiness::Creating,
            Bills::Missing => Readiness::Missing,
            Bills::ByClock if self.date >= now.date() || now.date() - self.date > Duration::days(days_max) => {
                Readiness::Refused
            }
            Bills::ByClock if self.date.next_day() == Some(now.date()) && now.hour() < READY_HOUR => {
                Readiness::Creating
            }
            Bills::ByClock => Readiness::Ready,
        }
    }
}

/// Yuan with two decimals.
pub(crate) fn yuan(fen: i64) -> String {
    format!("{}{}.{:02}", if fen < 0 { "-" } else { "" }, fen.abs() / 100, fen.abs() % 100)
}

/// A fee of 0.60 %, rounded to whole fen.
pub(crate) fn fee_fen(amount_fen: i64) -> i64 {
    (amount_fen * 6 + 500).div_euclid(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bill_is_there_from_nine_of_the_next_morning() {
        let day = Day::read("2026-02-28").expect("a day");
        let hour = 3600 * 1000;
        assert_eq!((day.digits().as_str(), day.start_ms), ("20260228", 1_772_208_000_000));
        for (after_hours, expected) in [
            (0, Readiness::Refused),
            (23, Readiness::Refused),
            (24, Readiness::Creating),
            (32, Readiness::Creating),
            (33, Readiness::Ready),
            (24 * 89, Readiness::Ready),
            (24 * 92, Readiness::Refused),
        ] {
            let now_ms = day.start_ms + after_hours * hour;
            assert_eq!(day.readiness(Bills::ByClock, now_ms, 90), expected, "{after_hours}");
        }
        assert_eq!(day.readiness(Bills::Ready, day.start_ms, 90), Readiness::Ready);
        assert!(Day::read("2026-2-28").is_none() && Day::read("2026-02-30").is_none());
        assert!(day.holds(day.start_ms) && day.holds(day.start_ms + 24 * hour - 1) && !day.holds(day.start_ms - 1));
    }

    #[test]
    fn changes_find_their_row_and_no_other() {
        let row = |out_trade_no: &str, out_refund_no: &str| BillRow {
            out_trade_no: out_trade_no.to_owned(),
            out_refund_no: out_refund_no.to_owned(),
            amount_fen: 5,
            ..BillRow::default()
        };
        let mut rows = vec![row("T1", ""), row("T1", "R1"), row("T2", "")];
        let (out_trade_no, out_refund_no) = ("T1".to_owned(), Some("R1".to_owned()));
        BillChange::Amount { out_trade_no: out_trade_no.clone(), out_refund_no: out_refund_no.clone(), fen: 6 }
            .apply(&mut rows);
        assert_eq!(rows.iter().map(|row| row.amount_fen).collect::<Vec<_>>(), [5, 6, 5]);
        BillChange::Twice { out_trade_no: out_trade_no.clone(), out_refund_no }.apply(&mut rows);
        BillChange::LeaveOut { out_trade_no, out_refund_no: None }.apply(&mut rows);
        BillChange::Add { row: Box::new(row("T9", "")) }.apply(&mut rows);
        let names: Vec<String> = rows.iter().map(|row| format!("{}{}", row.out_trade_no, row.out_refund_no)).collect();
        assert_eq!(names, ["T1R1", "T2", "T1R1", "T9"]);
    }

    #[test]
    fn a_synthetic_refund_is_of_the_row_before() {
        let bill = SyntheticBill { prefix: "M".to_owned(), suffix: String::new(), rows: 10, refund_every: 5 };
        let (paid, refund) = (bill.row(3, 0), bill.row(4, 0));
        assert_eq!(
            (refund.kind, &refund.out_trade_no, refund.amount_fen),
            (BillKind::Refund, &paid.out_trade_no, paid.amount_fen)
        );
        assert_eq!((yuan(-5), yuan(123), fee_fen(8888), fee_fen(1)), ("-0.05".into(), "1.23".into(), 53, 0));
    }
}
