//! Changes to an image's configuration, as instructions of a Dockerfile.

use serde_json::{Map, Value, json};
use thiserror::Error;

/// A change to an image's configuration: an instruction of a Dockerfile, as `--change` takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `CMD`: the default arguments.
    Cmd(Vec<String>),
    /// `ENTRYPOINT`. Takes the default arguments away, unless they were changed before.
    Entrypoint(Vec<String>),
    /// `ENV`: a variable and its value.
    Env(String, String),
    /// `EXPOSE`: a port as `80/tcp`.
    Expose(String),
    /// `LABEL`: a key and its value.
    Label(String, String),
    /// `ONBUILD`: an instruction for builds on top.
    OnBuild(String),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`: a path.
    Volume(String),
    /// `WORKDIR`: a path.
    WorkingDir(String),
}

/// Text that is no such change.
#[derive(Debug, Error)]
#[error("\"{text}\" is no change to an image: {cause}")]
pub struct ChangeError {
    text: String,
    cause: &'static str,
}

const INSTRUCTIONS: &str = "it begins with none of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, \
                            VOLUME, WORKDIR";

impl Change {
    /// Reads an instruction such as `CMD ["sh", "-c", "true"]` or `ENV A=1 B=2`, which may be several changes.
    pub fn parse(text: &str) -> Result<Vec<Change>, ChangeError> {
        let text = text.trim();
        let (instruction, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        read(&instruction.to_ascii_uppercase(), rest.trim())
            .map_err(|cause| ChangeError { text: text.to_owned(), cause })
    }
}

/// Applies changes to the `config` of an image's configuration.
pub(super) fn apply(changes: &[Change], config: &mut Map<String, Value>) {
    let mut cmd_changed = false;
    for change in changes {
        match change {
            Change::Cmd(words) => {
                set(config, "Cmd", json!(words));
                cmd_changed = true;
            }
            Change::Entrypoint(words) => {
                set(config, "Entrypoint", json!(words));
                if !cmd_changed {
                    config.remove("Cmd");
                }
            }
            Change::Env(name, value) => set_variable(config, name, value),
            Change::Expose(port) => insert(config, "ExposedPorts", port, json!({})),
            Change::Label(key, value) => insert(config, "Labels", key, json!(value)),
            Change::OnBuild(instruction) => push(config, "OnBuild", instruction),
            Change::StopSignal(signal) => set(config, "StopSignal", json!(signal)),
            Change::User(user) => set(config, "User", json!(user)),
            Change::Volume(path) => insert(config, "Volumes", path, json!({})),
            Change::WorkingDir(path) => set(config, "WorkingDir", json!(path)),
        }
    }
}

fn set(config: &mut Map<String, Value>, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

/// Sets a key of the object within; what is none becomes one.
fn insert(config: &mut Map<String, Value>, object: &str, key: &str, value: Value) {
    let within = config.entry(object).or_insert_with(|| json!({}));
    match within.as_object_mut() {
        Some(within) => drop(within.insert(key.to_owned(), value)),
        None => *within = json!({ key: value }),
    }
}

fn push(config: &mut Map<String, Value>, list: &str, value: &str) {
    let within = config.entry(list).or_insert_with(|| json!([]));
    match within.as_array_mut() {
        Some(within) => within.push(json!(value)),
        None => *within = json!([value]),
    }
}

fn set_variable(config: &mut Map<String, Value>, name: &str, value: &str) {
    let prefix = format!("{name}=");
    if let Some(variables) = config.get_mut("Env").and_then(Value::as_array_mut) {
        let same = |variable: &&mut Value| variable.as_str().is_some_and(|text| text.starts_with(&prefix));
        if let Some(variable) = variables.iter_mut().find(same) {
            *variable = json!(format!("{name}={value}"));
            return;
        }
    }
    push(config, "Env", &format!("{name}={value}"));
}

fn read(instruction: &str, rest: &str) -> Result<Vec<Change>, &'static str> {
    let one = |change: fn(String) -> Change| match rest {
        "" => Err("it has no argument"),
        rest => Ok(vec![change(rest.to_owned())]),
    };
    match instruction {
        "CMD" => Ok(vec![Change::Cmd(command(rest)?)]),
        "ENTRYPOINT" => Ok(vec![Change::Entrypoint(command(rest)?)]),
        "ENV" => pairs(rest, Change::Env),
        "LABEL" => pairs(rest, Change::Label),
        "EXPOSE" => each(words(rest)?, |port| {
            Change::Expose(if port.contains('/') { port } else { format!("{port}/tcp") })
        }),
        "VOLUME" => match array(rest) {
            Some(paths) => each(paths, Change::Volume),
            None => each(words(rest)?, Change::Volume),
        },
        "ONBUILD" => one(Change::OnBuild),
        "STOPSIGNAL" => one(Change::StopSignal),
        "USER" => one(Change::User),
        "WORKDIR" => one(Change::WorkingDir),
        _ => Err(INSTRUCTIONS),
    }
}

fn each(words: Vec<String>, change: impl Fn(String) -> Change) -> Result<Vec<Change>, &'static str> {
    match words.is_empty() {
        true => Err("it has no argument"),
        false => Ok(words.into_iter().map(change).collect()),
    }
}

/// The exec form (a JSON array), or else a line for the shell.
fn command(text: &str) -> Result<Vec<String>, &'static str> {
    match (text, array(text)) {
        ("", _) => Ok(Vec::new()),
        (_, Some(words)) => Ok(words),
        (line, None) => Ok(["/bin/sh", "-c", line].map(str::to_owned).to_vec()),
    }
}

fn array(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// `A=1 B="two words"`, or one `A value` to the end of the line.
fn pairs(text: &str, change: fn(String, String) -> Change) -> Result<Vec<Change>, &'static str> {
    let words = words(text)?;
    let first = words.first().ok_or("it has no argument")?;
    if !first.contains('=') {
        let (name, value) = text.split_once(char::is_whitespace).ok_or("it gives no value")?;
        return Ok(vec![change(name.to_owned(), value.trim_start().to_owned())]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(change(name.to_owned(), value.to_owned())),
        _ => Err("it is not written NAME=VALUE"),
    };
    words.iter().map(pair).collect()
}

/// Words with blanks between them, but for what is quoted or behind a backslash.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), character) if character == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                word.get_or_insert_default().push(characters.next().ok_or("it ends in a backslash")?);
            }
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (_, character) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    match quote {
        Some(_) => Err("a quote is not closed"),
        None => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(instructions: &[&str]) -> Value {
        let changes: Vec<Change> =
            instructions.iter().flat_map(|instruction| Change::parse(instruction).unwrap()).collect();
        let mut config = json!({ "Env": ["PATH=/bin", "A=0"], "Cmd": ["old"], "Labels": null });
        apply(&changes, config.as_object_mut().unwrap());
        config
    }

    #[test]
    fn instructions_change_what_they_change_in_a_dockerfile() {
        for (instruction, key, value) in [
            (r#"CMD ["sh", "-c", "a b"]"#, "Cmd", json!(["sh", "-c", "a b"])),
            ("cmd echo $HOME", "Cmd", json!(["/bin/sh", "-c", "echo $HOME"])),
            (r#"ENTRYPOINT ["x"]"#, "Cmd", Value::Null),
            ("ENV A=1 B=\"two words\" C=a\\ b", "Env", json!(["PATH=/bin", "A=1", "B=two words", "C=a b"])),
            ("ENV A the rest = 1", "Env", json!(["PATH=/bin", "A=the rest = 1"])),
            ("EXPOSE 80 53/udp", "ExposedPorts", json!({ "80/tcp": {}, "53/udp": {} })),
            ("LABEL a=1 'b c'=2", "Labels", json!({ "a": "1", "b c": "2" })),
            (r#"VOLUME ["/a", "/b"]"#, "Volumes", json!({ "/a": {}, "/b": {} })),
            ("WORKDIR /srv", "WorkingDir", json!("/srv")),
            ("USER 1:2", "User", json!("1:2")),
            ("ONBUILD RUN true", "OnBuild", json!(["RUN true"])),
            ("STOPSIGNAL SIGINT", "StopSignal", json!("SIGINT")),
        ] {
            assert_eq!(changed(&[instruction])[key], value, "{instruction}");
        }
        assert_eq!(changed(&[r#"CMD ["new"]"#, r#"ENTRYPOINT ["x"]"#])["Cmd"], json!(["new"]));
    }

    #[test]
    fn what_is_no_instruction_is_told() {
        for wrong in ["", "RUN true", "ENV", "ENV A", "ENV A=1 B", "LABEL a=\"1", "USER", "EXPOSE", "ENV =1"]
        {
            assert!(Change::parse(wrong).is_err(), "{wrong}");
        }
    }
}
