//! Parses any bytes as a configuration file, and checks its settings.
#![no_main]

use appliance::nodespec::settings::Settings;
use appliance::nodespec::validate::validate;
use appliance::nodespec::value::{Layer, Place};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    if let Ok(settings) = Settings::from_yaml("fuzz", text) {
        let layer = Layer::new(Place::Config("fuzz".to_owned()), settings);
        drop(validate(&[layer]));
    }
});
