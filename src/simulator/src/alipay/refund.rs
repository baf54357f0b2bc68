//! `alipay.trade.refund` and `alipay.trade.fastpay.refund.query`: what goes back, once per request number.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::{Field, text};
use super::app::App;
use super::book::Book;
use super::failure::Failure;
use super::gateway::Checked;
use super::seal::success;
use super::switches::{EarlyRefund, FundChange};
use super::trade::{Trade, TradeStatus};
use super::{Alipay, money, order, time8};
use crate::chance;
use crate::faults::{FaultKind, Plan};
use crate::ground::Call;
use crate::ledger::Event;

/// Every field the page of `alipay.trade.refund` knows.
const KNOWN: [&str; 13] = [
    "out_trade_no",
    "trade_no",
    "refund_amount",
    "out_request_no",
    "refund_reason",
    "operator_id",
    "store_id",
    "terminal_id",
    "org_pid",
    "refund_currency",
    "refund_goods_detail",
    "refund_royalty_parameters",
    "query_options",
];

/// A refund at the simulated Alipay: its money is back when it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refund {
    /// The merchant's number, unique per trade; the trade's own when none was given.
    pub out_request_no: String,
    /// What goes back, in fen.
    pub refund_fen: u64,
    pub reason: Option<String>,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Refunded of its trade, this one included, in fen.
    pub cumulative_fen: u64,
}

impl Trade {
    /// Refunded so far, in fen.
    pub fn refunded_fen(&self) -> u64 {
        self.refunds.iter().map(|refund| refund.refund_fen).sum()
    }

    /// The refund of a request number.
    pub fn refund_of(&self, out_request_no: &str) -> Option<&Refund> {
        self.refunds.iter().find(|refund| refund.out_request_no == out_request_no)
    }

    /// Moves money back, once per request number; `Ok(false)` when that number moved it before.
    ///
    /// Errors: `DISCORDANT_REPEAT_REQUEST`, `TRADE_STATUS_ERROR` (unpaid), `TRADE_HAS_CLOSE` (also refunded in full),
    /// `TRADE_HAS_FINISHED`, `REFUND_AMT_NOT_EQUAL_TOTAL` (more than is left).
    pub fn refund(
        &mut self,
        out_request_no: &str,
        refund_fen: u64,
        reason: Option<String>,
        now_ms: i64,
    ) -> Result<bool, Failure> {
        if let Some(known) = self.refund_of(out_request_no) {
            return if known.refund_fen == refund_fen {
                Ok(false)
            } else {
                Err(Failure::business("DISCORDANT_REPEAT_REQUEST"))
            };
        }
        match self.status {
            TradeStatus::TradeSuccess => {}
            TradeStatus::WaitBuyerPay => return Err(Failure::business("TRADE_STATUS_ERROR")),
            TradeStatus::TradeClosed => return Err(Failure::business("TRADE_HAS_CLOSE")),
            TradeStatus::TradeFinished => return Err(Failure::business("TRADE_HAS_FINISHED")),
        }
        let cumulative_fen = self.refunded_fen() + refund_fen;
        if cumulative_fen > self.amount_fen {
            return Err(Failure::business("REFUND_AMT_NOT_EQUAL_TOTAL"));
        }
        let out_request_no = out_request_no.to_owned();
        self.refunds.push(Refund { out_request_no, refund_fen, reason, at_ms: now_ms, cumulative_fen });
        if cumulative_fen == self.amount_fen {
            self.status = TradeStatus::TradeClosed;
            self.closed_ms = Some(now_ms);
        }
        Ok(true)
    }
}

impl Alipay {
    /// `alipay.trade.refund`. `fund_change` is `Y` for the call that moved the money, and never again.
    pub(super) fn refund(&self, checked: &Checked<'_>) -> Result<Vec<Field>, Failure> {
        let biz = order::object(checked.params.get("biz_content"))?;
        if let Some(unknown) = biz.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(Failure::field(unknown));
        }
        let refund_fen = order::field(&biz, "refund_amount", 16)?.as_deref().and_then(money::fen);
        let refund_fen = refund_fen.ok_or_else(|| Failure::field("refund_amount"))?;
        let reason = order::field(&biz, "refund_reason", 256)?;
        let number = order::field(&biz, "out_request_no", 64)?;
        let now_ms = self.now_ms();
        let switches = self.switches();
        let mut book = self.book();
        let trade_no = self.meant(&mut book, checked, now_ms)?;
        let mut trade = self.settle(&mut book, &trade_no, now_ms).ok_or_else(Failure::unknown)?;
        if number.is_none() && refund_fen != trade.amount_fen {
            return Err(Failure::field("部分退款时out_request_no必传"));
        }
        let number = number.unwrap_or_else(|| trade.out_trade_no.clone());
        let before = trade.refunds.last().map(|refund| refund.at_ms);
        let moved = trade.refund(&number, refund_fen, reason, now_ms)?;
        if moved {
            let spacing_ms = self.ground().clock.scaled_ms(switches.refund_spacing_ms);
            if before.is_some_and(|before_ms| now_ms - before_ms < spacing_ms) {
                return Err(match switches.early_refund {
                    EarlyRefund::Limited => Failure::gateway("40005", "isv.method-call-limited", "接口调用次数超限"),
                    EarlyRefund::SystemError => Failure::business("SYSTEM_ERROR"),
                });
            }
            self.keep_refund(&mut book, &trade, Call::Refund)?;
        } else {
            let line = trade.line(Call::Refund, Event::Repeated).out_refund_no(&number);
            self.record(line.amount_fen(i64::try_from(refund_fen).unwrap_or(i64::MAX)));
        }
        let told = super::calls::other_trade(&book, checked.plan).cloned().unwrap_or(trade);
        let options = options(&biz);
        Ok(refund_fields(&mut book, &checked.app, &told, moved, switches.fund_change, &options, checked.plan))
    }

    /// Keeps a trade whose last refund is new: the seller's balance pays, the ledger and the notice tell.
    fn keep_refund(&self, book: &mut Book, trade: &Trade, call: Call) -> Result<(), Failure> {
        let Some(refund) = trade.refunds.last() else { return Ok(()) };
        if let Some(balance) = book.balances.get_mut(&trade.seller_id) {
            *balance =
                balance.checked_sub(refund.refund_fen).ok_or_else(|| Failure::business("SELLER_BALANCE_NOT_ENOUGH"))?;
        }
        let fen = i64::try_from(refund.refund_fen).unwrap_or(i64::MAX);
        let line = |event| trade.line(call, event).out_refund_no(&refund.out_request_no).amount_fen(fen);
        self.record(line(Event::RefundAccepted));
        self.record(line(Event::Refunded).note(trade.status.as_str()));
        book.trades.insert(trade.trade_no.clone(), trade.clone());
        if self.read_switches(|switches| switches.notify_refunds) {
            self.notify_refund(book, trade, refund);
        }
        Ok(())
    }

    /// `alipay.trade.fastpay.refund.query`: an unknown number is a success without `refund_status`, as a fresh one is.
    pub(super) fn refund_query(&self, checked: &Checked<'_>) -> Result<Vec<Field>, Failure> {
        let biz = order::object(checked.params.get("biz_content"))?;
        let number = order::field(&biz, "out_request_no", 64)?.ok_or_else(|| Failure::field("out_request_no"))?;
        let now_ms = self.now_ms();
        let mut book = self.book();
        let trade_no = self.meant(&mut book, checked, now_ms)?;
        let trade = self.settle(&mut book, &trade_no, now_ms).ok_or_else(Failure::unknown)?;
        let other = super::calls::other_trade(&book, checked.plan);
        let (told, refund) = match other {
            Some(other) => (other, other.refunds.first()),
            None => (&trade, trade.refund_of(&number)),
        };
        let line = trade.line(Call::RefundQuery, Event::Queried).out_refund_no(&number);
        let mut fields = success();
        let Some(refund) = refund else {
            self.record(line.note("unknown"));
            return Ok(fields);
        };
        let quiet_ms = self.ground().clock.scaled_ms(self.read_switches(|switches| switches.refund_status_after_ms));
        let settled = now_ms - refund.at_ms >= quiet_ms;
        self.record(line.note(if settled { "REFUND_SUCCESS" } else { "not told yet" }));
        let fen = wrong_amount(checked.plan).unwrap_or(refund.refund_fen);
        if options(&biz).contains(&"gmt_refund_pay".to_owned()) {
            fields.push(text("gmt_refund_pay", &time8::write(refund.at_ms)));
        }
        fields.push(text("out_request_no", &refund.out_request_no));
        fields.push(text("out_trade_no", &told.out_trade_no));
        fields.push(text("refund_amount", &money::yuan(fen)));
        if let Some(reason) = &refund.reason {
            fields.push(text("refund_reason", reason));
        }
        if settled {
            fields.push(text("refund_status", "REFUND_SUCCESS"));
        }
        fields.push(text("total_amount", &money::yuan(told.amount_fen)));
        fields.push(text("trade_no", &told.trade_no));
        Ok(fields)
    }

    /// A refund made by hand in the merchant's console, of this much.
    ///
    /// Answers its request number. Errors: no such trade, or the sub_code of the refusal, in words.
    pub fn refund_by_hand(&self, app_id: &str, out_trade_no: &str, refund_fen: u64) -> Result<String, String> {
        let mut trade = self.trade(app_id, out_trade_no).ok_or_else(|| "no such trade".to_owned())?;
        let number = format!("BYHAND{}", chance::digits(20));
        let told = |failure: Failure| failure.sub_code;
        trade.refund(&number, refund_fen, None, self.now_ms()).map_err(told)?;
        self.keep_refund(&mut self.book(), &trade, Call::Other).map_err(told)?;
        Ok(number)
    }

    /// What a seller has left to refund from, in fen; `None`, the default, is enough. Payments do not add to it.
    pub fn set_seller_balance(&self, seller_id: &str, balance_fen: Option<u64>) {
        let mut book = self.book();
        match balance_fen {
            Some(fen) => book.balances.insert(seller_id.to_owned(), fen),
            None => book.balances.remove(seller_id),
        };
    }
}

fn refund_fields(
    book: &mut Book,
    app: &App,
    trade: &Trade,
    moved: bool,
    fund_change: FundChange,
    options: &[String],
    plan: &Plan,
) -> Vec<Field> {
    let logon_id = book.users.get(&trade.user_id).map(|user| user.logon_id.clone()).unwrap_or_default();
    let cumulative = money::yuan(wrong_amount(plan).unwrap_or_else(|| trade.refunded_fen()));
    let mut fields = success();
    fields.push(text("buyer_logon_id", &logon_id));
    if app.id_mode.open_id() {
        fields.push(text("buyer_open_id", &book.open_id(&app.app_id, &trade.user_id)));
    }
    if app.id_mode.user_id() {
        fields.push(text("buyer_user_id", &trade.user_id));
    }
    match (moved, fund_change) {
        (true, FundChange::Told | FundChange::AbsentForN) => fields.push(text("fund_change", "Y")),
        (false, FundChange::AbsentForN) => {}
        (false, FundChange::Told) | (_, FundChange::NeverY) => fields.push(text("fund_change", "N")),
    }
    if let Some(last) = trade.refunds.last() {
        fields.push(text("gmt_refund_pay", &time8::write(last.at_ms)));
    }
    fields.push(text("out_trade_no", &trade.out_trade_no));
    if options.contains(&"refund_detail_item_list".to_owned()) {
        let items = json!([{ "amount": cumulative, "fund_channel": "ALIPAYACCOUNT" }]);
        fields.push(("refund_detail_item_list".to_owned(), items));
    }
    fields.push(text("refund_fee", &cumulative));
    if options.contains(&"refund_detail_item_list".to_owned()) {
        fields.push(text("send_back_fee", &cumulative));
    }
    fields.push(text("trade_no", &trade.trade_no));
    fields
}

fn options(biz: &Map<String, Value>) -> Vec<String> {
    let options = biz.get("query_options").and_then(Value::as_array).into_iter().flatten();
    options.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn wrong_amount(plan: &Plan) -> Option<u64> {
    plan.0.iter().find_map(|kind| match kind {
        FaultKind::WrongAmount { fen } => u64::try_from(*fen).ok(),
        _ => None,
    })
}
