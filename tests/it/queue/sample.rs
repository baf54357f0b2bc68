//! A command as a front publishes it. `examples/publish_speed.rs` measures with the same one.

use prepay::{
    domain::{
        command::{IdentifyId, Identity, PrepayCommand},
        id::{CommandId, MerchantId, OrderId},
        time::Timestamp,
        wallet::Wallet,
    },
    queue::Envelope,
};

pub fn command() -> Envelope {
    Envelope::prepay(PrepayCommand {
        id: CommandId::fresh(),
        order: OrderId::fresh(),
        merchant: MerchantId(1),
        wallet: Wallet::WechatPay,
        generation: 0,
        identity: Identity::IdentifyId(IdentifyId("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o".to_owned())),
        not_after: Timestamp::from_secs(4_000_000_000),
        payer_ip: None,
    })
}
