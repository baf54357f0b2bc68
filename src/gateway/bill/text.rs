//! What both bills have in common as texts: bounded lines, columns by name, amounts.

use std::io::{BufRead, Read};

use super::{BillError, unusable};

/// Real rows have some hundreds of bytes.
const LINE_MAX: usize = 64 * 1024;

/// Lines of a file, one at a time, none longer than [`LINE_MAX`].
pub struct Lines<R> {
    from: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(from: R) -> Self {
        Self { from, number: 0 }
    }

    /// Of the line told last, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line without its end (LF or CRLF). After an error nothing more can be read.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, BillError> {
        let mut line = Vec::new();
        let limit = u64::try_from(LINE_MAX + 1).unwrap_or(u64::MAX);
        let read = (&mut self.from).take(limit).read_until(b'\n', &mut line);
        self.number += 1;
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(unusable(format!("line {}: {error}", self.number))),
        }
        if line.len() > LINE_MAX {
            return Err(unusable(format!("line {} is longer than {LINE_MAX} bytes", self.number)));
        }
        for end in [b'\n', b'\r'] {
            if line.last() == Some(&end) {
                line.pop();
            }
        }
        Ok(Some(line))
    }
}

/// Where each column stands: bills are read by name, because columns come and go.
pub struct Columns(Vec<String>);

impl Columns {
    pub fn new(names: impl Iterator<Item = String>) -> Self {
        Self(names.collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.at(name).is_some()
    }

    /// Where it stands, from 0.
    pub fn at(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|column| column == name)
    }

    /// A row's value under the first of `names` that is a column.
    pub fn get<'a>(&self, row: &[&'a str], names: &[&str]) -> Option<&'a str> {
        let at = names.iter().find_map(|name| self.at(name))?;
        row.get(at).copied()
    }
}

/// An amount in yuan as fen: `0.03`, `-8.80`, `0.0`, `45`. Decimals past the second must be zeros. Exact; `None` when it is none.
pub fn yuan(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(part) || whole.len() > 15 || part.bytes().skip(2).any(|byte| byte != b'0') {
        return None;
    }
    let cents: String = part.chars().chain("00".chars()).take(2).collect();
    let fen = whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(cents.parse().ok()?)?;
    Some(sign * fen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        for (text, fen) in [
            ("0.03", 3),
            ("88.88", 8888),
            ("-8.80", -880),
            ("0.0", 0),
            ("0", 0),
            ("45.0", 4500),
            ("1.5", 150),
            ("0.01000", 1),
            ("99999999.99", 9_999_999_999),
        ] {
            assert_eq!(yuan(text), Some(fen), "{text}");
        }
        for text in ["", "-", ".", "1.", ".5", "0.001", "1e2", "+1.00", "1,000.00", " 1.00", "--1", &"9".repeat(20)] {
            assert_eq!(yuan(text), None, "{text}");
        }
    }

    #[test]
    fn lines_are_bounded() {
        let mut lines = Lines::new("a\r\nb\n\n\r\nlast".as_bytes());
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(all, ["a", "b", "", "", "last"]);
        let endless = std::io::BufReader::new(std::io::repeat(b'x'));
        assert!(matches!(Lines::new(endless).next(), Err(BillError::Unusable(_))));
    }
}
