//! The page: kept in pieces, sent as one file that needs nothing from elsewhere.

use poem::Response;

const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style>\n",
    include_str!("page/phone.css"),
    include_str!("page/merchant.css"),
    include_str!("page/travel.css"),
    "</style>\n</head>\n",
    include_str!("page/body.html"),
    "<script>\n\"use strict\";\n",
    include_str!("page/common.js"),
    include_str!("page/travel.js"),
    include_str!("page/merchant.js"),
    include_str!("page/bills.js"),
    include_str!("page/phone.js"),
    "</script>\n</body>\n</html>\n",
);

/// The page, fresh each time.
pub fn response() -> Response {
    Response::builder()
        .header("content-type", "text/html; charset=utf-8")
        .header("cache-control", "no-store")
        // The page talks to this origin and to nobody else.
        .header(
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        .body(PAGE)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::PAGE;

    /// What stands between `start` and the next quote, wherever `start` stands.
    fn quoted<'a>(text: &'a str, start: &'a str) -> Vec<&'a str> {
        text.match_indices(start).filter_map(|(at, _)| text[at + start.len()..].split('"').next()).collect()
    }

    /// A browser would tell of a missing element only when its button is pressed.
    #[test]
    fn every_element_that_the_script_names_is_there_once() {
        let (markup, script) = PAGE.split_once("<script>").unwrap();
        let ids = quoted(markup, " id=\"");
        let known: HashSet<_> = ids.iter().copied().collect();
        assert_eq!(ids.len(), known.len(), "an id twice");
        let named: HashSet<_> = quoted(script, "$(\"").into_iter().collect();
        assert!(named.len() > 40, "{named:?}");
        for id in &named {
            assert!(known.contains(id), "the script asks for #{id}");
        }
        for id in &known {
            assert!(script.contains(&format!("\"{id}\"")), "nothing is done with #{id}");
        }
    }

    #[test]
    fn every_name_is_defined_once_in_the_scope_that_the_pieces_share() {
        let (_, script) = PAGE.split_once("<script>").unwrap();
        let mut defined = HashSet::new();
        for line in script.lines() {
            let line = line.strip_prefix("async ").unwrap_or(line);
            let rest = ["const ", "let ", "function "].iter().find_map(|word| line.strip_prefix(word));
            let Some(name) = rest.and_then(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '$').next()) else {
                continue;
            };
            assert!(defined.insert(name), "{name} is defined twice: the pieces share one scope");
        }
        for name in ["$", "card", "drawDesk", "drawBills", "refund", "shut", "travelAs", "pay", "draw"] {
            assert!(defined.contains(name), "{name}");
        }
    }
}
