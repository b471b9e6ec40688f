//! Distinguished names as RFC 4514 writes them, to be compared.

use std::collections::BTreeSet;

/// Attribute types that may be written by name: those of RFC 4514 §3, and two that certificates are full of.
const NAMES: [(&str, &str); 11] = [
    ("CN", "2.5.4.3"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("EMAILADDRESS", "1.2.840.113549.1.9.1"),
];

/// A distinguished name. Two are equal if they have the same relative names in the same order, each with the same
/// attributes in any order; types by object identifier, values character by character. That is stricter than LDAP's
/// matching rules, which fold case and spaces differently for each type: here nothing is equal by accident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistinguishedName(Vec<BTreeSet<(String, String)>>);

impl DistinguishedName {
    /// The name of a certificate, in the certificate's own order: each relative name as `(dotted OID, value)` pairs.
    /// RFC 4514 §2.1 writes the last one first.
    pub fn from_certificate(names: Vec<BTreeSet<(String, String)>>) -> Self {
        Self(names.into_iter().rev().collect())
    }

    /// From RFC 4514's text. Spaces around `,`, `+` and `=` are allowed; `#hex` values and quotes (RFC 2253) are not.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut all = Vec::new();
        let mut relative = BTreeSet::new();
        loop {
            let (kind, after) = rest.split_once('=')?;
            let (value, end, after) = value(after)?;
            if !relative.insert((object_identifier(kind.trim())?, value)) {
                return None;
            }
            if end != Some('+') {
                all.push(std::mem::take(&mut relative));
            }
            if end.is_none() {
                return Some(Self(all));
            }
            rest = after;
        }
    }
}

fn object_identifier(kind: &str) -> Option<String> {
    let by_name = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind));
    let is_dotted =
        kind.contains('.') && kind.split('.').all(|arc| !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()));
    by_name.map(|(_, oid)| (*oid).to_owned()).or_else(|| is_dotted.then(|| kind.to_owned()))
}

/// A value, what ended it (`,`, `+` or the end), and what follows (RFC 4514 §2.4, §3).
fn value(text: &str) -> Option<(String, Option<char>, &str)> {
    let text = text.trim_start_matches(' ');
    let mut bytes = Vec::new();
    // How much stays if what follows is only spaces that nobody escaped.
    let mut kept = 0;
    let mut chars = text.char_indices();
    let (mut end, mut rest) = (None, "");
    while let Some((at, c)) = chars.next() {
        match c {
            ',' | '+' => {
                (end, rest) = (Some(c), text.get(at + 1..)?);
                break;
            }
            '\\' => {
                let (_, escaped) = chars.next()?;
                match escaped {
                    '"' | '+' | ',' | ';' | '<' | '>' | ' ' | '#' | '=' | '\\' => {
                        bytes.push(u8::try_from(escaped).ok()?)
                    }
                    high => {
                        let (_, low) = chars.next()?;
                        bytes.push(u8::try_from(high.to_digit(16)? * 16 + low.to_digit(16)?).ok()?);
                    }
                }
                kept = bytes.len();
            }
            '"' | ';' | '<' | '>' | '\0' => return None,
            '#' if bytes.is_empty() => return None,
            c => {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                if c != ' ' {
                    kept = bytes.len();
                }
            }
        }
    }
    bytes.truncate(kept);
    let value = String::from_utf8(bytes).ok().filter(|value| !value.is_empty())?;
    Some((value, end, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(parts: &[&[(&str, &str)]]) -> DistinguishedName {
        let set = |part: &&[(&str, &str)]| part.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        DistinguishedName::from_certificate(parts.iter().map(set).collect())
    }

    #[test]
    fn rfc4514_s4_the_examples_are_read() {
        let same = |text: &str, parts: &[&[(&str, &str)]]| {
            assert_eq!(DistinguishedName::parse(text), Some(name(parts)), "{text}")
        };
        let (dc, uid, cn, ou) = ("0.9.2342.19200300.100.1.25", "0.9.2342.19200300.100.1.1", "2.5.4.3", "2.5.4.11");
        same("UID=jsmith,DC=example,DC=net", &[&[(dc, "net")], &[(dc, "example")], &[(uid, "jsmith")]]);
        same("OU=Sales+CN=J.  Smith,DC=example", &[&[(dc, "example")], &[(ou, "Sales"), (cn, "J.  Smith")]]);
        same("cn=J.  Smith + ou=Sales , dc=example", &[&[(dc, "example")], &[(ou, "Sales"), (cn, "J.  Smith")]]);
        same("CN=James \\\"Jim\\\" Smith\\, III,DC=net", &[&[(dc, "net")], &[(cn, "James \"Jim\" Smith, III")]]);
        same("CN=Before\\0dAfter", &[&[(cn, "Before\rAfter")]]);
        same("CN=Lu\\C4\\8Di\\C4\\87", &[&[(cn, "Lučić")]]);
        same("2.5.4.3=\\ a\\ ", &[&[(cn, " a ")]]);
    }

    #[test]
    fn what_is_no_name_is_none() {
        for text in [
            "",
            "CN",
            "CN=",
            "CN=a,",
            "CN=a,b",
            "=a",
            "XX=a",
            "CN=#0401",
            "CN=\"a\"",
            "CN=a\\",
            "CN=a\\4",
            "CN=\\ff",
            "1.=a",
            "CN=a+CN=a",
            "CN=a;O=b",
        ] {
            assert_eq!(DistinguishedName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn order_and_case_of_values_count() {
        let parse = |text| DistinguishedName::parse(text).unwrap();
        assert_ne!(parse("CN=a,O=b"), parse("O=b,CN=a"));
        assert_ne!(parse("CN=a"), parse("CN=A"));
        assert_ne!(parse("CN=a,O=b"), parse("CN=a+O=b"));
        assert_ne!(parse("CN=a,O=b"), parse("CN=a"));
    }
}
