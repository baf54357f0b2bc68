//! Chance: repeatable throws for faults, unpredictable text for names and nonces.

use std::sync::atomic::{AtomicU64, Ordering};

/// A seeded source of throws, so that a campaign with the same seed meets the same faults.
pub struct Chance {
    state: AtomicU64,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// The next 64 bits (SplitMix64).
    pub fn bits(&self) -> u64 {
        let state = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True with the given probability, 0.0 to 1.0.
    pub fn hits(&self, probability: f64) -> bool {
        probability >= 1.0 || ((self.bits() >> 11) as f64 / (1u64 << 53) as f64) < probability
    }
}

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random bytes of the system, for whatever must be unique or secret.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source does not fail");
    bytes
}

/// `length` (at most 64) random letters and digits, as nonces and openids have them.
pub fn text(length: usize) -> String {
    bytes::<64>().iter().take(length).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// `length` (at most 64) random decimal digits, the first not zero.
pub fn digits(length: usize) -> String {
    bytes::<64>()
        .iter()
        .take(length)
        .enumerate()
        .map(|(at, byte)| char::from(if at == 0 { b'1' + byte % 9 } else { b'0' + byte % 10 }))
        .collect()
}

/// Lower-case hexadecimal text of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of `bytes` in lower-case hexadecimal text.
pub fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same() {
        let (one, two) = (Chance::new(7), Chance::new(7));
        assert_eq!((0..9).map(|_| one.bits()).collect::<Vec<_>>(), (0..9).map(|_| two.bits()).collect::<Vec<_>>());
        assert!(one.hits(1.0) && !one.hits(0.0));
        let hits = (0..10_000).filter(|_| one.hits(0.25)).count();
        assert!((2_200..2_800).contains(&hits), "{hits}");
    }

    #[test]
    fn names_have_their_length() {
        assert_eq!(text(32).len(), 32);
        let number = digits(10);
        assert!(number.len() == 10 && !number.starts_with('0'));
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
