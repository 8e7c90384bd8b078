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

/// Where the work directory is seen in the guest.
const WORK: &str = "/run/routed-guest";
/// The first of the places at which the copy-on-write root is put together; any directory serves.
const STAGING: &str = "/mnt";
/// What labs, tunnels and their tests need. `modprobe` may not exist, so the kernel cannot fetch them itself.
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
/// Where the host's root is mounted under QEMU.
const HOST: &str = "/host";

/// What the two kinds of machine have by different names.
struct MachineDevices {
    /// The host's root.
    lower: &'static str,
    /// The kernel's console.
    console: &'static str,
    /// Where the command's output and errors go.
    outputs: [&'static str; 2],
}

const UML: MachineDevices =
    MachineDevices { lower: "/", console: "/dev/tty0", outputs: ["/dev/tty1", "/dev/tty2"] };
const QEMU: MachineDevices =
    MachineDevices { lower: HOST, console: "/dev/ttyS0", outputs: ["/dev/ttyS1", "/dev/ttyS2"] };

/// Which one this is: under QEMU the kernel's command line names the share with the host's root.
fn kind() -> &'static MachineDevices {
    if env::var_os(ROOT_VARIABLE).is_some() { &QEMU } else { &UML }
}

/// If this process is the guest's first, does its work and never returns.
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

/// Returns the kernel's console is the host's kernel.log.
fn say(what: &str, error: &io::Error) {
    if let Ok(mut console) =
        OpenOptions::new().write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(kind().console)
    {
        let _ = writeln!(console, "guest init: {what}: {error}");
    }
}

/// Below `/proc/sys/net`.
const SETTINGS: [(&str, &str); 2] = [
    // Entries of the neighbour table, of all namespaces together: a large lab needs a large one.
    ("ipv4/neigh/default/gc_thresh3", "32768"),
    // Packets that wait between namespaces. A guest that stood still for a moment on a busy host sends what it is behind
    // with at once, and its kernel would drop what is beyond a thousand: that is no loss of the network under test.
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
        // What is missing will be missed by name by whoever needs it.
        if let Err(error) = modules.load(module) {
            say(module, &error);
        }
    }
    bring_loopback_up().map_err(named("loopback"))?;
    // The guest is ours alone.
    for (setting, value) in SETTINGS {
        if let Err(error) = fs::write(Path::new("/proc/sys/net").join(setting), value) {
            say(setting, &error);
        }
    }
    limit_own_life()?;
    run_command()
}

/// Under QEMU the first root has nothing but this program and the modules that lead to the host's.
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

/// Returns the host's root below, guest memory above, and the guest's own kernel file systems.
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
        // Whoever writes must see that it is no terminal.
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
    // A process that the command left behind may hold the pipes for ever. The power goes off anyway: it is ended now, so
    // that all that was written is read to its end.
    end_all_others();
    for relay in relays {
        let _ = relay.join();
    }
    Ok(status)
}

/// Ends every process of the guest but this one, its first.
fn end_all_others() {
    if std::process::id() == 1 {
        // None left is as good.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
}

/// Waits for all who end, orphans too, until `pid` does.
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

/// Returns a console without the carriage returns that a terminal would get.
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
