//! How many file descriptors there may be: each session takes one, and a second while it is opened.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What is open beside sessions: logs, the control socket and its connections, netlink, watched files.
const OTHERS: u64 = 128;

/// Takes as many descriptors as this process may have; most systems give 1,024 to begin with, for the sake of
/// programs that use `select`. Gives the number.
pub(crate) fn raise_limit() -> u64 {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::debug!(%error, "RLIMIT_NOFILE");
            return u64::MAX;
        }
    };
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, hard, "the number of file descriptors can't be raised");
        return soft;
    }
    hard
}

/// What to say where there are too few for so many sessions.
pub(crate) fn too_few(limit: u64, sessions: usize) -> Option<String> {
    let sessions = u64::try_from(sessions).unwrap_or(u64::MAX);
    let wanted = sessions.saturating_mul(2).saturating_add(OTHERS);
    (wanted > limit).then(|| {
        format!(
            "{sessions} sessions may take {wanted} file descriptors, and there are {limit}: raise the hard limit \
             (LimitNOFILE= of the systemd unit)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_may_take_two() {
        assert_eq!(too_few(1024, 448), None);
        assert_eq!(
            too_few(1024, 449).as_deref(),
            Some(
                "449 sessions may take 1026 file descriptors, and there are 1024: raise the hard limit (LimitNOFILE= of \
                 the systemd unit)"
            )
        );
    }

    #[test]
    fn all_that_may_be_had_is_taken() {
        let limit = raise_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limits");
        assert_eq!((soft, hard), (limit, limit));
    }
}
