//! Imports an image into a directory and prints the files that are its disk: `import IMAGE[:TAG] DIRECTORY`.

use std::process::ExitCode;

use images::{ImageReference, Limits, Platform, Store};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, directory] = arguments.as_slice() else {
        eprintln!("usage: import IMAGE[:TAG] DIRECTORY");
        return ExitCode::from(2);
    };
    match import(image, directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn import(image: &str, directory: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (store, limits) = (Store::open(directory)?, Limits::default());
    let image = store.load_unnamed(&ImageReference::parse(image), &Platform::default(), &limits, &())?;
    for file in store.disk(&image, &limits)?.files {
        println!("{}", file.display());
    }
    Ok(())
}
