//! Protection of a session's connections below BGP: TCP-MD5 (RFC 2385) and the TTL (RFC 5082).
//!
//! TCP-AO (RFC 5925) is not implemented.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};
use socket2::SockRef;

/// Length of the longest key that the kernel accepts (`TCP_MD5SIG_MAXKEYLEN`), in octets.
pub const PASSWORD_MAX: usize = 80;

/// Password of a session: 1 to [`PASSWORD_MAX`] octets.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Arc<[u8]>);

impl Password {
    /// Returns `None` if the password is empty or too long.
    pub fn new(octets: &[u8]) -> Option<Password> {
        (1..=PASSWORD_MAX).contains(&octets.len()).then(|| Password(octets.into()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Key for signing TCP segments (RFC 2385).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Md5Key {
    /// Segments are not signed.
    #[default]
    None,
    /// Segments are signed with this password.
    Password(Password),
    /// The password is unavailable for this reason, so no session is possible.
    Unknown(Arc<str>),
}

/// Limit for the distance to the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hops {
    /// No limit.
    #[default]
    Any,
    /// Outgoing packets have this TTL.
    AtMost(NonZeroU8),
    /// Incoming packets must come from at most this number of hops away, which cannot be spoofed
    /// (GTSM, RFC 5082): both sides send with TTL 255, so a TTL below 256 minus the hops means a
    /// longer path.
    Secured(NonZeroU8),
}

/// Protection of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Key for signing segments.
    pub key: Md5Key,
    /// Limit for the distance to the peer.
    pub hops: Hops,
}

/// `struct tcp_md5sig` of `linux/tcp.h`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
// Public, since the macro below makes the option public that contains it.
#[allow(unreachable_pub)]
pub struct TcpMd5Sig {
    /// `sockaddr_in` or `sockaddr_in6` in a `sockaddr_storage`; the port is ignored.
    family: u16,
    address: [u8; 126],
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    interface: i32,
    key: [u8; PASSWORD_MAX],
}

sockopt_impl!(
    /// Signs segments to an address and requires signed segments from there; an empty key ends
    /// this.
    TcpMd5,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_MD5SIG,
    TcpMd5Sig
);
sockopt_impl!(
    /// Smallest accepted TTL.
    MinTtl,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MINTTL,
    i32
);
sockopt_impl!(
    /// Smallest accepted hop limit.
    MinHopCount,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MINHOPCOUNT,
    i32
);

/// Sets the protection of a socket that will connect to `remote`.
///
/// # Errors
/// The password is unavailable, or the kernel rejects an option.
pub(super) fn protect_connect(socket: &impl AsFd, remote: IpAddr, protection: &Protection) -> io::Result<()> {
    match &protection.key {
        Md5Key::None => {}
        Md5Key::Password(password) => set_key(socket, remote, Some(password))?,
        Md5Key::Unknown(why) => return Err(io::Error::other(why.to_string())),
    }
    set_hops(socket, remote, protection.hops)
}

/// Sets the TTL of a listening socket: its SYN-ACKs must reach peers that accept 255 only.
pub(super) fn protect_listener(socket: &impl AsFd, ipv4: bool) -> io::Result<()> {
    set_ttl(socket, ipv4, 255)
}

/// Sets or removes the key for segments to `remote`.
pub(super) fn set_key(socket: &impl AsFd, remote: IpAddr, password: Option<&Password>) -> io::Result<()> {
    let mut option = TcpMd5Sig {
        family: 0,
        address: [0; 126],
        flags: 0,
        prefix_len: 0,
        key_len: 0,
        interface: 0,
        key: [0; PASSWORD_MAX],
    };
    // The address follows the family, the port and, for IPv6, the flow label.
    match remote {
        IpAddr::V4(address) => {
            option.family = libc::AF_INET as u16;
            option.address[2..6].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            option.family = libc::AF_INET6 as u16;
            option.address[6..22].copy_from_slice(&address.octets());
        }
    }
    if let Some(Password(octets)) = password {
        option.key[..octets.len()].copy_from_slice(octets);
        option.key_len = octets.len() as u16;
    }
    match setsockopt(socket, TcpMd5, &option) {
        // There was no key to remove.
        Err(nix::errno::Errno::ENOENT) if password.is_none() => Ok(()),
        Err(errno) => {
            let errno = io::Error::from(errno);
            Err(io::Error::new(errno.kind(), format!("TCP-MD5 (CONFIG_TCP_MD5SIG): {errno}")))
        }
        Ok(()) => Ok(()),
    }
}

/// Sets the TTL of outgoing packets and the smallest TTL of incoming ones.
pub(super) fn set_hops(socket: &impl AsFd, remote: IpAddr, hops: Hops) -> io::Result<()> {
    let ipv4 = remote.is_ipv4();
    match hops {
        Hops::Any => Ok(()),
        Hops::AtMost(hops) => set_ttl(socket, ipv4, hops.get()),
        Hops::Secured(hops) => {
            set_ttl(socket, ipv4, 255)?;
            let least = 256 - i32::from(hops.get());
            let set = if ipv4 {
                setsockopt(socket, MinTtl, &least)
            } else {
                setsockopt(socket, MinHopCount, &least)
            };
            set.map_err(io::Error::from)
        }
    }
}

fn set_ttl(socket: &impl AsFd, ipv4: bool, ttl: u8) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if ipv4 { socket.set_ttl_v4(ttl.into()) } else { socket.set_unicast_hops_v6(ttl.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text.as_bytes()).unwrap()
    }

    fn connect(to: SocketAddr, protection: &Protection, limit: Duration) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        protect_connect(&socket, to.ip(), protection)?;
        socket.connect_timeout(&to.into(), limit)?;
        Ok(socket.into())
    }

    fn connected(to: SocketAddr, protection: &Protection) -> TcpStream {
        connect(to, protection, Duration::from_secs(30)).unwrap()
    }

    /// The kernel drops the segments, so the attempt lasts until it is given up.
    fn unanswered(to: SocketAddr, protection: &Protection) {
        connect(to, protection, Duration::from_millis(300)).unwrap_err();
    }

    #[test]
    fn tcp_md5sig_has_the_layout_of_the_kernel() {
        assert_eq!(size_of::<TcpMd5Sig>(), 128 + 1 + 1 + 2 + 4 + 80);
        assert_eq!(std::mem::offset_of!(TcpMd5Sig, flags), 128);
        assert_eq!(std::mem::offset_of!(TcpMd5Sig, key), 136);
    }

    #[test]
    fn a_connection_needs_the_password_until_the_key_is_removed() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let to = listener.local_addr().unwrap();
            set_key(&listener, to.ip(), None).unwrap();
            set_key(&listener, to.ip(), Some(&password("secret"))).unwrap();
            let with =
                |text: &str| Protection { key: Md5Key::Password(password(text)), ..Protection::default() };
            unanswered(to, &Protection::default());
            unanswered(to, &with("Secret"));
            let mut ours = connected(to, &with("secret"));
            let (mut theirs, _) = listener.accept().unwrap();
            ours.write_all(b"x").unwrap();
            theirs.read_exact(&mut [0]).unwrap();
            // The established connection keeps its key.
            set_key(&listener, to.ip(), None).unwrap();
            connected(to, &Protection::default());
            theirs.write_all(b"y").unwrap();
            ours.read_exact(&mut [0]).unwrap();
        }
    }

    #[test]
    fn packets_below_the_minimum_ttl_are_dropped() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let to = listener.local_addr().unwrap();
            let hops = |hops: u8| NonZeroU8::new(hops).unwrap();
            let secured = Protection { hops: Hops::Secured(hops(1)), ..Protection::default() };
            // The listening socket answers with the kernel's default TTL of 64.
            unanswered(to, &secured);
            connected(to, &Protection { hops: Hops::Secured(hops(200)), ..Protection::default() });
            protect_listener(&listener, to.is_ipv4()).unwrap();
            connected(to, &secured);
            connected(to, &Protection { hops: Hops::AtMost(hops(1)), ..Protection::default() });
        }
    }

    #[test]
    fn an_unavailable_password_prevents_the_connection() {
        let why = "password file /etc/x: is empty";
        let protection = Protection { key: Md5Key::Unknown(why.into()), ..Protection::default() };
        let error = connect("127.0.0.1:1".parse().unwrap(), &protection, Duration::from_secs(30));
        assert_eq!(error.unwrap_err().to_string(), why);
    }

    #[test]
    fn a_password_has_a_length_limit_and_is_not_in_debug_output() {
        assert_eq!(format!("{:?}", password("secret")), "Password(..)");
        assert_eq!(Password::new(b""), None);
        assert_eq!(Password::new(&[b'x'; 81]), None);
        assert!(Password::new(&[b'x'; 80]).is_some());
    }
}
