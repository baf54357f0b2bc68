//! The methods of the gateway: what each answers and what it changes.

use serde_json::{Value, json};

use super::answer::{Field, text};
use super::app::App;
use super::book::{Book, KEPT_MAX};
use super::cert;
use super::failure::Failure;
use super::gateway::{Checked, Method, Outcome};
use super::order::{self, Draft};
use super::seal::success;
use super::switches::CloseRefusal;
use super::trade::{Trade, TradeStatus};
use super::{Alipay, money, time8};
use crate::chance;
use crate::faults::{FaultKind, Plan};
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event};

impl Alipay {
    /// Runs a method whose request was checked. Its effect is in the ledger when this returns.
    pub(crate) fn run(&self, checked: &Checked<'_>) -> Outcome {
        let biz = || order::object(checked.params.get("biz_content")).unwrap_or_default();
        let number = || biz().get("out_trade_no").and_then(Value::as_str).map(|number| text("out_trade_no", number));
        match checked.method {
            Method::OauthToken => self.oauth_token(checked).map_err(|failure| (failure, Vec::new())),
            Method::Create => self.create(checked).map_err(|failure| (failure, number().into_iter().collect())),
            Method::Query => self.query(checked).map_err(|failure| (failure, zero_amounts(number()))),
            Method::Close => self.close(checked).map_err(|failure| (failure, Vec::new())),
            Method::Refund => self.refund(checked).map_err(|failure| (failure, number().into_iter().collect())),
            Method::RefundQuery => self.refund_query(checked).map_err(|failure| (failure, Vec::new())),
            Method::Bill => self.bill(checked).map_err(|failure| (failure, Vec::new())),
            Method::CertDownload => cert_download(checked).map_err(|failure| (failure, Vec::new())),
        }
    }

    /// `alipay.system.oauth.token`: top-level parameters, and a success without `code` and `msg`.
    fn oauth_token(&self, checked: &Checked<'_>) -> Result<Vec<Field>, Failure> {
        let param = |name: &str| checked.params.get(name).map(String::as_str);
        match param("grant_type") {
            Some("authorization_code") => {}
            Some("refresh_token") => {
                return Err(Failure::gateway("40002", "isv.refresh-token-invalid", "刷新令牌无效"));
            }
            _ => {
                return Err(Failure::gateway("40002", "isv.grant-type-invalid", "授权类型无效"));
            }
        }
        // Unknown, used, expired and another application's code are told apart by nobody.
        let invalid = || Failure::gateway("40002", "isv.code-invalid", "授权码code无效");
        let text_code = param("code").ok_or_else(invalid)?;
        let now_ms = self.now_ms();
        let switches = self.switches();
        let ttl_ms = i64::try_from(switches.auth_code_ttl_s).unwrap_or(i64::MAX / 1000).saturating_mul(1000);

        let mut book = self.book();
        let (owner, _) = book.owner(&checked.app, checked.params.get("app_auth_token"), false)?;
        let code = book
            .codes
            .get_mut(text_code)
            .filter(|code| !code.used && now_ms - code.issued_ms < ttl_ms && code.app_id == owner.auth_app_id)
            .ok_or_else(invalid)?;
        code.used = true;
        let user_id = code.user_id.clone();
        let open_id = book.open_id(&owner.auth_app_id, &user_id);
        let id_mode = book.apps.get(&owner.auth_app_id).map_or(checked.app.id_mode, |app| app.id_mode);
        self.record(
            Entry::new(Wallet::Alipay, Call::Exchange, Event::Exchanged)
                .merchant(&checked.app.app_id)
                .code(text_code)
                .payer(&user_id),
        );
        drop(book);

        let seconds = |span: u64| {
            if switches.numbers_as_text { json!(span.to_string()) } else { json!(span) }
        };
        let mut fields = vec![
            text("access_token", &format!("authbseB{}", chance::text(32))),
            text("auth_start", &time8::write(now_ms)),
            ("expires_in".to_owned(), seconds(1_296_000)),
        ];
        if id_mode.open_id() {
            fields.push(text("open_id", &open_id));
        }
        fields.push(("re_expires_in".to_owned(), seconds(2_592_000)));
        fields.push(text("refresh_token", &format!("authbseB{}", chance::text(32))));
        if id_mode.user_id() {
            fields.push(text("user_id", &user_id));
        }
        Ok(fields)
    }

    /// `alipay.trade.create` with `JSAPI_PAY`: the trade exists at once, bound to its buyer.
    fn create(&self, checked: &Checked<'_>) -> Result<Vec<Field>, Failure> {
        let draft = Draft::read(checked.params.get("biz_content"))?;
        let now_ms = self.now_ms();
        let switches = self.switches();
        let min_ms = i64::try_from(switches.time_expire_min_s).unwrap_or(i64::MAX / 1000).saturating_mul(1000);

        let mut book = self.book();
        let (owner, seller_id) = book.owner(&checked.app, checked.params.get("app_auth_token"), true)?;
        if draft.product_code.as_deref() != Some("JSAPI_PAY") {
            return Err(Failure::business("PRODUCT_NOT_SUPPORT_IN_TINY_APP"));
        }
        let op_app_id = draft
            .op_app_id
            .clone()
            .filter(|app_id| book.apps.contains_key(app_id))
            .ok_or_else(|| Failure::business("OPEN_ID_NOT_TINY_APP"))?;
        if !book.is_bound(&owner, &op_app_id) {
            return Err(Failure::business("UNBOUND_APPLICATION"));
        }
        if draft.seller_id.as_ref().is_some_and(|wanted| *wanted != seller_id) {
            return Err(Failure::business("INVALID_RECEIVE_ACCOUNT"));
        }
        let user_id = book.buyer(&checked.app, &op_app_id, &draft.buyer)?;
        if user_id == seller_id {
            return Err(Failure::business("BUYER_SELLER_EQUAL"));
        }

        if let Some(existing) = book.find(&owner, Some(&draft.out_trade_no), None) {
            self.pay_meanwhile(&mut book, &existing, checked.plan, now_ms);
            let existing = self.settle(&mut book, &existing, now_ms).ok_or_else(Failure::unknown)?;
            existing.repeat(&user_id, &draft.biz_content)?;
            let mut answered = existing.clone();
            if switches.repeat_makes_new_trade_no {
                answered.trade_no = book.new_trade_no(now_ms);
                answered.created_ms = now_ms;
                if !book.keep_trade(answered.clone()) {
                    return Err(Failure::unknown());
                }
            }
            self.record(answered.line(Call::Prepay, Event::Repeated));
            return Ok(self.created_fields(&book, &answered, checked.plan));
        }

        let expires_ms = draft.expires_ms(now_ms, min_ms)?;
        let hidden_ms = i64::try_from(switches.lost_create_hidden_ms).unwrap_or(0);
        let trade = Trade {
            trade_no: book.new_trade_no(now_ms),
            out_trade_no: draft.out_trade_no,
            owner,
            seller_id,
            user_id,
            op_app_id,
            amount_fen: draft.amount_fen,
            subject: draft.subject,
            body: draft.body,
            passback_params: draft.passback_params,
            notify_url: checked.params.get("notify_url").filter(|url| !url.is_empty()).cloned(),
            biz_content: draft.biz_content,
            status: TradeStatus::WaitBuyerPay,
            created_ms: now_ms,
            hidden_until_ms: if loses_answer(checked.plan) { now_ms + hidden_ms } else { now_ms },
            expires_ms,
            paid_ms: None,
            closed_ms: None,
            refunds: Vec::new(),
        };
        if !book.keep_trade(trade.clone()) {
            tracing::warn!(kept = KEPT_MAX, "no room for another trade");
            return Err(Failure::unknown());
        }
        self.record(trade.line(Call::Prepay, Event::Created));
        Ok(self.created_fields(&book, &trade, checked.plan))
    }

    fn created_fields(&self, book: &Book, trade: &Trade, plan: &Plan) -> Vec<Field> {
        let told = other_trade(book, plan).unwrap_or(trade);
        let mut fields = success();
        fields.push(text("out_trade_no", &told.out_trade_no));
        fields.push(text("trade_no", &told.trade_no));
        fields
    }

    /// `alipay.trade.query`.
    fn query(&self, checked: &Checked<'_>) -> Result<Vec<Field>, Failure> {
        let now_ms = self.now_ms();
        let mut book = self.book();
        let trade_no = self.meant(&mut book, checked, now_ms)?;
        self.pay_meanwhile(&mut book, &trade_no, checked.plan, now_ms);
        let trade = self.settle(&mut book, &trade_no, now_ms).ok_or_else(Failure::unknown)?;
        self.record(trade.line(Call::Query, Event::Queried).note(trade.status.as_str()));
        let told = other_trade(&book, checked.plan).cloned().unwrap_or(trade);
        Ok(query_fields(&mut book, &checked.app, &told))
    }

    /// `alipay.trade.close`: only a trade that waits for its buyer can be closed, and only once.
    fn close(&self, checked: &Checked<'_>) -> Result<Vec<Field>, Failure> {
        let now_ms = self.now_ms();
        let switches = self.switches();
        let mut book = self.book();
        let trade_no = self.meant(&mut book, checked, now_ms)?;
        self.pay_meanwhile(&mut book, &trade_no, checked.plan, now_ms);
        let trade = self.settle(&mut book, &trade_no, now_ms).ok_or_else(Failure::unknown)?;
        // Several trades of one number (by switch) are closed together: the number is what gets retired.
        for sibling in book.of_number(&trade.owner, &trade.out_trade_no) {
            if let Some(sibling) = book.trades.get_mut(&sibling).filter(|sibling| sibling.trade_no != trade_no) {
                // A sibling that was closed before needs nothing more.
                sibling.close(now_ms).ok();
            }
        }
        let closing = book.trades.get_mut(&trade_no).ok_or_else(Failure::unknown)?;
        closing.close(now_ms).map_err(|failure| match switches.close_refusal {
            CloseRefusal::TradeStatusError => failure,
            CloseRefusal::ReasonTradeStatusInvalid => Failure::business("REASON_TRADE_STATUS_INVALID"),
        })?;
        let closed = closing.clone();
        self.record(closed.line(Call::Close, Event::Closed));
        if switches.notify_closed {
            self.notify(&mut book, &closed);
        }
        let told = other_trade(&book, checked.plan).unwrap_or(&closed);
        let mut fields = success();
        fields.push(text("out_trade_no", &told.out_trade_no));
        fields.push(text("trade_no", &told.trade_no));
        Ok(fields)
    }

    /// The trade a query, close or refund means, by either number. Errors: `ACQ.TRADE_NOT_EXIST`, `ACQ.INVALID_PARAMETER`.
    pub(super) fn meant(&self, book: &mut Book, checked: &Checked<'_>, now_ms: i64) -> Result<String, Failure> {
        let biz = order::object(checked.params.get("biz_content"))?;
        let out_trade_no = order::field(&biz, "out_trade_no", 64)?;
        let trade_no = order::field(&biz, "trade_no", 64)?;
        if out_trade_no.is_none() && trade_no.is_none() {
            return Err(Failure::field("out_trade_no和trade_no不能同时为空"));
        }
        let (owner, _) = book.owner(&checked.app, checked.params.get("app_auth_token"), true)?;
        let missing = || Failure::business("TRADE_NOT_EXIST");
        let found = book.find(&owner, out_trade_no.as_deref(), trade_no.as_deref()).ok_or_else(missing)?;
        let visible = book.trades.get(&found).is_some_and(|trade| trade.visible(now_ms));
        if visible { Ok(found) } else { Err(missing()) }
    }

    /// Lets time do its part for one trade, and answers how it stands then.
    pub(crate) fn settle(&self, book: &mut Book, trade_no: &str, now_ms: i64) -> Option<Trade> {
        let trade = book.trades.get_mut(trade_no)?;
        let closed = trade.settle(now_ms);
        let trade = trade.clone();
        if closed {
            self.record(trade.line(Call::Close, Event::Closed).note("timed out"));
            if self.read_switches(|switches| switches.notify_closed) {
                self.notify(book, &trade);
            }
        }
        Some(trade)
    }

    /// The payer is faster than the call, when a fault says so.
    fn pay_meanwhile(&self, book: &mut Book, trade_no: &str, plan: &Plan, now_ms: i64) {
        if plan.0.contains(&FaultKind::PaidMeanwhile) {
            self.pay(book, trade_no, now_ms);
        }
    }

    pub(crate) fn record(&self, entry: Entry) {
        self.ground().ledger.record(entry);
    }
}

impl Trade {
    /// A ledger line about this trade.
    pub(crate) fn line(&self, call: Call, event: Event) -> Entry {
        Entry::new(Wallet::Alipay, call, event)
            .merchant(&self.owner.app_id)
            .out_trade_no(&self.out_trade_no)
            .trade_no(&self.trade_no)
            .payer(&self.user_id)
            .amount_fen(i64::try_from(self.amount_fen).unwrap_or(i64::MAX))
    }
}

/// `alipay.open.app.alipaycert.download`: a certificate of Alipay's for this application, by SN.
fn cert_download(checked: &Checked<'_>) -> Result<Vec<Field>, Failure> {
    let biz = order::object(checked.params.get("biz_content"))?;
    let wanted = order::field(&biz, "alipay_cert_sn", 64)?;
    let found = checked.app.alipay_certs.iter().find(|(sn, _)| Some(sn) == wanted.as_ref());
    let (_, pem) =
        found.ok_or_else(|| Failure::gateway("40002", "isv.alipay-cert-not-exist", "支付宝公钥证书不存在"))?;
    let mut fields = success();
    fields.push(text("alipay_cert_content", &cert::downloadable(pem)));
    Ok(fields)
}

fn query_fields(book: &mut Book, app: &App, trade: &Trade) -> Vec<Field> {
    let paid = trade.paid_ms.is_some();
    let amount = money::yuan(trade.amount_fen);
    let received = if paid { amount.as_str() } else { "0.00" };
    let open_id = book.open_id(&app.app_id, &trade.user_id);
    let logon_id = book.users.get(&trade.user_id).map(|user| user.logon_id.clone()).unwrap_or_default();

    let mut fields = success();
    fields.push(text("buyer_logon_id", &logon_id));
    if app.id_mode.open_id() {
        fields.push(text("buyer_open_id", &open_id));
    }
    fields.push(text("buyer_pay_amount", received));
    if app.id_mode.user_id() {
        fields.push(text("buyer_user_id", &trade.user_id));
    }
    if paid {
        let funds = json!([{ "amount": amount, "fund_channel": "ALIPAYACCOUNT" }]);
        fields.push(("fund_bill_list".to_owned(), funds));
    }
    fields.push(text("invoice_amount", received));
    fields.push(text("out_trade_no", &trade.out_trade_no));
    fields.push(text("point_amount", "0.00"));
    fields.push(text("receipt_amount", received));
    if let Some(paid_ms) = trade.paid_ms {
        fields.push(text("send_pay_date", &time8::write(paid_ms)));
    }
    fields.push(text("total_amount", &amount));
    fields.push(text("trade_no", &trade.trade_no));
    fields.push(text("trade_status", trade.status.as_str()));
    fields
}

/// What a failed query carries besides its code: amounts that are no amounts.
fn zero_amounts(number: Option<Field>) -> Vec<Field> {
    let zero = |name: &str| text(name, "0.00");
    let mut fields = vec![zero("buyer_pay_amount"), zero("invoice_amount")];
    fields.extend(number);
    fields.extend([zero("point_amount"), zero("receipt_amount")]);
    fields
}

pub(super) fn other_trade<'a>(book: &'a Book, plan: &Plan) -> Option<&'a Trade> {
    plan.0.iter().find_map(|kind| match kind {
        FaultKind::AnswerOf { out_trade_no } => book.any_of_number(out_trade_no),
        _ => None,
    })
}

/// Whether the caller will not learn what its create did.
fn loses_answer(plan: &Plan) -> bool {
    plan.0.iter().any(|kind| {
        matches!(
            kind,
            FaultKind::FailAfter { .. }
                | FaultKind::FrequencyLimitedAfter
                | FaultKind::LoseAnswer
                | FaultKind::HangAfter { .. }
                | FaultKind::HtmlAfter
                | FaultKind::CutBody
                | FaultKind::TruncatedJson
        )
    })
}
