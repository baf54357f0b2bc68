//! What an account adds to its prepays beyond what a payment needs.

use serde::{Deserialize, Serialize};

/// Each is off until an operator turns it on. Off is absent: from the wallet's request, and from the settings' JSON, which a
/// release without them reads for as long as none is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extras {
    /// The wallet holds the money of each payment until it is shared or set free, which is not done here.
    /// WeChat Pay: `settle_info.profit_sharing` (`wechat-pay.md` §4.1). Alipay: `extend_params.royalty_freeze` (`alipay.md` §5.1).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub profit_sharing: bool,
    /// One line made of the order, for the wallets' promotions of single items; without a `goodNo` that both take, none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub goods_detail: bool,
    /// No credit card or credit line pays.
    /// WeChat Pay: `limit_pay`, for merchants that it permits (`wechat-pay.md` §4.1). Alipay: `disable_pay_channels`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_credit: bool,
    /// Where the payer called from, when that is a public address; one that is not known is left out.
    /// WeChat Pay: `scene_info.payer_client_ip`. Alipay: `business_params.mc_create_trade_ip`, which it demands of some merchants.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub payer_ip: bool,
}

impl Extras {
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

/// An order's `goodNo` as either wallet's goods id: at most 32 (`merchant_goods_id`, `goods_id`). `None`: it is none, and no
/// goods are sent, because a promotion must not be lost to a payment that the wallet refuses.
///
/// Letters, digits, `-` and `_` are what both take for sure; the references give no alphabet (U).
pub(super) fn goods_id(good_no: Option<&str>) -> Option<&str> {
    const GOODS_ID_MAX: usize = 32;
    good_no.filter(|id| {
        (1..=GOODS_ID_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_is_absent() {
        let text = |extras: Extras| serde_json::to_string(&extras).unwrap();
        assert_eq!((text(Extras::default()).as_str(), Extras::default().is_off()), ("{}", true));
        let sharing = Extras { profit_sharing: true, ..Extras::default() };
        assert_eq!((text(sharing).as_str(), sharing.is_off()), (r#"{"profit_sharing":true}"#, false));
        let all = Extras { profit_sharing: true, goods_detail: true, no_credit: true, payer_ip: true };
        for extras in [Extras::default(), sharing, all] {
            assert_eq!(serde_json::from_str::<Extras>(&text(extras)).unwrap(), extras);
        }
        assert!(serde_json::from_str::<Extras>(r#"{"goods_tag":"x"}"#).is_err());
    }

    #[test]
    fn a_goods_id_is_what_both_wallets_take() {
        let longest = "A".repeat(32);
        for id in ["1", "sku-1_B", longest.as_str()] {
            assert_eq!(goods_id(Some(id)), Some(id));
        }
        let too_long = "A".repeat(33);
        for id in [None, Some(""), Some("咖啡"), Some("a b"), Some("a/b"), Some(too_long.as_str())] {
            assert_eq!(goods_id(id), None, "{id:?}");
        }
    }
}
