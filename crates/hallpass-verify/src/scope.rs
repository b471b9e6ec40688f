//! Scopes: what a token may do, as RFC 6749 §3.3 writes it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A scope text that RFC 6749 §3.3 does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a scope is one or more tokens of printable ASCII without quote and backslash, separated by single spaces")]
pub struct InvalidScope;

/// A set of scope tokens, ordered, without repeats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeSet(BTreeSet<String>);

impl ScopeSet {
    /// `scope = scope-token *( SP scope-token )`, RFC 6749 §3.3. The empty text is an error: leave it out instead.
    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        let tokens = text.split(' ').map(|token| Self::is_token(token).then(|| token.to_owned()).ok_or(InvalidScope));
        tokens.collect::<Result<BTreeSet<_>, _>>().map(Self)
    }

    /// `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )`.
    pub fn is_token(token: &str) -> bool {
        !token.is_empty() && token.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
    }

    /// Whether `token` is in it.
    pub fn contains(&self, token: &str) -> bool {
        self.0.contains(token)
    }

    /// Whether each of these scopes is in `other` too.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// What `keep` says yes to.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|token| keep(token)).cloned().collect())
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tokens, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<S: Into<String>> FromIterator<S> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = S>>(tokens: I) -> Self {
        Self(tokens.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, token) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            f.write_str(token)?;
        }
        Ok(())
    }
}

impl Serialize for ScopeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ScopeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6749_s3_3_syntax() {
        assert_eq!(ScopeSet::parse("b a a").unwrap().to_string(), "a b");
        for bad in ["", " a", "a ", "a  b", "a\tb", "a\"b", "a\\b", "é", "a\nb"] {
            assert_eq!(ScopeSet::parse(bad), Err(InvalidScope), "{bad:?}");
        }
    }
    #[test]
    fn sets() {
        let set = |text: &str| ScopeSet::parse(text).unwrap();
        let (ab, bc) = (set("a b"), set("b c"));
        assert!(ab.contains("a") && !ab.contains("c") && !ab.is_empty() && ScopeSet::default().is_empty());
        assert!(set("b").is_subset(&ab) && ab.is_subset(&ab) && !bc.is_subset(&ab));
        assert_eq!(ab.intersection(&bc), set("b"));
        assert_eq!(ab.filter(|token| token != "a"), set("b"));
        assert_eq!(ab.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(["b", "a"].into_iter().collect::<ScopeSet>(), ab);
    }

    #[test]
    fn it_travels_as_one_text() {
        let set: ScopeSet = serde_json::from_str(r#""b a""#).unwrap();
        assert_eq!(serde_json::to_string(&set).unwrap(), r#""a b""#);
        assert!(
            serde_json::from_str::<ScopeSet>(r#""a  b""#).is_err()
                && serde_json::from_str::<ScopeSet>(r#""""#).is_err()
        );
    }
}
