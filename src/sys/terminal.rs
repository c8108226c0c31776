//! What the terminal can show, and what its user wants of it.

use std::env;
use std::io::IsTerminal;

/// Whether a line on this stream can be written anew: it is a terminal, and no dumb one.
pub fn is_living(stream: &impl IsTerminal) -> bool {
    let is_dumb = env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
    stream.is_terminal() && !is_dumb
}

/// Whether bold type and colour are wanted on this stream, and can be shown there.
///
/// Libraries decide otherwise where `CI` is set: they colour what a dumb terminal gets.
pub fn is_styled(stream: &impl IsTerminal) -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_unwanted =
        is_set("NO_COLOR") || env::var_os("CLICOLOR").is_some_and(|value| value == "0");
    is_living(stream) && !is_unwanted
}
