//! Whether one value has the form and keeps the limits that its key asks for.

use toml::de::DeValue;
use zeroize::Zeroizing;

use super::keys::{Key, Kind};
use super::mistake::shown;

/// A value whose form and limits were checked.
pub(super) enum Value {
    /// Of a text or a choice.
    Text(Zeroizing<String>),
    /// Of a number.
    Integer(u64),
    /// Of a switch.
    Boolean(bool),
    /// Program and arguments.
    Command(Vec<String>),
}

/// A value as it was found, before it is checked against its key.
pub(super) enum Found<'a> {
    /// In the file.
    Toml(&'a DeValue<'a>),
    /// In the environment.
    Variable(&'a str),
}

/// Checks the form and the limits of one value; else says what is wrong. A text is never shown here, since any may
/// hold a secret; only a number and a choice are.
pub(super) fn check(key: &Key, found: &Found<'_>) -> Result<Value, String> {
    match &key.kind {
        Kind::Text { .. } => text(found).map(Value::Text),
        Kind::Choice { of, .. } => {
            let text = text(found)?;
            if of.contains(&text.as_str()) {
                Ok(Value::Text(text))
            } else {
                Err(format!("{} is not a choice", shown(&text)))
            }
        }
        Kind::Integer { min, max, .. } => {
            let number = match found {
                Found::Toml(DeValue::Integer(number)) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
                Found::Toml(other) => return Err(wrong_type(other, "a whole number")),
                Found::Variable(text) => match text.parse() {
                    Ok(number) => Some(number),
                    Err(_) => return Err(format!("{} is not a whole number", shown(text))),
                },
            };
            let fits = number.and_then(|number| u64::try_from(number).ok()).filter(|n| (*min..=*max).contains(n));
            fits.map(Value::Integer).ok_or_else(|| match number {
                Some(number) => format!("{number} is out of range"),
                None => "the number is out of range".to_owned(),
            })
        }
        Kind::Boolean { .. } => match found {
            Found::Toml(DeValue::Boolean(value)) => Ok(Value::Boolean(*value)),
            Found::Toml(other) => Err(wrong_type(other, "true or false")),
            Found::Variable("true") => Ok(Value::Boolean(true)),
            Found::Variable("false") => Ok(Value::Boolean(false)),
            Found::Variable(text) => Err(format!("{} is neither true nor false", shown(text))),
        },
        Kind::Command { .. } => match found {
            Found::Toml(value) => command(value),
            Found::Variable(text) => match DeValue::parse(text) {
                Ok(value) => command(value.get_ref()),
                Err(_) => Err("the value is no array of texts".to_owned()),
            },
        },
    }
}

fn text(found: &Found<'_>) -> Result<Zeroizing<String>, String> {
    let text = match found {
        Found::Toml(DeValue::String(text)) => text.as_ref(),
        Found::Toml(other) => return Err(wrong_type(other, "a text")),
        Found::Variable(text) => text,
    };
    match text {
        "" => Err("the value is empty".to_owned()),
        text if text.contains(char::REPLACEMENT_CHARACTER) => Err("the value is not UTF-8".to_owned()),
        text if text.contains(char::is_control) => Err("the value holds a line break or control character".to_owned()),
        text if text.trim() != text => Err("the value begins or ends with a space".to_owned()),
        text => Ok(Zeroizing::new(text.to_owned())),
    }
}

fn command(value: &DeValue<'_>) -> Result<Value, String> {
    let DeValue::Array(items) = value else {
        return Err(wrong_type(value, "an array of texts"));
    };
    let texts: Option<Vec<String>> = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
    match texts {
        None => Err("the array holds something that is not a text".to_owned()),
        Some(argv) if argv.first().is_none_or(String::is_empty) => Err("the array names no program".to_owned()),
        Some(argv) if argv.iter().any(|arg| arg.contains('\0')) => Err("the array holds a NUL character".to_owned()),
        Some(argv) => Ok(Value::Command(argv)),
    }
}

fn wrong_type(found: &DeValue<'_>, wanted: &str) -> String {
    let found = match found {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    format!("{found} stands where {wanted} belongs")
}
