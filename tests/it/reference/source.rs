//! The sources, parsed: what the reference takes from them is what the compiler sees.

use std::path::{Path, PathBuf};

use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// One file of the program.
pub(super) struct Source {
    /// `src/…`, with slashes.
    pub(super) path: String,
    pub(super) file: syn::File,
}

/// Every file of the program, tests apart, in the order of their paths.
pub(super) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "crates/hallpass-verify/src"] {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    let parse = |path: PathBuf| {
        let file = syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap();
        Source { path: path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), file }
    };
    files.into_iter().map(parse).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            collect(&path, files);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
}

/// Whether something is compiled for tests alone.
pub(super) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

/// The doc comment as one paragraph, links to items as their names.
pub(super) fn doc(attributes: &[Attribute]) -> String {
    let mut words = Vec::new();
    for attribute in attributes {
        let Meta::NameValue(pair) = &attribute.meta else { continue };
        if let (true, Some(text)) = (pair.path.is_ident("doc"), text(&pair.value)) {
            words.extend(text.split_whitespace().map(str::to_owned));
        }
    }
    words.join(" ").replace("[`", "`").replace("`]", "`")
}

/// A literal text; `format!("…")` too, with `…` for each of its arguments.
pub(super) fn text(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        Expr::Macro(one) if one.mac.path.segments.last().is_some_and(|last| last.ident == "format") => {
            first_text(&one.mac.tokens).map(|text| without_arguments(&text))
        }
        Expr::MethodCall(call) if ["into", "to_owned", "to_string"].iter().any(|name| call.method == name) => {
            text(&call.receiver)
        }
        Expr::Paren(inner) => text(&inner.expr),
        Expr::Reference(inner) => text(&inner.expr),
        _ => None,
    }
}

/// The first literal text among some tokens.
pub(super) fn first_text(tokens: &proc_macro2::TokenStream) -> Option<String> {
    tokens.clone().into_iter().find_map(|token| literal(&token))
}

/// The text of a token that is a literal text.
pub(super) fn literal(token: &proc_macro2::TokenTree) -> Option<String> {
    let proc_macro2::TokenTree::Literal(literal) = token else { return None };
    match Lit::new(literal.clone()) {
        Lit::Str(text) => Some(text.value()),
        _ => None,
    }
}

/// A format string with `…` for what is filled in.
pub(super) fn without_arguments(format: &str) -> String {
    let mut out = String::new();
    let mut rest = format.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '{' | '}' if rest.peek() == Some(&letter) => {
                out.push(letter);
                rest.next();
            }
            '{' => {
                for inner in rest.by_ref() {
                    if inner == '}' {
                        break;
                    }
                }
                out.push('…');
            }
            letter => out.push(letter),
        }
    }
    out
}
