//! Yuan on the wire, fen inside.

/// Reads an amount of yuan with exactly two decimals; `None` for anything else.
///
/// Range: 1 to 9 999 999 999 fen (0.01 to 99999999.99 yuan). Source: `alipay.trade.create`, `total_amount`.
pub fn fen(yuan: &str) -> Option<u64> {
    let (whole, cents) = yuan.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    if !digits(whole) || !digits(cents) || whole.len() > 8 || cents.len() != 2 || leading_zero {
        return None;
    }
    let fen = whole.parse::<u64>().ok()? * 100 + cents.parse::<u64>().ok()?;
    (fen > 0).then_some(fen)
}

/// Writes fen as yuan with two decimals.
pub fn yuan(fen: u64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_decimals_and_nothing_else() {
        for (text, value) in [
            ("0.01", Some(1)),
            ("88.88", Some(8888)),
            ("99999999.99", Some(9_999_999_999)),
            ("0.00", None),
            ("100000000.00", None),
            ("1", None),
            ("1.5", None),
            ("1.500", None),
            ("01.50", None),
            ("-1.00", None),
            ("+1.00", None),
            ("1,00", None),
            (" 1.00", None),
            ("１.00", None),
            (".10", None),
        ] {
            assert_eq!(fen(text), value, "{text}");
            if let Some(value) = value {
                assert_eq!(yuan(value), text);
            }
        }
    }
}
