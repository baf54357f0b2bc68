//! Vectors and keys for the tests of this folder.

use super::settings::AlipayPublicKeys;
use crate::{
    domain::id::{AttemptNo, OrderId, OutTradeNo},
    keys::test_vectors,
};

/// The exact text of an Alipay vector file.
pub fn read(path: &str) -> String {
    test_vectors::read(&format!("alipay/{path}"))
}

pub fn json(file: &str) -> serde_json::Value {
    serde_json::from_str(&read(file)).unwrap()
}

/// A number of ours.
pub fn number() -> OutTradeNo {
    OutTradeNo { order: OrderId::from_bytes([7; 16]), attempt: AttemptNo::FIRST }
}

/// Certificate mode with a certificate that has a successor beside it in the folder.
pub fn succession_keys() -> AlipayPublicKeys {
    AlipayPublicKeys {
        alipay_public_key: None,
        older_alipay_public_key: None,
        alipay_certs: vec![read("certs/succession/alipay_first.crt")],
        app_cert: Some(read("certs/succession/app.crt")),
        root_cert: Some(read("certs/succession/root.crt")),
    }
}
