//! Alipay's side: the gateway, the cashier and the notices, as a merchant's server and a payer's phone meet them.
//!
//! Source of the wire facts: Alipay Open Platform, gateway v2, `alipay.trade.*`, "asynchronous notification".
//!
//! ```no_run
//! # async fn example(simulator: simulator::Simulator) -> Result<(), Box<dyn std::error::Error>> {
//! use simulator::alipay::{AppOptions, Press};
//!
//! let alipay = simulator.alipay();
//! let app = alipay.new_app(AppOptions::default());
//! let user = alipay.new_user();
//! let code = alipay.new_auth_code(&app.app_id, &user.user_id)?;
//! // ... the merchant's side exchanges the code and creates a trade at {base_url}/gateway.do ...
//! let trade = alipay.trade(&app.app_id, "T0001").ok_or("not created")?;
//! let result = alipay.trade_pay(&trade.trade_no, &user.user_id, Press::Pay).await;
//! assert_eq!(result.as_str(), "9000");
//! # Ok(())
//! # }
//! ```
//!
//! # Methods
//!
//! `alipay.system.oauth.token`, `alipay.trade.create` (`JSAPI_PAY`), `alipay.trade.query`, `alipay.trade.close`,
//! `alipay.trade.refund`, `alipay.trade.fastpay.refund.query`, `alipay.data.dataservice.bill.downloadurl.query` (type
//! `trade`), `alipay.open.app.alipaycert.download`. Anything else is `isv.invalid-method`.
//!
//! # Switches
//!
//! [`Switches`], with their defaults:
//!
//! | switch | positions |
//! |---|---|
//! | `layout` | **`plain`**, `escaped_slashes`, `escaped_after_signing`, `blanks`, `decoys`, `sign_first`, `doubled_node` (clients must refuse the last) |
//! | `sign_failures` | **on**, off; `isv.invalid-app-id` never carries a signature, a success always does |
//! | `wrong_cert_sn` | **off**, on: answers name an SN no download knows; [`Alipay::renew_alipay_cert`] makes one that it does |
//! | `repeat_makes_new_trade_no` | **off**, on: a number gets several trades, paid once together |
//! | `lost_create_hidden_ms` | **0**: after a lost answer the trade is seen at once |
//! | `close_refusal` | **`trade_status_error`**, `reason_trade_status_invalid` |
//! | `notify`, `notify_closed`, `notify_doubled`, `notify_after_ms` | **on**, **off**, **off**, **0** |
//! | `empty_values` | **`signed`**, `unsigned`, `absent` in notices |
//! | `notify_as_merchant`, `numbers_as_text` | **off**, **off** |
//! | `notify_refunds`, `refund_spacing_ms`, `refund_status_after_ms` | **on**, **3000** and **10000** of schedule time |
//! | `fund_change` | **`told`** (`Y` once, then `N`), `absent_for_n`, `never_y` |
//! | `early_refund` | **`limited`** (`isv.method-call-limited`), `system_error`: a refund before the spacing is over |
//! | `bills`, `empty_bills`, `bill_errors` | **`by_clock`**, `ready`, `creating`, `missing`; **off**: a day without rows is an error; **`bare`**, `live` |
//! | `auth_code_ttl_s`, `timestamp_tolerance_s`, `time_expire_min_s` | **180**, **600**, **60** |
//!
//! # Faults
//!
//! Failure codes of [`FaultKind::FailBefore`](crate::FaultKind::FailBefore) and its like are sub_codes (`isp.unknow-error`,
//! `isv.…`, `aop.…`, `ACQ.…` or its bare name); the answer stays HTTP 200 unless the code is empty and the status is 500
//! or more. `merchant` of a [`Match`](crate::Match) is the calling `app_id`.
//!
//! # Control routes
//!
//! Below `POST /_sim/alipay/`:
//!
//! | route | body → answer |
//! |---|---|
//! | `apps` | [`AppOptions`] or nothing → [`AlipayApp`] |
//! | `users` | nothing → [`AlipayUser`] |
//! | `bindings`, `unbind` | `app_id`, `op_app_id` |
//! | `app_auth_tokens` | `provider`, `merchant_app` → `app_auth_token` |
//! | `auth_codes`, `open_ids` | `app_id`, `user_id` → `code`; `open_id` |
//! | `renew_cert` | `app_id` → `alipay_cert_sn` |
//! | `app_key`, `alipay_key` | `app_id`, `public_key` of the owner; `app_id`, `private_key` that Alipay signs with (PKCS#8) |
//! | `trade_pay`, `pay_from_bills` | `trade_no`, `user_id`, (`press`: `pay`, `cancel`) → `result_code`; `paid` |
//! | `pay`, `trade`, `notify_now` | `app_id`, `out_trade_no`, (`faults` of a notice) → `trade_no`; [`Trade`]; `status`, `body` |
//! | `refund_by_hand` | `app_id`, `out_trade_no`, `refund_fen` → `out_request_no` |
//! | `notify_refund_now` | `app_id`, `out_trade_no`, `out_request_no`, (`faults`) → `status`, `body` |
//! | `balance` | `seller_id`, (`balance_fen`; without: no limit) |
//! | `change_bills`, `true_bills`, `synthetic_bill` | `seller_id`, (`change`, or `date` and `bill`) |
//! | `trades` | `app_id`, (`prefix`) → [`Trade`]s |
//! | `finish` | `trade_no` |
//! | `switches` | the switches to change → all of them; nothing only reads |

mod answer;
mod app;
mod bill;
mod book;
mod calls;
mod cashier;
mod cert;
mod console;
mod control;
mod failure;
mod form;
mod gateway;
mod money;
mod notice;
mod order;
mod refund;
mod seal;
mod sign;
mod statement;
mod switches;
mod time8;
mod trade;
mod zip;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

pub use answer::Layout;
pub use app::{AlipayApp, AlipayUser, AppOptions, IdMode, KeyFormat, Kind, Mode};
pub use cashier::{Press, ResultCode};
pub use console::AlipayError;
pub use refund::Refund;
pub use switches::{BillErrors, CloseRefusal, EarlyRefund, EmptyValues, FundChange, Switches};
pub use trade::{Owner, Trade, TradeStatus};

use book::Book;

use crate::ground::Ground;

/// The simulated Alipay; clones are the same one.
#[derive(Clone)]
pub struct Alipay {
    inner: Arc<Inner>,
}

struct Inner {
    ground: Arc<Ground>,
    book: Mutex<Book>,
    switches: RwLock<Switches>,
}

impl Alipay {
    pub(crate) fn new(ground: Arc<Ground>) -> Self {
        let alipay = Self {
            inner: Arc::new(Inner {
                ground,
                book: Mutex::new(Book::default()),
                switches: RwLock::new(Switches::default()),
            }),
        };
        // Without a runtime there is nobody to notify; trades then close when they are next looked at.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(close_what_is_due(Arc::downgrade(&alipay.inner)));
        }
        alipay
    }

    fn ground(&self) -> &Ground {
        &self.inner.ground
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.inner.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> i64 {
        self.ground().clock.now_ms()
    }

    /// The switches as they stand.
    pub fn switches(&self) -> Switches {
        self.read_switches(Switches::clone)
    }

    /// Changes switches: `alipay.set_switches(|s| s.sign_failures = false)`.
    pub fn set_switches(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.inner.switches.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn read_switches<T>(&self, read: impl FnOnce(&Switches) -> T) -> T {
        read(&self.inner.switches.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Closes trades at their time, whether or not somebody looks, until the simulator is gone.
async fn close_what_is_due(inner: Weak<Inner>) {
    const STEP: Duration = Duration::from_millis(100);
    loop {
        tokio::time::sleep(STEP).await;
        let Some(inner) = inner.upgrade() else { return };
        let alipay = Alipay { inner };
        let now_ms = alipay.now_ms();
        let mut book = alipay.book();
        while let Some(trade_no) = book.next_due(now_ms) {
            alipay.settle(&mut book, &trade_no, now_ms);
        }
    }
}
