//! A client of containerd's CRI plug-in: what a kubelet asks of it, asked in the same way.

pub mod messages;
pub mod node;
pub mod pod;
mod stats;
pub mod streams;

use std::time::Duration;

use tokio::runtime::Runtime;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use messages::Call;

const SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// Longer than any call takes that works.
const LIMIT: Duration = Duration::from_secs(300);

/// A connection to a CRI's socket.
pub struct Client {
    runtime: Runtime,
    channel: Channel,
}

impl Client {
    /// Connects to the machine's containerd.
    pub fn connect() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let endpoint = Endpoint::from_static(SOCKET);
        let channel =
            runtime.block_on(endpoint.connect()).unwrap_or_else(|error| panic!("{SOCKET}: {error}"));
        Self { runtime, channel }
    }

    /// Makes a call, which may be refused.
    pub fn try_call<C: Call>(&self, call: C) -> Result<C::Answer, Status> {
        let mut request = Request::new(call);
        request.set_timeout(LIMIT);
        let codec = ProstCodec::<C, C::Answer>::default();
        self.runtime.block_on(async {
            let mut grpc = tonic::client::Grpc::new(self.channel.clone());
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let answer = grpc.unary(request, PathAndQuery::from_static(C::METHOD), codec).await?;
            Ok(answer.into_inner())
        })
    }

    /// Makes a call that must succeed.
    pub fn call<C: Call>(&self, call: C) -> C::Answer {
        self.try_call(call)
            .unwrap_or_else(|status| panic!("{}: {:?}: {}", C::METHOD, status.code(), status.message()))
    }
}
