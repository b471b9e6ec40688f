//! Mistakes of spelling in operations: what is taken as it stands, fits no request, and so would deny everything without a
//! word. They are looked for when a document is applied, not when a stored definition is loaded.

use crate::model::{Upstream, misspelled};
use crate::policy::Mistake;
use crate::policy::routes::is_callable;

const ALL_METHODS: &str = "write each method: [GET, POST, PUT, PATCH, DELETE]; GET gives HEAD";

/// Notes what is misspelled in the operations of an upstream, which stands at `at`.
pub(super) fn check(at: &str, upstream: &Upstream, mistakes: &mut Vec<Mistake>) {
    for (n, operation) in upstream.operations.iter().enumerate() {
        // What cannot be called at all is told of beside this.
        for method in operation.methods.iter().filter(|method| is_callable(method)) {
            if let Some((problem, fix)) = misspelled_method(method) {
                mistakes.push(Mistake { at: format!("{at}.operations[{n}].methods"), problem, fix });
            }
        }
        if let Some((problem, fix)) = misspelled(operation.path.as_str()) {
            mistakes.push(Mistake { at: format!("{at}.operations[{n}].path"), problem, fix });
        }
    }
}

/// What is wrong with a method that HTTP's syntax allows (RFC 9110 §9.1) and nobody sends.
pub(super) fn misspelled_method(method: &str) -> Option<(String, String)> {
    let shown = method.escape_debug();
    let upper = method.to_ascii_uppercase();
    if matches!(upper.as_str(), "ANY" | "ALL" | "*" | "**" | "_" | "EVERY" | "EACH") {
        return Some((format!("'{shown}' is no method; there is no word for all of them"), ALL_METHODS.to_owned()));
    }
    // Several in one: `GET,POST`, `GET|POST`, `GET POST`.
    let several: Vec<&str> = upper.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
    let words: Vec<&str> = several.into_iter().filter(|word| !word.is_empty()).collect();
    if words.len() > 1 {
        return Some((format!("'{shown}' is more than one method"), format!("write [{}]", words.join(", "))));
    }
    let plain = upper.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match (plain, method == upper) {
        (true, true) => None,
        (true, false) => Some((format!("'{shown}' is not in upper case"), format!("write {upper}"))),
        (false, _) => Some((format!("'{shown}' is no method"), "write for example [GET, POST]".to_owned())),
    }
}
