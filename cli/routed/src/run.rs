//! The daemon's life cycle: start, serve, reload, stop.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use datastore::StoreError;
use resource::Mistake;

use crate::config::DaemonConfig;
use crate::config::store::OpenStore;
use crate::daemon::Daemon;
use crate::daemon::loop_delay;
use crate::journal::JournalHandle;
use crate::journal::sources;
use crate::shared_store::block_claims;
use crate::shared_store::block_release;
use crate::shared_store::registration;
use crate::view::{ViewSources, Views};

/// The reason why the daemon ended without being stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The resources are not valid at the start.
    #[error("the resources are not valid")]
    Invalid(Vec<Mistake>),
    /// Any other error.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// Checks the resources of a file store; for `--check`. The resources of a shared store are not
/// part of this node's configuration and are not read.
///
/// # Errors
/// Every mistake in the resources.
pub fn check(config: &DaemonConfig) -> Result<(), RunError> {
    match open(config)? {
        OpenStore::File(store) => store.read().map(|_| ()).map_err(RunError::Invalid),
        OpenStore::Etcd(_) => Ok(()),
    }
}

/// A daemon that is ready to run: its store is open.
pub struct Startup {
    config: DaemonConfig,
    store: OpenStore,
    is_reflector: bool,
}

impl Startup {
    /// Opens the store. Mistakes in the resources are reported by [`run`].
    ///
    /// # Errors
    /// The store does not exist.
    pub fn open(config: DaemonConfig) -> Result<Startup, RunError> {
        let store = open(&config)?;
        let loaded = match &store {
            OpenStore::File(store) => store.read().ok(),
            OpenStore::Etcd(store) => store.last_valid(),
        };
        let is_reflector = loaded.is_some_and(|loaded| {
            let nodes = &loaded.snapshot.nodes;
            nodes.iter().any(|node| node.name == config.node && node.cluster_id.is_some())
        });
        Ok(Startup { config, store, is_reflector })
    }

    /// Returns the number of worker threads. One thread suffices for the few routes of a node and
    /// causes fewer wake-ups. A route reflector uses every processor, because reading updates and
    /// deciding on routes run in parallel.
    pub fn worker_threads(&self) -> usize {
        if self.is_reflector { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 }
    }
}

fn open(config: &DaemonConfig) -> Result<OpenStore, RunError> {
    OpenStore::open(config).map_err(|mistake| RunError::Invalid(vec![mistake]))
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`RunError`].
pub async fn run(startup: Startup) -> Result<(), RunError> {
    let Startup { config, store: open_store, .. } = startup;
    let store = open_store.store();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    let mut updates = store.watch().map_err(anyhow::Error::from)?;
    let first = match &open_store {
        OpenStore::File(_) => Some(updates.recv().await.context("the store ended before it said anything")?),
        // A shared store may be unreachable for days; the control socket has to be served
        // meanwhile.
        OpenStore::Etcd(_) => None,
    };
    if let Some(Err(mistakes)) = first {
        return Err(RunError::Invalid(mistakes));
    }
    let socket = api::bind(&config.socket).map_err(anyhow::Error::from)?;
    let mut guards = vec![RemoveOnDrop(config.socket.clone())];
    let journal = JournalHandle::start();
    let (mut daemon, drain_requests) = Daemon::start(config.clone(), journal.clone());
    let sources = ViewSources {
        state: daemon.state.subscribe(),
        rib: daemon.rib.clone(),
        tunnel: daemon.tunnel.clone(),
        host_tasks: daemon.host_tasks.clone(),
    };
    let views = Views::new(config.clone(), sources, drain_requests);
    let activity = daemon.tunnel.as_ref().map(|tunnel| tunnel.activity());
    sources::start(&journal, daemon.state.subscribe(), store.health(), activity);
    let host = match &open_store {
        OpenStore::File(_) => None,
        OpenStore::Etcd(_) => Some(registration::host_id(&config.state_dir).with_context(|| {
            format!(
                "{}: this host's identity can't be kept: make stateDir writable",
                config.state_dir.display()
            )
        })?),
    };
    let store_problems = match (&open_store, &host, store.health()) {
        (OpenStore::Etcd(store), Some(host), Some(health)) => {
            let state = daemon.state.subscribe();
            block_release::start(
                config.clone(),
                Arc::clone(store),
                daemon.rib.clone(),
                state.clone(),
                health.clone(),
                journal.clone(),
            );
            let registration = registration::Registration::start(
                config.clone(),
                Arc::clone(store),
                host.clone(),
                state.clone(),
                health.clone(),
            );
            let blocks = block_claims::start(
                config.clone(),
                Arc::clone(store),
                host.clone(),
                state,
                health,
                journal.clone(),
            );
            vec![registration, blocks]
        }
        _ => Vec::new(),
    };
    let views = views
        .with_store(store.health(), store_problems)
        .with_loop_latency(loop_delay::start(journal.clone()));
    let views: Arc<dyn api::Control> = Arc::new(views);
    let mut servers = JoinSet::new();
    let router = api::router(Arc::clone(&views), Arc::clone(&store));
    let router = router.merge(api::events_router(Arc::new(journal.clone())));
    if let Some(group) = &config.read_group {
        let path = api::read_socket(&config.socket);
        match api::bind_for_group(&path, group) {
            Ok(socket) => {
                let readers = api::ControlSocket::Readers { path: path.clone(), group: group.clone() };
                servers.spawn(api::serve(socket, router.clone(), readers));
                guards.push(RemoveOnDrop(path));
            }
            // The daemon also runs without the socket for readers.
            Err(error) => tracing::error!(%error, "the group that may look has no socket"),
        }
    }
    servers.spawn(api::serve(socket, router, api::ControlSocket::Owners { path: config.socket.clone() }));
    if let Some(address) = config.status {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => {
                let router = api::health_router(views);
                servers.spawn(api::serve_status(listener, router));
            }
            // The daemon also runs without metrics.
            Err(error) => tracing::error!(
                %address,
                %error,
                "metrics and health are not served: set `status` in routed.yaml to a free address, or to \"off\""
            ),
        }
    }
    tracing::info!(node = config.node, version = env!("CARGO_PKG_VERSION"), "routed is running");
    if let Some(first) = first {
        daemon.update(first).await;
    }
    notify_systemd(&[sd_notify::NotifyState::Ready]);
    let mut passwords = daemon.password_changes();
    let mut watchdog = Watchdog::from_environment();
    let mut is_watching = true;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                if matches!(open_store, OpenStore::Etcd(_)) {
                    // The store is watched. A separate read could return an older state than the
                    // watch has delivered.
                    tracing::info!("SIGHUP: the datastore is followed, and password files are read again");
                    daemon.read_passwords().await;
                    continue;
                }
                let update = match store.load().await {
                    Ok(contents) => Ok(contents.state),
                    Err(StoreError::Invalid(mistakes)) => Err(mistakes),
                    Err(error) => {
                        tracing::error!(%error, "reload: what was valid before keeps running");
                        continue;
                    }
                };
                tracing::info!("SIGHUP: resources read again");
                daemon.update(update).await;
            }
            update = updates.recv(), if is_watching => match update {
                Some(update) => {
                    let update = match &host {
                        Some(host) => registration::admit(update, &config.node, host),
                        None => update,
                    };
                    daemon.update(update).await;
                }
                None => {
                    tracing::error!("the resources are no longer watched: send SIGHUP after changes, or restart");
                    is_watching = false;
                }
            },
            Some(()) = passwords.recv() => daemon.read_passwords().await,
            () = watchdog.ping() => {}
            event = daemon.next_event() => daemon.handle(event).await,
        }
        if daemon.is_drained() {
            break;
        }
    }
    tracing::info!("stopping: sessions end, the kernel's routes stay");
    notify_systemd(&[sd_notify::NotifyState::Stopping]);
    servers.abort_all();
    daemon.stop().await;
    drop(guards);
    Ok(())
}

/// The systemd watchdog (`WatchdogSec=`), which expects regular messages from the daemon's loop.
struct Watchdog(Option<tokio::time::Interval>);

impl Watchdog {
    fn from_environment() -> Watchdog {
        let timeout = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero());
        // Half of the timeout, as sd_watchdog_enabled(3) recommends.
        Watchdog(timeout.map(|timeout| tokio::time::interval(timeout / 2)))
    }

    async fn ping(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
                notify_systemd(&[sd_notify::NotifyState::Watchdog]);
            }
            None => std::future::pending().await,
        }
    }
}

fn notify_systemd(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be notified");
    }
}

struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
