//! Alipay's clock times: `yyyy-MM-dd HH:mm:ss`, always GMT+8.

use time::format_description::BorrowedFormatItem;
use time::macros::{format_description, offset};
use time::{OffsetDateTime, PrimitiveDateTime};

const SECONDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
const MINUTES: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]");

/// Unix milliseconds as Alipay writes them.
pub fn write(at_ms: i64) -> String {
    local(at_ms).format(SECONDS).expect("a date has all parts of the format")
}

/// Unix milliseconds of a text with seconds; `None` when it is no such text.
pub fn read(text: &str) -> Option<i64> {
    PrimitiveDateTime::parse(text, SECONDS).ok().map(unix_ms)
}

/// As [`read`], or with minutes only, as `time_expire` may be written.
pub fn read_loose(text: &str) -> Option<i64> {
    read(text).or_else(|| PrimitiveDateTime::parse(text, MINUTES).ok().map(unix_ms))
}

/// Unix milliseconds with their thousandths, as `gmt_refund` has them: `2026-03-01 12:00:00.320`.
pub fn write_ms(at_ms: i64) -> String {
    format!("{}.{:03}", write(at_ms), at_ms.rem_euclid(1000))
}

/// The day as `yyyyMMdd`, the way numbers begin.
pub fn day(at_ms: i64) -> String {
    local(at_ms).format(format_description!("[year][month][day]")).expect("a date has all parts of the format")
}

/// The span `timeout_express` names (`1m` to `15d`, or `1c`: until midnight), in milliseconds from `from_ms`.
pub fn timeout_ms(text: &str, from_ms: i64) -> Option<i64> {
    const MINUTE: i64 = 60_000;
    if text == "1c" {
        let since_midnight = (from_ms + 8 * 60 * MINUTE).rem_euclid(24 * 60 * MINUTE);
        return Some(24 * 60 * MINUTE - since_midnight);
    }
    let unit = match text.chars().last()? {
        'm' => MINUTE,
        'h' => 60 * MINUTE,
        'd' => 24 * 60 * MINUTE,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    if number.is_empty() || number.len() > 5 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let span = number.parse::<i64>().ok()? * unit;
    (MINUTE..=15 * 24 * 60 * MINUTE).contains(&span).then_some(span)
}

fn local(at_ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .to_offset(offset!(+8))
}

fn unix_ms(at: PrimitiveDateTime) -> i64 {
    at.assume_offset(offset!(+8)).unix_timestamp() * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads_gmt_plus_8() {
        assert_eq!(write(1_772_337_600_999), "2026-03-01 12:00:00");
        assert_eq!(write_ms(1_772_337_600_045), "2026-03-01 12:00:00.045");
        assert_eq!(read("2026-03-01 12:00:00"), Some(1_772_337_600_000));
        assert_eq!(read("2026-03-01T12:00:00"), None);
        assert_eq!(read("2026-03-01 12:00"), None);
        assert_eq!(read_loose("2026-03-01 12:00"), Some(1_772_337_600_000));
        assert_eq!(day(1_772_337_600_000), "20260301");
    }

    #[test]
    fn reads_relative_spans() {
        let noon = 1_772_337_600_000;
        for (text, span_min) in
            [("1m", Some(1)), ("90m", Some(90)), ("2h", Some(120)), ("15d", Some(21_600)), ("1c", Some(720))]
        {
            assert_eq!(timeout_ms(text, noon), span_min.map(|span: i64| span * 60_000), "{text}");
        }
        for text in ["", "m", "0m", "1.5h", "16d", "1s", "30", "-1m"] {
            assert_eq!(timeout_ms(text, noon), None, "{text}");
        }
    }
}
