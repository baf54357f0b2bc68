//! What the wallets tell by themselves, signed with their keys: our side verifies it for real.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use prepay::{
    domain::{
        id::{OutRefundNo, OutTradeNo},
        time::Timestamp,
        wallet::Wallet,
    },
    gateway::{PaidTrade, RawNotice, RefundStatus},
    keys::RsaSigner,
};
use serde_json::{Value, json};

use super::{
    deployment::{ALIPAY_APP, APIV3_KEY, MCHID, WECHAT_APP, WECHAT_KEY_ID, vector},
    facts::Fact,
    refunds::Back,
    wallet::{Books, Number},
};

/// What a wallet has news of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Trade(OutTradeNo),
    Refund(OutRefundNo),
}

impl Books {
    pub fn number_of(&self, about: About) -> OutTradeNo {
        match about {
            About::Trade(no) => no,
            About::Refund(no) => self.backs[&no].number,
        }
    }

    /// What whoever reads a notice about it now is told.
    pub fn fact(&self, about: About) -> Option<Fact> {
        let number = self.number_of(about);
        let paid = self.numbers[&number].payment.is_some().then_some(Fact::Paid(number));
        match about {
            // Alipay tells the trade beside its refunds, and of refunds only a sum.
            About::Refund(no) if self.numbers[&number].wallet == Wallet::WechatPay => {
                (self.backs[&no].status == RefundStatus::Success).then_some(Fact::PaidBack(number.order, no))
            }
            About::Trade(_) | About::Refund(_) => paid,
        }
    }
}

/// The wallets' own keys.
pub struct Signers {
    wechat: RsaSigner,
    alipay: RsaSigner,
}

const NONCE: &str = "0123456789ab";

impl Signers {
    pub fn new() -> Self {
        Self {
            wechat: RsaSigner::parse(&vector("wechat/java/wechat_pay_private_key.pem")).unwrap(),
            alipay: RsaSigner::parse(&vector("alipay/keys/derived/alipay_private_pkcs8.pem")).unwrap(),
        }
    }

    /// A notice about a number or a refund as it stands now; `None` when the wallet has nothing to tell.
    pub fn notice(&self, about: About, books: &Books, now: Timestamp) -> Option<RawNotice> {
        let no = books.number_of(about);
        let number = &books.numbers[&no];
        let back = match about {
            About::Trade(_) => None,
            About::Refund(refund) => Some((refund, &books.backs[&refund])),
        };
        match (number.wallet, &number.payment) {
            (Wallet::WechatPay, Some(paid)) => match back {
                Some((refund, back)) => self.wechat_refund(refund, back, paid, now),
                None => Some(self.wechat(no, paid, now)),
            },
            (Wallet::WechatPay, None) => None,
            (Wallet::Alipay, paid) if paid.is_some() || number.is_closed => Some(self.alipay(no, number, back, now)),
            (Wallet::Alipay, _) => None,
        }
    }

    /// Of a refund that ended.
    fn wechat_refund(&self, no: OutRefundNo, back: &Back, paid: &PaidTrade, now: Timestamp) -> Option<RawNotice> {
        let (kind, status) = match back.status {
            RefundStatus::Success => ("REFUND.SUCCESS", "SUCCESS"),
            RefundStatus::Abnormal => ("REFUND.ABNORMAL", "ABNORMAL"),
            RefundStatus::Closed => ("REFUND.CLOSED", "CLOSED"),
            RefundStatus::Processing => return None,
        };
        let mut plain = json!({
            "mchid": MCHID, "out_trade_no": back.number.to_string(), "transaction_id": paid.trade_no.as_str(),
            "out_refund_no": no.to_string(), "refund_id": "5030000709", "refund_status": status,
            "user_received_account": "支付用户零钱",
            "amount": { "total": paid.amount.unwrap().get(), "refund": back.amount.get() },
        });
        if back.status == RefundStatus::Success {
            plain["success_time"] = back.at.rfc3339().into();
        }
        Some(self.sealed(kind, "refund", &plain, now))
    }

    fn wechat(&self, no: OutTradeNo, paid: &PaidTrade, now: Timestamp) -> RawNotice {
        let plain = json!({
            "appid": WECHAT_APP, "mchid": MCHID, "out_trade_no": no.to_string(),
            "transaction_id": paid.trade_no.as_str(), "trade_type": "JSAPI", "trade_state": "SUCCESS",
            "success_time": paid.paid_at.rfc3339(),
            "amount": {
                "total": paid.amount.unwrap().get(), "payer_total": paid.payer_amount.unwrap().get(),
                "currency": "CNY", "payer_currency": "CNY",
            },
        });
        self.sealed("TRANSACTION.SUCCESS", "transaction", &plain, now)
    }

    fn sealed(&self, kind: &str, of: &str, plain: &Value, now: Timestamp) -> RawNotice {
        let mut sealed = plain.to_string().into_bytes();
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, APIV3_KEY.as_bytes()).unwrap());
        let nonce = Nonce::try_assume_unique_for_key(NONCE.as_bytes()).unwrap();
        key.seal_in_place_append_tag(nonce, Aad::from(of.as_bytes()), &mut sealed).unwrap();
        let body = json!({
            "id": "n1", "create_time": now.rfc3339(), "resource_type": "encrypt-resource", "summary": "news",
            "event_type": kind,
            "resource": {
                "algorithm": "AEAD_AES_256_GCM", "original_type": of, "nonce": NONCE,
                "associated_data": of, "ciphertext": STANDARD.encode(sealed),
            },
        })
        .to_string();
        let at = now.secs().to_string();
        let signature = self.wechat.sign(format!("{at}\n{NONCE}\n{body}\n").as_bytes());
        let headers = [
            ("wechatpay-timestamp", at),
            ("wechatpay-nonce", NONCE.to_owned()),
            ("wechatpay-serial", WECHAT_KEY_ID.to_owned()),
            ("wechatpay-signature", signature),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value));
        RawNotice { headers: headers.into(), body: body.into_bytes(), received_at: now }
    }

    fn alipay(&self, no: OutTradeNo, number: &Number, back: Option<(OutRefundNo, &Back)>, now: Timestamp) -> RawNotice {
        let mut fields = BTreeMap::from([
            ("app_id", ALIPAY_APP.to_owned()),
            ("notify_id", "n1".to_owned()),
            ("notify_time", now.china_text()),
            ("notify_type", "trade_status_sync".to_owned()),
            ("out_trade_no", no.to_string()),
            ("total_amount", number.amount.to_yuan()),
            ("trade_no", number.tickets[0].clone()),
            ("trade_status", "TRADE_CLOSED".to_owned()),
        ]);
        if let Some(paid) = &number.payment {
            let payer = paid.payer_amount.unwrap().get();
            fields.extend([
                ("trade_status", "TRADE_SUCCESS".to_owned()),
                ("total_amount", paid.amount.unwrap().to_yuan()),
                ("buyer_pay_amount", format!("{}.{:02}", payer / 100, payer % 100)),
                ("gmt_payment", paid.paid_at.china_text()),
            ]);
        }
        if let Some((refund, back)) = back {
            fields.extend([
                ("out_biz_no", refund.to_string()),
                ("refund_fee", back.amount.to_yuan()),
                ("gmt_refund", back.at.china_text()),
            ]);
        }
        let text: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let sign = self.alipay.sign(text.join("&").as_bytes());
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields).append_pair("sign_type", "RSA2").append_pair("sign", &sign);
        let headers = vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
        RawNotice { headers, body: form.finish().into_bytes(), received_at: now }
    }
}
