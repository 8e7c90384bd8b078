//! The client of etcd, connected to one member at a time.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, EventType, GetOptions, Identity,
    KeyValue, SortOrder, SortTarget, TlsOptions, Txn, TxnOp, WatchOptions,
};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::backend::{
    Backend, BackendError, Commit, Condition, Digest, KeyChange, KeyEvent, KeyEventStream, Listing,
    StoredValue,
};
use super::keys::Keys;
use super::replica::{MAX_ENTRIES, MAX_TOTAL_BYTES};
use super::settings::{EtcdSettings, host_and_port};

/// The timeout for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The timeout for one request. Each page of a listing is a request.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(1500);
/// The number of resources in one page of a listing. With resources of 1 KiB a page has 0.5 MiB.
const PAGE: i64 = 500;
/// The largest response, in octets. A page of the largest resources that etcd accepts would exceed
/// it and is refused.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// The largest file of a certificate, key or password, in octets.
const MAX_SECRET: u64 = 64 * 1024;

/// An etcd cluster.
pub(crate) struct EtcdBackend {
    settings: EtcdSettings,
    keys: Keys,
    member: Mutex<ActiveMember>,
    /// Notified at each change of the member, so that a watch ends instead of staying on a
    /// connection that is no longer checked.
    changes: watch::Sender<u64>,
}

struct ActiveMember {
    at: usize,
    client: Option<Client>,
}

fn away(error: impl std::fmt::Display) -> BackendError {
    BackendError::Away(error.to_string())
}

fn refused(error: impl std::fmt::Display) -> BackendError {
    BackendError::Refused(error.to_string())
}

/// Converts an error of the client.
fn backend_error(error: Error) -> BackendError {
    match error {
        Error::GRpcStatus(status) => {
            let text = status.message().to_owned();
            // The codes as numbers: their type is in a crate that only the client
            // depends on.
            match i32::from(status.code()) {
                11 if text.contains("compacted") => BackendError::Compacted,
                3 | 7 | 9 | 16 => BackendError::Refused(format!("etcd refuses: {text}")),
                _ => BackendError::Away(format!("etcd: {text}")),
            }
        }
        error @ (Error::InvalidArgs(_) | Error::InvalidUri(_)) => refused(error),
        error => away(error),
    }
}

fn read_secret(path: &Path) -> Result<Vec<u8>, BackendError> {
    let refuse = |reason: String| BackendError::Refused(format!("{}: {reason}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
    if size > MAX_SECRET {
        return Err(refuse(format!("must be at most {MAX_SECRET} bytes (got {size})")));
    }
    std::fs::read(path).map_err(|error| refuse(error.to_string()))
}

impl EtcdBackend {
    /// Creates a client that begins with the member that `seed` selects, so that nodes use
    /// different members.
    pub(crate) fn new(settings: EtcdSettings, seed: u64) -> Self {
        let count = u64::try_from(settings.endpoints.len().max(1)).unwrap_or(1);
        let at = usize::try_from(seed % count).unwrap_or(0);
        let keys = Keys::new(&settings.prefix);
        EtcdBackend {
            settings,
            keys,
            member: Mutex::new(ActiveMember { at, client: None }),
            changes: watch::Sender::new(0),
        }
    }

    fn member(&self) -> std::sync::MutexGuard<'_, ActiveMember> {
        self.member.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Reads certificates and the password. Called for each connection, so that changed files
    /// take effect.
    fn options(&self) -> Result<ConnectOptions, BackendError> {
        let mut options =
            ConnectOptions::new().with_require_leader(true).with_connect_timeout(CONNECT_TIMEOUT);
        if let Some(ca) = &self.settings.ca {
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read_secret(ca)?));
            if let (Some(cert), Some(key)) = (&self.settings.cert, &self.settings.key) {
                tls = tls.identity(Identity::from_pem(read_secret(cert)?, read_secret(key)?));
            }
            options = options.with_tls(tls);
        }
        if let (Some(user), Some(file)) = (&self.settings.username, &self.settings.password_file) {
            let password = String::from_utf8(read_secret(file)?)
                .map_err(|_| refused(format!("{}: is not UTF-8 text", file.display())))?;
            let password = password.trim_end_matches(['\r', '\n']);
            options = options.with_user(user.clone(), password).with_auto_token_refresh(true);
        }
        Ok(options)
    }

    async fn client(&self) -> Result<Client, BackendError> {
        if let Some(client) = &self.member().client {
            return Ok(client.clone());
        }
        let endpoint = self.endpoint();
        let at = |reason: String| BackendError::Away(format!("{endpoint}: {reason}"));
        let (host, port) = host_and_port(&endpoint).map_err(refused)?;
        // The client library retries silently and never reports a refused connection.
        match timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(at(error.to_string())),
            Err(_) => return Err(at(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
        }
        let connecting = Client::connect([endpoint.as_str()], Some(self.options()?));
        let client = match timeout(REQUEST_TIMEOUT, connecting).await {
            Ok(client) => client.map_err(backend_error)?,
            Err(_) => return Err(at("no answer in time".into())),
        };
        let mut member = self.member();
        // Another request may have failed over meanwhile. This request can still use its
        // client.
        if self.settings.endpoints.get(member.at) == Some(&endpoint) {
            member.client = Some(client.clone());
        }
        Ok(client)
    }

    async fn request<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, BackendError> {
        match timeout(REQUEST_TIMEOUT, request).await {
            Ok(answer) => answer.map_err(backend_error),
            Err(_) => Err(BackendError::Away(format!("{}: no answer in time", self.endpoint()))),
        }
    }

    async fn list_pages(&self, prefix: &str) -> Result<Listing, BackendError> {
        let mut kv = self.client().await?.kv_client().max_decoding_message_size(MAX_MESSAGE);
        let mut listing = Listing { cluster_id: 0, revision: 0, entries: Vec::new() };
        let (mut from, mut bytes) = (prefix.as_bytes().to_vec(), 0);
        let end = range_end(prefix);
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
            if listing.revision > 0 {
                options = options.with_revision(listing.revision);
            }
            let mut page = self.request(kv.get(from.clone(), Some(options))).await?;
            let header = page.header().ok_or_else(|| refused("etcd: an answer without a header"))?;
            if listing.revision == 0 {
                (listing.cluster_id, listing.revision) = (header.cluster_id(), header.revision());
            }
            let more = page.more();
            for pair in page.take_kvs() {
                bytes += pair.value().len();
                from = [pair.key(), b"\0"].concat();
                listing.entries.push(stored(&pair));
            }
            // The replica refuses a listing that is too large; reading on would be
            // useless.
            if !more || listing.entries.len() > MAX_ENTRIES || bytes > MAX_TOTAL_BYTES {
                return Ok(listing);
            }
        }
    }

    async fn watch_from(&self, prefix: &str, from: i64) -> Result<KeyEventStream, BackendError> {
        let mut changes = self.changes.subscribe();
        changes.mark_unchanged();
        let mut watch = self.client().await?.watch_client().max_decoding_message_size(MAX_MESSAGE);
        let options = WatchOptions::new().with_range(range_end(prefix)).with_start_revision(from);
        let messages = self.request(watch.watch(prefix, Some(options))).await?;
        let events = stream::unfold(Some((messages, changes)), async |state| {
            let (mut messages, mut changes) = state?;
            let message = tokio::select! {
                message = messages.message() => message,
                _ = changes.changed() => return Some((Err(away("another member is used now")), None)),
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Some((Err(away("etcd ended the watch")), None)),
                Err(error) => return Some((Err(backend_error(error)), None)),
            };
            if message.compact_revision() > 0 {
                return Some((Err(BackendError::Compacted), None));
            }
            if message.canceled() {
                let reason = message.cancel_reason();
                let reason = if reason.is_empty() { "no reason given" } else { reason };
                return Some((Err(away(format!("etcd ended the watch: {reason}"))), None));
            }
            let events = message.events().iter().filter_map(|event| {
                let pair = event.kv()?;
                Some(match event.event_type() {
                    EventType::Put => KeyEvent::Put(stored(pair)),
                    EventType::Delete => {
                        KeyEvent::Delete { key: text(pair.key()), mod_revision: pair.mod_revision() }
                    }
                })
            });
            Some((Ok(events.collect()), Some((messages, changes))))
        });
        Ok(events.boxed())
    }

    async fn digest_now(&self, prefix: &str) -> Result<Digest, BackendError> {
        let mut kv = self.client().await?.kv_client();
        let options = GetOptions::new()
            .with_range(range_end(prefix))
            .with_sort(SortTarget::Mod, SortOrder::Descend)
            .with_limit(1)
            .with_keys_only();
        let page = self.request(kv.get(prefix, Some(options))).await?;
        let header = page.header().ok_or_else(|| refused("etcd: an answer without a header"))?;
        let newest = page.kvs().first().map_or(0, KeyValue::mod_revision);
        Ok(Digest {
            cluster_id: header.cluster_id(),
            revision: header.revision(),
            count: page.count(),
            newest,
        })
    }
}

impl Backend for EtcdBackend {
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, BackendError>> {
        self.list_pages(prefix).boxed()
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: i64,
    ) -> BoxFuture<'a, Result<KeyEventStream, BackendError>> {
        self.watch_from(prefix, from).boxed()
    }

    fn digest<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Digest, BackendError>> {
        self.digest_now(prefix).boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<i64, BackendError>> {
        async {
            let mut kv = self.client().await?.kv_client();
            let page = self.request(kv.get(self.keys.deletion(), None)).await?;
            page.header()
                .map(|header| header.revision())
                .ok_or_else(|| refused("etcd: an answer without a header"))
        }
        .boxed()
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Option<i64>, BackendError>> {
        async {
            let mut kv = self.client().await?.kv_client();
            let conditions = commit.conditions.into_iter().map(|condition| match condition {
                Condition::Absent(key) => Compare::version(key, CompareOp::Equal, 0),
                Condition::At { key, mod_revision } => {
                    Compare::mod_revision(key, CompareOp::Equal, mod_revision)
                }
                Condition::NothingNewer { prefix, than } => {
                    let end = range_end(&prefix);
                    Compare::mod_revision(prefix, CompareOp::Less, than + 1).with_range(end)
                }
            });
            let changes = commit.changes.into_iter().map(|change| match change {
                KeyChange::Put { key, value } => TxnOp::put(key, value, None),
                KeyChange::Delete { key } => TxnOp::delete(key, None),
            });
            let txn = Txn::new().when(conditions.collect::<Vec<_>>()).and_then(changes.collect::<Vec<_>>());
            let answer = self.request(kv.txn(txn)).await?;
            let revision = answer.header().map_or(0, |header| header.revision());
            Ok(answer.succeeded().then_some(revision))
        }
        .boxed()
    }

    fn fail_over(&self) {
        {
            let mut member = self.member();
            member.client = None;
            member.at = (member.at + 1) % self.settings.endpoints.len().max(1);
        }
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    fn endpoint(&self) -> String {
        let at = self.member().at;
        self.settings.endpoints.get(at).cloned().unwrap_or_default()
    }
}

/// Returns the end of the range of keys with a prefix. The last octet of a prefix is below 0xff.
fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn stored(pair: &KeyValue) -> StoredValue {
    StoredValue {
        key: text(pair.key()),
        value: pair.value().to_vec(),
        create_revision: pair.create_revision(),
        mod_revision: pair.mod_revision(),
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
