//! The server of the sockets: access control, and limits of connections, requests and times.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::{Json, Router};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{sleep, timeout};

use super::AccessError;
use super::routes::{ErrorBody, MAX_REQUEST};
use super::timeouts::{IdleTimer, TimedStream};

/// The maximum number of connections: more than there are users and scrapers, and few enough to be
/// cheap. A new connection beyond the limit replaces the connection that has waited longest for its
/// client.
const MAX_CONNECTIONS: usize = 64;
/// The age below which a connection is not replaced.
const MIN_AGE: Duration = Duration::from_millis(20);
/// The time limit for the head of a request, and then for its body.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit for handling a request, the same as `routectl` has.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The maximum size of a request's head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// The size above which requests share [`LARGE_BYTES`].
const SMALL_REQUEST: usize = 64 * 1024;
/// The bytes of all large requests together: two of the maximum size.
const LARGE_BYTES: usize = 2 * MAX_REQUEST;
/// The pause after a failure to accept a connection, for example for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A control socket and its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlSocket {
    /// The socket of root, the daemon's user and the socket's group. They may change resources.
    Owners {
        /// The socket's path.
        path: PathBuf,
    },
    /// The socket of a group that may read only.
    Readers {
        /// The socket's path.
        path: PathBuf,
        /// The group's name.
        group: String,
    },
}

/// The credentials of the client (`SO_PEERCRED`) at the time it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClientCredentials {
    uid: u32,
    gid: u32,
    pid: Option<i32>,
}

impl ClientCredentials {
    fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(ClientCredentials { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() })
    }
}

impl ControlSocket {
    fn path(&self) -> &Path {
        match self {
            ControlSocket::Owners { path } | ControlSocket::Readers { path, .. } => path,
        }
    }

    /// Checks that a client may make a request.
    ///
    /// # Errors
    /// The client may not.
    fn authorize(&self, client: &ClientCredentials, is_read_only: bool) -> Result<(), AccessError> {
        let own = nix::unistd::geteuid().as_raw();
        match self {
            _ if client.uid == 0 || client.uid == own => Ok(()),
            ControlSocket::Readers { group, .. } if !is_read_only => {
                Err(AccessError::ReadOnly { group: group.clone() })
            }
            // Connecting requires write permission for the socket, which the kernel checks,
            // supplementary groups included. Only if the socket is writable for everyone does this
            // prove nothing.
            _ => match std::fs::metadata(self.path()) {
                Ok(socket) if socket.permissions().mode() & 0o007 == 0 => Ok(()),
                Ok(socket) if std::os::unix::fs::MetadataExt::gid(&socket) == client.gid => Ok(()),
                _ => Err(AccessError::OpenSocket { path: self.path().to_owned(), uid: client.uid }),
            },
        }
    }
}

/// Serves a control socket until the task is aborted.
pub async fn serve(listener: UnixListener, router: Router, socket: ControlSocket) {
    let socket = Arc::new(socket);
    let identify = move |stream: &UnixStream| {
        let client = ClientCredentials::of(stream).ok()?;
        Some(Some((Arc::clone(&socket), client)))
    };
    // One request for each connection, as `routectl` sends them, so that a client with many
    // requests competes with others for each.
    ConnectionServer::new(router, false)
        .receive(|cx| listener.poll_accept(cx).map_ok(|(stream, _)| stream), identify)
        .await;
}

/// Serves a TCP socket until the task is aborted. The router must not change anything.
pub async fn serve_status(listener: TcpListener, router: Router) {
    ConnectionServer::new(router, true)
        .receive(|cx| listener.poll_accept(cx).map_ok(|(stream, _)| stream), |_| Some(None))
        .await;
}

/// The shared state of all connections of a socket.
#[derive(Clone)]
struct ConnectionServer {
    router: TowerToHyperService<Router>,
    large: Arc<Semaphore>,
    /// True if a connection may have several requests.
    keep_alive: bool,
}

impl ConnectionServer {
    fn new(router: Router, keep_alive: bool) -> Self {
        let (router, large) = (TowerToHyperService::new(router), Arc::new(Semaphore::new(LARGE_BYTES)));
        ConnectionServer { router, large, keep_alive }
    }

    /// Accepts connections. A connection is refused if `identify` returns `None`.
    async fn receive<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>> + Send,
        identify: impl Fn(&S) -> Option<Option<(Arc<ControlSocket>, ClientCredentials)>> + Send,
    ) {
        let mut connections: JoinSet<()> = JoinSet::new();
        let mut open: HashMap<Id, (IdleTimer, AbortHandle)> = HashMap::new();
        loop {
            let stream = tokio::select! {
                ended = next_ended(&mut connections) => {
                    open.remove(&ended);
                    continue;
                }
                accepted = poll_fn(&accept) => match accepted {
                    Ok(stream) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "no connection can be accepted");
                        sleep(PAUSE).await; // why: without a descriptor the next try fails as well
                        continue;
                    }
                },
            };
            let Some(client) = identify(&stream) else { continue };
            // A new client may have sent a request that is not read yet. Further connections wait
            // in the kernel's queue until the young ones may be replaced.
            while open.len() >= MAX_CONNECTIONS && !close_longest_idle(&mut open) {
                tokio::select! {
                    ended = next_ended(&mut connections) => drop(open.remove(&ended)),
                    () = sleep(MIN_AGE) => {} // why: then young connections may be replaced
                }
            }
            let idle = IdleTimer::now();
            let task = connections.spawn(self.clone().serve_connection(stream, client, idle.clone()));
            open.insert(task.id(), (idle, task));
        }
    }

    async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        stream: S,
        client: Option<(Arc<ControlSocket>, ClientCredentials)>,
        idle: IdleTimer,
    ) {
        let stream = TokioIo::new(TimedStream::new(stream, idle.clone()));
        let service = service_fn(|request: Request<Incoming>| {
            let (server, client, idle) = (self.clone(), client.clone(), idle.clone());
            async move { Ok::<_, Infallible>(server.answer(request, client, &idle).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(READ_TIMEOUT)
            .max_header_size(MAX_HEAD)
            .keep_alive(self.keep_alive)
            .serve_connection(stream, service);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a control connection ended");
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        client: Option<(Arc<ControlSocket>, ClientCredentials)>,
        idle: &IdleTimer,
    ) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let is_read_only = is_read_only(&method, &path);
        let response =
            match client.as_ref().map_or(Ok(()), |(socket, client)| socket.authorize(client, is_read_only)) {
                Ok(()) => self.dispatch(request, idle).await,
                Err(reason) => refusal(StatusCode::FORBIDDEN, reason.to_string()),
            };
        if let Some((_, ClientCredentials { uid, gid, pid })) = client
            && !is_read_only
        {
            let (status, pid) = (response.status().as_u16(), pid.unwrap_or(0));
            tracing::info!(uid, gid, pid, %method, path, status, "asked for a change");
        }
        response
    }

    async fn dispatch(&self, request: Request<Incoming>, idle: &IdleTimer) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let announced = body.size_hint().upper().and_then(|size| usize::try_from(size).ok());
        let size = announced.unwrap_or(MAX_REQUEST);
        if size > MAX_REQUEST {
            return too_large();
        }
        let room = match size > SMALL_REQUEST {
            false => Ok(None),
            true => self.large.try_acquire_many(u32::try_from(size).unwrap_or(u32::MAX)).map(Some),
        };
        let Ok(_room) = room else {
            let reason = "other large requests are being read: try again in some seconds";
            return refusal(StatusCode::SERVICE_UNAVAILABLE, reason.into());
        };
        let body = match timeout(READ_TIMEOUT, Limited::new(body, MAX_REQUEST).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return too_large(),
            Ok(Err(error)) => {
                return refusal(StatusCode::BAD_REQUEST, format!("the request can't be read: {error}"));
            }
            Err(_) => {
                let reason = format!("the request was not there within {} s", READ_TIMEOUT.as_secs());
                return refusal(StatusCode::REQUEST_TIMEOUT, reason);
            }
        };
        idle.set_answering(true);
        let answered =
            timeout(ANSWER_TIMEOUT, self.router.call(Request::from_parts(parts, Body::from(body)))).await;
        idle.set_answering(false);
        match answered {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                let reason =
                    format!("no answer within {} s: look whether it was done", ANSWER_TIMEOUT.as_secs());
                refusal(StatusCode::SERVICE_UNAVAILABLE, reason)
            }
        }
    }
}

/// Returns whether a request changes nothing. A plan is a POST with files, and changes nothing
/// either.
fn is_read_only(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD) || (*method == Method::POST && path == "/v1/plan")
}

/// Closes the connection that has waited longest for its client. Returns whether there was one.
fn close_longest_idle(open: &mut HashMap<Id, (IdleTimer, AbortHandle)>) -> bool {
    let idle = open.iter().filter_map(|(id, (idle, _))| Some((idle.time()?, *id)));
    match idle.max_by_key(|(time, _)| *time).filter(|(time, _)| *time >= MIN_AGE) {
        Some((_, id)) => {
            if let Some((_, task)) = open.remove(&id) {
                task.abort();
            }
            true
        }
        None => false,
    }
}

/// Waits for the next connection that ends. Without connections it never returns.
async fn next_ended(connections: &mut JoinSet<()>) -> Id {
    match connections.join_next_with_id().await {
        Some(Ok((id, ()))) => id,
        Some(Err(error)) => error.id(),
        None => pending().await,
    }
}

fn too_large() -> Response<Body> {
    let mut response =
        refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("a request has at most {MAX_REQUEST} bytes"));
    // The rest of the request is not read.
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

fn refusal(status: StatusCode, error: String) -> Response<Body> {
    (status, Json(ErrorBody { error, mistakes: Vec::new() })).into_response()
}
