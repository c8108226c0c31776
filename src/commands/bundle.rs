//! `appliance bundle`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use indicatif::HumanBytes;

use super::documents::{self, DefinedComponent, Written};
use super::payload::{keys, manifest_of};
use super::{Outcome, files, print};
use crate::bundle::cache::Cache;
use crate::bundle::definition::Definition;
use crate::bundle::fetch::mirror::Mirrors;
use crate::bundle::fetch::{Fetcher, Probe, ensure_locked};
use crate::bundle::lock;
use crate::bundle::manifest::Manifest;
use crate::bundle::pack::{self, Places, Signer};
use crate::bundle::payload::Payload;
use crate::bundle::signature::TrustKey;
use crate::bundle::{doctor, sbom, transfer, verify};
use crate::cli::{Bundle, CacheDir, Carrier, Fetch, Ingredients, Named, Output, Trust, Whole};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::nodespec::validate::validate;
use crate::nodespec::value::Layer;
use crate::sys::host::program_name;
use crate::sys::out;
use crate::sys::progress;
use crate::sys::stream::sha256_of_file;

/// Runs a command of the group.
pub fn run(command: &Bundle, required_key: Option<&str>, named: &Named) -> Result<Outcome> {
    let output = named.format();
    match command {
        Bundle::Fetch(arguments) => fetch(arguments, output),
        Bundle::Lock {
            fetch,
            trust_on_first_use,
            dir,
        } => {
            let dir = files::place(dir.as_deref(), named)?;
            lock(fetch, *trust_on_first_use, dir.as_deref(), output)
        }
        Bundle::Export {
            bundle,
            cache,
            file,
        } => {
            let file = files::needed(file.as_deref(), named, "--file FILE")?;
            export(bundle.as_deref(), cache, &file, output)
        }
        Bundle::Import {
            file,
            definition,
            cache,
        } => import(file, definition.as_deref(), cache, output),
        Bundle::Doctor { fetch, components } => doctor(fetch, components.as_deref(), output),
        Bundle::Pack {
            bundle,
            ingredients,
            file,
        } => {
            let file = files::needed(file.as_deref(), named, "--file FILE")?;
            let manifest = pack(bundle, ingredients, &file)?;
            let written = Written::of(&file, None, Some(&manifest.bundle.name))?;
            print::result(output, &written, |_| ())?;
            Ok(Outcome::Done)
        }
        Bundle::Verify {
            file,
            bundle,
            whole,
            trust,
        } => {
            check_file(file, whole, &keys(trust, required_key))?;
            let result = verify(file, bundle.as_deref(), trust, required_key, output)?;
            if whole.sha256.is_none() && whole.signature.is_none() {
                log::warn!(
                    "{}",
                    tr!(
                        "only the payload was verified: whoever changes {0} can also change its program and the \
                     checksums in it. To cover every byte: `{1} bundle verify {0} --sha256 HEX`, or `--signature \
                     FILE` with `--trust-key KEY`",
                        file.display(),
                        program_name()
                    )
                );
            }
            Ok(result)
        }
        Bundle::List { what, bundle } => list(what, bundle.as_deref(), output),
        Bundle::Sbom { what } => {
            out::text(&sbom::cyclonedx(&manifest_of(what)?.0)?);
            Ok(Outcome::Done)
        }
    }
}

fn definition(text: &str) -> Result<Definition> {
    let definition = Definition::find(text).map_err(Refused::because)?;
    let bundle = &definition.bundle;
    let layer = Layer::of_bundle(&bundle.name, &bundle.settings).map_err(Refused::because)?;
    validate(&[layer])?;
    Ok(definition)
}

fn open_cache(cache: &CacheDir) -> Result<Cache> {
    Cache::open(&cache_dir(cache)?)
}

fn cache_dir(cache: &CacheDir) -> Result<PathBuf> {
    match &cache.dir {
        Some(dir) => Ok(dir.clone()),
        None => default_cache(),
    }
}

fn default_cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.filter(|dir| dir.is_absolute());
    let base = base.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    let base = base.context(tr!(
        "no home directory is set; name a directory for downloads with `--cache DIR`"
    ))?;
    Ok(base.join("appliance"))
}

fn fetch(arguments: &Fetch, output: Output) -> Result<Outcome> {
    let definition = definition(&arguments.bundle)?;
    ensure_locked(&definition).map_err(Refused::because)?;
    let cache = open_cache(&arguments.cache)?;
    let summary =
        fetcher(arguments, &cache, &Mirrors::new(&arguments.mirror)).fetch(&definition)?;
    let fetched = tr!(
        "bundle {}: {} artifacts downloaded, {} were already in the cache; all match the checksums \
         in bundle.lock; cache: {}",
        definition.bundle.name,
        summary.fetched.len(),
        summary.present.len(),
        cache.dir().display()
    );
    print::done(fetched, output)?;
    Ok(Outcome::Done)
}

fn fetcher<'a>(arguments: &Fetch, cache: &'a Cache, mirrors: &'a Mirrors) -> Fetcher<'a> {
    Fetcher {
        cache,
        mirrors,
        jobs: arguments.jobs.into(),
        begin: &progress::standard_error,
    }
}

fn lock(
    arguments: &Fetch,
    trust_on_first_use: bool,
    copy: Option<&Path>,
    output: Output,
) -> Result<Outcome> {
    let definition = definition(&arguments.bundle)?;
    let dir = copy.unwrap_or(Path::new(&arguments.bundle));
    if copy.is_none() && !dir.is_dir() {
        let problem = anyhow!(tr!(
            "{} is a bundle inside this program, which cannot be changed; write a copy of it with \
             `--dir DIR`",
            arguments.bundle
        ));
        return Err(Refused::because(problem).into());
    }
    if !trust_on_first_use {
        ensure_locked(&definition).map_err(Refused::because)?;
    }
    let cache = open_cache(&arguments.cache)?;
    let mirrors = Mirrors::new(&arguments.mirror);
    if trust_on_first_use {
        for mirror in mirrors.unencrypted() {
            log::warn!(
                "{}",
                tr!(
                    "{mirror} is not encrypted: anyone on the network can change the files whose \
                 checksums you trust now; use https",
                    mirror
                )
            );
        }
    }
    let lock = fetcher(arguments, &cache, &mirrors).lock(&definition, trust_on_first_use)?;
    let path = dir.join(lock::FILE_NAME);
    if copy.is_none() && lock == definition.lock {
        let complete = tr!("{} is complete: nothing to add", path.display());
        print::done(complete, output)?;
        return Ok(Outcome::Done);
    }
    // It tells which files it wrote.
    definition.write(dir, &lock)?;
    print::done(tr!("{} is complete", path.display()), output)?;
    Ok(Outcome::Done)
}

fn export(bundle: Option<&str>, cache: &CacheDir, file: &Path, output: Output) -> Result<Outcome> {
    let definition = bundle.map(definition).transpose()?;
    let cache = open_cache(cache)?;
    let blobs = transfer::contents(&cache, definition.as_ref())?;
    let progress = progress::standard_error(&tr!("export"), transfer::size(&cache, &blobs));
    transfer::export(file, &cache, definition.as_ref(), &blobs, &*progress)?;
    drop(progress);
    log::info!(
        "{}",
        tr!(
            "wrote {} with {} files of the cache",
            file.display(),
            blobs.len()
        )
    );
    let name = definition.as_ref().map(|found| found.bundle.name.as_str());
    print::result(output, &Written::of(file, None, name)?, |_| ())?;
    Ok(Outcome::Done)
}

fn import(
    file: &Path,
    definition: Option<&Path>,
    cache: &CacheDir,
    output: Output,
) -> Result<Outcome> {
    let place = || file.display().to_string();
    let input = File::open(file).with_context(place)?;
    let progress = progress::standard_error(&tr!("import"), fs::metadata(file)?.len());
    let cache = open_cache(cache)?;
    let imported = transfer::import(&cache, input, &*progress).with_context(place)?;
    drop(progress);
    let added = tr!(
        "added {} new files to the cache {}",
        imported.new,
        cache.dir().display()
    );
    match (&imported.definition, definition) {
        (Some(bundle), Some(dir)) => bundle.write(dir, &bundle.lock)?,
        (Some(bundle), None) => log::info!(
            "{}",
            tr!(
                "{} holds bundle {}; to write its bundle.toml and bundle.lock, add `--definition DIR`",
                file.display(),
                bundle.bundle.name
            )
        ),
        (None, Some(_)) => {
            return Err(anyhow!(tr!(
                "{} holds no bundle; export it again with `--bundle BUNDLE`",
                file.display()
            )));
        }
        (None, None) => {}
    }
    print::done(added, output)?;
    Ok(Outcome::Done)
}

fn doctor(arguments: &Fetch, components: Option<&Path>, output: Output) -> Result<Outcome> {
    let definition = definition(&arguments.bundle)?;
    let cache = Cache::at(&cache_dir(&arguments.cache)?);
    let mirrors = Mirrors::new(&arguments.mirror);
    let probe = Probe::new(&cache, &mirrors)?;
    let jobs = arguments.jobs.into();
    let diagnosis = doctor::examine(&definition, components, &cache, &probe, jobs);
    print::result(output, &diagnosis, print::bundle::diagnosis)?;
    Ok(match diagnosis.ready {
        true => Outcome::Done,
        false => Outcome::Unsound,
    })
}

/// The key that the user signs with.
pub fn signer(ingredients: &Ingredients) -> Option<Signer> {
    ingredients.sign_key.as_ref().map(|key| Signer {
        key: key.clone(),
        password: ingredients.sign_password_file.clone(),
    })
}

/// Packs the bundle `name` into the payload `output`.
pub fn pack(name: &str, ingredients: &Ingredients, output: &Path) -> Result<Manifest> {
    let definition = definition(name)?;
    let cache = open_cache(&ingredients.cache)?;
    let places = Places {
        components: ingredients.components.as_deref(),
        cache: Some(&cache),
    };
    let signer = signer(ingredients);
    let begin = |total| progress::standard_error(&tr!("pack"), total);
    let manifest = pack::pack(&definition, places, signer.as_ref(), output, begin)?;
    let packed: u64 = manifest.packs.iter().map(|pack| pack.size).sum();
    log::info!(
        "{}",
        tr!(
            "bundle {}: packed {} files of {} into {}",
            manifest.bundle.name,
            manifest.components.len(),
            HumanBytes(manifest.unpacked_size()),
            HumanBytes(packed)
        )
    );
    Ok(manifest)
}

/// Compares the whole file with the checksum and the signature that the user names.
fn check_file(file: &Path, whole: &Whole, keys: &[&str]) -> Result<()> {
    let found = fs::metadata(file).with_context(|| file.display().to_string());
    found.map_err(Refused::because)?;
    if let Some(expected) = &whole.sha256 {
        let found = sha256_of_file(file)?;
        ensure!(
            found == *expected,
            tr!(
                "the sha256 of {0} is {found}, not {expected}; do not use it: copy it to this machine again, and \
             run the same command",
                file.display(),
                found,
                expected
            )
        );
    }
    if let Some(signature) = &whole.signature {
        let problem = || anyhow!(tr!("name the key of the signature with `--trust-key KEY`"));
        ensure!(!keys.is_empty(), Refused::because(problem()));
        for key in keys {
            let key = TrustKey::find(key).map_err(Refused::because)?;
            let checked = key.check_file(file, signature);
            checked.map_err(Refused::because)?;
        }
    }
    Ok(())
}

fn verify(
    file: &Path,
    bundle: Option<&str>,
    trust: &Trust,
    required_key: Option<&str>,
    output: Output,
) -> Result<Outcome> {
    let definition = bundle.map(definition).transpose()?;
    let payload = Payload::open(file)?;
    payload.check_whole()?;
    payload.check_signatures(&keys(trust, required_key))?;
    let progress = progress::standard_error(&tr!("verify"), payload.manifest().unpacked_size());
    let audit = verify::verify(&payload, definition.as_ref(), &*progress)?;
    drop(progress);
    print::result(output, &audit, print::bundle::audit)?;
    Ok(if audit.is_sound() {
        Outcome::Done
    } else {
        Outcome::Unsound
    })
}

fn list(what: &Carrier, bundle: Option<&str>, output: Output) -> Result<Outcome> {
    if let Some(bundle) = bundle {
        let defined = defined(&definition(bundle)?);
        print::result(output, &defined, print::bundle::definition)?;
        return Ok(Outcome::Done);
    }
    let (manifest, text) = manifest_of(what)?;
    match output {
        Output::Json => out::text(&String::from_utf8_lossy(&text)),
        Output::Text => print::bundle::manifest(&manifest),
    }
    Ok(Outcome::Done)
}

fn defined(definition: &Definition) -> documents::Definition {
    let components = definition
        .components
        .iter()
        .map(|component| DefinedComponent {
            name: component.name.clone(),
            kind: component.kind,
            version: component.version.clone(),
            license: component.license.clone(),
            source: component.upstream().map(ToString::to_string),
            member: component.part(),
        });
    documents::Definition {
        bundle: definition.bundle.clone(),
        components: components.collect(),
    }
}
