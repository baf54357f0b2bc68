//! Calls that cost nothing and prove keys and registration (`alipay.md` §15, smoke test).

use super::{AlipayGateway, Exchanger, client::WRONG_SIGNATURE};
use crate::{
    domain::{
        id::{AttemptNo, OrderId, OutTradeNo},
        payer::LoginCode,
    },
    gateway::{Examined, ExchangeError, Gateway, GatewayError, TradeState},
};

impl AlipayGateway {
    /// A query of a number that cannot exist, then a false code for each mini-program that takes codes.
    pub(super) async fn examined(&self, probe: OrderId) -> Vec<Examined> {
        let mut lines = vec![Examined {
            check: format!("alipay.trade.query as {}", self.settings.app_id),
            result: match self.query(&OutTradeNo { order: probe, attempt: AttemptNo::FIRST }).await {
                Ok(TradeState::NotExist) if self.caller.signers.in_order().0.is_older => Ok(
                    "gateway, APPID and Alipay's signature are right; the wallet takes the older private key still: \
                        set the new one's public key at the console"
                        .to_owned(),
                ),
                Ok(TradeState::NotExist) => Ok("gateway, APPID, signature and Alipay's signature are right".to_owned()),
                Ok(_) => Err("the number made for this check exists: use another one".to_owned()),
                Err(error) => Err(told(&error)),
            },
        }];
        let mut apps: Vec<_> = self.apps.iter().collect();
        apps.sort_by_key(|(app_id, _)| app_id.as_str().to_owned());
        for (app_id, exchanger) in apps {
            if matches!(exchanger, Exchanger::Never) {
                continue;
            }
            let false_code = LoginCode::parse("examinefalsecode00000000000000X1").expect("32 visible ASCII characters");
            lines.push(Examined {
                check: format!("alipay.system.oauth.token for mini-program {app_id}"),
                result: match self.exchange(app_id, &false_code).await {
                    Err(ExchangeError::CodeRefused { code, .. }) => {
                        Ok(format!("a false code is refused as such ({code})"))
                    }
                    Ok(_) => Err("a false code was taken: this is not Alipay".to_owned()),
                    Err(ExchangeError::Configuration { code, .. }) => Err(advice(&code)),
                    Err(error) => Err(advice(&error.to_string())),
                },
            });
        }
        lines
    }
}

fn told(error: &GatewayError) -> String {
    match error {
        GatewayError::Refused { code, .. } => advice(code),
        error => advice(&error.to_string()),
    }
}

/// What to do about it, after the wallet's code.
fn advice(code: &str) -> String {
    let table = [
        ("invalid-signature", "the private key is not the one whose public key the console holds for this APPID"),
        ("invalid-app-id", "no such APPID at this gateway (production and sandbox have their own)"),
        ("not-online-app", "the application is not released"),
        ("missing-app-cert-sn", "the console has this APPID in certificate mode: set signing to certificate"),
        ("missing-alipay-root-cert-sn", "the console has this APPID in certificate mode: set signing to certificate"),
        ("invalid-alipay-root-cert-sn", "root_cert is not Alipay's present root file"),
        ("app-cert-expired", "app_cert has expired: issue and upload a new one"),
        ("app-cert-not-exist", "app_cert does not belong to this APPID, or the console is in public-key mode"),
        ("missing-signature-config", "the console holds no key for this APPID yet"),
        (
            "insufficient-isv-permissions",
            "the product or method is not granted: sign the JSAPI product and bind the APPID",
        ),
        ("ip-forbidden", "the console's IP allow-list does not name this server"),
        ("illegal-client-ip", "the console's IP allow-list does not name this server"),
        ("self-invoke-forbidden", "a third-party application needs app_auth_token"),
        (
            "app-auth-token",
            "the authorisation is void: have the merchant authorise again and store the new app_auth_token",
        ),
        ("invalid-timestamp", "this server's clock is wrong"),
        ("illegal-timestamp", "this server's clock is wrong"),
        (WRONG_SIGNATURE, "alipay_public_key is not Alipay's key for this APPID"),
        ("unknown certificate", "add Alipay's present certificate to alipay_certs"),
    ];
    match table.iter().find(|(part, _)| code.contains(part)) {
        Some((_, advice)) => format!("{code}: {advice}"),
        None => code.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_code_comes_with_advice() {
        assert!(advice("isv.invalid-signature").contains("private key"));
        assert!(advice("aop.invalid-app-auth-token").contains("authorise again"));
        assert!(advice(&format!("alipay: outcome unknown: {WRONG_SIGNATURE}")).contains("alipay_public_key"));
        assert_eq!(advice("ACQ.SOMETHING"), "ACQ.SOMETHING");
    }
}
