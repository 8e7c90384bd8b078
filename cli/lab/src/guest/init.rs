//! Process 1 of the guest.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStringExt,
        fs::{OpenOptionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        signal::{Signal, kill},
        termios::{SetArg, cfmakeraw, tcdrain, tcgetattr, tcsetattr},
        utsname::uname,
        wait::{WaitStatus, wait},
    },
    unistd::{Pid, chroot, getpid, sync},
};
use tunnel::netlink::links;

use super::{
    super::link_editor::LinkEditor, COMMAND, DIRECTORY, ENVIRONMENT, LIMIT, ROOT_VARIABLE, STATUS, TERMINAL,
    WORK_VARIABLE, initramfs, modules,
};

/// The mount point of the work directory in the guest.
const WORK: &str = "/run/routed-guest";
/// The mount point on which the copy-on-write root is assembled. Any directory can be used.
const STAGING: &str = "/mnt";
/// The modules that labs, tunnels and their tests need. `modprobe` may not exist, so the kernel
/// can't load them itself.
const MODULES: [&str; 12] = [
    "ipv6",
    "veth",
    "bridge",
    "dummy",
    "ipip",
    "vxlan",
    "nf_tables",
    "nft_reject",
    "nft_chain_nat",
    "nft_masq",
    "nft_ct",
    "tun",
];
/// The mount point of the host's root under QEMU.
const HOST: &str = "/host";

/// The names of devices, which differ between the machines.
struct MachineDevices {
    /// The host's root.
    lower: &'static str,
    /// The kernel's console.
    console: &'static str,
    /// The devices for the command's output and errors.
    outputs: [&'static str; 2],
}

const UML: MachineDevices =
    MachineDevices { lower: "/", console: "/dev/tty0", outputs: ["/dev/tty1", "/dev/tty2"] };
const QEMU: MachineDevices =
    MachineDevices { lower: HOST, console: "/dev/ttyS0", outputs: ["/dev/ttyS1", "/dev/ttyS2"] };

/// Returns the devices of this machine. Under QEMU the kernel's command line names the share with
/// the host's root.
fn kind() -> &'static MachineDevices {
    if env::var_os(ROOT_VARIABLE).is_some() { &QEMU } else { &UML }
}

/// Runs the guest's init and never returns, if this process is the first one of the guest.
pub fn become_init_if_asked() {
    if getpid() != Pid::from_raw(1) {
        return;
    }
    let Some(work) = env::var_os(WORK_VARIABLE) else { return };
    match run(Path::new(&work)) {
        Ok(status) => {
            if let Err(error) = fs::write(Path::new(WORK).join(STATUS), status.to_string()) {
                say("exit status", &error);
            }
        }
        Err(error) => say("start", &error),
    }
    sync();
    // It returns only if the kernel refuses, and then the panic on init's end stops the guest too.
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

/// Opens the kernel's console, which is the host's kernel.log.
fn say(what: &str, error: &io::Error) {
    if let Ok(mut console) =
        OpenOptions::new().write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(kind().console)
    {
        let _ = writeln!(console, "guest init: {what}: {error}");
    }
}

/// Settings below `/proc/sys/net`.
const SETTINGS: [(&str, &str); 2] = [
    // Entries of the neighbour table, of all namespaces together: a large lab needs a large one.
    ("ipv4/neigh/default/gc_thresh3", "32768"),
    // Packets that wait between namespaces. A guest that stood still for a moment on a busy host
    // sends what it is behind with at once, and its kernel would drop what is beyond a thousand:
    // that is no loss of the network under test.
    ("core/netdev_max_backlog", "100000"),
];

fn run(work: &Path) -> io::Result<u8> {
    let release = uname()?.release().to_string_lossy().into_owned();
    let modules = match env::var(ROOT_VARIABLE) {
        Ok(share) => {
            reach_host(&share)?;
            enter_root(work)?;
            modules::Modules::of(&release)?
        }
        Err(_) => {
            let modules = modules::Modules::of(&release)?;
            modules.load("overlay").map_err(named("overlay"))?;
            enter_root(work)?;
            modules
        }
    };
    for module in MODULES {
        // The program that needs a missing module reports it by name.
        if let Err(error) = modules.load(module) {
            say(module, &error);
        }
    }
    bring_loopback_up().map_err(named("loopback"))?;
    // The guest runs this command only.
    for (setting, value) in SETTINGS {
        if let Err(error) = fs::write(Path::new("/proc/sys/net").join(setting), value) {
            say(setting, &error);
        }
    }
    limit_own_life()?;
    run_command()
}

/// Mounts the host's root under QEMU. The first root has only this program and the modules for the
/// mount.
fn reach_host(share: &str) -> io::Result<()> {
    mount_on("dev", Path::new("/dev"), "devtmpfs", "")?;
    let mut files: Vec<PathBuf> = fs::read_dir(initramfs::MODULES)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    for file in files {
        modules::load_file(&file)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
    }
    for directory in [HOST, STAGING] {
        fs::create_dir_all(directory)?;
    }
    mount_on(share, Path::new(HOST), "virtiofs", "")
}

fn bring_loopback_up() -> io::Result<()> {
    let mut editor = LinkEditor::open().map_err(io::Error::other)?;
    editor.change(links::set_link(1, None, None, true)).map_err(io::Error::other)
}

/// Switches the power off after the time limit, whatever else happens.
fn limit_own_life() -> io::Result<()> {
    let text = fs::read_to_string(Path::new(WORK).join(LIMIT))?;
    let seconds = text.trim().parse().map_err(io::Error::other)?;
    thread::Builder::new().spawn(move || {
        thread::sleep(Duration::from_secs(seconds)); // why: this is the time limit itself
        let _ = reboot(RebootMode::RB_POWER_OFF);
    })?;
    Ok(())
}

fn named(what: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Mounts the root: the host's below, guest memory above, and the guest's own kernel file systems.
fn enter_root(work: &Path) -> io::Result<()> {
    let staging = Path::new(STAGING);
    mount_on("cow", staging, "tmpfs", "mode=755")?;
    for name in ["upper", "work", "root"] {
        fs::create_dir(staging.join(name))?;
    }
    let root = staging.join("root");
    let lower = kind().lower;
    let layers = format!("lowerdir={lower},upperdir={STAGING}/upper,workdir={STAGING}/work,xino=off");
    mount_on("root", &root, "overlay", &layers)?;
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some("/dev"), &at("dev"), None::<&str>, flags, None::<&str>)
        .map_err(|e| named("/dev")(e.into()))?;
    mount_on("proc", &at("proc"), "proc", "")?;
    mount_on("sys", &at("sys"), "sysfs", "")?;
    mount_on("run", &at("run"), "tmpfs", "mode=755")?;
    for directory in [WORK, "/run/netns", "/run/lock", "/dev/pts", "/dev/shm", "/dev/net"] {
        fs::create_dir_all(at(directory))?;
    }
    if lower == HOST {
        let shared = Path::new(HOST).join(work.strip_prefix("/").unwrap_or(work));
        mount(Some(&shared), &at(WORK), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|e| named("work directory")(e.into()))?;
    } else {
        mount_on("work", &at(WORK), "hostfs", &work.to_string_lossy())?;
    }
    mount_on("devpts", &at("dev/pts"), "devpts", "")?;
    mount_on("shm", &at("dev/shm"), "tmpfs", "mode=1777")?;
    // Fails where the host's /dev came with it.
    let _ = symlink("/proc/self/fd", at("dev/fd"));
    // Not pivot_root: the kernel's first root cannot be moved.
    chroot(&root)?;
    env::set_current_dir("/")
}

fn mount_on(source: &str, target: &Path, kind: &'static str, data: &str) -> io::Result<()> {
    mount(Some(source), target, Some(kind), MsFlags::empty(), Some(data)).map_err(|e| named(kind)(e.into()))
}

fn run_command() -> io::Result<u8> {
    let words = read_words(COMMAND)?;
    let (program, arguments) =
        words.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no command"))?;
    let directory = fs::read(Path::new(WORK).join(DIRECTORY))?;
    let directory = PathBuf::from(OsString::from_vec(directory));
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::null());
    for entry in read_words(ENVIRONMENT)? {
        let bytes = entry.into_vec();
        if let Some(at) = bytes.iter().skip(1).position(|b| *b == b'=') {
            let (name, value) = bytes.split_at(at + 1);
            let value = value.get(1..).unwrap_or_default();
            let text = |b: &[u8]| OsString::from_vec(b.to_vec());
            command.env(text(name), text(value));
        }
    }
    command.env("HOME", "/root").env("TMPDIR", "/var/tmp");
    // A directory that the guest mounted over is not there any more.
    command.current_dir(if directory.is_dir() { directory } else { "/".into() });

    let terminal = Path::new(WORK).join(TERMINAL).exists();
    let mut relays = Vec::new();
    let mut output = |device: &str| -> io::Result<Stdio> {
        let tty = open_raw(device)?;
        if terminal {
            return Ok(tty.into());
        }
        // Programs must see that it is not a terminal.
        let (read, write) = io::pipe()?;
        relays.push(thread::spawn(move || relay(read, tty)));
        Ok(write.into())
    };
    let [stdout, stderr] = kind().outputs;
    command.stdout(output(stdout)?).stderr(output(stderr)?);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            if let Ok(mut tty) = open_raw(stderr) {
                writeln!(tty, "{}: {error}", program.to_string_lossy())?;
                tcdrain(&tty)?;
            }
            return Ok(127);
        }
    };
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(-1));
    // The writing ends that this process holds.
    drop(command);
    let status = reap_until(pid)?;
    // A process that the command left behind may hold the pipes for ever. The power goes off
    // anyway: it is ended now, so that all that was written is read to its end.
    end_all_others();
    for relay in relays {
        let _ = relay.join();
    }
    Ok(status)
}

/// Ends every process of the guest but this one, its first.
fn end_all_others() {
    if std::process::id() == 1 {
        // An error means that none is left.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
}

/// Reaps all processes, orphans included, until `pid` ends.
fn reap_until(pid: Pid) -> io::Result<u8> {
    loop {
        match wait()? {
            WaitStatus::Exited(who, code) if who == pid => return Ok(u8::try_from(code).unwrap_or(255)),
            WaitStatus::Signaled(who, signal, _) if who == pid => {
                return Ok(u8::try_from(128 + signal as i32).unwrap_or(255));
            }
            _ => {}
        }
    }
}

fn relay(mut from: impl Read, mut to: File) {
    let _ = io::copy(&mut from, &mut to);
    let _ = tcdrain(&to);
}

/// Opens a console without the carriage returns for terminals.
fn open_raw(device: &str) -> io::Result<File> {
    let tty = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_NOCTTY.bits())
        .open(device)
        .map_err(|error| io::Error::new(error.kind(), format!("{device}: {error}")))?;
    let mut settings = tcgetattr(&tty)?;
    cfmakeraw(&mut settings);
    tcsetattr(&tty, SetArg::TCSANOW, &settings)?;
    Ok(tty)
}

fn read_words(file: &str) -> io::Result<Vec<OsString>> {
    let bytes = fs::read(Path::new(WORK).join(file))?;
    let words = bytes.split(|b| *b == 0).filter(|w| !w.is_empty());
    Ok(words.map(|w| OsString::from_vec(w.to_vec())).collect())
}
