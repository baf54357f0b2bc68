//! WeChat's side: `/v3/…`, `/sns/jscode2session` and the payment page.

mod about;
mod bill;
mod cashier;
mod certificates;
mod check;
mod control;
mod enrol;
mod fields;
mod notice;
mod orders;
mod prepay;
mod refund;
mod refusal;
mod route;
mod seal;
mod sessions;
mod state;
mod statement;
mod switches;

#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::Serialize;
use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::macros::offset;
use time::{OffsetDateTime, UtcOffset};

use crate::faults::FaultKind;
use crate::ground::Ground;
use crate::keys::{KeyError, RsaKey, shared, shared_number};

pub use cashier::{CashierError, CashierReason, CashierResult, Press};
pub use enrol::{MerchantKey, MerchantOptions, WechatApp, WechatMerchant};
pub use refund::{Refund, RefundStatus};
pub use state::{KeyMode, TradeState};
pub use switches::{
    AssociatedData, ChangedPrepay, ForeignOpenid, LimitedRefund, PaidPrepay, RefundEnding, RepeatedPrepay, Switches,
    UnknownClose,
};

use state::{Merchant, PlatformCertificate, State};

/// The simulated WeChat.
pub struct Wechat {
    ground: Arc<Ground>,
    this: Weak<Self>,
    switches: Mutex<Switches>,
    state: Mutex<State>,
    public_key: Arc<RsaKey>,
    stranger: Arc<RsaKey>,
    turn: AtomicUsize,
}

/// An order as WeChat has it, for assertions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrderView {
    pub mchid: String,
    pub sub_mchid: Option<String>,
    pub out_trade_no: String,
    pub state: TradeState,
    pub total_fen: i64,
    pub prepay_id: String,
    pub transaction_id: Option<String>,
    /// Unix milliseconds.
    pub expires_ms: i64,
    pub notify_url: String,
}

impl Wechat {
    pub(crate) fn new(ground: Arc<Ground>) -> Result<Arc<Self>, KeyError> {
        let first =
            certificates::platform_certificate(shared(shared_number::WECHAT_CERTIFICATES)?, ground.clock.now_s())?;
        let (public_key, stranger) = (shared(shared_number::WECHAT_PUBLIC_KEY)?, shared(shared_number::STRANGER)?);
        Ok(Arc::new_cyclic(|this| Self {
            ground,
            this: this.clone(),
            switches: Mutex::new(Switches::default()),
            state: Mutex::new(State::new(first)),
            public_key,
            stranger,
            turn: AtomicUsize::new(0),
        }))
    }

    /// The switches as they are.
    pub fn switches(&self) -> Switches {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes switches; calls from now on see them.
    pub fn set_switches(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.switches.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// One order.
    pub fn order(&self, mchid: &str, out_trade_no: &str) -> Option<OrderView> {
        self.state().orders.get(&(mchid.to_owned(), out_trade_no.to_owned())).map(order_view)
    }

    /// The body of an order's first prepay.
    pub fn prepay_body(&self, mchid: &str, out_trade_no: &str) -> Option<Value> {
        self.state().orders.get(&(mchid.to_owned(), out_trade_no.to_owned())).map(|order| order.body.clone())
    }

    /// All orders of a merchant or service provider whose number starts with `prefix`, by number.
    pub fn orders(&self, mchid: &str, prefix: &str) -> Vec<OrderView> {
        let state = self.state();
        let mut orders: Vec<OrderView> = state
            .orders
            .values()
            .filter(|order| order.mchid == mchid && order.out_trade_no.starts_with(prefix))
            .map(order_view)
            .collect();
        orders.sort_by(|one, two| one.out_trade_no.cmp(&two.out_trade_no));
        orders
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn merchant(&self, mchid: &str) -> Option<Arc<Merchant>> {
        self.state().merchants.get(mchid).cloned()
    }

    fn signing_certificate(&self) -> PlatformCertificate {
        let state = self.state();
        let signing = state.certificates.iter().find(|listed| listed.certificate.serial_no == state.signing);
        signing.cloned().expect("the signing certificate is always listed")
    }

    /// The `Wechatpay-*` headers of a body for a merchant, who may have asked for a key (`asked`).
    fn signature(
        &self,
        merchant: &Merchant,
        asked: Option<&str>,
        body: &[u8],
        kinds: &[FaultKind],
    ) -> Vec<(&'static str, String)> {
        let by_certificate = match merchant.key_mode {
            KeyMode::PublicKey => false,
            KeyMode::Certificate => true,
            KeyMode::Mixed => match asked {
                Some(asked) => asked != merchant.public_key_id,
                None => self.ground.chance.hits(0.5),
            },
        };
        let platform = by_certificate.then(|| self.signing_certificate());
        let sealer = match &platform {
            Some(platform) => {
                seal::Sealer { serial: &platform.certificate.serial_no, key: &platform.key, stranger: &self.stranger }
            }
            None => seal::Sealer { serial: &merchant.public_key_id, key: &self.public_key, stranger: &self.stranger },
        };
        sealer.headers(self.ground.clock.now_s(), body, kinds)
    }
}

fn order_view(order: &state::Order) -> OrderView {
    OrderView {
        mchid: order.mchid.clone(),
        sub_mchid: order.sub_mchid.clone(),
        out_trade_no: order.out_trade_no.clone(),
        state: order.state,
        total_fen: order.total_fen,
        prepay_id: order.prepay_id.clone(),
        transaction_id: order.transaction_id.clone(),
        expires_ms: order.expires_ms,
        notify_url: order.notify_url.clone(),
    }
}

const BEIJING: UtcOffset = offset!(+8);

/// Beijing time of Unix milliseconds.
fn beijing(ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH).to_offset(BEIJING)
}

/// As on the wire: `2025-09-01T16:30:00+08:00`.
fn rfc3339(ms: i64) -> String {
    beijing(ms).format(&Rfc3339).unwrap_or_default()
}

/// JSON bytes, with blanks and line ends when `pretty`.
fn print(value: &Value, pretty: bool) -> Vec<u8> {
    if pretty { format!("{value:#}").into_bytes() } else { value.to_string().into_bytes() }
}
