//! One HTTP request, one answer: which scheme and proxy, whom to trust, and what it means when there is no answer.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH};
use ureq::http::uri::{Authority, Scheme};
use ureq::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use ureq::{Agent, Body, SendBody};

use super::answer::Hurried;
use super::configuration::{Configuration, ConfigurationError};
use super::endpoint;
use super::error::RegistryCause;
use super::failure::{self, malformed};
use super::source::Source;
use super::tls::Roots;

const USER_AGENT: &str = concat!("bulkhead/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// From the end of a request to the end of the answer's headers. A registry may store a large upload meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Connections to all hosts.
pub(super) struct Transport {
    configuration: Configuration,
    roots: Roots,
    agents: Mutex<HashMap<AgentKey, Agent>>,
    /// What hosts on this machine turned out to speak. Nobody else's word or answer changes a host's scheme: a
    /// redirection could have led there, and credentials would follow in the open.
    learned: Mutex<HashMap<String, Scheme>>,
    /// Hosts that have answered anything.
    answered: Mutex<HashSet<String>>,
}

/// Scheme, host, and whether its answers may take as long as a registry needs to store an upload.
type AgentKey = (Scheme, String, bool);

/// A request, apart from where it goes.
pub(super) struct Outgoing<'a> {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Content<'a>,
}

/// Opens an upload's source at its start.
pub(super) type Opener<'a> = &'a mut dyn FnMut() -> io::Result<Box<dyn Read + 'a>>;

/// A request's body.
pub(super) enum Content<'a> {
    None,
    Bytes(&'a [u8]),
    Stream { size: u64, open: Opener<'a> },
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(method: Method) -> Self {
        Outgoing { method, headers: HeaderMap::new(), body: Content::None }
    }

    pub(super) fn header(mut self, name: ureq::http::HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    pub(super) fn body(mut self, body: Content<'a>) -> Self {
        self.body = body;
        self
    }
}

impl Transport {
    pub(super) fn new(configuration: Configuration) -> Self {
        let (agents, learned, answered) = (Mutex::default(), Mutex::default(), Mutex::default());
        Transport { configuration, roots: Roots::default(), agents, learned, answered }
    }

    pub(super) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The root of a host (`HOST[:PORT]`): where it is configured to be, or turned out to be.
    pub(super) fn root(&self, host: &str) -> Result<Uri, RegistryCause> {
        let plain = self.configuration.registry(host).is_some_and(|settings| settings.plain_http);
        let configured = if plain { Scheme::HTTP } else { Scheme::HTTPS };
        let scheme = locked(&self.learned).get(host).cloned().unwrap_or(configured);
        let root = Uri::builder().scheme(scheme).authority(host).path_and_query("/").build();
        root.map_err(|error| malformed(host, "address", &error))
    }

    /// Sends to a registry's host. One on this machine that does not speak TLS is spoken to without, as Docker does.
    pub(super) fn send_to(
        &self,
        host: &str,
        path: &str,
        outgoing: &mut Outgoing<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<(Response<Body>, Uri), RegistryCause> {
        let root = self.root(host)?;
        let uri = with_path(&root, path)?;
        let may_learn = endpoint::is_loopback(host)
            && root.scheme() == Some(&Scheme::HTTPS)
            && !locked(&self.learned).contains_key(host);
        if !may_learn {
            return Ok((self.send(&uri, outgoing, authorization)?, uri));
        }
        let (answer, uri) = match self.send(&uri, outgoing, authorization) {
            Err(cause @ (RegistryCause::PlainHttp { .. } | RegistryCause::Broken { .. })) => {
                let plain = endpoint::with_scheme(&root, Scheme::HTTP);
                let uri = with_path(&plain.map_err(|error| malformed(host, "address", &error))?, path)?;
                let answer = self.send(&uri, outgoing, authorization)?;
                // So answers who does speak TLS, and has only dropped a connection.
                if matches!(cause, RegistryCause::Broken { .. }) && answer.status() == StatusCode::BAD_REQUEST
                {
                    return Err(cause);
                }
                (answer, uri)
            }
            first => (first?, uri),
        };
        locked(&self.learned).extend(uri.scheme().map(|scheme| (host.to_owned(), scheme.clone())));
        Ok((answer, uri))
    }

    /// Sends to an address, and follows no redirection.
    pub(super) fn send(
        &self,
        uri: &Uri,
        outgoing: &mut Outgoing<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Body>, RegistryCause> {
        let host = host(uri);
        let uploading = matches!(outgoing.body, Content::Stream { .. });
        let agent = self.agent(uri, host, uploading)?;
        let mut request = Request::builder().method(outgoing.method.clone()).uri(uri.clone());
        if let Some(headers) = request.headers_mut() {
            headers.extend(outgoing.headers.clone());
            headers.extend(authorization.map(|value| (AUTHORIZATION, value.clone())));
        }
        let answer = match &mut outgoing.body {
            Content::None => run(&agent, request, SendBody::none()),
            Content::Bytes(bytes) => {
                // A slice read from is the rest of it; all of it may have to be sent again.
                let mut rest: &[u8] = bytes;
                let length = rest.len() as u64;
                run(&agent, request.header(CONTENT_LENGTH, length), SendBody::from_reader(&mut rest))
            }
            Content::Stream { size, open } => {
                let mut source = Source::new(open().map_err(RegistryCause::Source)?, *size);
                let request = request.header(CONTENT_LENGTH, *size);
                let answer = run(&agent, request, SendBody::from_reader(&mut source));
                if let Some(error) = source.failure {
                    return Err(RegistryCause::Source(error));
                }
                answer
            }
        };
        let answer = answer.map_err(|error| self.cause(host, error))?;
        locked(&self.answered).insert(host.to_owned());
        Ok(answer)
    }

    /// What an error met while reading an answer's body means.
    pub(super) fn body_cause(&self, uri: &Uri, error: io::Error) -> RegistryCause {
        self.cause(host(uri), error.into())
    }

    /// At most `max` bytes of a document; one that is longer is refused.
    pub(super) fn document(
        &self,
        uri: &Uri,
        answer: &mut Response<Body>,
        what: &'static str,
        max: u64,
    ) -> Result<Vec<u8>, RegistryCause> {
        let mut bytes = Vec::new();
        let read = Hurried::new(answer).take(max + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.body_cause(uri, error))?;
        if bytes.len() as u64 > max {
            return Err(RegistryCause::TooLarge { what, limit: max });
        }
        Ok(bytes)
    }

    fn agent(&self, uri: &Uri, host: &str, uploading: bool) -> Result<Agent, ConfigurationError> {
        let scheme = uri.scheme().cloned().unwrap_or(Scheme::HTTPS);
        let key = (scheme.clone(), host.to_owned(), uploading);
        let mut agents = locked(&self.agents);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let timeout = self.configuration.timeout;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(if uploading { ANSWER_TIMEOUT.max(timeout) } else { timeout }))
            .timeout_per_write(Some(timeout))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .proxy(self.configuration.proxies.find(&scheme, host)?);
        if scheme == Scheme::HTTPS {
            config = config.tls_config(self.roots.config(&self.configuration, host)?);
        }
        let agent = config.build().new_agent();
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    fn cause(&self, host: &str, error: ureq::Error) -> RegistryCause {
        failure::cause(host, error, locked(&self.answered).contains(host))
    }
}

fn run(
    agent: &Agent,
    request: ureq::http::request::Builder,
    body: SendBody<'_>,
) -> Result<Response<Body>, ureq::Error> {
    agent.run(request.body(body)?)
}

/// `HOST[:PORT]` of an address, as it is written there.
pub(super) fn host(uri: &Uri) -> &str {
    uri.authority().map(Authority::as_str).unwrap_or_default()
}

fn with_path(root: &Uri, path: &str) -> Result<Uri, RegistryCause> {
    let mut parts = root.clone().into_parts();
    parts.path_and_query = Some(path.parse().map_err(|error| malformed(host(root), "address", &error))?);
    Uri::from_parts(parts).map_err(|error| malformed(host(root), "address", &error))
}

/// Nothing panics while one of these is held; and what they hold is right at any time.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
