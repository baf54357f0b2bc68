//! The answer of gateway v2, cut into raw pieces: what is verified are bytes, never a value written anew.

use std::borrow::Cow;

/// The top level of an answer (`alipay.md` §2.1): one node, perhaps a signature, perhaps the serial number of its key.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The exact bytes of the node's value, from `{` to its `}` (encrypted answers: from quote to quote).
    pub node: &'a [u8],
    /// It came as `error_response` instead of `<method>_response`.
    pub is_error: bool,
    /// `None` when absent or empty.
    pub sign: Option<String>,
    pub alipay_cert_sn: Option<String>,
}

/// Cuts the body of an answer to `method`.
///
/// Stricter than JSON where two readers could differ: no name may stand twice at the top, none may be escaped, exactly one
/// node may be there, nothing may follow. Errors: words for a log, without the answer.
pub fn cut<'a>(body: &'a [u8], method: &str) -> Result<Envelope<'a>, &'static str> {
    let wanted = format!("{}_response", method.replace('.', "_"));
    let mut node = None;
    let mut is_error = false;
    let mut sign = None;
    let mut alipay_cert_sn = None;
    for (name, value) in members(body)? {
        if name == wanted.as_bytes() || name == b"error_response" {
            if node.is_some() {
                return Err("answer holds two nodes");
            }
            if !matches!(value.first(), Some(b'{' | b'"')) {
                return Err("answer's node is no object");
            }
            is_error = name == b"error_response";
            node = Some(value);
        } else if name == b"sign" {
            sign = text(value)?;
        } else if name == b"alipay_cert_sn" {
            alipay_cert_sn = text(value)?;
        }
    }
    Ok(Envelope { node: node.ok_or("answer holds no node of this method")?, is_error, sign, alipay_cert_sn })
}

/// The second form in which a node may have been signed: with `\/` written as `/`. `None` when there is no `\/` in it.
///
/// Source: the official Java SDK verifies once more like this (`alipay.md` §2.2).
pub fn with_bare_slashes(node: &[u8]) -> Option<Cow<'static, [u8]>> {
    let mut bare = Vec::with_capacity(node.len());
    let mut rest = node;
    while let [byte, tail @ ..] = rest {
        if *byte == b'\\' && tail.first() == Some(&b'/') {
            rest = tail;
            continue;
        }
        bare.push(*byte);
        rest = tail;
    }
    (bare.len() != node.len()).then_some(Cow::Owned(bare))
}

/// An optional text; null and empty count as absent.
fn text(value: &[u8]) -> Result<Option<String>, &'static str> {
    let text: Option<String> =
        serde_json::from_slice(value).map_err(|_| "answer's signature or certificate number is no text")?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// A name without its quotes, and the raw bytes of its value.
type Member<'a> = (&'a [u8], &'a [u8]);

/// The names and raw values of the one top-level object, in order.
fn members(body: &[u8]) -> Result<Vec<Member<'_>>, &'static str> {
    /// Real answers have at most three.
    const MEMBERS_MAX: usize = 16;
    const CUT_SHORT: &str = "answer is no JSON object";
    let mut found: Vec<Member<'_>> = Vec::new();
    let mut at = skip_white(body, 0);
    if body.get(at) != Some(&b'{') {
        return Err(CUT_SHORT);
    }
    at = skip_white(body, at + 1);
    if body.get(at) == Some(&b'}') {
        at += 1;
    } else {
        loop {
            let end = string_end(body, at).ok_or(CUT_SHORT)?;
            let name = &body[at + 1..end - 1];
            if name.contains(&b'\\') {
                return Err("answer has an escaped name");
            }
            if found.iter().any(|(known, _)| *known == name) {
                return Err("answer has a name twice");
            }
            at = skip_white(body, end);
            if body.get(at) != Some(&b':') {
                return Err(CUT_SHORT);
            }
            at = skip_white(body, at + 1);
            let end = value_end(body, at).ok_or(CUT_SHORT)?;
            found.push((name, &body[at..end]));
            if found.len() > MEMBERS_MAX {
                return Err("answer has too many names");
            }
            at = skip_white(body, end);
            match body.get(at) {
                Some(b',') => at = skip_white(body, at + 1),
                Some(b'}') => {
                    at += 1;
                    break;
                }
                _ => return Err(CUT_SHORT),
            }
        }
    }
    if skip_white(body, at) != body.len() {
        return Err("answer goes on after its end");
    }
    Ok(found)
}

fn skip_white(body: &[u8], mut at: usize) -> usize {
    while matches!(body.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// The end of the string that begins at `at`, behind its closing quote.
fn string_end(body: &[u8], at: usize) -> Option<usize> {
    if body.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        match body.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The end of the value that begins at `at`: strings and escapes respected, brackets counted.
fn value_end(body: &[u8], at: usize) -> Option<usize> {
    match body.get(at)? {
        b'"' => string_end(body, at),
        b'{' | b'[' => {
            let mut depth = 0usize;
            let mut at = at;
            loop {
                match body.get(at)? {
                    b'"' => {
                        at = string_end(body, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
        }
        _ => {
            let length = body[at..]
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n'))
                .unwrap_or(body.len() - at);
            (length > 0).then_some(at + length)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{gateway::alipay::testing, keys::rsa::RsaVerifier};

    /// Whether the node of a raw answer verifies, and only by the fallback.
    fn verified(body: &[u8], method: &str, key: &RsaVerifier) -> Result<&'static str, &'static str> {
        let envelope = cut(body, method)?;
        let sign = envelope.sign.ok_or("no signature")?;
        if key.verify(envelope.node, &sign).is_ok() {
            return Ok("verified");
        }
        match with_bare_slashes(envelope.node) {
            Some(bare) if key.verify(&bare, &sign).is_ok() => Ok("verified only by the fallback"),
            _ => Err("wrong signature"),
        }
    }

    #[test]
    fn every_answer_vector_verifies_or_fails_as_told() {
        let vectors = testing::json("response_verify.json");
        let cases = vectors["cases"].as_array().unwrap();
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let key = RsaVerifier::parse(&testing::read(case["public_key"].as_str().unwrap())).unwrap();
            let expect = case["expect"].as_str().unwrap();
            let Some(raw) = case["raw"].as_str() else {
                let part = case["signed_part"].as_str().unwrap();
                assert!(key.verify(part.as_bytes(), case["sign"].as_str().unwrap()).is_ok(), "{name}");
                continue;
            };
            let method = case["method"].as_str().unwrap();
            match expect {
                "must fail" => assert!(verified(raw.as_bytes(), method, &key).is_err(), "{name}"),
                "unsigned error: report it, never as success" => {
                    assert_eq!(verified(raw.as_bytes(), method, &key), Err("no signature"), "{name}");
                }
                expect => assert_eq!(verified(raw.as_bytes(), method, &key), Ok(expect), "{name}"),
            }
            if let (Ok(envelope), Some(part)) = (cut(raw.as_bytes(), method), case["signed_part"].as_str()) {
                let bare = with_bare_slashes(envelope.node);
                assert!(
                    envelope.node == part.as_bytes() || bare.as_deref() == Some(part.as_bytes()),
                    "{name}: the cut is the signed part"
                );
                assert_eq!(envelope.alipay_cert_sn.as_deref(), case["alipay_cert_sn"].as_str(), "{name}");
            }
        }
        assert_eq!(cases.len(), 33);
    }

    #[test]
    fn one_changed_byte_of_a_signed_node_never_verifies() {
        let vectors = testing::json("response_verify.json");
        let case = &vectors["cases"][2];
        let key = RsaVerifier::parse(&testing::read("keys/derived/alipay_public.pem")).unwrap();
        let raw = case["raw"].as_str().unwrap().as_bytes();
        let node = cut(raw, "alipay.trade.create").unwrap().node;
        let start = node.as_ptr() as usize - raw.as_ptr() as usize;
        for at in start..start + node.len() {
            let mut changed = raw.to_vec();
            changed[at] ^= 1;
            assert!(verified(&changed, "alipay.trade.create", &key).is_err(), "byte {at}");
        }
    }

    proptest! {
        /// Whatever stands inside and around a node, the cut is what a JSON parser calls its raw value.
        #[test]
        fn the_cut_is_the_raw_value(
            text in "[ -~\\n\"\\\\{}\\[\\]订]{0,40}",
            before in "[ \\n\\r\\t]{0,3}",
            depth in 0usize..20,
            sign_first in any::<bool>(),
        ) {
            let inner = serde_json::json!({ "t": text, "{": ["}", null, 1.5, { "sign": text }] });
            let node = format!("{{{before}\"x\":{}{inner}{}}}", "[".repeat(depth), "]".repeat(depth));
            let body = if sign_first {
                format!("{before}{{\"sign\":\"AA==\",{before}\"a_b_response\"{before}:{node}{before}}}{before}")
            } else {
                format!("{{\"a_b_response\":{before}{node}{before},\"sign\":\"AA==\"}}")
            };
            let raw: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
                serde_json::from_str(&body).unwrap();
            let envelope = cut(body.as_bytes(), "a.b").unwrap();
            prop_assert_eq!(envelope.node, raw["a_b_response"].get().as_bytes());
            prop_assert_eq!(envelope.sign.as_deref(), Some("AA=="));
        }

        #[test]
        fn no_bytes_break_it(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = cut(&body, "a.b");
            let mut open = br#"{"a_b_response":"#.to_vec();
            open.extend_from_slice(&body);
            let _ = cut(&open, "a.b");
            let _ = with_bare_slashes(&body);
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for (body, why) in [
            (r#"{"a_b_response":{"x":1},"a_b_response":{"x":2}}"#, "answer has a name twice"),
            (r#"{"a_b_response":{"x":1},"\u0061_b_response":{"x":2}}"#, "answer has an escaped name"),
            (r#"{"a_b_response":{"x":1},"error_response":{"x":2}}"#, "answer holds two nodes"),
            (r#"{"a_b_response":{"x":1},"sign":"1","sign":"2"}"#, "answer has a name twice"),
            (r#"{"a_b_response":{"x":1}}{"a_b_response":{}}"#, "answer goes on after its end"),
            (r#"{"a_b_response":{"x":1}"#, "answer is no JSON object"),
            (r#"{"a_b_response":{"x":"}"#, "answer is no JSON object"),
            (r#"{"a_b_response":[1]}"#, "answer's node is no object"),
            (r#"{"other_response":{"x":1}}"#, "answer holds no node of this method"),
            (r#"{}"#, "answer holds no node of this method"),
            (r#"{"a_b_response":{},"sign":1}"#, "answer's signature or certificate number is no text"),
            ("<html>502</html>", "answer is no JSON object"),
            ("", "answer is no JSON object"),
        ] {
            assert_eq!(cut(body.as_bytes(), "a.b"), Err(why), "{body}");
        }
        let plain =
            cut(br#" {"extra":[1,{"a":"]"}],"n":null, "a_b_response" : {"s":"\\\"}"} ,"sign":"" }"#, "a.b").unwrap();
        assert_eq!(plain.node, br#"{"s":"\\\"}"}"#);
        assert_eq!(plain.sign, None);
    }
}
