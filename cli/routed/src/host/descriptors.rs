//! The limit of open file descriptors. Each session uses one descriptor, and a second one while it
//! is opened.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors for other purposes: logs, control socket and its connections, netlink, watched
/// files.
const RESERVED: u64 = 128;

/// Raises the soft limit to the hard limit and returns the limit. Most systems start with 1,024,
/// for programs that use `select`.
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

/// Returns the problem if the limit is too low for a number of sessions.
pub(crate) fn too_few(limit: u64, sessions: usize) -> Option<String> {
    let sessions = u64::try_from(sessions).unwrap_or(u64::MAX);
    let wanted = sessions.saturating_mul(2).saturating_add(RESERVED);
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
    fn each_session_needs_two_descriptors() {
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
    fn the_soft_limit_is_raised_to_the_hard_limit() {
        let limit = raise_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limits");
        assert_eq!((soft, hard), (limit, limit));
    }
}
