//! A TCP proxy in front of an etcd member, which delays or cuts connections.

/// The treatment of octets and connections by a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// Octets pass.
    All,
    /// Octets are held, and connections stay open.
    Held,
    /// Connections are closed, and new ones refused.
    None,
}

/// A TCP proxy in front of a member. Ends when dropped.
pub struct Proxy {
    /// The URL of the proxy.
    pub url: String,
    forwarding: tokio::sync::watch::Sender<ProxyMode>,
    task: tokio::task::JoinHandle<()>,
}

/// Forwards octets in one direction while the proxy forwards.
async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut forwarding: tokio::sync::watch::Receiver<ProxyMode>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut room = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut room).await {
        if forwarding.wait_for(|forwarding| *forwarding != ProxyMode::Held).await.is_err() {
            return;
        }
        if to.write_all(&room[..count]).await.is_err() {
            return;
        }
    }
}

impl Proxy {
    /// Starts a proxy on a free port of loopback.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn start(member: &str) -> Self {
        let target = member.trim_start_matches("http://").to_owned();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a working test bed");
        let url = format!("http://{}", listener.local_addr().expect("a working test bed"));
        let forwarding = tokio::sync::watch::Sender::new(ProxyMode::All);
        let seen = forwarding.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((near, _)) = listener.accept().await else { return };
                if *seen.borrow() == ProxyMode::None {
                    continue;
                }
                let (target, mut state) = (target.clone(), seen.subscribe());
                tokio::spawn(async move {
                    let Ok(far) = tokio::net::TcpStream::connect(target).await else { return };
                    let (near_reads, near_writes) = near.into_split();
                    let (far_reads, far_writes) = far.into_split();
                    tokio::select! {
                        () = forward(near_reads, far_writes, state.clone()) => {}
                        () = forward(far_reads, near_writes, state.clone()) => {}
                        _ = state.wait_for(|forwarding| *forwarding == ProxyMode::None) => {}
                    }
                });
            }
        });
        Proxy { url, forwarding, task }
    }

    /// Changes the treatment of octets and connections.
    pub fn set(&self, forwarding: ProxyMode) {
        self.forwarding.send_replace(forwarding);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
