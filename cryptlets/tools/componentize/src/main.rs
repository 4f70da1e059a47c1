//! `componentize MODULE.wasm COMPONENT.wasm`: makes a component of a core module that wit-bindgen prepared.
//! No WASI adapter is added: a cryptlet that reaches for the system fails here.

use std::{env, error::Error, fs};
use wit_component::ComponentEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(module), Some(component), None) = (args.next(), args.next(), args.next()) else {
        return Err("usage: componentize MODULE.wasm COMPONENT.wasm".into());
    };
    let module = fs::read(module)?;
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(&module)?
        .encode()?;
    fs::write(component, encoded)?;
    Ok(())
}
