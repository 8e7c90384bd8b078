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
use tokio::time::timeout;

use super::server::ErrorBody;
use crate::resource::Mistake;

/// The largest answer that is read: a million routes.
const MAX_ANSWER: usize = 512 * 1024 * 1024;
/// A daemon that doesn't answer in this time is taken for none.
const PATIENCE: Duration = Duration::from_secs(60);

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
    Strange {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The control API of one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
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
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| self.strange(error.to_string()))?,
            None => Vec::new(),
        };
        let exchange = self.exchange(method, path, bytes);
        let (status, bytes) = match timeout(PATIENCE, exchange).await {
            Ok(answer) => answer?,
            Err(_) => {
                return Err(self.no_daemon(io::Error::new(io::ErrorKind::TimedOut, "no answer in 60 s")));
            }
        };
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| self.strange(error.to_string()));
        }
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(ErrorBody { error, mistakes }) => Err(ClientError::Refused { error, mistakes }),
            Err(_) => Err(self.strange(format!("status {status}"))),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.no_daemon(error))?;
        let strange = |error: hyper::Error| self.strange(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(strange)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "routed")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.strange(error.to_string()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(strange)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            Ok((status, body.map_err(|error| self.strange(error.to_string()))?.to_bytes()))
        };
        // The connection ends by itself once the answer is read; until then both must run.
        tokio::pin!(answer);
        tokio::select! {
            result = &mut answer => result,
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(strange(error)),
            },
        }
    }

    fn no_daemon(&self, source: io::Error) -> ClientError {
        ClientError::NoDaemon { socket: self.socket.clone(), source }
    }

    fn strange(&self, reason: String) -> ClientError {
        ClientError::Strange { socket: self.socket.clone(), reason }
    }
}
