//! The control sockets of the `routed` binary: access control, and hostile clients.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use testbed::daemon::{StandaloneDaemon, node};

/// The time limit for an answer to a regular client on a loaded machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

fn connect(daemon: &StandaloneDaemon) -> UnixStream {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(daemon.path("routed.sock")) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    }
}

/// Returns what the daemon sends until it closes the connection.
fn answer(stream: &mut UnixStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        // The daemon closed the connection during the request.
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
        Err(error) => panic!("{error}"),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Asserts that ten regular requests are answered in time.
fn assert_responsive(daemon: &StandaloneDaemon) {
    for _ in 0..10 {
        let begin = Instant::now();
        daemon.ok(&["show", "status"]);
        assert!(begin.elapsed() < ANSWER_LIMIT, "answered after {:?}", begin.elapsed());
    }
}

/// Returns a figure of the daemon's memory in /proc, in MiB.
fn memory(daemon: &StandaloneDaemon, figure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(figure)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn descriptors(daemon: &StandaloneDaemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count()
}

#[test]
fn invalid_requests_are_refused_or_dropped_and_other_clients_are_served() {
    let daemon = StandaloneDaemon::over_files("");
    let noise: Vec<u8> =
        (0..100_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let long_head = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'y'; 1 << 20]].concat();
    let many_heads = [b"GET / HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(100_000)].concat();
    let not_json =
        b"PUT /v1/resources HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
                     content-length: 2\r\n\r\n{]"
            .to_vec();
    for (what, octets, wanted) in [
        ("noise", noise, None),
        ("nothing", Vec::new(), Some("")),
        ("zeros", vec![0; 10_000], None),
        ("another protocol", b"\x16\x03\x01\x02\x00\x01\x00".to_vec(), None),
        ("a version of the future", b"GET /v1/status HTTP/9.9\r\n\r\n".to_vec(), None),
        ("a head without an end", long_head, None),
        ("a hundred thousand heads", many_heads, None),
        ("half a request", b"PUT /v1/resources HTTP/1.1\r\ncontent-length: 100\r\n\r\nhalf".to_vec(), None),
        ("no JSON", not_json, Some("not a list of files")),
    ] {
        let mut stream = connect(&daemon);
        // The daemon may close the connection before everything is written.
        let _ = stream.write_all(&octets);
        // A client that closes its sending half may get no answer.
        if wanted.is_none_or(str::is_empty) {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        let response = answer(&mut stream);
        if let Some(wanted) = wanted {
            assert!(
                response.contains(wanted) && wanted.is_empty() == response.is_empty(),
                "{what}: {response}"
            );
        }
        assert_responsive(&daemon);
    }
    assert!(memory(&daemon, "VmHWM") < 64, "{} MiB", memory(&daemon, "VmHWM"));
}

#[test]
fn requests_of_a_hundred_mebibytes_are_refused_before_they_are_read() {
    let daemon = StandaloneDaemon::over_files("");
    let mut announced = connect(&daemon);
    let size = 100 << 20;
    write!(announced, "PUT /v1/resources HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n").unwrap();
    let response = answer(&mut announced);
    assert!(
        response.starts_with("HTTP/1.1 413 ") && response.contains("a request has at most 67108864 bytes"),
        "{response}"
    );
    assert!(memory(&daemon, "VmHWM") < 64, "the body was not read: {} MiB", memory(&daemon, "VmHWM"));

    // Two requests without a length are read at a time, and both end at the limit.
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = connect(&daemon);
            std::thread::spawn(move || {
                let head = "PUT /v1/resources HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
                let _ = stream.write_all(head.as_bytes());
                let chunk = [b"100000\r\n".to_vec(), vec![b'#'; 1 << 20], b"\r\n".to_vec()].concat();
                for _ in 0..100 {
                    if stream.write_all(&chunk).is_err() {
                        break;
                    }
                }
                answer(&mut stream)
            })
        })
        .collect();
    assert_responsive(&daemon);
    let response: Vec<String> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    let refused = response
        .iter()
        .filter(|response| response.contains(" 413 ") || response.contains(" 503 ") || response.is_empty())
        .count();
    assert_eq!(refused, 8, "{response:?}");
    let most = memory(&daemon, "VmHWM");
    assert!(most < 400, "{most} MiB");
    assert_responsive(&daemon);
}

#[test]
fn clients_that_never_read_are_disconnected_and_other_clients_are_served() {
    let daemon = StandaloneDaemon::over_files("");
    // The answer is larger than the kernel's buffers.
    let nodes = (0..1500).map(|number| {
        node(&format!("n-{number}"), &format!("10.1.{}.{}/16", number / 250, number % 250 + 1))
    });
    fs::write(daemon.path("resources/nodes.yaml"), nodes.collect::<Vec<_>>().join("---\n")).unwrap();
    daemon.until("all nodes", |_| daemon.routectl(&["show", "nodes"]).1.lines().count() > 1500);
    let before = memory(&daemon, "VmHWM");
    let clients: Vec<UnixStream> = (0..100)
        .map(|_| {
            let mut stream = connect(&daemon);
            stream.write_all(b"GET /v1/nodes HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    // Each client gets an answer, or is replaced by others.
    let has_answer = |stream: &UnixStream| {
        use nix::sys::socket::{MsgFlags, recv};
        use std::os::fd::AsRawFd;
        recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK).unwrap_or(0) == 1
    };
    let answers = clients.iter().filter(|stream| has_answer(stream)).count();
    assert!(answers >= 64, "{answers} answers were sent");
    assert_responsive(&daemon);
    let until = Instant::now() + Duration::from_secs(40);
    while descriptors(&daemon) > 50 {
        assert!(Instant::now() < until, "{} descriptors are still open", descriptors(&daemon));
        std::thread::sleep(Duration::from_millis(100)); // why: the state of another process is polled
    }
    drop(clients);
    assert_responsive(&daemon);
    let after = memory(&daemon, "VmHWM");
    assert!(after < before + 200, "{after} MiB, {before} before");
}

#[test]
fn a_thousand_idle_connections_do_not_delay_other_clients() {
    let daemon = StandaloneDaemon::over_files("");
    let begin = Instant::now();
    let idle: Vec<UnixStream> = (0..1000).map(|_| connect(&daemon)).collect();
    println!("connected after {:?}", begin.elapsed());
    assert_responsive(&daemon);
    assert!(descriptors(&daemon) < 150, "{} descriptors", descriptors(&daemon));
    // Further connections arrive meanwhile.
    let more = std::thread::scope(|scope| {
        let more = scope.spawn(|| (0..2000).map(|_| connect(&daemon)).collect::<Vec<_>>());
        assert_responsive(&daemon);
        more.join().unwrap()
    });
    assert!(descriptors(&daemon) < 150, "{} descriptors", descriptors(&daemon));
    drop((idle, more));
    assert_responsive(&daemon);
}

#[test]
fn other_requests_are_served_while_megabytes_of_resources_are_parsed() {
    let daemon = StandaloneDaemon::over_files("");
    let mut text: String = (0..5_000)
        .map(|number| {
            node(&format!("n-{number}"), &format!("10.{}.{}.1/8", number / 250, number % 250)) + "---\n"
        })
        .collect();
    // The last resource is invalid, so that none is stored.
    text += &node("wrong", "nowhere");
    let mut stream = connect(&daemon);
    write!(stream, "PUT /v1/resources HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{text}", text.len())
        .unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut requests = 0;
    while matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock) {
        let begin = Instant::now();
        daemon.ok(&["show", "status"]);
        assert!(begin.elapsed() < ANSWER_LIMIT, "answered after {:?}", begin.elapsed());
        requests += 1;
    }
    stream.set_nonblocking(false).unwrap();
    let response = answer(&mut stream);
    assert!(response.contains(" 422 ") && response.contains("spec.bgp.ipv4Address"), "{response}");
    assert!(requests > 3, "{requests} requests were served meanwhile");
}

/// Runs `routectl` as another user.
fn as_user(daemon: &StandaloneDaemon, uid: u32, gid: u32, arguments: &[&str]) -> (i32, String, String) {
    let done = Command::new("setpriv")
        .args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()])
        .arg(testbed::product("routectl"))
        .arg("--socket")
        .arg(daemon.path("routed.sock"))
        .args(arguments)
        .output()
        .expect("setpriv (package util-linux)");
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
}

#[test]
fn the_read_group_may_only_read_and_other_users_have_no_access() {
    let daemon = StandaloneDaemon::over_files("readGroup: nogroup\n");
    fs::set_permissions(daemon.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let file = daemon.path("node.yaml");
    fs::write(&file, node("b", "10.0.0.2/24")).unwrap();
    let file = file.to_str().unwrap();
    let (mode, gid) = {
        let metadata = fs::metadata(daemon.path("routed-read.sock")).unwrap();
        (metadata.permissions().mode() & 0o777, metadata.gid())
    };
    assert_eq!(mode, 0o660);
    assert_ne!(
        fs::metadata(daemon.path("routed.sock")).unwrap().gid(),
        gid,
        "another group than the daemon's own"
    );

    let (status, _, stderr) = as_user(&daemon, 12_345, gid, &["plan", "-f", file]);
    assert_eq!((status, stderr.as_str()), (0, ""), "a plan changes nothing");
    for query in [&["show", "status"][..], &["get", "nodes"], &["show", "peers", "-o", "json"]] {
        let (status, _, stderr) = as_user(&daemon, 12_345, gid, query);
        assert_eq!((status, stderr.as_str()), (0, ""), "{query:?}");
    }
    let wanted = "routectl: group \"nogroup\" may look and change nothing: ask a member of the group of routed's other socket\n";
    for change in [
        &["apply", "-f", file][..],
        &["create", "-f", file],
        &["delete", "bgpconfig", "default"],
        &["patch", "bgpconfig", "default", "-p", "{}"],
        &["label", "bgpconfig", "default", "a=b"],
        &["drain"],
    ] {
        let (status, stdout, stderr) = as_user(&daemon, 12_345, gid, change);
        assert_eq!((status, stdout.as_str(), stderr.as_str()), (1, "", wanted), "{change:?}");
    }
    let (status, _, stderr) = as_user(&daemon, 12_345, 12_345, &["show", "status"]);
    assert!(status == 3 && stderr.contains("Permission denied"), "{stderr}");
    assert_eq!(daemon.ok(&["apply", "-f", file]), "Successfully applied 1 'Node' resource(s)\n");
    let log = fs::read_to_string(daemon.path("log")).unwrap();
    let line = |uid: &str, status: &str| {
        log.lines().any(|line| {
            ["asked for a change", "PUT", "/v1/resources", uid, status].iter().all(|part| line.contains(part))
        })
    };
    assert!(line("uid=0", "status=200") && line("uid=12345", "status=403"), "{log}");

    // A socket that is writable for everyone grants no access.
    fs::set_permissions(daemon.path("routed.sock"), fs::Permissions::from_mode(0o666)).unwrap();
    let (status, _, stderr) = as_user(&daemon, 12_345, 12_345, &["show", "status"]);
    assert!(
        status == 1 && stderr.contains("is open for everybody") && stderr.contains("chmod 660"),
        "{stderr}"
    );
}
