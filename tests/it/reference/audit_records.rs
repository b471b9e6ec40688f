//! `docs/audit-records.md`, from the type of a record.

use super::source::sources;
use super::types::{Field, Shape, Type, in_words, name_of, types};
use super::{MADE, code, head, page_is, row, sentence};

const HEAD: &str = "\
A record is one line of JSON. [The audit log](audit.md) says how to read, export and verify records.

Every record has these fields, which chain it to the one before:

| field | value | meaning |
|---|---|---|
| `node` | text | The node that wrote it. |
| `seq` | whole number | Its number; each node counts from 1. |
| `at` | unix milliseconds | When it was written. |
| `prev` | text | The SHA-256, in hex, of the exact bytes of the record before it; 64 zeros in the first. |

A `call.outcome` has one more, `intent`: the number of the `call.intent` that it ends. What only the intent has is not repeated:
`token`, `bound_to`, `task`, `purpose`, `credential` and `target_decoded`.

All other fields are left out where they have nothing to say. No record holds a secret.

";

#[test]
fn every_kind_and_field_of_a_record_is_on_its_page() {
    let known = types(&sources(), &["src/model/", "src/audit/"]);
    let mut page = format!("# Audit records\n\n{MADE}\n\n{HEAD}## Kinds\n\n{}", head(&["`kind`", "meaning"]));
    let Shape::Enum { variants, .. } = &known["EventKind"].shape else { panic!("EventKind is no enum") };
    for variant in variants {
        page.push_str(&row(&[&code(&variant.name), &sentence(&variant.doc)]));
    }
    let Shape::Struct(fields) = &known["Event"].shape else { panic!("Event is no struct") };
    page.push_str(&format!("\n## Fields\n\n{}", head(&["field", "value", "meaning"])));
    let mut below = Vec::new();
    for field in fields.iter().filter(|field| !field.is_flattened) {
        page.push_str(&line(field, &known, &mut below));
    }
    for field in fields.iter().filter(|field| field.is_flattened) {
        let (name, inner) = name_of(&field.ty);
        let name = inner.first().map_or(name, |ty| name_of(ty).0);
        let Shape::Struct(fields) = &known[&name].shape else { panic!("{name} is no struct") };
        page.push_str(&format!(
            "\n{} {}\n\n{}",
            sentence(&field.doc),
            sentence(&known[&name].doc),
            head(&["field", "value", "meaning"])
        ));
        for field in fields {
            page.push_str(&line(field, &known, &mut below));
        }
    }
    let mut n = 0;
    while let Some(name) = below.get(n).cloned() {
        n += 1;
        page.push_str(&format!("\n### {name}\n\n{}\n\n", sentence(&known[&name].doc)));
        match &known[&name].shape {
            Shape::Struct(fields) => {
                page.push_str(&head(&["field", "value", "meaning"]));
                for field in fields {
                    page.push_str(&line(field, &known, &mut below));
                }
            }
            Shape::Enum { variants, .. } => {
                page.push_str(&head(&["value", "meaning"]));
                for variant in variants {
                    page.push_str(&row(&[&code(&variant.name), &sentence(&variant.doc)]));
                }
            }
            Shape::Other => {}
        }
    }
    page_is("audit-records.md", &page);
}

/// A row; types inside it are kept for sections of their own.
fn line(field: &Field, known: &std::collections::BTreeMap<String, Type>, below: &mut Vec<String>) -> String {
    let mut waiting = vec![&field.ty];
    while let Some(ty) = waiting.pop() {
        let (name, inner) = name_of(ty);
        waiting.extend(inner);
        if known.get(&name).is_some_and(|ty| ty.is_derived) && name != "EventKind" && !below.contains(&name) {
            below.push(name);
        }
    }
    let link = |name: &str| match name {
        "EventKind" => Some("[kind](#kinds)".to_owned()),
        name if below.iter().any(|one| one == name) => Some(format!("[{name}](#{})", name.to_lowercase())),
        _ => None,
    };
    row(&[&code(&field.name), &in_words(&field.ty, &link), &sentence(&field.doc)])
}
