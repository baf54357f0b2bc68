//! `alipay.data.dataservice.bill.downloadurl.query` and the file behind its address.

use bytes::Bytes;

use super::answer::{Field, text};
use super::book::Book;
use super::failure::Failure;
use super::gateway::Checked;
use super::seal::success;
use super::statement::Statement;
use super::switches::BillErrors;
use super::{Alipay, order};
use crate::bill::{BillChange, BillKind, BillRow, Day, Readiness, Rows, SyntheticBill};
use crate::chance;
use crate::faults::{FaultKind, Keys, Plan};
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event};
use crate::stream;
use crate::wire::{Answer, Reply, WireRequest};

/// How far back bills can be asked for: six years.
const DAYS_MAX: i64 = 6 * 366;
/// Life of an address.
const ADDRESS_LIFE_MS: i64 = 30_000;
/// Addresses remembered before the expired ones are dropped.
const ADDRESSES_MAX: usize = 10_000;

/// A file that was promised.
#[derive(Clone)]
pub(crate) struct BillFile {
    app_id: String,
    issued_ms: i64,
    statement: Statement,
}

impl Alipay {
    /// Answers the address of a bill, below the host the request came to.
    pub(super) fn bill(&self, checked: &Checked<'_>) -> Result<Vec<Field>, Failure> {
        let biz = order::object(checked.params.get("biz_content"))?;
        let errors = self.read_switches(|switches| switches.bill_errors);
        let refuse = |name: &str| {
            Err(match errors {
                BillErrors::Bare => Failure::gateway("40004", name, "账单查询失败"),
                BillErrors::Live => Failure::gateway("40004", &format!("isp.{}", name.to_lowercase()), "账单查询失败"),
            })
        };
        match order::field(&biz, "bill_type", 30)?.as_deref() {
            Some("trade") => {}
            _ => return refuse("TYPE_NOT_SUPPORTED"),
        }
        let date = order::field(&biz, "bill_date", 15)?.unwrap_or_default();
        let Some(day) = Day::read(&date) else { return refuse("INVAILID_ARGUMENTS") };
        let now_ms = self.now_ms();
        let bills = self.read_switches(|switches| switches.bills);
        let mut book = self.book();
        let (_, seller_id) = book.owner(&checked.app, checked.params.get("app_auth_token"), false)?;
        match day.readiness(bills, now_ms, DAYS_MAX) {
            Readiness::Ready => {}
            Readiness::Creating | Readiness::Missing => return refuse("BILL_NOT_EXIST"),
            Readiness::Refused => return refuse("INVAILID_ARGUMENTS"),
        }
        let rows = match book.synthetic_bills.get(&(seller_id.clone(), date.clone())) {
            Some(bill) => Rows::Synthetic { bill: bill.clone(), day_ms: day.start_ms },
            None => {
                let mut rows = book.rows_of(&seller_id, day);
                for change in book.bill_changes.get(&seller_id).into_iter().flatten() {
                    change.apply(&mut rows);
                }
                Rows::Kept(rows)
            }
        };
        let empty = rows.is_empty();
        if empty && !self.read_switches(|switches| switches.empty_bills) {
            return refuse("BILL_NOT_EXIST");
        }
        if book.bill_files.len() >= ADDRESSES_MAX {
            book.bill_files.retain(|_, file| now_ms - file.issued_ms <= ADDRESS_LIFE_MS);
        }
        let token = chance::text(48);
        let statement = Statement { seller_id, day, rows, made_ms: now_ms };
        let file = BillFile { app_id: checked.app.app_id.clone(), issued_ms: now_ms, statement };
        book.bill_files.insert(token.clone(), file);
        let line = Entry::new(Wallet::Alipay, Call::Bill, Event::Billed).merchant(&checked.app.app_id);
        self.record(line.note(date));
        let mut fields = success();
        let url =
            format!("http://{}/downloadBillFile.resource?bizType=trade&fileType=csv.zip&token={token}", checked.host);
        fields.push(text("bill_download_url", &url));
        if empty {
            fields.push(text("bill_file_code", "EMPTY_DATA_WITH_BILL_FILE"));
        }
        Ok(fields)
    }

    /// The file of an address, for 30 s; afterwards a page for people, with HTTP 200.
    pub(crate) async fn bill_file(&self, request: &WireRequest) -> Reply {
        let pairs = request.query_pairs();
        let token = pairs.iter().find(|(key, _)| key == "token").map(|(_, value)| value.as_str()).unwrap_or_default();
        let file = self.book().bill_files.get(token).cloned();
        let app_id = file.as_ref().map(|file| file.app_id.clone());
        let line = |event| {
            let line = Entry::new(Wallet::Alipay, Call::BillFile, event);
            match &app_id {
                Some(app_id) => line.merchant(app_id),
                None => line,
            }
        };
        self.record(line(Event::Request));
        let keys = Keys { merchant: app_id.as_deref(), ..Keys::default() };
        let plan = self.ground().faults.take(Wallet::Alipay, Call::BillFile, keys);
        if !plan.is_empty() {
            self.record(line(Event::Fault).note(plan.names()));
        }
        let refusal = |status: u16, _: &str| -> Reply { Answer::new(status, "text/html", "<html></html>").into() };
        if let Some(reply) = plan.before(refusal).await {
            return reply;
        }
        let now_ms = self.now_ms();
        let Some(file) = file.filter(|file| now_ms - file.issued_ms <= ADDRESS_LIFE_MS) else {
            self.record(line(Event::Refused).error("expired"));
            let page = "<html><body>下载链接已失效，请重新获取</body></html>";
            return Answer::new(200, "text/html;charset=utf-8", page).into();
        };
        self.record(line(Event::Billed));
        plan.after(file.reply(&plan), refusal).await
    }

    /// Makes the bills of a seller differ from what happened, from now on.
    pub fn change_bills(&self, seller_id: &str, change: BillChange) {
        self.book().bill_changes.entry(seller_id.to_owned()).or_default().push(change);
    }

    /// Bills tell what happened again, and synthetic days end.
    pub fn true_bills(&self, seller_id: &str) {
        let mut book = self.book();
        book.bill_changes.remove(seller_id);
        book.synthetic_bills.retain(|key, _| key.0 != seller_id);
    }

    /// Serves a made-up day (`YYYY-MM-DD`) instead of what happened. False for no such day, too many rows or too long a
    /// prefix.
    pub fn set_synthetic_bill(&self, seller_id: &str, date: &str, bill: SyntheticBill) -> bool {
        let allowed = Day::read(date).is_some() && bill.is_allowed();
        if allowed {
            self.book().synthetic_bills.insert((seller_id.to_owned(), date.to_owned()), bill);
        }
        allowed
    }
}

impl BillFile {
    fn reply(self, plan: &Plan) -> Reply {
        let head = Answer::new(200, "application/zip", Bytes::new());
        if matches!(self.statement.rows, Rows::Synthetic { .. }) {
            return stream::of(head, move |out| self.statement.write(out));
        }
        let mut bytes = Vec::new();
        self.statement.write(&mut bytes).expect("memory takes what a day has");
        if plan.0.contains(&FaultKind::TruncatedJson) {
            bytes.truncate(bytes.len() / 2);
        }
        Answer { body: bytes.into(), ..head }.into()
    }
}

impl Book {
    /// What a day's bill should tell, by time.
    fn rows_of(&self, seller_id: &str, day: Day) -> Vec<BillRow> {
        let fen = |fen: u64| i64::try_from(fen).unwrap_or(i64::MAX);
        let mut rows = Vec::new();
        for trade in self.trades.values().filter(|trade| trade.seller_id == seller_id) {
            let Some(paid_ms) = trade.paid_ms else { continue };
            let payment = BillRow {
                kind: BillKind::Payment,
                at_ms: paid_ms,
                created_ms: trade.created_ms,
                out_trade_no: trade.out_trade_no.clone(),
                trade_no: trade.trade_no.clone(),
                amount_fen: fen(trade.amount_fen),
                payer: self.users.get(&trade.user_id).map(|user| user.logon_id.clone()).unwrap_or_default(),
                description: trade.subject.clone(),
                attach: trade.body.clone().unwrap_or_default(),
                ..BillRow::default()
            };
            for refund in trade.refunds.iter().filter(|refund| day.holds(refund.at_ms)) {
                rows.push(BillRow {
                    kind: BillKind::Refund,
                    at_ms: refund.at_ms,
                    success_ms: Some(refund.at_ms),
                    out_refund_no: refund.out_request_no.clone(),
                    amount_fen: fen(refund.refund_fen),
                    ..payment.clone()
                });
            }
            if day.holds(paid_ms) {
                rows.push(payment);
            }
        }
        rows.sort_by(|one, two| (one.at_ms, &one.out_trade_no).cmp(&(two.at_ms, &two.out_trade_no)));
        rows
    }
}
