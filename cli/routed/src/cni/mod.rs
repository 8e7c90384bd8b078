//! Writes the network configuration for container runtimes, where it is asked for, and the pods' MTU, always.

mod conflist;
mod file;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

pub(crate) use self::conflist::CniNetwork;
use api::view::CniView;

/// In the state directory: the MTU of pods, as CNI plugins read it.
const MTU_FILE: &str = "mtu";
/// There too: the path of the configuration that was written, to be removed when it is wanted no more.
const NOTE_FILE: &str = "cni-configuration";
/// How often the files are looked at: nobody tells when they change.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// And while one of them can't be written.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The way to the task that writes; it ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct CniHandle {
    wanted: watch::Sender<Option<Option<CniNetwork>>>,
    view: watch::Receiver<CniView>,
}

impl CniHandle {
    /// Starts the task; it writes nothing until it is configured and the MTU is known.
    pub(crate) fn spawn(state_dir: PathBuf, pod_mtu: watch::Receiver<Option<u32>>) -> Self {
        let (wanted, told) = watch::channel(None);
        let (show, view) = watch::channel(CniView::default());
        tokio::spawn(run(state_dir, told, pod_mtu, show));
        Self { wanted, view }
    }

    /// Says what is to be written; `None`: no network configuration.
    pub(crate) fn configure(&self, network: Option<CniNetwork>) {
        self.wanted.send_if_modified(|wanted| {
            let network = Some(network);
            let news = *wanted != network;
            *wanted = network;
            news
        });
    }

    /// What was written.
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
    let mut said = BTreeSet::new();
    let mut mtu_may_change = true;
    loop {
        let (network, mtu) = (wanted.borrow_and_update().clone(), *pod_mtu.borrow_and_update());
        let mut pause = LOOK_INTERVAL;
        if let (Some(network), Some(mtu)) = (network, mtu) {
            let directory = state_dir.clone();
            // Disks may take their time, for which no session waits.
            let written = tokio::task::spawn_blocking(move || write(&directory, network.as_ref(), mtu)).await;
            let view = written.unwrap_or_else(|error| CniView {
                pod_mtu: Some(mtu),
                problems: vec![format!("the network configuration was not written: {error}")],
                ..CniView::default()
            });
            let problems: BTreeSet<String> = view.problems.iter().cloned().collect();
            problems.difference(&said).for_each(|problem| tracing::error!("{problem}"));
            if !problems.is_empty() {
                pause = RETRY_INTERVAL;
            }
            said = problems;
            show.send_replace(view);
        }
        let news = async {
            tokio::select! {
                changed = wanted.changed() => changed.is_ok(),
                changed = pod_mtu.changed(), if mtu_may_change => {
                    mtu_may_change = changed.is_ok();
                    true
                }
                () = sleep(pause) => true, // why: nobody tells of a file's change
            }
        };
        if !news.await {
            // Every handle is dropped.
            return;
        }
    }
}

/// Makes the files be as they are to be, and says what is there and what can't be.
fn write(state_dir: &Path, network: Option<&CniNetwork>, mtu: u32) -> CniView {
    let mut view = CniView { pod_mtu: Some(mtu), ..CniView::default() };
    let mut problems = Vec::new();
    let mut tell = |outcome: io::Result<bool>, path: &Path, remedy: &str| match outcome {
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
    tell(made.and_then(|()| file::replace(&mtu_file, &format!("{mtu}\n"))), &mtu_file, state);

    let text = network.map(|network| (network, network.text(mtu)));
    let wanted = match &text {
        Some((network, Ok(text))) => Some((network.settings.file(), text)),
        _ => None,
    };
    let note = state_dir.join(NOTE_FILE);
    let noted = fs::read_to_string(&note).ok().map(|text| PathBuf::from(text.trim_end_matches('\n')));
    if let Some(old) = noted.filter(|old| wanted.as_ref().is_none_or(|(path, _)| path != old)) {
        let removed = file::remove(&old).and_then(|()| file::remove(&note));
        tell(removed.map(|()| false), &old, "remove it");
    }
    if let Some((path, text)) = wanted {
        // Noted first: what is written is removed some day.
        let noted = file::replace(&note, &format!("{}\n", path.display()));
        tell(noted.map(|_| false), &note, state);
        let remedy = "create the directory and make it writable for routed, or set spec.routed.cni.directory";
        if tell(file::replace(&path, text), &path, remedy) {
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
    use super::*;
    use resource::{CniPlugin, CniSettings};

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
    fn what_was_written_goes_when_it_is_wanted_no_more_or_elsewhere() {
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
    fn a_directory_that_is_not_there_is_named_with_what_to_do_and_the_mtu_is_written_all_the_same() {
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
