//! The ledger: every request and every effect is a line, written before the answer leaves.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ground::{Call, Wallet};

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

    /// How many lines of a number are of this call and event.
    pub fn count(&self, out_trade_no: &str, call: Call, event: Event) -> usize {
        self.of_number(out_trade_no).iter().filter(|line| line.call == call && line.event == event).count()
    }

    /// Prepay requests that arrived for a number, refused ones included.
    pub fn prepays_of(&self, out_trade_no: &str) -> usize {
        self.count(out_trade_no, Call::Prepay, Event::Request)
    }

    /// Query requests that arrived for a number.
    pub fn queries_of(&self, out_trade_no: &str) -> usize {
        self.count(out_trade_no, Call::Query, Event::Request)
    }

    /// Close requests that arrived for a number.
    pub fn closes_of(&self, out_trade_no: &str) -> usize {
        self.count(out_trade_no, Call::Close, Event::Request)
    }

    /// Exchange requests that arrived with a code.
    pub fn exchanges_of(&self, code: &str) -> usize {
        self.of_code(code).iter().filter(|line| line.event == Event::Request).count()
    }

    /// Different business bytes sent as prepay of a number; 1 for a merchant's side that freezes them.
    pub fn bodies_of(&self, out_trade_no: &str) -> usize {
        self.of_number(out_trade_no)
            .into_iter()
            .filter(|line| line.call == Call::Prepay && line.event == Event::Request)
            .filter_map(|line| line.body_sha256)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Notifications that left for a number.
    pub fn notices_of(&self, out_trade_no: &str) -> usize {
        self.count(out_trade_no, Call::Notify, Event::NoticeSent)
    }

    /// Numbers with this prefix that a payer could pay now: created, neither closed nor paid.
    pub fn payable_numbers(&self, prefix: &str) -> Vec<String> {
        let mut payable = BTreeSet::new();
        self.replay(prefix, |event, number, _| turn(&mut payable, event, number));
        payable.into_iter().map(|(_, number)| number).collect()
    }

    /// The most numbers with this prefix that were payable at one time, over both wallets.
    pub fn payable_at_once_max(&self, prefix: &str) -> usize {
        let mut payable = BTreeSet::new();
        let mut most = 0;
        self.replay(prefix, |event, number, _| {
            turn(&mut payable, event, number);
            most = most.max(payable.len());
        });
        most
    }

    /// Numbers with this prefix that were paid, with the amount in fen, in order of payment.
    pub fn payments(&self, prefix: &str) -> Vec<(String, i64)> {
        let mut paid = Vec::new();
        self.replay(prefix, |event, (_, number), amount| {
            if event == Event::Paid {
                paid.push((number, amount.unwrap_or_default()));
            }
        });
        paid
    }

    /// Walks the lines of all numbers with this prefix, oldest first.
    fn replay(&self, prefix: &str, mut each: impl FnMut(Event, (bool, String), Option<i64>)) {
        let book = self.book();
        let named = book.by_number.range(prefix.to_owned()..);
        let mut sequences: Vec<u64> = named
            .take_while(|(number, _)| number.starts_with(prefix))
            .flat_map(|(_, sequences)| sequences.iter().copied())
            .collect();
        sequences.sort_unstable();
        for line in book.at(Some(&sequences)) {
            let number = line.out_trade_no.unwrap_or_default();
            each(line.event, (line.wallet == Wallet::Alipay, number), line.amount_fen);
        }
    }
}

fn turn(payable: &mut BTreeSet<(bool, String)>, event: Event, number: (bool, String)) {
    match event {
        Event::Created => {
            payable.insert(number);
        }
        Event::Closed | Event::Paid => {
            payable.remove(&number);
        }
        _ => {}
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

    fn line(event: Event, number: &str) -> Entry {
        Entry::new(Wallet::Wechat, Call::Prepay, event).out_trade_no(number)
    }

    #[test]
    fn payable_numbers_follow_create_close_and_pay() {
        let ledger = Ledger::open(None, 100).expect("no file");
        for (event, number, payable, most) in [
            (Event::Request, "A1", 0, 0),
            (Event::Created, "A1", 1, 1),
            (Event::Repeated, "A1", 1, 1),
            (Event::Created, "B1", 1, 1),
            (Event::Closed, "A1", 0, 1),
            (Event::Created, "A2", 1, 1),
            (Event::Created, "A3", 2, 2),
            (Event::Paid, "A2", 1, 2),
        ] {
            ledger.record(line(event, number));
            assert_eq!(ledger.payable_numbers("A").len(), payable, "{event:?} {number}");
            assert_eq!(ledger.payable_at_once_max("A"), most, "{event:?} {number}");
        }
        assert_eq!(ledger.payments("A"), [("A2".to_owned(), 0)]);
        assert_eq!(ledger.prepays_of("A1"), 1);
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
