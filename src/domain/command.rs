//! What asks a worker for something.

use serde::{Deserialize, Serialize};

use super::{
    id::{CommandId, MerchantId, OrderId},
    payer::{LoginCode, PayerIp},
    time::Timestamp,
    wallet::Wallet,
};

/// Who the phone says it is. `Debug` shows neither.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum Identity {
    /// We are to fetch the payer's id with it, once.
    Code(LoginCode),
    /// The merchant fetched the payer's id itself. Checked by the front to have a payer id's shape.
    IdentifyId(IdentifyId),
}

/// A payer id as a phone sent it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdentifyId(pub String);

impl std::fmt::Debug for IdentifyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdentifyId(***)")
    }
}

/// Open a prepay for this order and this person. It carries no amount: everything else is read from the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepayCommand {
    pub id: CommandId,
    pub order: OrderId,
    pub merchant: MerchantId,
    pub wallet: Wallet,
    pub generation: u16,
    pub identity: Identity,
    /// Past this moment nobody waits any more and no wallet is called.
    pub not_after: Timestamp,
    /// Where the phone called from, when an account that may be paid tells its wallet. Absent from the message when it is not
    /// known or not wanted; a worker of a release before it does not look for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer_ip: Option<PayerIp>,
}
