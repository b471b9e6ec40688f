//! The types that serde reads and writes: their fields, defaults and doc comments.

use std::borrow::Cow;
use std::collections::BTreeMap;

use proc_macro2::TokenStream;
use syn::{Attribute, Fields, GenericArgument, Item, LitStr, PathArguments, Type as SynType};

use super::source::{Source, doc, is_for_tests};

/// One type.
pub(super) struct Type {
    pub(super) doc: String,
    pub(super) shape: Shape,
    /// Whether serde's derive reads or writes it; else it has a form of its own.
    pub(super) is_derived: bool,
}

/// What it is made of.
pub(super) enum Shape {
    Struct(Vec<Field>),
    /// One of several; with the name of the member that says which, if there is one.
    Enum {
        tag: Option<String>,
        variants: Vec<Variant>,
    },
    /// Around something else.
    Other,
}

pub(super) struct Variant {
    pub(super) name: String,
    /// What it is without fields that have names.
    pub(super) inner: Option<SynType>,
    pub(super) is_default: bool,
    pub(super) doc: String,
    pub(super) fields: Vec<Field>,
}

pub(super) struct Field {
    pub(super) name: String,
    pub(super) doc: String,
    pub(super) ty: SynType,
    /// May be left out.
    pub(super) has_default: bool,
    pub(super) is_flattened: bool,
}

/// Every type of these files, by name.
pub(super) fn types(sources: &[Source], folders: &[&str]) -> BTreeMap<String, Type> {
    let mut found = BTreeMap::new();
    for source in sources.iter().filter(|source| folders.iter().any(|folder| source.path.starts_with(folder))) {
        for item in source.file.items.iter().map(expanded) {
            match &*item {
                Item::Struct(one) if !is_for_tests(&one.attrs) => {
                    let shape = match &one.fields {
                        Fields::Named(_) => Shape::Struct(fields(&one.fields, None)),
                        _ => Shape::Other,
                    };
                    let is_derived = is_derived(&one.attrs);
                    found.insert(one.ident.to_string(), Type { doc: doc(&one.attrs), shape, is_derived });
                }
                Item::Enum(one) if !is_for_tests(&one.attrs) => {
                    let serde = Serde::of(&one.attrs);
                    let variant = |variant: &syn::Variant| Variant {
                        name: Serde::of(&variant.attrs)
                            .rename
                            .unwrap_or_else(|| cased(&variant.ident.to_string(), serde.rename_all.as_deref())),
                        doc: doc(&variant.attrs),
                        inner: variant.fields.iter().find(|field| field.ident.is_none()).map(|field| field.ty.clone()),
                        is_default: variant.attrs.iter().any(|attribute| attribute.path().is_ident("default")),
                        fields: fields(&variant.fields, None),
                    };
                    let variants = one.variants.iter().map(variant).collect();
                    let shape = Shape::Enum { tag: serde.tag, variants };
                    let is_derived = is_derived(&one.attrs);
                    found.insert(one.ident.to_string(), Type { doc: doc(&one.attrs), shape, is_derived });
                }
                _ => {}
            }
        }
    }
    found
}

/// A macro around one type (with a `$` for what the macro makes of it) is that type.
fn expanded(item: &Item) -> Cow<'_, Item> {
    let Item::Macro(one) = item else { return Cow::Borrowed(item) };
    let tokens: TokenStream = one.mac.tokens.clone().into_iter().skip(1).collect();
    syn::parse2(tokens).map_or(Cow::Borrowed(item), Cow::Owned)
}

fn is_derived(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("derive")
            && attribute.meta.require_list().is_ok_and(|list| {
                let names = list.tokens.to_string();
                names.contains("Deserialize") || names.contains("Serialize")
            })
    })
}

fn fields(fields: &Fields, rename_all: Option<&str>) -> Vec<Field> {
    let field = |field: &syn::Field| {
        let serde = Serde::of(&field.attrs);
        let name = field.ident.as_ref()?.to_string();
        let name = name.trim_start_matches("r#");
        (!serde.is_skipped).then(|| Field {
            name: serde.rename.clone().unwrap_or_else(|| cased(name, rename_all)),
            doc: doc(&field.attrs),
            ty: field.ty.clone(),
            has_default: serde.has_default,
            is_flattened: serde.is_flattened,
        })
    };
    fields.iter().filter_map(field).collect()
}

/// What serde was told about an item.
#[derive(Default)]
struct Serde {
    rename: Option<String>,
    rename_all: Option<String>,
    tag: Option<String>,
    has_default: bool,
    is_flattened: bool,
    is_skipped: bool,
}

impl Serde {
    fn of(attributes: &[Attribute]) -> Self {
        let mut serde = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            let read = attribute.parse_nested_meta(|meta| {
                let value = match meta.value() {
                    Ok(value) => Some(value.parse::<LitStr>()?.value()),
                    Err(_) => None,
                };
                match meta.path.get_ident().map(ToString::to_string).as_deref() {
                    Some("rename") => serde.rename = value,
                    Some("rename_all") => serde.rename_all = value,
                    Some("tag") => serde.tag = value,
                    Some("default") => serde.has_default = true,
                    Some("flatten") => serde.is_flattened = true,
                    Some("skip") => serde.is_skipped = true,
                    _ => {}
                }
                Ok(())
            });
            read.unwrap();
        }
        serde
    }
}

fn cased(name: &str, rename_all: Option<&str>) -> String {
    match rename_all {
        Some("lowercase") => name.to_lowercase(),
        Some("UPPERCASE") => name.to_uppercase(),
        Some(form @ ("snake_case" | "kebab-case")) => {
            let mut out = String::new();
            for letter in name.chars() {
                if letter.is_uppercase() && !out.is_empty() {
                    out.push(if form == "snake_case" { '_' } else { '-' });
                }
                out.extend(letter.to_lowercase());
            }
            out
        }
        Some(other) => panic!("the reference does not know serde's rename_all = \"{other}\""),
        None => name.to_owned(),
    }
}

/// The last name of a type's path, and what stands in its angle brackets.
pub(super) fn name_of<'a>(ty: &'a SynType) -> (String, Vec<&'a SynType>) {
    let SynType::Path(path) = ty else { return (String::new(), Vec::new()) };
    let last = path.path.segments.last().unwrap();
    let inner = match &last.arguments {
        PathArguments::AngleBracketed(inner) => {
            let ty = |argument: &'a GenericArgument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            };
            inner.args.iter().filter_map(ty).collect()
        }
        _ => Vec::new(),
    };
    (last.ident.to_string(), inner)
}

/// Whether serde writes nothing where there is nothing.
pub(super) fn is_optional(ty: &SynType) -> bool {
    name_of(ty).0 == "Option"
}

/// A type in words; one that `link` knows is linked.
pub(super) fn in_words(ty: &SynType, link: &dyn Fn(&str) -> Option<String>) -> String {
    if matches!(ty, SynType::Reference(_)) {
        return "text".to_owned();
    }
    let (name, inner) = name_of(ty);
    let inside = |n: usize| inner.get(n).map(|ty| in_words(ty, link)).unwrap_or_default();
    match name.as_str() {
        "Option" | "Box" => inside(0),
        "Arc" if inner.iter().any(|ty| name_of(ty).0 == "str") => "text".to_owned(),
        "Arc" => inside(0),
        "Vec" | "BTreeSet" => format!("list of {}", plural(&inside(0))),
        "BTreeMap" | "ByName" => format!("map to {}", inside(inner.len() - 1)),
        "String" | "str" => "text".to_owned(),
        "bool" => "true or false".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => "whole number".to_owned(),
        "Millis" => "unix milliseconds".to_owned(),
        "Value" => "JSON".to_owned(),
        "CredentialLabels" => "text, or list of texts".to_owned(),
        other => link(other).unwrap_or_else(|| other.to_lowercase()),
    }
}

fn plural(word: &str) -> String {
    if word == "text" { "texts".to_owned() } else { word.to_owned() }
}
