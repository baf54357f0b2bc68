//! How an answer leaves: its envelope, its signature, and the lies a fault asks for.

use super::Alipay;
use super::answer::{Envelope, Field, Signer, node_name, text};
use super::app::{self, App, Mode};
use super::failure::Failure;
use super::gateway::{Method, Outcome};
use super::switches::Switches;
use crate::chance;
use crate::faults::{FaultKind, Plan};
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event};
use crate::wire::{Answer, Reply};

impl Alipay {
    /// Puts an outcome into its envelope, with the lies of the plan.
    pub(super) fn sealed(
        &self,
        method: Option<Method>,
        method_name: &str,
        app: Option<&App>,
        plan: &Plan,
        outcome: Outcome,
    ) -> Reply {
        let switches = self.switches();
        let (mut fields, failure) = match outcome {
            Ok(fields) => (fields, None),
            Err((failure, extra)) => (failure.fields().into_iter().chain(extra).collect(), Some(failure)),
        };
        for kind in &plan.0 {
            if let FaultKind::WrongAmount { fen } = kind {
                let yuan = super::money::yuan(u64::try_from(*fen).unwrap_or(0));
                for (_, value) in fields.iter_mut().filter(|(name, _)| name == "total_amount") {
                    *value = yuan.clone().into();
                }
            }
        }
        let exchange_failed = failure.is_some() && matches!(method, Some(Method::OauthToken) | None);
        let node = if exchange_failed { "error_response".to_owned() } else { node_name(method_name) };
        let unsigned = failure.is_some_and(|failure| failure.unsigned || !switches.sign_failures);
        let body = self.envelope(&node, &fields, app, plan, &switches, unsigned);
        let cut = plan.0.contains(&FaultKind::TruncatedJson);
        let body = if cut { half(&body).to_owned() } else { body };
        html(body)
    }

    fn envelope(
        &self,
        node: &str,
        fields: &[Field],
        app: Option<&App>,
        plan: &Plan,
        switches: &Switches,
        unsigned: bool,
    ) -> String {
        let stranger = plan.0.contains(&FaultKind::WrongSignature).then(app::stranger);
        let mut signer = match app {
            Some(app) if !unsigned => Signer::Key(&app.alipay_key),
            _ => Signer::Nobody,
        };
        let mut cert_sn = app.filter(|app| app.mode == Mode::Certificate).map(|app| app.alipay_cert_sn().to_owned());
        let mut wrong_sn = switches.wrong_cert_sn;
        for kind in &plan.0 {
            match kind {
                FaultKind::WrongSignature => {
                    if let Some(stranger) = &stranger {
                        signer = Signer::Key(stranger);
                    }
                }
                FaultKind::UndecodableSignature => signer = Signer::Text("%%% no base64 %%%"),
                FaultKind::Unsigned => signer = Signer::Nobody,
                FaultKind::UnknownSerial => wrong_sn = true,
                _ => {}
            }
        }
        if wrong_sn && cert_sn.is_some() {
            cert_sn = Some(chance::hex(&chance::bytes::<16>()));
        }
        Envelope { node_name: node, cert_sn: cert_sn.as_deref(), signer, layout: switches.layout }.write(fields)
    }

    /// A failure of a request that names no method or cannot be read.
    pub(super) fn bare(&self, failure: &Failure) -> Reply {
        self.ground().ledger.record(Entry::new(Wallet::Alipay, Call::Other, Event::Refused).error(&failure.sub_code));
        let envelope = Envelope {
            node_name: "error_response",
            cert_sn: None,
            signer: Signer::Nobody,
            layout: self.read_switches(|switches| switches.layout),
        };
        html(envelope.write(&failure.fields()))
    }
}

/// The failure a fault asks for by its code; `None` for an empty one.
pub(super) fn ordered(code: &str) -> Option<Failure> {
    Some(match code {
        "" => return None,
        "FREQUENCY_LIMITED" | "isv.app-call-limited" => Failure::limited(),
        "isv.method-call-limited" => Failure::gateway("40005", code, "接口调用次数超限"),
        "isp.unknow-error" | "aop.unknow-error" | "aop.ACQ.SYSTEM_ERROR" => Failure::gateway("20000", code, "系统繁忙"),
        _ if code.starts_with("aop.") => Failure::gateway("20001", code, "授权权限不足"),
        _ if code.contains("permissions") || code.contains("forbidden") => Failure::gateway("40006", code, "权限不足"),
        _ if code.starts_with("isv.missing") => Failure::missing(code),
        _ if code.starts_with("isv.") => Failure::gateway("40002", code, "参数无效"),
        _ => Failure::business(code.strip_prefix("ACQ.").unwrap_or(code)),
    })
}

fn html(body: String) -> Reply {
    Answer::new(200, "text/html;charset=utf-8", body).header("trace_id", chance::hex(&chance::bytes::<16>())).into()
}

/// The first half of a text, at a character's boundary.
fn half(text: &str) -> &str {
    let mut at = text.len() / 2;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    &text[..at]
}

/// The fields every success but a token answer begins with.
pub(crate) fn success() -> Vec<Field> {
    vec![text("code", "10000"), text("msg", "Success")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_may_order_any_failure() {
        for (code, class, sub_code) in [
            ("FREQUENCY_LIMITED", "40005", "isv.app-call-limited"),
            ("isp.unknow-error", "20000", "isp.unknow-error"),
            ("SYSTEM_ERROR", "40004", "ACQ.SYSTEM_ERROR"),
            ("ACQ.SYSTEM_ERROR", "40004", "ACQ.SYSTEM_ERROR"),
            ("isv.insufficient-isv-permissions", "40006", "isv.insufficient-isv-permissions"),
            ("aop.invalid-app-auth-token", "20001", "aop.invalid-app-auth-token"),
        ] {
            let failure = ordered(code).unwrap();
            assert_eq!((failure.code, failure.sub_code.as_str()), (class, sub_code));
        }
        assert_eq!(ordered(""), None);
        assert_eq!(half("中文字"), "中");
    }
}
