//! `/gateway.do`: what is checked before a method runs, and how its answer leaves.

use std::sync::Arc;

use super::answer::Field;
use super::app::{self, App, Kind, Mode};
use super::failure::Failure;
use super::seal::ordered;
use super::sign::{Params, request_text};
use super::{Alipay, form, time8};
use crate::faults::{Keys, Plan};
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event};
use crate::wire::{Answer, Reply, WireRequest};

/// The methods served here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    OauthToken,
    Create,
    Query,
    Close,
    Refund,
    RefundQuery,
    Bill,
    CertDownload,
}

impl Method {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "alipay.system.oauth.token" => Self::OauthToken,
            "alipay.trade.create" => Self::Create,
            "alipay.trade.query" => Self::Query,
            "alipay.trade.close" => Self::Close,
            "alipay.trade.refund" => Self::Refund,
            "alipay.trade.fastpay.refund.query" => Self::RefundQuery,
            "alipay.data.dataservice.bill.downloadurl.query" => Self::Bill,
            "alipay.open.app.alipaycert.download" => Self::CertDownload,
            _ => return None,
        })
    }

    pub(crate) fn call(self) -> Call {
        match self {
            Self::OauthToken => Call::Exchange,
            Self::Create => Call::Prepay,
            Self::Query => Call::Query,
            Self::Close => Call::Close,
            Self::Refund => Call::Refund,
            Self::RefundQuery => Call::RefundQuery,
            Self::Bill => Call::Bill,
            Self::CertDownload => Call::Other,
        }
    }

    /// Whether it belongs to the payment product, with its permissions.
    pub(crate) fn collects(self) -> bool {
        matches!(self, Self::Create | Self::Query | Self::Close | Self::Refund | Self::RefundQuery)
    }
}

/// A request that may run.
pub(crate) struct Checked<'a> {
    pub app: Arc<App>,
    pub method: Method,
    pub params: &'a Params,
    /// Where the request came to.
    pub host: &'a str,
    pub plan: &'a Plan,
}

/// What an answer is made of, before its envelope.
pub(crate) type Outcome = Result<Vec<Field>, (Failure, Vec<Field>)>;

impl Alipay {
    pub(crate) async fn handle(&self, request: WireRequest) -> Reply {
        let params = match form::params(request.query.as_deref(), &request.body) {
            Ok(params) => params,
            Err(failure) => return self.bare(&failure),
        };
        let Some(method_name) = params.get("method").filter(|name| !name.is_empty()) else {
            return self.bare(&Failure::missing("isv.missing-method"));
        };
        let method = Method::of(method_name);
        let call = method.map_or(Call::Other, Method::call);
        let about = self.about(&params);
        let line = |event| self.line(call, event, &params, &about);

        self.ground()
            .ledger
            .record(line(Event::Request).body(params.get("biz_content").map_or("", String::as_str).as_bytes()));
        let plan = self.ground().faults.take(Wallet::Alipay, call, about.keys(&params));
        if !plan.is_empty() {
            self.ground().ledger.record(line(Event::Fault).note(plan.names()));
        }

        let app = params.get("app_id").and_then(|app_id| self.book().apps.get(app_id).cloned());
        let refusal = |status: u16, code: &str| {
            let failure = ordered(code);
            if status >= 500 && failure.is_none() {
                return Answer::new(status, "text/html", "<html><body>Service Unavailable</body></html>").into();
            }
            let failure = failure.unwrap_or_else(Failure::unknown);
            self.ground().ledger.record(line(Event::Refused).error(&failure.sub_code));
            self.sealed(method, method_name, app.as_deref(), &Plan::default(), Err((failure, Vec::new())))
        };
        if let Some(reply) = plan.before(refusal).await {
            return reply;
        }

        let outcome = match self.check(&params, method, app.clone()) {
            Ok((app, method)) => {
                let host = request.header("host").unwrap_or_default();
                self.run(&Checked { app, method, params: &params, host, plan: &plan })
            }
            Err(failure) => Err((failure, Vec::new())),
        };
        if let Err((failure, _)) = &outcome {
            self.ground().ledger.record(line(Event::Refused).error(&failure.sub_code));
        }
        let reply = self.sealed(method, method_name, app.as_deref(), &plan, outcome);
        plan.after(reply, refusal).await
    }

    /// Everything the gateway looks at before a method; `app_id` comes before the signature.
    fn check(
        &self,
        params: &Params,
        method: Option<Method>,
        app: Option<Arc<App>>,
    ) -> Result<(Arc<App>, Method), Failure> {
        let given = |name: &str| params.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let required = |name: &str, sub_code: &str| given(name).ok_or_else(|| Failure::missing(sub_code));
        let invalid = |sub_code: &str, text: &str| Failure::gateway("40002", sub_code, text);

        required("app_id", "isv.missing-app-id").map_err(Failure::without_signature)?;
        let app = app.ok_or_else(|| invalid("isv.invalid-app-id", "无效的AppID参数").without_signature())?;
        let method = method.ok_or_else(|| invalid("isv.invalid-method", "不存在的方法名"))?;
        if given("format").is_some_and(|format| format != "JSON") {
            return Err(invalid("isv.invalid-format", "无效的数据格式"));
        }
        if given("charset").is_none() {
            return Err(invalid("isv.invalid-charset", "字符集错误，目前支持GBK、UTF-8"));
        }
        if required("sign_type", "isv.missing-signature-type")? != "RSA2" {
            return Err(invalid("isv.invalid-signature-type", "无效的签名类型"));
        }
        if required("version", "isv.missing-version")? != "1.0" {
            return Err(invalid("isv.invalid-version", "无效的版本"));
        }
        let at_ms = time8::read(required("timestamp", "isv.missing-timestamp")?)
            .ok_or_else(|| invalid("isv.invalid-timestamp", "非法的时间戳参数"))?;
        let tolerance_s = self.read_switches(|switches| switches.timestamp_tolerance_s);
        if (self.now_ms() - at_ms).unsigned_abs() > tolerance_s.saturating_mul(1000) {
            return Err(invalid("isv.illegal-timestamp", "时间戳超出允许范围，应为东八区时间"));
        }
        if given("encrypt_type").is_some() {
            return Err(invalid("isv.invalid-encrypt-type", "无效的加密类型"));
        }
        if form::suspicious(params) {
            return Err(invalid("isv.suspected-attack", "可疑的攻击请求"));
        }
        if app.mode == Mode::Certificate {
            if required("app_cert_sn", "isv.missing-app-cert-sn")? != app.app_cert_sn {
                return Err(invalid("isv.app-cert-not-exist", "应用公钥证书不存在"));
            }
            if required("alipay_root_cert_sn", "isv.missing-alipay-root-cert-sn")? != app::root_sn() {
                return Err(invalid("isv.invalid-alipay-root-cert-sn", "支付宝根证书序列号错误"));
            }
        }
        let signature = required("sign", "isv.missing-signature")?;
        let text = request_text(params);
        if !app.app_key.verifies(text.as_bytes(), signature) {
            // The live gateway repeats the whole text, codes and ids included; who logs sub_msg leaks them.
            let why =
                format!("验签出错，建议检查签名字符串或签名私钥与应用公钥是否匹配，网关生成的验签字符串为：{text}");
            return Err(invalid("isv.invalid-signature", &why));
        }
        if given("notify_url").is_some_and(|url| url.chars().count() > 256) {
            return Err(invalid("isv.invalid-parameter", "notify_url超长"));
        }
        if method.collects() && !app.may_collect && app.kind == Kind::Own {
            return Err(Failure::gateway(
                "40006",
                "isv.insufficient-isv-permissions",
                "ISV权限不足，建议在开发者中心检查签约是否已经生效",
            ));
        }
        Ok((app, method))
    }

    /// A ledger line about this request.
    fn line(&self, call: Call, event: Event, params: &Params, about: &About) -> Entry {
        let mut entry = Entry::new(Wallet::Alipay, call, event);
        if let Some(app_id) = params.get("app_id") {
            entry = entry.merchant(app_id);
        }
        if let Some(number) = &about.out_trade_no {
            entry = entry.out_trade_no(number);
        }
        if let Some(number) = &about.out_request_no {
            entry = entry.out_refund_no(number);
        }
        if let Some(code) = &about.code {
            entry = entry.code(code);
        }
        entry
    }

    /// Which trade or code a request is about, as far as can be told before it is checked.
    fn about(&self, params: &Params) -> About {
        let biz: serde_json::Value =
            params.get("biz_content").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let by_trade_no = || {
            let trade_no = biz["trade_no"].as_str()?;
            self.book().trades.get(trade_no).map(|trade| trade.out_trade_no.clone())
        };
        let refunds = params.get("method").is_some_and(|method| method.contains("refund"));
        let out_request_no = biz["out_request_no"].as_str().or_else(|| biz["out_trade_no"].as_str());
        About {
            out_request_no: out_request_no.filter(|_| refunds).map(str::to_owned),
            out_trade_no: biz["out_trade_no"].as_str().map(str::to_owned).or_else(by_trade_no),
            code: params.get("code").filter(|code| !code.is_empty()).cloned(),
        }
    }
}

struct About {
    out_trade_no: Option<String>,
    /// Of a refund; the trade's own number when it has none.
    out_request_no: Option<String>,
    code: Option<String>,
}

impl About {
    fn keys<'a>(&'a self, params: &'a Params) -> Keys<'a> {
        Keys {
            merchant: params.get("app_id").map(String::as_str),
            out_trade_no: self.out_trade_no.as_deref(),
            code: self.code.as_deref(),
            out_refund_no: self.out_request_no.as_deref(),
        }
    }
}
