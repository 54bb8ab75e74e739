//! An error and what caused it, as one message for people.

use std::error::Error;

/// Some errors name their cause themselves: what is said already is not said twice.
pub fn describe(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error("cannot open it")]
        Silent(#[source] io::Error),
        #[error("cannot read it: {0}")]
        Telling(#[source] io::Error),
    }

    #[test]
    fn each_cause_is_named_once() {
        let cause = || io::Error::other("it is gone");
        assert_eq!(describe(&Failure::Silent(cause())), "cannot open it: it is gone");
        assert_eq!(describe(&Failure::Telling(cause())), "cannot read it: it is gone");
    }
}
