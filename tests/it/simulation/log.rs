//! What happened in a history, line by line.

use std::collections::HashMap;

/// Ids as long as this are numbered in the order in which they appear: those that the program makes itself (a refund by policy)
/// are others each time.
const ID_LEN: usize = 26;

/// The lines without what is other each time though nothing is.
pub fn comparable(lines: &[String]) -> Vec<String> {
    let mut known = HashMap::new();
    lines.iter().map(|line| numbered(line, &mut known)).collect()
}

fn numbered(line: &str, known: &mut HashMap<String, usize>) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        out.push_str(&rest[..at]);
        let word = &rest[at..];
        let end = word.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        if word.len() < ID_LEN {
            out.push_str(word);
        } else {
            let fresh = known.len();
            let number = *known.entry(word.to_owned()).or_insert(fresh);
            out.push_str(&format!("id{number}"));
        }
        rest = after;
    }
    out.push_str(rest);
    out
}
