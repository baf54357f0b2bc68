//! A store that fails when a test wants it to: what its caller hears, and what is there.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use prepay::store::{StoreError, StoreFault};

use super::{place::Place, shop::order};

pub async fn a_failing_handle_does_not_tell_what_it_did(place: Place) {
    let store = &place.store;
    for (fault, is_there) in [(StoreFault::NotDone, false), (StoreFault::NotTold, true)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        // The first piece of work alone.
        let failing = store.failing(Arc::new(move || (counted.fetch_add(1, Ordering::Relaxed) == 0).then_some(fault)));
        let order = order();
        let inserted = failing.insert_order(&order).await;
        assert!(matches!(inserted, Err(StoreError::Unavailable { .. })), "{fault:?}: {inserted:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(failing.load_order(order.id).await.unwrap().is_some(), is_there, "{fault:?}");
        assert_eq!(store.load_order(order.id).await.unwrap().is_some(), is_there, "{fault:?}");
    }
}
