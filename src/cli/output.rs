//! The option `--output`, which every command has.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, TypedValueParser};

/// The format of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Tables and sentences.
    #[default]
    Text,
    /// One JSON document on standard output.
    Json,
}

/// The value of `--output`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A format.
    Format(Output),
    /// The file or directory that a command writes. Earlier versions had no other way to name it.
    Place(PathBuf),
}

impl Named {
    /// The format: text, if a file was named instead.
    pub fn format(&self) -> Output {
        match self {
            Named::Format(output) => *output,
            Named::Place(_) => Output::Text,
        }
    }

    /// The file or directory, if one was named.
    pub fn place(&self) -> Option<&Path> {
        match self {
            Named::Format(_) => None,
            Named::Place(path) => Some(path),
        }
    }
}

/// Reads the value. Whether a file is allowed depends on the command.
#[derive(Clone, Copy, Debug)]
pub struct Parser;

impl TypedValueParser for Parser {
    type Value = Named;

    fn parse_ref(
        &self,
        _command: &clap::Command,
        _argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Named, clap::Error> {
        Ok(match value.to_str() {
            Some("text") => Named::Format(Output::Text),
            Some("json") => Named::Format(Output::Json),
            _ => Named::Place(value.into()),
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values = [
            PossibleValue::new("text").help("Tables and sentences"),
            PossibleValue::new("json").help("One JSON document (`appliance schema`)"),
        ];
        Some(Box::new(values.into_iter()))
    }
}
