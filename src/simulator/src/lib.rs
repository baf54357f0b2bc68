//! The wallets' side of the wire.
