//! Notices: forms signed over their decoded values (`alipay.md` §7).

use std::{collections::BTreeMap, sync::Arc};

use super::{
    keyring::{KeyRing, Unverified},
    settings::{AlipayPublicKeys, AlipaySettings, Mode},
    wire::{Facts, is_positive},
};
use crate::{
    domain::{
        id::{OutRefundNo, OutTradeNo},
        time::Timestamp,
    },
    gateway::{
        Notice, NoticeError, NoticeVerifier, RawNotice, RefundNotice, RefundSeen, RefundStatus, Trade, TradeState,
        Verified,
    },
};

/// Verifies an account's notices with public keys alone.
pub struct AlipayNoticeVerifier {
    settings: AlipaySettings,
    keys: Arc<KeyRing>,
}

impl AlipayNoticeVerifier {
    /// Errors: words for the operator.
    pub fn new(settings: AlipaySettings, public_keys: AlipayPublicKeys) -> Result<Self, String> {
        let keys = Arc::new(KeyRing::new(settings.signing, public_keys)?);
        Ok(Self::with_keys(settings, keys))
    }

    pub(super) fn with_keys(settings: AlipaySettings, keys: Arc<KeyRing>) -> Self {
        Self { settings, keys }
    }

    /// Verifies and reads. Errors: [`NoticeError`].
    pub(super) fn open(&self, raw: &RawNotice) -> Result<Verified<Notice>, NoticeError> {
        let form = self.verified_form(raw)?;
        let notice = self.read(&form, raw.received_at)?;
        Ok(Verified::by_signature(notice))
    }

    fn verified_form(&self, raw: &RawNotice) -> Result<Form, NoticeError> {
        let form = Form::parse(&raw.body).map_err(NoticeError::Forged)?;
        if form.get("sign_type") != Some(b"RSA2".as_slice()) {
            return Err(NoticeError::Forged("sign_type is not RSA2"));
        }
        let sign = form.text("sign").ok_or(NoticeError::Forged("no signature"))?;
        let alipay_cert_sn = form.text("alipay_cert_sn");
        for message in form.strings_to_verify() {
            match self.keys.verify(&message, sign, alipay_cert_sn) {
                Ok(()) => return Ok(form),
                Err(Unverified::Wrong) => {}
                Err(Unverified::UnknownCertificate(sn)) => return Err(NoticeError::UnknownKey(sn)),
            }
        }
        Err(NoticeError::Forged("wrong signature"))
    }

    fn read(&self, form: &Form, received_at: Timestamp) -> Result<Notice, NoticeError> {
        if form.text("notify_type") != Some("trade_status_sync") {
            return Ok(Notice::Other("not a notice about a trade's state".to_owned()));
        }
        let Some(out_trade_no) = form.text("out_trade_no").and_then(|text| OutTradeNo::parse(text).ok()) else {
            return Ok(Notice::Other("out_trade_no is not one of ours".to_owned()));
        };
        let foreign = self.foreign(form);
        let paid_at = form.text("gmt_payment");
        let facts = Facts {
            trade_status: form.text("trade_status"),
            trade_no: form.text("trade_no"),
            total_amount: form.text("total_amount"),
            buyer_pay_amount: form.text("buyer_pay_amount"),
            paid_at,
            // Not buyer_pay_amount: the documents do not say what it is in a notice about an unpaid trade.
            money_moved: paid_at.is_some()
                || form.text("gmt_refund").is_some()
                || form.text("fund_bill_list").is_some_and(|text| text != "[]")
                || ["refund_fee", "send_back_fee"].into_iter().any(|name| form.text(name).is_some_and(is_positive)),
        };
        let told_at = form.text("notify_time").and_then(Timestamp::parse_china_text).unwrap_or(received_at);
        let state = facts.state(told_at, foreign.map(str::to_owned)).map_err(NoticeError::Unreadable)?;
        if let (TradeState::Paid(paid), None, Some((out_refund_no, at))) = (&state, foreign, refunded(form)) {
            let seen = RefundSeen {
                status: RefundStatus::Success,
                wallet_refund_no: None,
                // `refund_fee` is the sum of all refunds.
                amount: None,
                total: paid.amount,
                at: Some(at),
            };
            let refund = RefundNotice { out_trade_no, out_refund_no, seen, trade: Some(state) };
            return Ok(Notice::Refund(refund));
        }
        match (&state, foreign) {
            // A stranger's "closed" must not retire a number of ours; a stranger's "paid" is told with its mark.
            (TradeState::Paid(_), _) | (_, None) => Ok(Notice::Payment(Trade { out_trade_no, state })),
            (_, Some(field)) => Ok(Notice::Other(format!("{field} is not this account's"))),
        }
    }

    /// The first field that names another application or receiver than this account's (`alipay.md` §7.4).
    ///
    /// Which of `app_id` and `auth_app_id` is whose in provider mode is unconfirmed, so either one may match either number.
    fn foreign(&self, form: &Form) -> Option<&'static str> {
        let ours = |id: &str| {
            id == self.settings.app_id.as_str()
                || self.settings.merchant_app_id.as_ref().is_some_and(|merchant| id == merchant.as_str())
        };
        let (app_id, auth_app_id) = (form.text("app_id"), form.text("auth_app_id"));
        if !app_id.into_iter().chain(auth_app_id).any(ours) {
            return Some("app_id");
        }
        // One provider's notices for all its merchants carry the provider's number: the merchant's tells them apart.
        if self.settings.mode == Mode::Provider
            && self.settings.merchant_app_id.is_some()
            && auth_app_id.is_some_and(|id| !ours(id))
        {
            return Some("auth_app_id");
        }
        match (&self.settings.seller_id, form.text("seller_id")) {
            (Some(wanted), Some(told)) if wanted != told => Some("seller_id"),
            _ => None,
        }
    }
}

/// The refund of ours that a notice about a paid trade tells of, and when the money went back (`alipay.md` §7.5, refunds).
///
/// Without a number of ours (a refund made in the merchant's own console, or no refund at all) it is news of the payment alone.
fn refunded(form: &Form) -> Option<(OutRefundNo, Timestamp)> {
    let at = form.text("gmt_refund").and_then(Timestamp::parse_china_text)?;
    let out_refund_no = form.text("out_biz_no").and_then(|text| OutRefundNo::parse(text).ok())?;
    form.text("refund_fee").is_some_and(is_positive).then_some((out_refund_no, at))
}

impl NoticeVerifier for AlipayNoticeVerifier {
    fn verify(&self, raw: &RawNotice) -> Result<(), NoticeError> {
        self.verified_form(raw).map(|_| ())
    }

    /// Exactly these seven bytes (`alipay.md` §7.5).
    fn accepted(&self) -> (u16, &'static str) {
        (200, "success")
    }

    /// Anything but `success` is "not received"; the status says it to people and proxies as well.
    fn rejected(&self) -> (u16, &'static str) {
        (500, "fail")
    }
}

/// A form, each name and value decoded once into the bytes that were signed: in GBK forms they are GBK, and nothing here
/// needs to know, because every field that is read is ASCII.
struct Form {
    fields: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Form {
    /// Errors: a name twice (two readers could take different ones), or absurdly many.
    fn parse(body: &[u8]) -> Result<Self, &'static str> {
        /// Real notices have about thirty.
        const FIELDS_MAX: usize = 200;
        let mut fields = BTreeMap::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let (name, value) = (decode(&pair[..at]), decode(pair.get(at + 1..).unwrap_or_default()));
            if fields.insert(name, value).is_some() {
                return Err("a name stands twice");
            }
            if fields.len() > FIELDS_MAX {
                return Err("too many fields");
            }
        }
        Ok(Self { fields })
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(name.as_bytes()).map(Vec::as_slice)
    }

    /// A field as text; empty counts as absent, because the signature may leave empties out.
    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok()).filter(|text| !text.is_empty())
    }

    /// What may have been signed, likeliest first: the fields as received; without the empty ones; without
    /// `alipay_cert_sn`; without both. The sources differ (`alipay.md` §7.3).
    ///
    /// `sign_type` is left out as `sign` is, except in messages of the application gateway, which carry `msg_method`.
    fn strings_to_verify(&self) -> Vec<Vec<u8>> {
        let keeps_sign_type = self.get("msg_method").is_some();
        let string = |empties: bool, cert_sn: bool| {
            let mut text = Vec::new();
            for (name, value) in &self.fields {
                let left_out = match name.as_slice() {
                    b"sign" => true,
                    b"sign_type" => !keeps_sign_type,
                    b"alipay_cert_sn" => !cert_sn,
                    _ => false,
                };
                if left_out || (value.is_empty() && !empties) {
                    continue;
                }
                if !text.is_empty() {
                    text.push(b'&');
                }
                text.extend_from_slice(name);
                text.push(b'=');
                text.extend_from_slice(value);
            }
            text
        };
        let mut strings: Vec<Vec<u8>> = Vec::new();
        for text in [string(true, true), string(false, true), string(true, false), string(false, false)] {
            if !strings.contains(&text) {
                strings.push(text);
            }
        }
        strings
    }
}

/// `+` is a blank, percent sequences are bytes; once, never twice.
fn decode(part: &[u8]) -> Vec<u8> {
    let blanks: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_encoding::percent_decode(&blanks).collect()
}

#[cfg(test)]
mod tests;
