//! Every path on a node exists only once: in `paths.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use syn::visit::Visit;
use syn::{Expr, Item, Lit};

use super::tree::{files, sources};

/// The constants of `paths.rs`: name and path.
fn constants() -> BTreeMap<String, String> {
    let file = syn::parse_file(&sources()["paths"]).unwrap();
    let constants = file.items.into_iter().filter_map(|item| match item {
        Item::Const(item) => Some(item),
        _ => None,
    });
    let text = |item: syn::ItemConst| match *item.expr {
        Expr::Lit(literal) => match literal.lit {
            Lit::Str(text) => Some((item.ident.to_string(), text.value())),
            _ => None,
        },
        _ => None,
    };
    constants.filter_map(text).collect()
}

/// Every path in `paths.rs`, also those in lists.
pub fn written() -> Vec<String> {
    let mut literals = Literals::default();
    literals.visit_file(&syn::parse_file(&sources()["paths"]).unwrap());
    let mut all: Vec<String> = literals.0;
    all.retain(|text| text.starts_with('/'));
    all.sort();
    all.dedup();
    all
}

#[derive(Default)]
struct Literals(Vec<String>);

impl<'ast> Visit<'ast> for Literals {
    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.0.push(literal.value());
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.ident != "tests" {
            syn::visit::visit_item_mod(self, module);
        }
    }
}

#[test]
fn no_path_stands_a_second_time_in_the_code() {
    let constants = constants();
    assert!(constants.len() > 50, "{constants:?}");
    let mut twice = Vec::new();
    for (module, text) in sources() {
        if module == "paths" {
            continue;
        }
        let mut literals = Literals::default();
        literals.visit_file(&syn::parse_file(&text).unwrap());
        for (name, path) in &constants {
            if literals.0.contains(path) {
                twice.push(format!("{module} has {path}: use paths::{name}"));
            }
        }
    }
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}

#[test]
fn no_path_stands_a_second_time_in_a_template() {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundle/templates");
    let constants = constants();
    // The search path of a program is a list of the system's own directories.
    let own = constants
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "PATH_DIR" | "DOCKER_OF_MACHINE"));
    let own: Vec<_> = own.collect();
    let mut twice = Vec::new();
    for file in files(&templates) {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().filter(|line| !line.trim().starts_with('#'));
        for line in lines {
            for (name, path) in own.iter().filter(|(_, path)| line.contains(path.as_str())) {
                twice.push(format!("{} has {path} ({name}): {line}", file.display()));
            }
        }
    }
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}
