//! What an account adds to its prepays, as options: what is not named stays as it is.

use clap::Args;

use crate::{cli::names, gateway::Extras};

#[derive(Debug, Args)]
pub struct ExtrasArgs {
    /// Have the wallet hold each payment's money until it is shared or set free, which another system does
    #[arg(long, value_name = "on|off", value_parser = names::on_off)]
    profit_sharing: Option<bool>,
    /// Name the goods to the wallet: one of the order's goodNo (at most 32 of A-Z a-z 0-9 - _; without one, none)
    #[arg(long, value_name = "on|off", value_parser = names::on_off)]
    goods_detail: Option<bool>,
    /// Let no credit card or credit line pay; WeChat Pay takes it only of merchants that it gave a permission
    #[arg(long, value_name = "on|off", value_parser = names::on_off)]
    no_credit: Option<bool>,
    /// Tell the wallet the payer's public address, as front.trusted_proxies lets it be known
    #[arg(long, value_name = "on|off", value_parser = names::on_off)]
    payer_ip: Option<bool>,
}

impl ExtrasArgs {
    pub fn write_into(&self, extras: &mut Extras) {
        for (given, kept) in [
            (self.profit_sharing, &mut extras.profit_sharing),
            (self.goods_detail, &mut extras.goods_detail),
            (self.no_credit, &mut extras.no_credit),
            (self.payer_ip, &mut extras.payer_ip),
        ] {
            if let Some(on) = given {
                *kept = on;
            }
        }
    }
}
