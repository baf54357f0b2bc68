//! Whose call it is: the signature of a merchant's request, its nonce, its keys and its addresses.

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use prepay::{
    domain::id::{CustomerNo, KeyId},
    front::Proxies,
};
use reqwest::{Method, StatusCode};
use simulator::RsaKey;

use super::{
    harness::{World, until},
    orders_api::{ORDERS, assert_error},
    shop::{Call, now_s, order_body},
};

pub async fn a_call_that_is_not_signed_as_published_is_401_with_our_time(world: World) -> World {
    let body = order_body("A1").to_string();
    let (shop, good) = (&world.shop, || world.shop.call(Method::POST, ORDERS, body.as_bytes()));
    let set = |name: &str, value: &str| {
        let mut call = good();
        call.headers.iter_mut().find(|(known, _)| *known == name).unwrap().1 = value.to_owned();
        call
    };
    let mut bad: Vec<(String, Call)> = Vec::new();
    for at in 0..5 {
        let mut missing = good();
        let (name, value) = missing.headers.remove(at);
        bad.push((format!("{name} missing"), missing));
        let mut twice = good();
        twice.headers.push((name, value));
        bad.push((format!("{name} twice"), twice));
        bad.push((format!("{name} empty"), set(name, "")));
    }
    // What is signed ahead comes nearer while the others are sent; the second itself is `auth.rs`' own test.
    for off in [-301_i64, 330, -86_400] {
        let at = now_s().checked_add_signed(off + off.signum()).unwrap();
        bad.push((format!("signed {off} s off"), shop.call_at(Method::POST, ORDERS, body.as_bytes(), at)));
    }
    for (name, value) in [
        ("x-customer-no", "C9"),
        ("x-customer-no", "c1"),
        ("x-key-id", "k2"),
        ("x-timestamp", "now"),
        ("x-nonce", "another-nonce-0123456789"),
        ("x-nonce", "short"),
        ("x-nonce", "0123456789012345678901234567890123"),
        ("x-signature", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("x-signature", "not base64"),
    ] {
        bad.push((format!("{name}: {value}"), set(name, value)));
    }
    let later = (now_s() + 30).to_string();
    bad.push(("another second than signed".into(), set("x-timestamp", &later)));
    let bend = |what: &str, change: &dyn Fn(&mut Call)| {
        let mut call = good();
        change(&mut call);
        (what.to_owned(), call)
    };
    bad.push(bend("body changed", &|call| call.body = body.replace("1999", "1").into_bytes()));
    bad.push(bend("body longer", &|call| call.body.push(b' ')));
    bad.push(bend("body gone", &|call| call.body.clear()));
    bad.push(bend("query added", &|call| call.target.push_str("?a=b")));
    bad.push(bend("path changed", &|call| call.target = format!("{ORDERS}/A1/links")));
    let other_secret =
        shop.call_signed(Method::POST, ORDERS, body.as_bytes(), now_s(), "k1", |_| STANDARD.encode([7; 32]));
    bad.push(("another secret".into(), other_secret));
    let hex = shop.call_signed(Method::POST, ORDERS, body.as_bytes(), now_s(), "k1", |_| "0".repeat(64));
    bad.push(("hex".into(), hex));
    for (what, call) in bad {
        let said = world.shop.send(call).await;
        assert!(said.0 == StatusCode::UNAUTHORIZED, "{what}: {said:?}");
        assert_error(&said, 401, "1005");
        let theirs = said.1["data"]["serverTime"].as_u64().unwrap();
        assert!(theirs.abs_diff(now_s()) < 60, "{what}");
    }
    assert_eq!(world.place.rows_of("orders").await, 0);
    // The edges of the window, and a query that was signed as sent.
    for off in [-280_i64, 280] {
        let call = shop.call_at(Method::POST, ORDERS, body.as_bytes(), now_s().checked_add_signed(off).unwrap());
        assert_eq!(world.shop.send(call).await.0, StatusCode::OK, "{off}");
    }
    assert_eq!(world.shop.get("/api/v1/orders/A1?x=%2F&y").await.0, StatusCode::OK);
    world
}

pub async fn a_nonce_is_taken_once(world: World) -> World {
    let body = order_body("A1").to_string();
    let call = world.shop.call(Method::POST, ORDERS, body.as_bytes());
    let answers = join_all((0..5).map(|_| world.shop.send(call.clone()))).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == StatusCode::OK).count(), 1, "{answers:#?}");
    for said in answers.iter().filter(|(status, _)| *status != StatusCode::OK) {
        assert_error(said, 401, "1005");
    }
    // Whatever is asked under it, and signed anew: it is taken.
    let nonce = &call.headers[3].1;
    let asked = || world.shop.call(Method::GET, "/api/v1/orders/A1", b"");
    assert_error(&world.shop.send(world.shop.with_nonce(asked(), nonce)).await, 401, "1005");
    assert_eq!(world.shop.send(asked()).await.0, StatusCode::OK);
    // Another merchant may use the same one, once as well: it is theirs.
    let (other, _, _) = world.another_shop("C2").await;
    let theirs = || other.with_nonce(other.call(Method::POST, ORDERS, body.as_bytes()), nonce);
    assert_eq!(other.send(theirs()).await.0, StatusCode::OK);
    assert_error(&other.send(theirs()).await, 401, "1005");
    world
}

pub async fn keys_are_rotated_and_each_is_checked_as_its_record_says(world: World) -> World {
    let merchant = CustomerNo::parse("C1").unwrap();
    let merchant = world.place.store.merchant_by_customer_no(&merchant).await.unwrap().unwrap();
    let pair = RsaKey::generate().unwrap();
    let rsa = KeyId::parse("rsa1").unwrap();
    world.enroller().rsa_key(merchant.id, &rsa, &pair.public_key_pem()).await.unwrap();
    assert!(
        world.enroller().hmac_key(merchant.id, &KeyId::parse("k3").unwrap()).await.is_err(),
        "two live keys at most"
    );
    let by_rsa =
        || world.shop.call_signed(Method::GET, "/api/v1/orders/none", b"", now_s(), "rsa1", |text| pair.sign(text));
    until("the new key is known", || async { world.shop.send(by_rsa()).await.0 == StatusCode::NOT_FOUND }).await;
    assert_error(&world.shop.get("/api/v1/orders/none").await, 404, "2104");
    // Which kind of key it is stands in its record: an HMAC with the public key's own text is no signature.
    let pem = pair.public_key_pem();
    let confused =
        [pem.as_bytes().to_vec(), pem.trim().as_bytes().to_vec(), STANDARD.decode(pair.public_key_base64()).unwrap()];
    for secret in confused {
        let forged = world.shop.call_signed(Method::GET, "/api/v1/orders/none", b"", now_s(), "rsa1", |text| {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
            STANDARD.encode(aws_lc_rs::hmac::sign(&key, text))
        });
        assert_error(&world.shop.send(forged).await, 401, "1005");
    }
    let stranger = RsaKey::generate().unwrap();
    let forged =
        world.shop.call_signed(Method::GET, "/api/v1/orders/none", b"", now_s(), "rsa1", |text| stranger.sign(text));
    assert_error(&world.shop.send(forged).await, 401, "1005");

    let old = KeyId::parse("k1").unwrap();
    assert!(world.place.store.set_merchant_key_live(merchant.id, &old, false).await.unwrap());
    until("the retired key is refused", || async {
        world.shop.get("/api/v1/orders/none").await.0 == StatusCode::UNAUTHORIZED
    })
    .await;
    assert_eq!(world.shop.send(by_rsa()).await.0, StatusCode::NOT_FOUND);
    world
}

pub async fn an_address_list_lets_in_whom_it_names(world: World) -> World {
    let customer_no = CustomerNo::parse("C1").unwrap();
    let mut merchant = world.place.store.merchant_by_customer_no(&customer_no).await.unwrap().unwrap();
    for (list, status) in [
        ("10.9.8.7", StatusCode::FORBIDDEN),
        ("10.9.8.7, 127.0.0.1", StatusCode::NOT_FOUND),
        ("nonsense", StatusCode::FORBIDDEN),
    ] {
        merchant.ip_list = Some(list.into());
        assert!(world.place.store.update_merchant(&merchant).await.unwrap());
        until("the list holds", || async { world.shop.get("/api/v1/orders/none").await.0 == status }).await;
    }
    let call = world.shop.call(Method::GET, "/api/v1/orders/none", b"");
    assert_error(&world.shop.send(call.clone()).await, 403, "1006");
    // What a caller says of itself opens nothing.
    let mut claiming = world.shop.call(Method::GET, "/api/v1/orders/none", b"");
    claiming.headers.push(("x-forwarded-for", "10.9.8.7".into()));
    assert_error(&world.shop.send(claiming).await, 403, "1006");
    // Whoever is not the merchant does not learn of the list.
    let mut forged = world.shop.call(Method::GET, "/api/v1/orders/none", b"");
    forged.headers[4].1 = "AAAA".into();
    assert_error(&world.shop.send(forged).await, 401, "1005");
    world
}

/// The calls come from 127.0.0.1, as from an ingress; the merchant's list names an address behind it.
pub async fn an_address_list_is_judged_by_what_our_own_proxies_say(world: World) -> World {
    let customer_no = CustomerNo::parse("C1").unwrap();
    let mut merchant = world.place.store.merchant_by_customer_no(&customer_no).await.unwrap().unwrap();
    merchant.ip_list = Some("203.0.113.7".into());
    assert!(world.place.store.update_merchant(&merchant).await.unwrap());
    let asked = async |world: &World, forwarded: &[&str]| {
        let mut call = world.shop.call(Method::GET, "/api/v1/orders/none", b"");
        call.headers.extend(forwarded.iter().map(|value| ("x-forwarded-for", (*value).to_owned())));
        world.shop.send(call).await
    };

    let trusting = |texts: &[&str]| Proxies::parse(texts).unwrap();
    let world =
        world.restart(|settings| settings.front.trusted_proxies = trusting(&["127.0.0.0/8", "10.0.0.0/8"])).await;
    for forwarded in [
        &["203.0.113.7"][..],
        &["203.0.113.7, 10.1.2.3"],
        &["198.51.100.9, 203.0.113.7, 10.1.2.3"],
        &["198.51.100.9", "203.0.113.7", "10.1.2.3"],
    ] {
        assert_error(&asked(&world, forwarded).await, 404, "2104");
    }
    for forwarded in [
        &[][..],
        &["198.51.100.9"],
        // The caller wrote the first, our proxy the second.
        &["203.0.113.7, 198.51.100.9"],
        &["203.0.113.7", "198.51.100.9, 10.1.2.3"],
        &["203.0.113.7, unknown, 10.1.2.3"],
        &["10.1.2.3"],
    ] {
        let said = asked(&world, forwarded).await;
        assert!(said.0 == StatusCode::FORBIDDEN, "{forwarded:?}: {said:?}");
        assert_error(&said, 403, "1006");
    }
    // Whoever connects from anywhere else speaks for itself, whatever it writes.
    let world =
        world.restart(|settings| settings.front.trusted_proxies = trusting(&["10.0.0.0/8", "203.0.113.7"])).await;
    for forwarded in [&["203.0.113.7"][..], &["203.0.113.7, 10.1.2.3"]] {
        assert_error(&asked(&world, forwarded).await, 403, "1006");
    }
    world
}

/// Neither by what is said nor by how often: whoever tries names learns nothing.
pub async fn an_unknown_merchant_and_a_wrong_key_are_answered_alike(world: World) -> World {
    let said = |customer_no: &'static str| {
        let world = &world;
        async move {
            let calls = (0..300).map(|_| {
                let mut call = world.shop.call(Method::GET, "/api/v1/orders/A1", b"");
                call.headers.iter_mut().find(|(name, _)| *name == "x-customer-no").unwrap().1 = customer_no.to_owned();
                call.headers.iter_mut().find(|(name, _)| *name == "x-key-id").unwrap().1 = "k9".to_owned();
                world.shop.send(call)
            });
            let mut kinds: Vec<(u16, String)> = join_all(calls)
                .await
                .into_iter()
                .map(|(status, answer)| (status.as_u16(), answer["msg"].as_str().unwrap().to_owned()))
                .collect();
            kinds.sort();
            kinds.dedup();
            kinds
        }
    };
    let (ours, nobodys) = (said("C1").await, said("C404").await);
    assert_eq!(ours, nobodys);
    assert_eq!(ours.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [401, 429]);
    assert_eq!(world.shop.post(ORDERS, &order_body("A1")).await.0, StatusCode::OK, "and the merchant is not kept out");
    world
}
