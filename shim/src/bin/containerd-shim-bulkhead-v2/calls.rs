//! How calls are answered.

use std::future::Future;

use crate::failure::Failure;

pub(crate) type Answer<T> = ttrpc::Result<T>;

/// Does the work of a call, also when the caller goes or is out of patience before it is done: half of a change is none.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Answer<T> {
    match tokio::spawn(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(Failure::internal(error.to_string()).into()),
    }
}
