//! Trade bills: applied for, downloaded, their SHA-1 checked (`wechat-pay.md` §9).

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    path::Path,
};

use aws_lc_rs::digest;
use flate2::read::MultiGzDecoder;
use reqwest::Method;
use serde::Deserialize;

use super::{
    WechatGateway,
    client::CallError,
    other_success,
    refusal::{Refusal, not_sent},
    settings::{Hosts, Mode},
    unknown,
};
use crate::gateway::{
    GatewayError,
    bill::{
        BillDate, BillError, BillFile,
        download::{self, Limits, Unfinished},
        unusable,
    },
    http::read_body,
};

mod rows;

pub(super) use rows::Rows;

/// Where a download may be told to lie; asked for at our own main host, because paths and signatures hold at all of them (§11).
const FILE_HOSTS: [&str; 4] =
    ["api.mch.weixin.qq.com", "api2.mch.weixin.qq.com", "api.wechatpay.cn", "api2.wechatpay.cn"];

/// An error answer is far smaller.
const ERROR_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
struct Applied {
    hash_type: String,
    hash_value: String,
    download_url: String,
}

pub(super) async fn fetch(
    gateway: &WechatGateway,
    date: BillDate,
    into: &Path,
    limits: Limits,
) -> Result<BillFile, BillError> {
    let mut path = format!("/v3/bill/tradebill?bill_date={date}&bill_type=ALL&tar_type=GZIP");
    if let Mode::Provider { sub_mchid, .. } = &gateway.payee.mode {
        path.push_str(&format!("&sub_mchid={sub_mchid}"));
    }
    let answer = gateway.call(Method::GET, &path, "").await?;
    if answer.status != 200 {
        return Err(match other_success(&answer) {
            Some(error) => error.into(),
            None => Refusal::read(answer.status, &answer.body).of_bill(),
        });
    }
    let applied: Applied =
        serde_json::from_slice(&answer.body).map_err(|_| unknown("a bill's answer cannot be read".into()))?;
    if applied.hash_type != "SHA1" || applied.hash_value.len() != 40 {
        return Err(unusable("its checksum is no SHA-1"));
    }
    let path = file_path(&gateway.client.hosts, &applied.download_url).map_err(unusable)?;
    let packed = Unfinished::packed(into);
    let response = gateway.client.open_file(&path, limits.timeout).await.map_err(|error| match error {
        CallError::NotSent(cause) => not_sent(&cause),
        CallError::Unknown(cause) => unknown(cause),
    })?;
    let status = response.status().as_u16();
    if status != 200 {
        let body = read_body(response, ERROR_MAX).await.unwrap_or_default();
        return Err(of_download(&Refusal::read(status, &body)));
    }
    // Unsigned (§3.1): what makes it believable is the checksum of the verified answer.
    download::save(response, &packed, limits).await?;
    let into = Unfinished::new(into);
    let (into, bytes) = download::blocking(move || checked(&packed, into, &applied.hash_value, limits)).await?;
    Ok(BillFile { path: into.keep(), bytes })
}

/// The link may have ended, within seconds: the next try applies for a new one.
fn of_download(refusal: &Refusal) -> BillError {
    let error = refusal.of_any_call().unwrap_or_else(|| refusal.unknown());
    match error {
        GatewayError::Refused { .. } => refusal.unknown().into(),
        error => error.into(),
    }
}

/// The path and query of a bill, if the address is one of WeChat Pay's or of the hosts that were set.
///
/// Errors: words for a log. The query holds a token and is never told.
fn file_path(hosts: &Hosts, url: &str) -> Result<String, String> {
    let own = [Some(&hosts.main), hosts.backup.as_ref()];
    let at_own = own.into_iter().flatten().find_map(|host| url.strip_prefix(host.as_str()));
    let path = match at_own.filter(|path| path.starts_with('/')) {
        Some(path) => path,
        None => FILE_HOSTS
            .iter()
            .find_map(|host| url.strip_prefix("https://")?.strip_prefix(host))
            .filter(|path| path.starts_with('/'))
            .ok_or("it lies at a host that is not WeChat Pay's")?,
    };
    // What is signed must be what is sent.
    let whole = format!("{}{path}", hosts.main);
    let parsed = reqwest::Url::parse(&whole).map_err(|_| "it lies at no address")?;
    if parsed.as_str() != whole || parsed.fragment().is_some() {
        return Err("its address would be sent in another form".to_owned());
    }
    Ok(path.to_owned())
}

/// Unpacks and checks; the file is kept by whoever still waits for it. The SHA-1 is that of the uncompressed file; it may come
/// uncompressed, too.
fn checked(packed: &Unfinished, into: Unfinished, hash: &str, limits: Limits) -> Result<(Unfinished, u64), BillError> {
    let mut from = File::open(packed.path()).map_err(|error| download::on_disk(&error))?;
    let mut magic = Vec::new();
    (&mut from).take(2).read_to_end(&mut magic).map_err(|error| download::on_disk(&error))?;
    from.rewind().map_err(|error| download::on_disk(&error))?;
    let from = BufReader::new(from);
    let mut to = download::create(into.path())?;
    let mut sha1 = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    let bytes = if magic == [0x1f, 0x8b] {
        download::unpack(MultiGzDecoder::new(from), &mut to, limits, |piece| sha1.update(piece))?
    } else {
        download::unpack(from, &mut to, limits, |piece| sha1.update(piece))?
    };
    let found: String = sha1.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if !found.eq_ignore_ascii_case(hash) {
        return Err(unusable("its SHA-1 is not the one that was told"));
    }
    Ok((into, bytes))
}

#[cfg(test)]
mod tests;
