//! The device under test and everybody's sessions with it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use bgp::wire::capability::Capabilities;
use bgp::wire::encode;
use bgp::wire::error::ErrorCode;
use bgp::wire::frame::MessageKind;
use bgp::wire::notification::Notification;
use bgp::wire::open::Open;
use bgp::{Asn, Families, RouterId};

use super::case::Role;
use super::connection::{Connection, Event};
use super::judge::Outcome;
use super::observer::Table;

/// Between two looks where nothing comes, and between two calls.
const LOOK: Duration = Duration::from_millis(2);
/// A session that was silent for so long sends a KEEPALIVE.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Time in which the device must close after a NOTIFICATION.
const NOTICE: Duration = Duration::from_millis(500);

/// A session, or a connection on its way to one.
struct Session {
    connection: Connection,
    open: Option<Open>,
    keepalives: usize,
    ended: Option<Outcome>,
}

/// Everybody's sessions and what the observers hold.
pub(super) struct Scene {
    sessions: BTreeMap<Role, Session>,
    pub(super) tables: BTreeMap<Role, Table>,
    events: Receiver<(u64, Event)>,
    sender: Sender<(u64, Event)>,
    next: u64,
    /// UPDATEs to observers that can't be read.
    pub(super) unreadable: Vec<String>,
}

impl Scene {
    pub(super) fn new() -> Scene {
        let (sender, events) = channel();
        let tables = [Role::Observer, Role::External].map(|role| (role, Table::default()));
        Scene {
            sessions: BTreeMap::new(),
            tables: tables.into(),
            events,
            sender,
            next: 0,
            unreadable: Vec::new(),
        }
    }

    /// Ends every connection and forgets the received routes.
    pub(super) fn clear(&mut self) {
        self.sessions.clear();
        self.tables.values_mut().for_each(Table::clear);
    }

    /// Ends a role's connection, and lets the device take notice, so that it doesn't take the next one
    /// for a collision.
    pub(super) fn hang_up(&mut self, role: Role) {
        if self.is_up(role) {
            let mut octets = Vec::new();
            Notification::new(ErrorCode::ADMINISTRATIVE_RESET).encode(&mut octets);
            self.send(role, &octets, None);
            self.wait(Instant::now() + NOTICE, |scene| (!scene.is_up(role)).then_some(()));
        }
        self.sessions.remove(&role);
        if let Some(table) = self.tables.get_mut(&role) {
            table.clear();
        }
    }

    /// Returns how a role's connection ended, if it did.
    pub(super) fn ended(&self, role: Role) -> Option<&Outcome> {
        self.sessions.get(&role)?.ended.as_ref()
    }

    /// Returns whether a role has a connection that has not ended.
    pub(super) fn is_up(&self, role: Role) -> bool {
        self.sessions.get(&role).is_some_and(|session| session.ended.is_none())
    }

    /// KEEPALIVEs that came on a role's connection.
    pub(super) fn keepalives(&self, role: Role) -> usize {
        self.sessions.get(&role).map_or(0, |session| session.keepalives)
    }

    /// The device's OPEN on a role's connection.
    pub(super) fn open_of(&self, role: Role) -> Option<&Open> {
        self.sessions.get(&role)?.open.as_ref()
    }

    /// Sends octets as a role.
    pub(super) fn send(&mut self, role: Role, octets: &[u8], chunk: Option<usize>) {
        if let Some(session) = self.sessions.get_mut(&role) {
            session.connection.send(octets, chunk);
        }
    }

    /// Calls the device until its OPEN comes; false if it doesn't before `deadline`.
    pub(super) fn call(&mut self, role: Role, deadline: Instant) -> bool {
        loop {
            self.hang_up(role);
            self.next += 1;
            if let Ok(connection) = Connection::open(role.address(), self.next, self.sender.clone()) {
                let session = Session { connection, open: None, keepalives: 0, ended: None };
                self.sessions.insert(role, session);
                self.wait(deadline, |scene| {
                    (scene.open_of(role).is_some() || !scene.is_up(role)).then_some(())
                });
                if self.is_up(role) && self.open_of(role).is_some() {
                    return true;
                }
            }
            if Instant::now() >= deadline {
                return false;
            }
            // why: a device that refuses now takes the next call or the one after it.
            std::thread::sleep(LOOK);
        }
    }

    /// Calls, and sends OPEN until the device's KEEPALIVE comes.
    pub(super) fn confirm(&mut self, role: Role, deadline: Instant) -> bool {
        loop {
            if !self.call(role, deadline) {
                return false;
            }
            let mut octets = Vec::new();
            open(role).encode(&mut octets);
            self.send(role, &octets, None);
            self.wait(deadline, |scene| (scene.keepalives(role) > 0 || !scene.is_up(role)).then_some(()));
            if self.is_up(role) && self.keepalives(role) > 0 {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
        }
    }

    /// Calls and opens a session, unless there is one.
    pub(super) fn establish(&mut self, role: Role, deadline: Instant) -> bool {
        if self.is_up(role) {
            return true;
        }
        let confirmed = self.confirm(role, deadline);
        if confirmed {
            let mut octets = Vec::new();
            encode::keepalive(&mut octets);
            self.send(role, &octets, None);
        }
        confirmed
    }

    /// Takes in what comes until `look` gives something, or until `deadline`.
    pub(super) fn wait<T>(
        &mut self,
        deadline: Instant,
        mut look: impl FnMut(&Scene) -> Option<T>,
    ) -> Option<T> {
        loop {
            while let Ok((number, event)) = self.events.try_recv() {
                self.take(number, event);
            }
            if let Some(found) = look(self) {
                return Some(found);
            }
            self.keep_alive();
            let left = deadline.checked_duration_since(Instant::now())?;
            match self.events.recv_timeout(left.min(KEEPALIVE)) {
                Ok((number, event)) => self.take(number, event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender"),
            }
        }
    }

    fn keep_alive(&mut self) {
        let mut keepalive = Vec::new();
        encode::keepalive(&mut keepalive);
        for session in self.sessions.values_mut() {
            if session.keepalives > 0 && session.connection.sent.elapsed() > KEEPALIVE {
                session.connection.send(&keepalive, None);
            }
        }
    }

    fn take(&mut self, number: u64, event: Event) {
        let found = self.sessions.iter_mut().find(|(_, session)| session.connection.number == number);
        let Some((role, session)) = found else { return };
        match event {
            Event::Message(MessageKind::Open, body) => match Open::parse(&body) {
                Ok(open) => session.open = Some(open),
                Err(error) => self.unreadable.push(format!("OPEN to {role:?}: {error}")),
            },
            Event::Message(MessageKind::Keepalive, _) => session.keepalives += 1,
            Event::Message(MessageKind::Notification, body) => {
                let code = Notification::parse(&body).code;
                session.ended.get_or_insert(Outcome::Reset(code.code, code.subcode));
            }
            Event::Message(MessageKind::Update, body) => {
                let Some(table) = self.tables.get_mut(role) else { return };
                if let Err(error) = table.take(&body) {
                    self.unreadable.push(format!("UPDATE to {role:?}: {error}"));
                }
            }
            Event::Message(MessageKind::RouteRefresh, _) => {}
            Event::Closed => _ = session.ended.get_or_insert(Outcome::Close),
            Event::Garbage(error) => {
                self.unreadable.push(format!("to {role:?}: {error}"));
                session.ended.get_or_insert(Outcome::Close);
            }
        }
    }
}

/// Returns the OPEN of a role: both families, route refresh, and the AS numbers of its profile.
fn open(role: Role) -> Open {
    Open {
        asn: Asn(role.asn()),
        hold_time: 90,
        router_id: RouterId(role.address()),
        capabilities: Capabilities {
            multiprotocol: Some(Families::BOTH),
            route_refresh: true,
            four_octet_as: (role != Role::Ebgp2).then_some(Asn(role.asn())),
            ..Capabilities::default()
        },
    }
}
