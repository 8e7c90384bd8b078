use super::*;

#[tokio::test]
async fn a_reconfigured_session_survives_an_earlier_timer_and_ends_with_its_last_receiver() {
    let (commands, mut received) = mpsc::channel(COMMANDS);
    let bfd = Bfd { commands };
    let mut driver = BfdDriver {
        receiving: Vec::new(),
        sending: Vec::new(),
        sessions: HashMap::new(),
        by_peer: HashMap::new(),
        alarms: BinaryHeap::new(),
        random: RandomState::new(),
        discriminators: 0,
    };
    let peer = |millis| BfdPeer {
        remote: Ipv4Addr::LOCALHOST.into(),
        local: None,
        multihop: false,
        config: BfdSessionConfig {
            min_interval: Duration::from_millis(millis),
            multiplier: std::num::NonZeroU8::MIN,
        },
    };
    let old = bfd.session(peer(50)).await;
    driver.begin(received.recv().await.expect("a command"));
    let id = *driver.sessions.keys().next().expect("a session");
    let new = bfd.session(peer(70)).await;
    drop(old);
    driver.due(&mut received, Instant::now() + Duration::from_secs(2));
    assert_eq!(driver.sessions.keys().collect::<Vec<_>>(), [&id], "the session continues");
    assert_eq!(driver.sessions.get(&id).map(|entry| entry.peer), Some(peer(70)));
    drop(new);
    driver.due(&mut received, Instant::now() + Duration::from_secs(4));
    assert!(driver.sessions.is_empty() && driver.by_peer.is_empty(), "no receiver is left");
}
