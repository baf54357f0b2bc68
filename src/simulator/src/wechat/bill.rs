//! `GET /v3/bill/tradebill` and the file behind its address.

use std::io::Write;

use aws_lc_rs::digest;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::Wechat;
use super::refusal::Refusal;
use super::state::{Merchant, State};
use super::statement::{self, BillType};
use crate::bill::{BillChange, BillKind, BillRow, Day, Readiness, Rows, SyntheticBill};
use crate::chance;
use crate::faults::FaultKind;
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event};
use crate::stream;
use crate::wire::{Answer, Reply};

/// How far back bills can be asked for: three months.
const DAYS_MAX: i64 = 92;
/// Life of an address.
const ADDRESS_LIFE_MS: i64 = 30_000;
/// Addresses remembered before the expired ones are dropped.
const ADDRESSES_MAX: usize = 10_000;

/// A file that was promised.
#[derive(Clone)]
pub(crate) struct BillFile {
    mchid: String,
    issued_ms: i64,
    gzip: bool,
    bill_type: BillType,
    rows: Rows,
}

impl Wechat {
    /// Answers the address of a bill; `host` is where the request came to, and where the file will be.
    pub(super) fn bill(
        &self,
        merchant: &Merchant,
        query: &[(String, String)],
        host: &str,
        lies: &[FaultKind],
    ) -> Result<Value, Refusal> {
        let mut wanted = [("bill_date", ""), ("bill_type", ""), ("tar_type", ""), ("sub_mchid", "")];
        for (key, value) in query {
            let Some(known) = wanted.iter_mut().find(|(name, _)| *name == key.as_str()) else {
                return Err(Refusal::parameter(&format!("/query/{key}"), "未定义的参数").internal("270924358"));
            };
            known.1 = value;
        }
        let [(_, date), (_, bill_type), (_, tar_type), (_, sub_mchid)] = wanted;
        let day = Day::read(date).ok_or_else(|| Refusal::parameter("/query/bill_date", "须为yyyy-MM-dd"))?;
        let bill_type =
            BillType::read(bill_type).ok_or_else(|| Refusal::parameter("/query/bill_type", "无效的账单类型"))?;
        if !matches!(tar_type, "" | "GZIP") {
            return Err(Refusal::parameter("/query/tar_type", "只支持GZIP"));
        }
        if !sub_mchid.is_empty() && !merchant.subs.iter().any(|sub| sub == sub_mchid) {
            return Err(Refusal::new(403, "NO_AUTH", "商户号未与服务商建立受理关系", "268443701"));
        }
        let now_ms = self.ground.clock.now_ms();
        let missing = || Refusal::new(400, "NO_STATEMENT_EXIST", "账单不存在", "268449555");
        match day.readiness(self.switches().bills, now_ms, DAYS_MAX) {
            Readiness::Ready => {}
            Readiness::Creating => {
                return Err(Refusal::new(400, "STATEMENT_CREATING", "账单生成中，请稍后再试", "268449556"));
            }
            Readiness::Missing => return Err(missing()),
            Readiness::Refused => return Err(Refusal::parameter("/query/bill_date", "账单日期不在可查询范围内")),
        }
        let mut state = self.state();
        let (rows, hash) = match state.synthetic_bills.get(&(merchant.mchid.clone(), date.to_owned())) {
            Some((bill, hash)) if bill_type == BillType::All => {
                (Rows::Synthetic { bill: bill.clone(), day_ms: day.start_ms }, hash.clone())
            }
            _ => {
                let mut rows = state.rows_of(&merchant.mchid, Some(sub_mchid).filter(|sub| !sub.is_empty()), day);
                for change in state.bill_changes.get(&merchant.mchid).into_iter().flatten() {
                    change.apply(&mut rows);
                }
                rows.retain(|row| bill_type.has(row));
                let rows = Rows::Kept(rows);
                let hash = sha1(bill_type, &merchant.mchid, &rows);
                (rows, hash)
            }
        };
        if rows.is_empty() {
            return Err(missing());
        }
        if state.bill_files.len() >= ADDRESSES_MAX {
            state.bill_files.retain(|_, file| now_ms - file.issued_ms <= ADDRESS_LIFE_MS);
        }
        let gzip = tar_type == "GZIP";
        let token = chance::text(48);
        let file = BillFile { mchid: merchant.mchid.clone(), issued_ms: now_ms, gzip, bill_type, rows };
        state.bill_files.insert(token.clone(), file);
        let line = Entry::new(Wallet::Wechat, Call::Bill, Event::Billed).merchant(&merchant.mchid);
        self.ground.ledger.record(line.note(date));
        let hash = if lies.contains(&FaultKind::WrongHash) { chance::hex(&chance::bytes::<20>()) } else { hash };
        let tartype = if gzip { "&tartype=gzip" } else { "" };
        Ok(json!({
            "hash_type": "SHA1",
            "hash_value": hash,
            "download_url": format!("http://{host}/v3/billdownload/file?token={token}{tartype}"),
        }))
    }

    /// The file of an address: within 30 s, once, to the merchant it was made for; never signed.
    pub(super) fn bill_file(
        &self,
        merchant: &Merchant,
        query: &[(String, String)],
        lies: &[FaultKind],
    ) -> Result<Reply, Refusal> {
        let now_ms = self.ground.clock.now_ms();
        let token = query.iter().find(|(key, _)| key == "token").map(|(_, value)| value.as_str()).unwrap_or_default();
        let stale = || Refusal::new(400, "INVALID_REQUEST", "下载链接已失效，请重新申请账单", "268449557");
        let mut state = self.state();
        if state.bill_files.get(token).is_none_or(|file| file.mchid != merchant.mchid) {
            return Err(stale());
        }
        let file = state.bill_files.remove(token).filter(|file| now_ms - file.issued_ms <= ADDRESS_LIFE_MS);
        drop(state);
        let file = file.ok_or_else(stale)?;
        self.ground.ledger.record(Entry::new(Wallet::Wechat, Call::BillFile, Event::Billed).merchant(&file.mchid));
        let head = Answer::new(200, if file.gzip { "application/gzip" } else { "text/plain" }, Bytes::new());
        if matches!(file.rows, Rows::Synthetic { .. }) {
            return Ok(stream::of(head, move |out| file.write(out)));
        }
        let mut bytes = Vec::new();
        file.write(&mut bytes).expect("memory takes what a day has");
        if lies.contains(&FaultKind::TruncatedJson) {
            bytes.truncate(bytes.len() / 2);
        }
        Ok(Answer { body: bytes.into(), ..head }.into())
    }

    /// Makes the bills of a merchant differ from what happened, from now on.
    pub fn change_bills(&self, mchid: &str, change: BillChange) {
        self.state().bill_changes.entry(mchid.to_owned()).or_default().push(change);
    }

    /// Bills tell what happened again, and synthetic days end.
    pub fn true_bills(&self, mchid: &str) {
        let mut state = self.state();
        state.bill_changes.remove(mchid);
        state.synthetic_bills.retain(|key, _| key.0 != mchid);
    }

    /// Serves a made-up day (`YYYY-MM-DD`) as the `ALL` bill instead of what happened. Takes a second for some million
    /// rows: the hash of the file is made here.
    ///
    /// False for no such day, too many rows or too long a prefix.
    pub fn set_synthetic_bill(&self, mchid: &str, date: &str, bill: SyntheticBill) -> bool {
        let Some(day) = Day::read(date).filter(|_| bill.is_allowed()) else { return false };
        let rows = Rows::Synthetic { bill: bill.clone(), day_ms: day.start_ms };
        let hash = sha1(BillType::All, mchid, &rows);
        self.state().synthetic_bills.insert((mchid.to_owned(), date.to_owned()), (bill, hash));
        true
    }
}

impl State {
    /// What a day's bill should tell, by time.
    fn rows_of(&self, mchid: &str, sub_mchid: Option<&str>, day: Day) -> Vec<BillRow> {
        let mine = |row_mchid: &str, row_sub: Option<&str>| {
            row_mchid == mchid && sub_mchid.is_none_or(|sub_mchid| row_sub == Some(sub_mchid))
        };
        let mut rows = Vec::new();
        for order in self.orders.values().filter(|order| mine(&order.mchid, order.sub_mchid.as_deref())) {
            let (Some(transaction_id), Some(paid_ms)) = (&order.transaction_id, order.success_ms) else { continue };
            let payment = BillRow {
                kind: BillKind::Payment,
                at_ms: paid_ms,
                created_ms: order.created_ms,
                out_trade_no: order.out_trade_no.clone(),
                trade_no: transaction_id.clone(),
                amount_fen: order.total_fen,
                // A payment's own row stays SUCCESS when it is refunded: the refund has its own.
                status: "SUCCESS".to_owned(),
                appid: order.appid.clone(),
                sub_mchid: order.sub_mchid.clone(),
                payer: order.openid.clone(),
                description: super::fields::text(&order.body, "/description").to_owned(),
                attach: order.attach.clone().unwrap_or_default(),
                ..BillRow::default()
            };
            for refund in self.refunds_of(&order.key()).filter(|refund| day.holds(refund.created_ms)) {
                rows.push(BillRow {
                    kind: BillKind::Refund,
                    at_ms: refund.created_ms,
                    success_ms: refund.success_ms,
                    out_refund_no: refund.out_refund_no.clone(),
                    refund_id: refund.refund_id.clone(),
                    amount_fen: refund.refund_fen,
                    status: refund.status.name().to_owned(),
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

impl BillFile {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        if !self.gzip {
            return statement::write(out, self.bill_type, &self.mchid, &self.rows);
        }
        let mut packed = GzEncoder::new(out, Compression::fast());
        statement::write(&mut packed, self.bill_type, &self.mchid, &self.rows)?;
        packed.finish().map(|_| ())
    }
}

/// SHA-1 of the plain file, whatever it will be packed in.
fn sha1(bill_type: BillType, mchid: &str, rows: &Rows) -> String {
    struct Sum(digest::Context);
    impl Write for Sum {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut sum = Sum(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY));
    statement::write(&mut sum, bill_type, mchid, rows).expect("a sum takes everything");
    chance::hex(sum.0.finish().as_ref())
}
