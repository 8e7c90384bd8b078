//! A guest under QEMU with a kernel of a distribution, which has IP-in-IP and every nftables
//! family; User-Mode Linux has the bridge family only. It does not use KVM, which may be present
//! but broken: the guest takes four seconds to start and is about ten times slower than the host.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::process::{Child, Command};

use super::{GuestError, KERNEL_LOG, ROOT_VARIABLE, WORK_VARIABLE, initramfs, modules::Modules};

/// The emulator, in Debian's package [`PACKAGE`].
const PROGRAM: &str = "qemu-system-x86_64";
/// The package of the emulator, which depends on virtiofsd.
const PACKAGE: &str = "qemu-system-x86";
/// The package of the kernel: a small one with all network features.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";
/// The path of virtiofsd, which serves the host's root to the guest.
const FILE_SERVER: &str = "/usr/lib/qemu/virtiofsd";
/// The log files in the work directory.
pub(super) const LOG: &str = "qemu.log";
pub(super) const FILE_SERVER_LOG: &str = "files.log";
/// The name of the share.
pub(super) const SHARE: &str = "host";
/// The modules for the mount of the host's root, in load order.
const MODULES: [&str; 3] = ["virtio_pci", "virtiofs", "overlay"];
/// The modules that the guest must have.
const PURPOSE: [&str; 2] = ["ipip", "nf_tables"];
/// The timeout for the file server to listen.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);
/// The interval between two checks.
const LOOK: Duration = Duration::from_millis(5);

/// A usable kernel of the host's `/boot`.
struct Kernel {
    image: PathBuf,
    /// The modules, in load order.
    modules: Vec<PathBuf>,
}

/// The machine's processes.
pub(super) struct QemuProcesses {
    /// QEMU.
    pub(super) child: Child,
    /// The file server. It ends with QEMU, and is killed if QEMU does not start.
    pub(super) file_server: Child,
}

/// Starts the machine. The guest's standard output and error go to the pipes.
///
/// # Errors
/// A program or file is missing; the error names its package.
pub(super) async fn start(
    work: &Path,
    memory: &str,
    stdout: &OwnedFd,
    stderr: &OwnedFd,
) -> Result<QemuProcesses, GuestError> {
    let program = find(PROGRAM).ok_or(GuestError::Missing { what: PROGRAM, package: PACKAGE })?;
    if !Path::new(FILE_SERVER).is_file() {
        return Err(GuestError::Missing { what: FILE_SERVER, package: PACKAGE });
    }
    let kernel = newest_kernel(Path::new("/boot"), Path::new("/lib/modules"))
        .ok_or(GuestError::Missing { what: "a kernel for the guest in /boot", package: KERNEL_PACKAGE })?;
    let own = env::current_exe().map_err(GuestError::start("own path"))?;
    let image = initramfs::pack(&own, &kernel.modules).map_err(GuestError::start("initramfs"))?;
    let initramfs = work.join("initramfs");
    fs::write(&initramfs, image).map_err(GuestError::start("initramfs"))?;
    let socket = work.join("files.sock");
    let file_server = serve_files(work, &socket).await?;
    let mut command = machine(&program, work, memory, &kernel.image, &initramfs, &socket);
    for (index, output) in [(1, stdout), (2, stderr)] {
        let descriptor = output.as_raw_fd();
        command.arg("-chardev").arg(format!("file,id=out{index},path=/proc/self/fd/{descriptor}"));
        command.arg("-serial").arg(format!("chardev:out{index}"));
    }
    let said = fs::File::create(work.join(LOG)).map_err(GuestError::start("log"))?;
    let said_too = said.try_clone().map_err(GuestError::start("log"))?;
    command.stdin(Stdio::null()).stdout(said_too).stderr(said).kill_on_drop(true);
    let child = command.spawn().map_err(GuestError::start(PROGRAM))?;
    Ok(QemuProcesses { child, file_server })
}

fn machine(
    program: &Path,
    work: &Path,
    memory: &str,
    kernel: &Path,
    initramfs: &Path,
    socket: &Path,
) -> Command {
    let mut line = OsString::from(format!(
        "console=ttyS0 quiet panic=-1 nokaslr no_timer_check mitigations=off {ROOT_VARIABLE}={SHARE} LD_LIBRARY_PATH={} {WORK_VARIABLE}=",
        initramfs::LIBRARIES
    ));
    line.push(work);
    let with = |words: &str, path: &Path| {
        let mut argument = OsString::from(words);
        argument.push(path);
        argument
    };
    let mut command = Command::new(program);
    command
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-accel",
            "tcg",
            "-cpu",
            "max",
        ])
        .args(["-m", memory, "-numa", "node,memdev=memory"])
        // The file server reads and writes the guest's memory.
        .arg("-object")
        .arg(format!("memory-backend-memfd,id=memory,size={memory},share=on"))
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-append")
        .arg(line)
        .arg("-chardev")
        .arg(with("socket,id=files,path=", socket))
        .arg("-device")
        .arg(format!("vhost-user-fs-pci,chardev=files,tag={SHARE}"))
        .arg("-device")
        .arg("virtio-rng-pci")
        // The first port is the kernel's own; the command's output and errors follow.
        .arg("-serial")
        .arg(with("file:", &work.join(KERNEL_LOG)));
    command
}

async fn serve_files(work: &Path, socket: &Path) -> Result<Child, GuestError> {
    let log = fs::File::create(work.join(FILE_SERVER_LOG)).map_err(GuestError::start("log"))?;
    let log_too = log.try_clone().map_err(GuestError::start("log"))?;
    let mut path = OsString::from("--socket-path=");
    path.push(socket);
    let mut child = Command::new(FILE_SERVER)
        .arg(path)
        // A container may not permit a namespace of its own.
        .args(["-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=always", "-o", "log_level=warn"])
        .stdin(Stdio::null())
        .stdout(log_too)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(GuestError::start("virtiofsd"))?;
    let deadline = Instant::now() + LISTENS_WITHIN;
    while !socket.exists() {
        let ended = child.try_wait().map_err(GuestError::start("virtiofsd"))?;
        if ended.is_some() || Instant::now() > deadline {
            let said = fs::read_to_string(work.join(FILE_SERVER_LOG)).unwrap_or_default();
            let said = said.lines().last().unwrap_or("it said nothing").to_owned();
            return Err(GuestError::start("virtiofsd")(io::Error::other(said)));
        }
        tokio::time::sleep(LOOK).await; // why: the file server tells of its socket in no other way
    }
    Ok(child)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    env::split_paths(&path).map(|directory| directory.join(program)).find(|program| program.is_file())
}

/// Returns the newest kernel that has the modules.
fn newest_kernel(boot: &Path, modules: &Path) -> Option<Kernel> {
    let mut images: Vec<(Vec<u64>, PathBuf, String)> = fs::read_dir(boot)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let release = entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned();
            Some((numbers(&release), entry.path(), release))
        })
        .collect();
    images.sort();
    images.into_iter().rev().find_map(|(_, image, release)| {
        let known = Modules::below(modules, &release).ok()?;
        let has = |module: &&str| known.files_of(module).is_some();
        if !PURPOSE.iter().all(has) {
            return None;
        }
        let mut files = Vec::new();
        for module in MODULES {
            for file in known.files_of(module)? {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Some(Kernel { image, modules: files })
    })
}

/// Returns the numbers in a release, by which 6.10 comes after 6.9.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_with_the_modules_is_taken() {
        let directory = tempfile::tempdir().expect("a directory");
        let (boot, modules) = (directory.path().join("boot"), directory.path().join("modules"));
        let full = "k/virtio_pci.ko: k/virtio.ko k/virtio_ring.ko\nk/virtio.ko: k/virtio_ring.ko\nk/virtio_ring.ko:\n\
                    k/virtiofs.ko: k/virtio_ring.ko k/fuse.ko\nk/fuse.ko:\nk/overlay.ko:\nk/ipip.ko:\nk/nf_tables.ko:\n";
        let releases = [("6.9.1-amd64", full), ("6.10.2-amd64", full), ("6.12.0-none", "k/overlay.ko:\n")];
        for (release, listed) in releases {
            fs::create_dir_all(modules.join(release)).expect("a directory");
            fs::write(modules.join(release).join("modules.dep"), listed).expect("written");
            fs::create_dir_all(&boot).expect("a directory");
            fs::write(boot.join(format!("vmlinuz-{release}")), "").expect("written");
        }
        fs::write(boot.join("config-6.13"), "").expect("written");
        fs::write(boot.join("vmlinuz-6.14-gone"), "").expect("written");
        let kernel = newest_kernel(&boot, &modules).expect("a kernel");
        assert_eq!(kernel.image, boot.join("vmlinuz-6.10.2-amd64"));
        let names: Vec<_> =
            kernel.modules.iter().map(|file| file.file_name().expect("a name").to_owned()).collect();
        assert_eq!(
            names,
            ["virtio_ring.ko", "virtio.ko", "virtio_pci.ko", "fuse.ko", "virtiofs.ko", "overlay.ko"]
        );
        assert!(newest_kernel(&modules, &boot).is_none());
    }
}
