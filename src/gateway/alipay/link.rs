//! Links that open a mini-program from outside (`alipay.md` §11). Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What JavaScript's `encodeURIComponent` leaves alone besides letters and digits.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// `encodeURIComponent`.
pub fn encode_component(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// Names and values, each encoded on its own, joined as a query: `k=v&k2=v2`.
pub fn query_of(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", encode_component(name), encode_component(value))).collect();
    pairs.join("&")
}

/// A place in a mini-program.
///
/// The base library decodes names and values once more by default, so values are safest in `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target<'a> {
    pub app_id: &'a str,
    /// A page of app.json without a leading slash; `None` opens the home page.
    pub page: Option<&'a str>,
    /// Parameters of the page (`Page.onLoad`), a query like [`query_of`] makes it; only with a page.
    pub page_query: Option<&'a str>,
    /// Launch parameters (`App.onLaunch`, `App.onShow`), likewise.
    pub query: Option<&'a str>,
}

impl Target<'_> {
    /// `alipays://platformapi/startapp?appId=…&page=…&query=…`, each query encoded as a whole.
    pub fn scheme(&self) -> String {
        let mut link = format!("alipays://platformapi/startapp?appId={}", encode_component(self.app_id));
        if let Some(page) = self.page {
            // Slashes of the path may stay plain; anything that could end the parameter may not.
            let path: Vec<String> = page.split('/').map(encode_component).collect();
            link.push_str("&page=");
            link.push_str(&path.join("/"));
            if let Some(query) = self.page_query {
                link.push('?');
                link.push_str(&encode_component(query));
            }
        }
        if let Some(query) = self.query {
            link.push_str("&query=");
            link.push_str(&encode_component(query));
        }
        link
    }

    /// The same for browsers and other apps: `https://ds.alipay.com/?scheme=…`.
    pub fn https(&self) -> String {
        format!("https://ds.alipay.com/?scheme={}", encode_component(&self.scheme()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::alipay::testing;

    /// The pairs in the order of the file, which a parsed JSON object would not keep.
    fn pairs(value: &serde_json::Value, order: &[&'static str]) -> Option<String> {
        let object = value.as_object()?;
        assert_eq!(object.len(), order.len());
        let pairs: Vec<(&str, &str)> = order.iter().map(|name| (*name, object[*name].as_str().unwrap())).collect();
        Some(query_of(&pairs))
    }

    #[test]
    fn links_are_those_of_the_vectors() {
        let vectors = testing::json("deeplink.json");
        let cases = vectors["cases"].as_array().unwrap();
        let orders: [&[&str]; 4] = [&[], &["t"], &["order", "sig", "n"], &["key1", "key2"]];
        for (case, order) in cases.iter().zip(orders) {
            let page_query = pairs(&case["page_params"], order);
            let query = pairs(&case["query"], order);
            let target = Target {
                app_id: case["app_id"].as_str().unwrap(),
                page: case["page"].as_str(),
                page_query: page_query.as_deref(),
                query: query.as_deref(),
            };
            assert_eq!(target.scheme(), case["scheme"].as_str().unwrap());
            assert_eq!(target.https(), case["https_ds"].as_str().unwrap());
        }
        assert_eq!(cases.len(), 4);
    }

    #[test]
    fn nothing_in_a_part_can_end_it() {
        let target = Target { app_id: "1&x=2", page: Some("a/b?c#d&e"), page_query: None, query: Some("a=b&c") };
        assert_eq!(
            target.scheme(),
            "alipays://platformapi/startapp?appId=1%26x%3D2&page=a/b%3Fc%23d%26e&query=a%3Db%26c"
        );
    }
}
