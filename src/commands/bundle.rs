//! `appliance bundle`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

use super::payload::{keys, manifest_of};
use super::{Outcome, print};
use crate::bundle::cache::Cache;
use crate::bundle::definition::Definition;
use crate::bundle::fetch::mirror::Mirrors;
use crate::bundle::fetch::{Fetcher, Probe, ensure_locked};
use crate::bundle::lock;
use crate::bundle::pack::{self, Places, Signer};
use crate::bundle::payload::Payload;
use crate::bundle::signature::TrustKey;
use crate::bundle::{doctor, sbom, transfer, verify};
use crate::cli::{Bundle, CacheDir, Carrier, Fetch, Ingredients, Output, Trust, Whole};
use crate::nodespec::Refused;
use crate::nodespec::validate::validate;
use crate::nodespec::value::Layer;
use crate::sys::host::program_name;
use crate::sys::out;
use crate::sys::progress;
use crate::sys::stream::sha256_of_file;

/// Runs a command of the group.
pub fn run(command: &Bundle, required_key: Option<&str>) -> Result<Outcome> {
    match command {
        Bundle::Fetch(arguments) => fetch(arguments),
        Bundle::Lock {
            fetch,
            trust_on_first_use,
            output,
        } => lock(fetch, *trust_on_first_use, output.as_deref()),
        Bundle::Export {
            bundle,
            cache,
            output,
        } => export(bundle.as_deref(), cache, output),
        Bundle::Import {
            file,
            definition,
            cache,
        } => import(file, definition.as_deref(), cache),
        Bundle::Doctor {
            fetch,
            components,
            output,
        } => doctor(fetch, components.as_deref(), *output),
        Bundle::Pack {
            bundle,
            ingredients,
            output,
        } => pack(bundle, ingredients, output),
        Bundle::Verify {
            file,
            bundle,
            whole,
            trust,
            output,
        } => {
            check_file(file, whole, &keys(trust, required_key))?;
            let result = verify(file, bundle.as_deref(), trust, required_key, *output)?;
            if whole.sha256.is_none() && whole.signature.is_none() {
                log::warn!(
                    "only the payload was verified: whoever changes {0} can also change its program and the \
                     checksums in it. To cover every byte: `{1} bundle verify {0} --sha256 HEX`, or `--signature \
                     FILE` with `--trust-key KEY`",
                    file.display(),
                    program_name()
                );
            }
            Ok(result)
        }
        Bundle::List {
            what,
            bundle,
            output,
        } => list(what, bundle.as_deref(), *output),
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
    let base = base
        .context("no home directory is set; name a directory for downloads with `--cache DIR`")?;
    Ok(base.join("appliance"))
}

fn fetch(arguments: &Fetch) -> Result<Outcome> {
    let definition = definition(&arguments.bundle)?;
    ensure_locked(&definition).map_err(Refused::because)?;
    let cache = open_cache(&arguments.cache)?;
    let summary =
        fetcher(arguments, &cache, &Mirrors::new(&arguments.mirror)).fetch(&definition)?;
    log::info!(
        "bundle {}: {} artifacts downloaded, {} were already in the cache; all match the checksums \
         in bundle.lock; cache: {}",
        definition.bundle.name,
        summary.fetched.len(),
        summary.present.len(),
        cache.dir().display()
    );
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

fn lock(arguments: &Fetch, trust_on_first_use: bool, output: Option<&Path>) -> Result<Outcome> {
    let definition = definition(&arguments.bundle)?;
    let dir = output.unwrap_or(Path::new(&arguments.bundle));
    if output.is_none() && !dir.is_dir() {
        let problem = anyhow!(
            "{} is a bundle inside this program, which cannot be changed; write a copy of it with \
             `--output DIR`",
            arguments.bundle
        );
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
                "{mirror} is not encrypted: anyone on the network can change the files whose \
                 checksums you trust now; use https"
            );
        }
    }
    let lock = fetcher(arguments, &cache, &mirrors).lock(&definition, trust_on_first_use)?;
    if output.is_none() && lock == definition.lock {
        log::info!(
            "{} is complete: nothing to add",
            dir.join(lock::FILE_NAME).display()
        );
        return Ok(Outcome::Done);
    }
    definition.write(dir, &lock)?;
    Ok(Outcome::Done)
}

fn export(bundle: Option<&str>, cache: &CacheDir, output: &Path) -> Result<Outcome> {
    let definition = bundle.map(definition).transpose()?;
    let cache = open_cache(cache)?;
    let blobs = transfer::contents(&cache, definition.as_ref())?;
    let progress = progress::standard_error("export", transfer::size(&cache, &blobs));
    transfer::export(output, &cache, definition.as_ref(), &blobs, &*progress)?;
    drop(progress);
    log::info!(
        "wrote {} with {} files of the cache",
        output.display(),
        blobs.len()
    );
    Ok(Outcome::Done)
}

fn import(file: &Path, definition: Option<&Path>, cache: &CacheDir) -> Result<Outcome> {
    let place = || file.display().to_string();
    let input = File::open(file).with_context(place)?;
    let progress = progress::standard_error("import", fs::metadata(file)?.len());
    let cache = open_cache(cache)?;
    let imported = transfer::import(&cache, input, &*progress).with_context(place)?;
    drop(progress);
    log::info!(
        "added {} new files to the cache {}",
        imported.new,
        cache.dir().display()
    );
    match (&imported.definition, definition) {
        (Some(bundle), Some(dir)) => bundle.write(dir, &bundle.lock)?,
        (Some(bundle), None) => log::info!(
            "{} holds bundle {}; to write its bundle.toml and bundle.lock, add `--definition DIR`",
            file.display(),
            bundle.bundle.name
        ),
        (None, Some(_)) => {
            return Err(anyhow!(
                "{} holds no bundle; export it again with `--bundle BUNDLE`",
                file.display()
            ));
        }
        (None, None) => {}
    }
    Ok(Outcome::Done)
}

fn doctor(arguments: &Fetch, components: Option<&Path>, output: Output) -> Result<Outcome> {
    let definition = definition(&arguments.bundle)?;
    let cache = Cache::at(&cache_dir(&arguments.cache)?);
    let mirrors = Mirrors::new(&arguments.mirror);
    let probe = Probe::new(&cache, &mirrors)?;
    let jobs = arguments.jobs.into();
    let diagnosis = doctor::examine(&definition, components, &cache, &probe, jobs);
    print::bundle::diagnosis(&diagnosis, output)?;
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
pub fn pack(name: &str, ingredients: &Ingredients, output: &Path) -> Result<Outcome> {
    let definition = definition(name)?;
    let cache = open_cache(&ingredients.cache)?;
    let places = Places {
        components: ingredients.components.as_deref(),
        cache: Some(&cache),
    };
    let signer = signer(ingredients);
    let begin = |total| progress::standard_error("pack", total);
    let manifest = pack::pack(&definition, places, signer.as_ref(), output, begin)?;
    let packed: u64 = manifest.packs.iter().map(|pack| pack.size).sum();
    log::info!(
        "bundle {}: packed {} files of {} bytes into {packed} bytes",
        manifest.bundle.name,
        manifest.components.len(),
        manifest.unpacked_size()
    );
    Ok(Outcome::Done)
}

/// Compares the whole file with the checksum and the signature that the user names.
fn check_file(file: &Path, whole: &Whole, keys: &[&str]) -> Result<()> {
    let found = fs::metadata(file).with_context(|| file.display().to_string());
    found.map_err(Refused::because)?;
    if let Some(expected) = &whole.sha256 {
        let found = sha256_of_file(file)?;
        ensure!(
            found == *expected,
            "the sha256 of {0} is {found}, not {expected}; do not use it: copy it to this machine again, and \
             run the same command",
            file.display()
        );
    }
    if let Some(signature) = &whole.signature {
        let problem = || anyhow!("name the key of the signature with `--trust-key KEY`");
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
    let progress = progress::standard_error("verify", payload.manifest().unpacked_size());
    let audit = verify::verify(&payload, definition.as_ref(), &*progress)?;
    drop(progress);
    print::bundle::audit(&audit, output)?;
    Ok(if audit.is_sound() {
        Outcome::Done
    } else {
        Outcome::Unsound
    })
}

fn list(what: &Carrier, bundle: Option<&str>, output: Output) -> Result<Outcome> {
    if let Some(bundle) = bundle {
        print::bundle::definition(&definition(bundle)?, output)?;
        return Ok(Outcome::Done);
    }
    let (manifest, text) = manifest_of(what)?;
    match output {
        Output::Json => out::text(&String::from_utf8_lossy(&text)),
        Output::Text => print::bundle::manifest(&manifest),
    }
    Ok(Outcome::Done)
}
