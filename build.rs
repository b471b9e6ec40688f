//! Embeds the files of `catalog/`, so that the program needs no file beside it. A constant for each folder:
//! `(name of the file without '.yaml', its text)`, by name.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let (mut source, mut watched) = (String::new(), String::from("cargo::rerun-if-changed=build.rs\n"));
    for (constant, folder) in [("UPSTREAMS", "catalog/upstreams"), ("PROVIDERS", "catalog/providers")] {
        writeln!(watched, "cargo::rerun-if-changed={folder}")?;
        writeln!(source, "const {constant}: &[(&str, &str)] = &[")?;
        for name in names(&root.join(folder))? {
            // Below the root of the crate: no path of the machine that builds gets into the program.
            writeln!(
                source,
                "({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/{folder}/{name}.yaml\"))),"
            )?;
        }
        writeln!(source, "];")?;
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("catalog.rs"), source)?;
    io::stdout().write_all(watched.as_bytes())?;
    Ok(())
}

/// The files of a folder, sorted: the same sources give the same program.
fn names(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "yaml")
            && let Some(name) = file.file_stem().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
