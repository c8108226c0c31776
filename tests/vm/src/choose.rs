//! `vm choose`: decides which bundle to boot.

use std::path::PathBuf;

use anyhow::Result;
use appliance_vm::choice::Asked;
use clap::Args;

/// What the user asks for. Variables that make passes on can be empty.
#[derive(Args)]
pub struct Arguments {
    /// The program without a bundle
    #[arg(long, default_value = "out/builder")]
    builder: PathBuf,
    /// Directory of the bundles' definitions
    #[arg(long, value_name = "DIR", default_value = "bundle")]
    bundles: PathBuf,
    /// Directory of built files; the file `choice` in it is written
    #[arg(long, value_name = "DIR", default_value = "out")]
    output: PathBuf,
    /// Name of a bundle
    #[arg(long, default_value = "")]
    bundle: String,
    /// Directory of its definition
    #[arg(long, value_name = "DIR", default_value = "")]
    definition: String,
    /// Directory of programs
    #[arg(long, value_name = "DIR", default_value = "")]
    components: String,
    /// File that `bundle export` wrote
    #[arg(long, value_name = "FILE", default_value = "")]
    carried: String,
    /// Mirrors of the sources, HOST=URL, separated by spaces
    #[arg(long, default_value = "")]
    mirrors: String,
    /// Whether first downloads are trusted
    #[arg(long, value_name = "HOW", default_value = "")]
    trust: String,
}

/// Decides, prints the reason, and writes the choice for make.
pub fn run(arguments: Arguments) -> Result<()> {
    let filled = |word: String| Some(word).filter(|word| !word.is_empty());
    let path = |word: String| filled(word).map(PathBuf::from);
    let choice = Asked {
        builder: arguments.builder,
        bundles: arguments.bundles,
        output: arguments.output.clone(),
        bundle: filled(arguments.bundle),
        definition: path(arguments.definition),
        components: path(arguments.components),
        carried: path(arguments.carried),
        mirrors: arguments
            .mirrors
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        trusts: !arguments.trust.is_empty(),
    }
    .choose()?;
    println!("{}", choice.about);
    choice.write(&arguments.output.join("choice"))
}
