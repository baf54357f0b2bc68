//! Roles in processes of their own: what they do together, and what is left when one of them goes.

mod alipay_keys;
mod alipay_successor;
mod canary;
pub mod fleet;
mod keys_in_life;
mod killed;
pub mod phones;
mod schedulers;
mod street;
mod together;
mod turns;

pub use fleet::delete_queues;
