//! `docs/settings.md`, from the table of settings.

use hallpass::config::{Setting, settings};

use super::{MADE, code, head, page_is, row, sentence};

const HEAD: &str = "\
The broker reads `hallpass.toml`. `hallpass init` writes one that lists every setting, commented, at its default.
[Configuration](operations.md#configuration) says how to change them.

- The environment wins over the file: the last column names the variable of each setting.
- A setting that is misspelled or out of its limits keeps the broker from starting. Every mistake is listed at once, each
  with its line and what to write instead.
- Paths are relative to the folder of `hallpass.toml`.
- A setting without a default is not set; an example stands in its place.
";

#[test]
fn every_setting_is_on_its_page() {
    let mut page = format!("# Settings\n\n{MADE}\n\n{HEAD}");
    let mut current = None;
    for setting in settings() {
        let table = setting.path.split_once('.').map_or("", |(table, _)| table);
        if current != Some(table) {
            current = Some(table);
            let title = if table.is_empty() { "At the top of the file".to_owned() } else { format!("[{table}]") };
            page.push_str(&format!("\n## {title}\n\n{}", head(&["setting", "default", "meaning", "variable"])));
        }
        page.push_str(&line(&setting));
    }
    page_is("settings.md", &page);
}

fn line(setting: &Setting) -> String {
    let default = match (&setting.default, &setting.example) {
        (Some(default), _) => code(default),
        (None, Some(example)) => format!("none; e.g. {}", code(example)),
        (None, None) => "none".to_owned(),
    };
    let mut meaning = sentence(setting.about);
    if let Some(limits) = &setting.limits {
        meaning.push_str(&format!(" Values: {limits}."));
    }
    row(&[&code(setting.path), &default, &meaning, &code(&setting.variable)])
}
