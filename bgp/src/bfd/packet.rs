//! Control packets (RFC 5880 §4.1), and the rules for discarding them (§6.8.6).

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};

/// Length of a control packet without authentication, in octets.
pub const PACKET_LEN: usize = 24;
const VERSION: u8 = 1;

/// Session state (RFC 5880 §4.1, `Sta`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BfdState {
    /// Held down administratively.
    AdminDown,
    /// No packets are received, or the remote system reports that it receives none.
    Down,
    /// Packets are received, but the remote system has not yet confirmed that it receives ours.
    Init,
    /// Both systems receive each other's packets.
    Up,
}

impl BfdState {
    /// All states, in the order of their numbers.
    pub const ALL: [BfdState; 4] = [BfdState::AdminDown, BfdState::Down, BfdState::Init, BfdState::Up];

    const fn code(self) -> u8 {
        match self {
            BfdState::AdminDown => 0,
            BfdState::Down => 1,
            BfdState::Init => 2,
            BfdState::Up => 3,
        }
    }

    const fn from_code(code: u8) -> BfdState {
        match code & 3 {
            0 => BfdState::AdminDown,
            1 => BfdState::Down,
            2 => BfdState::Init,
            _ => BfdState::Up,
        }
    }
}

impl fmt::Display for BfdState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Diagnostic code: the reason why a session last left Up (RFC 5880 §4.1, `Diag`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// No diagnostic.
    pub const NONE: Diagnostic = Diagnostic(0);
    /// No packet was received for the detection time.
    pub const CONTROL_DETECTION_TIME_EXPIRED: Diagnostic = Diagnostic(1);
    /// The remote system reported its session as down.
    pub const NEIGHBOR_SIGNALED_SESSION_DOWN: Diagnostic = Diagnostic(3);
    /// The session was taken down administratively.
    pub const ADMINISTRATIVELY_DOWN: Diagnostic = Diagnostic(7);
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            _ => "reserved diagnostic",
        })
    }
}

/// Control packet; times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPacket {
    /// Reason why the sender's session last left Up.
    pub diagnostic: Diagnostic,
    /// State of the sender's session.
    pub state: BfdState,
    /// P: the sender requests a packet with F.
    pub poll: bool,
    /// F: response to a packet with P.
    pub r#final: bool,
    /// C: the sender's BFD is independent of its control plane.
    pub control_plane_independent: bool,
    /// D: the sender requests demand mode.
    pub demand: bool,
    /// Number of missed packets after which the sender is declared down.
    pub detect_mult: NonZeroU8,
    /// Discriminator of the session at the sender.
    pub my_discriminator: NonZeroU32,
    /// Discriminator of the session at the receiver; 0: not known yet.
    pub your_discriminator: u32,
    /// Shortest interval at which the sender wants to send.
    pub desired_min_tx: u32,
    /// Shortest interval at which the sender can receive; 0: it wants no packets.
    pub required_min_rx: u32,
    /// Shortest interval at which the sender can receive echo packets, which are not used.
    pub required_min_echo_rx: u32,
}

/// Reason for discarding a packet (RFC 5880 §6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscardReason {
    /// The datagram is shorter than a control packet.
    #[error("a control packet has at least 24 octets")]
    Short,
    /// The version is not 1.
    #[error("the version is 1")]
    Version,
    /// The length field is too small, or larger than the datagram.
    #[error("the length is at least 24 and at most that of the datagram")]
    Length,
    /// A: the packet has authentication, which no session uses.
    #[error("no session has authentication")]
    Authentication,
    /// M: the packet is multipoint; the bit must be 0.
    #[error("the multipoint bit is 0")]
    Multipoint,
    /// Detect Mult is 0.
    #[error("the detection multiplier is not 0")]
    DetectMult,
    /// My Discriminator is 0.
    #[error("My Discriminator is not 0")]
    MyDiscriminator,
    /// Your Discriminator is 0 in a state in which the sender must know it.
    #[error("Your Discriminator is 0 in Down and AdminDown alone")]
    YourDiscriminator,
}

impl ControlPacket {
    /// Parses a datagram.
    ///
    /// # Errors
    /// [`DiscardReason`]: the packet must be ignored.
    pub fn parse(datagram: &[u8]) -> Result<ControlPacket, DiscardReason> {
        let (packet, _) = datagram.split_first_chunk::<PACKET_LEN>().ok_or(DiscardReason::Short)?;
        let [first, flags, detect_mult, length, rest @ ..] = *packet;
        let number = |at: usize| {
            let field = rest.get(at..).and_then(|rest| rest.first_chunk::<4>());
            field.map_or(0, |octets| u32::from_be_bytes(*octets))
        };
        if first >> 5 != VERSION {
            return Err(DiscardReason::Version);
        }
        if usize::from(length) < PACKET_LEN || usize::from(length) > datagram.len() {
            return Err(DiscardReason::Length);
        }
        let bit = |mask: u8| flags & mask != 0;
        if bit(0x04) {
            return Err(DiscardReason::Authentication);
        }
        if bit(0x01) {
            return Err(DiscardReason::Multipoint);
        }
        let state = BfdState::from_code(flags >> 6);
        let your_discriminator = number(4);
        if your_discriminator == 0 && !matches!(state, BfdState::Down | BfdState::AdminDown) {
            return Err(DiscardReason::YourDiscriminator);
        }
        Ok(ControlPacket {
            diagnostic: Diagnostic(first & 0x1f),
            state,
            poll: bit(0x20),
            r#final: bit(0x10),
            control_plane_independent: bit(0x08),
            demand: bit(0x02),
            detect_mult: NonZeroU8::new(detect_mult).ok_or(DiscardReason::DetectMult)?,
            my_discriminator: NonZeroU32::new(number(0)).ok_or(DiscardReason::MyDiscriminator)?,
            your_discriminator,
            desired_min_tx: number(8),
            required_min_rx: number(12),
            required_min_echo_rx: number(16),
        })
    }

    /// Encodes the packet.
    pub fn encode(&self) -> [u8; PACKET_LEN] {
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        let flags = self.state.code() << 6
            | bit(self.poll, 0x20)
            | bit(self.r#final, 0x10)
            | bit(self.control_plane_independent, 0x08)
            | bit(self.demand, 0x02);
        let mut out = [0; PACKET_LEN];
        let head = [VERSION << 5 | self.diagnostic.0 & 0x1f, flags, self.detect_mult.get(), 24];
        let numbers = [
            self.my_discriminator.get(),
            self.your_discriminator,
            self.desired_min_tx,
            self.required_min_rx,
            self.required_min_echo_rx,
        ];
        let octets = head.into_iter().chain(numbers.into_iter().flat_map(u32::to_be_bytes));
        out.iter_mut().zip(octets).for_each(|(place, octet)| *place = octet);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> ControlPacket {
        ControlPacket {
            diagnostic: Diagnostic::NEIGHBOR_SIGNALED_SESSION_DOWN,
            state: BfdState::Init,
            poll: true,
            r#final: false,
            control_plane_independent: true,
            demand: false,
            detect_mult: NonZeroU8::new(3).unwrap(),
            my_discriminator: NonZeroU32::new(0x0102_0304).unwrap(),
            your_discriminator: 5,
            desired_min_tx: 50_000,
            required_min_rx: 60_000,
            required_min_echo_rx: 0,
        }
    }

    #[test]
    fn a_packet_survives_the_wire() {
        let octets = packet().encode();
        assert_eq!(octets[..8], [0x23, 0xa8, 3, 24, 1, 2, 3, 4]);
        assert_eq!(ControlPacket::parse(&octets), Ok(packet()));
        for state in BfdState::ALL {
            let packet = ControlPacket { state, ..packet() };
            assert_eq!(ControlPacket::parse(&packet.encode()), Ok(packet));
        }
        let longer = [&octets[..], &[9; 7]].concat();
        assert_eq!(
            ControlPacket::parse(&longer),
            Ok(packet()),
            "octets after the length are not part of the packet"
        );
    }

    #[test]
    fn every_rule_of_reception_discards() {
        let broken = |edit: &dyn Fn(&mut [u8])| {
            let mut octets = packet().encode();
            edit(&mut octets);
            ControlPacket::parse(&octets).unwrap_err()
        };
        assert_eq!(ControlPacket::parse(&packet().encode()[..23]), Err(DiscardReason::Short));
        assert_eq!(broken(&|octets| octets[0] = 0x40), DiscardReason::Version);
        assert_eq!(broken(&|octets| octets[3] = 23), DiscardReason::Length);
        assert_eq!(broken(&|octets| octets[3] = 25), DiscardReason::Length);
        assert_eq!(broken(&|octets| octets[1] |= 0x04), DiscardReason::Authentication);
        assert_eq!(broken(&|octets| octets[1] |= 0x01), DiscardReason::Multipoint);
        assert_eq!(broken(&|octets| octets[2] = 0), DiscardReason::DetectMult);
        assert_eq!(broken(&|octets| octets[4..8].fill(0)), DiscardReason::MyDiscriminator);
        assert_eq!(broken(&|octets| octets[8..12].fill(0)), DiscardReason::YourDiscriminator);
        for (state, taken) in [(0x00, true), (0x40, true), (0x80, false), (0xc0, false)] {
            let mut octets = packet().encode();
            octets[8..12].fill(0);
            octets[1] = state;
            assert_eq!(ControlPacket::parse(&octets).is_ok(), taken, "{state:#x}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_read_without_a_panic_and_written_as_they_were(octets: Vec<u8>) {
            if let Ok(packet) = ControlPacket::parse(&octets) {
                assert_eq!(packet.encode()[4..], octets[4..PACKET_LEN]);
            }
        }
    }
}
