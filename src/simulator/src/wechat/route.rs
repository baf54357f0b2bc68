//! From a path to a call, and from its outcome to a signed answer.

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::about::About;
use super::check::Authorization;
use super::orders::Named;
use super::refusal::Refusal;
use super::state::Merchant;
use super::{Wechat, print};
use crate::chance;
use crate::faults::{FaultKind, Keys, Plan};
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event};
use crate::wire::{Answer, Reply, WireRequest};

/// A call under `/v3`.
pub(super) enum Route {
    Prepay { partner: bool },
    Query { partner: bool, named: Named },
    Close { partner: bool, out_trade_no: String },
    Refund,
    RefundQuery { out_refund_no: String },
    RefundRepair { refund_id: String },
    Bill,
    BillFile,
    Certificates,
}

/// What a call came to.
enum Done {
    Told(Value),
    /// 204.
    Nothing,
    /// Neither signed nor JSON.
    File(Reply),
}

impl Route {
    fn of(method: &Method, path: &str) -> Option<Self> {
        if (method, path) == (&Method::GET, "/v3/certificates") {
            return Some(Self::Certificates);
        }
        match (method.as_str(), path) {
            ("GET", "/v3/bill/tradebill") => return Some(Self::Bill),
            ("GET", "/v3/billdownload/file") => return Some(Self::BillFile),
            _ => {}
        }
        if let Some(rest) = path.strip_prefix("/v3/refund/domestic/refunds") {
            let parts: Vec<&str> = rest.split('/').collect();
            return match (method.as_str(), parts.as_slice()) {
                ("POST", [""]) => Some(Self::Refund),
                ("GET", ["", number]) if !number.is_empty() => {
                    Some(Self::RefundQuery { out_refund_no: decoded(number) })
                }
                ("POST", ["", refund_id, "apply-abnormal-refund"]) => {
                    Some(Self::RefundRepair { refund_id: decoded(refund_id) })
                }
                _ => None,
            };
        }
        let (partner, rest) = match path.strip_prefix("/v3/pay/partner/transactions/") {
            Some(rest) => (true, rest),
            None => (false, path.strip_prefix("/v3/pay/transactions/")?),
        };
        let parts: Vec<&str> = rest.split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("POST", ["jsapi"]) => Some(Self::Prepay { partner }),
            ("GET", ["out-trade-no", number]) => {
                Some(Self::Query { partner, named: Named::OutTradeNo(decoded(number)) })
            }
            ("GET", ["id", id]) => Some(Self::Query { partner, named: Named::TransactionId(decoded(id)) }),
            ("POST", ["out-trade-no", number, "close"]) => Some(Self::Close { partner, out_trade_no: decoded(number) }),
            _ => None,
        }
    }

    fn call(&self) -> Call {
        match self {
            Self::Prepay { .. } => Call::Prepay,
            Self::Query { .. } => Call::Query,
            Self::Close { .. } => Call::Close,
            Self::Refund => Call::Refund,
            Self::RefundQuery { .. } => Call::RefundQuery,
            Self::RefundRepair { .. } => Call::RefundRepair,
            Self::Bill => Call::Bill,
            Self::BillFile => Call::BillFile,
            Self::Certificates => Call::Certificates,
        }
    }
}

impl Wechat {
    pub(crate) async fn handle(&self, request: WireRequest) -> Reply {
        if request.path == "/sns/jscode2session" {
            return self.session(&request).await;
        }
        let Some(route) = Route::of(&request.method, &request.path) else {
            return Answer::new(
                404,
                "application/json; charset=utf-8",
                r#"{"code":"NOT_FOUND","message":"接口不存在"}"#,
            )
            .into();
        };
        // Who it claims to be, for the ledger and the faults; nothing is done for a claim.
        let claimed = request.header("authorization").and_then(Authorization::read).map(|read| read.mchid.to_owned());
        let About { out_trade_no: number, out_refund_no } = self.about(&route, claimed.as_deref(), &request.body);
        let line = |event| {
            let mut line = Entry::new(Wallet::Wechat, route.call(), event);
            line.merchant.clone_from(&claimed);
            line.out_trade_no.clone_from(&number);
            line.out_refund_no.clone_from(&out_refund_no);
            line
        };
        let keys = Keys {
            merchant: claimed.as_deref(),
            out_trade_no: number.as_deref(),
            out_refund_no: out_refund_no.as_deref(),
            code: None,
        };
        let plan = self.ground.faults.take(Wallet::Wechat, route.call(), keys);
        let arrived = line(Event::Request).body(&request.body);
        self.ground.ledger.record(if request.backup { arrived.note("backup") } else { arrived });
        if !plan.is_empty() {
            self.ground.ledger.record(line(Event::Fault).note(plan.names()));
        }

        let merchant = claimed.as_deref().and_then(|mchid| self.merchant(mchid));
        let asked = request.header("wechatpay-serial");
        let refusal = |status: u16, code: &str| {
            let refusal = Refusal::new(status, code, "系统繁忙，请稍后重试", "268435457");
            Reply::Answer(self.refuse(merchant.as_deref(), asked, &refusal, &plan))
        };
        if let Some(reply) = plan.before(&refusal).await {
            return reply;
        }
        if plan.0.contains(&FaultKind::PaidMeanwhile)
            && let (Some(mchid), Some(number)) = (&claimed, &number)
        {
            self.pay(mchid, number);
        }
        let outcome = self.check(&request).and_then(|merchant| self.act(&route, &merchant, &request, &plan.0));
        let answer = match outcome {
            Ok(Done::File(reply)) => return plan.after(reply, &refusal).await,
            Ok(Done::Told(body)) => self.succeed(merchant.as_deref(), asked, Some(body), &plan),
            Ok(Done::Nothing) => self.succeed(merchant.as_deref(), asked, None, &plan),
            Err(refusal) => {
                self.ground.ledger.record(line(Event::Refused).status(refusal.status).error(&refusal.code));
                self.refuse(merchant.as_deref(), asked, &refusal, &plan)
            }
        };
        plan.after(answer.into(), &refusal).await
    }

    fn act(
        &self,
        route: &Route,
        merchant: &Merchant,
        request: &WireRequest,
        lies: &[FaultKind],
    ) -> Result<Done, Refusal> {
        if request.method == Method::POST
            && request.header("content-type").is_none_or(|kind| !kind.starts_with("application/json"))
        {
            return Err(Refusal::new(400, "PARAM_ERROR", "Http头Content-Type须为application/json", "268435461"));
        }
        let told = match route {
            Route::Prepay { partner } => self.prepay(merchant, *partner, &request.body),
            Route::Query { partner, named } => self.query(merchant, *partner, named, &request.query_pairs(), lies),
            Route::Close { partner, out_trade_no } => {
                return self.close(merchant, *partner, out_trade_no, &request.body).map(|()| Done::Nothing);
            }
            Route::Refund => self.refund(merchant, &request.body, lies),
            Route::RefundQuery { out_refund_no } => {
                self.refund_query(merchant, out_refund_no, &request.query_pairs(), lies)
            }
            Route::RefundRepair { refund_id } => self.refund_repair(merchant, refund_id, &request.body),
            Route::Bill => {
                self.bill(merchant, &request.query_pairs(), request.header("host").unwrap_or_default(), lies)
            }
            Route::BillFile => return self.bill_file(merchant, &request.query_pairs(), lies).map(Done::File),
            Route::Certificates => self.certificates(merchant),
        };
        told.map(Done::Told)
    }

    fn succeed(&self, merchant: Option<&Merchant>, asked: Option<&str>, body: Option<Value>, plan: &Plan) -> Answer {
        let status = if body.is_some() { 200 } else { 204 };
        let body = body.map(|body| print(&body, self.switches().pretty)).unwrap_or_default();
        self.seal(merchant, asked, status, body, "0", plan)
    }

    fn refuse(&self, merchant: Option<&Merchant>, asked: Option<&str>, refusal: &Refusal, plan: &Plan) -> Answer {
        let merchant = merchant.filter(|_| self.switches().sign_errors);
        self.seal(merchant, asked, refusal.status, print(&refusal.body(), false), refusal.internal, plan)
    }

    /// Signed, unless there is no merchant to sign for.
    fn seal(
        &self,
        merchant: Option<&Merchant>,
        asked: Option<&str>,
        status: u16,
        mut body: Vec<u8>,
        internal: &str,
        plan: &Plan,
    ) -> Answer {
        if plan.0.contains(&FaultKind::TruncatedJson) {
            body.truncate(body.len() / 2);
        }
        let signature = merchant.map(|merchant| self.signature(merchant, asked, &body, &plan.0)).unwrap_or_default();
        let mut answer = Answer { status, headers: Vec::new(), body: Bytes::from(body) };
        if status != 204 {
            answer = answer.header("Content-Type", "application/json; charset=utf-8");
        }
        let request_id = format!("{}-{internal}", chance::hex(&chance::bytes::<20>()).to_uppercase());
        answer = answer.header("Request-ID", request_id);
        answer.headers.extend(signature);
        for kind in &plan.0 {
            if let FaultKind::MissingHeader { name } = kind {
                answer = answer.without(name);
            }
        }
        answer
    }
}

/// A path segment without its percent-encoding (`+` stays a plus).
fn decoded(segment: &str) -> String {
    let escaped = segment.replace('+', "%2B");
    let pair = form_urlencoded::parse(escaped.as_bytes()).next();
    pair.map(|(name, _)| name.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_calls() {
        for (method, path, call) in [
            (Method::POST, "/v3/pay/transactions/jsapi", Some(Call::Prepay)),
            (Method::POST, "/v3/pay/partner/transactions/jsapi", Some(Call::Prepay)),
            (Method::GET, "/v3/pay/transactions/jsapi", None),
            (Method::GET, "/v3/pay/transactions/out-trade-no/T00001", Some(Call::Query)),
            (Method::GET, "/v3/pay/partner/transactions/id/4200", Some(Call::Query)),
            (Method::POST, "/v3/pay/transactions/out-trade-no/T00001/close", Some(Call::Close)),
            (Method::POST, "/v3/pay/transactions/out-trade-no/T00001", None),
            (Method::POST, "/v3/refund/domestic/refunds", Some(Call::Refund)),
            (Method::GET, "/v3/refund/domestic/refunds", None),
            (Method::GET, "/v3/refund/domestic/refunds/R1", Some(Call::RefundQuery)),
            (Method::POST, "/v3/refund/domestic/refunds/50/apply-abnormal-refund", Some(Call::RefundRepair)),
            (Method::GET, "/v3/bill/tradebill", Some(Call::Bill)),
            (Method::GET, "/v3/billdownload/file", Some(Call::BillFile)),
            (Method::GET, "/v3/certificates", Some(Call::Certificates)),
            (Method::GET, "/v3/pay/transactions/native", None),
        ] {
            assert_eq!(Route::of(&method, path).map(|route| route.call()), call, "{method} {path}");
        }
        assert_eq!(decoded("A%7CB%2A1"), "A|B*1");
    }
}
