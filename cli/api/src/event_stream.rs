//! The client of streamed answers, for routectl.

use std::io;

use axum::body::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

use super::client::{Client, ClientError};
use super::routes::ErrorBody;

/// The maximum length of a line or of a refusal, in bytes.
const MAX_LINE: usize = 64 * 1024;

impl Client {
    /// Sends `GET path` and passes each line of the answer to `each` until the answer ends or
    /// `each` returns an error.
    ///
    /// # Errors
    /// No daemon, a refusal, or an answer of another form.
    pub async fn lines<E>(
        &self,
        path: &str,
        mut each: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<Result<(), E>, ClientError> {
        let strange = |error: hyper::Error| self.unexpected(error.to_string());
        let stream = self.connect().await.map_err(|error| self.no_daemon(error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(strange)?;
        // The connection has to be polled until the answer is read; it ends with the sender.
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .uri(path)
            .header("host", "routed")
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.unexpected(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(strange)?;
        let status = response.status();
        let mut body = response.into_body();
        if status != StatusCode::OK {
            let body = Limited::new(body, MAX_LINE).collect().await;
            let bytes = body.map_err(|error| self.unexpected(error.to_string()))?.to_bytes();
            return match serde_json::from_slice::<ErrorBody>(&bytes) {
                Ok(ErrorBody { error, mistakes }) => Err(ClientError::Refused { error, mistakes }),
                Err(_) => Err(self.unexpected(format!("status {status}"))),
            };
        }
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let ended = |error| self.no_daemon(io::Error::new(io::ErrorKind::UnexpectedEof, error));
            let Ok(data) = frame.map_err(ended)?.into_data() else { continue };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let line = std::str::from_utf8(&line).map_err(|_| self.unexpected("no text".into()))?;
                if let Err(error) = each(line.trim_end()) {
                    connection.abort();
                    return Ok(Err(error));
                }
            }
            if rest.len() > MAX_LINE {
                return Err(self.unexpected(format!("a line of more than {MAX_LINE} octets")));
            }
        }
        Ok(Ok(()))
    }
}
