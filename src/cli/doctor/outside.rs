//! What only the wallets' consoles and a real phone can show.

use super::Report;

/// Printed each time: none of it can be asked from here.
pub fn hints(report: &mut Report) -> anyhow::Result<()> {
    for (what, told) in [
        (
            "WeChat: request domains",
            "the exact host of front.public_url is on the mini-program's list of request domains, https, ICP-registered",
        ),
        (
            "Alipay: request domains",
            "the host is on the mini-program's list, and its build was uploaded after the list was changed",
        ),
        ("WeChat: appid and mchid", "the mini-program's appid is bound to the mchid in the merchant platform"),
        ("WeChat: plain scheme", "the page is declared for plain schemes in the mini-program's backend"),
        (
            "WeChat: payment after a launch from an app or H5 page",
            "WeChat's FAQ calls it unsupported, while merchants do it: pay 1 fen with each mini-program before it goes live",
        ),
        ("Alipay: product", "the JSAPI payment product is signed and the mini-program's APPID is bound to it"),
    ] {
        report.hint(what, told)?;
    }
    Ok(())
}
