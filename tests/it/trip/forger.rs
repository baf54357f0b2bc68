//! What any forger could do to a genuine notice.

use serde_json::{Value, json};

use super::{sides::Side, told::Told};

/// Each with what was done to it.
pub type Forgeries = Vec<(String, Told)>;

/// Everything that is tried on a wallet's genuine notice; `stranger` is another merchant's.
pub fn forgeries(side: Side, genuine: &Told, stranger: &Told) -> Forgeries {
    let made = match side {
        Side::Wechat => wechat_forgeries(genuine, stranger),
        Side::Alipay => alipay_forgeries(genuine, stranger),
    };
    assert!(made.len() >= 100, "{} forgeries", made.len());
    made
}

/// What any forger can do to the bytes of a body.
fn with_bent_bodies(genuine: &Told, forgeries: &mut Forgeries) {
    let body = &genuine.body;
    let mut add = |what: String, body: Vec<u8>| forgeries.push((what, genuine.with_body(body)));
    add("no body".into(), Vec::new());
    add("half a body".into(), body[..body.len() / 2].to_vec());
    add("a body without its last byte".into(), body[..body.len() - 1].to_vec());
    add("a body without its first byte".into(), body[1..].to_vec());
    add("a byte before the body".into(), [b" ", body.as_slice()].concat());
    add("the body twice".into(), body.repeat(2));
    for part in 0..8 {
        let at = body.len() * part / 8;
        let mut bent = body.clone();
        bent[at] ^= 1;
        add(format!("bit 0 of byte {at} flipped"), bent);
    }
}

/// One character of a text replaced by another of its kind.
fn changed(text: &str, at: usize) -> String {
    let other = |c: char| {
        if c == 'A' || c == '1' {
            'B'
        } else if c.is_ascii_digit() {
            '1'
        } else {
            'A'
        }
    };
    text.chars().enumerate().map(|(n, c)| if n == at { other(c) } else { c }).collect()
}

fn wechat_forgeries(genuine: &Told, stranger: &Told) -> Forgeries {
    let mut made = Forgeries::new();
    for (at, (name, value)) in genuine.headers.iter().enumerate().filter(|(_, (name, _))| is_signed(name)) {
        let theirs = stranger.headers.iter().find(|(of, _)| of == name).unwrap();
        let (first, last) = (changed(value, 0), changed(value, value.len() - 3));
        let long = "1".repeat(4_000);
        let bent: [(&str, Vec<&str>); 9] = [
            ("absent", vec![]),
            ("empty", vec![""]),
            ("doubled", vec![value, value]),
            ("beside a stranger's", vec![value, &theirs.1]),
            ("after a stranger's", vec![&theirs.1, value]),
            ("changed in front", vec![&first]),
            ("changed at its end", vec![&last]),
            ("very long", vec![&long]),
            ("a quoted one", vec!["\"value\""]),
        ];
        made.extend(bent.into_iter().map(|(how, values)| (format!("{name} {how}"), genuine.with_header(at, &values))));
    }
    let (signature, serial) = (genuine.at("Wechatpay-Signature"), genuine.at("Wechatpay-Serial"));
    let timestamp = genuine.at("Wechatpay-Timestamp");
    let value = |at: usize| genuine.headers[at].1.as_str();
    for (what, at, text) in [
        ("a probe", signature, format!("WECHATPAY/SIGNTEST/{}", value(signature))),
        ("a signature in two parts", signature, format!("{}, {0}", value(signature))),
        ("a signature without its padding", signature, value(signature).trim_end_matches('=').to_owned() + "!"),
        ("a signature in hexadecimal", signature, "ab".repeat(256)),
        ("a serial in other case", serial, value(serial).to_lowercase()),
        ("a serial that is a path", serial, "../../etc/passwd".to_owned()),
        ("a serial that is SQL", serial, "' OR '1'='1".to_owned()),
        ("a time with a sign", timestamp, format!("+{}", value(timestamp))),
        ("a time with a fraction", timestamp, format!("{}.0", value(timestamp))),
        ("a time in milliseconds", timestamp, format!("{}000", value(timestamp))),
        ("the beginning of time", timestamp, "0".to_owned()),
        ("a negative time", timestamp, format!("-{}", value(timestamp))),
    ] {
        made.push((what.to_owned(), genuine.with_header(at, &[&text])));
    }
    let kind = genuine.at("Wechatpay-Signature-Type");
    made.push(("another signature type".into(), genuine.with_header(kind, &["WECHATPAY2-HMAC-SHA256"])));
    made.push(("a stranger's body".into(), genuine.with_body(stranger.body.clone())));
    made.push(("a stranger's notice".into(), Told { path: genuine.path.clone(), ..stranger.clone() }));
    let mut kind: Value = serde_json::from_slice(&genuine.body).unwrap();
    let other = if kind["event_type"] == "REFUND.SUCCESS" { "TRANSACTION.SUCCESS" } else { "REFUND.SUCCESS" };
    kind["event_type"] = other.into();
    made.push(("another kind of event".into(), genuine.with_body(kind.to_string())));
    with_bent_json(genuine, stranger, &mut made);
    with_bent_bodies(genuine, &mut made);
    made
}

/// Each key of the envelope and of the sealed resource in it, under the signature of what they were.
fn with_bent_json(genuine: &Told, stranger: &Told, made: &mut Forgeries) {
    let text = std::str::from_utf8(&genuine.body).unwrap();
    let [envelope, theirs]: [Value; 2] = [genuine, stranger].map(|told| serde_json::from_slice(&told.body).unwrap());
    assert_eq!(envelope.to_string(), text, "written anew, it is the same: what is bent below is one key alone");
    let outer = ["id", "create_time", "resource_type", "event_type", "summary", "resource"];
    let inner = ["algorithm", "ciphertext", "associated_data", "nonce", "original_type"];
    for (path, opening, keys) in [("", "{", &outer[..]), ("/resource", r#""resource":{"#, &inner[..])] {
        for key in keys {
            let value = &envelope.pointer(path).unwrap()[*key];
            let with = |value: Option<Value>| {
                let mut bent = envelope.clone();
                let object = bent.pointer_mut(path).unwrap().as_object_mut().unwrap();
                match value {
                    Some(value) => drop(object.insert((*key).to_owned(), value)),
                    None => drop(object.remove(*key)),
                }
                genuine.with_body(bent.to_string())
            };
            let (empty, another) = match value.as_str() {
                Some(text) => (json!(""), json!(changed(text, text.chars().count() / 2))),
                None => (json!({}), theirs[*key].clone()),
            };
            let doubled = text.replacen(opening, &format!("{opening}\"{key}\":{value},"), 1);
            made.extend([
                (format!("{path}/{key} absent"), with(None)),
                (format!("{path}/{key} empty"), with(Some(empty))),
                (format!("{path}/{key} doubled"), genuine.with_body(doubled)),
                (format!("{path}/{key} changed"), with(Some(another))),
            ]);
        }
    }
}

fn is_signed(name: &str) -> bool {
    ["Wechatpay-Timestamp", "Wechatpay-Nonce", "Wechatpay-Signature", "Wechatpay-Serial"].contains(&name)
}

fn alipay_forgeries(genuine: &Told, stranger: &Told) -> Forgeries {
    let fields: Vec<(String, String)> = form_urlencoded::parse(&genuine.body).into_owned().collect();
    let form = |fields: &[(String, String)]| {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish().into_bytes()
    };
    let with = |at: usize, text: Option<&str>| {
        let mut fields = fields.clone();
        match text {
            Some(text) => fields[at].1 = text.to_owned(),
            None => drop(fields.remove(at)),
        }
        form(&fields)
    };
    let mut made = Forgeries::new();
    let mut add = |what: String, body: Vec<u8>| made.push((what, genuine.with_body(body)));
    for (at, (name, value)) in fields.iter().enumerate() {
        // Whether a value that is empty was signed, the sources tell differently: without it the notice is the same one.
        if !value.is_empty() {
            add(format!("{name} absent"), with(at, None));
            add(format!("{name} empty"), with(at, Some("")));
            add(format!("{name} changed"), with(at, Some(&changed(value, value.chars().count() / 2))));
        }
        let doubled: Vec<_> = fields.iter().chain([&fields[at]]).cloned().collect();
        add(format!("{name} doubled"), form(&doubled));
    }
    let at = |name: &str| fields.iter().position(|(of, _)| of == name).unwrap();
    for kind in ["RSA", "MD5", "HMAC", "rsa2", "none", "RSA2,RSA"] {
        add(format!("sign_type {kind}"), with(at("sign_type"), Some(kind)));
    }
    for (what, sign) in [("that is no Base64", "%%%"), ("that is short", "AAAA"), ("that is true", "true")] {
        add(format!("a signature {what}"), with(at("sign"), Some(sign)));
    }
    let one_more: Vec<_> = fields.iter().cloned().chain([("trade_state".to_owned(), "PAID".to_owned())]).collect();
    add("a field more".into(), form(&one_more));
    let theirs: Vec<(String, String)> = form_urlencoded::parse(&stranger.body).into_owned().collect();
    let their_sign = theirs.iter().find(|(name, _)| name == "sign").unwrap();
    add("a stranger's signature".into(), with(at("sign"), Some(&their_sign.1)));
    made.push(("a stranger's notice".into(), Told { path: genuine.path.clone(), ..stranger.clone() }));
    with_bent_bodies(genuine, &mut made);
    made
}
