//! Operations other than on routes, and what is noted of how any of them ended.

use std::time::{Duration, Instant};

use super::{Look, Reconciler};
use crate::{
    dataplane::Dataplane,
    diff::{Object, Op},
    netlink::{KernelError, socket::EPERM},
    node::Config,
};

/// Operations other than on routes that are carried out in one go.
const GO: usize = 1024;
/// An object that others change back this often within [`FIGHT_WINDOW`] is left alone for a while.
pub(super) const FIGHT_LIMIT: u32 = 20;
pub(super) const FIGHT_WINDOW: Duration = Duration::from_secs(10);
/// Objects that fights are watched for: who changes more at once does not fight for one of them.
const MAX_FIGHTS: usize = 4096;
/// `EBUSY`: what the ledger says of an object that is being fought over.
pub(super) const EBUSY: i32 = 16;

/// How far a plan got.
enum Outcome {
    /// To its end.
    Done,
    /// Some object was refused and is in the ledger now.
    Failed,
    /// The kernel has to be looked at first.
    Look,
}

impl<D: Dataplane> Reconciler<D> {
    /// Carries out operations other than on routes; always answers true: there may be more to do.
    pub(super) async fn carry_out(&mut self, config: &Config, ops: Vec<Op>) -> bool {
        match self.carry_out_in_order(config, &ops).await {
            Outcome::Done | Outcome::Look => {}
            // What hangs on the object must not be tried before it: everything is compared again.
            Outcome::Failed => self.fib.invalidate(),
        }
        self.exits_stale = true;
        true
    }

    async fn carry_out_in_order(&mut self, config: &Config, ops: &[Op]) -> Outcome {
        let (mut failed, mut relinked) = (false, false);
        for ops in ops.chunks(GO) {
            let results = self.dataplane.apply(config, ops).await;
            for (op, result) in ops.iter().zip(results) {
                relinked |= op.changes_links();
                match result {
                    Ok(()) => self.succeeded(op),
                    Err(error) if !self.fresh && error.errno != EPERM => {
                        tracing::debug!(?op, %error, "refused; observing anew");
                        self.must_look(Look::Whole);
                        return Outcome::Look;
                    }
                    Err(error) => {
                        failed = true;
                        self.failed(op.object(), &error);
                    }
                }
            }
        }
        if relinked {
            self.must_look(Look::Expected);
            return Outcome::Look;
        }
        if failed { Outcome::Failed } else { Outcome::Done }
    }

    fn succeeded(&mut self, op: &Op) {
        self.work.objects += 1;
        self.fib.done(op);
        let object = op.object();
        self.ledger.succeed(&object);
        self.permission_denied = false;
        if self.healing {
            self.note_fight(object);
        }
    }

    pub(super) fn note_fight(&mut self, object: Object) {
        if self.fights.len() >= MAX_FIGHTS && !self.fights.contains_key(&object) {
            return;
        }
        let now = Instant::now();
        let (count, since) = self.fights.entry(object).or_insert((0, now));
        if now.duration_since(*since) > FIGHT_WINDOW {
            (*count, *since) = (0, now);
        }
        *count += 1;
        if *count > FIGHT_LIMIT {
            let text = "another program keeps changing it back".to_owned();
            let name = crate::report::describe(&object);
            tracing::warn!(
                "{name}: {text}; it is left alone for a while (ip monitor shows what changes, not who)"
            );
            self.ledger.fail(object, EBUSY, text, now);
            if let Object::Route(key) = object {
                self.fib.mark_failed(&key);
            }
        }
    }

    pub(super) fn failed(&mut self, object: Object, error: &KernelError) {
        self.work.refused += 1;
        let news = self.ledger.fail(object, error.errno, error.to_string(), Instant::now());
        if error.errno == EPERM {
            if !self.permission_denied {
                tracing::error!("{}", crate::report::PERMISSION_DENIED);
            }
            self.permission_denied = true;
        } else if news {
            let name = crate::report::describe(&object);
            tracing::warn!(%error, "{name}: the kernel refuses; will be tried again");
        }
    }
}
