//! routectl's side of the control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::resources::Files;
use super::routes::ErrorBody;
use datastore::Revision;
use resource::Mistake;

/// The largest answer that is read: a million routes.
const MAX_ANSWER: usize = 512 * 1024 * 1024;
/// A daemon that doesn't answer in this time is taken for none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What bodies are, unless said otherwise.
const JSON: &str = "application/json";

/// So many clients may be before us that the socket's queue is full: that is tried again for this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two such tries.
const CONNECT_RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// A connection that the daemon gave up for others, since it has few places, is made again so often; what changes something is
/// not asked for twice.
const MAX_RETRIES: u32 = 5;

/// Connects, however many others do at the same time.
async fn connect_with_retry(socket: &Path) -> io::Result<UnixStream> {
    let begin = Instant::now();
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begin.elapsed() < CONNECT_TIMEOUT => {
                sleep(CONNECT_RETRY_INTERVAL).await; // why: a queue that has room again is no event
            }
            connected => return connected,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error(
        "{}: no daemon answers ({source}): start routed, or name its socket with --socket or ROUTED_SOCKET",
        socket.display()
    )]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The daemon said no.
    #[error("{error}")]
    Refused {
        /// Its reason, one line.
        error: String,
        /// The mistakes in what was given to it.
        mistakes: Vec<Mistake>,
    },
    /// The answer is not one of routed's.
    #[error("{}: the answer is not routed's ({reason}): is another program behind this socket?", socket.display())]
    UnexpectedAnswer {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl ClientError {
    /// Whether there was a daemon, which ended the connection before it had answered.
    fn is_connection_lost(&self) -> bool {
        matches!(self, ClientError::NoDaemon { source, .. } if source.kind() == io::ErrorKind::ConnectionReset)
    }
}

/// The control API of one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) socket: PathBuf,
}

impl Client {
    /// A client of the daemon that listens on `socket`; connects at each request.
    pub fn new(socket: &Path) -> Self {
        Client { socket: socket.to_owned() }
    }

    /// `GET path`, as in `/v1/peers`.
    ///
    /// # Errors
    /// No daemon, a refusal, or an answer of another form.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::GET, path, None::<&()>).await
    }

    /// `method path` with a JSON body, if one is given.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        self.request_as(method, path, JSON, body).await
    }

    /// [`Client::request`] with a body that is JSON of a type of its own.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn request_as<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| self.unexpected(error.to_string()))?,
            None => Vec::new(),
        };
        let exchange = async {
            let mut again = if method == Method::GET { MAX_RETRIES } else { 0 };
            loop {
                match self.exchange(method.clone(), path, content_type, bytes.clone(), None).await {
                    Err(error) if again > 0 && error.is_connection_lost() => again -= 1,
                    outcome => return outcome,
                }
            }
        };
        let (status, bytes) = self.with_timeout(exchange).await?;
        self.read(status, &bytes)
    }

    /// Deletes resources if nothing has changed since a revision; `None`: something has.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn delete_at<T: DeserializeOwned>(
        &self,
        files: &Files,
        revision: Option<&Revision>,
    ) -> Result<Option<T>, ClientError> {
        let bytes = serde_json::to_vec(files).map_err(|error| self.unexpected(error.to_string()))?;
        let exchange = self.exchange(Method::DELETE, "/v1/resources", JSON, bytes, revision);
        let (status, bytes) = self.with_timeout(exchange).await?;
        if status == StatusCode::PRECONDITION_FAILED {
            return Ok(None);
        }
        self.read(status, &bytes).map(Some)
    }

    async fn with_timeout<T>(
        &self,
        exchange: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        match timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(self.no_daemon(io::Error::new(io::ErrorKind::TimedOut, "no answer in 60 s"))),
        }
    }

    fn read<T: DeserializeOwned>(&self, status: StatusCode, bytes: &[u8]) -> Result<T, ClientError> {
        if status.is_success() {
            return serde_json::from_slice(bytes).map_err(|error| self.unexpected(error.to_string()));
        }
        match serde_json::from_slice::<ErrorBody>(bytes) {
            Ok(ErrorBody { error, mistakes }) => Err(ClientError::Refused { error, mistakes }),
            Err(_) => Err(self.unexpected(format!("status {status}"))),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
        revision: Option<&Revision>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = self.connect().await.map_err(|error| self.no_daemon(error))?;
        let failed = |error: hyper::Error| match error.is_parse() {
            true => self.unexpected(error.to_string()),
            false => self.no_daemon(io::Error::new(io::ErrorKind::ConnectionReset, error)),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "routed")
            .header("content-type", content_type)
            .header("if-match", revision.map_or_else(|| "*".to_owned(), |revision| format!("\"{revision}\"")))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.unexpected(error.to_string()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(failed)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => failed(*error),
                Err(error) => self.unexpected(error.to_string()),
            })?;
            Ok((status, body.to_bytes()))
        };
        // The connection ends by itself once the answer is read; until then both must run.
        tokio::pin!(answer);
        tokio::select! {
            result = &mut answer => result,
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(failed(error)),
            },
        }
    }

    /// Who may not use the daemon's socket may be of the group that may look.
    pub(super) async fn connect(&self) -> io::Result<UnixStream> {
        match connect_with_retry(&self.socket).await {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                connect_with_retry(&super::read_socket(&self.socket)).await.map_err(|_| error)
            }
            connected => connected,
        }
    }

    pub(super) fn no_daemon(&self, source: io::Error) -> ClientError {
        ClientError::NoDaemon { socket: self.socket.clone(), source }
    }

    pub(super) fn unexpected(&self, reason: String) -> ClientError {
        ClientError::UnexpectedAnswer { socket: self.socket.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// A daemon that gives up so many connections before it answers one.
    fn busy(socket: &Path, gives_up: u32) -> tokio::task::JoinHandle<u32> {
        let listener = UnixListener::bind(socket).expect("a socket");
        tokio::spawn(async move {
            let mut met = 0;
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                met += 1;
                let _ = stream.read(&mut [0; 512]).await;
                if met > gives_up {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n7").await;
                    return met;
                }
            }
        })
    }

    #[tokio::test]
    async fn who_looks_and_lost_its_place_asks_again_and_who_changes_something_does_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("s");
        let daemon = busy(&socket, MAX_RETRIES);
        let client = Client::new(&socket);
        assert_eq!(client.get::<u32>("/v1/x").await.expect("an answer"), 7);
        assert_eq!(daemon.await.expect("its end"), MAX_RETRIES + 1);

        std::fs::remove_file(&socket).expect("the socket");
        let daemon = busy(&socket, MAX_RETRIES);
        let refused = client.request::<u32>(Method::PUT, "/v1/x", Some(&1)).await;
        assert!(matches!(&refused, Err(error) if error.is_connection_lost()), "{refused:?}");
        daemon.abort();
    }
}
