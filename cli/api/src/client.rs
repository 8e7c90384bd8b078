//! The client of the control socket, for routectl.

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

use datastore::Revision;
use resource::Mistake;

use super::resources::Files;
use super::routes::ErrorBody;

/// The largest answer that is read, in bytes: enough for a million routes.
const MAX_ANSWER: usize = 512 * 1024 * 1024;
/// The time limit for an answer of the daemon.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The default content type of request bodies.
const JSON: &str = "application/json";

/// The time for which connecting is retried while the socket's queue is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval of these retries.
const CONNECT_RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// The number of retries after the daemon has closed the connection to make room for others. Only
/// requests that change nothing are retried.
const MAX_RETRIES: u32 = 5;

/// Connects. Retries while the socket's queue is full.
async fn connect_with_retry(socket: &Path) -> io::Result<UnixStream> {
    let begin = Instant::now();
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begin.elapsed() < CONNECT_TIMEOUT => {
                sleep(CONNECT_RETRY_INTERVAL).await; // why: space in the queue is not signalled
            }
            connected => return connected,
        }
    }
}

/// The reason why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens on the socket.
    #[error(
        "{}: no daemon answers ({source}): start routed, or name its socket with --socket or ROUTED_SOCKET",
        socket.display()
    )]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The daemon refused the request.
    #[error("{error}")]
    Refused {
        /// The reason, one line.
        error: String,
        /// The mistakes in the submitted resources.
        mistakes: Vec<Mistake>,
    },
    /// The answer does not have the form of the API.
    #[error("{}: the answer is not routed's ({reason}): is another program behind this socket?", socket.display())]
    UnexpectedAnswer {
        /// The socket.
        socket: PathBuf,
        /// The deviation from the form.
        reason: String,
    },
}

impl ClientError {
    /// Returns whether a daemon accepted the connection and closed it before it answered.
    fn is_connection_lost(&self) -> bool {
        matches!(self, ClientError::NoDaemon { source, .. } if source.kind() == io::ErrorKind::ConnectionReset)
    }
}

/// A client of the control API of one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) socket: PathBuf,
}

impl Client {
    /// Returns a client of the daemon that listens on `socket`. Each request uses a new connection.
    pub fn new(socket: &Path) -> Self {
        Client { socket: socket.to_owned() }
    }

    /// Sends `GET path`, as in `/v1/peers`.
    ///
    /// # Errors
    /// No daemon, a refusal, or an answer of another form.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::GET, path, None::<&()>).await
    }

    /// Sends `method path` with an optional JSON body.
    ///
    /// # Errors
    /// The errors of [`Client::get`].
    pub async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        self.request_as(method, path, JSON, body).await
    }

    /// Sends a request as [`Client::request`], with a content type for the body.
    ///
    /// # Errors
    /// The errors of [`Client::get`].
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

    /// Deletes resources if the store still has a revision. Returns `None` if the store has
    /// changed.
    ///
    /// # Errors
    /// The errors of [`Client::get`].
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
        // The connection ends after the answer is read; until then both futures have to be polled.
        tokio::pin!(answer);
        tokio::select! {
            result = &mut answer => result,
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(failed(error)),
            },
        }
    }

    /// Connects to the control socket, or without permission to the socket of the group of readers.
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

    /// Starts a daemon that closes `closed` connections before it answers one.
    fn busy_daemon(socket: &Path, closed: u32) -> tokio::task::JoinHandle<u32> {
        let listener = UnixListener::bind(socket).expect("a socket");
        tokio::spawn(async move {
            let mut accepted = 0;
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                accepted += 1;
                let _ = stream.read(&mut [0; 512]).await;
                if accepted > closed {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n7").await;
                    return accepted;
                }
            }
        })
    }

    #[tokio::test]
    async fn a_lost_connection_is_retried_for_get_and_not_for_put() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("s");
        let daemon = busy_daemon(&socket, MAX_RETRIES);
        let client = Client::new(&socket);
        assert_eq!(client.get::<u32>("/v1/x").await.expect("an answer"), 7);
        assert_eq!(daemon.await.expect("its end"), MAX_RETRIES + 1);

        std::fs::remove_file(&socket).expect("the socket");
        let daemon = busy_daemon(&socket, MAX_RETRIES);
        let refused = client.request::<u32>(Method::PUT, "/v1/x", Some(&1)).await;
        assert!(matches!(&refused, Err(error) if error.is_connection_lost()), "{refused:?}");
        daemon.abort();
    }
}
