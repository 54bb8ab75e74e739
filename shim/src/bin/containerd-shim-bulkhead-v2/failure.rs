//! Why a call failed, as containerd is told: a code of gRPC's and words its clients know.

use std::io::ErrorKind;

use ttrpc::Code;

use crate::stdio::StdioError;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NOT_FOUND, message)
    }

    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        Self::new(Code::FAILED_PRECONDITION, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::INVALID_ARGUMENT, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::INTERNAL, message)
    }

    /// An error with all it came of, in one line.
    pub(crate) fn of(code: Code, error: &dyn std::error::Error) -> Self {
        Self { code, message: shim::describe(error) }
    }
}

impl From<StdioError> for Failure {
    fn from(error: StdioError) -> Self {
        Self::of(
            match &error {
                StdioError::Scheme(_) | StdioError::Path(_) => Code::INVALID_ARGUMENT,
                StdioError::Open { source, .. } if source.kind() == ErrorKind::NotFound => Code::NOT_FOUND,
                StdioError::Open { .. } | StdioError::Logger { .. } => Code::INTERNAL,
            },
            &error,
        )
    }
}

impl From<Failure> for ttrpc::Error {
    fn from(failure: Failure) -> Self {
        Self::RpcStatus(ttrpc::get_status(failure.code, failure.message))
    }
}
