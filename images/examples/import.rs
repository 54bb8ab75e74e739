//! Imports an image into a directory of layers and prints their files: `import IMAGE[:TAG] DIRECTORY`.

use std::process::ExitCode;

use images::{Image, ImageReference, LayerCache, Limits, Platform};

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
    let limits = Limits::default();
    let image = Image::open(&ImageReference::parse(image), &Platform::default(), &limits)?;
    for layer in LayerCache::new(directory).ensure(&image, &limits, &mut ())? {
        println!("{}", layer.path.display());
    }
    Ok(())
}
