//! What an account adds to its creates, byte for byte.

use super::*;
use crate::domain::payer::PayerIp;

const APP: &str = "2021000000000001";

/// An order that could give everything.
fn whole_ask() -> PrepayAsk {
    let payer_ip = PayerIp::new([1, 1, 1, 1].into());
    PrepayAsk { good_no: Some("SKU-1".to_owned()), good_name: "A/B".to_owned(), payer_ip, ..ask(APP) }
}

/// The `biz_content` of an account with these extras.
fn frozen(ask: &PrepayAsk, extras: &str) -> String {
    let apps = vec![app(APP, CodeExchange::CallingApp)];
    let settings = settings(PRODUCTION, &format!(r#","extras":{extras}"#));
    let gateway = AlipayGateway::new(settings, secrets(), public_keys(), apps, http_client()).unwrap();
    gateway.freeze(ask).unwrap().body
}

/// The body of an account that adds nothing, and what stands at the end of this one beyond it.
fn added(ask: &PrepayAsk, extras: &str) -> String {
    let plain = gateway(PRODUCTION).freeze(ask).unwrap().body;
    let body = frozen(ask, extras);
    let rest = body.strip_prefix(plain.strip_suffix('}').unwrap());
    rest.unwrap_or_else(|| panic!("{body} does not begin as {plain}")).to_owned()
}

const EVERYTHING: &str = r#"{"profit_sharing":true,"goods_detail":true,"no_credit":true,"payer_ip":true}"#;

#[test]
fn an_account_that_adds_nothing_sends_the_same_bytes_whatever_is_known() {
    let known = PrepayAsk { good_name: ask(APP).good_name, ..whole_ask() };
    assert_eq!(frozen(&known, "{}"), gateway(PRODUCTION).freeze(&ask(APP)).unwrap().body);
}

#[test]
fn each_setting_adds_its_own_field_at_the_end() {
    let each = [
        (
            r#"{"goods_detail":true}"#,
            r#","goods_detail":[{"goods_id":"SKU-1","goods_name":"A／B","quantity":1,"price":"88.88"}]}"#,
        ),
        (r#"{"no_credit":true}"#, r#","disable_pay_channels":"credit_group"}"#),
        (r#"{"profit_sharing":true}"#, r#","extend_params":{"royalty_freeze":"true"}}"#),
        (r#"{"payer_ip":true}"#, r#","business_params":{"mc_create_trade_ip":"1.1.1.1"}}"#),
    ];
    for (extras, text) in each {
        assert_eq!(added(&whole_ask(), extras), text);
    }
    let all: String = each.iter().map(|(_, text)| text.strip_suffix('}').unwrap()).collect();
    assert_eq!(added(&whole_ask(), EVERYTHING), format!("{all}}}"));
}

/// An order without a goods id, with one that Alipay would not take, or too dear for a line of goods is paid without goods; a
/// payer of no known address is not named.
#[test]
fn what_is_not_known_is_left_out() {
    let rest = r#","disable_pay_channels":"credit_group","extend_params":{"royalty_freeze":"true"}}"#;
    for good_no in [None, Some("咖啡".to_owned()), Some("9".repeat(33))] {
        let ask = PrepayAsk { good_no, payer_ip: None, ..whole_ask() };
        assert_eq!(added(&ask, EVERYTHING), rest);
    }
    for (fen, has_goods) in [(99_999_999, true), (100_000_000, false)] {
        let ask = PrepayAsk { amount: Fen::new(fen).unwrap(), ..whole_ask() };
        assert_eq!(added(&ask, EVERYTHING).contains("goods_id"), has_goods, "{fen}");
    }
    let v6 = PrepayAsk { payer_ip: PayerIp::new("2400:3200::1".parse().unwrap()), ..ask(APP) };
    assert_eq!(
        added(&v6, EVERYTHING).split_once("business").unwrap().1,
        r#"_params":{"mc_create_trade_ip":"2400:3200::1"}}"#
    );
}
