//! The ledger: every request and every effect is a line, written before the answer leaves.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use crate::entry::{Entry, Event};

struct Book {
    next: u64,
    lines: VecDeque<Entry>,
    /// Sequences of the lines that name a number or a code, so that counting stays cheap under load.
    by_number: BTreeMap<String, Vec<u64>>,
    by_code: HashMap<String, Vec<u64>>,
    file: Option<File>,
    file_failed: bool,
}

/// The lines so far. The oldest are forgotten past the limit; the file, if there is one, keeps them all.
pub struct Ledger {
    book: Mutex<Book>,
    lines_max: usize,
}

impl Ledger {
    pub(crate) fn open(path: Option<&Path>, lines_max: usize) -> std::io::Result<Self> {
        let file = match path {
            Some(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
            None => None,
        };
        Ok(Self {
            book: Mutex::new(Book {
                next: 0,
                lines: VecDeque::new(),
                by_number: BTreeMap::new(),
                by_code: HashMap::new(),
                file,
                file_failed: false,
            }),
            lines_max: lines_max.max(1),
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line, in memory and to the file, before it returns.
    pub(crate) fn record(&self, mut entry: Entry) {
        let mut book = self.book();
        entry.sequence = book.next;
        entry.at_ms =
            i64::try_from((time::OffsetDateTime::now_utc().unix_timestamp_nanos()) / 1_000_000).unwrap_or_default();
        book.next += 1;
        if let Some(file) = &mut book.file {
            let mut line = serde_json::to_vec(&entry).expect("an entry has only text and numbers");
            line.push(b'\n');
            if let Err(error) = file.write_all(&line) {
                if !book.file_failed {
                    tracing::error!(%error, "the ledger's file takes no more lines");
                }
                book.file_failed = true;
            }
        }
        if let Some(number) = &entry.out_trade_no {
            book.by_number.entry(number.clone()).or_default().push(entry.sequence);
        }
        if let Some(code) = &entry.code {
            book.by_code.entry(code.clone()).or_default().push(entry.sequence);
        }
        book.lines.push_back(entry);
        if book.lines.len() > self.lines_max {
            book.forget_oldest();
        }
    }

    /// All lines kept, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.book().lines.iter().cloned().collect()
    }

    /// Lines from a sequence on, at most `limit`.
    pub fn entries_from(&self, sequence: u64, limit: usize) -> Vec<Entry> {
        let book = self.book();
        let oldest = book.next - book.lines.len() as u64;
        let skip = usize::try_from(sequence.saturating_sub(oldest)).unwrap_or(usize::MAX);
        book.lines.iter().skip(skip).take(limit).cloned().collect()
    }

    /// How many lines were ever written.
    pub fn written(&self) -> u64 {
        self.book().next
    }

    /// Whether every line reached the file. True without a file.
    pub fn is_complete_on_disk(&self) -> bool {
        !self.book().file_failed
    }

    /// Lines about one number at either wallet, oldest first.
    pub fn of_number(&self, out_trade_no: &str) -> Vec<Entry> {
        let book = self.book();
        book.at(book.by_number.get(out_trade_no))
    }

    /// Lines about one login code, oldest first.
    pub fn of_code(&self, code: &str) -> Vec<Entry> {
        let book = self.book();
        book.at(book.by_code.get(code))
    }

    /// Walks the lines of all numbers with this prefix, oldest first.
    pub(crate) fn walk(&self, prefix: &str, mut each: impl FnMut(Entry)) {
        let book = self.book();
        let named = book.by_number.range(prefix.to_owned()..);
        let mut sequences: Vec<u64> = named
            .take_while(|(number, _)| number.starts_with(prefix))
            .flat_map(|(_, sequences)| sequences.iter().copied())
            .collect();
        sequences.sort_unstable();
        for line in book.at(Some(&sequences)) {
            each(line);
        }
    }
}

impl Book {
    fn at(&self, sequences: Option<&Vec<u64>>) -> Vec<Entry> {
        let oldest = self.next - self.lines.len() as u64;
        sequences
            .into_iter()
            .flatten()
            .filter_map(|sequence| self.lines.get(usize::try_from(sequence.checked_sub(oldest)?).ok()?))
            .cloned()
            .collect()
    }

    fn forget_oldest(&mut self) {
        let Some(entry) = self.lines.pop_front() else {
            return;
        };
        // The oldest line of a number or code is the first of its sequences.
        if let Some(number) = entry.out_trade_no
            && let Some(sequences) = self.by_number.get_mut(&number)
        {
            sequences.remove(0);
            if sequences.is_empty() {
                self.by_number.remove(&number);
            }
        }
        if let Some(code) = entry.code
            && let Some(sequences) = self.by_code.get_mut(&code)
        {
            sequences.remove(0);
            if sequences.is_empty() {
                self.by_code.remove(&code);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::{Call, Wallet};

    fn line(event: Event, number: &str) -> Entry {
        Entry::new(Wallet::Wechat, Call::Prepay, event).out_trade_no(number)
    }

    #[test]
    fn the_oldest_lines_are_forgotten_past_the_limit() {
        let ledger = Ledger::open(None, 3).expect("no file");
        for _ in 0..5 {
            ledger.record(line(Event::Request, "A1"));
        }
        assert_eq!(ledger.prepays_of("A1"), 3);
        assert_eq!(ledger.entries().iter().map(|line| line.sequence).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(ledger.entries_from(4, 10).len(), 1);
        assert_eq!(ledger.written(), 5);
    }
}
