//! Who may come in, how many at a time, and for how long they may say nothing.

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

use super::Denied;
use super::routes::{ErrorBody, MAX_REQUEST};
use super::timeouts::{Patient, Waiting};

/// Connections at a time: many more than there are people and scrapers, and few enough to cost nothing. One more
/// takes the place of the one that has said nothing, or taken nothing, for longest.
const MAX_CONNECTIONS: usize = 64;
/// No new connection is let in at the expense of one that came less than this ago.
const JUST_COME: Duration = Duration::from_millis(20);
/// A request's head, and then its body, have to be there within this.
const SPOKEN_WITHIN: Duration = Duration::from_secs(10);
/// A request that is not answered by then is given up, as `routectl` gives it up.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// The largest head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// Requests that are larger share [`LARGE_BYTES`].
const SMALL_REQUEST: usize = 64 * 1024;
/// Bytes of all large requests together: two of the largest.
const LARGE_BYTES: usize = 2 * MAX_REQUEST;
/// The pause when no connection can be accepted, as without descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket and whom it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// For root, the daemon's user and the socket's group, who may do everything.
    Owners {
        /// The socket's path.
        path: PathBuf,
    },
    /// For a group that may look.
    Readers {
        /// The socket's path.
        path: PathBuf,
        /// The group's name.
        group: String,
    },
}

/// Who is at the other end (`SO_PEERCRED`): as it was when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Caller {
    uid: u32,
    gid: u32,
    pid: Option<i32>,
}

impl Caller {
    fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Caller { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() })
    }
}

impl Door {
    fn path(&self) -> &Path {
        match self {
            Door::Owners { path } | Door::Readers { path, .. } => path,
        }
    }

    /// Whether a caller may make a request, which changes something unless it `looks`.
    ///
    /// # Errors
    /// The caller may not.
    fn admits(&self, caller: &Caller, looks: bool) -> Result<(), Denied> {
        let own = nix::unistd::geteuid().as_raw();
        match self {
            _ if caller.uid == 0 || caller.uid == own => Ok(()),
            Door::Readers { group, .. } if !looks => Err(Denied::ReadOnly { group: group.clone() }),
            // Connecting needs the right to write to the socket, which is the kernel's to judge by its mode, supplementary groups
            // and all. Only where somebody has opened it for everybody is that no judgement.
            _ => match std::fs::metadata(self.path()) {
                Ok(socket) if socket.permissions().mode() & 0o007 == 0 => Ok(()),
                Ok(socket) if std::os::unix::fs::MetadataExt::gid(&socket) == caller.gid => Ok(()),
                _ => Err(Denied::OpenSocket { path: self.path().to_owned(), uid: caller.uid }),
            },
        }
    }
}

/// Answers requests on a control socket until it is aborted.
pub async fn serve(listener: UnixListener, router: Router, door: Door) {
    let door = Arc::new(door);
    let known = move |stream: &UnixStream| {
        let caller = Caller::of(stream).ok()?;
        Some(Some((Arc::clone(&door), caller)))
    };
    // One request to a connection, as `routectl` has it: who sends many at once gets no more than his turn.
    House::new(router, false)
        .receive(|cx| listener.poll_accept(cx).map_ok(|(stream, _)| stream), known)
        .await;
}

/// Answers requests on a TCP socket until it is aborted: the router has nothing that changes anything.
pub async fn serve_status(listener: TcpListener, router: Router) {
    House::new(router, true)
        .receive(|cx| listener.poll_accept(cx).map_ok(|(stream, _)| stream), |_| Some(None))
        .await;
}

/// What all connections of a socket share.
#[derive(Clone)]
struct House {
    router: TowerToHyperService<Router>,
    large: Arc<Semaphore>,
    /// Whether a connection stays for another request.
    keep_alive: bool,
}

impl House {
    fn new(router: Router, keep_alive: bool) -> Self {
        let (router, large) = (TowerToHyperService::new(router), Arc::new(Semaphore::new(LARGE_BYTES)));
        House { router, large, keep_alive }
    }

    /// Takes connections in; `None` of `known` refuses one.
    async fn receive<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>> + Send,
        known: impl Fn(&S) -> Option<Option<(Arc<Door>, Caller)>> + Send,
    ) {
        let mut connections: JoinSet<()> = JoinSet::new();
        let mut guests: HashMap<Id, (Waiting, AbortHandle)> = HashMap::new();
        loop {
            let stream = tokio::select! {
                ended = next_ended(&mut connections) => {
                    guests.remove(&ended);
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
            let Some(caller) = known(&stream) else { continue };
            // Who has just come may have spoken without having been heard yet: new ones wait so long, in the kernel's queue.
            while guests.len() >= MAX_CONNECTIONS && !make_room(&mut guests) {
                tokio::select! {
                    ended = next_ended(&mut connections) => drop(guests.remove(&ended)),
                    () = sleep(JUST_COME) => {} // why: then those that had just come may make room
                }
            }
            let waiting = Waiting::now();
            let task = connections.spawn(self.clone().entertain(stream, caller, waiting.clone()));
            guests.insert(task.id(), (waiting, task));
        }
    }

    async fn entertain<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        stream: S,
        caller: Option<(Arc<Door>, Caller)>,
        waiting: Waiting,
    ) {
        let stream = TokioIo::new(Patient::new(stream, waiting.clone()));
        let service = service_fn(|request: Request<Incoming>| {
            let (house, caller, waiting) = (self.clone(), caller.clone(), waiting.clone());
            async move { Ok::<_, Infallible>(house.answer(request, caller, &waiting).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(SPOKEN_WITHIN)
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
        caller: Option<(Arc<Door>, Caller)>,
        waiting: &Waiting,
    ) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let looks = looks(&method, &path);
        let response = match caller.as_ref().map_or(Ok(()), |(door, caller)| door.admits(caller, looks)) {
            Ok(()) => self.admitted(request, waiting).await,
            Err(reason) => refusal(StatusCode::FORBIDDEN, reason.to_string()),
        };
        if let Some((_, Caller { uid, gid, pid })) = caller
            && !looks
        {
            let (status, pid) = (response.status().as_u16(), pid.unwrap_or(0));
            tracing::info!(uid, gid, pid, %method, path, status, "asked for a change");
        }
        response
    }

    async fn admitted(&self, request: Request<Incoming>, waiting: &Waiting) -> Response<Body> {
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
        let body = match timeout(SPOKEN_WITHIN, Limited::new(body, MAX_REQUEST).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return too_large(),
            Ok(Err(error)) => {
                return refusal(StatusCode::BAD_REQUEST, format!("the request can't be read: {error}"));
            }
            Err(_) => {
                let reason = format!("the request was not there within {} s", SPOKEN_WITHIN.as_secs());
                return refusal(StatusCode::REQUEST_TIMEOUT, reason);
            }
        };
        waiting.answers(true);
        let answered =
            timeout(ANSWERED_WITHIN, self.router.call(Request::from_parts(parts, Body::from(body)))).await;
        waiting.answers(false);
        match answered {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                let reason =
                    format!("no answer within {} s: look whether it was done", ANSWERED_WITHIN.as_secs());
                refusal(StatusCode::SERVICE_UNAVAILABLE, reason)
            }
        }
    }
}

/// Whether a request changes nothing. A plan comes with files to be rehearsed, and changes nothing either.
fn looks(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD) || (*method == Method::POST && path == "/v1/plan")
}

/// Ends the connection that has waited for its client for longest; whether there is one.
fn make_room(guests: &mut HashMap<Id, (Waiting, AbortHandle)>) -> bool {
    let waits = guests.iter().filter_map(|(id, (waiting, _))| Some((waiting.time()?, *id)));
    match waits.max_by_key(|(time, _)| *time).filter(|(time, _)| *time >= JUST_COME) {
        Some((_, id)) => {
            if let Some((_, task)) = guests.remove(&id) {
                task.abort();
            }
            true
        }
        None => false,
    }
}

/// The next connection that ends; with none, never.
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
    // What else comes is not read.
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

fn refusal(status: StatusCode, error: String) -> Response<Body> {
    (status, Json(ErrorBody { error, mistakes: Vec::new() })).into_response()
}
