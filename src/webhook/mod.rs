//! The merchants' side of events: one POST to an address that a stranger chose, and nothing reached that is not public.

mod client;
mod guard;

pub use client::{Delivery, Tells, Told, Trouble, WebhookClient, WebhookSettings};
pub use guard::{Crowded, Lookup, Reach};
