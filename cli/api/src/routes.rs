//! The routers of the control API.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use datastore::{Revision, Store, StoreError};
use resource::{Key, Kind, MAX_FILE_BYTES, Mistake};

use super::proposal::propose;
use super::resources::{self, DeleteRequest, Files, ResourceFile};
use super::{Control, ExplainRequest, RouteQuery, patch};

/// The maximum time for which a node is drained before its blocks are withdrawn.
const MAX_DRAIN_WAIT: Duration = Duration::from_secs(3600);
/// The maximum size of a request, in bytes: a few files of the maximum size.
pub(super) const MAX_REQUEST: usize = 4 * MAX_FILE_BYTES;

/// The body of every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The reason, one line.
    pub error: String,
    /// The mistakes in the submitted resources.
    #[serde(default)]
    pub mistakes: Vec<Mistake>,
}

#[derive(Clone)]
struct Api {
    control: Arc<dyn Control>,
    store: Arc<dyn Store>,
}

/// Returns the router of the whole API, for the control socket.
pub fn router(control: Arc<dyn Control>, store: Arc<dyn Store>) -> Router {
    let api = Router::new()
        .route("/v1/peers", get(async |State(api): State<Api>| Json(api.control.peers().await)))
        .route("/v1/peers/{name}", get(peer))
        .route("/v1/routes", get(routes))
        .route("/v1/tunnels", get(async |State(api): State<Api>| Json(api.control.tunnels().await)))
        .route("/v1/nodes", get(async |State(api): State<Api>| Json(api.control.nodes().await)))
        .route("/v1/status", get(async |State(api): State<Api>| Json(api.control.status().await)))
        .route("/v1/drain", axum::routing::post(drain))
        .route("/v1/explain", get(explain))
        .route("/v1/doctor", get(doctor))
        .route("/v1/plan", axum::routing::post(plan))
        .route("/v1/resources", axum::routing::put(put_resources).delete(delete_resources))
        .route("/v1/resources/{kind}", get(list))
        .route("/v1/resources/{kind}/{name}", get(list_one).delete(delete_one).patch(patch_one))
        .route("/v1/resources/{kind}/{name}/labels", axum::routing::post(label_one))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(Api { control: control.clone(), store });
    api.merge(health_router(control)).fallback(async || {
        let error = "no such path: the control API is under /v1".to_owned();
        (StatusCode::NOT_FOUND, Json(ErrorBody { error, mistakes: Vec::new() }))
    })
}

/// Returns the router for TCP: `/healthz`, `/readyz`, `/metrics` and the status page, `/`.
pub fn health_router(control: Arc<dyn Control>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/", get(page))
        .with_state(control)
}

async fn ready(State(control): State<Arc<dyn Control>>) -> Response {
    let status = control.status().await;
    if status.ready {
        return "ready\n".into_response();
    }
    let reasons: String = status.not_ready.iter().map(|reason| format!("{reason}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, if reasons.is_empty() { "not ready\n".into() } else { reasons })
        .into_response()
}

/// Serves the status page. Its policy forbids scripts and external content.
async fn page(State(control): State<Arc<dyn Control>>) -> Response {
    let (status, peers, tunnels) = (control.status().await, control.peers().await, control.tunnels().await);
    let html = super::status_page::page(&status, &peers, &tunnels);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, html).into_response()
}

/// Serves the metrics in the Prometheus text format.
async fn metrics(State(control): State<Arc<dyn Control>>) -> Response {
    let (status, peers, tunnels) = (control.status().await, control.peers().await, control.tunnels().await);
    let text = super::metrics::text(&status, &peers, &tunnels);
    ([(header::CONTENT_TYPE, super::metrics::CONTENT_TYPE)], text).into_response()
}

#[derive(Deserialize)]
struct DrainQuery {
    wait_ms: u64,
}

async fn drain(State(api): State<Api>, Query(DrainQuery { wait_ms }): Query<DrainQuery>) -> Response {
    if wait_ms > MAX_DRAIN_WAIT.as_secs() * 1000 {
        let error = format!("wait_ms: at most {} seconds", MAX_DRAIN_WAIT.as_secs());
        return refusal(StatusCode::BAD_REQUEST, error, Vec::new());
    }
    match api.control.drain(Duration::from_millis(wait_ms)).await {
        Ok(()) => Json(serde_json::json!({ "draining": true })).into_response(),
        Err(error) => refusal(StatusCode::CONFLICT, error, Vec::new()),
    }
}

#[derive(Deserialize)]
struct ExplainQuery {
    target: String,
    from: Option<String>,
}

async fn explain(
    State(api): State<Api>,
    Query(ExplainQuery { target, from }): Query<ExplainQuery>,
) -> Response {
    let parsed =
        target.parse::<ipnet::IpNet>().ok().or_else(|| Some(target.parse::<std::net::IpAddr>().ok()?.into()));
    let Some(target) = parsed else {
        return refusal(StatusCode::BAD_REQUEST, "target must be an address or a prefix", Vec::new());
    };
    let from = match from.as_deref().map(str::parse).transpose() {
        Ok(from) => from,
        Err(_) => {
            return refusal(StatusCode::BAD_REQUEST, "from must be an address", Vec::new());
        }
    };
    match api.control.explain(ExplainRequest { target, from }).await {
        Ok(view) => Json(view).into_response(),
        Err(error) => refusal(StatusCode::SERVICE_UNAVAILABLE, error, Vec::new()),
    }
}

/// The query of a plan: `mode=delete` deletes the resources, otherwise they are applied.
#[derive(Deserialize)]
struct PlanQuery {
    mode: Option<String>,
}

async fn plan(
    State(api): State<Api>,
    Query(PlanQuery { mode }): Query<PlanQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let files = match files(&headers, &body) {
        Ok(files) => files,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, error, Vec::new()),
    };
    let deletes = match mode.as_deref() {
        None | Some("apply") => false,
        Some("delete") => true,
        Some(_) => return refusal(StatusCode::BAD_REQUEST, "mode: apply or delete", Vec::new()),
    };
    let proposal = match propose(api.store.as_ref(), &files, deletes).await {
        Ok(proposal) => proposal,
        Err(error) => return store_refusal(error),
    };
    match api.control.plan(proposal).await {
        Ok(view) => Json(view).into_response(),
        Err(error) => refusal(StatusCode::SERVICE_UNAVAILABLE, error, Vec::new()),
    }
}

async fn peer(State(api): State<Api>, Path(name): Path<String>) -> Response {
    match api.control.peer(name.clone()).await {
        Some(detail) => Json(detail).into_response(),
        None => {
            let error = format!("no peer {name:?}: routectl show peers names them");
            refusal(StatusCode::NOT_FOUND, error, Vec::new())
        }
    }
}

async fn routes(State(api): State<Api>, Query(query): Query<RouteQuery>) -> Response {
    match api.control.routes(query).await {
        Ok(routes) => Json(routes).into_response(),
        Err(error) => refusal(StatusCode::NOT_FOUND, error, Vec::new()),
    }
}

async fn doctor(State(api): State<Api>) -> Response {
    match api.control.doctor().await {
        Ok(diagnosis) => Json(diagnosis).into_response(),
        Err(error) => refusal(StatusCode::SERVICE_UNAVAILABLE, error, Vec::new()),
    }
}

async fn list(State(api): State<Api>, Path(kind): Path<String>) -> Response {
    list_named(&api, &kind, None).await
}

async fn list_one(State(api): State<Api>, Path((kind, name)): Path<(String, String)>) -> Response {
    list_named(&api, &kind, Some(&name)).await
}

async fn list_named(api: &Api, kind: &str, name: Option<&str>) -> Response {
    let Some(kind) = Kind::from_user(kind) else { return unknown_kind(kind) };
    let contents = api.store.load().await.and_then(|contents| resources::list(&contents, kind, name));
    match contents {
        Ok(list) => {
            let tag = format!("\"{}\"", list.revision);
            ([(header::ETAG, tag)], Json(list)).into_response()
        }
        Err(error) => store_refusal(error),
    }
}

/// The query of a PUT: `mode=apply` creates and replaces, `mode=replace` replaces a version that
/// the caller has read.
#[derive(Deserialize)]
struct PutQuery {
    #[serde(default)]
    mode: resources::PutMode,
}

async fn put_resources(
    State(api): State<Api>,
    Query(PutQuery { mode }): Query<PutQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match files(&headers, &body) {
        Ok(files) => match resources::apply(api.store.as_ref(), &files, expected(&headers), mode).await {
            Ok(response) => Json(response).into_response(),
            Err(error) => store_refusal(error),
        },
        Err(error) => refusal(StatusCode::BAD_REQUEST, error, Vec::new()),
    }
}

async fn delete_resources(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    let request = match is_json(&headers) {
        true => serde_json::from_slice(&body).map_err(BodyError::Resources),
        false => {
            files(&headers, &body).map(|Files { files }| DeleteRequest { files, ..DeleteRequest::default() })
        }
    };
    match request {
        Ok(request) => match resources::delete(api.store.as_ref(), &request, expected(&headers)).await {
            Ok(response) => Json(response).into_response(),
            Err(error) => store_refusal(error),
        },
        Err(error) => refusal(StatusCode::BAD_REQUEST, error, Vec::new()),
    }
}

async fn delete_one(
    State(api): State<Api>,
    headers: HeaderMap,
    Path((kind, name)): Path<(String, String)>,
) -> Response {
    let Some(kind) = Kind::from_user(&kind) else { return unknown_kind(&kind) };
    let request = DeleteRequest { keys: vec![Key { kind, name }], ..DeleteRequest::default() };
    match resources::delete(api.store.as_ref(), &request, expected(&headers)).await {
        Ok(response) => Json(response).into_response(),
        Err(error) => store_refusal(error),
    }
}

/// Patches a resource. The content type determines one of Kubernetes' three forms of a patch.
async fn patch_one(
    State(api): State<Api>,
    headers: HeaderMap,
    Path((kind, name)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let Some(kind) = Kind::from_user(&kind) else { return unknown_kind(&kind) };
    let patch = match patch::Patch::read(content_type(&headers), &body) {
        Ok(patch) => patch,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, error, Vec::new()),
    };
    match patch::patch(api.store.as_ref(), Key { kind, name }, &patch, expected(&headers)).await {
        Ok(response) => Json(response).into_response(),
        Err(error) => store_refusal(error),
    }
}

async fn label_one(
    State(api): State<Api>,
    headers: HeaderMap,
    Path((kind, name)): Path<(String, String)>,
    Json(change): Json<patch::LabelChange>,
) -> Response {
    let Some(kind) = Kind::from_user(&kind) else { return unknown_kind(&kind) };
    match patch::label(api.store.as_ref(), Key { kind, name }, &change, expected(&headers)).await {
        Ok(response) => Json(response).into_response(),
        Err(error) => store_refusal(error),
    }
}

/// Reads files from a body: JSON (`{"files": [{"name", "text"}]}`), or with any other content type
/// plain YAML, so that `curl --data-binary @pools.yaml` works.
fn files(headers: &HeaderMap, body: &Bytes) -> Result<Files, BodyError> {
    if is_json(headers) {
        return serde_json::from_slice(body).map_err(BodyError::Files);
    }
    let text = std::str::from_utf8(body)?;
    Ok(Files { files: vec![ResourceFile { name: "request".into(), text: text.into() }] })
}

/// The reason why a body has no resources.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    /// The body is not the JSON of [`Files`].
    #[error("not a list of files: {0}")]
    Files(#[source] serde_json::Error),
    /// The body is not the JSON of [`DeleteRequest`].
    #[error("not a list of resources: {0}")]
    Resources(#[source] serde_json::Error),
    /// The body is not UTF-8.
    #[error("not UTF-8 text")]
    Utf8(#[from] std::str::Utf8Error),
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}

fn is_json(headers: &HeaderMap) -> bool {
    content_type(headers) == "application/json"
}

/// Returns the revision that the caller has read (`If-Match`).
fn expected(headers: &HeaderMap) -> Option<Revision> {
    let value = headers.get(header::IF_MATCH)?.to_str().ok()?;
    Some(Revision(value.trim_matches('"').to_owned())).filter(|revision| revision.0 != "*")
}

fn unknown_kind(kind: &str) -> Response {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.plural()).collect();
    let error = format!("no kind {kind:?}: there are {}", names.join(", "));
    refusal(StatusCode::NOT_FOUND, error, Vec::new())
}

fn store_refusal(error: StoreError) -> Response {
    let text = error.to_string();
    match error {
        StoreError::Invalid(mistakes) => refusal(StatusCode::UNPROCESSABLE_ENTITY, text, mistakes),
        StoreError::Conflict { .. } | StoreError::Outdated { .. } => {
            refusal(StatusCode::PRECONDITION_FAILED, text, Vec::new())
        }
        StoreError::Exists(mistakes) => refusal(StatusCode::CONFLICT, text, mistakes),
        StoreError::Forbidden(_) => refusal(StatusCode::UNPROCESSABLE_ENTITY, text, Vec::new()),
        StoreError::NotFound(_) => refusal(StatusCode::NOT_FOUND, text, Vec::new()),
        StoreError::Unavailable { .. } => refusal(StatusCode::SERVICE_UNAVAILABLE, text, Vec::new()),
        StoreError::Io { .. } | StoreError::Ended => {
            refusal(StatusCode::INTERNAL_SERVER_ERROR, text, Vec::new())
        }
    }
}

fn refusal(status: StatusCode, error: impl ToString, mistakes: Vec<Mistake>) -> Response {
    (status, Json(ErrorBody { error: error.to_string(), mistakes })).into_response()
}
