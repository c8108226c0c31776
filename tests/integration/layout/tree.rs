//! The source files of the program, and the names that each of them uses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;
use syn::{Attribute, Item, UseTree};

/// The segment before the name of a called method.
pub const METHOD: &str = "(method)";

/// The segments of a path, such as `["std", "fs", "write"]`.
pub type Segments = Vec<String>;

/// The modules of the program by their paths, such as `bundle::fetch`, without those of tests.
#[derive(Clone, Debug)]
pub struct Tree {
    modules: BTreeMap<String, Module>,
}

/// The names that one file uses.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// Other modules of the program.
    pub own: BTreeSet<String>,
    /// Names of other crates, including the standard library.
    pub foreign: BTreeSet<Segments>,
}

/// The sources below `src`, by the paths of their modules.
pub fn sources() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    for file in files(&src) {
        let name = module_of(file.strip_prefix(&src).unwrap());
        if !matches!(name.as_str(), "main" | "lib") && !name.ends_with("::tests") {
            sources.insert(name, fs::read_to_string(&file).unwrap());
        }
    }
    sources
}

/// Every file below the directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| match path.is_dir() {
        true => files(&path),
        false => vec![path],
    };
    entries.flat_map(below).collect()
}

fn module_of(file: &Path) -> String {
    let path = file.with_extension("");
    let mut parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
    if parts.last() == Some(&"mod") {
        parts.pop();
    }
    parts.join("::")
}

/// The room that a module is in.
pub fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

impl Tree {
    /// Reads the names that each of the sources uses.
    pub fn of(sources: &BTreeMap<String, String>) -> Tree {
        let read = |(name, text): (&String, &String)| {
            let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name.clone(), names(name, file, sources))
        };
        Tree {
            modules: sources.iter().map(read).collect(),
        }
    }

    /// The tree in which the module `name` has the source `text`.
    pub fn with(&self, name: &str, text: &str, sources: &BTreeMap<String, String>) -> Tree {
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut tree = self.clone();
        let module = names(name, file, sources);
        tree.modules.insert(name.to_owned(), module);
        tree
    }

    /// Every module, by its path.
    pub fn modules(&self) -> impl Iterator<Item = (&String, &Module)> {
        self.modules.iter()
    }

    /// Every room.
    pub fn rooms(&self) -> BTreeSet<&str> {
        self.modules.keys().map(|name| room(name)).collect()
    }

    /// For each module that `start` reaches, including itself: the path to it.
    pub fn reached<'a>(&'a self, start: &'a str) -> BTreeMap<&'a str, Vec<&'a str>> {
        self.ways(start, |name| {
            self.modules[name].own.iter().map(String::as_str).collect()
        })
    }

    /// The rooms that each room uses, each with a module that does so.
    pub fn rooms_named(&self) -> BTreeMap<&str, BTreeMap<&str, &str>> {
        let mut named: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for (name, module) in &self.modules {
            let others = named.entry(room(name)).or_default();
            for other in module.own.iter().filter(|other| room(other) != room(name)) {
                others.entry(room(other)).or_insert(name);
            }
        }
        named
    }

    fn ways<'a>(
        &'a self,
        start: &'a str,
        next: impl Fn(&'a str) -> Vec<&'a str>,
    ) -> BTreeMap<&'a str, Vec<&'a str>> {
        let mut ways = BTreeMap::from([(start, vec![start])]);
        let mut pending = VecDeque::from([start]);
        while let Some(name) = pending.pop_front() {
            for other in next(name) {
                if !ways.contains_key(other) {
                    let way = [&ways[name][..], &[other]].concat();
                    ways.insert(other, way);
                    pending.push_back(other);
                }
            }
        }
        ways
    }
}

/// The names that the file of the module `name` uses.
fn names(name: &str, mut file: syn::File, sources: &BTreeMap<String, String>) -> Module {
    without_tests(&mut file.items);
    let mut reader = Reader::default();
    reader.visit_file(&file);
    let mut module = Module::default();
    for path in reader.resolved() {
        match own(name, &path, sources) {
            Some(other) if other != name => drop(module.own.insert(other)),
            Some(_) => {}
            None => drop(module.foreign.insert(path)),
        }
    }
    module
}

/// The module of the program that a path refers to, seen from the module `here`.
fn own(here: &str, path: &[String], sources: &BTreeMap<String, String>) -> Option<String> {
    let mut place: Vec<&str> = here.split("::").collect();
    let mut rest = path.iter().map(String::as_str).peekable();
    let is_child = |name: &str| sources.contains_key(&format!("{here}::{name}"));
    match *rest.peek()? {
        "crate" => {
            rest.next();
            place.clear();
        }
        "self" => drop(rest.next()),
        "super" => {}
        name if is_child(name) => {}
        _ => return None,
    }
    while rest.next_if_eq(&"super").is_some() {
        place.pop();
    }
    let mut found = None;
    for part in rest {
        place.push(part);
        if sources.contains_key(&place.join("::")) {
            found = Some(place.join("::"));
        }
    }
    // A name of the module itself, or of its parent.
    let above = path.iter().filter(|part| *part == "super").count();
    let upper: Vec<&str> = here.split("::").collect();
    let upper = upper[..upper.len().saturating_sub(above)].join("::");
    found.or_else(|| sources.contains_key(&upper).then_some(upper))
}

fn without_tests(items: &mut Vec<Item>) {
    items.retain(|item| !attributes(item).iter().any(is_for_tests));
    for item in items {
        if let Item::Mod(module) = item
            && let Some((_, inner)) = &mut module.content
        {
            without_tests(inner);
        }
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<syn::Ident>()
            .is_ok_and(|argument| argument == "test")
}

/// Collects the paths of a file, in imports, in code and in the arguments of macros.
#[derive(Default)]
struct Reader {
    paths: BTreeSet<Segments>,
    /// The names that imports define, and the paths that they refer to.
    imported: BTreeMap<String, Segments>,
}

impl Reader {
    fn import(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &with(&path.ident)),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, before);
                }
            }
            UseTree::Glob(_) => drop(self.paths.insert([before, &["*".to_owned()]].concat())),
            UseTree::Name(name) if name.ident == "self" => self.name(before.last(), before),
            UseTree::Name(name) => self.name(Some(&name.ident.to_string()), &with(&name.ident)),
            UseTree::Rename(rename) => {
                let path = match rename.ident == "self" {
                    true => before.to_vec(),
                    false => with(&rename.ident),
                };
                self.name(Some(&rename.rename.to_string()), &path);
            }
        }
    }

    fn name(&mut self, name: Option<&String>, path: &[String]) {
        self.paths.insert(path.to_vec());
        if let Some(name) = name {
            self.imported.insert(name.clone(), path.to_vec());
        }
    }

    /// The paths, with imported names replaced by their paths.
    fn resolved(&self) -> Vec<Segments> {
        let resolve = |path: &Segments| {
            let mut path = path.clone();
            // A name may stand for another name, but not for ever.
            for _ in 0..8 {
                match self.imported.get(&path[0]) {
                    Some(whole) if *whole != [path[0].clone()] => {
                        path = [whole, &path[1..]].concat();
                    }
                    _ => break,
                }
            }
            path
        };
        self.paths.iter().map(resolve).collect()
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Segments = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.end(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Segments) {
        if path.len() > 1 {
            self.paths.insert(path.clone());
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, &[]);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        if let syn::Type::Path(of) = &*item.ty {
            let path: Segments = of
                .path
                .segments
                .iter()
                .map(|s| s.ident.to_string())
                .collect();
            self.name(Some(&item.ident.to_string()), &path);
        }
        syn::visit::visit_item_type(self, item);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let name = item.rename.as_ref().map_or(&item.ident, |(_, name)| name);
        self.name(Some(&name.to_string()), &[item.ident.to_string()]);
    }

    /// A file that is not where its name says would not be read.
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let has_path = |attribute: &Attribute| attribute.path().is_ident("path");
        assert!(
            !item.attrs.iter().any(has_path),
            "#[path] on {}",
            item.ident
        );
        syn::visit::visit_item_mod(self, item);
    }

    /// The methods of a path read the file system, without an import.
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let method = call.method.to_string();
        self.paths.insert(vec![METHOD.to_owned(), method]);
        syn::visit::visit_expr_method_call(self, call);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Segments = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.paths.insert(segments);
        syn::visit::visit_path(self, path);
    }

    /// The arguments of attributes: `#[derive(clap::Parser)]`.
    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.tokens(list.tokens.clone());
        syn::visit::visit_meta_list(self, list);
    }

    fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
        self.tokens(invoked.tokens.clone());
        syn::visit::visit_macro(self, invoked);
    }
}
