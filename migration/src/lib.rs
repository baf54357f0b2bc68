//! The tables of prepay.
