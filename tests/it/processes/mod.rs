//! Roles in processes of their own: what they do together, and what is left when one of them goes.

mod canary;
mod fleet;
mod keys_in_life;
mod killed;
mod phones;
mod together;
mod turns;
