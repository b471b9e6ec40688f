//! `docs/yaml.md`, from the types that `hallpass apply` reads.

use std::collections::BTreeMap;

use super::source::sources;
use super::types::{Field, Shape, Type, Variant, in_words, is_optional, name_of, types};
use super::{MADE, code, head, page_is, row, sentence};

const HEAD: &str = "\
`hallpass apply -f FILE` reads one YAML document. [Upstreams](upstreams.md) and [Identity](identity.md) show how to write it;
`hallpass apply --help` shows an example. This page lists every field.

- The document holds no secret. It names credentials, and `hallpass credential put NAME` stores them.
- What the document does not name stays as it is.
- A field that is not on this page is a mistake. Every mistake is listed at once, with its place and what to write instead.
- `ca_file` and `bundle_file` name files beside the document; the command reads them.
";

/// Fields that are not for a document: `apply` or the broker fills them in.
const FILLED_IN: [&str; 3] = ["ca_pem", "bundle", "certificates_after"];

fn known() -> BTreeMap<String, Type> {
    types(&sources(), &["src/model/"])
}

/// The document's types, in the order in which a reader meets them.
fn in_order(known: &BTreeMap<String, Type>) -> Vec<String> {
    let mut order = vec!["Manifest".to_owned()];
    let mut n = 0;
    while let Some(name) = order.get(n).cloned() {
        n += 1;
        let (fields, forms): (Vec<&Field>, Vec<_>) = match &known[&name].shape {
            Shape::Struct(fields) => (fields.iter().collect(), Vec::new()),
            Shape::Enum { variants, .. } => {
                let forms = variants.iter().filter_map(|variant| variant.inner.as_ref()).collect();
                (variants.iter().flat_map(|variant| &variant.fields).collect(), forms)
            }
            Shape::Other => (Vec::new(), Vec::new()),
        };
        let fields = fields.into_iter().filter(|field| !FILLED_IN.contains(&field.name.as_str()));
        for ty in fields.map(|field| &field.ty).chain(forms) {
            let mut waiting = vec![ty];
            while let Some(ty) = waiting.pop() {
                let (name, inner) = name_of(ty);
                waiting.extend(inner);
                if known.contains_key(&name) && !order.contains(&name) {
                    order.push(name);
                }
            }
        }
    }
    order
}

fn title(name: &str) -> String {
    match name {
        "Manifest" => "The document".to_owned(),
        "AgentSpec" => "Agent".to_owned(),
        other => {
            let mut out = String::new();
            for letter in other.chars() {
                if letter.is_uppercase() && !out.is_empty() {
                    out.push(' ');
                    out.extend(letter.to_lowercase());
                } else {
                    out.push(letter);
                }
            }
            out
        }
    }
}

fn link(known: &BTreeMap<String, Type>, name: &str) -> Option<String> {
    known.contains_key(name).then(|| {
        let title = title(name);
        format!("[{}](#{})", title.to_lowercase(), title.to_lowercase().replace(' ', "-"))
    })
}

/// How a variant is written.
fn written(known: &BTreeMap<String, Type>, ty: &Type, tag: Option<&str>, variant: &Variant) -> String {
    match (&variant.inner, tag) {
        (Some(inner), _) => format!("a {}", in_words(inner, &|name| link(known, name))),
        (None, Some(tag)) => code(&format!("{tag}: {}", variant.name)),
        (None, None) if ty.is_derived => code(&variant.name),
        // A form of its own: one word.
        (None, None) => code(&variant.name.to_lowercase()),
    }
}

fn default(known: &BTreeMap<String, Type>, field: &Field) -> String {
    let ty = known.get(&name_of(&field.ty).0);
    if let (true, Some(ty)) = (field.has_default, ty)
        && let Shape::Enum { tag, variants } = &ty.shape
        && let Some(variant) = variants.iter().find(|variant| variant.is_default)
    {
        return written(known, ty, tag.as_deref(), variant);
    }
    if !field.has_default && !is_optional(&field.ty) {
        return "required".to_owned();
    }
    match name_of(&field.ty).0.as_str() {
        "bool" => code("false"),
        "String" => code("\"\""),
        _ => "none".to_owned(),
    }
}

fn table(known: &BTreeMap<String, Type>, fields: &[Field]) -> String {
    let mut table = head(&["field", "value", "default", "meaning"]);
    for field in fields.iter().filter(|field| !FILLED_IN.contains(&field.name.as_str())) {
        let value = in_words(&field.ty, &|name| link(known, name));
        table.push_str(&row(&[&code(&field.name), &value, &default(known, field), &sentence(&field.doc)]));
    }
    table
}

#[test]
fn every_field_of_a_document_is_on_its_page() {
    let known = known();
    let mut page = format!("# The YAML document\n\n{MADE}\n\n{HEAD}");
    for name in in_order(&known) {
        let ty = &known[&name];
        page.push_str(&format!("\n## {}\n\n{}\n", title(&name), sentence(&ty.doc)));
        match &ty.shape {
            Shape::Struct(fields) if ty.is_derived => page.push_str(&format!("\n{}", table(&known, fields))),
            Shape::Enum { tag, variants } => {
                for variant in variants {
                    let name = written(&known, ty, tag.as_deref(), variant);
                    page.push_str(&format!("\n{name}: {}\n", sentence(&variant.doc)));
                    if !variant.fields.is_empty() {
                        page.push_str(&format!("\n{}", table(&known, &variant.fields)));
                    }
                }
            }
            Shape::Struct(_) | Shape::Other => {}
        }
    }
    page_is("yaml.md", &page);
}

/// Whoever has no browser at hand has the command's own help.
#[test]
fn every_field_of_a_document_is_in_the_help_of_apply() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_hallpass")).args(["apply", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let known = known();
    let mut missing = Vec::new();
    for name in in_order(&known) {
        let fields: Vec<&Field> = match &known[&name].shape {
            Shape::Struct(fields) if known[&name].is_derived => fields.iter().collect(),
            Shape::Enum { variants, .. } => variants.iter().flat_map(|variant| &variant.fields).collect(),
            _ => Vec::new(),
        };
        for field in fields.iter().filter(|field| !FILLED_IN.contains(&field.name.as_str())) {
            let is_there = help
                .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
                .any(|word| word == field.name);
            if !is_there {
                missing.push(format!("{name}.{}", field.name));
            }
        }
    }
    assert!(missing.is_empty(), "'hallpass apply --help' (src/cli/apply.rs) does not name {missing:#?}");
}
