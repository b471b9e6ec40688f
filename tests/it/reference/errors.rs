//! `docs/errors.md`, from every place of the program that gives an error its code.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;
use syn::{Expr, ImplItem, Item, Pat, Stmt};

use super::source::{Source, doc, first_text, is_for_tests, literal, sources, text, without_arguments};
use super::{MADE, code, head, page_is, row, sentence};

const HEAD: &str = "\
Every error has a stable `code`: programs may match on it, the sentence beside it may change. The sentence says what was
wrong and what to do. `…` on this page stands for what is filled in.

| where | form |
|---|---|
| `/oauth2/*` | JSON as in RFC 6749 section 5.2: `error`, `error_description`, `code`, `request_id` |
| everywhere else | problem details as in RFC 9457: `status`, `title`, `detail`, `code`, `request_id` |

The `request_id` is also in the header `X-Request-Id` and in the audit record. With it an admin finds the record of the
refusal, and what only the log may say.
";

/// What a kind of `Error` is over HTTP.
const KINDS: [(&str, &str); 13] = [
    ("invalid", "400"),
    ("unauthenticated", "401"),
    ("forbidden", "403"),
    ("not_found", "404"),
    ("method_not_allowed", "405"),
    ("conflict", "409"),
    ("misdirected", "421"),
    ("not_implemented", "501"),
    ("too_large", "413"),
    ("unavailable", "503"),
    ("bad_gateway", "502"),
    ("gateway_timeout", "504"),
    ("internal", "500"),
];

const CALLS: &str = "Brokered calls and other endpoints";
const TOKENS: &str = "Tokens and proofs";
const OAUTH: &str = "Token endpoint";
const ADMIN: &str = "Administration";
const START: &str = "Start and commands";
const RECORDS: &str = "In audit records and metrics alone";

/// The sections, each with its first sentence.
const SECTIONS: [(&str, &str); 6] = [
    (OAUTH, "What `/oauth2/token` and the other endpoints below `/oauth2/` answer."),
    (
        TOKENS,
        "Why a token, or the proof that came with it, is not valid. The answer adds what to do, which mostly is: get a new \
              token at the token endpoint.",
    ),
    (CALLS, "Why a call was not made, or has no answer."),
    (ADMIN, "What the commands print and the admin interface answers."),
    (START, "Why the broker does not start, or a command does not run. These are printed and logged."),
    (
        RECORDS,
        "The `reason` of a record. The caller is answered by another code, or has the head of its answer already.",
    ),
];

/// Where the codes of a type are met, and their status there.
fn place_of(name: &str, function: &str) -> Option<(&'static str, &'static str)> {
    Some(match (name, function) {
        ("TokenError", "code") => (OAUTH, "400"),
        ("Refusal", "code") => (TOKENS, "401"),
        ("ProofRefusal", "code") => (TOKENS, "401; 400 at the token endpoint"),
        ("TargetError", "code") => (CALLS, "400"),
        ("ProofRefusal", "reason")
        | ("TokenError", "reason")
        | ("AddressRefusal" | "Denial" | "BodyError" | "Ended", _) => (RECORDS, "none"),
        // They pass on what others say.
        ("CallError" | "DpopRefusal" | "Error", _) => return None,
        _ => {
            panic!("docs/errors.md: say in tests/it/reference/errors.rs where the codes of {name}::{function} are met")
        }
    })
}

/// Codes whose status is not that of their neighbours.
const STATUS: [(&str, &str); 3] =
    [("invalid_client", "401"), ("temporarily_unavailable", "503"), ("server_error", "500")];

/// What a reader needs who has only the code, where the sources have no sentence in one piece.
const SENTENCES: [(&str, &str); 10] = [
    (
        "operation_not_allowed",
        "no operation that this token reaches has this method and path; the sentence names the nearest",
    ),
    ("upstream_unknown", "there is no upstream of this name; see the paths that the admin gave you"),
    ("bad_body", "the body is not JSON as this endpoint takes it; the sentence names the member"),
    ("bad_identity", "how the agent should prove itself has mistakes; the sentence lists them"),
    ("bad_master_key", "the new master key is no master key; 'hallpass init' in an empty folder makes one"),
    ("bad_name", "the name has a character that names do not have, or is too long; rename it"),
    ("bad_reason", "the reason is too long or holds a control character; shorten it"),
    ("config_invalid", "the settings have mistakes; all of them are listed, each with its line"),
    ("database", "the database cannot be opened; the sentence says why"),
    ("not_admin", "what was presented is no admin's; log in with 'hallpass login', or show an admin's certificate"),
];

/// Codes that come from elsewhere in the program, where they are read: the pairs in `value.rs`.
const PASSED_ON: [&str; 1] = ["src/manage/value.rs code"];

/// The sentences of the token endpoint, which are made for each case. They replace what the variants say to those who read
/// the sources.
const OAUTH_SENTENCES: [(&str, &str); 9] = [
    (
        "invalid_client",
        "client authentication failed: check client_id, and its secret, assertion or certificate; with \
                        Retry-After, too many secrets were wrong: wait as it says",
    ),
    (
        "invalid_grant",
        "the session, the assertion or the subject token is not one that this agent can use; the description \
                       says why",
    ),
    ("invalid_request", "a parameter is missing, malformed or there twice; the description names it"),
    (
        "invalid_scope",
        "the agent's roles do not give what was asked for, or give nothing; ask for less, or ask the admin for a \
                       role",
    ),
    (
        "invalid_target",
        "no upstream or resource has this audience, or the agent's roles give no scope of it; check resource",
    ),
    ("server_error", "Hallpass failed inside; the operator finds the reason in its log under this request id"),
    ("temporarily_unavailable", "nothing can be recorded now, so nothing is issued; try again in a moment"),
    ("unauthorized_client", "this agent may not do this; the description says what it takes"),
    ("unsupported_grant_type", "the grant types are in the metadata; this one is not among them"),
];

/// What to do, where the sentence of the sources only says what was wrong.
const ADVICE: [(&str, &str); 22] = [
    ("agent_revoked", "ask the admin: a revoked agent does not come back"),
    ("session_revoked", "ask for a token without session_id: it opens a new session"),
    ("token_expired", "get a new token"),
    ("token_wrong_audience", "ask for a token with the right resource"),
    ("token_wrong_issuer", "send a token of this broker"),
    ("token_unknown_key", "get a new token; at a gateway, fetch the JWKS again"),
    ("token_not_yet_valid", "set the clocks right"),
    ("revocation_list_stale", "at a gateway: check that it reaches /revocations"),
    ("conflict", "look at what is there, and try again"),
    ("credential_expired", "the operator stores a new version, or removes the @VERSION from the definition"),
    ("credential_revoked", "the operator removes the credential and stores a new one"),
    ("method_not_allowed", "see docs/endpoints.md"),
    ("request_broken", "send it again"),
    ("token_misplaced", "send it as 'Authorization: Bearer …', or where the definition's inject says"),
    ("upstream_address", "where a private address is meant, set allow_private; metadata addresses are never dialled"),
    ("upstream_connect", "run 'hallpass upstream test NAME'"),
    ("upstream_connect_timeout", "run 'hallpass upstream test NAME'"),
    ("upstream_dns", "check base_url; run 'hallpass upstream test NAME'"),
    ("upstream_encoding", "have the upstream answer without it, or in gzip, deflate, br or zstd"),
    ("upstream_reset", "try again; if it stays, look at the upstream's log"),
    ("upstream_timeout", "raise timeouts.response_seconds of the definition, or exchange.response_timeout_seconds"),
    ("upstream_tls", "check its certificate; for a CA of your own, set ca_file"),
];

/// One code in one place.
#[derive(Default)]
struct Entry {
    statuses: BTreeSet<String>,
    sentences: Vec<String>,
}

type Page = BTreeMap<&'static str, BTreeMap<String, Entry>>;

fn add(page: &mut Page, section: &'static str, status: &str, code: &str, sentence: Option<String>) {
    let entry = page.entry(section).or_default().entry(code.to_owned()).or_default();
    entry.statuses.insert(status.to_owned());
    entry.sentences.extend(sentence.filter(|one| !entry.sentences.contains(one)));
}

#[test]
fn every_code_is_on_its_page() {
    let sources = sources();
    let mut page = Page::new();
    let mut unseen = Vec::new();
    let constants: BTreeMap<String, String> =
        sources.iter().flat_map(|source| &source.file.items).filter_map(constant).collect();
    for source in &sources {
        let section = match source.path.as_str() {
            path if path.starts_with("src/http/admin/") || path.starts_with("src/manage/") => ADMIN,
            "src/error.rs" => CALLS,
            path if ["src/http/", "src/broker/", "src/credential/"].iter().any(|one| path.starts_with(one)) => CALLS,
            _ => START,
        };
        let mut calls = Calls {
            path: &source.path,
            section,
            page: &mut page,
            texts: Vec::new(),
            codes: Vec::new(),
            constants: &constants,
            unseen: &mut unseen,
            closures: BTreeMap::new(),
        };
        calls.visit_file(&source.file);
    }
    assert!(unseen.is_empty(), "docs/errors.md: write these codes as texts where the error is made: {unseen:#?}");
    for source in &sources {
        of_types(source, &sources, &mut page);
    }
    // The one code that stands alone, in `http/reply.rs`: the proof is good, and cannot be remembered.
    add(
        &mut page,
        TOKENS,
        "503",
        "too_many_proofs",
        Some("too many DPoP proofs are in use: try again in a moment".into()),
    );
    let mut text = format!("# Errors\n\n{MADE}\n\n{HEAD}");
    let mut bare = Vec::new();
    for (section, about) in SECTIONS {
        let entries = page.remove(section).unwrap_or_default();
        text.push_str(&format!("\n## {section}\n\n{about}\n\n{}", head(&["code", "status", "what it says"])));
        for (name, entry) in entries {
            let of = |table: &[(&str, &str)]| {
                table.iter().find(|(code, _)| *code == name).map(|(_, sentence)| (*sentence).to_owned())
            };
            let entry = match of(&SENTENCES) {
                Some(sentence) if entry.sentences.is_empty() => Entry { sentences: vec![sentence], ..entry },
                _ => entry,
            };
            let own = of(&OAUTH_SENTENCES).filter(|_| section == OAUTH).map(|one| vec![one]);
            let advice = of(&ADVICE).filter(|_| [TOKENS, CALLS].contains(&section) || name == "conflict");
            let sentences = own.unwrap_or(entry.sentences).into_iter().chain(advice);
            let sentences: Vec<_> = sentences.map(|one| sentence(&one)).collect();
            if sentences.is_empty() {
                bare.push(name.clone());
            }
            let statuses: Vec<_> = entry.statuses.iter().map(String::as_str).collect();
            let status =
                STATUS.iter().find(|(code, _)| *code == name).map_or(statuses.join(", "), |(_, s)| (*s).to_owned());
            let status = if section == START { "none".to_owned() } else { status };
            text.push_str(&row(&[&code(&name), &status, &sentences.join(" ")]));
        }
    }
    assert!(
        bare.is_empty(),
        "docs/errors.md: give these codes a sentence in one piece in the sources, or in SENTENCES: {bare:#?}"
    );
    assert!(page.is_empty());
    for (name, _) in SENTENCES.iter().chain(&OAUTH_SENTENCES).chain(&ADVICE) {
        assert!(
            text.contains(&format!("| `{name}` |")),
            "{name} has a sentence in tests/it/reference/errors.rs and is nowhere"
        );
    }
    page_is("errors.md", &text);
}

/// `Error::invalid("code", "sentence")` and its kin, and values with the fields `code` and `message`.
struct Calls<'a> {
    path: &'a str,
    section: &'static str,
    page: &'a mut Page,
    /// Names that are bound to a text, the innermost last.
    texts: Vec<(String, String)>,
    /// Names that are bound to one of several codes, the innermost last.
    codes: Vec<(String, Vec<String>)>,
    /// Constant texts of the program.
    constants: &'a BTreeMap<String, String>,
    /// Where an error gets a code that cannot be read here.
    unseen: &'a mut Vec<String>,
    /// Closures whose one parameter is the sentence: their status and code.
    closures: BTreeMap<String, (String, String)>,
}

impl Calls<'_> {
    fn sentence(&self, expression: &Expr) -> Option<String> {
        text(expression).or_else(|| {
            let Expr::Path(path) = expression else { return None };
            let name = path.path.get_ident()?.to_string();
            self.texts.iter().rev().find(|(known, _)| *known == name).map(|(_, text)| text.clone())
        })
    }

    /// Every `Error::kind(…)` among some tokens.
    fn in_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (n, token) in tokens.iter().enumerate() {
            let TokenTree::Group(group) = token else { continue };
            if let [.., TokenTree::Ident(ty), TokenTree::Punct(_), TokenTree::Punct(_), TokenTree::Ident(kind)] =
                &tokens[..n]
                && ty == "Error"
                && let Some((_, status)) = KINDS.iter().find(|(name, _)| kind == name)
                && let Ok(call) = syn::parse2::<syn::ExprCall>(quote::quote!(made #group))
                && let Some(code) = call.args.first().and_then(text)
                && kind != "internal"
            {
                let sentence = call.args.get(1).and_then(|one| self.sentence(one));
                add(self.page, self.section, status, &code, sentence);
            }
            self.in_tokens(group.stream());
        }
    }

    /// What an expression may be as a code; nothing where another type gives it, which is looked at by itself.
    fn codes_of(&mut self, expression: &Expr) -> Vec<String> {
        if let Some(code) = text(expression) {
            return vec![code];
        }
        match expression {
            Expr::Path(path) => {
                let name = path.path.segments.last().unwrap().ident.to_string();
                if let Some((_, codes)) = self.codes.iter().rev().find(|(known, _)| *known == name) {
                    return codes.clone();
                }
                let bound = self.texts.iter().rev().find(|(known, _)| *known == name).map(|(_, text)| text);
                if let Some(code) = bound.or_else(|| self.constants.get(&name)) {
                    return vec![code.clone()];
                }
                let place = format!("{} {name}", self.path);
                if !PASSED_ON.contains(&place.as_str()) {
                    self.unseen.push(place);
                }
            }
            Expr::MethodCall(call) if call.method == "code" || call.method == "reason" => {}
            Expr::Field(_) => {}
            other => self.unseen.push(quote::quote!(#other).to_string()),
        }
        Vec::new()
    }

    /// The kind's status and the code, if this makes an `Error`.
    fn made(&self, call: &syn::ExprCall) -> Option<(String, String, Option<String>)> {
        let Expr::Path(function) = &*call.func else { return None };
        let mut names = function.path.segments.iter().rev().map(|segment| segment.ident.to_string());
        let (kind, ty) = (names.next()?, names.next());
        if ty.as_deref() != Some("Error") {
            let (status, code) = self.closures.get(&kind)?;
            return Some((status.clone(), code.clone(), call.args.first().and_then(|one| self.sentence(one))));
        }
        let code = text(call.args.first()?)?;
        let Some((_, status)) = KINDS.iter().find(|(name, _)| *name == kind) else {
            // `io::Error::other("…")` has one argument, and no code.
            assert!(
                call.args.len() < 2,
                "docs/errors.md: say in tests/it/reference/errors.rs what Error::{kind} is over HTTP"
            );
            return None;
        };
        if kind == "internal" {
            return None;
        }
        Some(((*status).to_owned(), code, call.args.get(1).and_then(|one| self.sentence(one))))
    }
}

impl<'ast> Visit<'ast> for Calls<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[_] = match item {
            Item::Mod(one) => &one.attrs,
            Item::Fn(one) => &one.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        let (before, codes_before) = (self.texts.len(), self.codes.len());
        for statement in &block.stmts {
            if let Stmt::Local(local) = statement
                && let (Pat::Ident(name), Some(init)) = (&local.pat, &local.init)
            {
                if let Some(text) = text(&init.expr) {
                    self.texts.push((name.ident.to_string(), text));
                }
                if let Expr::Match(arms) = &*init.expr
                    && let Some(codes) = arms.arms.iter().map(|arm| text(&arm.body)).collect::<Option<Vec<_>>>()
                {
                    self.codes.push((name.ident.to_string(), codes));
                }
                if let Expr::Closure(closure) = &*init.expr
                    && let Expr::Call(call) = &*closure.body
                    && let Some((status, code, None)) = self.made(call)
                {
                    self.closures.insert(name.ident.to_string(), (status, code));
                }
            }
        }
        syn::visit::visit_block(self, block);
        self.texts.truncate(before);
        self.codes.truncate(codes_before);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let Some((status, code, sentence)) = self.made(call) {
            add(self.page, self.section, &status, &code, sentence);
        } else if let Expr::Path(function) = &*call.func
            && let [.., ty, kind] = function.path.segments.iter().collect::<Vec<_>>().as_slice()
            && ty.ident == "Error"
            && let Some((_, status)) = KINDS.iter().find(|(name, _)| kind.ident == name)
            && kind.ident != "internal"
        {
            let sentence = call.args.get(1).and_then(|one| self.sentence(one));
            for code in self.codes_of(&call.args[0]) {
                add(self.page, self.section, status, &code, sentence.clone());
            }
        }
        syn::visit::visit_expr_call(self, call);
    }

    /// A code and its sentence, as the checks of a credential's value give them.
    fn visit_expr_tuple(&mut self, pair: &'ast syn::ExprTuple) {
        if self.path == "src/manage/value.rs"
            && let [code, sentence] = pair.elems.iter().collect::<Vec<_>>().as_slice()
            && let (Some(code), Some(sentence)) = (text(code), self.sentence(sentence))
            && code.starts_with("value_")
        {
            let sentence = format!("the value {sentence}; give the key alone, or insist with --as-is");
            add(self.page, self.section, "400", &code, Some(sentence));
        }
        syn::visit::visit_expr_tuple(self, pair);
    }

    /// What stands in a macro (`select!`) is tokens to the parser.
    fn visit_macro(&mut self, one: &'ast syn::Macro) {
        self.in_tokens(one.tokens.clone());
    }

    fn visit_expr_struct(&mut self, one: &'ast syn::ExprStruct) {
        let field = |name: &str| {
            one.fields.iter().find(|field| matches!(&field.member, syn::Member::Named(member) if member == name))
        };
        if let Some(code) = field("code").and_then(|field| text(&field.expr))
            && let Some(sentence) = field("message").and_then(|field| self.sentence(&field.expr))
        {
            let status = field("status").map(|field| match &field.expr {
                Expr::Path(path) => match path.path.segments.last().unwrap().ident.to_string().as_str() {
                    "UNAUTHORIZED" => "401",
                    "FORBIDDEN" => "403",
                    "MISDIRECTED_REQUEST" => "421",
                    "BAD_REQUEST" => "400",
                    "NOT_FOUND" => "404",
                    "SERVICE_UNAVAILABLE" => "503",
                    other => panic!("docs/errors.md: say in tests/it/reference/errors.rs what {other} is"),
                },
                _ => "500",
            });
            add(self.page, self.section, status.unwrap_or("500"), &code, Some(sentence));
        }
        syn::visit::visit_expr_struct(self, one);
    }
}

fn constant(item: &Item) -> Option<(String, String)> {
    let Item::Const(one) = item else { return None };
    Some((one.ident.to_string(), text(&one.expr)?))
}

/// The codes of enums: `fn code` and `fn reason`, and the sentence of each variant.
fn of_types(source: &Source, sources: &[Source], page: &mut Page) {
    for item in &source.file.items {
        match item {
            Item::Impl(one) if one.trait_.is_none() => {
                let syn::Type::Path(path) = &*one.self_ty else { continue };
                let name = path.path.segments.last().unwrap().ident.to_string();
                for function in &one.items {
                    let ImplItem::Fn(function) = function else { continue };
                    let called = function.sig.ident.to_string();
                    if !["code", "reason"].contains(&called.as_str()) {
                        continue;
                    }
                    let Some(Stmt::Expr(Expr::Match(arms), None)) = function.block.stmts.last() else { continue };
                    // Exit codes are numbers.
                    if arms.arms.iter().all(|arm| text(&arm.body).is_none()) {
                        continue;
                    }
                    let Some((section, status)) = place_of(&name, &called) else { continue };
                    for arm in &arms.arms {
                        let Some(code) = text(&arm.body) else { continue };
                        for variant in variants(&arm.pat) {
                            add(page, section, status, &code, sentence_of(sources, source, &name, &variant));
                        }
                        if matches!(arm.pat, Pat::Wild(_)) {
                            add(
                                page,
                                section,
                                status,
                                &code,
                                Some("The proof is not good; the sentence says why.".into()),
                            );
                        }
                    }
                }
            }
            Item::Macro(one) if one.mac.path.is_ident("target_errors") => {
                let tokens: Vec<_> = one.mac.tokens.clone().into_iter().filter_map(|token| literal(&token)).collect();
                for pair in tokens.chunks_exact(2) {
                    let (section, status) = place_of("TargetError", "code").unwrap();
                    add(page, section, status, &pair[0], Some(pair[1].clone()));
                }
            }
            _ => {}
        }
    }
}

/// The variants that a pattern names.
fn variants(pattern: &Pat) -> Vec<String> {
    let last = |path: &syn::Path| vec![path.segments.last().unwrap().ident.to_string()];
    match pattern {
        Pat::Or(or) => or.cases.iter().flat_map(variants).collect(),
        Pat::Path(one) => last(&one.path),
        Pat::TupleStruct(one) => last(&one.path),
        Pat::Struct(one) => last(&one.path),
        _ => Vec::new(),
    }
}

/// What a variant says to the caller: by thiserror's attribute, by its `Display`, or by its doc comment.
fn sentence_of(sources: &[Source], own: &Source, name: &str, variant: &str) -> Option<String> {
    let files = std::iter::once(own).chain(sources);
    let found = files.flat_map(|source| &source.file.items).find_map(|item| match item {
        Item::Enum(one) if one.ident == name => one.variants.iter().find(|one| one.ident == variant),
        _ => None,
    })?;
    let by_attribute = found.attrs.iter().find(|attribute| attribute.path().is_ident("error"));
    let by_attribute = by_attribute.and_then(|attribute| first_text(&attribute.meta.require_list().ok()?.tokens));
    by_attribute.map(|text| without_arguments(&text)).or_else(|| Some(doc(&found.attrs)))
}
