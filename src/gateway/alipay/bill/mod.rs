//! Business bills: asked for, downloaded, their one file of rows taken out of the ZIP (`alipay.md` §9).

use std::{fs::File, io::BufReader, path::Path};

use serde::Deserialize;
use zip::ZipArchive;

use super::{AlipayGateway, Verified, errors, unknown, wire::filled};
use crate::gateway::{
    bill::{
        BillDate, BillError, BillFile,
        download::{self, Limits, Unfinished},
        text::Lines,
        unusable,
    },
    http,
};

mod rows;

pub(super) use rows::Rows;

/// Real archives hold two files.
const ENTRIES_MAX: usize = 16;

#[derive(Deserialize)]
struct Link {
    #[serde(default, deserialize_with = "filled")]
    bill_download_url: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    bill_file_code: Option<String>,
}

pub(super) async fn fetch(
    gateway: &AlipayGateway,
    date: BillDate,
    into: &Path,
    limits: Limits,
) -> Result<BillFile, BillError> {
    let body = serde_json::json!({ "bill_type": "trade", "bill_date": date.to_string() }).to_string();
    let link: Verified<Link> = gateway
        .call("alipay.data.dataservice.bill.downloadurl.query", &[("biz_content", &body)])
        .await
        .map_err(errors::of_bill)?;
    let link = link.into_inner();
    if link.bill_file_code.as_deref() == Some("EMPTY_DATA_WITH_BILL_FILE") {
        return Err(BillError::None);
    }
    let told = link.bill_download_url.ok_or_else(|| unknown("a bill without bill_download_url"))?;
    let url = file_url(&gateway.settings.gateway_url, &told).map_err(unusable)?;
    let packed = Unfinished::packed(into);
    // The link lives for 30 seconds and needs no signature.
    let response = gateway.client.open_file(url, limits.timeout).await.map_err(errors::of_bill)?;
    download::save(response, &packed, limits).await?;
    let into = Unfinished::new(into);
    let (into, bytes) = download::blocking(move || taken_out(&packed, into, limits)).await?;
    Ok(BillFile { path: into.keep(), bytes })
}

/// The address of a bill, if it is one of Alipay's, or of the simulated gateway's own host. Samples are plain http: https is asked for.
///
/// Errors: words for a log. The query holds a token and is never told.
fn file_url(gateway_url: &str, told: &str) -> Result<reqwest::Url, String> {
    let parse = |url: &str| reqwest::Url::parse(url).map_err(|_| "it lies at no address".to_owned());
    let (gateway, mut url) = (parse(gateway_url)?, parse(told)?);
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its address names a user".to_owned());
    }
    let simulated = http::is_loopback(&gateway);
    if simulated && url.host_str() == gateway.host_str() {
        return Ok(url);
    }
    let host = url.host_str().unwrap_or_default();
    let sandbox = gateway.host_str().is_some_and(|host| host.ends_with(".alipaydev.com"));
    if simulated || !(host.ends_with(".alipay.com") || sandbox && host.ends_with(".alipaydev.com")) {
        return Err("it lies at a host that is not Alipay's".to_owned());
    }
    if !matches!(url.scheme(), "http" | "https") || url.port().is_some() || url.set_scheme("https").is_err() {
        return Err("its address is none of https".to_owned());
    }
    Ok(url)
}

/// Neither names nor places of entries are relied on: the one whose header is that of the rows is taken, and written under our
/// own name; whoever still waits for it keeps it. Its checksum is proven by reading it to its end.
fn taken_out(packed: &Unfinished, into: Unfinished, limits: Limits) -> Result<(Unfinished, u64), BillError> {
    let broken = |error: zip::result::ZipError| unusable(format!("its archive: {error}"));
    let from = File::open(packed.path()).map_err(|error| download::on_disk(&error))?;
    let mut archive = ZipArchive::new(BufReader::new(from)).map_err(broken)?;
    if archive.len() > ENTRIES_MAX {
        return Err(unusable(format!("its archive holds {} files", archive.len())));
    }
    for at in 0..archive.len() {
        let entry = archive.by_index(at).map_err(broken)?;
        // One that is no text at all is not it either.
        if !rows::is_of_rows(&mut Lines::new(BufReader::new(entry))).unwrap_or(false) {
            continue;
        }
        let entry = archive.by_index(at).map_err(broken)?;
        let mut to = download::create(into.path())?;
        let bytes = download::unpack(entry, &mut to, limits, |_| ())?;
        return Ok((into, bytes));
    }
    Err(unusable("its archive holds no file with rows"))
}

#[cfg(test)]
mod tests;
