//! Today's bills of the simulated wallets, matched as the scheduler matches yesterday's; a payment can be left out of one.
//!
//! Real bills come on the next day. A visitor does not wait for it: these wallets have one of the present day, as far as it has come.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::Context;
use serde_json::{Value, json};
use simulator::{BillChange, BillRow, Entry, Event, Simulator, Wallet as Theirs};

use super::enrolment::Enrolled;
use crate::{
    clock::Clock,
    config::Settings,
    domain::{
        bill::{BillDate, DiscrepancyState},
        id::AccountId,
        time::Timestamp,
        wallet::Wallet,
    },
    gateway::{BillError, http},
    keys::Vault,
    steps::{Registry, StepError, StepSettings, Steps, reconcile::Reconciled},
    store::{Discrepancy, Store},
};

/// What was found and is shown, the newest first.
const LISTED_MAX: u64 = 200;
/// The scheduler, or another visitor, may be at a bill for a moment.
const TRIES: usize = 15;
const TRY_EVERY: Duration = Duration::from_millis(200);

/// The desk's part about bills.
pub struct Bills {
    simulator: Simulator,
    seller_id: String,
    settings: Arc<Settings>,
    store: OnceLock<Store>,
    left_out: Mutex<Option<LeftOut>>,
}

/// A payment that its wallet's bill does not name.
struct LeftOut {
    wallet: Theirs,
    /// Whose bill it is: mchid or seller_id.
    owner: String,
    out_trade_no: String,
}

impl Bills {
    pub fn new(simulator: &Simulator, enrolled: &Enrolled, settings: Arc<Settings>) -> Self {
        simulator.wechat().set_switches(|switches| switches.bills = simulator::Bills::Ready);
        simulator.alipay().set_switches(|switches| switches.bills = simulator::Bills::Ready);
        Self {
            simulator: simulator.clone(),
            seller_id: enrolled.alipay.seller_id.clone(),
            settings,
            store: OnceLock::new(),
            left_out: Mutex::default(),
        }
    }

    /// The store of the roles: there once they are at work, which is after the page's routes are made.
    pub fn stand_on(&self, store: Store) {
        // A second one would be the same.
        let _ = self.store.set(store);
    }

    /// Fetches today's bill of each account in use and matches it: `{date, wallets: [{wallet, trouble, payments, …, found}]}`.
    ///
    /// `trouble` says why there is nothing to tell: `no_bill`, `held` by another look, `failed`; else `null`. `found` holds
    /// what this day's bill and our rows ever disagreed on, with what became of it. A payment that is made meanwhile may be
    /// found missing until the next look.
    ///
    /// Errors: the store.
    pub async fn look(&self) -> anyhow::Result<Value> {
        let steps = self.steps().await?;
        let date = BillDate::of(steps.clock.now());
        let mut came = Vec::new();
        for row in steps.store.accounts().await?.into_iter().filter(|row| row.account.enabled) {
            let (account, wallet) = (row.account.id, row.account.wallet);
            came.push((account, wallet, match_bill(&steps, account, date).await?));
        }
        let mut found = steps.store.list_discrepancies(true, LISTED_MAX).await?;
        found.retain(|row| row.date == date);
        let wallets: Vec<Value> = came
            .iter()
            .map(|(account, wallet, came)| {
                let found = found.iter().filter(|row| row.account == *account).map(line).collect();
                told(*wallet, came, found)
            })
            .collect();
        Ok(json!({ "date": date.to_string(), "wallets": wallets }))
    }

    /// What is left out of a bill now: `{leftOut: {wallet, outTradeNo} | null}`.
    pub fn left_out(&self) -> Value {
        shown(&self.locked())
    }

    /// Leaves the latest payment of today out of its wallet's bill, and nothing else. Nothing at all when nobody paid yet.
    pub fn leave_out(&self) -> Value {
        let mut left_out = self.locked();
        self.put_back(&mut left_out);
        let today = BillDate::of(Clock::system().now());
        let moved: Vec<Entry> =
            self.simulator.ledger().entries().into_iter().filter(|line| moves(line, today)).collect();
        let last = moved.iter().rfind(|line| line.event == Event::Paid);
        if let Some((line, out_trade_no)) = last.and_then(|line| Some((line, line.out_trade_no.clone()?))) {
            let owner = match line.wallet {
                Theirs::Wechat => line.merchant.clone().unwrap_or_default(),
                Theirs::Alipay => self.seller_id.clone(),
            };
            let change = |change| match line.wallet {
                Theirs::Wechat => self.simulator.wechat().change_bills(&owner, change),
                Theirs::Alipay => self.simulator.alipay().change_bills(&owner, change),
            };
            change(BillChange::LeaveOut { out_trade_no: out_trade_no.clone(), out_refund_no: None });
            if moved.iter().filter(|other| other.wallet == line.wallet).count() == 1 {
                // A wallet has no bill of a day without rows, and of no bill nothing is concluded.
                change(BillChange::Add { row: Box::new(of_the_till(line.at_ms)) });
            }
            *left_out = Some(LeftOut { wallet: line.wallet, owner, out_trade_no });
        }
        shown(&left_out)
    }

    /// The bills tell what happened again.
    pub fn restore(&self) -> Value {
        let mut left_out = self.locked();
        self.put_back(&mut left_out);
        shown(&left_out)
    }

    fn put_back(&self, left_out: &mut Option<LeftOut>) {
        match left_out.take() {
            Some(LeftOut { wallet: Theirs::Wechat, owner, .. }) => self.simulator.wechat().true_bills(&owner),
            Some(LeftOut { wallet: Theirs::Alipay, owner, .. }) => self.simulator.alipay().true_bills(&owner),
            None => {}
        }
    }

    fn locked(&self) -> MutexGuard<'_, Option<LeftOut>> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `prepay reconcile` has, on the store of the roles.
    async fn steps(&self) -> anyhow::Result<Steps> {
        let store = self.store.get().context("the roles are not at work yet")?.clone();
        let vault = Vault::new(None, self.settings.keys.back.as_ref()).context("the folder's master keys")?;
        let http = http::client(&self.settings.http_settings()).context("TLS cannot be set up")?;
        let clock = Clock::system();
        let budget = self.settings.budget_settings();
        let registry = Registry::new(store.clone(), Arc::new(vault), http, clock.clone(), budget);
        registry.reload().await.context("channel accounts cannot be read")?;
        // The days beside this one are never matched here, so nothing waits for them.
        let settings = StepSettings { bill_edge: Duration::ZERO, ..self.settings.step_settings()? };
        Ok(Steps { store, registry, clock, settings })
    }
}

async fn match_bill(steps: &Steps, account: AccountId, date: BillDate) -> Result<Reconciled, StepError> {
    for _ in 1..TRIES {
        match steps.reconcile(account, date, &()).await? {
            Reconciled::Held => tokio::time::sleep(TRY_EVERY).await,
            done => return Ok(done),
        }
    }
    steps.reconcile(account, date, &()).await
}

fn told(wallet: Wallet, came: &Reconciled, found: Vec<Value>) -> Value {
    let Reconciled::Done(run) = came else {
        return json!({ "wallet": wallet.as_str(), "trouble": "held", "found": found });
    };
    let no_bill = BillError::None.to_string();
    let trouble = run.last_error.as_ref().map(|error| if *error == no_bill { "no_bill" } else { "failed" });
    let totals = run.totals;
    json!({
        "wallet": wallet.as_str(),
        "trouble": trouble,
        "error": run.last_error,
        "payments": totals.payments,
        "payFen": totals.pay_fen,
        "refunds": totals.refunds,
        "refundFen": totals.refund_fen,
        "ofOthers": totals.of_others,
        "discrepancies": totals.discrepancies,
        "found": found,
    })
}

fn line(row: &Discrepancy) -> Value {
    json!({
        "kind": row.found.kind.as_str(),
        "number": row.found.number(),
        "ours": row.found.ours,
        "theirs": row.found.theirs,
        "open": row.state == DiscrepancyState::Open,
    })
}

fn shown(left_out: &Option<LeftOut>) -> Value {
    let left_out = left_out.as_ref().map(|one| json!({ "wallet": one.wallet, "outTradeNo": one.out_trade_no }));
    json!({ "leftOut": left_out })
}

/// What a bill of this day has a row of.
fn moves(line: &Entry, today: BillDate) -> bool {
    matches!(line.event, Event::Paid | Event::Refunded) && BillDate::of(Timestamp::from_ms(line.at_ms)) == today
}

/// A payment at the shop's till, which uses the same account and is none of ours.
fn of_the_till(at_ms: i64) -> BillRow {
    BillRow {
        at_ms,
        created_ms: at_ms,
        out_trade_no: "POS-0001".to_owned(),
        trade_no: "4200000000000000000000000009".to_owned(),
        amount_fen: 1_500,
        status: "SUCCESS".to_owned(),
        ..BillRow::default()
    }
}
