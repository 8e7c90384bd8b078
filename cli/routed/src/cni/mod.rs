//! The files for container runtimes: the network configuration, if it is requested, and the MTU of
//! pods.

mod conflist;
mod file;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use api::view::CniView;

pub(crate) use self::conflist::CniNetwork;

/// The file in the state directory with the MTU of pods, for CNI plugins.
const MTU_FILE: &str = "mtu";
/// The file in the state directory with the path of the written network configuration, which is
/// removed when it is no longer wanted.
const PATH_FILE: &str = "cni-configuration";
/// The interval at which the files are compared with the desired contents.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// The interval while a file can't be written.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The handle of the task that writes the files. The task ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct CniHandle {
    wanted: watch::Sender<Option<Option<CniNetwork>>>,
    view: watch::Receiver<CniView>,
}

impl CniHandle {
    /// Starts the task. It writes nothing until it is configured and the MTU is known.
    pub(crate) fn spawn(state_dir: PathBuf, pod_mtu: watch::Receiver<Option<u32>>) -> Self {
        let (wanted, wanted_receiver) = watch::channel(None);
        let (show, view) = watch::channel(CniView::default());
        tokio::spawn(run(state_dir, wanted_receiver, pod_mtu, show));
        Self { wanted, view }
    }

    /// Sets the desired network configuration; `None`: none.
    pub(crate) fn configure(&self, network: Option<CniNetwork>) {
        self.wanted.send_if_modified(|wanted| {
            let network = Some(network);
            let changed = *wanted != network;
            *wanted = network;
            changed
        });
    }

    /// Returns the state of the files.
    pub(crate) fn view(&self) -> CniView {
        self.view.borrow().clone()
    }
}

async fn run(
    state_dir: PathBuf,
    mut wanted: watch::Receiver<Option<Option<CniNetwork>>>,
    mut pod_mtu: watch::Receiver<Option<u32>>,
    show: watch::Sender<CniView>,
) {
    let mut logged = BTreeSet::new();
    let mut mtu_may_change = true;
    loop {
        let (network, mtu) = (wanted.borrow_and_update().clone(), *pod_mtu.borrow_and_update());
        let mut pause = CHECK_INTERVAL;
        if let (Some(network), Some(mtu)) = (network, mtu) {
            let directory = state_dir.clone();
            // Writing to a disk may block, so it runs on a thread of its own.
            let written = tokio::task::spawn_blocking(move || write(&directory, network.as_ref(), mtu)).await;
            let view = written.unwrap_or_else(|error| CniView {
                pod_mtu: Some(mtu),
                problems: vec![format!("the network configuration was not written: {error}")],
                ..CniView::default()
            });
            let problems: BTreeSet<String> = view.problems.iter().cloned().collect();
            problems.difference(&logged).for_each(|problem| tracing::error!("{problem}"));
            if !problems.is_empty() {
                pause = RETRY_INTERVAL;
            }
            logged = problems;
            show.send_replace(view);
        }
        let changed = async {
            tokio::select! {
                changed = wanted.changed() => changed.is_ok(),
                changed = pod_mtu.changed(), if mtu_may_change => {
                    mtu_may_change = changed.is_ok();
                    true
                }
                () = sleep(pause) => true, // why: changes of the files are not watched
            }
        };
        if !changed.await {
            // Every handle is dropped.
            return;
        }
    }
}

/// Makes the files match the desired contents. Returns their state and the problems.
fn write(state_dir: &Path, network: Option<&CniNetwork>, mtu: u32) -> CniView {
    let mut view = CniView { pod_mtu: Some(mtu), ..CniView::default() };
    let mut problems = Vec::new();
    let mut succeeded = |outcome: io::Result<bool>, path: &Path, remedy: &str| match outcome {
        Ok(written) => {
            if written {
                tracing::info!(file = %path.display(), mtu, "written");
            }
            true
        }
        Err(error) => {
            problems.push(problem(path, &error, remedy));
            false
        }
    };
    let state = "make stateDir writable for routed";
    let mtu_file = state_dir.join(MTU_FILE);
    let made = fs::create_dir_all(state_dir);
    succeeded(made.and_then(|()| file::replace(&mtu_file, &format!("{mtu}\n"))), &mtu_file, state);

    let text = network.map(|network| (network, network.text(mtu)));
    let wanted = match &text {
        Some((network, Ok(text))) => Some((network.settings.file(), text)),
        _ => None,
    };
    let path_file = state_dir.join(PATH_FILE);
    let stored_path =
        fs::read_to_string(&path_file).ok().map(|text| PathBuf::from(text.trim_end_matches('\n')));
    if let Some(old) = stored_path.filter(|old| wanted.as_ref().is_none_or(|(path, _)| path != old)) {
        let removed = file::remove(&old).and_then(|()| file::remove(&path_file));
        succeeded(removed.map(|()| false), &old, "remove it");
    }
    if let Some((path, text)) = wanted {
        // The path is stored first, so that a written configuration can always be removed later.
        let stored_path = file::replace(&path_file, &format!("{}\n", path.display()));
        succeeded(stored_path.map(|_| false), &path_file, state);
        let remedy = "create the directory and make it writable for routed, or set spec.routed.cni.directory";
        if succeeded(file::replace(&path, text), &path, remedy) {
            view.file = Some(path);
        }
    }
    if let Some((network, text)) = text {
        problems.extend(text.err().map(|error| error.to_string()));
        problems.extend(network.unused());
    }
    view.problems = problems;
    view
}

fn problem(path: &Path, error: &io::Error, remedy: &str) -> String {
    format!("{} can't be written: {error}: {remedy}", path.display())
}

#[cfg(test)]
mod tests {
    use resource::{CniPlugin, CniSettings};

    use super::*;

    fn network(directory: &Path, name: &str, blocks: &[&str]) -> CniNetwork {
        CniNetwork {
            settings: CniSettings {
                directory: directory.to_owned(),
                name: name.into(),
                plugin: CniPlugin::Ptp,
            },
            blocks: blocks.iter().map(|block| block.parse().expect("a prefix")).collect(),
            taken: Vec::new(),
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_configuration_is_removed_when_it_is_unwanted_or_renamed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (state, net) = (directory.path().join("state"), directory.path().join("net.d"));
        fs::create_dir(&net).expect("a directory");
        fs::write(net.join("99-others.conflist"), "{}").expect("written");
        let blocks = ["10.1.1.0/26"];
        let view = write(&state, Some(&network(&net, "routed", &blocks)), 1450);
        assert_eq!((view.problems, view.file), (Vec::new(), Some(net.join("10-routed.conflist"))));
        assert_eq!(fs::read_to_string(state.join("mtu")).expect("read"), "1450\n");
        assert_eq!(names(&net), ["10-routed.conflist", "99-others.conflist"]);
        write(&state, Some(&network(&net, "pods", &blocks)), 1400);
        assert_eq!(names(&net), ["10-pods.conflist", "99-others.conflist"]);
        assert!(fs::read_to_string(net.join("10-pods.conflist")).expect("read").contains("\"mtu\": 1400"));
        let view = write(&state, Some(&network(&net, "pods", &[])), 1400);
        assert!(view.problems.iter().any(|line| line.contains("has no block")), "{view:?}");
        assert_eq!(names(&net), ["99-others.conflist"], "an empty network is none");
        write(&state, Some(&network(&net, "pods", &blocks)), 1400);
        assert_eq!(write(&state, None, 1400).problems, Vec::<String>::new());
        assert_eq!(
            (names(&net), names(&state)),
            (vec!["99-others.conflist".to_owned()], vec!["mtu".to_owned()])
        );
    }

    #[test]
    fn a_missing_directory_is_reported_and_the_mtu_is_still_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let net = directory.path().join("net.d");
        let view = write(directory.path(), Some(&network(&net, "routed", &["10.1.1.0/26"])), 1450);
        let expected = format!(
            "{}/10-routed.conflist can't be written: No such file or directory (os error 2): create the directory and make it \
             writable for routed, or set spec.routed.cni.directory",
            net.display()
        );
        assert_eq!(view.problems, [expected]);
        assert_eq!(view.file, None);
        assert_eq!(fs::read_to_string(directory.path().join("mtu")).expect("read"), "1450\n");
    }
}
