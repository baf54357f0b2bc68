//! Reading the text forms in which people hold keys and certificates.

use base64::{Engine, alphabet, engine::GeneralPurpose, engine::general_purpose};
use zeroize::{Zeroize, Zeroizing};

/// One block of a PEM text. `label` is empty for bare base64.
pub struct PemBlock {
    pub label: String,
    pub der: Zeroizing<Vec<u8>>,
}

/// Copied keys lose their padding or end in stray bits; the DER inside is what gets checked.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    general_purpose::GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Every block of `text`: PEM armour with any label, on any number of lines, CRLF or LF, `\n` spelled as two characters, words
/// around the blocks; or bare base64, which gives one block without a label. Undecodable blocks are left out.
pub fn pem_blocks(text: &str) -> Vec<PemBlock> {
    // Settings and JSON files often carry a key on one line with its line ends spelled out.
    let text = Zeroizing::new(text.trim_start_matches('\u{feff}').replace("\\r", "\n").replace("\\n", "\n"));
    let mut blocks = Vec::new();
    let Some(_) = text.find(BEGIN) else {
        return decode(&text).map(|der| PemBlock { label: String::new(), der }).into_iter().collect();
    };
    let mut rest = text.as_str();
    while let Some(at) = rest.find(BEGIN) {
        rest = &rest[at + BEGIN.len()..];
        let Some((label, after)) = rest.split_once(DASHES) else { break };
        let (body, next) = match after.find(END) {
            Some(end) => (&after[..end], &after[end + END.len()..]),
            None => (after, ""),
        };
        if let Some(der) = decode(body) {
            blocks.push(PemBlock { label: label.trim().to_owned(), der });
        }
        rest = next;
    }
    blocks
}

/// PEM text of a block, 64 columns, LF.
pub fn to_pem(label: &str, der: &[u8]) -> String {
    let base64 = general_purpose::STANDARD.encode(der);
    let mut text = format!("{BEGIN}{label}{DASHES}\n");
    for line in base64.as_bytes().chunks(64) {
        // Base64 is ASCII, so a chunk is text.
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text.push_str(&format!("{END}{label}{DASHES}\n"));
    text
}

fn decode(body: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut compact = String::with_capacity(body.len());
    compact.extend(body.chars().filter(|c| !c.is_whitespace()));
    let der = LENIENT.decode(compact.as_bytes()).ok().filter(|der| !der.is_empty()).map(Zeroizing::new);
    compact.zeroize();
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_in_every_wrapping() {
        let der = [0x30, 0x03, 0x02, 0x01, 0x05];
        let pem = to_pem("THING", &der);
        for text in [
            pem.clone(),
            pem.replace('\n', "\r\n"),
            pem.replace('\n', "\\n"),
            pem.replace('\n', " "),
            format!("\u{feff}Bag Attributes\n  friendlyName: x\n{pem}trailing words"),
            pem.replace("-----END THING-----\n", ""),
        ] {
            let blocks = pem_blocks(&text);
            assert_eq!(blocks.len(), 1, "{text}");
            assert_eq!((blocks[0].label.as_str(), blocks[0].der.as_slice()), ("THING", der.as_slice()));
        }
        assert_eq!(pem_blocks(&format!("{pem}{pem}")).len(), 2);
        assert_eq!(pem_blocks("MAMCAQU").first().map(|block| block.der.to_vec()), Some(der.to_vec()));
        assert!(pem_blocks("").is_empty());
        assert!(pem_blocks("订单 is not base64").is_empty());
        assert!(pem_blocks("-----BEGIN ").is_empty());
    }
}
