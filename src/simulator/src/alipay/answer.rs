//! Answers of the gateway, byte for byte: the node, its signature, and the ways the envelope varies.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::keys::RsaKey;

/// One field of an answer node; order is kept, since the raw bytes are what is signed.
pub type Field = (String, Value);

/// A field with a text value.
pub fn text(name: &str, value: &str) -> Field {
    (name.to_owned(), Value::from(value))
}

/// How an envelope is written. All of them occur at the live gateway or in its SDKs' tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `{"x_response":{…},"sign":"…"}` without a blank.
    #[default]
    Plain,
    /// `/` inside strings is written `\/`, and signed so.
    EscapedSlashes,
    /// As `escaped_slashes`, but the signature is over the unescaped text (Java SDK's fallback).
    EscapedAfterSigning,
    /// Blanks and line breaks around tokens, outside and inside the node.
    Blanks,
    /// A key named `sign`, and braces and quotes inside strings of the node.
    Decoys,
    /// `sign` comes before the node.
    SignFirst,
    /// The node comes twice, the second forged: clients must refuse it.
    DoubledNode,
}

/// What goes around a node.
pub struct Envelope<'a> {
    /// `alipay_trade_query_response`, or `error_response`.
    pub node_name: &'a str,
    /// Set in certificate mode.
    pub cert_sn: Option<&'a str>,
    /// Who signs.
    pub signer: Signer<'a>,
    /// How it is written.
    pub layout: Layout,
}

/// What stands in `sign`.
pub enum Signer<'a> {
    /// A signature of the raw node bytes.
    Key(&'a RsaKey),
    /// This text, whatever it is.
    Text(&'a str),
    /// No `sign` at all.
    Nobody,
}

impl Envelope<'_> {
    /// The body of the HTTP answer.
    pub fn write(&self, fields: &[Field]) -> String {
        let node = node_text(fields, self.layout);
        let signed_text = match self.layout {
            Layout::EscapedAfterSigning => node.replace("\\/", "/"),
            _ => node.clone(),
        };
        let sign = match self.signer {
            Signer::Key(key) => Some(key.sign(signed_text.as_bytes())),
            Signer::Text(text) => Some(text.to_owned()),
            Signer::Nobody => None,
        };

        let (colon, comma) = match self.layout {
            Layout::Blanks => ("  :\n    ", ",\n\n   "),
            _ => (":", ","),
        };
        let member = |name: &str, value: &str| format!("\"{name}\"{colon}{value}");
        let mut members = vec![member(self.node_name, &node)];
        if self.layout == Layout::DoubledNode {
            members.push(member(self.node_name, &forged(fields)));
        }
        if let Some(sn) = self.cert_sn {
            members.push(member("alipay_cert_sn", &format!("\"{sn}\"")));
        }
        if let Some(sign) = sign {
            let sign = member("sign", &format!("\"{sign}\""));
            match self.layout {
                Layout::SignFirst => members.insert(0, sign),
                _ => members.push(sign),
            }
        }
        match self.layout {
            Layout::Blanks => format!("{{\n {}\n}}\n", members.join(comma)),
            _ => format!("{{{}}}", members.join(comma)),
        }
    }
}

fn node_text(fields: &[Field], layout: Layout) -> String {
    match layout {
        Layout::Decoys => {
            let mut fields = fields.to_vec();
            fields.push(text("sign", "not the signature"));
            fields.push(text("ext_infos", r#"a}"{b,"sign":1}\"#));
            object(&fields, ":", ",", "")
        }
        Layout::EscapedSlashes | Layout::EscapedAfterSigning => {
            // A slash can only stand inside a string, so replacing it in the whole text is safe.
            object(fields, ":", ",", "").replace('/', "\\/")
        }
        Layout::Blanks => object(fields, " : ", " ,\r\n\t", " "),
        Layout::Plain | Layout::SignFirst | Layout::DoubledNode => object(fields, ":", ",", ""),
    }
}

fn object(fields: &[Field], colon: &str, comma: &str, pad: &str) -> String {
    let members: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}{colon}{value}", Value::from(name.as_str()))).collect();
    format!("{{{pad}{}{pad}}}", members.join(comma))
}

/// What an attacker would like to be read: the same answer, but paid and successful.
fn forged(fields: &[Field]) -> String {
    let mut forged: Vec<Field> = fields
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "trade_status" | "sub_code" | "sub_msg"))
        .cloned()
        .collect();
    forged.push(text("trade_status", "TRADE_SUCCESS"));
    object(&forged, ":", ",", "")
}

/// `alipay.trade.query` → `alipay_trade_query_response`.
pub fn node_name(method: &str) -> String {
    format!("{}_response", method.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Vec<Field> {
        vec![text("code", "10000"), text("msg", "Success"), text("url", "http://x/y")]
    }

    fn write(layout: Layout, key: &RsaKey, cert_sn: Option<&str>) -> String {
        Envelope { node_name: "alipay_trade_query_response", cert_sn, signer: Signer::Key(key), layout }
            .write(&fields())
    }

    #[test]
    fn every_layout_is_json_and_its_raw_node_verifies() {
        let key = RsaKey::generate().unwrap();
        for layout in [Layout::Plain, Layout::EscapedSlashes, Layout::Blanks, Layout::Decoys, Layout::SignFirst] {
            let body = write(layout, &key, Some("40e6"));
            let json: Value = serde_json::from_str(&body).unwrap();
            let node = node_text(&fields(), layout);
            assert!(body.contains(&node), "{layout:?}");
            let sign = json["sign"].as_str().unwrap();
            assert!(key.public().verifies(node.as_bytes(), sign), "{layout:?}");
            assert_eq!(json["alipay_cert_sn"], "40e6");
            assert_eq!(json["alipay_trade_query_response"]["url"], "http://x/y");
        }
    }

    #[test]
    fn escaped_after_signing_verifies_only_unescaped() {
        let key = RsaKey::generate().unwrap();
        let body = write(Layout::EscapedAfterSigning, &key, None);
        assert!(body.contains(r"http:\/\/x\/y"));
        let json: Value = serde_json::from_str(&body).unwrap();
        let sign = json["sign"].as_str().unwrap();
        let plain = node_text(&fields(), Layout::Plain);
        assert!(key.public().verifies(plain.as_bytes(), sign));
    }

    /// What we sign and how we write it, against the vectors a merchant's side verifies with.
    #[test]
    fn response_vectors_agree() {
        let file: Value = serde_json::from_str(include_str!("../../tests/data/alipay/response_verify.json")).unwrap();
        let pem = include_str!("../../tests/data/alipay/keys/derived/alipay_private_pkcs8.pem");
        let key = RsaKey::from_pkcs8_pem(pem).unwrap();
        let mut written = 0;
        for case in file["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let derived = case["public_key"].as_str().is_some_and(|key| key.contains("derived/alipay"));
            if case["expect"] != "verified" || !derived {
                continue;
            }
            let raw = case["raw"].as_str().unwrap();
            let signed = case["signed_part"].as_str().unwrap();
            let json: Value = serde_json::from_str(raw).unwrap();
            assert_eq!(json["sign"], key.sign(signed.as_bytes()), "{name}");

            let method = case["method"].as_str().unwrap_or_default();
            let node = if raw.starts_with("{\"error") { "error_response".to_owned() } else { node_name(method) };
            let Some(object) = json[&node].as_object() else {
                continue;
            };
            // Our writer keeps the order it is given; a parsed object has lost it, so only sorted nodes can be compared.
            let fields: Vec<Field> = object.clone().into_iter().collect();
            if object_text(&fields) == signed {
                let envelope = Envelope {
                    node_name: &node,
                    cert_sn: json["alipay_cert_sn"].as_str(),
                    signer: Signer::Key(&key),
                    layout: Layout::Plain,
                };
                if !name.contains("before") && !name.contains("white space") {
                    assert_eq!(envelope.write(&fields), raw, "{name}");
                    written += 1;
                }
            }
        }
        assert!(written >= 5, "{written}");
    }

    fn object_text(fields: &[Field]) -> String {
        object(fields, ":", ",", "")
    }

    #[test]
    fn a_doubled_node_ends_in_a_forged_one() {
        let key = RsaKey::generate().unwrap();
        let body = write(Layout::DoubledNode, &key, None);
        assert_eq!(body.matches("alipay_trade_query_response").count(), 2);
        let json: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["alipay_trade_query_response"]["trade_status"], "TRADE_SUCCESS");
    }
}
