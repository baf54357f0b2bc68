//! Looks at bills, made by a test instead of a scheduler.

use std::{path::Path, sync::Arc, time::Duration};

use prepay::{
    domain::{
        bill::{BillDate, DiscrepancyKind, DiscrepancyState, RunState},
        id::AccountId,
        time::Timestamp,
    },
    gateway::http,
    keys::Vault,
    steps::{Registry, StepSettings, Steps, budget::BudgetSettings, reconcile::Reconciled},
    store::{BillRun, Discrepancy},
};
use serde_json::Value;
use simulator::{BillChange, BillRow, Bills};
use tempfile::TempDir;

use super::{
    harness::{World, until, until_midnight_is_not_near},
    sides::Side,
    watched::Scraped,
};

/// What a scheduler has, without one: each look is made by the test.
pub(super) struct Books {
    pub steps: Steps,
    pub folder: TempDir,
}

impl World {
    pub(super) async fn books(&self) -> Books {
        until_midnight_is_not_near().await;
        self.until_bills_were_looked_at().await;
        let folder = TempDir::new().unwrap();
        let keys = &self.settings.keys;
        let vault = Arc::new(Vault::new(keys.front.as_ref(), keys.back.as_ref()).unwrap());
        let http = http::client(&self.settings.http_settings()).unwrap();
        let (store, clock) = (self.place.store.clone(), self.clock.clone());
        let registry = Registry::new(store.clone(), vault, http, clock.clone(), BudgetSettings::default());
        registry.reload().await.unwrap();
        let settings = StepSettings {
            bills_dir: folder.path().to_owned(),
            // The tests that are about midnight set it; the others may run at it.
            bill_edge: Duration::ZERO,
            ..StepSettings::default()
        };
        Books { steps: Steps { store, registry, clock, settings }, folder }
    }

    /// A scheduler looks for bills as it starts, and not again beside a test: what that look would do is the test's to do.
    async fn until_bills_were_looked_at(&self) {
        let Some(scheduler) = self.apps.len().checked_sub(1) else { return };
        until("the scheduler has looked for bills", async || {
            Scraped::from(self, scheduler).await.has("prepay_bills_failed")
        })
        .await;
    }

    pub(super) fn account(&self, side: Side) -> AccountId {
        match side {
            Side::Wechat => self.wechat.account,
            Side::Alipay => self.alipay.account,
        }
    }

    pub(super) fn set_bills(&self, bills: Bills) {
        self.sim.wechat().set_switches(|switches| switches.bills = bills);
        self.sim.alipay().set_switches(|switches| switches.bills = bills);
    }

    pub(super) fn change_bills(&self, side: Side, change: BillChange) {
        match side {
            Side::Wechat => self.sim.wechat().change_bills(&self.wechat.merchant.mchid, change),
            Side::Alipay => self.sim.alipay().change_bills(&self.alipay.app.seller_id, change),
        }
    }

    pub(super) fn true_bills(&self, side: Side) {
        match side {
            Side::Wechat => self.sim.wechat().true_bills(&self.wechat.merchant.mchid),
            Side::Alipay => self.sim.alipay().true_bills(&self.alipay.app.seller_id),
        }
    }

    /// The day of an order's payment, by the wallet's time.
    pub(super) async fn day_of(&self, order: &Value) -> BillDate {
        let id = order["serialNo"].as_str().unwrap();
        let sql = format!("SELECT paid_at FROM attempts WHERE order_id = '{id}' AND state = 'paid'");
        BillDate::of(Timestamp::from_ms(self.place.number(&sql).await))
    }

    pub(super) async fn found(&self, state: DiscrepancyState) -> Vec<Discrepancy> {
        let mut all = self.place.store.list_discrepancies(true, 1_000).await.unwrap();
        all.retain(|row| row.state == state);
        all
    }

    pub(super) async fn open_kinds(&self) -> Vec<(DiscrepancyKind, String)> {
        let open = self.found(DiscrepancyState::Open).await;
        let mut kinds: Vec<_> = open.iter().map(|row| (row.found.kind, row.found.number().to_owned())).collect();
        kinds.sort();
        kinds
    }
}

impl Books {
    /// One look at a bill, whatever came of it.
    pub(super) async fn look(&self, account: AccountId, date: BillDate) -> BillRun {
        let came = self.steps.reconcile(account, date, &()).await.unwrap();
        let Reconciled::Done(run) = came else { panic!("nobody else is at it: {came:?}") };
        assert!(is_empty(self.folder.path()), "a bill names payers and is gone after a look");
        run
    }

    pub(super) async fn matched(&self, account: AccountId, date: BillDate) -> BillRun {
        let run = self.look(account, date).await;
        assert_eq!((run.state, &run.last_error), (RunState::Matched, &None), "{run:?}");
        run
    }
}

pub(super) fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

pub(super) fn of_another_system(date: BillDate) -> BillChange {
    let at_ms = date.begin().ms() + 12 * 3600 * 1000;
    let row = BillRow {
        at_ms,
        created_ms: at_ms,
        out_trade_no: "POS-0001".into(),
        trade_no: "4200000000000000000000000009".into(),
        amount_fen: 1,
        status: "SUCCESS".into(),
        ..BillRow::default()
    };
    BillChange::Add { row: Box::new(row) }
}
