//! How many bills are written out at once: a merchant that does not read its own keeps nobody else from theirs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::domain::id::MerchantId;

const PER_MERCHANT: usize = 2;
const PER_FRONT: usize = 32;

/// The places of one front.
#[derive(Debug, Default)]
pub struct Downloads {
    /// Under way, of at most [`PER_FRONT`] merchants.
    taken: Mutex<HashMap<MerchantId, usize>>,
}

/// A bill's place; dropping it gives it back.
#[derive(Debug)]
pub struct Download {
    of: Arc<Downloads>,
    merchant: MerchantId,
}

impl Downloads {
    /// `None`: the merchant has its share, or the front is full.
    pub fn take(self: &Arc<Self>, merchant: MerchantId) -> Option<Download> {
        let mut taken = self.taken();
        if taken.values().sum::<usize>() >= PER_FRONT {
            return None;
        }
        let own = taken.entry(merchant).or_insert(0);
        if *own >= PER_MERCHANT {
            return None;
        }
        *own += 1;
        Some(Download { of: self.clone(), merchant })
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, HashMap<MerchantId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let mut taken = self.of.taken();
        if let Some(own) = taken.get_mut(&self.merchant) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.remove(&self.merchant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merchant_has_its_share_and_no_more() {
        let places = Arc::new(Downloads::default());
        let own: Vec<_> = std::iter::from_fn(|| places.take(MerchantId(1))).take(9).collect();
        assert_eq!(own.len(), PER_MERCHANT);
        assert!(places.take(MerchantId(2)).is_some());
        drop(own);
        assert!(places.take(MerchantId(1)).is_some());
        assert!(places.taken().is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn a_front_has_its_bound() {
        let places = Arc::new(Downloads::default());
        let all: Vec<_> = (1..100).filter_map(|merchant| places.take(MerchantId(merchant))).collect();
        assert_eq!(all.len(), PER_FRONT);
    }
}
