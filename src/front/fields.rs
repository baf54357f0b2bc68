//! What a phone posts: JSON or a form, told apart by looking, because clients send bare or wrong content types.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

use crate::domain::outcome::Refusal;

/// The largest body of a phone, in bytes.
pub const PHONE_BODY_MAX: usize = 8 * 1024;

/// The three published fields; unknown ones are ignored.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PhoneFields {
    pub pay_info: Option<String>,
    pub code: Option<String>,
    pub identify_id: Option<String>,
}

/// Reads a phone's body (`mini-program.md`, 1). Errors: [`Refusal::InvalidField`].
pub fn read(body: &[u8]) -> Result<PhoneFields, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::InvalidField)?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('{') {
        return serde_json::from_str::<JsonFields>(text).map(|fields| fields.0).map_err(|_| Refusal::InvalidField);
    }
    let mut fields = PhoneFields::default();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        // The parser replaces what is not UTF-8; a replacement is damage, not a value.
        if value.contains('\u{fffd}') && is_ours(&name) {
            return Err(Refusal::InvalidField);
        }
        fields.take(&name, Some(value.into_owned())).map_err(|Twice| Refusal::InvalidField)?;
    }
    Ok(fields)
}

fn is_ours(name: &str) -> bool {
    matches!(name, "payInfo" | "code" | "identifyId")
}

/// One field with two values: which one was meant is not ours to guess.
struct Twice;

impl PhoneFields {
    fn take(&mut self, name: &str, value: Option<String>) -> Result<(), Twice> {
        let slot = match name {
            "payInfo" => &mut self.pay_info,
            "code" => &mut self.code,
            "identifyId" => &mut self.identify_id,
            _ => return Ok(()),
        };
        let Some(value) = value.as_deref().map(str::trim).filter(|value| !is_absent(value)) else { return Ok(()) };
        match slot {
            Some(before) if before != value => Err(Twice),
            _ => {
                *slot = Some(value.to_owned());
                Ok(())
            }
        }
    }
}

/// What a client's string concatenation makes of a missing value.
fn is_absent(value: &str) -> bool {
    matches!(value, "" | "null" | "undefined")
}

struct JsonFields(PhoneFields);

impl<'de> Deserialize<'de> for JsonFields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = JsonFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonFields, A::Error> {
                let mut fields = PhoneFields::default();
                while let Some(name) = map.next_key::<String>()? {
                    if is_ours(&name) {
                        let value = map.next_value::<Option<String>>()?;
                        fields.take(&name, value).map_err(|Twice| A::Error::custom("a field twice"))?;
                    } else {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    }
                }
                Ok(JsonFields(fields))
            }
        }
        from.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pay_info: &str, code: &str, identify_id: &str) -> PhoneFields {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        PhoneFields { pay_info: some(pay_info), code: some(code), identify_id: some(identify_id) }
    }

    #[test]
    fn json_and_forms_are_told_apart_by_looking() {
        assert_eq!(read(br#" {"payInfo":" p ","code":"c","x":{"y":[1]}}"#), Ok(fields("p", "c", "")));
        assert_eq!(read(b"payInfo=p&code=c%2B&x=1"), Ok(fields("p", "c+", "")));
        assert_eq!(read("\u{feff}{\"payInfo\":\"p\"}".as_bytes()), Ok(fields("p", "", "")));
        assert_eq!(read(b""), Ok(PhoneFields::default()));
    }

    #[test]
    fn what_a_client_makes_of_nothing_counts_as_absent() {
        let body = br#"{"payInfo":null,"code":"undefined","identifyId":"null"}"#;
        assert_eq!(read(body), Ok(PhoneFields::default()));
        assert_eq!(read(b"payInfo=&code=undefined&identifyId=%20"), Ok(PhoneFields::default()));
    }

    #[test]
    fn a_field_twice_is_taken_only_when_it_says_the_same() {
        assert_eq!(read(br#"{"code":"a","code":"a"}"#), Ok(fields("", "a", "")));
        assert_eq!(read(br#"{"code":"a","code":null}"#), Ok(fields("", "a", "")));
        assert_eq!(read(br#"{"code":"a","code":"b"}"#), Err(Refusal::InvalidField));
        assert_eq!(read(b"code=a&code=b"), Err(Refusal::InvalidField));
    }

    #[test]
    fn damage_is_told() {
        for body in [
            &b"{"[..],
            b"{\"payInfo\":1}",
            b"{\"payInfo\":[\"p\"]}",
            b"{\"payInfo\":\"p\"} x",
            b"{\"payInfo\":\"\xff\"}",
            b"payInfo=%ff",
            b"\xfe\xff",
        ] {
            assert_eq!(read(body), Err(Refusal::InvalidField), "{}", String::from_utf8_lossy(body));
        }
    }
}
