//! What each fuzz target asserts. `fuzz_targets/` only hands the bytes over, so that `cargo test` can run every file of
//! the corpus through the same code on stable Rust.

pub mod answer;
pub mod client_auth;
pub mod config;
pub mod envelope;
pub mod fixtures;
pub mod manifest;
pub mod revocations;
pub mod scrub;
pub mod spec;
pub mod target;
pub mod token;

/// A fuzz target: panics when a promise is broken.
pub type Target = fn(&[u8]);

/// All targets, by the name of their file and of their corpus.
pub const TARGETS: [(&str, Target); 9] = [
    ("answer", answer::run),
    ("client_auth", client_auth::run),
    ("config", config::run),
    ("envelope", envelope::run),
    ("manifest", manifest::run),
    ("revocations", revocations::run),
    ("scrub", scrub::run),
    ("target", target::run),
    ("token", token::run),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::fixtures::{AUDIENCE, ISSUED, ISSUER, KEYS, LIST, TOKENS};

    /// Otherwise "nothing forged is good" would say nothing.
    #[test]
    fn the_genuine_tokens_and_the_genuine_list_are_good() {
        use hallpass_verify::{RevocationList, RevocationSet, TokenVerifier};
        let verifier = TokenVerifier::new(ISSUER, 5, 10);
        for (name, token) in TOKENS {
            let verdict = verifier.verify(
                token,
                &KEYS,
                &RevocationSet::default(),
                |aud| aud == AUDIENCE,
                &hallpass_verify::Possession::NONE,
                ISSUED,
            );
            assert_eq!(verdict.map(|claims| claims.jti.clone()), Ok("tk_one".to_owned()), "{name}");
        }
        assert!(RevocationList::verify(LIST, &KEYS, ISSUER, 5, ISSUED).is_ok());
    }

    /// A finding that was mended stays mended, without nightly Rust and without a fuzzer.
    #[test]
    fn every_corpus_passes() {
        for (name, run) in super::TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
            let mut files = 0;
            for file in std::fs::read_dir(&folder).unwrap() {
                run(&std::fs::read(file.unwrap().path()).unwrap());
                files += 1;
            }
            assert!(files >= 8, "{name} has {files} seeds");
        }
    }
}
