//! What an account adds to its prepays, byte for byte.

use super::*;
use crate::domain::payer::PayerIp;

/// An order that could give everything.
fn whole_ask() -> PrepayAsk {
    PrepayAsk { good_no: Some("SKU-1".into()), payer_ip: PayerIp::new([1, 1, 1, 1].into()), ..ask() }
}

fn frozen(mode: Mode, ask: &PrepayAsk, change: impl FnOnce(&mut WechatSettings)) -> String {
    let mut settings = settings_of(mode, "http://127.0.0.1:1", "");
    change(&mut settings);
    gateway_with(&settings, pinned()).freeze(ask).unwrap().body
}

/// The body of an account that adds nothing, and what stands at the end of this one beyond it.
fn added(mode: Mode, ask: &PrepayAsk, change: impl FnOnce(&mut WechatSettings)) -> String {
    let plain = frozen(mode.clone(), &super::ask(), |_| {});
    let body = frozen(mode, ask, change);
    let rest = body.strip_prefix(plain.strip_suffix('}').unwrap());
    rest.unwrap_or_else(|| panic!("{body} does not begin as {plain}")).to_owned()
}

fn everything(settings: &mut WechatSettings) {
    settings.extras = Extras { profit_sharing: true, goods_detail: true, no_credit: true, payer_ip: true };
    settings.goods_tag = Some("SPRING".into());
}

#[test]
fn an_account_that_adds_nothing_sends_the_same_bytes_whatever_is_known() {
    for mode in [direct(), provider()] {
        assert_eq!(added(mode, &whole_ask(), |_| {}), "}");
    }
}

#[test]
fn each_setting_adds_its_own_field_at_the_end() {
    const GOODS: &str = concat!(
        r#","detail":{"goods_detail":[{"merchant_goods_id":"SKU-1","goods_name":"咖啡（大杯）& \"甜\"","#,
        r#""quantity":1,"unit_price":100}]}}"#
    );
    type Change = fn(&mut WechatSettings);
    let each: [(Change, &str); 5] = [
        (|settings| settings.goods_tag = Some("SPRING".into()), r#","goods_tag":"SPRING"}"#),
        (|settings| settings.extras.no_credit = true, r#","limit_pay":["no_credit"]}"#),
        (|settings| settings.extras.goods_detail = true, GOODS),
        (|settings| settings.extras.payer_ip = true, r#","scene_info":{"payer_client_ip":"1.1.1.1"}}"#),
        (|settings| settings.extras.profit_sharing = true, r#","settle_info":{"profit_sharing":true}}"#),
    ];
    let all: String = each.iter().map(|(_, text)| text.strip_suffix('}').unwrap()).collect();
    for mode in [direct(), provider()] {
        for (change, text) in each {
            assert_eq!(added(mode.clone(), &whole_ask(), change), text);
        }
        assert_eq!(added(mode, &whole_ask(), everything), format!("{all}}}"));
    }
}

/// An order without a goods id, or one that WeChat would not take, is paid without goods; a payer of no known address is not named.
#[test]
fn what_is_not_known_is_left_out() {
    let rest = r#","goods_tag":"SPRING","limit_pay":["no_credit"],"settle_info":{"profit_sharing":true}}"#;
    for good_no in [None, Some("咖啡".to_owned()), Some("9".repeat(33))] {
        let ask = PrepayAsk { good_no, payer_ip: None, ..whole_ask() };
        assert_eq!(added(direct(), &ask, everything), rest);
    }
    let v6 = PrepayAsk { payer_ip: PayerIp::new("2400:3200::1".parse().unwrap()), ..ask() };
    let named = added(direct(), &v6, |settings| settings.extras.payer_ip = true);
    assert_eq!(named, r#","scene_info":{"payer_client_ip":"2400:3200::1"}}"#);
}
