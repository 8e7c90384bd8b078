//! Judges the outcome of a message against the accepted ones.

use std::fmt;

use serde_json::Value;

use super::case::Case;
use super::observer::{ReceivedRoute, RouteState};

/// An accepted outcome of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptedOutcome {
    /// A NOTIFICATION with one of these codes and subcodes.
    Reset(Vec<(u8, u8)>),
    /// The connection is closed without a word.
    Close,
    /// The session stays, the route of before is gone.
    Withdraw,
    /// The session stays, the route is there, the attribute isn't.
    Discard,
    /// The message is taken.
    Accept,
    /// No change.
    Ignore,
}

impl AcceptedOutcome {
    /// From the corpus.
    pub(super) fn parse(value: &Value) -> Option<AcceptedOutcome> {
        let octet = |value: &Value| value.as_u64().and_then(|value| u8::try_from(value).ok());
        let pair = |pair: &Value| Some((octet(&pair[0])?, octet(&pair[1])?));
        Some(match value["action"].as_str()? {
            "reset" => AcceptedOutcome::Reset(
                value["notification"].as_array()?.iter().map(pair).collect::<Option<_>>()?,
            ),
            "close" => AcceptedOutcome::Close,
            "withdraw" => AcceptedOutcome::Withdraw,
            "discard" => AcceptedOutcome::Discard,
            "accept" => AcceptedOutcome::Accept,
            "ignore" => AcceptedOutcome::Ignore,
            _ => return None,
        })
    }

    /// Returns whether the session ends.
    pub(super) fn ends(&self) -> bool {
        matches!(self, AcceptedOutcome::Reset(_) | AcceptedOutcome::Close)
    }
}

/// The outcome of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A NOTIFICATION came.
    Reset(u8, u8),
    /// The connection was closed without one.
    Close,
    /// The session goes on; what each observer holds of the case's prefix.
    Up(Vec<RouteState>),
    /// The session neither ends nor carries routes any more.
    Silent,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Reset(code, subcode) => write!(f, "reset {code}/{subcode}"),
            Outcome::Close => f.write_str("closed without a NOTIFICATION"),
            Outcome::Silent => f.write_str("no end and no routes either"),
            Outcome::Up(passed) => {
                f.write_str("up")?;
                passed.iter().try_for_each(|passed| write!(f, ", {passed}"))
            }
        }
    }
}

/// Returns whether the outcome is one of the accepted ones.
pub(super) fn is_right(case: &Case, outcome: &Outcome) -> bool {
    case.wanted.iter().any(|wanted| is_met(case, wanted, outcome))
}

fn is_met(case: &Case, wanted: &AcceptedOutcome, outcome: &Outcome) -> bool {
    match (wanted, outcome) {
        (AcceptedOutcome::Reset(codes), Outcome::Reset(code, subcode)) => codes.contains(&(*code, *subcode)),
        (AcceptedOutcome::Close, Outcome::Close) => true,
        (AcceptedOutcome::Accept, Outcome::Up(passed)) => {
            let flags = |told: &ReceivedRoute| {
                case.passed_on_with.is_none_or(|wanted| {
                    told.attributes
                        .iter()
                        .any(|one| Some(one.code) == case.attribute && one.flags & 0xe0 == wanted)
                })
            };
            passed.iter().all(|passed| matches!(passed, RouteState::New(told) if flags(told)))
        }
        (AcceptedOutcome::Withdraw, Outcome::Up(passed)) => {
            passed.iter().all(|passed| *passed == RouteState::Gone)
        }
        (AcceptedOutcome::Discard, Outcome::Up(passed)) => {
            passed.iter().all(|passed| matches!(passed, RouteState::New(told) if is_left_out(case, told)))
        }
        (AcceptedOutcome::Ignore, Outcome::Up(passed)) => {
            passed.iter().all(|passed| *passed == RouteState::Before)
        }
        _ => false,
    }
}

/// No attribute of the case's type is passed on; one that was made on the way, as a reflector makes
/// ORIGINATOR_ID, has another value than the one that was sent.
fn is_left_out(case: &Case, told: &ReceivedRoute) -> bool {
    told.attributes.iter().filter(|one| Some(one.code) == case.attribute).all(|one| {
        let made_on_the_way = matches!(one.code, 5 | 9 | 10);
        made_on_the_way
            && (one.value.is_empty() || !case.octets.windows(one.value.len()).any(|part| part == one.value))
    })
}
