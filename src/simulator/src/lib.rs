//! The wallets' side of the wire: WeChat Pay and Alipay as a merchant's server meets them, for demo and tests.
//!
//! It checks every signature it is sent, signs what it answers, keeps what a wallet keeps, and lies on demand. It shares
//! no code with the software it is there to test, so that agreement means something.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use simulator::wechat::MerchantOptions;
//! use simulator::{Call, Fault, FaultKind, Match, Options, Simulator, Wallet};
//!
//! let simulator = Simulator::start(Options::default()).await?;
//! let merchant = simulator.wechat().new_merchant(MerchantOptions::default())?;
//! let app = simulator.wechat().new_app(&merchant.mchid);
//! let openid = simulator.wechat().new_openid(&app.appid);
//! let code = simulator.wechat().new_code(&app.appid, &openid);
//! let lost = Fault::once(Wallet::Wechat, Call::Prepay, FaultKind::LoseAnswer);
//! simulator.faults().add(lost.when(Match::prefix("T0001")));
//! // ... the merchant's side works against simulator.base_url() ...
//! assert_eq!(simulator.ledger().exchanges_of(&code), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Where it listens
//!
//! | address | serves |
//! |---|---|
//! | [`Simulator::base_url`] | WeChat Pay at the root (`/v3/…`: the path is signed), `/sns/jscode2session`, Alipay's `/gateway.do` and its bill files, `/_sim/…` |
//! | [`Simulator::backup_url`] | the same, as WeChat's second host; same state |
//! | [`Simulator::control_url`] | `/_sim/…` only, whatever the other two are set to |
//!
//! [`Simulator::set_main_reach`] and [`Simulator::set_backup_reach`] refuse connections or leave them unanswered. Idle
//! connections are closed after 8 s. Plain HTTP on loopback; nothing here belongs on a network.
//!
//! # Switches
//!
//! What the sources tell differently is a switch of [`wechat::Switches`] or of Alipay's; tests of the merchant's side
//! pass in every position. WeChat's, with their defaults:
//!
//! | switch | positions |
//! |---|---|
//! | `repeated_prepay` | **`new`**, `same` prepay_id for the same order asked again |
//! | `changed_prepay` | **`out_trade_no_used`** (403), `invalid_request` (400) for other parameters |
//! | `paid_prepay` | **`order_paid`** (400 `ORDERPAID`), `invalid_request` |
//! | `foreign_openid` | **`param_error`** (400), `openid_mismatch` (500) |
//! | `unknown_close` | **`not_exist`** (404), `no_content` (204) |
//! | `sign_errors`, `unpaid_amount`, `pretty`, `unionid` | **on**, **on**, **off**, **off** |
//! | `prepays_per_second` | **500** per mchid, then 429; `null` for load tests |
//! | `notices`, `notice_doubled`, `notice_probe` | **on**, **off**, **off** |
//! | `notice_delay_ms`, `notice_delay_spread_ms` | **0**, **0** of schedule time after the payment, and up to this much more by chance |
//! | `associated_data` | **`transaction`** (of a refund: `refund`), `empty`, `absent` |
//! | `refund_ending`, `refund_delay_ms` | **`success`**, `abnormal`, `closed`, `never`; **0** of schedule time after it was accepted |
//! | `refund_spacing_ms`, `limited_refund` | **60000** between two refunds of an order, else 429, which is **`not_executed`**, `executed` |
//! | `refund_notices` | **on** |
//! | `bills` | **`by_clock`** (from 09:00 of the next day), `ready` (the present day as well), `creating`, `missing` |
//!
//! The key that signs is each merchant's [`wechat::KeyMode`]: **public key**, certificate, mixed.
//!
//! # Faults
//!
//! [`Faults::add`] arms a [`Fault`]: a [`Call`] of a [`Wallet`], a [`Match`] (merchant, number, start of numbers, code,
//! how many to let pass), how often, with which probability (by [`Options::seed`]), and a [`FaultKind`].
//!
//! | calls | kinds that mean something |
//! |---|---|
//! | every call that is answered | delays, failures before and after the effect, closed, cut and hanging connections, `html_…`, `frequency_limited…`, `truncated_json` |
//! | signed answers | `wrong_signature`, `sign_test`, `undecodable_signature`, `unknown_serial`, `timestamp_shift`, `missing_header`, `unsigned` |
//! | `query`, `refund_query` | `answer_of`, `wrong_amount`, `wrong_merchant` as well |
//! | `refund` | `wrong_amount` as well; `answer_of` at Alipay |
//! | `bill`, `bill_file` | `wrong_hash` (WeChat); `cut_body`, `truncated_json` (half a file, properly framed) |
//! | `prepay`, `query`, `close` | `paid_meanwhile` as well |
//! | `notify`, `refund_notify` | `delay`, `lose`, `double`, all lies about signatures, `answer_of`, `wrong_amount`, `wrong_merchant`, `truncated_json` |
//! | `cashier` | `fail_before` (nothing is paid), `fail_after` (paid, and the phone hears of a failure) |
//!
//! # Control routes
//!
//! JSON in, JSON out; errors are `{"error": "…"}` with 400 (body), 404 (route) or 409 (refused).
//!
//! | route | does |
//! |---|---|
//! | `GET /_sim/health` | tells the addresses |
//! | `GET /_sim/ledger?from=&limit=` | lines of the ledger |
//! | `GET`, `POST`, `DELETE /_sim/faults`, `DELETE /_sim/faults/{id}` | lists, arms (answers the id), disarms |
//! | `GET`, `POST /_sim/clock` | `offset_ms`, `advance_ms`, `schedule_scale` |
//! | `POST /_sim/latency` | milliseconds, a bare number |
//! | `POST /_sim/reach` | `main`, `backup`: `up`, `refused`, `silent` |
//! | `POST /_sim/wechat/merchants` | [`wechat::MerchantOptions`] → [`wechat::WechatMerchant`] |
//! | `…/sub_merchants`, `…/merchant_keys`, `…/apiv3_key` | `mchid` → `sub_mchid`, [`wechat::MerchantKey`], `apiv3_key` |
//! | `…/merchant_keys/revoke`, `…/key_mode` | `mchid` with `serial_no` or `key_mode` |
//! | `…/apps`, `…/apps/bind` | `mchid` → [`wechat::WechatApp`]; `appid`, `mchid` |
//! | `…/openids`, `…/codes` | `appid`, (`openid`) → `openid`; `code`, `openid` |
//! | `…/request_payment` | `params`, `openid`, `press` (`pay`, `cancel`) → `err_msg`, and `transaction_id` or `reason` |
//! | `…/pay`, `…/refund_by_hand`, `…/notify_now`, `…/order`, `…/refunds` | `mchid`, `out_trade_no`, (`faults` of a notification) |
//! | `…/refund`, `…/end_refund`, `…/notify_refund_now` | `mchid`, `out_refund_no`, (`status`: how it ends; `faults`) |
//! | `…/balance`, `…/refund_notify_url` | `mchid` (or a sub-merchant), `balance_fen`; `mchid`, `url`; without a value: no limit, no address |
//! | `…/change_bills`, `…/true_bills` | `mchid`, `change` ([`BillChange`]); `mchid` |
//! | `…/synthetic_bill` | `mchid`, `date`, `bill` ([`SyntheticBill`]) |
//! | `…/switches` | the switches to change → all of them; `{}` only reads |
//! | `…/certificates/add`, `…/sign_with`, `…/remove` | platform certificates by `serial_no` |
//! | `POST /_sim/alipay/…` | see [`alipay`] |

mod bill;
mod chance;
mod clock;
mod control;
mod entry;
mod faults;
mod ground;
mod keys;
mod ledger;
mod notifier;
mod server;
mod stream;
mod tally;
mod wire;

pub mod alipay;
pub mod wechat;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use alipay::Alipay;
pub use bill::{BillChange, BillKind, BillRow, Bills, SYNTHETIC_ROWS_MAX, SyntheticBill};
pub use clock::Clock;
pub use entry::{Entry, Event};
pub use faults::{Fault, FaultId, FaultKind, Faults, Match};
pub use ground::{Call, Wallet};
pub use keys::{KeyError, PublicKey, RsaKey};
pub use ledger::Ledger;
pub use notifier::{Incoming, Outgoing};
pub use server::Reach;
pub use wechat::Wechat;

use chance::Chance;
use ground::Ground;
use notifier::Notifier;
use server::{Door, Entrance};
use wire::{Answer, Reply, WireRequest};

/// How to start a simulator.
#[derive(Debug, Clone)]
pub struct Options {
    /// Main address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Backup address (WeChat's `api2` host); `None`: none.
    pub backup_listen: Option<SocketAddr>,
    /// Address of the control API alone (the main and backup addresses serve it too, while they are up).
    pub control_listen: SocketAddr,
    /// Time every call of a wallet takes, before its effect.
    pub latency: Duration,
    /// Seed of the faults by chance.
    pub seed: u64,
    /// File the ledger is appended to, one JSON object per line.
    pub ledger: Option<PathBuf>,
    /// Lines of the ledger kept in memory.
    pub ledger_lines_max: usize,
    /// Real seconds per second of the wallets' schedules (see [`Clock::set_schedule_scale`]).
    pub schedule_scale: f64,
}

impl Default for Options {
    fn default() -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: loopback,
            backup_listen: Some(loopback),
            control_listen: loopback,
            latency: Duration::ZERO,
            seed: 1,
            ledger: None,
            ledger_lines_max: 500_000,
            schedule_scale: 1.0,
        }
    }
}

/// Why a simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot open the ledger {path}")]
    Ledger { path: PathBuf, source: std::io::Error },
    #[error("cannot make keys")]
    Keys(#[from] KeyError),
    #[error("cannot make an HTTP client")]
    Client(#[from] reqwest::Error),
}

struct Inner {
    ground: Arc<Ground>,
    wechat: Arc<Wechat>,
    alipay: Arc<Alipay>,
    latency_ms: AtomicU64,
    main: Door,
    backup: Option<Door>,
    control: Door,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A running simulator; clones are the same one. It stops when the last clone is dropped.
#[derive(Clone)]
pub struct Simulator {
    inner: Arc<Inner>,
    _guard: Option<Arc<DropGuard>>,
}

impl Simulator {
    /// Starts listening.
    ///
    /// Errors: an address that is taken, a ledger that cannot be opened.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let clock = Arc::new(Clock::new(options.schedule_scale));
        let chance = Arc::new(Chance::new(options.seed));
        let faults = Arc::new(Faults::new(chance.clone()));
        let ledger = Ledger::open(options.ledger.as_deref(), options.ledger_lines_max)
            .map_err(|source| StartError::Ledger { path: options.ledger.clone().unwrap_or_default(), source })?;
        let ledger = Arc::new(ledger);
        let stop = CancellationToken::new();
        let notifier = Notifier::new(clock.clone(), faults.clone(), ledger.clone(), stop.child_token())?;
        let ground = Arc::new(Ground { clock, chance, ledger, faults, notifier });

        let bind =
            |address| async move { Door::bind(address).await.map_err(|source| StartError::Listen { address, source }) };
        let (main, main_listener) = bind(options.listen).await?;
        let (backup, backup_listener) = match options.backup_listen {
            Some(address) => bind(address).await.map(|(door, listener)| (Some(door), Some(listener)))?,
            None => (None, None),
        };
        let (control, control_listener) = bind(options.control_listen).await?;

        let inner = Arc::new(Inner {
            wechat: Wechat::new(ground.clone())?,
            alipay: Arc::new(Alipay::new(ground.clone())),
            ground,
            latency_ms: AtomicU64::new(millis(options.latency)),
            main,
            backup,
            control,
            stop: stop.clone(),
            tasks: TaskTracker::new(),
        });
        let simulator = Self { inner: inner.clone(), _guard: Some(Arc::new(stop.drop_guard())) };
        simulator.keep(&inner.main, main_listener, Entrance::Main);
        simulator.keep(&inner.control, control_listener, Entrance::Control);
        if let (Some(door), Some(listener)) = (&inner.backup, backup_listener) {
            simulator.keep(door, listener, Entrance::Backup);
        }
        Ok(simulator)
    }

    fn keep(&self, door: &Door, listener: tokio::net::TcpListener, entrance: Entrance) {
        // The listeners' own clone must not keep the simulator running.
        let simulator = Self { inner: self.inner.clone(), _guard: None };
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(server::keep(simulator, listener, door.address, door.reach.subscribe(), entrance, stop));
    }

    /// `http://127.0.0.1:port` of the main address.
    pub fn base_url(&self) -> String {
        self.inner.main.url()
    }

    /// The backup address; the main one when there is no backup.
    pub fn backup_url(&self) -> String {
        self.inner.backup.as_ref().unwrap_or(&self.inner.main).url()
    }

    /// The control API's own address, which can be reached whatever the others are set to.
    pub fn control_url(&self) -> String {
        self.inner.control.url()
    }

    /// WeChat Pay and the mini-program login of WeChat.
    pub fn wechat(&self) -> &Arc<Wechat> {
        &self.inner.wechat
    }

    /// Alipay.
    pub fn alipay(&self) -> &Arc<Alipay> {
        &self.inner.alipay
    }

    /// Lies and faults to come.
    pub fn faults(&self) -> &Faults {
        &self.inner.ground.faults
    }

    /// What happened so far.
    pub fn ledger(&self) -> &Ledger {
        &self.inner.ground.ledger
    }

    /// The wallets' clock.
    pub fn clock(&self) -> &Clock {
        &self.inner.ground.clock
    }

    /// Sets the time every call takes.
    pub fn set_latency(&self, latency: Duration) {
        self.inner.latency_ms.store(millis(latency), Ordering::Relaxed);
    }

    /// How the main address can be reached.
    pub fn set_main_reach(&self, reach: Reach) {
        self.inner.main.reach.send_replace(reach);
    }

    /// How the backup address can be reached.
    pub fn set_backup_reach(&self, reach: Reach) {
        if let Some(backup) = &self.inner.backup {
            backup.reach.send_replace(reach);
        }
    }

    /// Stops: cuts connections, ends notifications, waits for both.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.ground.notifier.stop().await;
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    fn stop_token(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    async fn answer(&self, request: WireRequest, entrance: Entrance) -> Reply {
        if request.path.starts_with("/_sim/") {
            return control::handle(self, request).await;
        }
        if entrance == Entrance::Control {
            return Answer::new(404, "text/plain", "only /_sim/ here").into();
        }
        let latency_ms = self.inner.latency_ms.load(Ordering::Relaxed);
        if latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(latency_ms)).await;
        }
        match request.path.as_str() {
            "/gateway.do" => self.inner.alipay.handle(request).await,
            "/downloadBillFile.resource" => self.inner.alipay.bill_file(&request).await,
            path if path.starts_with("/v3/") || path.starts_with("/sns/") => self.inner.wechat.handle(request).await,
            _ => Answer::new(404, "text/html", "<html><body>404 Not Found</body></html>").into(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
