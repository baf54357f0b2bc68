//! Genuine notices, changed in every way a forger could: refused, and no row changes. Repeats are acknowledged without change.

use prepay::domain::id::OrderId;
use reqwest::Method;
use serde_json::{Value, json};
use simulator::{Call, FaultKind};

use super::{
    harness::World,
    shop::{Shop, pay_info},
    sides::{Side, number},
};

/// A delivery of a notice, as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Told {
    fn with_header(&self, at: usize, values: &[&str]) -> Self {
        let mut told = self.clone();
        let (name, _) = told.headers.remove(at);
        told.headers.extend(values.iter().map(|value| (name.clone(), (*value).to_owned())));
        told
    }

    fn with_body(&self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self.clone() }
    }

    fn also(&self, name: &str, value: &str) -> Self {
        let mut told = self.clone();
        told.headers.push((name.to_owned(), value.to_owned()));
        told
    }
}

type Forgeries = Vec<(String, Told)>;

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
    let at = |name: &str| genuine.headers.iter().position(|(of, _)| of.eq_ignore_ascii_case(name)).unwrap();
    let (signature, serial, timestamp) = (at("Wechatpay-Signature"), at("Wechatpay-Serial"), at("Wechatpay-Timestamp"));
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
    let kind = at("Wechatpay-Signature-Type");
    made.push(("another signature type".into(), genuine.with_header(kind, &["WECHATPAY2-HMAC-SHA256"])));
    made.push(("a stranger's body".into(), genuine.with_body(stranger.body.clone())));
    made.push(("a stranger's notice".into(), Told { path: genuine.path.clone(), ..stranger.clone() }));
    let mut kind: Value = serde_json::from_slice(&genuine.body).unwrap();
    kind["event_type"] = "REFUND.SUCCESS".into();
    made.push(("another kind of event".into(), genuine.with_body(kind.to_string())));
    with_bent_bodies(genuine, &mut made);
    made
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

impl World {
    /// The wallet's genuine word about a number, not sent yet.
    fn genuine(&self, side: Side, merchant: &str, number: &str) -> Told {
        let outgoing = match side {
            Side::Wechat => self.sim.wechat().notice(merchant, number, &[]).unwrap(),
            Side::Alipay => self.sim.alipay().notice_to_send(merchant, number).unwrap(),
        };
        Told {
            path: outgoing.url.strip_prefix(&self.settings.front.public_url).unwrap().to_owned(),
            headers: outgoing.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            body: outgoing.body.to_vec(),
        }
    }

    /// Another merchant's genuine notice, as its own wallet account would send it.
    async fn strangers_notice(&self, shop: &Shop, side: Side, merchant: &str, payer: &str) -> Told {
        let order = shop.new_order(side.name()).await;
        let (_, answer) = self.pay(json!({ "payInfo": pay_info(&order, side.name()), "identifyId": payer })).await;
        assert_eq!(answer["code"], "200", "{answer:#}");
        let paid = number(&order, 1);
        match side {
            Side::Wechat => drop(self.sim.wechat().pay(merchant, &paid).unwrap()),
            Side::Alipay => drop(self.sim.alipay().pay_number(merchant, &paid).unwrap()),
        }
        self.genuine(side, merchant, &paid)
    }

    async fn tell(&self, told: &Told) -> (u16, String) {
        let headers: Vec<(&str, &str)> = told.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let said = self.ask(Method::POST, &told.path, &headers, told.body.clone()).await;
        (said.status, said.text)
    }

    /// Everything of an order that money could change.
    async fn rows_about(&self, order: &Value) -> (Value, Vec<String>, i64, i64) {
        let id = OrderId::parse(order["serialNo"].as_str().unwrap()).unwrap();
        let history = self.place.store.history(id).await.unwrap().into_iter().map(|row| row.events.join(","));
        (
            self.shop.order(order["orderNo"].as_str().unwrap()).await,
            history.filter(|events| events != "asked").collect(),
            self.place.rows_of("anomalies").await,
            self.place.rows_of("parked").await,
        )
    }
}

fn is_taken(side: Side, (status, body): &(u16, String)) -> bool {
    match side {
        Side::Wechat => *status == 200,
        Side::Alipay => body == "success",
    }
}

pub async fn no_change_to_a_genuine_notice_is_taken(world: World) -> World {
    world.lose_all_notices();
    let (other_shop, other_wechat, other_alipay) = world.another_shop("C2").await;
    for side in Side::BOTH {
        let order_no = side.name();
        let (merchant, theirs) = match side {
            Side::Wechat => (&world.wechat.merchant.mchid, &other_wechat.merchant.mchid),
            Side::Alipay => (&world.alipay.app.app_id, &other_alipay.app.app_id),
        };
        let (order, person) = (world.shop.new_order(order_no).await, world.person(side));
        // Nobody asks the wallet either: what the row learns, it learns from a notice.
        world.fault_always(side, Call::Query, &order, FaultKind::CloseBefore);
        let data = world.tap_ready(&order, &person).await;
        world.press_pay(&data, &person).await.unwrap();
        let genuine = world.genuine(side, merchant, &number(&order, 1));
        let their_payer = match side {
            Side::Wechat => world.sim.wechat().new_openid(&other_wechat.app.appid),
            Side::Alipay => {
                let user = world.sim.alipay().new_user().user_id;
                world.sim.alipay().open_id(theirs, &user).unwrap()
            }
        };
        let stranger = world.strangers_notice(&other_shop, side, theirs, &their_payer).await;

        let forgeries = match side {
            Side::Wechat => wechat_forgeries(&genuine, &stranger),
            Side::Alipay => alipay_forgeries(&genuine, &stranger),
        };
        assert!(forgeries.len() >= 40, "{} forgeries", forgeries.len());
        let before = world.rows_about(&order).await;
        for (what, forgery) in &forgeries {
            assert_ne!(*forgery, genuine, "{what}");
            // Neither where it seems to come from nor what it claims to be for changes the verdict.
            let disguised = forgery.also("X-Forwarded-For", "127.0.0.1").also("X-Forwarded-Host", "localhost");
            for told in [forgery, &disguised] {
                let said = world.tell(told).await;
                assert!(!is_taken(side, &said), "{what}: {said:?}");
            }
        }
        assert_eq!(world.rows_about(&order).await, before, "{} forgeries of {side:?}", forgeries.len());

        for (what, told) in [
            ("behind odd forwarding headers", genuine.also("X-Forwarded-For", "6.6.6.6").also("Forwarded", "for=_x")),
            ("with cookies and encodings", genuine.also("Cookie", "a=b").also("Accept-Encoding", "gzip")),
        ] {
            assert!(is_taken(side, &world.tell(&told).await), "{what}");
        }
        world.until_status(order_no, "SUCCESS").await;
        let paid = world.rows_about(&order).await;
        assert!(is_taken(side, &world.tell(&genuine).await), "a repeat is acknowledged");
        if side == Side::Alipay {
            // Alipay repeats for a day and its notices carry no signed moment that could be compared.
            let noted = world.sim.clock().offset_ms();
            world.sim.clock().set_offset_ms(noted - 86_400_000);
            let old = world.genuine(side, merchant, &number(&order, 1));
            world.sim.clock().set_offset_ms(noted);
            assert!(is_taken(side, &world.tell(&old).await), "a notice of yesterday is acknowledged");
        } else {
            // Of 299 s ago it is in the window, of 301 s ago it is not.
            for (age_s, taken) in [(290, true), (301, false)] {
                let shift = [FaultKind::TimestampShift { seconds: -age_s }];
                let told = world.sim.wechat().notify_now(merchant, &number(&order, 1), &shift).await.unwrap();
                assert_eq!(told.status == 200, taken, "{age_s} s");
            }
        }
        // The repeats have been worked off when a later notice has had its effect.
        let (last, person) = (world.shop.new_order(&format!("{order_no}x")).await, world.person(side));
        let data = world.tap_ready(&last, &person).await;
        world.press_pay(&data, &person).await.unwrap();
        assert!(is_taken(side, &world.tell(&world.genuine(side, merchant, &number(&last, 1))).await));
        world.until_status(&format!("{order_no}x"), "SUCCESS").await;
        assert_eq!(world.rows_about(&order).await, paid, "repeats change nothing");
    }
    world
}
